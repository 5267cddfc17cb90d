//! What is known of a router, as plain data: [`super::read`] fills it, [`super::judge`] goes by it
//! and by nothing else, so that each judgement can be tested with facts that are made up.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    path::PathBuf,
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::Value;

pub use crate::coverage::{Flowtable, Kind};
use crate::{
    config::Config,
    coverage::{self, Policed},
    datapath::Attached,
    diagnostic::Diagnostics,
    policy::model::Policy,
};

/// A fact, or why it could not be looked at.
pub type Known<T> = Result<T, String>;

/// All of it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When it was looked.
    pub now: Timestamp,
    /// The kernel and what it allows.
    pub machine: Machine,
    /// Where the instance has its things.
    pub places: Places,
    /// `kordon.toml`, as far as it can be read, and what is wrong with it.
    pub config: Option<Config>,
    /// See `config`.
    pub config_found: Diagnostics,
    /// The policy that is live, else the configured one.
    pub policy: Known<Rules>,
    /// What the daemon answers to `status`.
    pub daemon: Daemon,
    /// The process that has the pins, whether or not it answers.
    pub holder: Option<u32>,
    /// Devices of this network namespace.
    pub links: Known<Vec<Link>>,
    /// Addresses by device, host bits as they are.
    pub addresses: Vec<(u32, IpNet)>,
    /// For each zone with `sources = "connected"`: the router's prefixes there.
    pub connected: Known<BTreeMap<String, Vec<IpNet>>>,
    /// Flowtables of nftables.
    pub flowtables: Known<Vec<Flowtable>>,
    /// What is pinned.
    pub pinned: Known<Vec<Pinned>>,
    /// Samples of the daemon's metrics.
    pub metrics: Known<Vec<Sample>>,
    /// The ASN database, where no daemon says it.
    pub database: Known<Database>,
    /// The state folder.
    pub state: State,
    /// Where the log of evidence is; `None`: none is asked for.
    pub evidence: Option<Room>,
    /// Whether the clock is synchronised.
    pub synchronised: Known<bool>,
    /// When this binary was made.
    pub made: Option<Timestamp>,
    /// Configured groups, and whether they exist.
    pub groups: Vec<(String, Known<bool>)>,
    /// The systemd unit.
    pub service: Known<Service>,
    /// What is held at boot.
    pub boot_guard: BootGuard,
}

/// Where an instance has its things.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `kordon.toml`.
    pub config: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// Pins.
    pub bpffs: PathBuf,
    /// State.
    pub state_dir: PathBuf,
    /// The configured policy.
    pub policy: Option<PathBuf>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
}

/// The kernel and what it allows.
#[derive(Clone, Debug)]
pub struct Machine {
    /// As `uname -r` says.
    pub release: String,
    /// Whether it has BTF.
    pub btf: bool,
    /// `bpf_jit_enable`.
    pub jit: Known<u8>,
    /// `bpf_jit_harden`.
    pub harden: Known<u8>,
    /// The word in brackets of `/sys/kernel/security/lockdown`.
    pub lockdown: Known<String>,
    /// Whether the place of pins is on a BPF file system.
    pub bpffs: Known<bool>,
    /// Capabilities that are missing, and who lacks them.
    pub lacks: Known<(String, Vec<&'static str>)>,
}

/// A policy and what is wrong with its file.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `None`: its file has errors.
    pub policy: Option<Policy>,
    /// What is wrong with it.
    pub found: Diagnostics,
}

/// What the daemon answers.
#[derive(Clone, Debug)]
pub enum Daemon {
    /// To `status`.
    Answers(Box<Value>),
    /// Nobody listens: what the system says.
    Silent(String),
    /// There may be one, but it was not asked, or did not answer: why.
    Unknown(String),
}

impl Daemon {
    /// What it says.
    #[must_use]
    pub fn status(&self) -> Option<&Value> {
        match self {
            Self::Answers(status) => Some(status),
            _ => None,
        }
    }

    /// See [`Facts::judged_by`].
    #[must_use]
    pub fn judged_by(&self, device: &str) -> Option<&str> {
        let mut interfaces = self.status()?["interfaces"].as_array()?.iter();
        interfaces.find(|found| found["device"] == device)?["by"].as_str()
    }
}

/// A device, and what else there is to know of it.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// What it is made of.
    pub device: coverage::Link,
    /// Its MTU.
    pub mtu: u32,
    /// Its XDP program: how, and its id.
    pub xdp: Option<(Attached, u32)>,
    /// How many queues there are: receive, transmit.
    pub queues: (u32, u32),
    /// The bus that it is on.
    pub bus: Option<String>,
    /// Frames received.
    pub received: u64,
    /// What is read of configured devices and of those that belong to them.
    pub more: Option<More>,
}

/// What it takes more questions to know.
#[derive(Clone, Debug)]
pub struct More {
    /// Its driver.
    pub driver: Known<String>,
    /// Features that are on, as the kernel calls them.
    pub features: Known<Vec<String>>,
    /// Programs and filters at tc ingress.
    pub filters: Known<Vec<Filter>>,
    /// The XDP program of somebody else that is on it, in words.
    pub foreign: Known<Option<String>>,
}

