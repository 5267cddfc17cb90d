//! `status`: what is enforced, where, since when, and what somebody should look at.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    Page, changes, counted,
    counted::{SHORT, Shape, decided, networks, zones},
    duration, line, list, moment, text, trial, waiting,
};

/// Changes that are shown, where not all are asked for.
const CHANGES: usize = 3;
/// The same of interfaces that are in order.
const INTERFACES: usize = 8;

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
    let is_loud = |interface: &Value| {
        interface["enforcing"] != true
            || interface["missed"].as_u64().is_some_and(|count| count > 0)
    };
    let (interfaces, more) = shape.some(list(&value["interfaces"]), INTERFACES, is_loud);
    for interface in interfaces {
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
    if more > 0 {
        let words = counted(more as u64, "more interface");
        line!(page, "", "{words} without anything to look at: `--brief`");
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
    if let Some(words) = evidence(&value["evidence"]) {
        page.line("evidence", words);
    }
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
        bgp(&mut page, &value["bgp"], shape);
    }
    zones(&mut page, value, shape);
    decided(&mut page, value, shape);
    networks(&mut page, value, shape);
    // The newest come first.
    let is_loud = |entry: &Value| entry["matches"] == false;
    let (entries, more) = shape.some(list(&value["overlay"]), SHORT, is_loud);
    for entry in entries {
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
    if more > 0 {
        line!(page, "", "{more} more of `block` and `allow`: `--all`");
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

fn bgp(page: &mut Page, bgp: &Value, shape: &Shape<'_>) {
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
    let is_loud = |peer: &Value| peer["state"] != "up";
    let (peers, more) = shape.some(list(&bgp["peers"]), SHORT, is_loud);
    for peer in peers {
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
    if more > 0 {
        line!(page, "", "{}: `--all`", counted(more as u64, "more peer"));
    }
    let (waits, more) = shape.some(list(&bgp["waits"]), SHORT, |_| false);
    for wait in waits {
        page.line("waits", waiting(wait));
    }
    if more > 0 {
        line!(page, "", "{}: `--all`", counted(more as u64, "more change"));
    }
}

/// How it stands with the log of evidence; nothing where there is none, which another line says where it is asked for.
fn evidence(value: &Value) -> Option<String> {
    let (records, signed) = (value["records"].as_u64()?, value["signed"].as_u64()?);
    let mut words = counted(records, "record");
    words += &match records.saturating_sub(signed) {
        0 => ", all signed".to_owned(),
        more => format!(", the last {more} not signed yet"),
    };
    words += &match value["witnessed"].is_null() {
        true => ", none brought outside".to_owned(),
        false => format!(", brought outside at {}", moment(&value["witnessed"])),
    };
    for to in list(&value["forward"]) {
        let behind = to["records"]
            .as_u64()
            .map(|sent| records.saturating_sub(sent));
        let stands = match (to["failing"] == true, behind) {
            (true, _) => "FAILS".to_owned(),
            (false, Some(behind)) => format!("{behind} on their way"),
            (false, None) => "not known yet".to_owned(),
        };
        words += &format!("; {}: {stands}", text(&to["to"]));
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A router with everything, many times: what is in order does not hide what is not.
    #[test]
    fn a_large_router_is_a_short_page() {
        let interfaces: Vec<Value> = (0..48)
            .map(|n| {
                let is_bad = n == 40;
                json!({"name": format!("i{n}"), "device": format!("eth{n}"), "mode": "native",
                    "attached": !is_bad, "by": if is_bad { None } else { Some("xdp") },
                    "enforcing": !is_bad, "missed": u32::from(n == 41),
                    "no_zone": {"pass": 0, "drop": 0}})
            })
            .collect();
        let overlay: Vec<Value> = (0..200)
            .map(|n| {
                json!({"action": "block", "target": format!("AS{n}"), "zone": "*", "until": null,
                    "note": null, "matches": n != 150})
            })
            .collect();
        let peers: Vec<Value> = (0..30)
            .map(|n| {
                json!({"address": "192.0.2.1", "asn": n, "table": "post-policy",
                    "state": if n == 20 { "down" } else { "up" }})
            })
            .collect();
        let value = json!({
            "enforcing": false, "reasons": ["`eth40` is not attached"], "notices": [],
            "interfaces": interfaces, "overlay": overlay, "asndb": {},
            "bgp": {"sessions": [], "peers": peers, "waits": vec![json!({}); 20], "waiting": 20},
        });
        let short = status(&value, &Shape::default());
        assert!(short.starts_with("NOT ENFORCING\nbecause     `eth40` is not attached\n"));
        assert!(short.lines().count() < 45, "{short}");
        for words in [
            "i40 (eth40), native, NOT ATTACHED, or blind",
            "i41 (eth41), native, attached, MISSED 1 packet so far",
            "            38 more interfaces without anything to look at: `--brief`",
            "block AS150 in zone *, MATCHES NOTHING",
            "            194 more of `block` and `allow`: `--all`",
            "AS20 (post-policy) down",
            "            24 more peers: `--all`",
            "            15 more changes: `--all`",
        ] {
            assert!(
                short.lines().any(|line| line.contains(words)),
                "{words}\n{short}"
            );
        }
        let all = Shape {
            all: true,
            before: None,
        };
        assert!(status(&value, &all).lines().count() > 290);
    }
}
