//! Programs on interfaces: attached after the first rules are live, and again whenever a
//! device comes back; and whether they are shown what their interfaces receive.

use std::time::{Duration, Instant};

use kordon_ebpf::seen::{KINDS, Kind};

use super::{
    core::Core,
    watch::{Blind, SPAN, Watch},
};
use crate::{
    config::Interface,
    datapath::{
        Attached, DatapathError,
        attach::left,
        guard::Hook,
        interface::{self, Kind as Made},
        kernel::Datapath,
    },
};

/// What is tried to attach a guard.
const HOOKS: [Hook; 2] = [Hook::Tcx, Hook::Clsact];

/// A configured interface and how it is doing.
pub(super) struct Device {
    pub(super) config: Interface,
    pub(super) attached: Option<Attached>,
    /// The number of its interface.
    index: Option<u32>,
    /// How it was attached, and where, before it was not.
    before: Option<(Attached, u32)>,
    /// How its guard is attached; `None`: it is not, or not wanted.
    pub(super) hook: Option<Hook>,
    /// Why it is not attached, or cannot see tags.
    pub(super) problem: Option<String>,
    /// What is hidden from its program.
    pub(super) blind: Option<String>,
    /// What its device is called now, where that is something else.
    pub(super) renamed: Option<String>,
    pub(super) watch: Watch,
    /// How often an offload had to be switched off.
    pub(super) switched_off: u64,
    /// What its program had passed a little before a reading.
    earlier: [u64; KINDS],
    /// How often its program was attached anew because it was not called.
    renewed: u32,
    /// How many packets zones had at the last look.
    judged: Option<u64>,
    /// After a failure that was costly: when it is worth another one, and how long was waited.
    pause: Option<(Instant, Duration)>,
}

/// The first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));

