//! A report of a period, for people: who sent what to whom, what became of it, and how far that can be known.
//!
//! [`model`] is what it says, `make` adds up flows, `events` tells what else there was, [`summary`] says it in sentences, and
//! [`html`] makes a page of it. It is made of the history alone, so
//! that it can be made on a copy, elsewhere.

mod events;
pub mod html;
mod make;
pub mod model;
pub mod summary;
mod words;

use jiff::Timestamp;

pub use self::make::Maker;
use self::model::{Log, Report, Summary, Timeline};
use crate::history::query::{Found, Period};

/// Where and of what a report is.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What was asked for.
    pub period: Period,
    /// Only of this zone.
    pub zone: Option<String>,
    /// The router.
    pub host: String,
    /// The log.
    pub log: Log,
}

/// A report of what `maker` was told.
#[must_use]
pub fn report(maker: Maker, found: &Found, frame: Frame) -> Report {
    let made = Timestamp::now();
    let begins = found.begins.unwrap_or(made);
    let period = frame.period;
    let mut report = Report {
        made,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: frame.host,
        // What was asked for without an end is what there is.
        since: match period.since == Timestamp::UNIX_EPOCH {
            true => begins,
            false => period.since,
        },
        until: period.until.min(made),
        zone: frame.zone,
        summary: Summary::default(),
        books: Default::default(),
        cameras: Vec::new(),
        networks: Vec::new(),
        traffic: Vec::new(),
        timeline: Timeline {
            step: 60,
            slots: Vec::new(),
        },
        gaps: Vec::new(),
        not_enforcing: Vec::new(),
        changes: Vec::new(),
        policies: Vec::new(),
        databases: Vec::new(),
        interfaces: Vec::new(),
        log: Log {
            records: found.records,
            begins: found.begins,
            ..frame.log
        },
        unknown: Vec::new(),
    };
    maker.finish(&mut report, found);
    events::tell(&mut report, found);
    report.unknown.extend(unknown(&report, found));
    report
}

/// What cannot be known, in words.
fn unknown(report: &Report, found: &Found) -> Vec<String> {
    let mut words = Vec::new();
    let now = report.made;
    if found.begins.is_none_or(|begins| begins > report.since) {
        let begins = found.begins.unwrap_or(now);
        words.push(format!(
            "Before {begins:.0} there was no log: what was sent before is not known."
        ));
    }
    if let Some(from) = found.kept_from.filter(|from| *from > report.since) {
        words.push(format!(
            "What was seen before {from:.0} was removed, as it was configured."
        ));
    }
    for (zone, actions) in &report.books {
        for (action, book) in actions {
            if book.unrecorded.packets > 0 {
                words.push(format!(
                    "Zone {zone}: {} packets ({action}) were counted and are in no record: who sent them, and to whom, is not known. Less may \
                     have been recorded (`record`), there may have been no room, or records may have been removed.",
                    book.unrecorded.packets
                ));
            }
        }
    }
    if found.is_rounded {
        words.push("The log no longer has all records of this period: at its ends it is taken in whole hours.".to_owned());
    }
    if !found.is_live && report.until == report.made {
        words.push(
            "The daemon was not asked: what it had not written yet is not in this.".to_owned(),
        );
    }
    words
}
