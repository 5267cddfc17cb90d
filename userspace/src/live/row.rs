//! A flow as the daemon tells it.

use std::{fmt::Write as _, sync::Arc};

use serde::{Deserialize, Serialize};

/// What was decided of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It went on.
    Pass,
    /// It went on, and would be dropped if the rule were not on probation.
    Audit,
    /// It was dropped.
    Drop,
}

impl Action {
    /// All of them, in the order in which sums keep them.
    pub const ALL: [Self; 3] = [Self::Pass, Self::Audit, Self::Drop];

    /// As in policies and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Audit => "audit",
            Self::Drop => "drop",
        }
    }

    /// In capitals, to be seen.
    pub fn loud(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Audit => "AUDIT",
            Self::Drop => "DROP",
        }
    }
}

/// One flow of `kordon flows --live --json`. Its counters are cumulative. Fields that are not known
/// here are ignored, so that an older `top` can read a newer daemon.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Row {
    /// The zone of the camera.
    pub zone: String,
    /// Where it came in, by its name in policies.
    #[serde(default)]
    pub interface: Option<String>,
    /// The camera's MAC address.
    #[serde(default)]
    pub mac: Option<String>,
    /// The camera's address.
    #[serde(default)]
    pub src: Option<String>,
    /// Whom it was for; `None`: not understood, or not in the flow.
    #[serde(default)]
    pub dst: Option<String>,
    /// The address that decided: `dst`, or one within it.
    #[serde(default)]
    pub judged: Option<String>,
    /// The network of `judged`.
    #[serde(default)]
    pub asn: Option<u32>,
    /// Its country.
    #[serde(default)]
    pub country: Option<String>,
    /// Its name. Whoever registers a network chooses it: not to be trusted.
    #[serde(default)]
    pub name: Option<String>,
    /// `tcp`, `udp`, `icmp` or a number.
    #[serde(default)]
    pub proto: Option<String>,
    /// Destination port.
    #[serde(default)]
    pub dport: Option<u16>,
    /// What was decided.
    pub action: Action,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// The rule, where a rule decided.
    #[serde(default)]
    pub rule: Option<String>,
    /// Packets since the daemon started.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// RFC 3339, UTC, with milliseconds.
    #[serde(default)]
    pub first: String,
    /// The same.
    #[serde(default)]
    pub last: String,
    /// Who counted: `xdp` or `tc`.
    #[serde(default)]
    pub by: String,
    /// Packets of several flows, without destination.
    #[serde(default)]
    pub others: bool,
}

/// What makes a flow the same flow in the next answer: all that is neither counted nor looked up.
/// A network's name and country come from a database that may change under a flow; its number does not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Row {
    /// Its key.
    pub fn key(&self) -> Key {
        let mut text = String::with_capacity(128);
        let mut field = |value: Option<&str>| {
            // With its length, a text cannot pass for two.
            let _ = match value {
                Some(value) => write!(text, "{}:{value}", value.len()),
                None => write!(text, "-"),
            };
        };
        field(Some(&self.zone));
        field(self.interface.as_deref());
        field(self.mac.as_deref());
        field(self.src.as_deref());
        field(self.dst.as_deref());
        field(self.judged.as_deref());
        field(self.proto.as_deref());
        field(Some(self.action.word()));
        field(Some(&self.reason));
        field(self.rule.as_deref());
        field(Some(&self.by));
        let _ = write!(text, "{:?} {:?} {}", self.asn, self.dport, self.others);
        Key(text.into())
    }

    /// The address that decided, else whom it was for.
    pub fn target(&self) -> Option<&str> {
        self.judged.as_deref().or(self.dst.as_deref())
    }

    /// `tcp/443`; `-` where it is not known.
    pub fn service(&self) -> String {
        match (self.proto.as_deref(), self.dport) {
            (Some(proto), Some(port)) => format!("{proto}/{port}"),
            (Some(proto), None) => proto.to_owned(),
            (None, _) => "-".to_owned(),
        }
    }

    /// The rule that decided, else the reason.
    pub fn why(&self) -> &str {
        self.rule.as_deref().unwrap_or(&self.reason)
    }
}

/// Rows of an answer: an object for each line.
///
/// # Errors
///
/// Which line is no row, and why.
pub fn rows(lines: &str) -> Result<Vec<Row>, String> {
    let lines = lines.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(place, line)| {
            serde_json::from_str(line)
                .map_err(|why| format!("line {} of the flows: {why}", place + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::testing::row;

    #[test]
    fn as_the_daemon_writes_it() {
        let line = r#"{"zone":"cameras","interface":"trunk","mac":null,"src":"10.20.0.2","dst":"203.0.113.9","judged":"203.0.113.9","asn":64500,"name":"Example","country":"RU","proto":"tcp","dport":443,"action":"drop","reason":"rule","rule":"hostile","packets":7,"bytes":420,"first":"2026-01-02T03:04:05.678Z","last":"2026-01-02T03:04:06.678Z","by":"xdp","others":false,"unheard_of":[1]}"#;
        let all = rows(&format!("{line}\n\n{line}\n")).expect("rows");
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].service(), "tcp/443");
        assert_eq!(all[0].why(), "hostile");
        let error = rows("{}").expect_err("no row");
        assert!(
            error.starts_with("line 1 of the flows: missing field"),
            "{error}"
        );
    }

    #[test]
    fn the_same_flow_has_the_same_key() {
        let one = row(1);
        let mut later = one.clone();
        later.packets = 99;
        later.last = "2027-01-01T00:00:00.000Z".to_owned();
        later.name = Some("Renamed".to_owned());
        assert_eq!(one.key(), later.key());
        let mut other = one.clone();
        other.action = Action::Pass;
        assert_ne!(one.key(), other.key());
        // Where one text ends and the next begins is part of it.
        let (mut a, mut b) = (one.clone(), one);
        (a.zone, a.interface) = ("x1:y".to_owned(), None);
        (b.zone, b.interface) = ("x".to_owned(), Some("y-".to_owned()));
        assert_ne!(a.key(), b.key());
    }
}