/// What is at tc ingress of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its name, or what kind of filter it is.
    pub name: String,
    /// The id of its program.
    pub program: Option<u32>,
    /// What takes it off.
    pub cure: String,
}

/// What the guard's program is called.
const GUARD: &str = "guard";

impl Filter {
    /// Whether it is kordon's own.
    #[must_use]
    pub fn is_guard(&self) -> bool {
        self.name == GUARD
    }
}

impl Deref for Link {
    type Target = coverage::Link;

    fn deref(&self) -> &coverage::Link {
        &self.device
    }
}

impl DerefMut for Link {
    fn deref_mut(&mut self) -> &mut coverage::Link {
        &mut self.device
    }
}

impl Link {
    /// Whether the guard is on it; nothing where that cannot be seen.
    #[must_use]
    pub fn has_guard(&self) -> Option<bool> {
        let filters = self.more.as_ref()?.filters.as_ref().ok()?;
        Some(filters.iter().any(Filter::is_guard))
    }
}

/// A pinned program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The device that it was made for.
    pub device: String,
    /// How it is attached; `None`: it is on no interface any more.
    pub mode: Option<Attached>,
    /// Whether it has rules.
    pub has_rules: bool,
}

/// A sample of the metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it counts.
    pub value: f64,
}

/// The ASN database in the state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// How many prefixes it has.
    pub prefixes: u64,
    /// Its age in seconds; `None`: it is empty.
    pub age: Option<i64>,
}

/// The state folder.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Whether it is there, and a folder; else why nothing is known of it.
    pub there: Option<Known<bool>>,
    /// Its owner and rights.
    pub rights: Option<(u32, u32)>,
    /// Whether its file system is read-only.
    pub is_read_only: bool,
    /// Bytes that are free, and bytes of the largest file in it.
    pub room: Option<(u64, u64)>,
    /// Who the daemon runs as; `None`: that is not known.
    pub user: Option<u32>,
}

/// The folder of the log of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Where it is.
    pub folder: PathBuf,
    /// Bytes that are in it; 0 where it is not there yet.
    pub used: Known<u64>,
    /// Bytes that are free for it.
    pub free: Known<u64>,
}

/// What is held of forwarding until kordon enforces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootGuard {
    /// `UnitFileState` of its unit; empty: there is no such unit.
    pub enabled: Known<String>,
    /// Whether there is an `nft` that can load the rules.
    pub has_nft: bool,
    /// The rules that wait for the next boot; `None`: there are none.
    pub rules: Known<Option<String>>,
    /// Devices that are held now.
    pub held: Known<Vec<String>>,
    /// `ActiveState` of its unit.
    pub active: String,
}

/// The systemd unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `LoadState`.
    pub load: String,
    /// `UnitFileState`.
    pub enabled: String,
    /// `ActiveState`.
    pub active: String,
    /// `NRestarts`.
    pub restarts: u32,
}

impl Facts {
    /// Configured devices: what the configuration says, and what there is.
    pub fn devices(&self) -> impl Iterator<Item = (&crate::config::Interface, Option<&Link>)> {
        let configured = self.config.iter().flat_map(|config| &config.interfaces);
        configured.map(|interface| (interface, self.link(&interface.device)))
    }

    /// A device by its name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.all_links().iter().find(|link| link.name == name)
    }

    /// A device by its number.
    #[must_use]
    pub fn by_index(&self, index: u32) -> Option<&Link> {
        self.all_links().iter().find(|link| link.index == index)
    }

    /// All devices; none where they are not known.
    #[must_use]
    pub fn all_links(&self) -> &[Link] {
        self.links.as_ref().map_or(&[], Vec::as_slice)
    }

    /// Ports of a bridge or bond.
    pub fn ports(&self, master: u32) -> impl Iterator<Item = &Link> {
        let links = self.all_links().iter();
        links.filter(move |link| link.master == Some(master))
    }

    /// Devices and configured interfaces, as far as they matter for what is covered.
    #[must_use]
    pub fn seen(&self) -> (coverage::Links, Vec<Policed>) {
        let policed = self.devices().map(|(interface, link)| Policed {
            index: link.map(|link| link.index),
            name: interface.name.clone(),
        });
        let links = self.all_links().iter().map(|link| link.device.clone());
        (links.collect(), policed.collect())
    }

    /// The policy, where there is one.
    #[must_use]
    pub fn rules(&self) -> Option<&Policy> {
        self.policy.as_ref().ok()?.policy.as_ref()
    }

    /// What the daemon says of a configured interface.
    #[must_use]
    pub fn said(&self, device: &str) -> Option<&Value> {
        let interfaces = self.daemon.status()?["interfaces"].as_array()?;
        interfaces.iter().find(|found| found["device"] == device)
    }

    /// Who judges what arrives on a configured interface, as the daemon says: `xdp`, `tc` (the
    /// guard, where the program is blind) or nobody.
    #[must_use]
    pub fn judged_by(&self, device: &str) -> Option<&str> {
        self.daemon.judged_by(device)
    }
}
