//! The history over logs that are written here.

use std::{fs, path::Path};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    fill::Filler,
    query::{Found, Period, read},
    store::Store,
    total::{By, Totals},
};

const HOUR: i64 = 3600;

fn at(seconds: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn record(seconds: i64, action: &str, kordon: Value) -> Value {
    json!({ "@timestamp": at(seconds), "event": { "action": action }, "kordon": kordon })
}

fn flow(seconds: i64, camera: u8, packets: u64) -> Value {
    let kordon = json!({ "zone": "z", "action": "drop", "reason": "rule", "by": "xdp" });
    let mut record = record(seconds, "flow", kordon);
    record["event"]["start"] = json!(at(seconds - 5));
    record["event"]["end"] = json!(at(seconds));
    record["source"] = json!({ "mac": format!("02-00-00-00-00-{camera:02X}") });
    record["network"] = json!({ "packets": packets, "bytes": 100 * packets });
    record
}

fn beat(seconds: i64, counted: u64) -> Value {
    let counted =
        json!([{ "zone": "z", "action": "drop", "packets": counted, "bytes": 100 * counted }]);
    record(
        seconds,
        "heartbeat",
        json!({ "counters": "1", "counted": counted, "unwritten": [] }),
    )
}

fn write(folder: &Path, first: usize, records: &[Value]) {
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    fs::write(folder.join(format!("{first:020}.jsonl")), lines).unwrap();
}

fn fill(store: &Store, filler: &mut Filler, folder: &Path) {
    while filler.fill(store, folder, u64::MAX).unwrap() {}
}

/// Packets by camera, and what else there is.
fn seen(store: &Store, folder: &Path, since: i64, until: i64) -> (Vec<(String, u64)>, Found) {
    let period = Period {
        since: at(since),
        until: at(until),
    };
    let mut totals = Totals::new(Some(By::Camera));
    let found = read(store, folder, period, || None, &|_| true, &mut |seen| {
        totals.add(seen);
    })
    .unwrap();
    let mut sums: Vec<_> = (totals.sums(By::Camera).into_iter())
        .map(|total| (total.mac.flatten().unwrap_or_default(), total.packets))
        .collect();
    sums.sort();
    (sums, found)
}

fn camera(number: u8, packets: u64) -> (String, u64) {
    (format!("02:00:00:00:00:{number:02x}"), packets)
}

#[test]
fn a_camera_that_comes_back_is_itself() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let store = Store::open(folder, "log").unwrap();
    let mut filler = Filler::new(&store).unwrap();
    let mut records = vec![flow(10, 1, 3), flow(20, 2, 4), flow(50 * HOUR, 2, 5)];
    write(folder, 0, &records);
    fill(&store, &mut filler, folder);
    let hour = at(0).as_second() / HOUR;
    assert!(!store.forget_before(hour).unwrap());
    // A day at a time, whatever the clock says.
    assert!(store.forget_before(hour + 1000).unwrap());
    filler = Filler::new(&store).unwrap();
    records.extend([flow(51 * HOUR, 3, 6), flow(51 * HOUR, 1, 7)]);
    write(folder, 0, &records);
    fill(&store, &mut filler, folder);
    let (sums, found) = seen(&store, folder, -HOUR, 60 * HOUR);
    assert_eq!(sums, [camera(1, 7), camera(2, 5), camera(3, 6)]);
    assert_eq!(found.kept_from, Some(at(24 * HOUR)));
    assert_eq!(found.begins, Some(at(10)));
}

#[test]
fn periods_are_cut_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let records: Vec<Value> = (0..600)
        .map(|number| flow(60 * number + 30, 1, 1))
        .collect();
    write(folder, 0, &records[..300]);
    write(folder, 300, &records[300..]);
    let store = Store::open(folder, "log").unwrap();
    let mut filler = Filler::new(&store).unwrap();
    // What the database has, and what is read from the log, is the same.
    for until in [0, 100, 300, 599, 600] {
        while filler.fill(&store, folder, until).unwrap() {}
        for (since, until) in [
            (0, 36_000),
            (0, 7200),
            (1800, 9000),
            (3599, 30_001),
            (35_000, 40_000),
        ] {
            let all = (0..600).filter(|number| (since..until).contains(&(60 * number + 30)));
            let all = all.count() as u64;
            let (sums, found) = seen(&store, folder, since, until);
            assert_eq!(sums, [camera(1, all)], "{since} to {until}");
            assert!(!found.is_rounded);
        }
    }
    // The oldest records are gone: whole hours are left of what is cut.
    fs::remove_file(folder.join(format!("{:020}.jsonl", 0))).unwrap();
    let (sums, found) = seen(&store, folder, 1800, 36_000);
    assert_eq!((sums, found.is_rounded), (vec![camera(1, 600)], true));
    let (sums, found) = seen(&store, folder, 3600, 36_000);
    assert_eq!((sums, found.is_rounded), (vec![camera(1, 540)], false));
}

#[test]
fn what_is_missing_and_when_nobody_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let opening = json!([{ "zone": "z", "action": "drop", "packets": 10, "bytes": 1000 }]);
    let mut first = beat(0, 12);
    first["kordon"]["opening"] = opening;
    let records = [
        flow(-1, 1, 2),
        first,
        flow(5, 1, 3),
        beat(10, 17),
        beat(20, 17),
        beat(100, 18),
    ];
    write(folder, 0, &records);
    for records in [0, 3, 5, 6] {
        let store = Store::in_memory().unwrap();
        let mut filler = Filler::new(&store).unwrap();
        while filler.fill(&store, folder, records).unwrap() {}
        let (_, found) = seen(&store, folder, -60, 3600);
        let missing: i64 = found.missing.values().map(|of| of.packets).sum();
        assert_eq!(
            missing, 3,
            "two by the second heartbeat, one by the last: {records}"
        );
        assert_eq!(found.silences, [(at(20), at(100))], "{records}");
        assert_eq!((found.heard, found.records), (Some(at(100)), 6));
        let (_, found) = seen(&store, folder, 60, 3600);
        let missing: i64 = found.missing.values().map(|of| of.packets).sum();
        assert_eq!(missing, 1, "{records}");
        assert!(found.zones.contains("z"));
    }
}

#[test]
fn another_log_is_not_taken_for_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, 0, &[flow(10, 1, 3)]);
    let store = Store::open(folder, "log").unwrap();
    let mut filler = Filler::new(&store).unwrap();
    fill(&store, &mut filler, folder);
    store.is_sound().unwrap();
    store.is_within(1).unwrap();
    assert!(store.is_within(0).unwrap_err().is_damage());
    drop(store);
    assert!(Store::open(folder, "another").err().unwrap().is_damage());
    assert!(Store::read(folder, "another").err().unwrap().is_damage());
    assert!(Store::read(folder, "log").unwrap().is_some());
    fs::write(
        folder.join(super::store::NAME),
        "no database at all, and long enough to be read as one",
    )
    .unwrap();
    assert!(Store::open(folder, "log").err().unwrap().is_damage());
}
