//! That lines add up, and what they look like.

use std::collections::HashMap;

use super::*;
use crate::live::{
    Key,
    testing::{counted, row},
};

fn second(start: Instant, number: u64) -> Instant {
    start + Duration::from_secs(number)
}

fn told(events: &[Event]) -> Vec<(What, u64, u64)> {
    events
        .iter()
        .map(|event| (event.event, event.new_packets, event.new_bytes))
        .collect()
}

#[test]
fn new_at_once_and_more_at_most_every() {
    let (mut stream, start) = (Stream::new(Duration::from_secs(5), true), Instant::now());
    assert_eq!(stream.post(vec![counted(1, 10, 1000)], start), []);
    let events = stream.post(
        vec![counted(1, 11, 1100), counted(2, 3, 30)],
        second(start, 1),
    );
    // One that was there before goes on; its first line need not wait.
    assert_eq!(told(&events), [(What::More, 1, 100), (What::New, 3, 30)]);
    let events = stream.post(
        vec![counted(1, 12, 1200), counted(2, 3, 30)],
        second(start, 2),
    );
    assert_eq!(events, []);
    // It stopped growing: what was not told is told when it is time.
    let events = stream.post(
        vec![counted(1, 12, 1200), counted(2, 3, 30)],
        second(start, 6),
    );
    assert_eq!(told(&events), [(What::More, 1, 100)]);
    let _ = stream.post(
        vec![counted(1, 20, 2000), counted(2, 3, 30)],
        second(start, 7),
    );
    assert_eq!(told(&stream.finish()), [(What::More, 8, 800)]);
    assert_eq!(stream.finish(), []);
}

#[test]
fn all_that_was_before_if_asked() {
    let (mut stream, start) = (Stream::new(Duration::ZERO, false), Instant::now());
    let events = stream.post(vec![counted(1, 10, 1000), counted(2, 0, 0)], start);
    assert_eq!(told(&events), [(What::New, 10, 1000)]);
    let events = stream.post(vec![counted(1, 10, 1000), counted(2, 1, 1)], start);
    assert_eq!(
        told(&events),
        [(What::New, 1, 1)],
        "nothing was told of it before"
    );
}

#[test]
fn what_is_missing_is_told_first() {
    let (mut stream, start) = (Stream::new(Duration::from_secs(60), true), Instant::now());
    let _ = stream.post(vec![], start);
    let _ = stream.post(vec![counted(1, 1, 1)], second(start, 1));
    let _ = stream.post(vec![counted(1, 4, 4)], second(start, 2));
    assert_eq!(
        told(&stream.post(vec![], second(start, 3))),
        [(What::More, 3, 3)]
    );
}

/// Answers made up at random: flows come, grow, stand still, are missing and begin anew. What the lines
/// of each flow say is what its counters grew by.
#[test]
fn lines_add_up() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let from_now = random.bool();
        let every = Duration::from_secs(random.u64(0..6));
        let (mut stream, start) = (Stream::new(every, from_now), Instant::now());
        let mut counters: HashMap<u32, (u64, u64)> = HashMap::new();
        let mut wanted: HashMap<Key, (u64, u64)> = HashMap::new();
        let mut said: HashMap<Key, (u64, u64)> = HashMap::new();
        // What the last answer with a flow had of it.
        let mut seen: HashMap<u32, (u64, u64)> = HashMap::new();
        let mut note = |events: Vec<Event>| {
            for event in events {
                let sum = said.entry(event.row.key()).or_default();
                assert!(event.new_packets > 0 || event.new_bytes > 0);
                sum.0 += event.new_packets;
                sum.1 += event.new_bytes;
            }
        };
        for poll in 0..random.u64(1..40) {
            if random.u8(..) < 20 {
                counters.clear();
            }
            for number in 0..12 {
                if random.u8(..) < 80 {
                    let counter = counters.entry(number).or_default();
                    counter.0 += random.u64(0..5);
                    counter.1 += random.u64(0..500);
                }
            }
            let mut rows = Vec::new();
            for (&number, &(packets, bytes)) in &counters {
                if random.u8(..) < 20 {
                    continue;
                }
                rows.push(counted(number, packets, bytes));
                let before = seen.insert(number, (packets, bytes)).unwrap_or_default();
                let is_anew = packets < before.0 || bytes < before.1;
                let before = if is_anew { (packets, bytes) } else { before };
                if !(from_now && poll == 0) {
                    let sum = wanted.entry(row(number).key()).or_default();
                    sum.0 += packets - before.0;
                    sum.1 += bytes - before.1;
                }
            }
            note(stream.post(rows, second(start, poll)));
        }
        note(stream.finish());
        wanted.retain(|_, sum| *sum != (0, 0));
        assert_eq!(said, wanted, "seed {seed}");
    }
}

#[test]
fn lines_for_people() {
    let mut lines = Lines::new(false);
    let event = |row, event| Event {
        row,
        new_packets: 12,
        new_bytes: 11_040,
        event,
    };
    assert_eq!(
        lines.line(&event(row(31), What::New)),
        "17:02:41Z new  cameras  10.20.0.31      → 198.51.100.3    AS64500 Bad Networks     tcp/443  DROP  rule hostile, 12 packets 11 kB"
    );
    let mut other = row(31);
    (other.src, other.mac, other.dst, other.asn, other.rule) = (None, None, None, None, None);
    (other.proto, other.action, other.reason) = (None, Action::Pass, "not-ip".to_owned());
    other.last = "never".to_owned();
    let bare = lines.line(&event(other, What::More));
    assert_eq!(
        bare.split_whitespace().collect::<Vec<_>>().join(" "),
        "--:--:--Z more cameras - → - - - PASS not-ip, 12 packets 11 kB"
    );
    let mut hostile = row(31);
    hostile.name = Some("ev\x1b[2Jil\u{202e}\n".to_owned());
    hostile.zone = "z\r".to_owned();
    hostile.rule = Some("\x07r".to_owned());
    let mut coloured = Lines::new(true);
    let line = coloured.line(&event(hostile.clone(), What::New));
    assert_eq!(line.matches('\x1b').count(), 2, "{line:?}");
    assert!(line.contains("\x1b[1;31mDROP \x1b[0m"), "{line:?}");
    let others = line.chars().filter(|c| c.is_control() || *c == '\u{202e}');
    assert_eq!(others.count(), 2, "{line:?}");

    let text = json(&event(hostile.clone(), What::More)).expect("json");
    assert!(text.is_ascii(), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).expect("json");
    assert_eq!(value["name"], hostile.name.expect("a name"));
    assert_eq!(value["event"], "more");
    assert_eq!(value["new_packets"], 12);
    assert_eq!(value["zone"], "z\r");
    assert!(value["rule"].is_string() && value["others"] == false);
}
