//! Each step of a publish fails once: all is old, or all is new, and the kernel judges so.
//! A cable in a network namespace of the test's own; packets go through the program on it.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use kordon_ebpf::layout::{Action, Reason};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use super::*;
use crate::{
    asn::{self, AsnDb},
    compile::{
        directory::Identity,
        generation::{Environment, PortSpec},
    },
    datapath::{
        Attached,
        attach::Mode,
        faults::{Step, with, with_panics},
        kernel::LiveGeneration,
        pins::entries,
    },
    judge::Image,
    policy::{self, Bundle, Context, Overlay},
};

/// Announced by AS64500 and AS64501.
pub(crate) const DATABASE: &str =
    "198.51.100.0,198.51.100.255,64500,Bad\n203.0.113.0,203.0.113.255,64501,Good\n";
pub(crate) const BAD: &str = "198.51.100.9";
pub(crate) const GOOD: &str = "203.0.113.9";

/// A cable `out` to `in` in a network namespace of this thread's, and a BPF file system.
pub(crate) struct Cable {
    folder: tempfile::TempDir,
}

impl Cable {
    pub(crate) fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("it needs root");
        let neighbours = (9..=16).map(|n| format!("203.0.113.{n}"));
        let neighbours = neighbours
            .chain([BAD.to_owned()])
            .map(|address| format!("\nneigh add {address} lladdr 02:00:00:00:00:01 dev out"));
        let links = "link set lo up
            link add in address 02:00:00:00:00:01 type veth peer name out
            addr add 10.20.0.5/16 dev out
            link set in up
            link set out up
            route add 198.51.100.0/24 dev out
            route add 203.0.113.0/24 dev out";
        let links = links.to_owned() + &neighbours.collect::<String>();
        for line in links.lines() {
            let done = Command::new("ip").args(line.split_whitespace()).status();
            assert!(done.expect("ip is there").success(), "{line}");
        }
        let folder = tempfile::tempdir().unwrap();
        mount(
            Some("bpf"),
            folder.path(),
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .expect("it needs root");
        Self { folder }
    }

    pub(crate) fn bpffs(&self) -> &Path {
        self.folder.path()
    }

    /// All pins.
    pub(crate) fn pins(&self) -> Vec<PathBuf> {
        let mut all = entries(self.bpffs());
        for folder in entries(self.bpffs()) {
            all.extend(entries(&folder));
        }
        all.sort();
        all
    }

    /// What becomes of a packet, by the counter of a rule or of the default that moves.
    pub(crate) fn judged(datapath: &Datapath, to: &str) -> Action {
        let counted = || -> BTreeMap<Action, u64> {
            let counters = datapath.reader().counters().unwrap();
            let mut sums = BTreeMap::new();
            for (slot, counter) in (0..).zip(counters) {
                let action = match datapath.directory().identity(slot) {
                    Some(Identity::Rule(_, _, action)) => action,
                    Some(Identity::Zone(_, Reason::Default, action)) => action,
                    _ => continue,
                };
                *sums.entry(action).or_default() += counter.packets;
            }
            sums
        };
        let before = counted();
        let socket = UdpSocket::bind("10.20.0.5:0").unwrap();
        socket.send_to(b"a picture", (to, 9)).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            let after = counted();
            let moved = after
                .iter()
                .find(|(action, packets)| before.get(action).unwrap_or(&0) < packets);
            if let Some((action, _)) = moved {
                return *action;
            }
            thread::sleep(Duration::from_millis(2));
        }
        panic!("no counter moved");
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = umount2(self.bpffs(), MntFlags::MNT_DETACH);
    }
}

struct Instance {
    db: AsnDb,
    datapath: Datapath,
}

impl Instance {
    fn open(cable: &Cable) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("asn.csv");
        std::fs::write(&csv, DATABASE).unwrap();
        Self {
            db: asn::import(&[csv], &[]).unwrap().0,
            datapath: Datapath::open(cable.bpffs(), None).unwrap(),
        }
    }

    fn publish(&mut self, blocked: u32, key: u8, tier: Tier) -> Result<Published, DatapathError> {
        self.publish_if(blocked, key, tier, Ok(()))
    }

    /// `proof`: what it says.
    fn publish_if(
        &mut self,
        blocked: u32,
        key: u8,
        tier: Tier,
        proof: Result<(), String>,
    ) -> Result<Published, DatapathError> {
        let text = format!(
            "[zone.cameras]\ninterfaces=[\"trunk\"]\nsources=[\"10.20.0.0/16\"]\n\
             [set.bad]\nasns=[{blocked}]\n\
             [[rule]]\nname=\"bad\"\nfrom=\"cameras\"\nto=\"bad\"\naction=\"drop\"\n"
        );
        let bundle = Bundle::from_text("p.toml", &text);
        let context = Context::now(Some(&self.db));
        let (policy, found) = policy::parse(&bundle, &Overlay::default(), &context);
        let policy = policy.unwrap_or_else(|| panic!("{found:?}"));
        let environment = Environment {
            ports: vec![PortSpec {
                logical: "trunk".into(),
                drop_unknown: false,
            }],
            ..Environment::default()
        };
        let mut directory = self.datapath.directory().clone();
        let image = Image::compile(&policy, &self.db, &environment, &mut directory);
        let mut image = image.unwrap();
        image.rules.fixed.table_key = [key; 32];
        image.rules.fixed.hash = [blocked as u8; 32];
        let (rules, table) = (&mut image.rules, &image.table);
        self.datapath
            .publish(rules, table, tier, &directory, &mut |_| proof.clone())
    }

    fn live(&self) -> LiveGeneration {
        self.datapath.live().unwrap()
    }

    fn judges(&self) -> [Action; 2] {
        [BAD, GOOD].map(|to| Cable::judged(&self.datapath, to))
    }

    /// What is live is asked by the program that proves, too.
    fn can_prove(&mut self) {
        self.datapath.warm_editor().unwrap();
        self.datapath.ask_live(|_| Ok(())).unwrap();
    }
}

