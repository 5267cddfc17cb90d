//! What a record says, as far as whoever forwards it must know: how grave it is, and one sentence
//! of it.
//!
//! The line itself is never changed: its hash is in the log's tree, so a copy that is the same to
//! the byte can be proven.

use std::{fmt::Write as _, ops::Range};

use jiff::Timestamp;
use serde_json::{Value, json};

/// How grave a message is, in the numbers of RFC 5424 (table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Error = 3,
    Warning = 4,
    Informational = 6,
    Debug = 7,
}

/// A message that is to be sent.
#[derive(Debug)]
pub(super) struct Message {
    /// `None`: it is about the log, and not in it.
    pub(super) number: Option<u64>,
    /// As it is in the log, without `\n`.
    pub(super) line: Vec<u8>,
    value: Value,
}

impl Message {
    pub(super) fn new(number: u64, line: Vec<u8>) -> Self {
        let value = serde_json::from_slice(&line).unwrap_or_default();
        Self {
            number: Some(number),
            line,
            value,
        }
    }

    /// Records that were removed before they could be sent.
    pub(super) fn gap(gap: &Range<u64>) -> Self {
        let value = json!({
            "@timestamp": format!("{:.6}", Timestamp::now()),
            "event": {
                "kind": "event",
                "category": ["configuration"],
                "type": ["info"],
                "action": "gap",
            },
            "kordon": {
                "never_sent": gap.end - gap.start,
                "first": gap.start,
                "last": gap.end.saturating_sub(1),
            },
        });
        let line = value.to_string().into_bytes();
        Self {
            number: None,
            line,
            value,
        }
    }

    /// `event.action`.
    pub(super) fn action(&self) -> Option<&str> {
        self.value["event"]["action"].as_str()
    }

    pub(super) fn zone(&self) -> Option<&str> {
        self.value["kordon"]["zone"].as_str()
    }

    /// `kordon.action`: what became of a flow.
    pub(super) fn verdict(&self) -> Option<&str> {
        self.value["kordon"]["action"].as_str()
    }

    pub(super) fn source(&self) -> Option<&str> {
        self.value["source"]["ip"].as_str()
    }

    pub(super) fn destination(&self) -> Option<&str> {
        self.value["destination"]["ip"].as_str()
    }

    /// When it was written; `None`: it does not say.
    pub(super) fn at(&self) -> Option<Timestamp> {
        self.value["@timestamp"].as_str()?.parse().ok()
    }

    pub(super) fn severity(&self) -> Severity {
        let kordon = &self.value["kordon"];
        match self.action() {
            Some("flow") if self.verdict() == Some("drop") => Severity::Warning,
            Some("state") if kordon["enforcing"] == false => Severity::Error,
            Some("start") if is_torn(kordon) => Severity::Warning,
            // What is no record at all should not be in the log.
            Some("clock" | "detach" | "forget" | "gap") | None => Severity::Warning,
            Some("heartbeat") => Severity::Debug,
            Some(_) => Severity::Informational,
        }
    }

    /// What is sent where all of it is too long. It says where the whole one is: in the log, by its
    /// number.
    pub(super) fn short(&self) -> Vec<u8> {
        let short = json!({
            "@timestamp": self.value["@timestamp"],
            "event": { "action": self.action(), "sequence": self.number },
            "kordon": { "too_long": self.line.len() },
        });
        short.to_string().into_bytes()
    }

    /// For people.
    pub(super) fn sentence(&self) -> String {
        let kordon = &self.value["kordon"];
        match self.action() {
            Some("flow") => self.flow(),
            Some("heartbeat") => "kordon goes on".into(),
            Some("state") if kordon["enforcing"] == false => {
                format!("kordon does not enforce: {}", list(&kordon["reasons"]))
            }
            Some("state") => "kordon enforces".into(),
            Some("change") => {
                let user = text(&self.value["user"]["name"]).unwrap_or_else(|| "somebody".into());
                let what = text(&kordon["command"]).unwrap_or_else(|| "a change".into());
                format!("{user} changed what is enforced: {what}")
            }
            Some("start") if is_torn(kordon) => "kordon starts; the end of its log was torn".into(),
            Some("start") => "kordon starts".into(),
            Some("stop") => "kordon stops".into(),
            Some("forget") => {
                let before = text(&kordon["forgot_before"]).unwrap_or_default();
                format!("records before {before} were removed from the log")
            }
            Some("attach") => format!(
                "{} is judged",
                text(&kordon["interface"]).unwrap_or_default()
            ),
            Some("detach") => {
                format!(
                    "{} is judged no longer",
                    text(&kordon["interface"]).unwrap_or_default()
                )
            }
            Some("clock") => "the clock was set back".into(),
            Some("gap") => {
                let [sum, first, last] = ["never_sent", "first", "last"]
                    .map(|key| text(&kordon[key]).unwrap_or_default());
                format!(
                    "{sum} records, {first} to {last}, were removed from the log before they could be sent"
                )
            }
            Some(other) => format!("kordon: {other}"),
            None => "a line of the log that is no record".into(),
        }
    }

