//! What a report says beside traffic: when nobody wrote, when less was enforced, who changed what.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::model::{Change, Gap, InForce, Report, Span};
use crate::{
    evidence::gaps,
    history::{SILENCE, query::Found},
};

/// Puts all of it into a report, which has its period already.
pub(super) fn tell(report: &mut Report, found: &Found) {
    let (since, until) = (report.since, report.until);
    let events = &found.events;
    let mut interfaces = BTreeSet::new();
    // What is enforced, from then on.
    let mut state: Option<(Timestamp, Vec<String>)> = None;
    for event in events {
        let Ok(record) = serde_json::from_str::<Value>(&event.record) else {
            continue;
        };
        // The first start after the period may say that nobody wrote at its end.
        if event.at >= until && event.action != "start" {
            continue;
        }
        let is_in = event.at >= since;
        match &*event.action {
            "start" => {
                let gap = gap(&event.record).filter(|gap| gap.to > since && gap.from < until);
                report.gaps.extend(gap);
            }
            "state" => {
                end(report, &mut state, event.at);
                let reasons = texts(&record["kordon"]["reasons"]);
                if record["kordon"]["enforcing"] == false {
                    state = Some((event.at, reasons));
                }
                let kordon = &record["kordon"];
                in_force(
                    &mut report.policies,
                    event.at,
                    &kordon["policy_hash"],
                    since,
                );
                in_force(&mut report.databases, event.at, &kordon["database"], since);
                if !is_in {
                    interfaces.clear();
                }
                interfaces.extend(texts(&kordon["interfaces"]));
            }
            "change" => {
                let change = change(&record, event.at);
                let hash = &record["kordon"]["policy_hash"];
                in_force(&mut report.policies, change.at, hash, since);
                if is_in {
                    report.changes.push(change);
                }
            }
            _ => {}
        }
    }
    // Whatever the reason was: a daemon that starts has said why already.
    let last = (found.heard.unwrap_or(until), until);
    for (from, to) in found.silences.iter().copied().chain([last]) {
        let is_long = to.duration_since(from) > SILENCE;
        if is_long && from < until && to > since && !report.gaps.iter().any(|gap| gap.to == to) {
            let why = "nothing was written, not even that kordon goes on".to_owned();
            report.gaps.push(Gap { from, to, why });
        }
    }
    report.gaps.sort_by_key(|gap| gap.from);
    end(report, &mut state, until);
    report.interfaces = interfaces.into_iter().collect();
    let seconds = |from: Timestamp, to: Timestamp| {
        let (from, to) = (from.max(since), to.min(until));
        to.duration_since(from).as_secs_f64().max(0.0)
    };
    report.summary.gaps = report.gaps.len() as u64;
    // A sum of nothing is less than nothing, by its sign.
    let sum = |spans: &mut dyn Iterator<Item = (Timestamp, Timestamp)>| {
        spans.fold(0.0, |sum, (from, to)| sum + seconds(from, to))
    };
    report.summary.gap_seconds = sum(&mut report.gaps.iter().map(|gap| (gap.from, gap.to)));
    report.summary.not_enforcing_seconds =
        sum(&mut report.not_enforcing.iter().map(|span| (span.from, span.to)));
}

/// What was not enforced is so until then.
fn end(report: &mut Report, state: &mut Option<(Timestamp, Vec<String>)>, to: Timestamp) {
    if let Some((from, reasons)) = state.take()
        && to > report.since
    {
        report.not_enforcing.push(Span { from, to, reasons });
    }
}

fn gap(record: &str) -> Option<Gap> {
    let gap = gaps::gap(record)?;
    Some(Gap {
        from: gap.from.parse().ok()?,
        to: gap.to.parse().ok()?,
        why: gap.why.to_owned(),
    })
}

/// Of what was in force before the period, the last.
fn in_force(list: &mut Vec<InForce>, at: Timestamp, what: &Value, since: Timestamp) {
    let Some(what) = what.as_str() else { return };
    if list.last().is_some_and(|last| last.what == what) {
        return;
    }
    if at < since {
        list.clear();
    }
    list.push(InForce {
        since: at,
        what: what.to_owned(),
    });
}

fn change(record: &Value, at: Timestamp) -> Change {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kordon = &record["kordon"];
    Change {
        at: text(&record["event"]["start"])
            .and_then(|at| at.parse().ok())
            .unwrap_or(at),
        user: text(&record["user"]["name"]).or_else(|| text(&record["user"]["id"])),
        login: text(&kordon["login"]),
        command: text(&kordon["command"]).unwrap_or_default(),
        policy_hash: text(&kordon["policy_hash"]),
        database: text(&kordon["database"]),
    }
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    let texts = list.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}
