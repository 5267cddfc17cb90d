//! Frames by the million while everything happens that may: other policies, routes of BGP that come
//! and go, daemons that are killed. None is dropped or passed that should not be, and all counters
//! are exact, to the frame and to the byte.

use std::{
    fs,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, Sender, TryRecvError, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use kordon_tests::{
    bmp::{self, Speaker},
    controller::{Controller, Metrics},
    lab::{counters::Counters, programs::Arrivals},
    live::{Times, configure, prefix, setting},
    router::Router,
    soak::{Health, Objects, Told, Torrent, kinds},
};

use crate::{does_not_grow, log_lines, nothing_is_left, router, until};

/// Frames that show what is in force.
const BURST: usize = 512;
/// What was replaced is gone by then.
const SETTLES: Duration = Duration::from_secs(2);
/// What BGP says is on disk by then.
const SOON: Duration = Duration::from_secs(5);
/// Whose part of 192.0.2.0/24 it is by BGP.
const PART: &str = "192.0.2.128/25";
/// What RPKI lets have it, so that it need not wait.
const VRPS: &str = "ASN,IP Prefix,Max Length,Trust Anchor\nAS65540,192.0.2.0/24,25,x\n";

/// With or without rule `extra`.
fn policy(extra: bool) -> String {
    let rule = |name: &str, from: &str, to: &str, action: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nfrom = \"{from}\"\nto = \"{to}\"\naction = \"{action}\"\n"
        )
    };
    let mut text = "[zone.cameras]\nvlans = [20]\nsources = [\"10.20.0.0/16\"]\n\
                    [zone.office]\nvlans = [30]\nsources = [\"10.30.0.0/16\"]\n\
                    [set.hostile]\nasns = [64500]\n[set.extra]\nasns = [64501]\n"
        .to_owned();
    text += &rule("hostile", "cameras", "hostile", "drop");
    text += &rule("watch", "office", "hostile", "audit");
    if extra {
        text += &rule("extra", "cameras", "extra", "drop");
    }
    text
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Apply,
    Kill,
    Change,
}

/// What is asked of the torrent between two turns.
type Wish<'a> = Box<dyn FnOnce(&mut Torrent<'_>) + Send + 'a>;

/// Asks it, from another thread.
struct Asker<'a>(Sender<Wish<'a>>);

impl<'a> Asker<'a> {
    fn ask<T: Send + 'a>(
        &self,
        what: impl FnOnce(&mut Torrent<'_>) -> Result<T> + Send + 'a,
    ) -> Result<T> {
        let (answer, answered) = sync_channel(1);
        let wish = move |torrent: &mut Torrent<'_>| {
            // Whoever asked waits.
            let _ = answer.send(what(torrent));
        };
        let ended = "the torrent has ended";
        self.0.send(Box::new(wish)).ok().context(ended)?;
        answered.recv().context(ended)?
    }

    /// Frames of a kind, and what became of them.
    fn told(&self, kind: &'static str, frames: usize) -> Result<Told> {
        self.ask(move |torrent| torrent.ask(kind, frames))
    }
}

/// How far the torrent is, and how fast it may be.
#[derive(Default)]
struct Progress {
    taken: AtomicU64,
    /// Something happens, which needs a processor, too.
    is_busy: AtomicBool,
}

/// Sends until nobody asks any more.
fn flow(torrent: &mut Torrent<'_>, wishes: &Receiver<Wish<'_>>, progress: &Progress) -> Result<()> {
    loop {
        let (start, is_busy) = (Instant::now(), progress.is_busy.load(Ordering::Relaxed));
        match wishes.try_recv() {
            Ok(wish) => wish(torrent),
            Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) => torrent.flow(is_busy)?,
        }
        progress.taken.store(torrent.taken(), Ordering::Relaxed);
        if is_busy {
            thread::sleep(start.elapsed() * 3);
        }
    }
}

/// The daemon, and what it was told last.
struct Campaign<'a> {
    router: &'a Router,
    asker: Asker<'a>,
    begin: &'a Metrics,
    controller: Option<Controller>,
    speaker: Speaker,
    /// Whether the policy has rule `extra`.
    extra: bool,
    /// Whether BGP says that the part is AS64500's.
    blocked: bool,
    /// When it began to say so.
    changed: SystemTime,
    applies: Times,
    kills: Times,
    changes: Times,
}

impl<'a> Campaign<'a> {
    fn controller(&self) -> Result<&Controller> {
        self.controller.as_ref().context("no daemon runs")
    }

    /// A session in which the peer says what it said before.
    fn session(&mut self) -> Result<()> {
        self.speaker = Speaker::connect(&self.router.wire.namespace)?;
        self.speaker.send(&bmp::peer_up(1))?;
        self.announce()?;
        self.speaker.send(&bmp::ends(1))
    }

