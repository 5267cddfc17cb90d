//! A way around what is policed is a reason, though no reason of the interface that enforces, and
//! goes with what it goes by: devices, or the policy.

use super::{House, POLICY, by};
use crate::{
    coverage::{Flowtable, Kind, Link, Seen},
    daemon::links::router::{Facts, Look},
    policy::Bundle,
};

const EVERYWHERE: &str = "vlans = [20]";
const HERE: &str = "vlans = [20]\ninterfaces = [\"trunk\"]";

fn policy(zone: &str) -> String {
    POLICY.replace("interfaces = [\"trunk\"]", zone)
}

/// The router with these devices.
fn look(links: impl IntoIterator<Item = Link>, flowtables: Result<Vec<Flowtable>, String>) -> Look {
    Look {
        facts: Facts::default(),
        seen: Seen {
            links: links.into_iter().collect(),
            flowtables,
        },
    }
}

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        is_up: true,
        ..Link::default()
    }
}

/// `eth2.20` on `eth2`.
fn second() -> [Link; 2] {
    let sub = Link {
        kind: Kind::Vlan(20),
        below: Some(8000),
        ..link(9000, "eth2.20")
    };
    [link(8000, "eth2"), sub]
}

fn sees(house: &mut House, look: Look) {
    house.core.network_seen(look);
    house.core.judge_cover();
}

fn applies(house: &mut House, zone: &str) {
    let bundle = Bundle::from_text("policy.toml", &policy(zone));
    house.core.apply(bundle, None, &by()).unwrap();
    house.core.judge_cover();
}

#[test]
fn a_way_around_is_a_reason_until_it_is_gone() {
    let mut house = House::of(&policy(EVERYWHERE));
    let devices = house.core.view().enforcing_devices();
    sees(&mut house, look(second(), Ok(Vec::new())));
    let said = house.status();
    assert_eq!(said["reasons"].as_array().unwrap().len(), 1, "{said}");
    let reason = said["reasons"][0].as_str().unwrap();
    assert!(reason.contains("on `eth2` (by `eth2.20`)"), "{reason}");
    assert_eq!(said["gaps"][0]["device"], "eth2");
    assert_eq!(said["gaps"][0]["certain"], true);
    // The interface enforces, and the boot guard may be lifted there.
    assert_eq!(said["interfaces"][0]["enforcing"], true);
    assert_eq!(house.core.view().enforcing_devices(), devices);
    let view = house.core.view();
    let counts = view.counts().unwrap();
    assert!(!view.snapshot(None, counts).enforcing);

    applies(&mut house, HERE);
    assert_eq!(house.reasons(), Vec::<String>::new());
    applies(&mut house, EVERYWHERE);
    assert_eq!(house.reasons().len(), 1);
    sees(&mut house, look([link(8000, "eth2")], Ok(Vec::new())));
    assert_eq!(house.reasons(), Vec::<String>::new());
}

#[test]
fn a_card_that_forwards_is_a_reason_of_its_interface() {
    let mut house = House::of(&policy(HERE));
    let table = Flowtable {
        name: "inet fast".to_owned(),
        is_offloaded: true,
        devices: vec!["in".to_owned()],
    };
    sees(&mut house, look([link(8000, "in")], Ok(vec![table])));
    let said = house.status();
    assert_eq!(said["gaps"][0]["interface"], "trunk", "{said}");
    assert_eq!(said["reasons"], said["interfaces"][0]["reasons"], "{said}");
    assert_eq!(said["enforcing"], false);
    sees(&mut house, look([], Err("no answer".to_owned())));
    let said = house.status();
    assert_eq!(said["enforcing"], true);
    let notices = said["notices"].to_string();
    assert!(notices.contains("is not known: no answer"), "{notices}");
}
