//! A daemon that starts and lacks something of what was live: it says so as long as it does,
//! over restarts too, and nothing milder comes into the kernel by itself.

use std::{fs, path::Path, thread, time::Duration};

use kordon_ebpf::layout::Action;
use serde_json::Value;
use url::Url;

use crate::{
    asn::fetch::Remote,
    control::{peer::Peer, protocol::Request},
    daemon::{
        core::{Core, Ready},
        refusal::Refusal,
        requests::update::fetch_due,
        tests::{House, POLICY, by, import},
    },
    datapath::{
        faults::{Step, with},
        kernel::Datapath,
        publish::tests::{BAD, GOOD},
    },
    policy::Bundle,
};

/// `kordon apply --yes`.
fn apply_anyway(house: &mut House) {
    let mut by = by();
    by.yes = true;
    let bundle = Bundle::from_text("policy.toml", POLICY);
    house.core.apply(bundle, None, &by).unwrap();
}

fn root() -> Peer {
    Peer {
        uid: 0,
        gid: 0,
        pid: None,
        name: "root".to_owned(),
        login: None,
    }
}

/// `kordon asndb update --accept`.
fn accept(core: &mut Core) -> Result<Value, Refusal> {
    let view = core.view();
    let (held, database) = view.updates.held_back(&view.kept.state, None)?;
    core.accept(held, Ready::new(&view, database)?, &by())
}