    fn announce(&mut self) -> Result<()> {
        let origin = if self.blocked { 64500 } else { 65540 };
        let route = bmp::announce(1, prefix(PART), &[64601, origin]);
        self.speaker.send(&route)
    }

    /// Frames of a kind meet what is in force, all of them.
    fn is_in_force(&self, kind: &'static str, drops: bool) -> Result<()> {
        let told = self.asker.told(kind, BURST)?;
        let expected = if drops { 0 } else { told.taken };
        ensure!(
            told.arrived == expected,
            "of {} frames of `{kind}` {} arrived, not {expected}",
            told.taken,
            told.arrived
        );
        Ok(())
    }

    fn all_in_force(&self) -> Result<()> {
        self.is_in_force("by policy", self.extra)?;
        self.is_in_force("by BGP", self.blocked)
    }

    fn apply(&mut self) -> Result<()> {
        self.extra = !self.extra;
        self.router.write("next.toml", policy(self.extra))?;
        let file = self.router.path("next.toml");
        let start = Instant::now();
        let arguments = ["apply", &file.to_string_lossy(), "--yes"];
        let said = self.controller()?.cli(&arguments)?;
        self.applies.0.push(start.elapsed());
        ensure!(said["changed"] == true, "{said}");
        self.all_in_force()
    }

    fn change(&mut self) -> Result<()> {
        self.blocked = !self.blocked;
        // Times of files are those of the last tick.
        self.changed = SystemTime::now() - Duration::from_millis(10);
        self.announce()?;
        let (asker, blocked) = (&self.asker, self.blocked);
        let took = until("BGP is followed", || {
            let told = asker.told("by BGP", 64)?;
            Ok(told.arrived == if blocked { 0 } else { told.taken })
        })?;
        self.changes.0.push(took);
        self.all_in_force()
    }

    /// What BGP said last is on disk.
    fn is_kept(&self) -> Result<()> {
        let kept = self.router.path("state").join("bgp.routes");
        let is_kept = || {
            let modified = fs::metadata(&kept).and_then(|file| file.modified());
            Ok(modified.is_ok_and(|modified| modified >= self.changed))
        };
        let took = until("what BGP says is kept", is_kept)?;
        ensure!(took < SOON, "kept after {took:?}");
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.is_kept()?;
        self.controller.take().context("it runs")?.kill()?;
        self.all_in_force().context("without a daemon")?;
        let (next, took) = Controller::start(&self.router.place())?;
        self.controller = Some(next);
        self.kills.0.push(took);
        self.all_in_force().context("of the next daemon")?;
        self.session()?;
        until("the next daemon hears BGP", || {
            let status = self.controller()?.cli(&["status"])?;
            Ok(status["bgp"]["peers"][0]["state"] == "up")
        })?;
        self.all_in_force().context("with BGP again")?;
        self.check()
    }

    /// All counters are exact at a moment in which nothing is sent.
    fn check(&self) -> Result<()> {
        let (router, begin) = (self.router, self.begin);
        self.asker.ask(move |torrent| {
            // A page that is made now.
            torrent.check(begin, || Metrics::scrape(&router.wire.namespace))
        })
    }

    fn enforces(&self) -> Result<()> {
        let status = self.controller()?.cli(&["status"])?;
        ensure!(status["enforcing"] == true, "{status}");
        Ok(())
    }
}

/// What is known of the daemons: after the first events, after each, and all their objects.
type Watched = (Option<([usize; 3], Health)>, Vec<Health>, Objects);

/// Lets all happen, each after so many frames as `pace` waits for.
fn happens(
    campaign: &mut Campaign<'_>,
    events: &[Event],
    pace: impl Fn(usize),
    progress: &Progress,
) -> Result<Watched> {
    let bpffs = campaign.router.place().bpffs;
    let (mut first, mut healths, mut objects) = (None, Vec::new(), Objects::default());
    // The next daemons find something, which the first did not.
    progress.is_busy.store(true, Ordering::Relaxed);
    campaign.kill().context("the first daemon")?;
    for (number, event) in events.iter().enumerate() {
        progress.is_busy.store(false, Ordering::Relaxed);
        pace(number);
        progress.is_busy.store(true, Ordering::Relaxed);
        match event {
            Event::Apply => campaign.apply(),
            Event::Kill => campaign.kill(),
            Event::Change => campaign.change(),
        }
        .with_context(|| format!("event {number}, {event:?}"))?;
        campaign.enforces()?;
        if number % 20 == 0 {
            campaign
                .check()
                .with_context(|| format!("event {number}, {event:?}"))?;
        }
        let pid = campaign.controller()?.pid();
        objects.remember(pid, bpffs)?;
        healths.push(Health::of(pid, bpffs)?);
        // What was adopted is not opened before something takes its place.
        if first.is_none() && number >= events.len() / 10 && *event == Event::Apply {
            // What a guard calls is loaded a while after the start.
            until("the guard judges", || {
                let status = campaign.controller()?.cli(&["status"])?;
                Ok(status["interfaces"][0]["guard_judges"] == true)
            })?;
            // The kernel frees what was replaced a while later.
            let mut last = None;
            until("nothing comes or goes", || {
                let mut before = Objects::default();
                before.remember(pid, bpffs)?;
                let now = (before.alive(), Health::of(pid, bpffs)?);
                thread::sleep(SETTLES);
                let counts = |(alive, health): &([usize; 3], Health)| (*alive, health.files);
                let is_settled = last.as_ref().map(counts) == Some(counts(&now));
                last = Some(now);
                Ok(is_settled)
            })?;
            first = last;
        }
    }
    progress.is_busy.store(true, Ordering::Relaxed);
    campaign.apply().context("in the end")?;
    objects.remember(campaign.controller()?.pid(), bpffs)?;
    progress.is_busy.store(false, Ordering::Relaxed);
    Ok((first, healths, objects))
}

