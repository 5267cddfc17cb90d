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
            is_failing: !found.troubles.is_empty() && period.until >= made,
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
    let mut sentences = Vec::new();
    let now = report.made;
    if found.begins.is_none_or(|begins| begins > report.since) {
        let begins = found.begins.unwrap_or(now);
        sentences.push(format!(
            "Before {} UTC there was no log: what was sent before is not known.",
            words::moment(begins)
        ));
    }
    if let Some(from) = found.kept_from.filter(|from| *from > report.since) {
        sentences.push(format!(
            "What was seen before {} UTC was removed, as it was configured.",
            words::moment(from)
        ));
    }
    let mut is_some = false;
    for (zone, actions) in &report.books {
        for (action, book) in actions {
            if let Ok(packets @ 1..) = u64::try_from(book.unrecorded.packets) {
                is_some = true;
                sentences.push(format!(
                    "Zone {zone}: {} ({action}) {} in no record: who sent what to whom is not known.",
                    words::counted(packets, "packet"),
                    words::either(packets, "was counted and is", "were counted and are")
                ));
            }
        }
    }
    if is_some {
        sentences.push(
            "Packets are in no record where the policy says so (record of a zone), where there was no room, and where records \
             were removed. When they were sent is known by whole minutes, and of a gap by its end: some may be from \
             shortly before or after this period."
                .to_owned(),
        );
    }
    if found.is_rounded {
        sentences.push("The log no longer has all records of this period: at its ends it is taken in whole hours.".to_owned());
    }
    let troubles = found.troubles.iter().filter(|_| report.log.is_failing);
    for trouble in troubles {
        sentences.push(format!(
            "The log cannot be written as it should be: {trouble}. {} {} in the kernel alone: a loss of power takes them.",
            words::counted(found.in_lines, "packet"),
            words::either(found.in_lines, "is", "are")
        ));
    }
    if !found.is_live && report.until == report.made {
        sentences.push(
            "The daemon was not asked: what it had not written yet is not in this.".to_owned(),
        );
    }
    sentences
}