impl Device {
    pub(super) fn new(config: Interface) -> Self {
        Self {
            config,
            attached: None,
            index: None,
            before: None,
            hook: None,
            problem: None,
            blind: None,
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
    fn tend(&mut self, datapath: &mut Datapath, port: u32) {
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
        let how = match now {
            Some(how) => how,
            None => {
                let found = datapath.find(device)?.map(|found| found.index);
                if let Some(how) = self.attached.take() {
                    match found {
                        Some(_) => tracing::warn!("somebody took the program off `{device}`"),
                        None => tracing::warn!("`{device}` went away"),
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
                let how = datapath.attach(device, port, *mode, *manage_offload)?;
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
        if datapath.examine(&found, how, *manage_offload)? {
            self.switched_off += 1;
        }
        if self.config.guard {
            let hook = datapath.guard(device, &found, name, &HOOKS);
            self.hook = hook.as_ref().ok().copied();
            hook?;
        } else {
            datapath.unguard(device)?;
        }
        mode.check(device, how)
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
    fn may_be_detached(&self) -> bool {
        self.renewed == 1 && self.blind.is_some()
    }

    /// Compares what the program has passed with what the guard has seen. `judged`: how many
    /// packets zones had, where that matters.
    fn look(&mut self, datapath: &mut Datapath, port: u32, judged: Option<u64>) {
        let judges_none = judged.is_some() && judged == self.judged;
        self.judged = judged;
        let name = &self.config.name;
        let (Some(how), Some(_)) = (self.attached, self.hook) else {
            return;
        };
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

    /// What is hidden, why, and what helps.
    fn words(&self, datapath: &Datapath, blind: Blind) -> String {
        let device = self.renamed.as_ref().unwrap_or(&self.config.device);
        let kind = match blind {
            Blind::Uncalled => {
                let what = format!(
                    "frames get past the program on `{device}`, which is not called for them"
                );
                return if self.renewed == 0 {
                    format!("{what}; it is attached anew")
                } else {
                    format!(
                        "{what}, and attaching it anew did not help: `ip link set dev {device} \
                         down`, then `up`, or `mode = \"generic\"` for it may; `tc filter show` on \
                         other interfaces shows what redirects frames into it"
                    )
                };
            }
            Blind::Hidden(kind) => kind,
        };
        let tags = match kind {
            Kind::Stacked => "the outer of several VLAN tags".to_owned(),
            kind => format!("VLAN tags ({})", kind.as_str()),
        };
        let found = datapath.find(&self.config.device).ok().flatten();
        let cure = match found {
            Some(found) if found.kind == Made::Veth => {
                let peer = found
                    .below
                    .and_then(|index| interface::query_index(index).ok()?);
                let (peer, place) = match &peer {
                    Some(peer) => (peer.name.as_str(), ""),
                    None => ("DEVICE", ", DEVICE being its name, in its namespace"),
                };
                format!(
                    "the other end of this veth keeps them beside the frame; run \
                     `ethtool -K {peer} txvlan off tx-vlan-stag-hw-insert off` there{place}"
                )
            }
            _ => format!(
                "the driver keeps them beside the frame; run \
                 `ethtool -K {device} rxvlan off rx-vlan-stag-hw-parse off`, or police another \
                 interface"
            ),
        };
        format!("{tags} are hidden from the program on `{device}`: {cure}")
    }
}

/// Frames that are lost behind the program.
fn loss(device: &str, frames: u64) -> String {
    format!(
        "frames that the program on `{device}` lets through do not reach the stack ({frames} in \
         the last {SPAN} seconds): as many that got past it would not be noticed; look for what takes \
         them away in between (`ip -s link show {device}`, `/proc/net/softnet_stat`, the other \
         ports of a bond)"
    )
}

impl Core {
    /// Attaches what is configured and not attached.
    pub(super) fn tend_interfaces(&mut self) {
        // Without rules the program would drop what it knows nothing about.
        if self.detached || self.datapath.live().is_none() {
            return;
        }
        self.keep_pins();
        let names: Vec<String> = self
            .devices
            .iter()
            .map(|d| d.config.device.clone())
            .collect();
        let ports = match &self.live {
            Some(live) => live.ports.clone(),
            // What is in the kernel goes on although it is not known here.
            None => self.datapath.ports(&names).unwrap_or_default(),
        };
        let is_off = |name: &String| self.datapath.attached(name).is_none();
        if names.iter().any(is_off) {
            // One may have got the name of another.
            for (name, port) in names.iter().zip(&ports) {
                if let Err(e) = self.datapath.rename(name, Some(*port)) {
                    tracing::debug!("{e}");
                }
            }
        }
        for (device, port) in self.devices.iter_mut().zip(ports) {
            device.tend(&mut self.datapath, port);
        }
    }

    /// Makes pins again that somebody removed: until then the next controller would find less
    /// than is live.
    fn keep_pins(&mut self) {
        let unpinned = match self.datapath.pin_again() {
            Ok(made) => {
                let made: Vec<String> = made.iter().map(|pin| pin.display().to_string()).collect();
                if !made.is_empty() {
                    tracing::warn!(
                        "pins of what is live were gone and are made again, nothing else changed: {}",
                        made.join(", ")
                    );
                }
                None
            }
            Err(e) => Some(e.to_string()),
        };
        if let Some(why) = &unpinned
            && self.unpinned != unpinned
        {
            tracing::error!("what is live ends with this process: {why}");
        }
        self.unpinned = unpinned;
    }

    /// A device did not follow to the maps of another tier.
    pub(super) fn note_behind(&mut self, device: &str, why: &str) {
        let found = self.devices.iter_mut().find(|d| d.config.device == device);
        if let Some(found) = found {
            found.attached = None;
            found.problem = Some(format!(
                "`{device}` is still judged by the rules before: {why}"
            ));
        }
    }

    /// [`SETTLING`](super::watch::SETTLING) before [`Self::watch`].
    pub(super) fn look_ahead(&mut self) {
        for device in &mut self.devices {
            match self.datapath.passed_on(&device.config.name) {
                Ok(passed) => device.earlier = passed,
                Err(e) => tracing::debug!("{e}"),
            }
        }
    }

    /// Looks whether programs see what their interfaces receive, and zones have packets.
    pub(super) fn watch(&mut self) {
        let Some(live) = self.live.as_ref().filter(|_| !self.detached) else {
            return;
        };
        // Any zone's: less would be enough, but this is sure.
        let judged = if self.devices.iter().any(Device::may_be_detached) {
            self.view().packets().ok().map(|zones| zones.values().sum())
        } else {
            None
        };
        for (device, port) in self.devices.iter_mut().zip(&live.ports) {
            device.look(&mut self.datapath, *port, judged);
        }
        let now = Instant::now();
        if let Some(after) = self.config.silent_after
            && self.silence.is_due(after, now)
        {
            match self.view().packets() {
                Ok(packets) => self.silence.note(packets, now),
                Err(e) => tracing::error!("{e}"),
            }
        }
    }

    /// What somebody should look at, although all is enforced.
    pub(super) fn notices(&self) -> Vec<String> {
        let renamed = self.devices.iter().filter_map(|device| {
            let now = device.renamed.as_ref()?;
            let name = &device.config.device;
            Some(format!(
                "`{name}` is called `{now}` now and is policed as before; the next boot looks for \
                 `{name}`: change `device` in kordon.toml, or the name back"
            ))
        });
        let left = self.devices.iter().flat_map(|device| {
            let name = &device.config.device;
            let interfaces = self.datapath.left(name);
            interfaces.map(|interface| left(name, &interface.name))
        });
        let silent = self.silent_zones().into_iter().filter_map(|(zone, silent)| {
            let minutes = silent?.as_secs() / 60;
            Some(format!(
                "zone `{zone}` had packets, and has had none for {minutes} minutes: its devices \
                 are off, or what they send comes in where kordon does not look"
            ))
        });
        let loses = self.devices.iter().filter_map(|device| {
            let name = device.renamed.as_ref().unwrap_or(&device.config.device);
            Some(loss(name, device.watch.loses()?))
        });
        let unpinned = self.unpinned.iter().map(|why| {
            format!(
                "what is enforced now ends with the daemon, and is pinned as soon as possible: {why}"
            )
        });
        let notices = renamed.chain(left).chain(silent).chain(loses);
        let refused = self.reload_refused.clone();
        notices.chain(refused).chain(unpinned).collect()
    }

    /// Zones, and for how long those that are silent have been.
    pub(super) fn silent_zones(&self) -> Vec<(String, Option<Duration>)> {
        let after = self.config.silent_after.into_iter();
        after
            .flat_map(|after| self.silence.zones(after, Instant::now()))
            .map(|(zone, silent)| (zone.to_owned(), silent))
            .collect()
    }

    /// Takes the program off devices that are no longer configured; under no name off an
    /// interface that is.
    pub(super) fn release_others(&mut self) {
        let of = |d: &Device| Some(interface::query(&d.config.device).ok()??.index);
        let interfaces: Vec<u32> = self.devices.iter().filter_map(of).collect();
        for device in self.datapath.pinned_devices() {
            let linked = self.datapath.linked(&device);
            let configured = self.devices.iter().any(|d| d.config.device == device)
                || linked.is_some_and(|index| interfaces.contains(&index));
            if !configured {
                tracing::info!("`{device}` is no longer configured: taking the program off");
                if let Err(e) = self.datapath.release(&device) {
                    tracing::warn!("{e}; the next start tries again");
                }
            }
        }
    }
}
