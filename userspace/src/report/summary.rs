//! The summary: sentences for somebody who reads nothing else. What is not well is as loud as what is.

use super::model::{Count, Report};
use super::words::{bytes, counted, duration, either, moment, number, packets};

/// What is known of gaps.
const AFTER: &str =
    "What the kernel judged meanwhile is in the records after it, but for what is unrecorded.";

/// The sentences of a report.
#[derive(Debug)]
pub struct Sentences {
    /// What happened, in large letters.
    pub lead: String,
    /// How the numbers in it are meant.
    pub precisely: Vec<String>,
    /// What somebody must look at before believing the rest.
    pub loud: Vec<String>,
    /// What is well.
    pub well: Vec<String>,
}

/// Of a report.
#[must_use]
pub fn sentences(report: &Report) -> Sentences {
    let mut out = Sentences {
        lead: lead(report),
        precisely: precisely(report),
        loud: Vec::new(),
        well: Vec::new(),
    };
    observation(report, &mut out);
    enforcement(report, &mut out);
    records(report, &mut out);
    log(report, &mut out);
    through(report, &mut out);
    if report.is_unobserved() {
        // Nobody was there who could say so.
        out.well.clear();
    }
    match report.unknown.len() {
        0 => {}
        1 => out
            .loud
            .push("Something cannot be known: it is given below.".to_owned()),
        many => out.loud.push(format!(
            "{many} things cannot be known: they are given below."
        )),
    }
    out
}

/// What was dropped for something else than a way to a blocked network.
fn otherwise(report: &Report) -> Count {
    let (all, blocked) = (report.summary.actions.drop, report.summary.dropped);
    Count {
        packets: all.packets.saturating_sub(blocked.packets),
        bytes: all.bytes.saturating_sub(blocked.bytes),
    }
}

fn is_empty(report: &Report) -> bool {
    let actions = report.summary.actions;
    let all = [actions.drop, actions.audit, actions.pass];
    report.summary.cameras == 0 && all.iter().all(|count| count.packets == 0)
}

fn lead(report: &Report) -> String {
    let summary = &report.summary;
    if is_empty(report) && report.is_unobserved() {
        return "Nothing is known of this period: no record was written in it.".to_owned();
    }
    if is_empty(report) {
        return match summary.unrecorded.packets > 0 {
            true => "Nothing is recorded of what cameras sent in this period.".to_owned(),
            false => "No camera sent anything that was observed in this period.".to_owned(),
        };
    }
    if summary.tried == 0 && summary.actions.drop.packets == 0 {
        return match summary.cameras {
            0 => "No camera is known that sent something, and nothing was dropped.".to_owned(),
            1 => {
                "1 camera sent something, and it did not try to reach a blocked network.".to_owned()
            }
            many => format!(
                "{} cameras sent something, and none tried to reach a blocked network.",
                number(many)
            ),
        };
    }
    let networks = counted(summary.blocked_networks, "blocked network");
    // There were others.
    let of = match summary.unrecorded.packets > 0 {
        true => " that are recorded",
        false => "",
    };
    let times = match summary.dropped.packets {
        1 => "once".to_owned(),
        many => format!("{} times", number(many)),
    };
    if summary.dropped.packets == 0 {
        return match (summary.cameras, summary.refused) {
            (1, 1) => "1 camera sent something: packets of it were dropped, but none on the way to a known network.".to_owned(),
            (all, some) => format!(
                "Of {}{of}, packets of {} were dropped, but none on the way to a known network.",
                counted(all, "camera"),
                number(some)
            ),
        };
    }
    match (summary.cameras, summary.tried) {
        (1, 1) => format!("1 camera sent something: it tried {times} to reach {networks}."),
        (all, some) => format!(
            "Of {}{of}, {} tried {times} to reach {networks}.",
            counted(all, "camera"),
            number(some)
        ),
    }
}

fn precisely(report: &Report) -> Vec<String> {
    let summary = &report.summary;
    let mut out = Vec::new();
    if is_empty(report) {
        out.push("That is no statement about cameras elsewhere, or about times in which nobody observed.".to_owned());
        return out;
    }
    let other = otherwise(report).packets;
    if summary.dropped.packets > 0 {
        out.push(format!(
            "Each time is a packet: {} {} dropped on the way to {}.",
            packets(summary.dropped),
            either(summary.dropped.packets, "was", "were"),
            either(summary.blocked_networks, "this network", "these networks")
        ));
    }
    if other > 0 {
        out.push(format!(
            "{} {} dropped for other reasons, or on the way to no known network: the reasons are given below.",
            packets(otherwise(report)),
            either(other, "was", "were")
        ));
    }
    let actions = summary.actions;
    out.push(format!(
        "In all that is recorded: {} passed, {} passed and reported (audit), {} dropped.",
        packets(actions.pass),
        packets(actions.audit),
        packets(actions.drop)
    ));
    if report.cameras.iter().any(|camera| camera.mac.is_none()) {
        out.push(
            "There were more senders than are told apart: those beyond are counted as one camera."
                .to_owned(),
        );
    }
    out
}