const FIRST: [Action; 2] = [Action::Drop, Action::Pass];
const OTHER: [Action; 2] = [Action::Pass, Action::Drop];

#[test]
fn a_step_that_fails_before_the_commit_changes_nothing() {
    let cable = Cable::new();
    let mut instance = Instance::open(&cable);
    for step in [Step::Maps, Step::Prober, Step::Table, Step::Pin, Step::Swap] {
        let (done, met) = with(&[step], || instance.publish(64500, 1, Tier::Small));
        // The first opens maps that it may keep.
        assert!(!met || done.is_err(), "{step:?}");
        assert_eq!(instance.datapath.live().is_some(), done.is_ok(), "{step:?}");
    }
    instance.publish(64500, 1, Tier::Small).unwrap();
    let attached = instance
        .datapath
        .attach("in", 0, Mode::Auto, false)
        .unwrap();
    assert_eq!(attached, Attached::Native);
    assert_eq!(instance.judges(), FIRST);
    let pins = cable.pins();
    let live = instance.live();
    let rules = [Step::Directory, Step::Pin, Step::Swap];
    let table = [
        Step::Table,
        Step::Directory,
        Step::Pin,
        Step::Place,
        Step::Swap,
    ];
    let changes: [(&[Step], u8, Tier); 3] = [
        (&rules, 1, Tier::Small),
        (&table, 2, Tier::Small),
        (&Step::BEFORE, 2, Tier::Internet),
    ];
    for (steps, key, tier) in changes {
        for (step, panics) in steps.iter().flat_map(|step| [(step, false), (step, true)]) {
            let (refused, met) = if panics {
                with_panics(&[*step], || {
                    let publish = AssertUnwindSafe(|| instance.publish(64501, key, tier));
                    let panicked = |_| Err(DatapathError::new("publish", "it panicked"));
                    catch_unwind(publish).unwrap_or_else(panicked)
                })
            } else {
                with(&[*step], || instance.publish(64501, key, tier))
            };
            let what = format!("{step:?} of {key} in {tier:?}, by a panic: {panics}");
            assert!(met && refused.is_err(), "{what}: {refused:?}");
            assert_eq!(instance.live(), live, "{what}");
            assert_eq!(cable.pins(), pins, "{what}");
            assert_eq!(instance.datapath.attached("in"), Some(attached), "{what}");
            assert_eq!(instance.judges(), FIRST, "{what}");
            instance.can_prove();
        }
        let wrong = Err("it is wrong".to_owned());
        let refused = instance.publish_if(64501, key, tier, wrong).unwrap_err();
        assert!(refused.to_string().contains("it is wrong"), "{refused}");
        assert_eq!(
            (instance.live(), cable.pins()),
            (live.clone(), pins.clone())
        );
        assert_eq!(instance.judges(), FIRST);
        instance.can_prove();
        // Another controller finds it as it was.
        assert_eq!(Instance::open(&cable).live(), live);
    }
    // Each of them, with nothing in its way, and back.
    for (_, key, tier) in changes {
        let published = instance.publish(64501, key, tier).unwrap();
        assert_eq!(published.behind, []);
        assert_eq!(instance.judges(), OTHER);
        assert_eq!(instance.live().tier, tier);
        assert_eq!(instance.datapath.attached("in"), Some(attached));
        instance.publish(64500, 1, Tier::Small).unwrap();
        assert_eq!(instance.judges(), FIRST);
    }
    assert_eq!(cable.pins().len(), pins.len());
}

