//! What the log itself wants to know of a record: a few fields of its JSON. All others are not looked at.
//!
//! The names are those of the Elastic Common Schema, nested: `{"@timestamp": …, "event": {"sequence": …}}`.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// The fields of a record that say where and when it belongs.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Head {
    #[serde(rename = "@timestamp")]
    at: Option<String>,
    #[serde(default)]
    event: Event,
    #[serde(default)]
    kordon: Kordon,
}

#[derive(Debug, Default, Deserialize)]
struct Event {
    sequence: Option<u64>,
    action: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Kordon {
    /// Whatever names one run of the machine.
    boot: Option<Value>,
    forgot_before: Option<u64>,
}

impl Head {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// As a text: that it is not JSON, or that it is and one of the fields is not of its type.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| {
            if error.is_data() {
                format!("is JSON that is not a record: {error}")
            } else {
                format!("is not JSON: {error}")
            }
        })
    }

    /// `event.sequence`: the record's index in the log.
    pub(crate) fn sequence(&self) -> Option<u64> {
        self.event.sequence
    }

    /// `@timestamp`, RFC 3339.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn at(&self) -> Result<Timestamp, String> {
        let text = self.at.as_deref().ok_or("has no `@timestamp`")?;
        text.parse()
            .map_err(|error| format!("has the `@timestamp` `{text}`: {error}"))
    }

    /// The record says that the clock was set.
    pub(crate) fn is_clock(&self) -> bool {
        self.event.action.as_deref() == Some("clock")
    }

    /// The record says that those before this one were removed on purpose.
    pub(crate) fn forgot_before(&self) -> Option<u64> {
        let forget = self.event.action.as_deref() == Some("forget");
        self.kordon.forgot_before.filter(|_| forget)
    }

    /// `kordon.boot`.
    pub(crate) fn boot(&self) -> Option<&Value> {
        self.kordon.boot.as_ref()
    }
}
