//! A snapshot as text.

use kordon_ebpf::{
    layout::{Action, Counter, Reason},
    seen::By,
};
use prometheus::{
    Encoder as _, Gauge, GaugeVec, IntCounterVec, Opts, Registry, Result, TextEncoder,
};

use super::{Bgp, Snapshot};
use crate::compile::directory::Identity;

/// What ASNs without a counter of their own are called.
const OTHER: &str = "other";
/// What destinations that nobody announces are called.
const NONE: &str = "none";

/// Two counters with the same labels: packets and bytes.
struct Traffic {
    packets: IntCounterVec,
    bytes: IntCounterVec,
}

impl Traffic {
    fn new(registry: &Registry, name: &str, what: &str, labels: &[&str]) -> Result<Self> {
        Ok(Self {
            packets: counter(
                registry,
                &format!("kordon_{name}packets_total"),
                &format!("Packets {what}."),
                labels,
            )?,
            bytes: counter(
                registry,
                &format!("kordon_{name}bytes_total"),
                &format!("Bytes of frames {what}, as they arrived on the interface."),
                labels,
            )?,
        })
    }

    fn add(&self, labels: &[&str], counter: &Counter) {
        self.packets
            .with_label_values(labels)
            .inc_by(counter.packets);
        self.bytes.with_label_values(labels).inc_by(counter.bytes);
    }
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
    let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
    let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn gauge(registry: &Registry, name: &str, help: &str, value: f64) -> Result<()> {
    let gauge = Gauge::new(name, help)?;
    gauge.set(value);
    registry.register(Box::new(gauge))
}

fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

/// The page, in the text format of Prometheus.
///
/// # Errors
/// When the library refuses a name or label, which a test rules out.
pub fn render(snapshot: &Snapshot) -> Result<String> {
    let registry = Registry::new();
    traffic(&registry, snapshot)?;
    state(&registry, snapshot)?;
    registry.register(Box::new(
        prometheus::process_collector::ProcessCollector::for_self(),
    ))?;
    let mut page = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut page)?;
    String::from_utf8(page).map_err(|e| prometheus::Error::Msg(e.to_string()))
}

fn traffic(registry: &Registry, snapshot: &Snapshot) -> Result<()> {
    let zones = Traffic::new(
        registry,
        "",
        "of a zone, each once, by what became of them",
        &["zone", "action"],
    )?;
    let rules = Traffic::new(
        registry,
        "rule_",
        "that a rule decided",
        &["zone", "rule", "action"],
    )?;
    let asns = Traffic::new(
        registry,
        "asn_",
        "that were dropped or audited, by who announces the destination that decided",
        &["zone", "asn", "country", "action"],
    )?;
    let reasons = counter(
        registry,
        "kordon_reason_packets_total",
        "Packets of a zone that something other than a rule decided.",
        &["zone", "reason", "action"],
    )?;
    let unparsable = counter(
        registry,
        "kordon_unparsable_packets_total",
        "Packets that were not understood or hide where they go, also where that is allowed.",
        &["zone", "reason", "action"],
    )?;
    let strangers = counter(
        registry,
        "kordon_interface_packets_total",
        "Packets that a policed interface dropped or passed without a zone, where that is counted.",
        &["interface", "reason", "action"],
    )?;

    let unpoliced = counter(
        registry,
        "kordon_interface_unpoliced_packets_total",
        "Packets of no zone that a policed interface let pass, by the tag that is seen.",
        &["interface", "tag"],
    )?;
    let passed = counter(
        registry,
        "kordon_interface_passed_packets_total",
        "Packets that went on to the stack, as the XDP program and the guard behind it saw them.",
        &["interface", "by", "tag"],
    )?;

    // A series that starts with its first packet hides that packet from `rate`.
    for zone in &snapshot.zones {
        for action in [Action::Pass, Action::Audit, Action::Drop] {
            zones.add(&[zone, action.as_str()], &Counter::default());
        }
        for reason in Reason::ALL.iter().filter(|reason| reason.is_unparsable()) {
            let labels = [zone, reason.as_str(), Action::Drop.as_str()];
            reasons.with_label_values(&labels);
            unparsable.with_label_values(&labels);
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
                reasons.with_label_values(&labels).inc_by(count.packets);
                if reason.is_unparsable() {
                    unparsable.with_label_values(&labels).inc_by(count.packets);
                }
            }
            Identity::Noted(zone, reason, action) => unparsable
                .with_label_values(&[zone, reason.as_str(), action.as_str()])
                .inc_by(count.packets),
            Identity::Rule(zone, rule, action) => {
                zones.add(&[zone, action.as_str()], count);
                rules.add(&[zone, rule, action.as_str()], count);
            }
            Identity::Asn(zone, None, action) => {
                asns.add(&[zone, NONE, "", action.as_str()], count);
            }
            Identity::Asn(zone, Some(asn), action) => {
                let country = snapshot.countries.get(asn);
                let country = country.map_or_else(String::new, ToString::to_string);
                asns.add(&[zone, &asn.to_string(), &country, action.as_str()], count);
            }
            Identity::OtherAsns(zone, action) => {
                asns.add(&[zone, OTHER, "", action.as_str()], count);
            }
            Identity::Port(interface, reason, action) => strangers
                .with_label_values(&[interface, reason.as_str(), action.as_str()])
                .inc_by(count.packets),
            Identity::Seen(interface, by, kind) => {
                let tag = kind.as_str();
                if *by == By::NoZone {
                    let labels = [interface, tag];
                    unpoliced.with_label_values(&labels).inc_by(count.packets);
                }
                let by = match by {
                    By::NoZone | By::Zone => "xdp",
                    By::Guard => "guard",
                    // The same packets once more.
                    By::GuardWhole => continue,
                };
                let labels = [interface, by, tag];
                passed.with_label_values(&labels).inc_by(count.packets);
            }
        }
    }
    Ok(())
}

