//! `lookup`: what the database knows of an address, ASN, country or name.

use serde_json::Value;

use super::{Page, line, list, moment, origins, text, waiting};

pub(in crate::cli) fn lookup(value: &Value) -> String {
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
        line!(page, "", "{count} more {list}: {what}");
    }
    page.0
}

fn known(value: &Value) -> Page {
    let mut page = Page(String::new());
    if value.get("matches").is_some() {
        for found in list(&value["matches"]) {
            line!(
                page,
                &format!("AS{}", found["asn"]),
                "{} {}",
                text(&found["country"]),
                text(&found["name"])
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
                    line!(
                        page,
                        "",
                        "{} {}",
                        text(&part["prefix"]),
                        origins(&part["origins"])
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
                    line!(
                        page,
                        &format!("AS{}", row["asn"]),
                        "{} in {} {place}{rpki}",
                        text(&row["prefix"]),
                        text(&row["source"])
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
                line!(
                    page,
                    name,
                    "{} ({}), {siblings} ASNs",
                    text(&org["name"]),
                    text(&org["id"])
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