/// What was done, newest first.
fn commands(house: &House) -> Vec<String> {
    let entries = house.core.journal.entries();
    entries.map(|entry| entry.command.clone()).collect()
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn routes_whose_file_is_missing_are_lost_until_all_is_told_again() {
    const ROUTE: &str = "203.0.113.10";
    let mut house = House::new();
    house.announce("203.0.113.10/32", 64500);
    house.core.catch_up(true);
    assert_eq!(house.judges(ROUTE), Action::Drop);
    assert!(commands(&house)[0].starts_with("live BGP: changes of routes in effect: 1, "));
    // Within the same day another line comes at the end, and no sooner.
    house.announce("203.0.113.11/32", 64500);
    house.core.catch_up(true);
    let lines = |house: &House| {
        let all = commands(house);
        all.iter()
            .filter(|line| line.starts_with("live BGP"))
            .count()
    };
    assert_eq!(lines(&house), 1);
    house.config().bmp.as_mut().unwrap().stale_after = Duration::from_secs(8);

    // Whole, it comes back.
    let house = house.restart(|_| ());
    assert_eq!(lines(&house), 2);
    assert_eq!(house.judges(ROUTE), Action::Drop);
    assert_eq!(house.reasons(), Vec::<String>::new());

    let mut house = house.restart(|state| fs::remove_file(state.join("bgp.routes")).unwrap());
    let is_said = |house: &House| {
        let reasons = house.reasons().join("\n");
        println!("{reasons}");
        reasons.contains("what live BGP said is lost") && reasons.contains("bgp.routes")
    };
    assert_eq!(house.judges(ROUTE), Action::Drop);
    assert!(is_said(&house));
    apply_anyway(&mut house);
    assert_eq!(house.judges(ROUTE), Action::Pass);
    assert!(is_said(&house));
    // What is known now is not all: the next start says so, too.
    house.announce("203.0.113.12/32", 64500);
    house.core.catch_up(true);
    house.core.review();
    assert!(is_said(&house));
    let mut house = house.restart(|state| assert!(!state.join("bgp.routes").exists()));
    assert!(is_said(&house));
    apply_anyway(&mut house);
    house.announce("203.0.113.12/32", 64500);
    house.core.catch_up(true);
    house.core.review();
    assert!(is_said(&house), "the first peer is not all of them");
    thread::sleep(Duration::from_secs(9));
    house.core.catch_up(true);
    house.core.review();
    assert_eq!(house.reasons(), Vec::<String>::new());
    let house = house.restart(|state| assert!(state.join("bgp.routes").exists()));
    assert_eq!(house.judges("203.0.113.12"), Action::Drop);
    assert_eq!(house.reasons(), Vec::<String>::new());
}

#[test]
fn who_goes_on_with_an_older_database_is_told_so_at_each_start() {
    let mut house = House::new();
    import(&mut house.core).unwrap();
    assert_eq!([BAD, GOOD].map(|to| house.judges(to)), [Action::Drop; 2]);
    let mut house = house.restart(|state| cut(&state.join("asndb.snapshot")));
    let is_said = |house: &House| house.reasons().join("\n").contains("is an older one");
    assert!(is_said(&house));
    assert_eq!(house.judges(GOOD), Action::Drop);
    apply_anyway(&mut house);
    assert_eq!(house.judges(GOOD), Action::Pass);
    assert!(is_said(&house));
    let house = house.restart(|_| ());
    assert!(
        is_said(&house),
        "after another start: {:?}",
        house.reasons()
    );
    let mut house = house.restart(|_| ());
    assert!(is_said(&house));
    // It is not kept from changes.
    let bundle = Bundle::from_text("policy.toml", &POLICY.replace("64500", "64501"));
    house.core.apply(bundle, None, &by()).unwrap();
    assert_eq!(house.judges(GOOD), Action::Drop);
    assert!(is_said(&house));
    import(&mut house.core).unwrap();
    assert_eq!(house.reasons(), Vec::<String>::new());
    let house = house.restart(|_| ());
    assert_eq!(house.reasons(), Vec::<String>::new());
}

#[test]
fn nothing_comes_by_itself_in_the_place_of_a_database_that_is_lost() {
    let mut house = House::new();
    let csv = house.folder().join("poor.csv");
    fs::write(&csv, "192.0.2.0,192.0.2.255,64502,Other\n").unwrap();
    house.config().sources.clear();
    house.config().updates.remotes = vec![Remote {
        url: Url::from_file_path(&csv).unwrap(),
        checksum: None,
        every: Duration::from_secs(60),
        user_agent: None,
        headers: Vec::new(),
    }];
    let house = house.restart(|state| {
        for name in ["asndb.snapshot", "asndb.snapshot.previous"] {
            if state.join(name).exists() {
                cut(&state.join(name));
            }
        }
    });
    assert!(house.core.updates.database.is_lost() && house.core.troubles.is_kept());
    let (mut house, ()) = house.shared(fetch_due);
    assert_eq!(house.judges(BAD), Action::Drop);
    let held = house.status()["asndb"]["update"]["held"].clone();
    println!("{held}");
    assert_eq!(held["concerns"][0]["kind"], "unknown");
    assert!(!house.reasons().is_empty());
    accept(&mut house.core).unwrap();
    assert_eq!(house.judges(BAD), Action::Pass);
    assert_eq!(house.status()["asndb"]["update"]["held"], Value::Null);
    let reasons = house.reasons().join("\n");
    assert!(!reasons.contains("lost"), "{reasons}");
}

#[test]
fn what_the_kernel_does_not_take_at_the_start_is_tried_again() {
    // With a policy that was live, and with nothing but the configured one.
    for is_first in [false, true] {
        let house = House::new();
        let bpffs = house.core.config.bpffs.clone();
        let (mut house, met) = with(&[Step::Pin], || {
            house.restart(|state| {
                Datapath::detach(&bpffs).unwrap();
                if is_first {
                    fs::remove_dir_all(state).unwrap();
                }
            })
        });
        assert!(met);
        let reasons = house.reasons();
        println!("{reasons:?}");
        assert!(reasons[0].contains("a test says so"), "{reasons:?}");
        let (again, met) = with(&[Step::Pin], || {
            house.core.tick();
            house.core.retry_at.take()
        });
        assert!(met && again.is_some());
        assert_eq!(house.reasons(), reasons);
        house.core.tick();
        house.core.tick();
        assert_eq!(house.reasons(), Vec::<String>::new());
        assert_eq!(
            [BAD, GOOD].map(|to| house.judges(to)),
            [Action::Drop, Action::Pass]
        );
    }
}

#[test]
fn what_an_update_warned_of_is_not_forgotten_because_it_cannot_be_read() {
    let house = House::new();
    let mut house = house.restart(|state| {
        fs::write(state.join("asndb.warnings.json"), "{\"since\"").unwrap();
        fs::write(state.join("asndb.held.json"), "").unwrap();
        fs::copy(
            state.join("asndb.snapshot"),
            state.join("asndb.held.snapshot"),
        )
        .unwrap();
    });
    let update = house.status()["asndb"]["update"].clone();
    println!("{update}");
    for (part, file) in [
        ("warnings", "asndb.warnings.json"),
        ("held", "asndb.held.json"),
    ] {
        let concern = &update[part]["concerns"][0];
        assert_eq!(concern["kind"], "unknown", "{part}");
        assert!(
            concern["message"].as_str().unwrap().contains(file),
            "{part}"
        );
    }
    // Who has seen it says so, and that is in the history.
    let old = house.core.enforced.hash();
    for (request, command) in [
        (Request::AsndbAcknowledge, "asndb acknowledge"),
        (Request::AsndbDiscard, "asndb discard"),
    ] {
        house.core.perform(request.clone(), &root()).unwrap();
        let entry = house.core.journal.entries().next().unwrap();
        assert_eq!((entry.command.as_str(), entry.uid), (command, Some(0)));
        assert_eq!((&entry.old, &entry.new), (&old, &old));
        assert!(house.core.perform(request, &root()).is_err());
    }
    let house = house.restart(|_| ());
    assert_eq!(house.status()["asndb"]["update"]["warnings"], Value::Null);
    assert_eq!(house.status()["asndb"]["update"]["held"], Value::Null);
}
