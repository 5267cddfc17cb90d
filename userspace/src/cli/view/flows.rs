//! Flows for people: a line each, the largest first.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::Value;

use super::{aligned, counted, list, text};
use crate::{
    cli::output::harmless,
    diagnostic::printable,
    history::{
        query::{Found, Period},
        total::By,
    },
};

/// Times without a record that are shown.
const SILENCES: usize = 3;

/// The answer to `flows`: its rows, and how many more there are.
pub(in crate::cli) fn flows(answer: &Value, by: Option<By>) -> String {
    let number = |name: &str| answer[name].as_u64().unwrap_or(0);
    let rows = answer["rows"].as_str().unwrap_or_default().lines();
    let rows: Vec<Value> = rows
        .filter_map(|row| serde_json::from_str(row).ok())
        .collect();
    if rows.is_empty() {
        let known = match number("known") {
            0 => "no flow is known\n".to_owned(),
            known => format!("none of the {known} flows that are known is one of these\n"),
        };
        return known + &foot(answer);
    }
    let found = usize::try_from(number("found")).unwrap_or(usize::MAX);
    table(rows, found, by) + &foot(answer)
}

/// Flows of a period; `found`: how many there are.
pub(in crate::cli) fn past(rows: Vec<Value>, found: usize, by: Option<By>) -> String {
    match found {
        0 => "no such flow was seen\n".to_owned(),
        _ => table(rows, found, by),
    }
}

fn table(rows: Vec<Value>, found: usize, by: Option<By>) -> String {
    let head: &[&str] = match by {
        None => &[
            "ZONE", "CAMERA", "MAC", "TO", "PROTOCOL", "NETWORK", "ACTION", "BY", "PACKETS",
            "BYTES", "FIRST", "LAST",
        ],
        Some(By::Camera) => &[
            "ZONE", "CAMERA", "MAC", "ACTION", "FLOWS", "PACKETS", "BYTES", "FIRST", "LAST",
        ],
        Some(By::Network) => &[
            "ZONE", "NETWORK", "ACTION", "FLOWS", "PACKETS", "BYTES", "FIRST", "LAST",
        ],
        Some(By::Hour) => &["HOUR", "ZONE", "ACTION", "FLOWS", "PACKETS", "BYTES"],
    };
    let more = found.saturating_sub(rows.len());
    let mut table: Vec<Vec<String>> = vec![head.iter().map(|&title| title.to_owned()).collect()];
    for row in rows.into_iter().map(harmless) {
        table.push(head.iter().map(|title| cell(&row, title)).collect());
    }
    let mut text = aligned(&table);
    if more > 0 {
        text += &format!(
            "… and {more} more: `--zone`, `--camera`, `--asn`, `--country`, `--action` narrow it, `--json` shows more\n"
        );
    }
    text
}

/// A table for spreadsheets, with a head.
pub(in crate::cli) fn csv(
    rows: impl Iterator<Item = Value>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    for (number, row) in rows.enumerate() {
        let Value::Object(fields) = row else { continue };
        if number == 0 {
            writer.write_record(fields.keys())?;
        }
        writer.write_record(fields.values().map(field))?;
    }
    writer.flush()
}

/// What a spreadsheet would take for a formula is text, and nothing drives a terminal: names come from elsewhere.
fn field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => match printable(text) {
            text if text.starts_with(['=', '+', '-', '@']) => format!("'{text}"),
            text => text.into_owned(),
        },
        other => other.to_string(),
    }
}

/// What is not among the flows of a period, a line each.
pub(in crate::cli) fn untold(
    found: &Found,
    period: Period,
    zone: Option<&str>,
    action: Option<&str>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for ((of, did), missing) in &found.missing {
        let is_asked =
            zone.is_none_or(|zone| zone == of) && action.is_none_or(|action| action == did);
        if is_asked && missing.packets > 0 {
            let packets = counted(missing.packets.unsigned_abs(), "packet");
            lines.push(format!(
                "zone {of}, {did}: {packets} counted, and in no record: who sent them, and to whom, is not known"
            ));
        }
    }
    let is_all = period.since == Timestamp::UNIX_EPOCH;
    match found.begins {
        Some(begins) if is_all || begins <= period.since => {}
        Some(begins) => lines.push(format!("before {begins:.0} there was no log")),
        None => lines.push("the log has no record".to_owned()),
    }
    for (from, to) in found.silences.iter().take(SILENCES) {
        lines.push(format!(
            "nothing was written from {from:.0} to {to:.0}: `kordon report` says more"
        ));
    }
    let more = found.silences.len().saturating_sub(SILENCES);
    if more > 0 {
        lines.push(format!("nor {} more", counted(more as u64, "time")));
    }
    if found.is_rounded {
        lines.push(
            "at its ends the period is taken in whole hours: the log no longer has those records"
                .to_owned(),
        );
    }
    if let Some(from) = found.kept_from.filter(|from| *from > period.since) {
        lines.push(format!(
            "what was seen before {from:.0} was removed (`history_days`, `history_max_size`)"
        ));
    }
    lines
}

