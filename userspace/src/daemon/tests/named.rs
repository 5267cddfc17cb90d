//! The name of a flow explains its verdict, whatever has changed since.

use std::sync::Arc;

use kordon_ebpf::layout::{
    Action, FLOW_JUDGED_SHIFT, FLOW_READABLE, FLOW_SLOT, Flow, Judged, Reason,
};

use super::{House, by, import};
use crate::{
    compile::directory::Identity, daemon::named::Names, ledger::network::Naming as _,
    policy::Bundle,
};

/// The first addresses are AS64501's, as it was imported.
const TO: [u8; 4] = [203, 0, 113, 10];

/// Whose a packet from 10.20.0.5 is, with what became of it.
fn asn(names: &Names, identity: &Identity) -> Option<u32> {
    let slot = (0..FLOW_SLOT as u32)
        .find(|slot| names.directory.identity(*slot).as_ref() == Some(identity))
        .unwrap();
    let word = |address: [u8; 4]| u64::from(u32::from_ne_bytes(address));
    let flow = Flow {
        addresses: [word(TO) << 32 | word([10, 20, 0, 5]), 0, 0, 0],
        sender: 0,
        identity: u64::from(slot)
            | (Judged::Destination as u64) << FLOW_JUDGED_SHIFT
            | FLOW_READABLE,
    };
    names.look().unwrap().network(&flow).asn()
}

fn dropped() -> Identity {
    Identity::Rule("cameras".into(), "bad".into(), Action::Drop)
}

fn passed() -> Identity {
    Identity::Zone("cameras".into(), Reason::Default, Action::Pass)
}

fn names(house: &mut House) -> Arc<Names> {
    house.core.name_flows();
    house.core.names.clone().unwrap()
}

/// Flows that are under way while one takes the other's place.
fn between(before: Arc<Names>, after: &Names) -> Names {
    Names {
        before: Some(before),
        ..after.clone()
    }
}

#[test]
fn a_route_that_changed_does_not_rename_what_was_judged_before() {
    let mut house = House::new();
    let was = names(&mut house);
    assert_eq!(asn(&was, &passed()), Some(64501));
    house.announce("203.0.113.0/25", 64502);
    house.core.catch_up(true);
    let now = names(&mut house);
    assert_eq!(asn(&now, &passed()), Some(64502));
    house.announce("203.0.113.0/24", 64500);
    house.announce("203.0.113.0/25", 64500);
    house.core.catch_up(true);
    let now = names(&mut house);
    assert_eq!(asn(&now, &dropped()), Some(64500));
    assert_eq!(
        asn(&now, &passed()),
        Some(64502),
        "it would have been dropped"
    );
}

#[test]
fn a_database_that_changed_does_not_rename_what_was_judged_before() {
    let mut house = House::new();
    let before = names(&mut house);
    import(&mut house.core).unwrap();
    let after = names(&mut house);
    // What was judged by either before somebody came to name it.
    let both = between(before, &after);
    assert_eq!(asn(&both, &passed()), Some(64501));
    assert_eq!(asn(&both, &dropped()), Some(64500));
    assert_eq!(asn(&after, &dropped()), Some(64500));
}

#[test]
fn a_policy_that_changed_does_not_rename_what_was_judged_before() {
    let mut house = House::new();
    house.announce("203.0.113.0/24", 64502);
    house.core.catch_up(true);
    let before = names(&mut house);
    assert_eq!(asn(&before, &passed()), Some(64502));
    let policy = super::POLICY.replace("64500", "64502");
    let bundle = Bundle::from_text("policy.toml", &policy);
    house.core.apply(bundle, None, &by()).unwrap();
    let after = names(&mut house);
    let both = between(before, &after);
    assert_eq!(asn(&both, &passed()), Some(64502), "nobody else had it");
    assert_eq!(asn(&both, &dropped()), Some(64502));
}
