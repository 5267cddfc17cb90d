//! `status`: what is enforced, where, since when, and what somebody should look at.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    Page, changes, counted,
    counted::{Shape, decided, networks, zones},
    duration, line, list, moment, text, trial, waiting,
};

/// Changes that are shown, where not all are asked for.
const CHANGES: usize = 3;

pub(in crate::cli) fn status(value: &Value, shape: &Shape<'_>) -> String {
    let mut page = Page(String::new());
    if value["enforcing"] == true {
        line!(
            page,
            "enforcing",
            "by a daemon since {}",
            moment(&value["started_at"])
        );
    } else {
        page.line("NOT ENFORCING", "");
        for reason in list(&value["reasons"]) {
            page.line("because", text(reason));
        }
    }
    for notice in list(&value["notices"]) {
        page.line("NOTICE", text(notice));
    }
    for interface in list(&value["interfaces"]) {
        let attached = match (interface["attached"] == true, interface["by"].as_str()) {
            (true, _) => "attached",
            (false, Some(_)) => "BLIND, the guard drops instead",
            (false, None) => "NOT ATTACHED, or blind",
        };
        line!(
            page,
            "interface",
            "{} ({}), {}, {attached}{}",
            text(&interface["name"]),
            text(&interface["device"]),
            text(&interface["mode"]),
            beside(interface)
        );
    }
    let policy = &value["policy"];
    if policy.is_object() {
        let hash = text(&policy["hash"]);
        page.line("policy", text(&policy["path"]));
        line!(
            page,
            "",
            "hash {}, applied at {}",
            hash.get(..16).unwrap_or(&hash),
            moment(&policy["applied_at"])
        );
        if let Some(words) = trial(&policy["pending_confirm"]) {
            page.line("", words);
        }
        if policy["drift"] == true {
            line!(
                page,
                "",
                "the configured {} differs from it: `kordon apply` makes that live",
                text(&policy["configured"])
            );
        }
    }
    if let Some(problem) = value["state"]["problem"].as_str() {
        line!(page, "NOT KEPT", "{problem}; changes are refused");
    }
    for repaired in list(&value["state"]["repaired"]) {
        page.line("REPAIRED", text(repaired));
    }
    let db = &value["asndb"];
    let age = match db["age_seconds"].as_u64() {
        Some(age) => format!("{} old", duration(age)),
        None => "empty".to_owned(),
    };
    let old = if db["old"] == true { ", TOO OLD" } else { "" };
    line!(
        page,
        "database",
        "{} IPv4 and {} IPv6 prefixes of {} ASNs, {age}{old}",
        db["prefixes_v4"],
        db["prefixes_v6"],
        db["asns"]
    );
    for refused in list(&db["refused_snapshots"]) {
        line!(
            page,
            "DAMAGED",
            "{}; what is older is in use",
            text(refused)
        );
    }
    let update = &db["update"];
    for concern in list(&update["held"]["concerns"]) {
        page.line("HELD BACK", text(&concern["message"]));
    }
    if !update["held"].is_null() {
        let id = text(&update["held"]["id"]);
        line!(
            page,
            "",
            "`kordon asndb diff` shows what changes, `kordon asndb update --accept={id}` takes \
                 it, `kordon asndb discard` forgets it"
        );
    }
    for concern in list(&update["warnings"]["concerns"]) {
        page.line("WARNING", text(&concern["message"]));
    }
    if !update["warnings"].is_null() {
        page.line(
            "",
            "the last update did that; `kordon asndb acknowledge` says that it was seen",
        );
    }
    if !update["failure"].is_null() {
        let failure = &update["failure"];
        line!(
            page,
            "FAILED",
            "update at {}: {}",
            moment(&failure["at"]),
            text(&failure["message"])
        );
    }
    if value["bgp"].is_object() {
        bgp(&mut page, &value["bgp"]);
    }
    zones(&mut page, value, shape);
    decided(&mut page, value, shape);
    networks(&mut page, value, shape);
    for entry in list(&value["overlay"]) {
        let mut words = format!(
            "{} {} in zone {}",
            text(&entry["action"]),
            text(&entry["target"]),
            text(&entry["zone"])
        );
        if !entry["until"].is_null() {
            let _ = write!(words, ", until {}", moment(&entry["until"]));
        }
        if let Some(note) = entry["note"].as_str() {
            let _ = write!(words, " ({note})");
        }
        if entry["matches"] == false {
            words.push_str(", MATCHES NOTHING: the database does not have it");
        }
        page.line("command", words);
    }
    let changed = list(&value["changes"]);
    let shown = changed
        .len()
        .min(if shape.all { usize::MAX } else { CHANGES });
    for change in &changed[..shown] {
        line!(
            page,
            "changed",
            "{} by {}: {}",
            moment(&change["at"]),
            changes::who(change),
            text(&change["command"])
        );
    }
    page.0
}

/// What becomes of frames of no zone there, and what its program was not shown.
fn beside(interface: &Value) -> String {
    let packets = |action: &str| interface["no_zone"][action].as_u64().unwrap_or(0);
    let mut words = match (interface["unknown_vlans"] == "drop", packets("pass")) {
        (true, _) => format!(
            ", frames of no zone are dropped (so far {})",
            packets("drop")
        ),
        (false, 0) => String::new(),
        (false, count) => format!(", {} of no zone passed", counted(count, "frame")),
    };
    if let Some(missed @ 1..) = interface["missed"].as_u64() {
        let _ = write!(words, ", MISSED {} so far", counted(missed, "packet"));
    }
    words
}

fn bgp(page: &mut Page, bgp: &Value) {
    line!(
        page,
        "live BGP",
        "{} IPv4 and {} IPv6 prefixes, {} sessions at {}, {} changes wait",
        bgp["prefixes_v4"],
        bgp["prefixes_v6"],
        list(&bgp["sessions"]).len(),
        text(&bgp["listen"]),
        bgp["waiting"]
    );
    if bgp["behind"] == true {
        page.line(
            "BEHIND",
            "what BGP says now is not enforced yet: see the log",
        );
    }
    for peer in list(&bgp["peers"]) {
        line!(
            page,
            "",
            "{} AS{} ({}{}) {} since {}: {} IPv4 and {} IPv6 routes",
            text(&peer["address"]),
            peer["asn"],
            text(&peer["table"]),
            if peer["only_tightens"] == true {
                ", only tightens"
            } else {
                ""
            },
            text(&peer["state"]),
            moment(&peer["since"]),
            peer["routes_v4"],
            peer["routes_v6"]
        );
    }
    for wait in list(&bgp["waits"]) {
        page.line("waits", waiting(wait));
    }
}
