//! What a report says: numbers and facts, no layout. `kordon report --json` is this; all times are UTC.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::Serialize;

pub use crate::history::flow::{Count, Difference};

/// Packets by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Actions {
    /// Dropped.
    pub drop: Count,
    /// Passed, and would have been dropped.
    pub audit: Count,
    /// Passed.
    pub pass: Count,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// When it was made.
    pub made: Timestamp,
    /// Of kordon.
    pub version: String,
    /// The router.
    pub host: String,
    /// Beginning of the period.
    pub since: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// Only of this zone.
    pub zone: Option<String>,
    /// In a few numbers.
    pub summary: Summary,
    /// By zone and action: counted = recorded + unrecorded.
    pub books: BTreeMap<String, BTreeMap<String, Book>>,
    /// Who sent something, what was dropped of most first.
    pub cameras: Vec<Camera>,
    /// Where it went to, by zone, what was dropped of most first.
    pub networks: Vec<Network>,
    /// Which camera sent what to which network, and what became of it; the most packets first.
    pub traffic: Vec<Traffic>,
    /// What was seen when.
    pub timeline: Timeline,
    /// When nobody wrote.
    pub gaps: Vec<Gap>,
    /// When not everything was enforced.
    pub not_enforcing: Vec<Span>,
    /// Who changed what.
    pub changes: Vec<Change>,
    /// Policies in force in the period, oldest first.
    pub policies: Vec<InForce>,
    /// ASN databases in force in the period, oldest first.
    pub databases: Vec<InForce>,
    /// What was observed: the report says nothing of others.
    pub interfaces: Vec<String>,
    /// Where all of this is from.
    pub log: Log,
    /// What cannot be known, in words.
    pub unknown: Vec<String>,
}

impl Report {
    /// Parts of the period of which there are no records: before the log, and gaps.
    pub(super) fn unobserved(&self) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let begins = self.log.begins.unwrap_or(self.until).min(self.until);
        let before = (begins > self.since).then_some((self.since, begins));
        let gaps = self.gaps.iter().map(|gap| (gap.from, gap.to));
        before.into_iter().chain(gaps)
    }

    /// Whether that is all of it.
    pub(super) fn is_unobserved(&self) -> bool {
        let mut known = self.since;
        // They are in order, and apart.
        for (from, to) in self.unobserved() {
            if from > known {
                return false;
            }
            known = known.max(to);
        }
        known >= self.until
    }
}

/// A report in a few numbers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Cameras that sent something.
    pub cameras: u64,
    /// Of them, those that tried to reach one of `blocked_networks`.
    pub tried: u64,
    /// Of them, those of which something was dropped, for whatever reason.
    pub refused: u64,
    /// Known networks to which the policy has dropped something.
    pub blocked_networks: u64,
    /// All packets of the period.
    pub actions: Actions,
    /// What was dropped on its way to `blocked_networks`.
    pub dropped: Count,
    /// What passed to one of them, from the same zone in the period: before it was blocked, after that, or by a rule that lets
    /// some of it pass.
    pub through: Count,
    /// How often nobody wrote.
    pub gaps: u64,
    /// For how long, in all.
    pub gap_seconds: f64,
    /// For how long not everything was enforced.
    pub not_enforcing_seconds: f64,
    /// Counted by the kernel, and in no record.
    pub unrecorded: Difference,
}

/// Of one zone and action.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Book {
    /// By the kernel's counters.
    pub counted: Count,
    /// In records of the log.
    pub recorded: Count,
    /// The rest.
    pub unrecorded: Difference,
}

/// What a camera sent.
#[derive(Clone, Debug, Serialize)]
pub struct Camera {
    /// Its zone.
    pub zone: String,
    /// As `02:00:00:00:00:01`; `None`: more senders than are told apart.
    pub mac: Option<String>,
    /// Its source addresses, a few.
    pub addresses: Vec<IpAddr>,
    /// How many more there are.
    pub more_addresses: u64,
    /// Packets.
    pub actions: Actions,
    /// Networks that something was dropped to.
    pub networks_dropped: u64,
    /// First packet.
    pub first: Timestamp,
    /// Last packet.
    pub last: Timestamp,
}

/// What was sent to a network.
#[derive(Clone, Debug, Serialize)]
pub struct Network {
    /// From this zone.
    pub zone: String,
    /// `None`: of no known network.
    pub asn: Option<u32>,
    /// What it is called.
    pub name: Option<String>,
    /// ISO 3166 alpha-2.
    pub country: Option<String>,
    /// Packets.
    pub actions: Actions,
    /// Cameras that sent something to it.
    pub cameras: u64,
    /// First packet.
    pub first: Timestamp,
    /// Last packet.
    pub last: Timestamp,
}

/// What a camera sent to a network, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Traffic {
    /// The zone.
    pub zone: String,
    /// The camera.
    pub mac: Option<String>,
    /// Its address.
    pub src: Option<IpAddr>,
    /// The network.
    pub asn: Option<u32>,
    /// What it is called.
    pub name: Option<String>,
    /// ISO 3166 alpha-2.
    pub country: Option<String>,
    /// `pass`, `audit` or `drop`.
    pub action: String,
    /// Why: `rule`, `malformed`, …
    pub reason: String,
    /// The rule that said so.
    pub rule: Option<String>,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// First packet.
    pub first: Timestamp,
    /// Last packet.
    pub last: Timestamp,
}

/// What was seen when.
#[derive(Clone, Debug, Serialize)]
pub struct Timeline {
    /// Seconds that each slot is long: 60, 3600 or 86400.
    pub step: u64,
    /// Without holes, oldest first.
    pub slots: Vec<Slot>,
}

/// A part of a timeline.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Slot {
    /// When it begins.
    pub at: Timestamp,
    /// Packets.
    pub actions: Actions,
}

/// When nobody wrote. What was sent meanwhile is in the records after it.
#[derive(Clone, Debug, Serialize)]
pub struct Gap {
    /// Last record before.
    pub from: Timestamp,
    /// First one after.
    pub to: Timestamp,
    /// In words.
    pub why: String,
}

/// When not everything was enforced.
#[derive(Clone, Debug, Serialize)]
pub struct Span {
    /// When it began.
    pub from: Timestamp,
    /// When it ended.
    pub to: Timestamp,
    /// Why.
    pub reasons: Vec<String>,
}

/// What somebody changed.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub user: Option<String>,
    /// Who had logged in, where that is somebody else.
    pub login: Option<String>,
    /// As it was typed.
    pub command: String,
    /// SHA-256 of the policy after it, hexadecimal.
    pub policy_hash: Option<String>,
    /// The database after it, where it changed.
    pub database: Option<String>,
}

/// What was in force.
#[derive(Clone, Debug, Serialize)]
pub struct InForce {
    /// When it was seen first; it may have been so before the period.
    pub since: Timestamp,
    /// Of a policy its SHA-256, hexadecimal; of a database its name.
    pub what: String,
}

/// The log of evidence.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Log {
    /// Where it is.
    pub folder: String,
    /// Records in it, ever.
    pub records: u64,
    /// It cannot be written as it should be, at the end of the period.
    pub is_failing: bool,
    /// The first one.
    pub begins: Option<Timestamp>,
    /// The newest signed statement of its size and root (C2SP checkpoint, several lines).
    pub checkpoint: Option<String>,
    /// The key that verifies it.
    pub key: Option<String>,
}
