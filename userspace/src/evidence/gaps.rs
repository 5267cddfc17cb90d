//! When nobody wrote: a daemon that starts says what the last record before it was. What is counted in the kernel
//! meanwhile is not lost by that; a record of flows that comes later has it, or the books of a heartbeat show that
//! none does.

use std::path::Path;

use serde_json::Value;

use super::read;

/// A time without a daemon that ended in order.
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
    // Most records are of flows: those are not looked at closer.
    let starts =
        read::records(folder, 0).filter(|(_, record)| record.contains("\"action\":\"start\""));
    starts.filter_map(|(_, record)| gap(&record)).collect()
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
        let name = "00000000000000000000.jsonl";
        fs::write(folder.path().join(name), lines.join("\n") + "\n").unwrap();
        let found = gaps(folder.path());
        let whys = ["without a word", "was stopped", "was off"];
        assert_eq!(found.len(), 3);
        for (gap, why) in found.iter().zip(whys) {
            assert_eq!(gap.from, "2026-01-01T00:00:00Z");
            assert!(gap.why.contains(why), "{gap:?}");
        }
    }
}
