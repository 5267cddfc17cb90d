//! A report for a terminal: what its page says first, and the largest rows of its tables.

use serde_json::json;

use super::{aligned, moment, text};
use crate::{
    diagnostic::printable_lines,
    report::{
        model::{Report, Traffic},
        summary::sentences,
    },
};

/// Rows that are shown.
const SHOWN: usize = 20;

/// All of it.
pub(in crate::cli) fn report(report: &Report) -> String {
    let at = |at: jiff::Timestamp| moment(&json!(at));
    let of = (report.zone.as_ref()).map_or_else(String::new, |zone| format!(", zone {zone}"));
    let (since, until) = (at(report.since), at(report.until));
    let mut text = format!("{since} to {until}{of}\n\n");
    let said = sentences(report);
    text += &format!("{}\n", said.lead);
    for (mark, sentences) in [("", said.precisely), ("! ", said.loud), ("", said.well)] {
        for sentence in sentences {
            text += &format!("  {mark}{sentence}\n");
        }
    }
    for line in &report.unknown {
        text += &format!("  ? {line}\n");
    }
    let dropped: Vec<&Traffic> = (report.traffic.iter())
        .filter(|row| row.action == "drop")
        .collect();
    if !dropped.is_empty() {
        text += "\ndropped\n";
        text += &table(&dropped);
    }
    text += "\nrecords were taken as they are in the files: `--verify` says whether these can be believed\n";
    text += "`--html` makes a page of all of it, `--csv` and `--json` have every row\n";
    printable_lines(&text)
}

fn table(rows: &[&Traffic]) -> String {
    let head = [
        "ZONE", "CAMERA", "MAC", "NETWORK", "COUNTRY", "BY", "PACKETS", "FIRST", "LAST",
    ];
    let mut table = vec![head.map(str::to_owned)];
    for row in rows.iter().take(SHOWN) {
        let network = match row.asn {
            Some(asn) => format!("AS{asn} {}", row.name.as_deref().unwrap_or_default()),
            None => "-".to_owned(),
        };
        table.push([
            row.zone.clone(),
            text(&json!(row.src)),
            text(&json!(row.mac)),
            network,
            text(&json!(row.country)),
            row.rule.clone().unwrap_or_else(|| row.reason.clone()),
            row.packets.to_string(),
            moment(&json!(row.first)),
            moment(&json!(row.last)),
        ]);
    }
    let mut text = aligned(&table);
    let more = rows.len().saturating_sub(SHOWN);
    if more > 0 {
        text += &format!("… and {more} more\n");
    }
    text
}
