//! Answers for people, a page for each. What is here may change; `--json` is for scripts.

mod brief;
mod changes;
mod counted;
mod database;
mod flows;
mod lookup;
mod packets;
mod paint;
mod report;
mod status;

use std::fmt::{self, Write as _};

use serde_json::Value;

pub(super) use self::{
    brief::brief,
    changes::{changed, detached, history},
    counted::Shape,
    database::{database, difference, held},
    flows::{csv, flows, past, unshown, untold},
    lookup::lookup,
    packets::{Sums, explain, row},
    paint::{painted, width},
    report::report,
    status::status,
};

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

/// Rows with their columns one below the other.
fn aligned<R: AsRef<[String]>>(table: &[R]) -> String {
    let columns = table.first().map_or(0, |row| row.as_ref().len());
    let width = |column: usize| {
        let cells = table.iter().map(|row| row.as_ref()[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in table {
        let mut line = String::new();
        for (cell, width) in row.as_ref().iter().zip(&widths) {
            line += &format!("{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
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
        let line = format!("{name:<11} {words}");
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{}", line.trim_end());
    }
}

/// A line of a page, of words with values in them.
macro_rules! line {
    ($page:expr, $name:expr, $($words:tt)+) => {
        $page.line($name, format_args!($($words)+))
    };
}
use line;

/// That a policy goes by itself, and when; `None`: it does not.
pub(super) fn trial(until: &Value) -> Option<String> {
    let words = |until| format!("ON TRIAL until {until}: `kordon confirm` keeps it");
    (!until.is_null()).then(|| words(moment(until)))
}

fn origins(value: &Value) -> String {
    let all: Vec<String> = list(value).iter().map(|asn| format!("AS{asn}")).collect();
    if all.is_empty() {
        "nobody".to_owned()
    } else {
        all.join(", ")
    }
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
