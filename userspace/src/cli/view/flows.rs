//! Flows for people: a line each, the largest first.

use serde_json::Value;

use super::{aligned, text};
use crate::{cli::output::harmless, control::protocol::SumBy};

/// The answer to `flows`: its rows, and how many more there are.
pub(in crate::cli) fn flows(answer: &Value, by: Option<SumBy>) -> String {
    let number = |name: &str| answer[name].as_u64().unwrap_or(0);
    let rows = answer["rows"].as_str().unwrap_or_default().lines();
    let rows: Vec<Value> = rows
        .filter_map(|row| serde_json::from_str(row).ok())
        .map(harmless)
        .collect();
    if rows.is_empty() {
        return match number("known") {
            0 => "no flow is known: nothing that is recorded was sent since the daemon started\n"
                .to_owned(),
            known => format!(
                "none of the {known} flows that are known is one of these; what a source sent beyond its \
                 budget has no destination, and no network\n"
            ),
        };
    }
    let head: &[&str] = match by {
        None => &[
            "ZONE", "CAMERA", "MAC", "TO", "PROTOCOL", "NETWORK", "ACTION", "BY", "PACKETS",
            "BYTES", "LAST",
        ],
        Some(SumBy::Camera) => &[
            "ZONE", "CAMERA", "MAC", "ACTION", "FLOWS", "PACKETS", "BYTES", "LAST",
        ],
        Some(SumBy::Network) => &[
            "ZONE", "NETWORK", "ACTION", "FLOWS", "PACKETS", "BYTES", "LAST",
        ],
    };
    let mut table: Vec<Vec<String>> = vec![head.iter().map(|&title| title.to_owned()).collect()];
    for row in &rows {
        table.push(head.iter().map(|title| cell(row, title)).collect());
    }
    let mut text = aligned(&table);
    let more = number("found").saturating_sub(rows.len() as u64);
    if more > 0 {
        text += &format!(
            "… and {more} more: `--zone`, `--camera`, `--asn`, `--action` narrow it, `--json` shows more\n"
        );
    }
    if number("others") > 0 {
        text += &format!(
            "{} of these packets are in the ledger without a destination (`others`)\n",
            number("others")
        );
    }
    text
}

fn cell(row: &Value, title: &str) -> String {
    let word = |name: &str| text(&row[name]);
    match title {
        "ZONE" => word("zone"),
        "CAMERA" => word("src"),
        "MAC" => word("mac"),
        "TO" if row["others"] == true => "others".to_owned(),
        "TO" => word("dst"),
        "PROTOCOL" => match row["dport"].as_u64() {
            Some(port) => format!("{} {port}", word("proto")),
            None => word("proto"),
        },
        "NETWORK" if row["others"] == true => "others".to_owned(),
        "NETWORK" => match row["asn"].as_u64() {
            Some(asn) => format!("AS{asn} {}", word("name")),
            None => word("asn"),
        },
        "ACTION" => word("action"),
        "BY" => match row["rule"].as_str() {
            Some(rule) => rule.to_owned(),
            None => word("reason"),
        },
        "FLOWS" => word("flows"),
        "PACKETS" => word("packets"),
        "BYTES" => word("bytes"),
        // To the second.
        _ => {
            let last = word("last");
            match last.split_once('.') {
                Some((second, _)) => format!("{second}Z"),
                None => last,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_for_each_flow() {
        let row = json!({
            "zone": "cameras", "interface": "trunk", "mac": "02:00:00:00:00:01", "src": "10.20.0.2",
            "dst": "203.0.113.9", "judged": "203.0.113.9", "asn": 64500, "name": "Example", "country": "RU",
            "proto": "tcp", "dport": 443, "action": "drop", "reason": "rule", "rule": "hostile",
            "packets": 7, "bytes": 420, "first": "2026-01-02T03:04:05.678Z",
            "last": "2026-01-02T03:04:06.678Z", "by": "xdp", "others": false,
        });
        let answer = |found: u64| json!({ "rows": format!("{row}\n"), "found": found, "known": 9 });
        assert_eq!(
            flows(&answer(1), None),
            "ZONE     CAMERA     MAC                TO           PROTOCOL  NETWORK          ACTION  BY       PACKETS  BYTES  LAST\n\
             cameras  10.20.0.2  02:00:00:00:00:01  203.0.113.9  tcp 443   AS64500 Example  drop    hostile  7        420    2026-01-02T03:04:06Z\n"
        );
        assert!(flows(&answer(2), None).ends_with(
            "and 1 more: `--zone`, `--camera`, `--asn`, `--action` narrow it, `--json` shows more\n"
        ));
        let none = |known: u64| flows(&json!({ "rows": "", "found": 0, "known": known }), None);
        assert!(none(0).starts_with("no flow is known"));
        assert!(none(3).starts_with("none of the 3 flows"));
    }
}
