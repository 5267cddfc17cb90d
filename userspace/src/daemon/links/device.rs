//! One configured interface: its program is attached after the first rules are live, and again
//! whenever the device comes back; and it is watched whether the program is shown what the
//! interface receives.

use std::time::{Duration, Instant};

use kordon_ebpf::seen::KINDS;

use super::watch::{Blind, SPAN, Watch};
use crate::{
    config::{Interface, mode_word},
    datapath::{
        Attached, DatapathError,
        attach::Mode,
        guard::{Guarded, Hook},
        interface::{self, Kind as Made},
        kernel::Datapath,
    },
};

/// What is tried to attach a guard.
const HOOKS: [Hook; 2] = [Hook::Tcx, Hook::Clsact];

/// A configured interface and how it is doing.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) config: Interface,
    pub(crate) attached: Option<Attached>,
    /// The number of its interface.
    index: Option<u32>,
    /// How it was attached, and where, before it was not.
    before: Option<(Attached, u32)>,
    /// How its guard is attached; `None`: it is not, or not wanted.
    pub(crate) hook: Option<Hook>,
    /// Why it is not attached, or cannot see tags.
    pub(crate) problem: Option<String>,
    /// What is hidden from its program.
    pub(crate) blind: Option<String>,
    /// Why its guard polices it alone, and no program does; `None`: a program does.
    pub(crate) alone: Option<String>,
    /// How many looks ago it was tried to do without that.
    looks: u32,
    /// Why tags cannot be in the frames that its program is shown, although it is attached.
    hides: Option<String>,
    /// What is called before its guard, and may keep packets from it.
    pub(super) overtaken: Option<String>,
    /// Whether guards judge, or only count.
    pub(crate) judges: bool,
    /// Frames that the guard has dropped.
    pub(crate) stopped: u64,
    /// What its device is called now, where that is something else.
    pub(crate) renamed: Option<String>,
    pub(crate) watch: Watch,
    /// How often an offload had to be switched off.
    pub(crate) switched_off: u64,
    /// What its program had passed a little before a reading.
    pub(super) earlier: [u64; KINDS],
    /// How often its program was attached anew because it was not called.
    pub(super) renewed: u32,
    /// How many packets zones had at the last look.
    judged: Option<u64>,
    /// After a failure that was costly: when it is worth another one, and how long was waited.
    pause: Option<(Instant, Duration)>,
}

/// How many looks there are between attempts to attach a program where that failed.
const TRIED_AGAIN: u32 = 60;
/// The first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));

impl Device {
    pub(crate) fn new(config: Interface) -> Self {
        Self {
            config,
            attached: None,
            index: None,
            before: None,
            hook: None,
            problem: None,
            blind: None,
            alone: None,
            looks: 0,
            hides: None,
            overtaken: None,
            judges: false,
            stopped: 0,
            renamed: None,
            watch: Watch::default(),
            switched_off: 0,
            earlier: [0; KINDS],
            renewed: 0,
            judged: None,
            pause: None,
        }
    }

    /// Attaches program and guard unless they are; says so when something changed.
    pub(super) fn tend(&mut self, datapath: &mut Datapath, port: u32) {
        // What is gone now is another failure, or none.
        let is_lost = self.attached.is_some() && datapath.attached(&self.config.device).is_none();
        if !is_lost && self.pause.is_some_and(|(until, _)| Instant::now() < until) {
            return;
        }
        let problem = self.try_to_tend(datapath, port).err();
        let costly = problem.as_ref().is_some_and(DatapathError::is_costly);
        self.pause = costly.then(|| {
            let (first, longest) = PAUSES;
            let pause = self.pause.map_or(first, |(_, last)| longest.min(last * 2));
            (Instant::now() + pause, pause)
        });
        let problem = problem.map(|e| e.to_string());
        // Said once, not once a second.
        if problem != self.problem {
            match &problem {
                Some(problem) => tracing::error!("{problem}"),
                None => tracing::info!("`{}` is in order again", self.config.device),
            }
        }
        self.problem = problem;
    }

