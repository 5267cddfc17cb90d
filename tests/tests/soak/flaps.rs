//! A link that goes down, changes and vanishes, with a camera that sends all the time: what `status`
//! claims is held to what arrives behind it.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics},
    lab::{Namespace, counters::Counters, programs::Arrivals},
    live::{Times, setting},
    router::Router,
    soak::{Camera, Health, Objects},
};

use crate::{PATIENCE, does_not_grow, log_lines, nothing_is_left, router, until};

/// Where the camera sends all the time, of AS64500, which the policy drops.
const MEANWHILE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// AS64501, which cameras may reach.
const GOOD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// After a flap it enforces again by then, however busy the machine; half of the times not only with
/// the next second's look at interfaces.
const SOON: Duration = Duration::from_secs(5);
const AT_ONCE: Duration = Duration::from_millis(700);
/// Pairs of frames in a burst: they find room in the queue of a veth, whoever else sends.
const BURST: usize = 24;

/// What happens to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Flap {
    /// The policed interface goes down and up.
    Down,
    /// Its peer does.
    PeerDown,
    /// Another name, and back.
    Rename,
    /// The peer leaves tags beside frames, where the program does not see them, or no more.
    Tags,
    /// Aggregation and offloads of both ends.
    Offloads,
    /// It is deleted, and there is another one of its name.
    Anew,
}

const FLAPS: [Flap; 6] = [
    Flap::Down,
    Flap::Rename,
    Flap::Tags,
    Flap::Anew,
    Flap::PeerDown,
    Flap::Offloads,
];

/// The link of a campaign, and what arrives behind it.
struct Link<'a> {
    router: &'a Router,
    controller: &'a Controller,
    camera: &'a Camera<'a>,
    arrivals: Arrivals,
    counters: Counters,
    hidden: bool,
    offloads: bool,
    /// Where the last burst went.
    last: u8,
    /// Frames that arrived while `status` said that they would not, by what had happened.
    leaks: Vec<String>,
}

impl<'a> Link<'a> {
    fn namespace(&self) -> &'a Namespace {
        &self.router.wire.namespace
    }

    fn ethtool(&self, device: &str, settings: &str) -> Result<()> {
        let mut command = Command::new("ethtool");
        command.args(["-K", device]).args(settings.split(' '));
        self.namespace().output(&mut command).map(drop)
    }

    fn tags(&self) -> Result<()> {
        let word = if self.hidden { "on" } else { "off" };
        self.ethtool(
            "out",
            &format!("txvlan {word} tx-vlan-stag-hw-insert {word}"),
        )
    }

    /// Does it, and claims are held to what arrives in between.
    fn flap(&mut self, flap: Flap) -> Result<()> {
        let namespace = self.namespace();
        match flap {
            Flap::Down | Flap::PeerDown => {
                let device = if flap == Flap::Down { "in" } else { "out" };
                namespace.ip(&format!("link set {device} down\nlink set {device} up"))?;
            }
            Flap::Rename => {
                namespace.ip("link set in name lan")?;
                self.claims(flap)?;
                namespace.ip("link set lan name in")?;
            }
            Flap::Tags => {
                self.hidden = !self.hidden;
                self.tags()?;
            }
            Flap::Offloads => {
                self.offloads = !self.offloads;
                let word = if self.offloads { "on" } else { "off" };
                self.ethtool("in", &format!("gro {word} rxvlan {word} tso {word}"))?;
                self.ethtool("out", &format!("tso {word} sg {word}"))?;
            }
            Flap::Anew => {
                namespace.ip("link del in\nlink add in type veth peer name out\n\
                              link set in up\nlink set out up")?;
                self.arrivals.watch(namespace, "in")?;
                self.tags()?;
                self.camera.reopen()?;
            }
        }
        Ok(())
    }

    /// Whether all is enforced on the interface, as it says.
    fn claims_to_enforce(&self) -> Result<bool> {
        let status = self.controller.cli(&["status"])?;
        Ok(status["enforcing"] == true && status["interfaces"][0]["enforcing"] == true)
    }

    fn arrived(&self, to: Ipv4Addr) -> Result<u64> {
        Ok(self.arrivals.settled(to.into())?.packets)
    }

    /// Sends a burst to a blocked address that nobody else sends to; says whether `status` claimed
    /// before and after that none of it would arrive.
    fn claims(&mut self, flap: Flap) -> Result<bool> {
        self.last = self.last % 100 + 100;
        let to = Ipv4Addr::new(198, 51, 100, self.last);
        let arrived = self.arrived(to)?;
        let before = self.claims_to_enforce()?;
        let sent = self.camera.send(to, BURST);
        let after = self.claims_to_enforce()?;
        let leaked = self.arrived(to)? - arrived;
        if before && after && leaked > 0 {
            self.leaks
                .push(format!("{leaked} of {sent:?} after {flap:?}"));
        }
        Ok(before && after)
    }

    /// All is as it should be: what is blocked is dropped, everything else arrives, and the
    /// counters say so.
    fn is_right(&self) -> Result<()> {
        let still = self.camera.still();
        let end = Instant::now() + PATIENCE;
        // The device at the camera's end begins to send some time after its link is up.
        loop {
            let before = self.arrived(GOOD)?;
            let sent = still.send(GOOD, 1);
            if sent.all() == 2 && self.arrived(GOOD)? == before + 2 {
                break;
            }
            ensure!(Instant::now() < end, "nothing passes: {sent:?}");
        }
        let blocked = Ipv4Addr::new(198, 51, 100, 8);
        let counts = || -> Result<[u64; 6]> {
            let metrics = Metrics::scrape(self.namespace())?;
            let of = |action| metrics.sum("kordon_packets_total", &[("action", action)]);
            Ok([
                self.counters.of("in")?.packets,
                of("drop"),
                of("pass"),
                metrics.sum("kordon_interface_unpoliced_packets_total", &[]),
                self.arrived(GOOD)?,
                self.arrived(blocked)?,
            ])
        };
        let before = counts()?;
        let (bad, good) = (still.send(blocked, BURST), still.send(GOOD, BURST));
        let after = counts()?;
        let each = 2 * BURST as u64;
        ensure!((bad.all(), good.all()) == (each, each), "{bad:?} {good:?}");
        let more: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        // A frame whose tag is hidden is of no zone to the program; of these the guard counts what
        // it drops.
        let (policed, unpoliced) = match self.hidden {
            true => (each / 2, each),
            false => (each, 0),
        };
        ensure!(
            more == [2 * each, each, policed, unpoliced, each, 0],
            "of {each} blocked and {each} other frames the interface received, kordon dropped, passed, \
             and passed as of no zone, and of these arrived {more:?}"
        );
        Ok(())
    }
}

