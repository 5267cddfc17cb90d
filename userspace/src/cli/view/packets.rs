//! `explain` and `replay`: verdicts on packets.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use serde_json::Value;

use super::{counted, list, text};
use crate::judge::Row;

pub(in crate::cli) fn explain(value: &Value) -> String {
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
pub(in crate::cli) fn row(packet: u64, row: &Row) -> String {
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
pub(in crate::cli) struct Sums(BTreeMap<&'static str, u64>);

impl Sums {
    pub(in crate::cli) fn add(&mut self, row: &Row) {
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