#[test]
fn frames_by_the_million() -> Result<()> {
    let Some(router) = router("torrent")? else {
        return Ok(());
    };
    let packets = u64::from(setting("KORDON_SOAK_PACKETS", 1_000_000));
    let counts = [
        (Event::Apply, setting("KORDON_SOAK_APPLIES", 20)),
        (Event::Kill, setting("KORDON_SOAK_KILLS", 5)),
        (Event::Change, setting("KORDON_SOAK_CHANGES", 20)),
    ];
    let mut events: Vec<Event> = Vec::new();
    for (event, count) in counts {
        events.extend(std::iter::repeat_n(event, count as usize));
    }
    Rng::with_seed(setting("KORDON_SEED", 1).into()).shuffle(&mut events);

    let namespace = &router.wire.namespace;
    router.write("vrps.csv", VRPS)?;
    router.write("policy.toml", policy(false))?;
    configure(&router, "sources = [\"asn.csv\", \"vrps.csv\"]", "")?;
    let (controller, _) = Controller::start(&router.place())?;
    let mut arrivals = Arrivals::new()?;
    arrivals.watch(namespace, "in")?;
    let counters = Counters::open(namespace)?;
    let mut kinds = kinds(&router.wire)?;
    let begin = Metrics::scrape(namespace)?;
    let (wishes, inbox) = channel();
    let mut campaign = Campaign {
        router: &router,
        asker: Asker(wishes),
        begin: &begin,
        controller: Some(controller),
        speaker: Speaker::connect(namespace)?,
        extra: false,
        blocked: false,
        changed: SystemTime::UNIX_EPOCH,
        applies: Times::default(),
        kills: Times::default(),
        changes: Times::default(),
    };
    campaign.session()?;
    let progress = &Progress::default();
    let sender = &router.wire.sender;
    let (kinds, counters, arrivals) = (&mut kinds[..], &counters, &arrivals);
    let start = Instant::now();
    let outcome = thread::scope(|scope| {
        let flowing = scope.spawn(move || {
            namespace.run(move || {
                let mut torrent = Torrent::new(kinds, sender, counters, arrivals);
                flow(&mut torrent, &inbox, progress)?;
                Ok((torrent.taken(), torrent.lost(), torrent.summary()))
            })
        });
        let until_taken = |packets: u64| {
            while progress.taken.load(Ordering::Relaxed) < packets && !flowing.is_finished() {
                thread::sleep(Duration::from_millis(1));
            }
        };
        let pace = |number| until_taken(packets / events.len() as u64 * number as u64);
        let happened = happens(&mut campaign, &events, pace, progress);
        let checked = happened.and_then(|watched| {
            until_taken(packets);
            campaign.check().context("in the end")?;
            Ok(watched)
        });
        // Nobody asks any more.
        campaign.asker = Asker(channel().0);
        let flowed = flowing.join();
        let flowed = flowed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, anyhow::Error>((flowed, checked?))
    });
    println!("{}", log_lines(&router)?);
    let ((all, lost, summary), (first, healths, objects)) = outcome?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{all} frames in {seconds:.0} s ({:.2} million a second), {lost} more found no room in the \
         queue of the veth: {summary}",
        all as f64 / seconds / 1e6
    );
    for (what, times) in [
        ("applies", &mut campaign.applies),
        ("kills", &mut campaign.kills),
        ("changes of BGP", &mut campaign.changes),
    ] {
        if !times.0.is_empty() {
            let (median, worst) = (times.median(), times.worst());
            println!(
                "{} {what}: median {median:?}, worst {worst:?}",
                times.0.len()
            );
        }
    }
    campaign.enforces()?;
    does_not_grow(&healths)?;
    let (alive, begin) = first.context("nothing happened")?;
    nothing_is_left((alive, &begin), &objects, campaign.controller()?, &router)
}
