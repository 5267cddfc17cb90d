//! Flows added up: by whoever sent them, by where they went, or by when.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    HOUR,
    flow::{Flow, Row, Sum, moment},
    hour_of,
    query::Seen,
};

/// By what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// Who sent it.
    Camera,
    /// Where it went.
    Network,
    /// When, by the hour.
    Hour,
}

/// A sum: an object of `kordon flows --sum --json`. What it is not added up by is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Total {
    /// Name of the zone.
    pub zone: String,
    /// Beginning of the hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hour: Option<String>,
    /// The camera; `Some(None)`: not told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Option<String>>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<Option<IpAddr>>,
    /// The network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asn: Option<Option<u32>>,
    /// Its country.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<Option<String>>,
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Option<String>>,
    /// `pass`, `audit` or `drop`.
    pub action: String,
    /// How many flows.
    pub flows: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// First packet.
    #[serde(serialize_with = "moment")]
    pub first: Timestamp,
    /// Last packet.
    #[serde(serialize_with = "moment")]
    pub last: Timestamp,
    /// Packets without a destination.
    pub others: bool,
}

/// Flows of a period, each once.
#[derive(Debug)]
pub struct Totals {
    by: Option<By>,
    flows: HashMap<(i64, Flow), Sum>,
    /// By their numbers.
    numbered: HashMap<(i64, i64), (Flow, Sum)>,
}

impl Totals {
    /// Of nothing; `None`: each flow is a row.
    #[must_use]
    pub fn new(by: Option<By>) -> Self {
        Self {
            by,
            flows: HashMap::new(),
            numbered: HashMap::new(),
        }
    }

    /// Adds.
    pub fn add(&mut self, seen: Seen<'_>) {
        let hour = match self.by {
            Some(By::Hour) => hour_of(seen.at),
            _ => 0,
        };
        match seen.number {
            Some(number) => {
                (self.numbered.entry((hour, number)))
                    .and_modify(|(_, known)| known.add(seen.sum))
                    .or_insert_with(|| (seen.flow.clone(), *seen.sum));
            }
            None => self.add_to(hour, seen.flow.clone(), seen.sum),
        }
    }

    fn add_to(&mut self, hour: i64, flow: Flow, sum: &Sum) {
        (self.flows.entry((hour, flow)))
            .and_modify(|known| known.add(sum))
            .or_insert(*sum);
    }

    /// All of them, by what they are.
    fn all(mut self) -> HashMap<(i64, Flow), Sum> {
        for ((hour, _), (flow, sum)) in std::mem::take(&mut self.numbered) {
            self.add_to(hour, flow, &sum);
        }
        self.flows
    }

    /// Each flow, the most packets first.
    #[must_use]
    pub fn rows(self) -> Vec<Row> {
        let mut rows: Vec<Row> = (self.all().into_iter())
            .map(|((_, flow), sum)| Row::new(flow, &sum))
            .collect();
        rows.sort_unstable_by(|a, b| {
            (Reverse(a.packets), a.first, &a.flow).cmp(&(Reverse(b.packets), b.first, &b.flow))
        });
        rows
    }

    /// Added up; hours in order, others with the most packets first.
    #[must_use]
    pub fn sums(self, by: By) -> Vec<Total> {
        type Key = (
            i64,
            String,
            Option<String>,
            Option<IpAddr>,
            Option<u32>,
            String,
            bool,
        );
        let mut totals: BTreeMap<Key, (Sum, HashSet<Flow>)> = BTreeMap::new();
        // Of a network that was renamed, the newest name.
        let mut networks: HashMap<u32, (Timestamp, Option<String>, Option<String>)> =
            HashMap::new();
        for ((hour, flow), sum) in self.all() {
            let (mac, src, asn) = match by {
                By::Camera => (flow.mac.clone(), flow.src, None),
                By::Network => (None, None, flow.asn),
                By::Hour => (None, None, None),
            };
            if let (By::Network, Some(asn)) = (by, asn) {
                let known = networks.entry(asn).or_insert((sum.last, None, None));
                if known.0 <= sum.last {
                    *known = (sum.last, flow.country.clone(), flow.name.clone());
                }
            }
            let key = (
                hour,
                flow.zone.clone(),
                mac,
                src,
                asn,
                flow.action.clone(),
                flow.others,
            );
            let (total, flows) = totals.entry(key).or_insert_with(|| {
                let mut none = sum;
                none.count = Default::default();
                (none, HashSet::new())
            });
            total.add(&sum);
            flows.insert(flow);
        }
        let mut totals: Vec<Total> = (totals.into_iter())
            .map(
                |((hour, zone, mac, src, asn, action, others), (sum, flows))| {
                    let network = asn.and_then(|asn| networks.get(&asn));
                    let of_network = by == By::Network;
                    Total {
                        zone,
                        hour: (by == By::Hour)
                            .then(|| super::store::timestamp(hour * HOUR).to_string()),
                        mac: (by == By::Camera).then_some(mac),
                        src: (by == By::Camera).then_some(src),
                        asn: of_network.then_some(asn),
                        country: of_network
                            .then(|| network.and_then(|(_, country, _)| country.clone())),
                        name: of_network.then(|| network.and_then(|(.., name)| name.clone())),
                        action,
                        flows: flows.len() as u64,
                        packets: sum.count.packets,
                        bytes: sum.count.bytes,
                        first: sum.first,
                        last: sum.last,
                        others,
                    }
                },
            )
            .collect();
        if by != By::Hour {
            totals.sort_by_key(|total| Reverse(total.packets));
        }
        totals
    }
}