/// After all others: what is not known limits what can be said.
fn through(report: &Report, out: &mut Sentences) {
    let summary = &report.summary;
    let networks = either(summary.blocked_networks, "this network", "these networks");
    match (summary.through.packets, summary.blocked_networks) {
        (0, 0) => {}
        (0, _) if out.loud.is_empty() => {
            out.well.insert(0, format!("0 packets got through to {networks}."));
        }
        (0, _) => out.well.insert(
            0,
            format!("0 packets that are recorded got through to {networks}. What is not known may hide others."),
        ),
        (many, _) => out.loud.insert(
            0,
            format!(
                "{} ({}) got through to a network that packets are dropped to: before the block, after its end, or by a rule that lets some pass.",
                counted(many, "packet"),
                bytes(summary.through.bytes)
            ),
        ),
    }
}

/// The first, if there are records of the whole period, or could be. Else the second.
fn whole(report: &Report, all: &str, some: &str) -> String {
    let begins = report.log.begins;
    let is_whole = begins.is_some_and(|begins| begins <= report.since) && report.gaps.is_empty();
    if is_whole { all } else { some }.to_owned()
}

fn observation(report: &Report, out: &mut Sentences) {
    let summary = &report.summary;
    if report.interfaces.is_empty() {
        out.loud
            .push("No interface was observed, as far as is known.".to_owned());
    }
    let length = duration(summary.gap_seconds);
    match summary.gaps {
        0 => out.well.push(whole(
            report,
            "Observation had no gap.",
            "Where there are records, observation had no gap.",
        )),
        1 => out.loud.push(format!(
            "Observation had one gap of {length}: nothing was written in it. {AFTER}"
        )),
        many => out.loud.push(format!(
            "Observation had {} gaps, {length} in all: nothing was written in them. {AFTER}",
            number(many)
        )),
    }
    if report.until > report.made {
        out.loud.push(format!(
            "The period was not over when this was made, at {} UTC.",
            moment(report.made)
        ));
    }
}

fn enforcement(report: &Report, out: &mut Sentences) {
    let seconds = report.summary.not_enforcing_seconds;
    if seconds > 0.0 {
        out.loud.push(format!(
            "For {}, not everything was enforced, or nobody knows whether it was.",
            duration(seconds)
        ));
    } else if !report.not_enforcing.is_empty() {
        out.loud.push(
            "For moments, not everything was enforced, or nobody knows whether it was.".to_owned(),
        );
    } else {
        out.well.push(whole(
            report,
            "Enforcement was complete all the time.",
            "Where there are records, enforcement was complete.",
        ));
    }
}

/// What became of what is in no record, in all zones.
fn by_action(report: &Report) -> String {
    let of = |action: &str| -> u64 {
        let books = report.books.values().filter_map(|books| books.get(action));
        let packets = books.map(|book| u64::try_from(book.unrecorded.packets).unwrap_or(0));
        packets.sum()
    };
    let words = [
        ("drop", "dropped"),
        ("audit", "passed and reported"),
        ("pass", "passed"),
    ];
    let words = words.map(|(action, words)| (of(action), words));
    let words: Vec<String> = (words.into_iter())
        .filter(|(packets, _)| *packets > 0)
        .map(|(packets, words)| format!("{} {words}", number(packets)))
        .collect();
    match words.is_empty() {
        true => String::new(),
        false => format!(" ({})", words.join(", ")),
    }
}

/// Of each zone and action by itself: what is too much in one does not make good what lacks in another.
fn records(report: &Report, out: &mut Sentences) {
    let books = report.books.values().flat_map(|actions| actions.values());
    let mut differences: Vec<i64> = books.map(|book| book.unrecorded.packets).collect();
    if differences.iter().all(|packets| *packets == 0) {
        differences = vec![report.summary.unrecorded.packets];
    }
    let sum = |is: fn(&i64) -> bool| {
        differences
            .iter()
            .copied()
            .filter(is)
            .map(i64::unsigned_abs)
            .sum()
    };
    match sum(|packets| *packets > 0) {
        0 if report.log.is_failing => out
            .loud
            .push("The log cannot be written as it should be.".to_owned()),
        0 => out.well.push(whole(
            report,
            "Every packet that was counted is in a record.",
            "Where there are records, every packet that was counted is in one.",
        )),
        1 => out.loud.push(format!(
            "1 packet was counted and is in no record{}.",
            by_action(report)
        )),
        many => out.loud.push(format!(
            "{} packets were counted and are in no record{}.",
            number(many),
            by_action(report)
        )),
    }
    let more = sum(|packets| *packets < 0);
    if more > 0 {
        let packets = counted(more, "packet");
        match report
            .log
            .begins
            .is_some_and(|begins| begins < report.since)
        {
            // What was in lines when the period began.
            true => out.well.push(format!(
                "{packets} {} counted before this period, and recorded in it.",
                either(more, "was", "were")
            )),
            false => out.loud.push(format!(
                "{packets} {} recorded, and not counted: counters or records are not what they were.",
                either(more, "is", "are")
            )),
        }
    }
}

fn log(report: &Report, out: &mut Sentences) {
    match report.log.begins {
        None => out.loud.push("The log has no record.".to_owned()),
        Some(begins) if begins > report.since => out.loud.push(format!(
            "The oldest record that is kept is of {} UTC: of what was before it, this report knows nothing.",
            moment(begins)
        )),
        Some(_) => {}
    }
    if report.log.checkpoint.is_none() {
        out.loud
            .push("No signed checkpoint vouches for these records.".to_owned());
    }
}
