//! Answers for people. What is here may change; `--json` is for scripts.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use serde_json::Value;

use crate::judge::Row;

/// `1 rule`, `2 rules`
pub(super) fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// `5 min`, `3 days`: in the unit that says enough.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", count / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", count / 1_000_000),
        _ => format!("{} GB", count / 1_000_000_000),
    }
}

/// A value's text without quotes; `-` where there is none.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A moment to the second.
pub(super) fn moment(value: &Value) -> String {
    let text = text(value);
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) => moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => text,
    }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) struct Page(pub(super) String);

impl Page {
    pub(super) fn line(&mut self, name: &str, words: impl fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{name:<11} {words}");
    }
}

/// That a policy goes by itself, and when; `None`: it does not.
pub(super) fn trial(until: &Value) -> Option<String> {
    let words = |until| format!("ON TRIAL until {until}: `kordon confirm` keeps it");
    (!until.is_null()).then(|| words(moment(until)))
}

pub(super) fn status(value: &Value) -> String {
    let mut page = Page(String::new());
    if value["enforcing"] == true {
        page.line(
            "enforcing",
            format!("by a daemon since {}", moment(&value["started_at"])),
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
        let attached = if interface["attached"] == true {
            "attached"
        } else {
            "NOT ATTACHED, or blind"
        };
        page.line(
            "interface",
            format!(
                "{} ({}), {}, {attached}{}",
                text(&interface["name"]),
                text(&interface["device"]),
                text(&interface["mode"]),
                match interface["unknown_vlans"] == "drop" {
                    true => ", frames of no zone are dropped",
                    false => "",
                }
            ),
        );
    }
    let policy = &value["policy"];
    if policy.is_object() {
        let hash = text(&policy["hash"]);
        page.line("policy", text(&policy["path"]));
        page.line(
            "",
            format!(
                "hash {}, applied at {}",
                hash.get(..16).unwrap_or(&hash),
                moment(&policy["applied_at"])
            ),
        );
        if let Some(words) = trial(&policy["pending_confirm"]) {
            page.line("", words);
        }
        if policy["drift"] == true {
            page.line(
                "",
                format!(
                    "the configured {} differs from it: `kordon apply` makes that live",
                    text(&policy["configured"])
                ),
            );
        }
    }
    if let Some(problem) = value["state"]["problem"].as_str() {
        page.line("NOT KEPT", format!("{problem}; changes are refused"));
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
    page.line(
        "database",
        format!(
            "{} IPv4 and {} IPv6 prefixes of {} ASNs, {age}{old}",
            db["prefixes_v4"], db["prefixes_v6"], db["asns"]
        ),
    );
    for refused in list(&db["refused_snapshots"]) {
        page.line(
            "DAMAGED",
            format!("{}; what is older is in use", text(refused)),
        );
    }
    let update = &db["update"];
    for concern in list(&update["held"]["concerns"]) {
        page.line("HELD BACK", text(&concern["message"]));
    }
    if !update["held"].is_null() {
        let id = text(&update["held"]["id"]);
        page.line(
            "",
            format!(
                "`kordon asndb diff` shows what changes, `kordon asndb update --accept={id}` takes \
                 it, `kordon asndb discard` forgets it"
            ),
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
        page.line(
            "FAILED",
            format!(
                "update at {}: {}",
                moment(&failure["at"]),
                text(&failure["message"])
            ),
        );
    }
    if value["bgp"].is_object() {
        bgp(&mut page, &value["bgp"]);
    }
    for zone in list(&value["zones"]) {
        let mut words = format!("{}:", text(&zone["name"]));
        for action in ["drop", "audit", "pass"] {
            let _ = write!(
                words,
                " {action} {} ({}){}",
                zone["packets"][action],
                bytes(zone["bytes"][action].as_u64().unwrap_or(0)),
                if action == "pass" { "" } else { "," }
            );
        }
        page.line("zone", words);
    }
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
    page.0
}

fn origins(value: &Value) -> String {
    let all: Vec<String> = list(value).iter().map(|asn| format!("AS{asn}")).collect();
    if all.is_empty() {
        "nobody".to_owned()
    } else {
        all.join(", ")
    }
}

fn bgp(page: &mut Page, bgp: &Value) {
    page.line(
        "live BGP",
        format!(
            "{} IPv4 and {} IPv6 prefixes, {} sessions at {}, {} changes wait",
            bgp["prefixes_v4"],
            bgp["prefixes_v6"],
            list(&bgp["sessions"]).len(),
            text(&bgp["listen"]),
            bgp["waiting"],
        ),
    );
    if bgp["behind"] == true {
        page.line(
            "BEHIND",
            "what BGP says now is not enforced yet: see the log",
        );
    }
    for peer in list(&bgp["peers"]) {
        page.line(
            "",
            format!(
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
                peer["routes_v6"],
            ),
        );
    }
    for wait in list(&bgp["waits"]) {
        page.line("waits", waiting(wait));
    }
}

/// Who announces a prefix of live BGP.
fn announced(live: &serde_json::Map<String, Value>) -> String {
    let peers: Vec<String> = list(&live["peers"]).iter().map(text).collect();
    format!(
        "{} by {} from {}, live since {}",
        text(&live["prefix"]),
        origins(&live["origins"]),
        peers.join(", "),
        moment(&live["since"]),
    )
}

fn waiting(wait: &Value) -> String {
    format!(
        "{}: {} in effect, {} since {}, for another {}",
        text(&wait["prefix"]),
        origins(&wait["current"]),
        origins(&wait["wanted"]),
        moment(&wait["since"]),
        duration(wait["seconds_left"].as_u64().unwrap_or(0)),
    )
}

pub(super) fn changed(value: &Value) -> String {
    let hash = text(&value["hash"]);
    let hash = hash.get(..16).unwrap_or(&hash);
    if value["changed"] != true {
        if value["hash"].is_null() {
            return "nothing to change\n".to_owned();
        }
        return match value["recorded"] == true {
            true => format!("kept; what is enforced stays the same: policy {hash}\n"),
            false => format!("nothing to change: policy {hash} is live already\n"),
        };
    }
    let mut out = format!(
        "live: policy {hash}, generation {}, after {} ms{}\n",
        value["generation"],
        value["apply_ms"],
        if value["table_written"] == true {
            ", with a new table"
        } else {
            ""
        }
    );
    if value["returned_to"].is_object() {
        out += &returned(&value["returned_to"]);
    }
    out
}

/// What a rollback led to, and what it left.
fn returned(to: &Value) -> String {
    let mut out = format!(
        "back to policy {} ({}) of {}\n",
        to["number"],
        text(&to["path"]),
        moment(&to["applied_at"])
    );
    if let Some(entries @ 1..) = to["entries"].as_u64() {
        let entries = match entries {
            1 => "an entry".to_owned(),
            count => format!("{count} entries"),
        };
        let _ = writeln!(
            out,
            "{entries} of `block` and `allow` stayed: `kordon status` has them, `kordon unblock` ends them"
        );
    }
    if let Some(command) = to["last_change"].as_str() {
        let _ = writeln!(
            out,
            "the last change was `kordon {command}`, which is still live: `kordon unblock` undoes that"
        );
    }
    out
}

pub(super) fn detached(value: &Value) -> String {
    let mut out = format!(
        "detached: nothing is enforced any more by what was pinned at {}\n",
        text(&value["bpffs"])
    );
    for path in list(&value["left"]) {
        let _ = writeln!(out, "left, because kordon did not make it: {}", text(path));
    }
    out
}

/// Changes, and the policies that are kept, both newest first.
pub(super) fn history(value: &Value) -> String {
    let short = |hash: &Value| match hash.as_str() {
        // As in `status`.
        Some(hash) => hash.get(..16).unwrap_or(hash).to_owned(),
        None => "-".to_owned(),
    };
    let mut out = String::new();
    for change in list(&value["changes"]) {
        let user = match (change["user"].as_str(), change["login"].as_str()) {
            (Some(user), Some(login)) => format!("{user} ({login})"),
            (Some(user), None) => user.to_owned(),
            (None, _) => "the daemon".to_owned(),
        };
        let policy = change["policy"].as_u64().map(|number| number.to_string());
        let _ = writeln!(
            out,
            "{}  {user:<12} {:>4}  {} > {}  {}",
            moment(&change["at"]),
            policy.as_deref().unwrap_or("-"),
            short(&change["old"]),
            short(&change["new"]),
            text(&change["command"]),
        );
    }
    out.push_str("policies that are kept:\n");
    for entry in list(&value["history"]) {
        let live = if entry["live"] == true { "live" } else { "" };
        let _ = writeln!(
            out,
            "{:>5} {live:<4} {}  {}  {}",
            entry["number"],
            moment(&entry["applied_at"]),
            short(&entry["hash"]),
            text(&entry["path"]),
        );
    }
    out
}

pub(super) fn lookup(value: &Value) -> String {
    let mut page = known(value);
    let is_empty = |value: &Value| {
        value.is_null() || value == false || value.as_array().is_some_and(Vec::is_empty)
    };
    let mut found = value.as_object().into_iter().flatten();
    if found.all(|(name, value)| is_empty(value) || ["address", "asn"].contains(&name.as_str())) {
        page.line("", "the ASN database knows nothing of it");
    }
    for (list, count) in value["more"].as_object().into_iter().flatten() {
        let what = "narrow the question, or show more with `--limit`";
        page.line("", format!("{count} more {list}: {what}"));
    }
    page.0
}

fn known(value: &Value) -> Page {
    let mut page = Page(String::new());
    if value.get("matches").is_some() {
        for found in list(&value["matches"]) {
            page.line(
                &format!("AS{}", found["asn"]),
                format!("{} {}", text(&found["country"]), text(&found["name"])),
            );
        }
        return page;
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            _ if name == "more" => {}
            Value::Array(all) if name == "prefixes" || name == "asns" => {
                page.line(name, all.len());
                for one in all {
                    page.line("", text(one));
                }
            }
            Value::Array(all) if name == "parts" => {
                for part in all {
                    page.line(
                        "",
                        format!("{} {}", text(&part["prefix"]), origins(&part["origins"])),
                    );
                }
            }
            Value::Array(all) if name == "evidence" => {
                for row in all {
                    let place = if row["record"] == 0 {
                        format!("line {}", row["line"])
                    } else {
                        format!("record {}", row["record"])
                    };
                    let rpki = match &row["rpki"] {
                        Value::Null => String::new(),
                        state => format!(", RPKI {}", text(state)),
                    };
                    page.line(
                        &format!("AS{}", row["asn"]),
                        format!(
                            "{} in {} {place}{rpki}",
                            text(&row["prefix"]),
                            text(&row["source"])
                        ),
                    );
                }
            }
            Value::Object(live) if name == "live" => {
                if !live["prefix"].is_null() {
                    let stale = if live["stale"] == true { ", STALE" } else { "" };
                    page.line("live BGP", announced(live) + stale);
                }
                if let Value::Object(said) = &live["pre_policy"] {
                    page.line("pre-policy", announced(said) + ", only tightens");
                }
                if !live["waiting"].is_null() {
                    page.line("waits", waiting(&live["waiting"]));
                }
            }
            Value::Object(org) if name == "org" => {
                let siblings = list(&org["asns"]).len();
                page.line(
                    name,
                    format!(
                        "{} ({}), {siblings} ASNs",
                        text(&org["name"]),
                        text(&org["id"])
                    ),
                );
            }
            Value::Array(all) => {
                let all: Vec<String> = all.iter().map(text).collect();
                page.line(
                    name,
                    if all.is_empty() {
                        "-".into()
                    } else {
                        all.join(", ")
                    },
                );
            }
            value => page.line(name, text(value)),
        }
    }
    page
}

pub(super) fn database(value: &Value) -> String {
    let mut page = Page(String::new());
    for source in list(&value["sources"]) {
        page.line(
            "source",
            format!(
                "{} ({}): {} rows, {} left out",
                text(&source["file"]),
                text(&source["format"]),
                source["rows"],
                source["skipped"]
            ),
        );
    }
    for (name, family) in [("IPv4", &value["ipv4"]), ("IPv6", &value["ipv6"])] {
        page.line(
            name,
            format!(
                "{} prefixes in {} ranges, {} country blocks",
                family["prefixes"], family["ranges"], family["country_blocks"]
            ),
        );
    }
    page.line("ASNs", &value["asns"]);
    if let Some(imported) = value["imported"].as_i64()
        && let Ok(imported) = jiff::Timestamp::from_second(imported)
    {
        page.line("imported", imported);
    }
    if let Some(snapshot) = value["snapshot"].as_str() {
        page.line("snapshot", snapshot);
    }
    if value["accepted"].is_object() {
        page.0.push_str(&held("accepted", &value["accepted"]));
    }
    if value.get("changed").is_some() {
        page.0.push_str(&changed(value));
    }
    page.0
}

/// What was held back or warned of, and what became of it.
pub(super) fn held(what: &str, value: &Value) -> String {
    let mut page = Page(String::new());
    if let Some(id) = value["id"].as_str() {
        page.line(what, format!("{id}, since {}", moment(&value["since"])));
    }
    for source in list(&value["sources"]) {
        page.line(
            "of",
            format!(
                "{}, sha256 {}, {}",
                text(&source["file"]),
                source["sha256"].as_str().unwrap_or("unknown"),
                source["date"].as_str().unwrap_or("of an unknown date"),
            ),
        );
    }
    for concern in list(&value["concerns"]) {
        page.line(what, text(&concern["message"]));
    }
    page.0
}

/// Prefixes of one kind that are shown unless all are asked for.
const SHOWN: usize = 8;

/// What an update changes, in words.
pub(super) fn difference(value: &Value, all: bool) -> String {
    let mut out = String::new();
    for (name, totals) in [("IPv4", &value["ipv4"]), ("IPv6", &value["ipv6"])] {
        let _ = writeln!(out, "{name}: {} prefixes become {}", totals[0], totals[1]);
    }
    if list(&value["changes"]).is_empty() {
        out.push_str("nobody whom the policy names gains or loses an address\n");
    }
    for change in list(&value["changes"]) {
        let _ = write!(out, "{}", text(&change["subject"]));
        if let Some(name) = change["name"].as_str() {
            let _ = write!(out, " ({name})");
        }
        let lost = change["lost_share"].as_f64().unwrap_or(0.0) * 100.0;
        let _ = writeln!(
            out,
            ": {} prefixes become {}, {lost:.1} % of its addresses go",
            change["before"], change["after"]
        );
        for (kind, none, word) in [
            ("lost", "nobody's", "now of"),
            ("gained", "nobody's", "was of"),
        ] {
            let moved = list(&change[kind]);
            let shown = if all { moved.len() } else { SHOWN };
            for one in moved.iter().take(shown) {
                let others: Vec<String> = list(&one["others"])
                    .iter()
                    .map(|asn| format!("AS{asn}"))
                    .collect();
                let others = if others.is_empty() {
                    none.to_owned()
                } else {
                    format!("{word} {}", others.join(", "))
                };
                let _ = writeln!(out, "  {kind} {}, {others}", text(&one["prefix"]));
            }
            if moved.len() > shown {
                let _ = writeln!(out, "  {kind} {} more: `--all`", moved.len() - shown);
            }
        }
    }
    out
}

pub(super) fn explain(value: &Value) -> String {
    let mut out = format!("{}: {}", text(&value["action"]), text(&value["reason"]));
    if let Some(rule) = value["rule"].as_str() {
        let _ = write!(out, " `{rule}`");
    }
    out.push('\n');
    for why in list(&value["why"]) {
        let _ = writeln!(out, "- {}", text(why));
    }
    out
}

/// One line of `replay`.
pub(super) fn row(packet: u64, row: &Row) -> String {
    let mut out = format!(
        "{packet:>6} {:<5} {:<15} {}",
        row.action,
        row.reason,
        row.zone.as_deref().unwrap_or("-")
    );
    if let (Some(src), Some(dst)) = (row.src, row.dst) {
        let _ = write!(out, "  {src} > {dst}");
        if let Some(judged) = row.judged.filter(|judged| *judged != dst) {
            let _ = write!(out, " ({judged})");
        }
    }
    for asn in &row.origins {
        let _ = write!(out, " AS{asn}");
    }
    if let Some(country) = &row.country {
        let _ = write!(out, " {country}");
    }
    if let Some(rule) = &row.rule {
        let _ = write!(out, "  `{rule}`");
    }
    out
}

/// What `replay` ends with.
#[derive(Default)]
pub(super) struct Sums(BTreeMap<&'static str, u64>);

impl Sums {
    pub(super) fn add(&mut self, row: &Row) {
        *self.0.entry(row.action).or_default() += 1;
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&counted(self.0.values().sum(), "packet"))?;
        for (action, count) in &self.0 {
            write!(f, ", {action} {count}")?;
        }
        Ok(())
    }
}
