//! Changes of the daemon that fail at each of their steps: all is old or all is new, in the
//! kernel and on disk, `status` says so, and the next change works.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use kordon_ebpf::layout::Action;
use serde_json::Value;

use super::{
    core::Core, database::Database, journal::By, owner::Owner, refusal::Refusal, state::StateDir,
};
use crate::{
    asn,
    bmp::{
        message::Message,
        tests::{ROUTER, ends, peer_up, routes, update},
    },
    config,
    datapath::{
        faults::{Step, with},
        publish::tests::{BAD, Cable, DATABASE, GOOD},
    },
    diagnostic::Diagnostics,
    policy::{Bundle, Overlay},
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
        asn::save(&core.database.db, &core.state.snapshot()).unwrap();
        core.warm_up();
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
        let Self {
            mut core,
            folder,
            _cable,
        } = self;
        core.keep_bgp();
        let config = config::Config::clone(&core.config);
        drop(core);
        let state = folder.path().join("state");
        meanwhile(&state);
        let state = StateDir::open(&state).unwrap();
        let (core, _) = Core::start(config, state, None, false).unwrap();
        Self {
            core,
            folder,
            _cable,
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
        Cable::judged(&self.core.datapath, to)
    }

    pub(super) fn reasons(&self) -> Vec<String> {
        let status = self.status();
        let reasons = status["reasons"].as_array().unwrap();
        assert_eq!(status["enforcing"], Value::Bool(reasons.is_empty()));
        let reasons = reasons
            .iter()
            .map(|reason| reason.as_str().unwrap().to_owned());
        reasons.collect()
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

/// Somebody who can ask again, and so is refused what cannot be kept.
pub(super) fn by() -> By {
    By::daemon(By::RELOAD)
}

fn apply(core: &mut Core, text: &str) -> Result<Value, Refusal> {
    core.apply(Bundle::from_text("policy.toml", text), None, &by())
}

fn block(core: &mut Core) -> Result<Value, Refusal> {
    let entry = "[[entry]]\naction = \"block\"\ntarget = \"AS64501\"\nzone = \"cameras\"\n\
                 added = 2026-01-01T00:00:00Z\n";
    core.set_overlay(Overlay::parse("overlay.toml", entry).unwrap(), &by())
}

pub(super) fn import(core: &mut Core) -> Result<Value, Refusal> {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("asn.csv");
    // Everything is the blocked ASN's.
    fs::write(&csv, DATABASE.replace("64501", "64500")).unwrap();
    let (db, _) = asn::import(&[csv], &[]).unwrap();
    core.replace_database(Database::new(db), &Diagnostics::default(), &by())
}

type Change = fn(&mut Core) -> Result<Value, Refusal>;

#[test]
fn a_change_is_whole_in_the_kernel_and_on_disk() {
    let changes: [(&str, Change, &[Step]); 3] = [
        (
            "apply",
            |core| apply(core, &POLICY.replace("[64500]", "[64500, 64501]")),
            &[Step::Directory, Step::Pin, Step::Swap, Step::Keep],
        ),
        (
            "block",
            block,
            &[Step::Directory, Step::Pin, Step::Swap, Step::Keep],
        ),
        (
            "import",
            import,
            &[Step::Table, Step::Pin, Step::Place, Step::Swap],
        ),
    ];
    for (name, change, steps) in changes {
        let mut house = House::new();
        let (kept, live) = (house.kept(), house.core.datapath.live());
        assert_eq!(
            [BAD, GOOD].map(|to| house.judges(to)),
            [Action::Drop, Action::Pass]
        );
        for step in steps {
            let (refused, met) = with(&[*step], || change(&mut house.core));
            assert!(met && refused.is_err(), "{name}, {step:?}: {refused:?}");
            assert_eq!(house.core.datapath.live(), live, "{name}, {step:?}");
            assert!(
                house.kept() == kept,
                "{name}, {step:?}: the disk has changed"
            );
            assert_eq!(house.judges(GOOD), Action::Pass, "{name}, {step:?}");
            assert_eq!(house.reasons(), Vec::<String>::new(), "{name}, {step:?}");
        }
        // What cannot be taken back is said, until it is true again.
        let (refused, _) = with(&[Step::Swap, Step::Restore], || change(&mut house.core));
        assert!(refused.is_err(), "{name}");
        assert_eq!(house.core.datapath.live(), live, "{name}");
        assert_eq!(house.judges(GOOD), Action::Pass, "{name}");
        let reasons = house.reasons();
        assert!(
            reasons[0].contains("a start would make it"),
            "{name}: {reasons:?}"
        );
        change(&mut house.core).unwrap();
        assert_eq!(house.judges(GOOD), Action::Drop, "{name}");
        assert_eq!(house.reasons(), Vec::<String>::new(), "{name}");
        assert!(house.kept() != kept, "{name}");
        // A start finds what is live.
        let now = house.core.datapath.live();
        let house = house.restart(|_| ());
        assert_eq!(house.core.datapath.live(), now, "{name}");
    }
}

#[test]
fn live_bgp_is_never_half_true() {
    let mut house = House::new();
    house.announce("203.0.113.10/32", 64500);
    house.core.catch_up(true);
    assert_eq!(house.judges("203.0.113.10"), Action::Drop);
    let in_place = |house: &House| {
        let bgp = house.core.bgp.as_ref().unwrap();
        bgp.in_place.load(Ordering::Relaxed)
    };
    assert_eq!(in_place(&house), 1);
    // By another way, then.
    for (n, step) in [(11, Step::Amend), (12, Step::Ask), (13, Step::Classes)] {
        let address = format!("203.0.113.{n}");
        house.announce(&format!("{address}/32"), 64500);
        if step == Step::Classes {
            house.announce("203.0.113.128/25", 64777);
        }
        let (_, met) = with(&[step], || house.core.catch_up(true));
        assert!(met, "{step:?}");
        assert_eq!(house.judges(&address), Action::Drop, "{step:?}");
        assert_eq!(house.reasons(), Vec::<String>::new(), "{step:?}");
        assert_eq!(in_place(&house), 1, "{step:?}");
    }
    // By none: it is old, and it is said.
    house.announce("203.0.113.14/32", 64500);
    let ((), met) = with(&[Step::Amend, Step::Swap], || house.core.catch_up(true));
    assert!(met);
    assert_eq!(house.judges("203.0.113.14"), Action::Pass);
    assert_eq!(house.status()["bgp"]["behind"], true);
    house.core.catch_up(true);
    assert_eq!(house.judges("203.0.113.14"), Action::Drop);
    assert_eq!(house.status()["bgp"]["behind"], false);
    // It is in the table, and nobody says that it is right.
    house.announce("203.0.113.15/32", 64500);
    let ((), met) = with(&[Step::Ask, Step::Swap], || house.core.catch_up(true));
    assert!(met);
    let reasons = house.reasons();
    assert!(reasons[0].contains("does not judge"), "{reasons:?}");
    assert!(!house.core.datapath.live().unwrap().planes);
    house.core.tick();
    house.core.catch_up(true);
    assert_eq!(house.judges("203.0.113.15"), Action::Drop);
    assert_eq!(house.reasons(), Vec::<String>::new());
    assert!(house.core.datapath.live().unwrap().planes);
    // And in place again.
    house.announce("203.0.113.16/32", 64500);
    house.core.catch_up(true);
    assert_eq!(house.judges("203.0.113.16"), Action::Drop);
    assert_eq!(in_place(&house), 2);
}