fn state(registry: &Registry, snapshot: &Snapshot) -> Result<()> {
    gauge(
        registry,
        "kordon_enforcing",
        "Whether all that the policy asks for is enforced.",
        truth(snapshot.enforcing),
    )?;
    let info = gauges(
        registry,
        "kordon_policy_info",
        "The live policy: always 1.",
        &["hash"],
    )?;
    if let Some(hash) = &snapshot.policy_hash {
        info.with_label_values(&[hash]).set(1.0);
    }
    if let Some(applied) = snapshot.policy_applied {
        gauge(
            registry,
            "kordon_policy_applied_timestamp_seconds",
            "When the live policy was applied, seconds since 1970.",
            applied as f64,
        )?;
    }
    if let Some(apply) = snapshot.apply {
        gauge(
            registry,
            "kordon_policy_apply_seconds",
            "How long the last successful apply took.",
            apply.as_secs_f64(),
        )?;
    }
    let applies = counter(
        registry,
        "kordon_policy_applies_total",
        "Applies, rollbacks and reloads since the daemon started.",
        &["result"],
    )?;
    let (ok, failed) = snapshot.applies;
    applies.with_label_values(&["ok"]).inc_by(ok);
    applies.with_label_values(&["failed"]).inc_by(failed);

    let prefixes = gauges(
        registry,
        "kordon_asndb_prefixes",
        "Prefixes in the ASN database.",
        &["family"],
    )?;
    let (v4, v6) = snapshot.prefixes;
    prefixes.with_label_values(&["ipv4"]).set(v4 as f64);
    prefixes.with_label_values(&["ipv6"]).set(v6 as f64);
    if let Some(age) = snapshot.database_age {
        gauge(
            registry,
            "kordon_asndb_age_seconds",
            "Time since the ASN database was imported.",
            age as f64,
        )?;
    }
    if let Some(old) = snapshot.database_old {
        gauge(
            registry,
            "kordon_asndb_old",
            "Whether the ASN database is older than `max_age_days`.",
            truth(old),
        )?;
    }
    gauge(
        registry,
        "kordon_asndb_snapshots_refused",
        "Snapshots of the ASN database on disk that cannot be read.",
        snapshot.database_refused as f64,
    )?;
    let held = gauges(
        registry,
        "kordon_asndb_update_held",
        "Whether an update of the ASN database is held back for this reason.",
        &["reason"],
    )?;
    for (reason, holds) in &snapshot.database_held {
        held.with_label_values(&[reason]).set(truth(*holds));
    }
    let failing = gauges(
        registry,
        "kordon_asndb_update_failing",
        "Whether the last update of the ASN database failed of this.",
        &["reason"],
    )?;
    for (reason, holds) in &snapshot.database_failing {
        failing.with_label_values(&[reason]).set(truth(*holds));
    }
    let updates = counter(
        registry,
        "kordon_asndb_updates_total",
        "Updates of the ASN database since the daemon started.",
        &["result"],
    )?;
    for (result, count) in &snapshot.database_updates {
        // Without a name there is nothing to show.
        if !result.is_empty() {
            updates.with_label_values(&[result]).inc_by(*count);
        }
    }
    let attached = gauges(
        registry,
        "kordon_interface_attached",
        "Whether the program is on a configured interface, and sees what arrives there.",
        &["interface", "mode"],
    )?;
    for (interface, mode, is_attached) in &snapshot.interfaces {
        let labels = [interface.as_str(), mode];
        attached.with_label_values(&labels).set(truth(*is_attached));
    }
    watched(registry, snapshot)?;
    kept(registry, snapshot)?;
    if let Some(live) = &snapshot.bgp {
        bgp(registry, live)?;
    }
    let build = gauges(
        registry,
        "kordon_build_info",
        "The version that runs: always 1.",
        &["version"],
    )?;
    let version = env!("CARGO_PKG_VERSION");
    build.with_label_values(&[version]).set(1.0);
    Ok(())
}

