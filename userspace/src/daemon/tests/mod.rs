//! A daemon without its event loop ([`House`]), and what is tried on it:
//!
//! - [`cover`]: ways around what it polices.
//! - [`faults`]: changes that fail at each of their steps, by an error or by a panic.
//! - [`held`]: the ledger, while somebody does not let it go.
//! - [`lost`]: starts that lack something of what was live.
//! - [`named`]: networks of flows that were judged before something changed.
//! - [`owner`]: the thread that has the core, held busy.
//! - [`zones`]: zones with equal, nearly equal and different rules.

mod cover;
mod faults;
mod held;
mod lost;
mod named;
mod owner;
mod zones;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use kordon_ebpf::layout::Action;
use serde_json::Value;

use super::{
    by::By,
    core::{Core, Ready},
    owner::Owner,
    refusal::Refusal,
    state::StateDir,
    updates::database::Database,
};
use crate::{
    asn,
    bmp::{
        message::Message,
        tests::{ROUTER, ends, peer_up, routes, update},
    },
    config,
    datapath::publish::tests::{Cable, DATABASE},
    diagnostic::Diagnostics,
};

pub(super) const POLICY: &str = "[zone.cameras]\ninterfaces = [\"trunk\"]\nsources = [\"10.20.0.0/16\"]\n\
    [set.bad]\nasns = [64500]\n\
    [[rule]]\nname = \"bad\"\nfrom = \"cameras\"\nto = \"bad\"\naction = \"drop\"\n";

/// A daemon without its event loop, and the cable that it polices.
pub(super) struct House {
    pub(super) core: Core,
    folder: tempfile::TempDir,
    _cable: Cable,
}

impl House {
    pub(super) fn new() -> Self {
        Self::of(POLICY)
    }

    /// That has this policy.
    pub(super) fn of(policy: &str) -> Self {
        let cable = Cable::new();
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "bpffs = {:?}\n[[interface]]\ndevice = \"in\"\nname = \"trunk\"\n\
             [asndb]\nsources = [\"asn.csv\"]\n[bmp]\nlisten = \"127.0.0.1:11019\"\n",
            cable.bpffs()
        );
        fs::write(folder.path().join("asn.csv"), DATABASE).unwrap();
        fs::write(folder.path().join("policy.toml"), policy).unwrap();
        let (config, found) = config::parse(&folder.path().join("kordon.toml"), &text);
        let config = config.unwrap_or_else(|| panic!("{found:?}"));
        let state = StateDir::open(&folder.path().join("state")).unwrap();
        let (mut core, _) = Core::start(config, state, None, false).unwrap();
        asn::save(&core.updates.database.db, &core.kept.state.snapshot()).unwrap();
        core.enforced.warm_up(&core.updates.database);
        let house = Self {
            core,
            folder,
            _cable: cable,
        };
        assert_eq!(house.reasons(), Vec::<String>::new());
        house
    }

    /// The daemon ends, something happens to its state folder, and another one starts.
    pub(super) fn restart(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let empty = self.end();
        meanwhile(&empty.folder.path().join("state"));
        let core = empty.start().unwrap();
        empty.inhabited(core)
    }

    /// The daemon ends.
    pub(super) fn end(mut self) -> Empty {
        self.core.keep_bgp();
        Empty {
            config: config::Config::clone(&self.core.config),
            folder: self.folder,
            cable: self._cable,
        }
    }

    /// Something that needs the daemon as its event loop has it.
    pub(super) fn shared<T>(self, work: impl FnOnce(&Owner) -> T) -> (Self, T) {
        let Self {
            core,
            folder,
            _cable,
        } = self;
        let (owner, thread) = Owner::of(core).unwrap();
        let done = work(&owner);
        drop(owner);
        let core = thread.join().unwrap();
        let house = Self {
            core,
            folder,
            _cable,
        };
        (house, done)
    }

    /// Its configuration, to be changed.
    pub(super) fn config(&mut self) -> &mut config::Config {
        Arc::make_mut(&mut self.core.config)
    }

    /// Where its files are.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn judges(&self, to: &str) -> Action {
        Cable::judged(&self.core.enforced.datapath, to)
    }

    /// Why it does not enforce, but for that nobody looks after interfaces: there is no event loop here.
    pub(super) fn reasons(&self) -> Vec<String> {
        let status = self.status();
        let reasons = status["reasons"].as_array().unwrap();
        assert_eq!(status["enforcing"], Value::Bool(reasons.is_empty()));
        let reasons = reasons.iter().map(|reason| reason.as_str().unwrap());
        let is_late = |reason: &&str| reason.starts_with("whether interfaces are in order was");
        reasons
            .filter(|reason| !is_late(reason))
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn status(&self) -> Value {
        self.core.view().status(None).unwrap()
    }

    /// All files that a start reads.
    fn kept(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let state = self.folder.path().join("state");
        for folder in [state.clone(), state.join("history")] {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                // The database before is kept for its own sake.
                if path.is_file() && !path.display().to_string().contains("previous") {
                    files.insert(path.clone(), fs::read(path).unwrap());
                }
            }
        }
        files
    }

    /// Files that are others than these.
    fn changed(&self, kept: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<PathBuf> {
        let now = self.kept();
        let names = kept.keys().chain(now.keys());
        let changed = names.filter(|name| kept.get(*name) != now.get(*name));
        changed.cloned().collect()
    }

    /// A route of the one peer that there is.
    pub(super) fn announce(&self, prefix: &str, origin: u32) {
        let bgp = self.core.bgp.as_ref().unwrap();
        let mut feed = bgp.feed();
        let now = bgp.now();
        let mut bytes = routes(1, &update(prefix, Some(&[64510, origin])));
        let session = match feed.sessions().first() {
            Some(_) => 1,
            None => {
                bytes = [peer_up(1, &[], &[]), ends(1), bytes].concat();
                feed.open(ROUTER, now)
            }
        };
        let mut left = &bytes[..];
        while let Some((length, message)) = Message::first(left).unwrap() {
            feed.message(session, &message, now).unwrap();
            left = &left[length..];
        }
    }
}

/// A house whose daemon has ended.
pub(super) struct Empty {
    config: config::Config,
    folder: tempfile::TempDir,
    pub(super) cable: Cable,
}

impl Empty {
    /// Starts another one.
    pub(super) fn start(&self) -> anyhow::Result<Core> {
        let state = self.folder.path().join("state");
        // Another test's process may have the lock between its `fork` and its `exec`.
        let again = || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            StateDir::open(&state)
        };
        let state = StateDir::open(&state).or_else(|_| again())?;
        Core::start(self.config.clone(), state, None, false).map(|(core, _)| core)
    }

    pub(super) fn inhabited(self, core: Core) -> House {
        House {
            core,
            folder: self.folder,
            _cable: self.cable,
        }
    }
}

/// Somebody who can ask again, and so is refused what cannot be kept.
pub(super) fn by() -> By {
    By::daemon(By::RELOAD)
}

pub(super) fn import(core: &mut Core) -> Result<Value, Refusal> {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("asn.csv");
    // Everything is the blocked ASN's.
    fs::write(&csv, DATABASE.replace("64501", "64500")).unwrap();
    let (db, _) = asn::import(&[csv], &[]).unwrap();
    let ready = Ready::new(&core.view(), Database::new(db))?;
    core.replace_database(ready, &Diagnostics::default(), &by())
}
