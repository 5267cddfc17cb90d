//! The ledger's own series: how much of what was counted is in records, and what had no room.

use kordon_ebpf::layout::{Action, Counter};

use super::{
    Snapshot,
    page::{OTHER, Page, Traffic},
};

/// What cameras sent, of those that are shown.
pub(super) fn cameras(page: &Page, snapshot: &Snapshot) {
    let what = "of a zone since the daemon started, by who sent them";
    let traffic = Traffic::new(page, "camera_", what, &["zone", "camera", "action"]);
    for (zone, camera, action, counter) in &snapshot.cameras {
        let camera = camera.as_deref().unwrap_or(OTHER);
        traffic.add(&[zone, camera, action.as_str()], counter);
    }
}

pub(super) fn ledger(page: &Page, snapshot: &Snapshot) {
    let Some(ledger) = &snapshot.ledger else {
        return;
    };
    for (name, what, sums) in [
        (
            "ledger_recorded_",
            "that are in the ledger, by zone",
            &ledger.recorded,
        ),
        (
            "ledger_lost_",
            "that are missing in the ledger because its ring was full, by zone",
            &ledger.lost,
        ),
    ] {
        let traffic = Traffic::new(page, name, what, &["zone", "action"]);
        // So that the first one is an increase, and nothing that is subtracted is missing.
        for zone in &snapshot.zones {
            for action in Action::ALL {
                traffic.add(&[zone, action.as_str()], &Counter::default());
            }
        }
        for (zone, action, counter) in sums {
            traffic.add(&[zone, action.as_str()], counter);
        }
    }
    page.counters(
        "kordon_ledger_records_total",
        "Flows that left their line since the daemon started.",
        [],
        [([], ledger.records)],
    );
    page.counters(
        "kordon_ledger_others_packets_total",
        "Packets that are in the ledger without a destination, because their source had no budget left, or there were more flows than are told apart.",
        [],
        [([], ledger.others)],
    );
    page.gauge(
        "kordon_ledger_lines",
        "Lines that the ledger has for flows, on all processors.",
        ledger.all as f64,
    );
    page.gauge(
        "kordon_ledger_lines_used",
        "Lines that have a flow.",
        ledger.used as f64,
    );
    page.gauge(
        "kordon_ledger_oldest_seconds",
        "How long ago the first packet of the oldest flow in a line came.",
        ledger.oldest,
    );
}
