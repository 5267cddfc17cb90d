//! A snapshot as text: packets, by what became of them. What the daemon itself is doing is in
//! [`state`](super::state).

use kordon_ebpf::{
    layout::{Action, Counter, Reason},
    seen::{By, Kind},
};
use prometheus::{Result, TextEncoder, core::Collector as _, process_collector::ProcessCollector};

use super::{
    Snapshot,
    evidence::evidence,
    ledger::{cameras, ledger},
    page::{OTHER, Page, Traffic},
    state::state,
};
use crate::compile::directory::Identity;

/// What destinations that nobody announces are called.
const NONE: &str = "none";

/// The page, in the text format of Prometheus.
///
/// # Errors
/// When the library refuses a name or label, which a test rules out.
pub fn render(snapshot: &Snapshot) -> Result<String> {
    let page = Page::default();
    traffic(&page, snapshot);
    names(&page, snapshot);
    state(&page, snapshot);
    cameras(&page, snapshot);
    ledger(&page, snapshot);
    evidence(&page, snapshot);
    let mut families = page.families();
    families.extend(ProcessCollector::for_self().collect());
    TextEncoder::new().encode_to_string(&families)
}

/// What an ASN is called, and where it is registered; empty where that is not known.
fn network(snapshot: &Snapshot, asn: u32) -> (&str, String) {
    let info = snapshot.networks.get(&asn);
    let country = info.and_then(|info| info.country);
    (
        info.map_or("", |info| &info.name),
        country.map_or_else(String::new, |country| country.to_string()),
    )
}

/// A series for each ASN that has counters on the page, to be joined with these.
fn names(page: &Page, snapshot: &Snapshot) {
    let info = page.labelled(
        "kordon_asn_info",
        "What an ASN that has counters here is called, and where it is registered: always 1.",
        &["asn", "name", "country"],
    );
    for (identity, _) in &snapshot.counters {
        let (asn, name, country) = match identity {
            Identity::Asn(_, Some(asn), _) => {
                let (name, country) = network(snapshot, *asn);
                (asn.to_string(), name, country)
            }
            Identity::Asn(_, None, _) => (NONE.to_owned(), "announced by nobody", String::new()),
            Identity::OtherAsns(..) => (OTHER.to_owned(), "all others", String::new()),
            _ => continue,
        };
        info.set(&[&asn, name, &country], 1.0);
    }
}

fn traffic(page: &Page, snapshot: &Snapshot) {
    let zones = Traffic::new(
        page,
        "",
        "of a zone, each once, by what became of them",
        &["zone", "action"],
    );
    let rules = Traffic::new(
        page,
        "rule_",
        "that a rule decided",
        &["zone", "rule", "action"],
    );
    let asns = Traffic::new(
        page,
        "asn_",
        "that were dropped or audited, by who announces the destination that decided",
        &["zone", "asn", "country", "action"],
    );
    let reasons = page.counter(
        "kordon_reason_packets_total",
        "Packets of a zone that something other than a rule decided.",
        &["zone", "reason", "action"],
    );
    let unparsable = page.counter(
        "kordon_unparsable_packets_total",
        "Packets that were not understood or hide where they go, also where that is allowed.",
        &["zone", "reason", "action"],
    );
    let strangers = page.counter(
        "kordon_interface_packets_total",
        "Packets that a policed interface dropped or passed without a zone, where that is counted.",
        &["interface", "reason", "action"],
    );

    let unpoliced = page.counter(
        "kordon_interface_unpoliced_packets_total",
        "Packets of no zone that a policed interface let pass, by the tag that is seen.",
        &["interface", "tag"],
    );
    let passed = page.counter(
        "kordon_interface_passed_packets_total",
        "Packets that went on to the stack, as the XDP program and the guard behind it saw them.",
        &["interface", "by", "tag"],
    );

    let stopped = page.counter(
        "kordon_guard_dropped_packets_total",
        "Packets that the guard dropped, because they got past the XDP program; they are among those of their zones, too.",
        &["interface", "tag"],
    );

    let missed = page.counter(
        "kordon_missed_packets_total",
        "Packets of a zone that got past the XDP program of an interface, and were dropped by the guard behind it.",
        &["interface", "zone"],
    );

    // A series that starts with its first packet hides that packet from `rate`.
    for (interface, ..) in &snapshot.interfaces {
        for kind in Kind::ALL {
            stopped.add(&[interface, kind.as_str()], 0);
        }
        for zone in &snapshot.zones {
            missed.add(&[interface, zone], 0);
        }
    }
    for zone in &snapshot.zones {
        for action in [Action::Pass, Action::Audit, Action::Drop] {
            zones.add(&[zone, action.as_str()], &Counter::default());
        }
        for reason in Reason::ALL.iter().filter(|reason| reason.is_unparsable()) {
            let labels = [zone, reason.as_str(), Action::Drop.as_str()];
            reasons.add(&labels, 0);
            unparsable.add(&labels, 0);
        }
    }
    for (zone, rule, action) in &snapshot.rules {
        rules.add(&[zone, rule, action.as_str()], &Counter::default());
    }
    for (identity, count) in &snapshot.counters {
        match identity {
            Identity::Zone(zone, reason, action) => {
                let labels = [zone, reason.as_str(), action.as_str()];
                zones.add(&[zone, action.as_str()], count);
                reasons.add(&labels, count.packets);
                if reason.is_unparsable() {
                    unparsable.add(&labels, count.packets);
                }
            }
            Identity::Noted(zone, reason, action) => {
                unparsable.add(&[zone, reason.as_str(), action.as_str()], count.packets);
            }
            Identity::Rule(zone, rule, action) => {
                zones.add(&[zone, action.as_str()], count);
                rules.add(&[zone, rule, action.as_str()], count);
            }
            Identity::Asn(zone, None, action) => {
                asns.add(&[zone, NONE, "", action.as_str()], count);
            }
            Identity::Asn(zone, Some(asn), action) => {
                let (_, country) = network(snapshot, *asn);
                asns.add(&[zone, &asn.to_string(), &country, action.as_str()], count);
            }
            Identity::OtherAsns(zone, action) => {
                asns.add(&[zone, OTHER, "", action.as_str()], count);
            }
            Identity::Port(interface, reason, action) => strangers.add(
                &[interface, reason.as_str(), action.as_str()],
                count.packets,
            ),
            Identity::Stopped(interface, zone) => missed.add(&[interface, zone], count.packets),
            Identity::Seen(interface, by, kind) => {
                let tag = kind.as_str();
                if *by == By::Stopped {
                    let labels = [interface, tag];
                    stopped.add(&labels, count.packets);
                }
                if *by == By::NoZone {
                    let labels = [interface, tag];
                    unpoliced.add(&labels, count.packets);
                }
                let by = match by {
                    By::NoZone | By::Zone => "xdp",
                    By::Guard => "guard",
                    // The same packets once more.
                    By::GuardWhole | By::Stopped => continue,
                };
                let labels = [interface, by, tag];
                passed.add(&labels, count.packets);
            }
        }
    }
}