/// Since when these are, and what is not among them.
fn foot(answer: &Value) -> String {
    let since = second(&text(&answer["since"]));
    let mut foot = format!("since {since}, when the daemon started, with what was in lines then\n");
    for line in unshown(answer) {
        foot += &line;
        foot.push('\n');
    }
    foot
}

/// What is not among the flows of an answer, a line each.
pub(in crate::cli) fn unshown(answer: &Value) -> Vec<String> {
    let number = |of: &Value, name: &str| of[name].as_u64().unwrap_or(0);
    let packets = |of: &Value, name: &str| counted(number(of, name), "packet");
    let mut lines = Vec::new();
    for (name, words) in [
        (
            "others",
            "without a destination (`others`): they may have been for any network",
        ),
        (
            "unread",
            "not understood or not IP: they may be what is asked for",
        ),
    ] {
        if number(answer, name) > 0 {
            lines.push(format!("{} {words}", packets(answer, name)));
        }
    }
    for of in list(&answer["unshown"]) {
        let zone = text(&of["zone"]);
        if number(of, "lost") > 0 {
            lines.push(format!(
                "zone {zone}: {} found no room in the ledger's ring: counted, and in no flow",
                packets(of, "lost")
            ));
        }
        if number(of, "unrecorded") > 0 {
            let record = match of["record"].as_str() {
                Some(record @ ("off" | "drops")) => format!(" (now `record = \"{record}\"`)"),
                _ => String::new(),
            };
            lines.push(format!(
                "zone {zone}: {} in no record{record}: counted, and in no flow",
                packets(of, "unrecorded")
            ));
        }
        if number(of, "recorded_before") + number(of, "missing_before") > 0 {
            lines.push(format!(
                "zone {zone}, before that: {} recorded, {} not: counted in metrics, and in no flow",
                packets(of, "recorded_before"),
                number(of, "missing_before"),
            ));
        }
    }
    lines
}

/// A moment to the second.
fn second(moment: &str) -> String {
    match moment.split_once('.') {
        Some((second, _)) => format!("{second}Z"),
        None => moment.to_owned(),
    }
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
        "HOUR" => word("hour"),
        "ACTION" => word("action"),
        "BY" => match row["rule"].as_str() {
            Some(rule) => rule.to_owned(),
            None => word("reason"),
        },
        "FLOWS" => word("flows"),
        "PACKETS" => word("packets"),
        "BYTES" => word("bytes"),
        "FIRST" => second(&word("first")),
        _ => second(&word("last")),
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
        let since = "2026-01-02T03:00:00.123Z";
        let answer = |found: u64| json!({ "rows": format!("{row}\n"), "found": found, "known": 9, "since": since });
        assert_eq!(
            flows(&answer(1), None),
            "ZONE     CAMERA     MAC                TO           PROTOCOL  NETWORK          ACTION  BY       PACKETS  BYTES  FIRST                 LAST\n\
             cameras  10.20.0.2  02:00:00:00:00:01  203.0.113.9  tcp 443   AS64500 Example  drop    hostile  7        420    2026-01-02T03:04:05Z  2026-01-02T03:04:06Z\n\
             since 2026-01-02T03:00:00Z, when the daemon started, with what was in lines then\n"
        );
        assert!(flows(&answer(2), None).ends_with(
            "and 1 more: `--zone`, `--camera`, `--asn`, `--country`, `--action` narrow it, `--json` shows more\n\
             since 2026-01-02T03:00:00Z, when the daemon started, with what was in lines then\n"
        ));
        let none = |known: u64| flows(&json!({ "rows": "", "found": 0, "known": known }), None);
        assert!(none(0).starts_with("no flow is known"));
        assert!(none(3).starts_with("none of the 3 flows"));
    }

    #[test]
    fn what_is_not_among_them_is_said() {
        let answer = json!({
            "others": 5, "unread": 1,
            "unshown": [
                { "zone": "doors", "recorded_before": 7, "missing_before": 0, "lost": 1, "unrecorded": 0 },
                { "zone": "lamps", "recorded_before": 0, "missing_before": 2, "lost": 0, "unrecorded": 3, "record": "off" },
            ],
        });
        assert_eq!(
            unshown(&answer),
            [
                "5 packets without a destination (`others`): they may have been for any network",
                "1 packet not understood or not IP: they may be what is asked for",
                "zone doors: 1 packet found no room in the ledger's ring: counted, and in no flow",
                "zone doors, before that: 7 packets recorded, 0 not: counted in metrics, and in no flow",
                "zone lamps: 3 packets in no record (now `record = \"off\"`): counted, and in no flow",
                "zone lamps, before that: 0 packets recorded, 2 not: counted in metrics, and in no flow",
            ]
        );
        assert_eq!(unshown(&json!({ "others": 0, "unshown": [] })), [""; 0]);
    }
}
