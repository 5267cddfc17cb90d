//! When nobody wrote: a daemon that starts says what the last record before it was; one that goes on says so each ten seconds. What is counted in the kernel
//! meanwhile is not lost by that; a record of flows that comes later has it, or the books of a heartbeat show that
//! none does.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::read;

/// Where nothing is written for longer, not even that kordon goes on, nobody wrote.
pub const SILENCE: SignedDuration = SignedDuration::from_secs(30);

/// A time in which nobody wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Time of the last record before (RFC 3339, UTC).
    pub from: String,
    /// Time of the first one after.
    pub to: String,
    /// In words.
    pub why: &'static str,
}

/// All of a log, oldest first.
#[must_use]
pub fn gaps(folder: &Path) -> Vec<Gap> {
    let mut all = Vec::new();
    let mut before: Option<(Timestamp, String)> = None;
    for (_, record) in read::records(folder, 0) {
        // Most records are of flows: those are not looked at closer.
        let found = match record.contains("\"action\":\"start\"") {
            true => gap(&record),
            false => None,
        };
        let at = time(&record).and_then(|at| Some((at.parse::<Timestamp>().ok()?, at.to_owned())));
        let silence = || {
            let ((from, before), (to, at)) = before.as_ref().zip(at.as_ref())?;
            (to.duration_since(*from) > SILENCE).then(|| Gap {
                from: before.clone(),
                to: at.clone(),
                why: "nothing was written, not even that kordon goes on",
            })
        };
        all.extend(found.or_else(silence));
        before = at.or(before);
    }
    all
}

/// The time with which every record begins.
fn time(record: &str) -> Option<&str> {
    let rest = record.strip_prefix("{\"@timestamp\":\"")?;
    rest.split_once('"').map(|(at, _)| at)
}

/// What a record of a start says of the time before; `None`: it is another record, or the first of all.
#[must_use]
pub fn gap(record: &str) -> Option<Gap> {
    let record: Value = serde_json::from_str(record).ok()?;
    if record["event"]["action"] != "start" {
        return None;
    }
    let before = &record["kordon"]["before"];
    let from = before["at"].as_str()?.to_owned();
    let to = record["@timestamp"].as_str()?.to_owned();
    let why = match (&before["action"], before["is_this_boot"].as_bool()) {
        (Value::String(action), Some(true)) if action == "stop" => {
            "the daemon was stopped; whether it was detached, too, the records before say"
        }
        (_, Some(true)) => "the daemon ended without a word",
        _ => "the router was off, or started anew",
    };
    Some(Gap { from, to, why })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn each_start_but_the_first_says_what_was_before() {
        let folder = tempfile::tempdir().unwrap();
        let start = |at: &str, before: Value| {
            json!({
                "@timestamp": at,
                "event": { "action": "start" },
                "kordon": { "before": before },
            })
            .to_string()
        };
        let before = |action: &str, is_this_boot: bool| json!({ "at": "2026-01-01T00:00:00Z", "action": action, "is_this_boot": is_this_boot });
        let lines = [
            start("1", Value::Null),
            start("2", before("flow", true)),
            json!({ "event": { "action": "flow" }, "rule": { "name": "\"action\":\"start\"" } })
                .to_string(),
            start("3", before("stop", true)),
            start("4", before("stop", false)),
        ];
        let beat =
            |at: &str| json!({ "@timestamp": at, "event": { "action": "heartbeat" } }).to_string();
        // It goes on, and then does not for a while.
        let beats =
            ["00:10", "00:20", "01:10", "00:05"].map(|at| beat(&format!("2026-01-02T00:{at}Z")));
        let lines = [&lines[..], &beats].concat();
        let name = "00000000000000000000.jsonl";
        fs::write(folder.path().join(name), lines.join("\n") + "\n").unwrap();
        let found = gaps(folder.path());
        let whys = ["without a word", "was stopped", "was off"];
        assert_eq!(found.len(), 4);
        let silence = &found[3];
        assert_eq!(
            (&*silence.from, &*silence.to),
            ("2026-01-02T00:00:20Z", "2026-01-02T00:01:10Z")
        );
        for (gap, why) in found.iter().zip(whys) {
            assert_eq!(gap.from, "2026-01-01T00:00:00Z");
            assert!(gap.why.contains(why), "{gap:?}");
        }
    }
}