    fn try_to_tend(&mut self, datapath: &mut Datapath, port: u32) -> Result<(), DatapathError> {
        let Interface {
            device,
            name,
            mode,
            manage_offload,
            ..
        } = &self.config.clone();
        let now = datapath.attached(device);
        if now.is_none()
            && let Some(found) = datapath.find(device)?
            && let Some(why) = self.only_tc(datapath, &found)
        {
            return self.tend_alone(datapath, port, &found, why);
        }
        let how = match now {
            Some(how) => how,
            None => {
                let found = datapath.find(device)?.map(|found| found.index);
                if let Some(how) = self.attached.take() {
                    // That it went away is what comes of attaching.
                    if found.is_some() {
                        tracing::warn!("somebody took the program off `{device}`");
                    }
                    self.before = self.index.map(|index| (how, index));
                }
                // Where another interface has the name, its counters are another's, too.
                let before = self.before.filter(|(_, index)| found == Some(*index));
                let before = before.map(|(how, _)| how);
                // The guard goes on counting what goes past meanwhile.
                self.count_missed(datapath, before);
                self.blind = None;
                self.hook = None;
                let how = match datapath.attach(device, port, *mode, *manage_offload) {
                    Ok(how) => how,
                    Err(e) => {
                        return match self.may_be_alone(datapath)? {
                            Some(found) => self.tend_alone(datapath, port, &found, e.to_string()),
                            None => Err(e),
                        };
                    }
                };
                self.alone = None;
                tracing::info!("attached to `{device}` in {} mode", how.as_str());
                self.count_missed(datapath, before.filter(|before| *before == how));
                self.before = None;
                self.watch.reset();
                how
            }
        };
        self.attached = Some(how);
        let Some(found) = datapath.find(device)? else {
            // The next look finds it gone.
            return Ok(());
        };
        self.index = Some(found.index);
        self.note_name(&found)?;
        let hides = match datapath.examine(&found, how, *manage_offload) {
            Ok(switched_off) => {
                self.switched_off += u64::from(switched_off);
                None
            }
            Err(e) => Some(e.to_string()),
        };
        // Said once, not once a second.
        if hides != self.hides {
            match &hides {
                Some(hides) => tracing::error!("{hides}"),
                None => tracing::info!("tags can be in the frames on `{device}` again"),
            }
        }
        self.hides = hides;
        if let (Attached::Generic, Mode::Auto, Some(why)) = (how, mode, &self.hides)
            && self.config.guard
        {
            // Behind generic XDP the guard does not judge; alone it does.
            let why = why.clone();
            datapath.release(device)?;
            let Some(found) = datapath.find(device)? else {
                return Ok(());
            };
            return self.tend_alone(datapath, port, &found, why);
        }
        if self.config.guard {
            let who = Guarded {
                name,
                port,
                behind: Some(how),
            };
            let hook = datapath.guard(device, &found, who, &HOOKS);
            self.hook = hook.as_ref().ok().copied();
            self.judges = datapath.guards_judge(who.behind);
            hook?;
            self.note_overtaken(datapath, &found);
        } else {
            datapath.unguard(device)?;
        }
        mode.check(device, how)
    }

    /// Notes what its interface is called now.
    fn note_name(&mut self, found: &interface::Interface) -> Result<(), DatapathError> {
        let device = &self.config.device;
        // One that is found by its name has it, be it an alternative one.
        let by_name = interface::query(device)?;
        let renamed = by_name
            .is_none_or(|by_name| by_name.index != found.index)
            .then(|| found.name.clone());
        if let Some(renamed) = &renamed
            && self.renamed.as_ref() != Some(renamed)
        {
            tracing::warn!("`{device}` is called `{renamed}` now");
        }
        self.renamed = renamed;
        Ok(())
    }

