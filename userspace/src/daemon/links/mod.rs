//! What there is of the router: the configured interfaces with their programs, and its links and
//! addresses.
//!
//! - [`device`]: one interface: its program is attached, and attached again when the interface
//!   comes back.
//! - [`watch`]: whether that program is shown all that arrives; [`said`]: the sentence for one that
//!   is not.
//! - [`silence`]: zones that had packets and have none any more.
//! - [`router`]: links and addresses, as the kernel tells them; [`cover`]: whether the configured
//!   interfaces are all that receive what zones are about.

pub(super) mod cover;
pub(super) mod device;
pub(super) mod router;
mod said;
mod silence;
mod watch;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

pub(super) use self::watch::SETTLING;
use self::{
    cover::Cover,
    device::{Device, loss},
    router::{Facts, Look},
    silence::Silence,
};
use crate::{
    config::Config,
    coverage::{Policed, Seen},
    datapath::{DatapathError, attach::left, interface, kernel::Datapath},
    policy::Policy,
};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// The configured interfaces, in their order.
    pub(super) devices: Vec<Device>,
    silence: Silence,
    /// Whether these are all that receive what zones are about.
    pub(super) cover: Cover,
    /// What the rules know of the router; `None`: nothing.
    pub(super) facts: Option<Arc<Facts>>,
    /// What it is by now, where the rules could not follow.
    pub(super) unseen: Option<Arc<Facts>>,
    /// Why what is live is not pinned, so that it would end with this process.
    unpinned: Option<String>,
    /// When interfaces were looked after last.
    pub(super) looked: Instant,
}

impl Links {
    pub(super) fn new(config: &Config, look: Option<Look>) -> Self {
        let (facts, seen) = look.map(|look| (look.facts, look.seen)).unzip();
        Self {
            devices: config.interfaces.iter().cloned().map(Device::new).collect(),
            silence: Silence::default(),
            cover: Cover::new(seen),
            facts: facts.map(Arc::new),
            unseen: None,
            unpinned: None,
            looked: Instant::now(),
        }
    }

    /// What the devices are called in the configuration.
    pub(super) fn names(&self) -> Vec<String> {
        let devices = self.devices.iter();
        devices.map(|device| device.config.device.clone()).collect()
    }

    /// Attaches what is configured and not attached. `ports`: the port numbers of the live
    /// policy, where that is known.
    pub(super) fn tend(&mut self, datapath: &mut Datapath, ports: Option<&[u32]>) {
        // Without rules the program would drop what it knows nothing about.
        if datapath.live().is_none() {
            return;
        }
        self.keep_pins(datapath);
        let names = self.names();
        let ports = match ports {
            Some(ports) => ports.to_vec(),
            // What is in the kernel goes on although it is not known here.
            None => datapath.ports(&names).unwrap_or_default(),
        };
        let is_off = |name: &String| datapath.attached(name).is_none();
        if names.iter().any(is_off) {
            // One may have got the name of another.
            for (name, port) in names.iter().zip(&ports) {
                if let Err(e) = datapath.rename(name, Some(*port)) {
                    tracing::debug!("{e}");
                }
            }
        }
        for (device, port) in self.devices.iter_mut().zip(ports) {
            device.tend(datapath, port);
        }
        datapath.settle_attached();
    }

    /// Makes pins again that somebody removed: until then the next controller would find less
    /// than is live.
    fn keep_pins(&mut self, datapath: &mut Datapath) {
        let unpinned = match datapath.pin_again() {
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

    /// This is the router by now.
    pub(super) fn see(&mut self, seen: Seen) {
        self.cover.see(seen);
    }

    /// Whether the devices are all that receive what zones are about.
    pub(super) fn judge_cover(&mut self, policy: &Arc<Policy>) {
        let policed = self.devices.iter().map(|device| Policed {
            index: self.cover.find(&device.config.device, device.index()),
            name: device.config.name.clone(),
        });
        let policed = policed.collect();
        self.cover.judge(policed, policy);
    }

    /// [`SETTLING`] before [`Self::watch`].
    pub(super) fn look_ahead(&mut self, datapath: &Datapath) {
        for device in &mut self.devices {
            match datapath.passed_on(&device.config.name) {
                Ok(passed) => device.earlier = passed,
                Err(e) => tracing::debug!("{e}"),
            }
        }
    }

    /// Looks whether programs see what their interfaces receive, and zones have packets, which
    /// `packets` counts; `silent_after`: for how long a zone may have none.
    pub(super) fn watch(
        &mut self,
        datapath: &mut Datapath,
        ports: &[u32],
        packets: impl Fn() -> Result<BTreeMap<String, u64>, DatapathError>,
        silent_after: Option<Duration>,
    ) {
        // Any zone's: less would be enough, but this is sure.
        let judged = if self.devices.iter().any(Device::may_be_detached) {
            packets().ok().map(|zones| zones.values().sum())
        } else {
            None
        };
        for (device, port) in self.devices.iter_mut().zip(ports) {
            device.look(datapath, *port, judged);
        }
        let now = Instant::now();
        if let Some(after) = silent_after
            && self.silence.is_due(after, now)
        {
            match packets() {
                Ok(packets) => self.silence.note(packets, now),
                Err(e) => tracing::error!("{e}"),
            }
        }
    }

    /// What somebody should look at, although all is enforced.
    pub(super) fn notices(
        &self,
        datapath: &Datapath,
        silent_after: Option<Duration>,
    ) -> Vec<String> {
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
            let interfaces = datapath.left(name);
            interfaces.map(|interface| left(name, &interface.name))
        });
        let silent = self.silent_zones(silent_after);
        let silent = silent.filter_map(|(zone, silent)| {
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
        let overtaken = self.devices.iter().filter_map(Device::may_miss);
        let overtaken =
            overtaken.map(|words| format!("{words}; the XDP program before it enforces"));
        let unpinned = self.unpinned.iter().map(|why| {
            format!(
                "what is enforced now ends with the daemon, and is pinned as soon as possible: {why}"
            )
        });
        let notices = renamed.chain(left).chain(silent).chain(loses);
        let gaps = self.cover.gaps().iter().filter(|gap| !gap.is_certain);
        let gaps = gaps.map(ToString::to_string).chain(self.cover.unknown());
        let notices = notices.chain(overtaken);
        notices.chain(unpinned).chain(gaps).collect()
    }

    /// Zones, and for how long those that are silent have been.
    pub(super) fn silent_zones(
        &self,
        silent_after: Option<Duration>,
    ) -> impl Iterator<Item = (&str, Option<Duration>)> {
        let zones = silent_after.map(|after| self.silence.zones(after, Instant::now()));
        zones.into_iter().flatten()
    }

    /// Takes the program off devices that are no longer configured; under no name off an
    /// interface that is.
    pub(super) fn release_others(&self, datapath: &mut Datapath) {
        let of = |d: &Device| Some(interface::query(&d.config.device).ok()??.index);
        let interfaces: Vec<u32> = self.devices.iter().filter_map(of).collect();
        for device in datapath.pinned_devices() {
            let linked = datapath.linked(&device);
            let configured = self.devices.iter().any(|d| d.config.device == device)
                || linked.is_some_and(|index| interfaces.contains(&index));
            if !configured {
                tracing::info!("`{device}` is no longer configured: taking the program off");
                if let Err(e) = datapath.release(&device) {
                    tracing::warn!("{e}; the next start tries again");
                }
            }
        }
    }
}
