//! The sentences of the summary, by what a report has.

use jiff::SignedDuration;

use super::{
    super::sample::{calm, count, rich, start},
    page, text,
};
use crate::report::{
    model::{Book, Difference, Gap, Report},
    summary::{Sentences, sentences},
};

/// Of a report of which nothing is to be said, but for this.
fn said(change: impl FnOnce(&mut Report)) -> Sentences {
    let mut report = calm();
    change(&mut report);
    page(&report);
    sentences(&report)
}

#[test]
fn packets_of_nobody_are_not_of_cameras() {
    let all = said(|report| {
        report.summary.cameras = 0;
        report.summary.tried = 0;
        report.summary.actions.drop = count(0);
    });
    assert_eq!(
        all.lead,
        "No camera is known that sent something, and nothing was dropped."
    );
}

#[test]
fn the_lead_has_the_right_number() {
    let lead = |cameras, tried, networks, dropped, other| {
        let set = |report: &mut Report| {
            let summary = &mut report.summary;
            (summary.cameras, summary.tried) = (cameras, tried);
            summary.refused = tried;
            summary.blocked_networks = networks;
            summary.dropped = count(dropped);
            summary.actions.drop = count(dropped + other);
        };
        said(set).lead
    };
    let cases = [
        (
            (48, 3, 2, 1204, 0),
            "Of 48 cameras, 3 tried 1,204 times to reach 2 blocked networks.",
        ),
        (
            (48, 1, 1, 1, 0),
            "Of 48 cameras, 1 tried once to reach 1 blocked network.",
        ),
        (
            (1, 1, 1, 2, 0),
            "1 camera sent something: it tried 2 times to reach 1 blocked network.",
        ),
        (
            (48, 0, 0, 0, 0),
            "48 cameras sent something, and none tried to reach a blocked network.",
        ),
        (
            (1, 0, 0, 0, 0),
            "1 camera sent something, and it did not try to reach a blocked network.",
        ),
        (
            (48, 3, 2, 1204, 9),
            "Of 48 cameras, 3 tried 1,204 times to reach 2 blocked networks.",
        ),
        (
            (48, 3, 0, 0, 9),
            "Of 48 cameras, packets of 3 were dropped, but none on the way to a known network.",
        ),
        (
            (1, 1, 1, 1, 1),
            "1 camera sent something: it tried once to reach 1 blocked network.",
        ),
    ];
    for ((cameras, tried, networks, dropped, other), expected) in cases {
        assert_eq!(lead(cameras, tried, networks, dropped, other), expected);
    }
}

#[test]
fn what_is_well_is_said_once() {
    let all = said(|_| {});
    assert!(all.loud.is_empty(), "{:?}", all.loud);
    assert_eq!(
        all.well,
        [
            "0 packets got through to these networks.",
            "Observation had no gap.",
            "Enforcement was complete all the time.",
            "Every packet that was counted is in a record.",
        ]
    );
    assert_eq!(
        all.precisely[0],
        "Each time is a packet: 1,204 packets (114.1 KiB) were dropped on the way to these networks."
    );
}

#[test]
fn that_nothing_got_through_is_said_only_of_what_is_known() {
    let all = said(|report| (report.summary.gaps, report.summary.gap_seconds) = (1, 4.0));
    assert_eq!(
        all.well[0],
        "0 packets that are recorded got through to these networks. What is not known may hide others."
    );
}

#[test]
fn a_log_that_begins_late_limits_what_is_said_to_be_well() {
    let all = said(|report| {
        report.log.begins = Some(report.until - SignedDuration::from_secs(60));
    });
    for said in [
        "Where there are records, observation had no gap.",
        "Where there are records, enforcement was complete.",
    ] {
        assert!(all.well.iter().any(|well| well == said), "{:?}", all.well);
    }
}

#[test]
fn of_a_time_without_records_nothing_is_well() {
    let nothing = |report: &mut Report| {
        report.summary = Default::default();
        report.log.begins = Some(report.until);
    };
    let all = said(nothing);
    assert_eq!(
        all.lead,
        "Nothing is known of this period: no record was written in it."
    );
    assert_eq!(all.well, [""; 0]);
    // The daemon was away.
    let all = said(|report| {
        let (from, to) = (report.since, report.until);
        report.summary = Default::default();
        let why = String::new();
        report.gaps.push(Gap { from, to, why });
    });
    assert_eq!(all.well, [""; 0]);
    let mut report = calm();
    nothing(&mut report);
    let page = text(&page(&report));
    assert!(page.contains("nobody wrote") || page.contains("nothing to draw"));
}

#[test]
fn what_is_not_well_is_loud() {
    let is_loud = |said: Sentences, begins: &str| {
        assert!(
            said.loud.iter().any(|loud| loud.starts_with(begins)),
            "`{begins}` is not in {said:?}"
        );
    };
    is_loud(
        said(|report| report.summary.through = count(5)),
        "5 packets (485 B) got through to a network",
    );
    is_loud(
        said(|report| report.summary.through = count(1)),
        "1 packet (97 B) got through to a network",
    );
    let gaps = |gaps, seconds| {
        said(|report| (report.summary.gaps, report.summary.gap_seconds) = (gaps, seconds))
    };
    is_loud(gaps(1, 4.0), "Observation had one gap of 4 s: ");
    is_loud(gaps(1, 0.2), "Observation had one gap of less than 1 s: ");
    is_loud(
        gaps(1234, 7325.0),
        "Observation had 1,234 gaps, 2 h 2 min in all: ",
    );
    is_loud(
        said(|report| report.summary.not_enforcing_seconds = 123.0),
        "For 2 min 3 s, not everything was enforced",
    );
    is_loud(
        said(|report| report.not_enforcing = rich(1, 24).not_enforcing),
        "For moments, not everything",
    );
    is_loud(
        said(|report| report.interfaces.clear()),
        "No interface was observed",
    );
    is_loud(
        said(|report| report.log.begins = None),
        "The log has no record.",
    );
    is_loud(
        said(|report| report.log.begins = Some(start() + SignedDuration::from_secs(60))),
        "The oldest record that is kept is of 2026-10-01 00:01:00 UTC: ",
    );
    is_loud(
        said(|report| report.log.checkpoint = None),
        "No signed checkpoint",
    );
    is_loud(
        said(|report| report.until = report.made + SignedDuration::from_secs(1)),
        "The period was not over",
    );
}

#[test]
fn unrecorded_packets_of_one_zone_do_not_make_good_those_of_another() {
    let book = |packets| Book {
        unrecorded: Difference { packets, bytes: 0 },
        ..Book::default()
    };
    let all = said(|report| {
        report.log.begins = Some(start() - SignedDuration::from_secs(60));
        for (zone, packets) in [("a", 5), ("b", -5)] {
            report
                .books
                .insert(zone.to_owned(), [("pass".to_owned(), book(packets))].into());
        }
    });
    assert_eq!(
        all.loud,
        ["5 packets were counted and are in no record (5 passed)."]
    );
    assert!(
        all.well
            .contains(&"5 packets were counted before this period, and recorded in it.".to_owned())
    );
    let all = said(|report| {
        report.log.begins = Some(start() - SignedDuration::from_secs(60));
        report.summary.unrecorded.packets = -1;
    });
    assert!(all.loud.is_empty());
    assert!(
        all.well
            .contains(&"1 packet was counted before this period, and recorded in it.".to_owned())
    );
}