    /// Why no program in XDP is of use on an interface, as far as that is known beforehand.
    fn only_tc(&mut self, datapath: &Datapath, found: &interface::Interface) -> Option<String> {
        // What is attached stays, as long as it is there.
        if !self.config.guard || datapath.linked(&self.config.device).is_some() {
            return None;
        }
        match self.config.mode {
            Mode::Tc => Some("it is configured so".to_owned()),
            Mode::Auto => {
                // What was found out by trying is tried again only now and then.
                self.looks = (self.looks + 1) % TRIED_AGAIN;
                let waits = self.looks != 0 && is_joined(found);
                let why = datapath.hides_tags(found, self.config.manage_offload);
                why.or_else(|| self.alone.clone().filter(|_| waits))
            }
            Mode::Native | Mode::Generic => None,
        }
    }

    /// The interface, if its guard may police it although a program cannot be attached: because
    /// tags are hidden from it, not because somebody else's is there.
    fn may_be_alone(
        &self,
        datapath: &Datapath,
    ) -> Result<Option<interface::Interface>, DatapathError> {
        let found = datapath.find(&self.config.device)?;
        let may = self.config.guard && self.config.mode == Mode::Auto;
        Ok(found.filter(|found| may && is_joined(found) && found.xdp.is_none()))
    }

    /// Has the guard alone police it.
    fn tend_alone(
        &mut self,
        datapath: &mut Datapath,
        port: u32,
        found: &interface::Interface,
        why: String,
    ) -> Result<(), DatapathError> {
        let who = Guarded {
            name: &self.config.name,
            port,
            behind: None,
        };
        if let Some((Attached::Generic, id)) = found.xdp {
            return Err(DatapathError::new(
                format!("police `{}` in tc", self.config.device),
                format!(
                    "an XDP program (id {id}) is there in generic mode, behind which some kernels show \
                     tc no whole frames; whoever put it there takes it off"
                ),
            ));
        }
        self.attached = None;
        let hook = datapath.guard(&self.config.device, found, who, &HOOKS);
        self.hook = hook.as_ref().ok().copied();
        self.judges = datapath.guards_judge(who.behind);
        hook?;
        self.note_overtaken(datapath, found);
        self.note_name(found)?;
        if self.alone.as_ref() != Some(&why) {
            tracing::info!("`{}` is policed in tc alone: {why}", self.config.device);
        }
        (self.alone, self.hides, self.blind) = (Some(why), None, None);
        self.index = Some(found.index);
        Ok(())
    }

    /// The number of its interface, as far as it was ever there.
    pub(super) fn index(&self) -> Option<u32> {
        self.index
    }

