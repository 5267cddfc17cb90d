//! What was counted, as `status` shows it: packets and bytes by zone, by rule, by what else decided, and
//! by the network that they were for. All of it comes from one reading of the counters, and is
//! bounded: a policy has so many zones and rules, there are so many reasons, and of networks the
//! largest are listed and the rest is one sum.

use std::collections::BTreeMap;

use kordon_ebpf::{
    layout::{Action, Counter},
    seen::By,
};
use serde_json::{Map, Value, json};

use super::View;
use crate::{
    asn::{AsnDb, AsnInfo},
    compile::directory::Identity,
    daemon::live::Live,
    datapath::{DatapathError, reader::Reader},
};

/// Networks that are listed.
const NETWORKS: usize = 20;
/// Characters of a network's name. Sources have names of any length.
const LONGEST_NAME: usize = 80;

/// Packets and bytes by action.
#[derive(Clone, Copy, Debug, Default)]
struct Sums([Counter; 3]);

impl Sums {
    fn add(&mut self, action: Action, counter: &Counter) {
        let sum = &mut self.0[action as usize];
        sum.packets += counter.packets;
        sum.bytes += counter.bytes;
    }

    fn add_all(&mut self, other: &Self) {
        for action in [Action::Pass, Action::Audit, Action::Drop] {
            self.add(action, &other.0[action as usize]);
        }
    }

    fn packets(&self) -> u64 {
        self.0.iter().map(|counter| counter.packets).sum()
    }

    /// `packets` and `bytes`, each by action.
    fn json(&self) -> Map<String, Value> {
        let by = |what: fn(&Counter) -> u64| {
            [Action::Pass, Action::Audit, Action::Drop]
                .into_iter()
                .map(|action| {
                    (
                        action.as_str().to_owned(),
                        what(&self.0[action as usize]).into(),
                    )
                })
                .collect::<Map<String, Value>>()
        };
        let mut fields = Map::new();
        fields.insert("packets".to_owned(), by(|c| c.packets).into());
        fields.insert("bytes".to_owned(), by(|c| c.bytes).into());
        fields
    }
}

/// Packets of each zone of the live policy.
pub(in crate::daemon) fn packets(
    reader: &Reader,
    live: Option<&Live>,
) -> Result<BTreeMap<String, u64>, DatapathError> {
    let mut counted = Counted::of(live);
    for (identity, counter) in reader.counts()? {
        // The others are counted under one of these as well.
        if let Identity::Zone(..) | Identity::Rule(..) = identity {
            counted.add(identity, &counter);
        }
    }
    let zones = counted.zones.into_iter();
    Ok(zones.map(|(zone, sums)| (zone, sums.packets())).collect())
}

/// What was counted for the live policy. Counters outlive the zones and rules that they are of.
#[derive(Default)]
pub(super) struct Counted {
    zones: BTreeMap<String, Sums>,
    /// Zone and name, in the order in which they are evaluated.
    rules: Vec<(String, String)>,
    by_rule: BTreeMap<(String, String), Sums>,
    /// Zone and reason.
    reasons: BTreeMap<(String, &'static str), Sums>,
    /// `None`: announced by nobody.
    networks: BTreeMap<Option<u32>, Sums>,
    /// Of networks without a counter of their own.
    others: Sums,
    /// Frames of no zone, by interface.
    no_zone: BTreeMap<String, Sums>,
}

impl Counted {
    fn of(live: Option<&Live>) -> Self {
        let Some(live) = live else {
            return Self::default();
        };
        let zones = &live.policy.zones;
        let rules = live.policy.rules.iter().flat_map(|rule| {
            let zone = |id: &usize| (zones[*id].name.clone(), rule.name.clone());
            rule.from.iter().map(zone)
        });
        let rules: Vec<_> = rules.collect();
        Self {
            zones: zones
                .iter()
                .map(|zone| (zone.name.clone(), Sums::default()))
                .collect(),
            by_rule: rules
                .iter()
                .map(|rule| (rule.clone(), Sums::default()))
                .collect(),
            rules,
            ..Self::default()
        }
    }

