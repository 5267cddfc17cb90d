//! A ledger that somebody does not let go: whoever writes the log of evidence waits for a disk with it in his hands.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kordon_ebpf::layout::Action;
use serde_json::Value;

use super::{House, import};

#[test]
fn nobody_else_waits_for_it() {
    let mut house = House::new();
    let ledger = Arc::clone(house.core.ledger.as_ref().unwrap());
    let held = ledger.lock().unwrap();
    let start = Instant::now();
    let status = house.status();
    assert_eq!(status["books"], Value::Null);
    assert_eq!(house.reasons(), Vec::<String>::new());
    let refused = house.core.view().at_ledger(|_| ()).unwrap_err();
    assert!(refused.message.contains("has the ledger for long"));
    // A change that names flows anew, once somebody lets go.
    import(&mut house.core).unwrap();
    house.core.name_flows();
    let named = house.core.names.clone().unwrap();
    assert_eq!(house.judges("203.0.113.10"), Action::Drop);
    // Another one does not wait for the one before.
    import(&mut house.core).unwrap();
    house.core.name_flows();
    assert!(named.is(house.core.names.as_ref().unwrap()));
    assert!(start.elapsed() < Duration::from_secs(20));
    drop(held);
    while house.status()["books"].is_null() || named.is(house.core.names.as_ref().unwrap()) {
        assert!(start.elapsed() < Duration::from_secs(60));
        house.core.name_flows();
    }
}
