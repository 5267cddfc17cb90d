//! The log of evidence: how much is written, signed, and sent on, and what fails.

use jiff::Timestamp;

use super::{Snapshot, page::Page, state::truths};

pub(super) fn evidence(page: &Page, snapshot: &Snapshot) {
    let Some(evidence) = &snapshot.evidence else {
        return;
    };
    page.gauges(
        "kordon_evidence_failing",
        "Whether this part of the log of evidence does not go as it should.",
        ["part"],
        truths(evidence.failing.iter().copied()),
    );
    for (name, help, records) in [
        (
            "kordon_evidence_records",
            "Records of the log of evidence.",
            evidence.records,
        ),
        (
            "kordon_evidence_signed_records",
            "Records of the log of evidence that a checkpoint covers.",
            evidence.signed,
        ),
        (
            "kordon_evidence_history_records",
            "Records of the log of evidence that are in its history.",
            evidence.history,
        ),
    ] {
        page.gauge(name, help, records.map(|records| records as f64));
    }
    let missed = evidence.missed.iter();
    page.counters(
        "kordon_evidence_missed_packets_total",
        "Packets that could not be written to the log of evidence since the daemon started.",
        [],
        missed.clone().map(|missed| ([], missed.packets)),
    );
    page.counters(
        "kordon_evidence_missed_bytes_total",
        "Bytes of these.",
        [],
        missed.map(|missed| ([], missed.bytes)),
    );
    let seconds = |at: Option<Timestamp>| at.map(|at| at.as_second() as f64);
    page.gauge(
        "kordon_evidence_last_record_timestamp_seconds",
        "When the last record of the log of evidence was written.",
        seconds(evidence.last),
    );
    page.gauge(
        "kordon_evidence_witnessed_timestamp_seconds",
        "When a checkpoint of the log of evidence was brought outside last, since the daemon started.",
        seconds(evidence.witnessed),
    );
    let destinations = evidence.destinations.iter();
    page.gauges(
        "kordon_evidence_forward_failing",
        "Whether records do not get to this destination.",
        ["destination"],
        truths(destinations.map(|(to, _, is_failing)| (&**to, *is_failing))),
    );
    let destinations = evidence.destinations.iter();
    page.gauges(
        "kordon_evidence_forward_records",
        "Records of the log of evidence that have arrived there, or need not be sent.",
        ["destination"],
        destinations.filter_map(|(to, records, _)| Some(([&**to], (*records)? as f64))),
    );
}