    fn add(&mut self, identity: Identity, counter: &Counter) {
        match identity {
            Identity::Zone(zone, reason, action) => {
                let Some(sums) = self.zones.get_mut(&zone) else {
                    return;
                };
                sums.add(action, counter);
                let reasons = self.reasons.entry((zone, reason.as_str()));
                reasons.or_default().add(action, counter);
            }
            Identity::Rule(zone, rule, action) => {
                let Some(sums) = self.zones.get_mut(&zone) else {
                    return;
                };
                sums.add(action, counter);
                if let Some(sums) = self.by_rule.get_mut(&(zone, rule)) {
                    sums.add(action, counter);
                }
            }
            Identity::Asn(zone, asn, action) if self.zones.contains_key(&zone) => {
                self.networks.entry(asn).or_default().add(action, counter);
            }
            Identity::OtherAsns(zone, action) if self.zones.contains_key(&zone) => {
                self.others.add(action, counter);
            }
            Identity::Port(interface, _, action) => {
                self.no_zone
                    .entry(interface)
                    .or_default()
                    .add(action, counter);
            }
            Identity::Seen(interface, By::NoZone, _) => {
                let sums = self.no_zone.entry(interface).or_default();
                sums.add(Action::Pass, counter);
            }
            // Counted once more, or of zones that are gone.
            Identity::Asn(..)
            | Identity::OtherAsns(..)
            | Identity::Noted(..)
            | Identity::Seen(..) => {}
        }
    }

    /// Each zone. `silent`: whether it had packets and has none any more, where that is known.
    pub(super) fn zones(&self, silent: &BTreeMap<&str, bool>) -> Vec<Value> {
        let zones = self.zones.iter().map(|(name, sums)| {
            let mut fields = sums.json();
            fields.insert("silent".to_owned(), json!(silent.get(name.as_str())));
            named([("name", json!(name))], fields)
        });
        zones.collect()
    }

    /// Each rule of each zone, in the order in which they are evaluated.
    pub(super) fn rules(&self) -> Vec<Value> {
        let rules = self.rules.iter().filter_map(|key| {
            let fields = self.by_rule.get(key)?.json();
            Some(named(
                [("zone", json!(key.0)), ("rule", json!(key.1))],
                fields,
            ))
        });
        rules.collect()
    }

    /// What decided besides rules.
    pub(super) fn reasons(&self) -> Vec<Value> {
        let reasons = self.reasons.iter().map(|((zone, reason), sums)| {
            let names = [("zone", json!(zone)), ("reason", json!(reason))];
            named(names, sums.json())
        });
        reasons.collect()
    }

    /// The networks with the most packets that were dropped or audited, and the rest as one.
    pub(super) fn networks(&self, db: &AsnDb) -> Value {
        let mut all: Vec<(&Option<u32>, &Sums)> = self.networks.iter().collect();
        all.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.packets()));
        let rest = all.split_off(all.len().min(NETWORKS));
        let mut others = self.others;
        for (_, sums) in &rest {
            others.add_all(sums);
        }
        let top = all.into_iter().map(|(asn, sums)| {
            let info = asn.and_then(|asn| named_network(db, asn));
            let names = [
                ("asn", json!(asn)),
                ("name", json!(info.as_ref().map(|info| &info.name))),
                (
                    "country",
                    json!(info.and_then(|info| info.country).map(|c| c.to_string())),
                ),
            ];
            named(names, sums.json())
        });
        let top: Vec<Value> = top.collect();
        let more = named([("networks", json!(rest.len()))], others.json());
        json!({ "top": top, "more": more })
    }

    /// Frames of no zone on an interface: how many were dropped, and how many passed.
    pub(super) fn no_zone(&self, interface: &str) -> Value {
        let sums = self.no_zone.get(interface).copied().unwrap_or_default();
        let packets = |action: Action| sums.0[action as usize].packets;
        json!({ "drop": packets(Action::Drop), "pass": packets(Action::Pass) })
    }
}

fn named<const N: usize>(names: [(&str, Value); N], fields: Map<String, Value>) -> Value {
    let names = names
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    names.chain(fields).collect::<Map<String, Value>>().into()
}

/// What an ASN is called, within bounds, and where it is registered.
pub(super) fn named_network(db: &AsnDb, asn: u32) -> Option<AsnInfo> {
    let info = db.asn_info(asn)?;
    Some(AsnInfo {
        name: info.name.chars().take(LONGEST_NAME).collect(),
        country: info.country,
    })
}

impl View {
    /// All counters that have counted something, read now.
    pub(in crate::daemon) fn counts(&self) -> Result<Vec<(Identity, Counter)>, DatapathError> {
        self.reader.counts()
    }

    /// Those that the live policy has, by what they are of.
    pub(super) fn counted(&self) -> Result<Counted, DatapathError> {
        let mut counted = Counted::of(self.live.as_ref());
        for (identity, counter) in self.counts()? {
            counted.add(identity, &counter);
        }
        Ok(counted)
    }
}
