//! What the history reads of a record of the log of evidence. The names of its fields are in `docs/evidence.md`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::flow::{Count, Flow, Sum};

/// A record.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// What is new of a flow.
    Flow(Box<(Flow, Sum)>),
    /// What the kernel has counted.
    Beat(Beat),
    /// A daemon started.
    Start(Start),
    /// Something that is not counted.
    Other,
}

/// Counters by zone and action.
pub type Counts = BTreeMap<(String, String), Count>;

/// What the kernel has counted, and what of it was not in the log yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// What tells these counters from those of another boot, or made anew.
    pub counters: String,
    /// Since these counters were made.
    pub counted: Counts,
    /// Of that: what is in the kernel's lines, and not in the log yet.
    pub unwritten: Counts,
    /// Of that: what was counted before the log was begun, and is not for it to tell.
    pub opening: Option<Counts>,
}

impl Beat {
    /// As the daemon answers it, and as it is in a heartbeat; `None`: the kernel did not say.
    #[must_use]
    pub fn parse(kordon: &serde_json::Value) -> Option<Self> {
        OfBeat::deserialize(kordon).ok()?.beat()
    }
}

/// Over which counters a daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// The boot.
    pub(super) boot: String,
    /// What tells the counters from others.
    pub(super) counters: Option<String>,
    /// The record before it is of another boot: these counters have begun with nothing.
    pub(super) is_first_of_boot: bool,
}

/// A record and what all of them have.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub(super) at: Timestamp,
    /// What it is: `event.action`.
    pub(super) action: String,
    pub(super) record: Record,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "@timestamp")]
    at: Timestamp,
    event: Event,
    #[serde(default)]
    source: Source,
    #[serde(default)]
    destination: Destination,
    #[serde(default)]
    network: Network,
    #[serde(default)]
    rule: Rule,
    /// Flows have other fields there than heartbeats.
    #[serde(borrow)]
    kordon: &'a RawValue,
}

#[derive(Deserialize)]
struct Event {
    action: String,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
struct Source {
    mac: Option<String>,
    ip: Option<std::net::IpAddr>,
}

#[derive(Default, Deserialize)]
struct Destination {
    ip: Option<std::net::IpAddr>,
    port: Option<u16>,
    #[serde(rename = "as", default)]
    of: As,
    #[serde(default)]
    geo: Geo,
}

#[derive(Default, Deserialize)]
struct As {
    number: Option<u32>,
    #[serde(default)]
    organization: Organization,
}

#[derive(Default, Deserialize)]
struct Organization {
    name: Option<String>,
}

#[derive(Default, Deserialize)]
struct Geo {
    country_iso_code: Option<String>,
}

#[derive(Default, Deserialize)]
struct Network {
    transport: Option<String>,
    #[serde(default)]
    packets: u64,
    #[serde(default)]
    bytes: u64,
}

#[derive(Default, Deserialize)]
struct Rule {
    name: Option<String>,
}

#[derive(Deserialize)]
struct OfFlow {
    zone: String,
    interface: Option<String>,
    action: String,
    reason: String,
    judged: Option<std::net::IpAddr>,
    by: String,
    #[serde(default)]
    others: bool,
}

#[derive(Deserialize)]
struct OfBeat {
    /// `None`: a record from before there was this field; a boot is all there is to tell.
    counters: Option<String>,
    boot: Option<String>,
    counted: Option<Vec<Of>>,
    #[serde(default)]
    unwritten: Vec<Of>,
    opening: Option<Vec<Of>>,
}

impl OfBeat {
    fn beat(self) -> Option<Beat> {
        Some(Beat {
            counters: self.counters.or(self.boot).unwrap_or_default(),
            counted: counts(self.counted?),
            unwritten: counts(self.unwritten),
            opening: self.opening.map(counts),
        })
    }
}

#[derive(Deserialize)]
struct OfStart {
    #[serde(default)]
    boot: String,
    counters: Option<String>,
    before: Option<Before>,
}

#[derive(Deserialize)]
struct Before {
    is_this_boot: bool,
}

/// A counter, in heartbeats.
#[derive(Deserialize)]
struct Of {
    zone: String,
    action: String,
    packets: u64,
    bytes: u64,
}

/// Of a list of counters.
fn counts(list: Vec<Of>) -> Counts {
    let counts = list.into_iter().map(|of| {
        let count = Count {
            packets: of.packets,
            bytes: of.bytes,
        };
        ((of.zone, of.action), count)
    });
    counts.collect()
}

/// Reads a line of the log; `None`: it is none, which verification says better.
pub(super) fn parse(line: &str) -> Option<Parsed> {
    let line: Line<'_> = serde_json::from_str(line).ok()?;
    let at = line.at;
    let action = line.event.action.clone();
    let kordon = line.kordon.get();
    let record = match &*action {
        "flow" => flow(line, kordon)?,
        "heartbeat" => {
            let of: OfBeat = serde_json::from_str(kordon).ok()?;
            of.beat().map_or(Record::Other, Record::Beat)
        }
        "start" => {
            let of: OfStart = serde_json::from_str(kordon).ok()?;
            Record::Start(Start {
                boot: of.boot,
                counters: of.counters,
                is_first_of_boot: of.before.is_some_and(|before| !before.is_this_boot),
            })
        }
        _ => Record::Other,
    };
    Some(Parsed { at, action, record })
}

fn flow(line: Line<'_>, kordon: &str) -> Option<Record> {
    let of: OfFlow = serde_json::from_str(kordon).ok()?;
    let flow = Flow {
        zone: of.zone,
        interface: of.interface,
        mac: (line.source.mac).map(|mac| mac.replace('-', ":").to_lowercase()),
        src: line.source.ip,
        dst: line.destination.ip,
        judged: of.judged,
        asn: line.destination.of.number,
        country: line.destination.geo.country_iso_code,
        name: line.destination.of.organization.name,
        proto: line.network.transport,
        dport: line.destination.port,
        action: of.action,
        reason: of.reason,
        rule: line.rule.name,
        by: of.by,
        others: of.others,
    };
    let sum = Sum {
        count: Count {
            packets: line.network.packets,
            bytes: line.network.bytes,
        },
        first: line.event.start?,
        last: line.event.end?,
    };
    Some(Record::Flow(Box::new((flow, sum))))
}