    fn flow(&self) -> String {
        let of = |part: &str, key: &str| text(&self.value[part][key]);
        let mut words = self.verdict().unwrap_or("flow").to_owned();
        // Nothing is said of what cannot be: `String` takes all.
        if let Some(from) = self
            .source()
            .map(str::to_owned)
            .or_else(|| of("source", "mac"))
        {
            let _ = write!(words, ": {from}");
        }
        if let Some(zone) = self.zone() {
            let _ = write!(words, " in {zone}");
        }
        if let Some(to) = self.destination() {
            let port = of("destination", "port").map(|port| format!(" port {port}"));
            let _ = write!(words, " to {to}{}", port.unwrap_or_default());
        }
        if let Some(transport) = of("network", "transport") {
            let _ = write!(words, " ({transport})");
        }
        if let Some(packets) = of("network", "packets") {
            let _ = write!(words, ", {packets} packets");
        }
        if let Some(reason) = of("rule", "name").or_else(|| of("kordon", "reason")) {
            let _ = write!(words, ", {reason}");
        }
        words
    }
}

fn is_torn(kordon: &Value) -> bool {
    let is_some = |value: &Value| match value {
        Value::Null => false,
        Value::Array(files) => !files.is_empty(),
        other => other != 0,
    };
    is_some(&kordon["torn"]) || is_some(&kordon["set_aside"])
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn list(value: &Value) -> String {
    let texts = value.as_array().into_iter().flatten().filter_map(text);
    texts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said() {
        let flow = json!({
            "event": { "action": "flow" },
            "source": { "ip": "192.0.2.5" },
            "destination": { "ip": "2001:db8::1", "port": 443 },
            "network": { "transport": "tcp", "packets": 3 },
            "rule": { "name": "abroad" },
            "kordon": { "action": "drop", "zone": "cameras" },
        });
        let mut passed = flow.clone();
        passed["kordon"]["action"] = json!("pass");
        let of = |action: &str, kordon: Value| json!({ "event": { "action": action }, "kordon": kordon });
        for (value, severity, sentence) in [
            (
                flow,
                Severity::Warning,
                "drop: 192.0.2.5 in cameras to 2001:db8::1 port 443 (tcp), 3 packets, abroad",
            ),
            (
                passed,
                Severity::Informational,
                "pass: 192.0.2.5 in cameras to 2001:db8::1 port 443 (tcp), 3 packets, abroad",
            ),
            (
                of("state", json!({ "enforcing": true })),
                Severity::Informational,
                "kordon enforces",
            ),
            (
                of(
                    "state",
                    json!({ "enforcing": false, "reasons": ["a", "b"] }),
                ),
                Severity::Error,
                "kordon does not enforce: a; b",
            ),
            (
                of("heartbeat", json!({})),
                Severity::Debug,
                "kordon goes on",
            ),
            (
                of("start", json!({ "torn": 0, "set_aside": [] })),
                Severity::Informational,
                "kordon starts",
            ),
            (
                of("start", json!({ "torn": 7 })),
                Severity::Warning,
                "kordon starts; the end of its log was torn",
            ),
            (
                of("start", json!({ "set_aside": ["x"] })),
                Severity::Warning,
                "kordon starts; the end of its log was torn",
            ),
            (
                of("forget", json!({ "forgot_before": 8 })),
                Severity::Warning,
                "records before 8 were removed from the log",
            ),
            (
                of("clock", json!({})),
                Severity::Warning,
                "the clock was set back",
            ),
            (
                of("stop", json!({})),
                Severity::Informational,
                "kordon stops",
            ),
            (
                of("change", json!({ "command": "apply" })),
                Severity::Informational,
                "somebody changed what is enforced: apply",
            ),
            (
                json!([1]),
                Severity::Warning,
                "a line of the log that is no record",
            ),
        ] {
            let message = Message::new(0, value.to_string().into_bytes());
            assert_eq!(message.severity(), severity, "{value}");
            assert_eq!(message.sentence(), sentence);
        }
        let gap = Message::gap(&(3..9));
        assert!(
            gap.sentence()
                .starts_with("6 records, 3 to 8, were removed")
        );
        assert_eq!(gap.severity(), Severity::Warning);
        let broken = Message::new(4, b"\xff{".to_vec());
        assert_eq!((broken.severity(), broken.at()), (Severity::Warning, None));
        let short = Message::new(
            4,
            json!({ "event": { "action": "flow" } }).to_string().into(),
        );
        let short: Value = serde_json::from_slice(&short.short()).unwrap();
        assert_eq!(short["event"], json!({ "action": "flow", "sequence": 4 }));
    }
}