    /// Whether its guard alone polices it.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone.is_some() && self.problem.is_none() && self.hook.is_some() && self.judges
    }

    /// Counts what went past while nobody needs to be told: the program is off, or just came
    /// back in the mode that it had. `None`: nobody knows.
    fn count_missed(&mut self, datapath: &Datapath, how: Option<Attached>) {
        let Some(how) = how.filter(|_| self.config.guard) else {
            return;
        };
        match datapath.seen(&self.config.name, how) {
            Ok(Some(seen)) => self.watch.look(&self.earlier, &seen),
            Ok(None) => {}
            Err(e) => tracing::debug!("{e}"),
        }
    }

    /// Whether the next cure is one with a gap.
    pub(super) fn may_be_detached(&self) -> bool {
        self.renewed == 1 && self.blind.is_some()
    }

    /// The mode that its program is attached in; else the one that is asked for.
    pub(crate) fn mode(&self, attached: Option<Attached>) -> &'static str {
        if self.is_alone() {
            return mode_word(Mode::Tc);
        }
        attached.map_or(mode_word(self.config.mode), Attached::as_str)
    }

    /// Whether the program there is shown what arrives, as far as is known.
    pub(crate) fn sees(&self) -> bool {
        self.problem.is_none() && self.unseen().is_none()
    }

    /// What the program does not see, by what its device is set to do, or by the frames that came.
    fn unseen(&self) -> Option<&str> {
        self.hides.as_deref().or(self.blind.as_deref())
    }

    /// What is hidden from the program, where the guard judges it instead.
    pub(crate) fn stood_in_for(&self) -> Option<&str> {
        let is_called = self.hook.is_some() && self.overtaken.is_none();
        let judges = self.problem.is_none() && is_called && self.judges;
        self.unseen().filter(|_| judges)
    }

    /// What is hidden from the program, and judged by nobody; or from the guard that polices alone.
    pub(crate) fn lets_pass(&self) -> Option<&str> {
        let unseen = self.unseen().filter(|_| self.stood_in_for().is_none());
        let overtaken = self.overtaken.as_deref();
        unseen.or(overtaken.filter(|_| self.alone.is_some()))
    }

    /// What may keep packets from a guard behind a program, which then notices less.
    pub(super) fn may_miss(&self) -> Option<&str> {
        let overtaken = self.overtaken.as_deref();
        overtaken.filter(|_| self.alone.is_none() && self.hook.is_some())
    }

    /// Compares what the program has passed with what the guard has seen. `judged`: how many
    /// packets zones had, where that matters.
    pub(super) fn look(&mut self, datapath: &mut Datapath, port: u32, judged: Option<u64>) {
        let judges_none = judged.is_some() && judged == self.judged;
        self.judged = judged;
        let name = &self.config.name;
        let (Some(how), Some(_)) = (self.attached, self.hook) else {
            return;
        };
        self.judges = datapath.guards_judge(Some(how));
        self.stopped = datapath.stopped(name).unwrap_or(self.stopped);
        let seen = match datapath.seen(name, how) {
            Ok(Some(seen)) => seen,
            Ok(None) => return,
            Err(e) => {
                let blind = Some(format!(
                    "whether all is shown to the program on `{}` is not known: {e}",
                    self.config.device
                ));
                if blind != self.blind
                    && let Some(blind) = &blind
                {
                    tracing::error!("{blind}");
                }
                self.blind = blind;
                return;
            }
        };
        let lost = self.watch.loses();
        self.watch.look(&self.earlier, &seen);
        if let (None, Some(frames)) = (lost, self.watch.loses()) {
            let device = self.renamed.as_ref().unwrap_or(&self.config.device);
            tracing::warn!("{}", loss(device, frames));
        }
        let found = self.watch.found();
        // It has been said, and is still so: loading a program takes a while.
        if found == Some(Blind::Uncalled) && self.watch.still && self.blind.is_some() {
            self.renew(datapath, port, judges_none);
        }
        let blind = found.map(|blind| self.words(datapath, blind));
        if blind != self.blind {
            match &blind {
                Some(blind) => tracing::error!("{blind}"),
                None => tracing::info!(
                    "the program on `{}` is shown all that arrives again",
                    self.config.device
                ),
            }
        }
        if blind.is_none() {
            self.renewed = 0;
        }
        self.blind = blind;
    }

    /// Some drivers forget their program when an interface goes down and up: giving it to
    /// them again cures that, in place; if not, and while there is nothing to lose, by a new
    /// link. `judges_none`: no packet of a zone came meanwhile, not even one to drop.
    fn renew(&mut self, datapath: &mut Datapath, port: u32, judges_none: bool) {
        let Interface {
            device,
            mode,
            manage_offload,
            ..
        } = &self.config;
        let link = match self.renewed {
            0 => false,
            1 if self.watch.stands_still && judges_none => true,
            _ => return,
        };
        self.renewed += 1;
        tracing::warn!(
            "the program on `{device}` is not called for what arrives there: attaching it anew"
        );
        match datapath.renew(device, port, *mode, *manage_offload, link) {
            Ok(how) => {
                let before = self.attached.filter(|before| *before == how);
                self.count_missed(datapath, before);
            }
            Err(e) => tracing::error!("{e}"),
        }
        // What went past it meanwhile says nothing about the cure.
        self.watch.begin();
    }
}

/// Whether it is made of ports, of which it takes all frames.
fn is_joined(found: &interface::Interface) -> bool {
    matches!(found.kind, Made::Bond | Made::Team)
}

/// Frames that are lost behind the program.
pub(super) fn loss(device: &str, frames: u64) -> String {
    format!(
        "frames that the program on `{device}` lets through do not reach the stack ({frames} in \
         the last {SPAN} seconds): as many that got past it would not be noticed; look for what takes \
         them away in between (`ip -s link show {device}`, `/proc/net/softnet_stat`, the other \
         ports of a bond)"
    )
}