#[test]
fn what_fails_after_the_commit_is_not_the_publishs() {
    let cable = Cable::new();
    let mut instance = Instance::open(&cable);
    instance.publish(64500, 1, Tier::Small).unwrap();
    instance
        .datapath
        .attach("in", 0, Mode::Auto, false)
        .unwrap();

    // Planes stay off, the class plane judges.
    let (done, met) = with(&[Step::Wait], || instance.publish(64501, 1, Tier::Small));
    assert!(met && done.is_ok(), "{done:?}");
    let live = instance.live();
    assert!(!live.planes && live.number == 2, "{live:?}");
    assert_eq!(instance.judges(), OTHER);
    instance.publish(64500, 1, Tier::Small).unwrap();
    assert!(instance.live().planes);
    assert_eq!(instance.judges(), FIRST);
    instance.can_prove();

    // The table of before stays for a while.
    let (done, met) = with(&[Step::Free], || instance.publish(64501, 2, Tier::Small));
    assert!(met && done.is_ok(), "{done:?}");
    assert_eq!(instance.judges(), OTHER);
    for key in 3..6 {
        instance.publish(64500, key, Tier::Small).unwrap();
    }
    assert_eq!(instance.judges(), FIRST);
    let tables = cable.pins();
    let tables = tables
        .iter()
        .filter(|pin| pin.display().to_string().contains("table-"));
    assert_eq!(tables.count(), 1, "{:?}", cable.pins());

    // An interface that cannot follow goes on with what was live, and says so.
    let small = cable.pins();
    let (done, met) = with(&[Step::Follow], || {
        instance.publish(64501, 1, Tier::Internet)
    });
    let behind = done.unwrap().behind;
    assert!(
        met && behind.len() == 1 && behind[0].0 == "in",
        "{behind:?}"
    );
    assert_eq!(instance.live().tier, Tier::Internet);
    assert_eq!(instance.datapath.attached("in"), None);
    assert_eq!(instance.judges(), FIRST);
    assert!(
        small.iter().all(|pin| pin.exists()),
        "what it uses is there"
    );
    // Another change does not reach it, either, and the next attempt does.
    instance.publish(64501, 2, Tier::Internet).unwrap();
    assert_eq!(instance.judges(), FIRST);
    instance
        .datapath
        .attach("in", 0, Mode::Auto, false)
        .unwrap();
    assert_eq!(instance.judges(), OTHER);
    assert!(instance.datapath.attached("in").is_some());
    let is_small = |pin: &PathBuf| pin.display().to_string().contains("-small");
    assert!(!cable.pins().iter().any(is_small), "{:?}", cable.pins());
    instance.can_prove();
}

#[test]
fn a_device_that_is_away_keeps_no_maps_of_before() {
    let cable = Cable::new();
    let ip = |line: &str| {
        let done = Command::new("ip").args(line.split_whitespace()).status();
        assert!(done.expect("ip is there").success(), "{line}");
    };
    ip("link add other type veth peer name far");
    let mut instance = Instance::open(&cable);
    instance.publish(64500, 1, Tier::Small).unwrap();
    for (device, port) in [("in", 0), ("other", 1)] {
        let datapath = &mut instance.datapath;
        datapath.attach(device, port, Mode::Auto, false).unwrap();
    }
    ip("link del other");
    let published = instance.publish(64501, 1, Tier::Internet).unwrap();
    assert_eq!(published.behind, []);
    assert_eq!(instance.judges(), OTHER);
    let pins = cable.pins();
    let of_before = |pin: &&PathBuf| {
        let name = pin.display().to_string();
        name.contains("-small") || name.contains("-other")
    };
    assert_eq!(pins.iter().find(of_before), None, "{pins:?}");
    // It comes back.
    ip("link add other type veth peer name far");
    let attached = instance.datapath.attach("other", 1, Mode::Auto, false);
    assert_eq!(attached.unwrap(), Attached::Native);
}

#[test]
fn what_others_pinned_in_the_place_of_ours_is_named_and_stays() {
    let cable = Cable::new();
    let mut instance = Instance::open(&cable);
    instance.publish(64500, 1, Tier::Small).unwrap();
    let found = instance.datapath.find("in").unwrap().unwrap();
    let of_maps = cable.bpffs().join("counters");
    for place in ["filters/in", "guards/in", "links/0-in"] {
        for is_folder in [false, true] {
            let pin = cable.bpffs().join(place);
            match is_folder {
                true => std::fs::create_dir(&pin).unwrap(),
                false => std::fs::hard_link(&of_maps, &pin).unwrap(),
            }
            let datapath = &mut instance.datapath;
            let refused = match place {
                "links/0-in" => datapath.attach("in", 0, Mode::Auto, false).map(drop),
                _ => datapath
                    .guard(
                        "in",
                        &found,
                        crate::datapath::guard::Guarded {
                            name: "trunk",
                            port: 0,
                            behind: Some(Attached::Native),
                        },
                        &[crate::datapath::guard::Hook::Clsact],
                    )
                    .map(drop),
            };
            let said = refused.unwrap_err().to_string();
            println!("{said}");
            assert!(
                said.contains(&format!("`rm -r {}`", pin.display())),
                "{place}: {said}"
            );
            assert!(pin.exists(), "{place}");
            let done = Command::new("rm").arg("-r").arg(&pin).status();
            assert!(done.unwrap().success());
        }
    }
    instance
        .datapath
        .attach("in", 0, Mode::Auto, false)
        .unwrap();
    assert_eq!(instance.judges(), FIRST);
}
