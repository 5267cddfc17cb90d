//! How it stands with the log of evidence.

use serde_json::{Value, json};

use super::View;
use crate::metrics::Evidence;

impl View {
    /// `None`: no log is asked for.
    pub(super) fn standing(&self) -> Option<Evidence> {
        self.config.evidence.as_ref()?;
        let log = self.evidence.as_ref();
        Some(log.map_or_else(Evidence::unopened, |log| log.standing()))
    }
}

/// For `status`.
pub(super) fn json(evidence: &Evidence) -> Value {
    let failing = evidence.failing.iter().filter(|(_, fails)| *fails);
    let failing: Vec<&str> = failing.map(|(part, _)| *part).collect();
    let destinations = evidence.destinations.iter();
    let forward = destinations.map(
        |(to, records, is_failing)| json!({ "to": to, "records": records, "failing": is_failing }),
    );
    json!({
        "records": evidence.records,
        "signed": evidence.signed,
        "history": evidence.history,
        "last": evidence.last,
        "witnessed": evidence.witnessed,
        "missed": evidence.missed.map(|missed| {
            json!({ "packets": missed.packets, "bytes": missed.bytes })
        }),
        "failing": failing,
        "forward": forward.collect::<Vec<_>>(),
    })
}