#[test]
fn a_link_that_flaps() -> Result<()> {
    let Some(router) = router("flaps")? else {
        return Ok(());
    };
    let flaps = setting("KORDON_SOAK_FLAPS", 24) as usize;
    let namespace = &router.wire.namespace;
    let (controller, _) = Controller::start(&router.place())?;
    let mut arrivals = Arrivals::new()?;
    arrivals.watch(namespace, "in")?;
    let camera = Camera::new(namespace)?;
    let mut link = Link {
        router: &router,
        controller: &controller,
        camera: &camera,
        arrivals,
        counters: Counters::open(namespace)?,
        hidden: false,
        offloads: false,
        last: 0,
        leaks: Vec::new(),
    };
    until("the guard judges", || {
        Ok(controller.cli(&["status"])?["interfaces"][0]["guard_judges"] == true)
    })?;
    link.is_right()?;
    let pid = controller.pid();
    let health = || Health::of(pid, router.place().bpffs);
    let mut objects = Objects::default();
    objects.remember(pid, router.place().bpffs)?;
    let begin = (objects.alive(), health()?);
    let mut healths = Vec::new();
    let mut times: BTreeMap<Flap, Times> = BTreeMap::new();
    let mut unattached = 0;
    let (outcome, sent) = camera.meanwhile(|| -> Result<()> {
        for number in 0..flaps {
            let flap = FLAPS[number % FLAPS.len()];
            let what = format!("flap {number}, {flap:?}, hidden tags: {}", link.hidden);
            let before = link.arrived(MEANWHILE)?;
            link.flap(flap).with_context(|| what.clone())?;
            let start = Instant::now();
            while !link.claims(flap)? {
                ensure!(start.elapsed() < PATIENCE, "not enforcing: {what}");
            }
            times.entry(flap).or_default().0.push(start.elapsed());
            let leaked = link.arrived(MEANWHILE)? - before;
            match flap {
                // Nothing was attached to the new one at first.
                Flap::Anew => unattached += leaked,
                _ if leaked > 0 => link.leaks.push(format!("{leaked} meanwhile: {what}")),
                _ => {}
            }
            link.is_right().with_context(|| what.clone())?;
            objects.remember(pid, router.place().bpffs)?;
            // What each kind of change needs is not growth.
            if number >= FLAPS.len() {
                healths.push(health()?);
            }
        }
        Ok(())
    });
    println!(
        "{flaps} flaps under {sent:?}; {unattached} arrived while `status` said that a new interface \
         was not policed yet"
    );
    for (flap, mut times) in times {
        println!(
            "{flap:?}: enforcing after {:?}, at most {:?}",
            times.median(),
            times.worst()
        );
        ensure!(
            times.median() <= AT_ONCE && times.worst() <= SOON,
            "that is too late"
        );
    }
    println!("{}", log_lines(&router)?);
    ensure!(link.leaks.is_empty(), "{:#?}", link.leaks);
    outcome?;
    if link.hidden {
        link.flap(Flap::Tags)?;
    }
    does_not_grow(&healths)?;
    nothing_is_left((begin.0, &begin.1), &objects, &controller, &router)
}