fn watched(registry: &Registry, snapshot: &Snapshot) -> Result<()> {
    let missed = counter(
        registry,
        "kordon_interface_missed_packets_total",
        "Packets that the program on an interface was not shown as they arrived.",
        &["interface", "how"],
    )?;
    for (interface, how, packets) in &snapshot.missed {
        let labels = [interface.as_str(), how];
        missed.with_label_values(&labels).inc_by(*packets);
    }
    let switched_off = counter(
        registry,
        "kordon_interface_offload_switched_off_total",
        "Times that an offload that hides tags was switched off since the daemon started.",
        &["interface"],
    )?;
    for (interface, times) in &snapshot.switched_off {
        switched_off.with_label_values(&[interface]).inc_by(*times);
    }
    let silent = gauges(
        registry,
        "kordon_zone_silent",
        "Whether a zone had packets and has had none for `silent_after`.",
        &["zone"],
    )?;
    for (zone, is_silent) in &snapshot.silent {
        silent.with_label_values(&[zone]).set(truth(*is_silent));
    }
    Ok(())
}

/// What is on disk of what is live.
fn kept(registry: &Registry, snapshot: &Snapshot) -> Result<()> {
    let lost = gauges(
        registry,
        "kordon_state_lost",
        "Whether what was kept on disk of this part of what was live cannot be read.",
        &["part"],
    )?;
    for (part, is_lost) in &snapshot.state_lost {
        lost.with_label_values(&[part]).set(truth(*is_lost));
    }
    gauge(
        registry,
        "kordon_state_repaired_files",
        "Damaged files of the state folder that were written anew from their copies.",
        snapshot.state_repaired as f64,
    )?;
    gauge(
        registry,
        "kordon_state_writable",
        "Whether changes can be kept on disk, and what is live is kept.",
        truth(snapshot.state_writable),
    )?;
    gauge(
        registry,
        "kordon_policy_trial",
        "Whether the live policy is on trial, and goes unless it is confirmed.",
        truth(snapshot.trial),
    )
}

fn bgp(registry: &Registry, bgp: &Bgp) -> Result<()> {
    let number = |name: &str, help: &str, value: usize| gauge(registry, name, help, value as f64);
    number(
        "kordon_bmp_sessions",
        "Routers that are connected.",
        bgp.sessions,
    )?;
    let peers = gauges(
        registry,
        "kordon_bmp_peers",
        "Tables of BGP peers, by whether they are up; stale ones were silent too long.",
        &["state"],
    )?;
    for (state, count) in bgp.peers {
        if !state.is_empty() {
            peers.with_label_values(&[state]).set(count as f64);
        }
    }
    for (name, help, (v4, v6)) in [
        ("kordon_bmp_routes", "Routes of all BGP peers.", bgp.routes),
        (
            "kordon_bmp_prefixes",
            "Prefixes of live BGP that are in effect.",
            bgp.prefixes,
        ),
    ] {
        let gauge = gauges(registry, name, help, &["family"])?;
        gauge.with_label_values(&["ipv4"]).set(v4 as f64);
        gauge.with_label_values(&["ipv6"]).set(v6 as f64);
    }
    number(
        "kordon_bmp_waiting",
        "Changes of live BGP that would loosen and wait for the hold time.",
        bgp.waiting,
    )?;
    if let Some(apply) = bgp.apply {
        gauge(
            registry,
            "kordon_bmp_apply_seconds",
            "How long the last changes of live BGP took to be in the kernel.",
            apply.as_secs_f64(),
        )?;
    }
    let counts = &bgp.counts;
    for (name, help, value) in [
        (
            "kordon_bmp_messages_total",
            "BMP messages.",
            counts.messages,
        ),
        (
            "kordon_bmp_updates_total",
            "BGP UPDATEs in BMP messages.",
            counts.updates,
        ),
        (
            "kordon_bmp_treated_as_withdraw_total",
            "BGP UPDATEs with a bad attribute, treated as withdrawals (RFC 7606).",
            counts.withdrawals,
        ),
        (
            "kordon_bmp_changes_total",
            "Changes of prefixes by live BGP that took effect.",
            counts.changes,
        ),
        (
            "kordon_bmp_held_total",
            "Changes of live BGP that had to wait.",
            counts.held,
        ),
        (
            "kordon_bmp_apply_failures_total",
            "Times that changes of live BGP could not be brought to the kernel at once.",
            bgp.failures,
        ),
        (
            "kordon_bmp_in_place_total",
            "Changes of live BGP that came into the kernel's table in place, without a new one.",
            bgp.in_place,
        ),
    ] {
        let counter = prometheus::IntCounter::new(name, help)?;
        counter.inc_by(value);
        registry.register(Box::new(counter))?;
    }
    let sessions = counter(
        registry,
        "kordon_bmp_sessions_total",
        "BMP sessions since the daemon started, by what became of them.",
        &["result"],
    )?;
    for (result, value) in [
        ("accepted", counts.sessions),
        ("refused", bgp.refused),
        ("malformed", counts.errors),
        ("silent", counts.silent),
    ] {
        sessions.with_label_values(&[result]).inc_by(value);
    }
    let ignored = counter(
        registry,
        "kordon_bmp_ignored_total",
        "What came by BMP and does not count: UPDATEs of Adj-RIB-Out, other routes.",
        &["kind"],
    )?;
    for (kind, value) in [
        ("adj-rib-out", counts.adj_rib_out),
        ("other-routes", counts.other_routes),
    ] {
        ignored.with_label_values(&[kind]).inc_by(value);
    }
    Ok(())
}
