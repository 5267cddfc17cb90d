//! `asndb`: what a database was made of, what is held back, and what an update changes.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Page, changed, line, list, moment, text};

pub(in crate::cli) fn database(value: &Value) -> String {
    let mut page = Page(String::new());
    for source in list(&value["sources"]) {
        line!(
            page,
            "source",
            "{} ({}): {} rows, {} left out",
            text(&source["file"]),
            text(&source["format"]),
            source["rows"],
            source["skipped"]
        );
    }
    for (name, family) in [("IPv4", &value["ipv4"]), ("IPv6", &value["ipv6"])] {
        line!(
            page,
            name,
            "{} prefixes in {} ranges, {} country blocks",
            family["prefixes"],
            family["ranges"],
            family["country_blocks"]
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
pub(in crate::cli) fn held(what: &str, value: &Value) -> String {
    let mut page = Page(String::new());
    if let Some(id) = value["id"].as_str() {
        line!(page, what, "{id}, since {}", moment(&value["since"]));
    }
    for source in list(&value["sources"]) {
        line!(
            page,
            "of",
            "{}, sha256 {}, {}",
            text(&source["file"]),
            source["sha256"].as_str().unwrap_or("unknown"),
            source["date"].as_str().unwrap_or("of an unknown date")
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
pub(in crate::cli) fn difference(value: &Value, all: bool) -> String {
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
