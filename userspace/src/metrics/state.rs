//! A snapshot as text: what the daemon enforces and knows, and what is wrong with it.

use super::{Bgp, Snapshot, page::Page};

pub(super) fn truth(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

/// A series for each of some names, and whether it is so.
pub(super) fn truths<'a>(
    all: impl IntoIterator<Item = (&'a str, bool)>,
) -> impl Iterator<Item = ([&'a str; 1], f64)> {
    all.into_iter().map(|(name, is_so)| ([name], truth(is_so)))
}

/// Both families of addresses.
fn families((v4, v6): (u64, u64)) -> [([&'static str; 1], f64); 2] {
    [(["ipv4"], v4 as f64), (["ipv6"], v6 as f64)]
}

pub(super) fn state(page: &Page, snapshot: &Snapshot) {
    page.gauge(
        "kordon_enforcing",
        "Whether all that the policy asks for is enforced.",
        truth(snapshot.enforcing),
    );
    page.gauges(
        "kordon_policy_info",
        "The live policy: always 1.",
        ["hash"],
        snapshot.policy_hash.iter().map(|hash| ([&**hash], 1.0)),
    );
    page.gauge(
        "kordon_policy_applied_timestamp_seconds",
        "When the live policy was applied, seconds since 1970.",
        snapshot.policy_applied.map(|at| at as f64),
    );
    page.gauge(
        "kordon_policy_apply_seconds",
        "How long the last successful apply took.",
        snapshot.apply.map(|took| took.as_secs_f64()),
    );
    let (ok, failed) = snapshot.applies;
    page.counters(
        "kordon_policy_applies_total",
        "Applies, rollbacks and reloads since the daemon started.",
        ["result"],
        [(["ok"], ok), (["failed"], failed)],
    );
    page.gauge(
        "kordon_policy_trial",
        "Whether the live policy is on trial, and goes unless it is confirmed.",
        truth(snapshot.trial),
    );
    database(page, snapshot);
    interfaces(page, snapshot);
    kept(page, snapshot);
    if let Some(live) = &snapshot.bgp {
        bgp(page, live);
    }
    page.gauges(
        "kordon_build_info",
        "The version that runs: always 1.",
        ["version"],
        [([env!("CARGO_PKG_VERSION")], 1.0)],
    );
}

fn database(page: &Page, snapshot: &Snapshot) {
    page.gauges(
        "kordon_asndb_prefixes",
        "Prefixes in the ASN database.",
        ["family"],
        families(snapshot.prefixes),
    );
    page.gauge(
        "kordon_asndb_age_seconds",
        "Time since the ASN database was imported.",
        snapshot.database_age.map(|age| age as f64),
    );
    page.gauge(
        "kordon_asndb_old",
        "Whether the ASN database is older than `max_age_days`.",
        snapshot.database_old.map(truth),
    );
    page.gauge(
        "kordon_asndb_snapshots_refused",
        "Snapshots of the ASN database on disk that cannot be read.",
        snapshot.database_refused as f64,
    );
    page.gauges(
        "kordon_asndb_update_held",
        "Whether an update of the ASN database is held back for this reason.",
        ["reason"],
        truths(snapshot.database_held.iter().copied()),
    );
    page.gauges(
        "kordon_asndb_update_failing",
        "Whether the last update of the ASN database failed of this.",
        ["reason"],
        truths(snapshot.database_failing.iter().copied()),
    );
    let updates = snapshot.database_updates.iter();
    // Without a name there is nothing to show.
    let updates = updates.filter(|(result, _)| !result.is_empty());
    page.counters(
        "kordon_asndb_updates_total",
        "Updates of the ASN database since the daemon started.",
        ["result"],
        updates.map(|(result, count)| ([*result], *count)),
    );
}

fn interfaces(page: &Page, snapshot: &Snapshot) {
    let attached = snapshot.interfaces.iter();
    page.gauges(
        "kordon_interface_attached",
        "Whether the program is on a configured interface, and sees what arrives there.",
        ["interface", "mode"],
        attached.map(|(name, mode, is_attached)| ([&**name, mode], truth(*is_attached))),
    );
    let missed = snapshot.missed.iter();
    page.counters(
        "kordon_interface_missed_packets_total",
        "Packets that the program on an interface was not shown as they arrived.",
        ["interface", "how"],
        missed.map(|(name, how, packets)| ([&**name, how], *packets)),
    );
    let switched_off = snapshot.switched_off.iter();
    page.counters(
        "kordon_interface_offload_switched_off_total",
        "Times that an offload that hides tags was switched off since the daemon started.",
        ["interface"],
        switched_off.map(|(name, times)| ([&**name], *times)),
    );
    let held = snapshot.held.iter();
    page.gauges(
        "kordon_boot_guard_holding",
        "Whether nothing from an interface is forwarded since it does not enforce after a boot.",
        ["interface"],
        truths(held.map(|(name, is_held)| (&**name, *is_held))),
    );
    let silent = snapshot.silent.iter();
    page.gauges(
        "kordon_zone_silent",
        "Whether a zone had packets and has had none for `silent_after`.",
        ["zone"],
        truths(silent.map(|(zone, is_silent)| (&**zone, *is_silent))),
    );
}

/// What is on disk of what is live.
fn kept(page: &Page, snapshot: &Snapshot) {
    page.gauges(
        "kordon_state_lost",
        "Whether what was kept on disk of this part of what was live cannot be read.",
        ["part"],
        truths(snapshot.state_lost.iter().copied()),
    );
    page.gauge(
        "kordon_state_repaired_files",
        "Damaged files of the state folder that were written anew from their copies.",
        snapshot.state_repaired as f64,
    );
    page.gauge(
        "kordon_state_writable",
        "Whether changes can be kept on disk, and what is live is kept.",
        truth(snapshot.state_writable),
    );
}

fn bgp(page: &Page, bgp: &Bgp) {
    let size = |(v4, v6): (usize, usize)| families((v4 as u64, v6 as u64));
    page.gauge(
        "kordon_bmp_sessions",
        "Routers that are connected.",
        bgp.sessions as f64,
    );
    let peers = bgp.peers.iter().filter(|(state, _)| !state.is_empty());
    page.gauges(
        "kordon_bmp_peers",
        "Tables of BGP peers, by whether they are up; stale ones were silent too long.",
        ["state"],
        peers.map(|(state, count)| ([*state], *count as f64)),
    );
    page.gauges(
        "kordon_bmp_routes",
        "Routes of all BGP peers.",
        ["family"],
        size(bgp.routes),
    );
    page.gauges(
        "kordon_bmp_prefixes",
        "Prefixes of live BGP that are in effect.",
        ["family"],
        size(bgp.prefixes),
    );
    page.gauge(
        "kordon_bmp_waiting",
        "Changes of live BGP that would loosen and wait for the hold time.",
        bgp.waiting as f64,
    );
    page.gauge(
        "kordon_bmp_apply_seconds",
        "How long the last changes of live BGP took to be in the kernel.",
        bgp.apply.map(|took| took.as_secs_f64()),
    );
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
        page.counters(name, help, [], [([], value)]);
    }
    page.counters(
        "kordon_bmp_sessions_total",
        "BMP sessions since the daemon started, by what became of them.",
        ["result"],
        [
            (["accepted"], counts.sessions),
            (["refused"], bgp.refused),
            (["malformed"], counts.errors),
            (["silent"], counts.silent),
        ],
    );
    page.counters(
        "kordon_bmp_ignored_total",
        "What came by BMP and does not count: UPDATEs of Adj-RIB-Out, other routes.",
        ["kind"],
        [
            (["adj-rib-out"], counts.adj_rib_out),
            (["other-routes"], counts.other_routes),
        ],
    );
}
