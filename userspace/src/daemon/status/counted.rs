//! What was counted, as `status` shows it: packets and bytes by zone, by rule, by what else decided, and
//! by the network that they were for. All of it comes from one reading of the counters, and is
//! bounded: a policy has so many zones and rules, there are so many reasons, and of networks the
//! largest are listed and the rest is one sum.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

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
    ledger::{Reading, camera::Camera, network::Network},
    metrics::Row,
    policy::Policy,
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
        self.0[action as usize] += *counter;
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
        if identity.of_zone().is_some() {
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
    networks: HashMap<Option<u32>, Sums>,
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
            | Identity::Stopped(..)
            | Identity::Seen(..) => {}
        }
    }

    /// Each zone. `silent`: whether it had packets and has none any more, where that is known.
    pub(super) fn zones(
        &self,
        policy: Option<&Policy>,
        silent: &BTreeMap<&str, bool>,
    ) -> Vec<Value> {
        let record = |name: &String| {
            let zone = policy?.zones.iter().find(|zone| zone.name == *name)?;
            Some(zone.record.as_str())
        };
        let zones = self.zones.iter().map(|(name, sums)| {
            let mut fields = sums.json();
            fields.insert("record".to_owned(), json!(record(name)));
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
        let size = |(asn, sums): &(&Option<u32>, &Sums)| (Reverse(sums.packets()), **asn);
        let mut all: Vec<(&Option<u32>, &Sums)> = self.networks.iter().collect();
        // There may be one for each ASN of the Internet: the smaller ones are not put in order.
        if all.len() > NETWORKS {
            all.select_nth_unstable_by_key(NETWORKS, size);
        }
        let rest = all.split_off(all.len().min(NETWORKS));
        all.sort_unstable_by_key(size);
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

/// All that has been counted, and what the ledger had of it a moment later.
pub(in crate::daemon) struct Counts {
    pub(in crate::daemon) counters: Vec<(Identity, Counter)>,
    /// What cameras sent since the daemon started.
    pub(in crate::daemon) cameras: Vec<Row<Camera>>,
    /// `None`: it cannot be read, or not in time.
    pub(super) ledger: Option<Recorded>,
}

/// What the ledger said.
pub(super) struct Recorded {
    pub(super) reading: Reading,
    /// What found no room in its ring.
    pub(super) lost: Vec<(u32, Counter)>,
    /// How many packets that is, where there were more of them lately.
    pub(super) loses: Option<u64>,
    /// Records since the daemon started.
    pub(super) records: u64,
    /// Packets without a destination, since then.
    pub(super) others: u64,
}

impl View {
    /// Reads the counters, and what the ledger counts by network.
    pub(in crate::daemon) fn counts(&self) -> Result<Counts, DatapathError> {
        let mut counters = self.reader.counts()?;
        let slots = self.reader.slots();
        let ledger = self.at_ledger(move |ledger| {
            Some(Recorded {
                reading: ledger.read(slots).ok()?,
                lost: ledger.lost().ok()?,
                loses: ledger.loses(),
                records: ledger.records,
                others: ledger.others(),
            })
        });
        let ledger = ledger.ok().flatten();
        let reading = ledger.as_ref().map(|recorded| &recorded.reading);
        // Versions before the ledger counted by network, too.
        let is_of_network =
            |identity: &Identity| matches!(identity, Identity::Asn(..) | Identity::OtherAsns(..));
        let before = counters.extract_if(.., |(identity, _)| is_of_network(identity));
        let mut networks: BTreeMap<Identity, Counter> = before.collect();
        for (owner, network, counter) in reading.iter().flat_map(|reading| &reading.networks) {
            let identity = self.reader.identity(*owner);
            // One that was not known when it came may be of what is not counted so.
            let Some((zone, action)) = identity.as_ref().and_then(Identity::of_zone) else {
                continue;
            };
            if action == Action::Pass {
                continue;
            }
            let identity = match *network {
                Network::UNKNOWN => Identity::OtherAsns(zone.to_owned(), action),
                network => Identity::Asn(zone.to_owned(), network.asn(), action),
            };
            *networks.entry(identity).or_default() += *counter;
        }
        counters.extend(networks);
        let mut cameras: BTreeMap<(String, Option<Camera>, Action), Counter> = BTreeMap::new();
        for (slot, camera, counter) in reading.iter().flat_map(|reading| &reading.cameras) {
            let identity = self.reader.identity(*slot);
            if let Some((zone, action)) = identity.as_ref().and_then(Identity::of_zone) {
                let camera = Some(*camera).filter(|camera| *camera != Camera::Others);
                *cameras
                    .entry((zone.to_owned(), camera, action))
                    .or_default() += *counter;
            }
        }
        let cameras = cameras.into_iter();
        let cameras = cameras.map(|((zone, camera, action), sum)| (zone, camera, action, sum));
        Ok(Counts {
            counters,
            cameras: cameras.collect(),
            ledger,
        })
    }

    /// Those that the live policy has, by what they are of.
    pub(super) fn counted(&self, counts: &Counts) -> Counted {
        let mut counted = Counted::of(self.live.as_ref());
        for (identity, counter) in &counts.counters {
            counted.add(identity.clone(), counter);
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use kordon_ebpf::{layout::Reason, seen::Kind};

    use super::*;

    fn counter(packets: u64) -> Counter {
        Counter {
            packets,
            bytes: packets * 100,
        }
    }

    /// Of a policy with the zone `z` and its rule `r`.
    fn counted(all: impl IntoIterator<Item = (Identity, u64)>) -> Counted {
        let rule = ("z".to_owned(), "r".to_owned());
        let mut counted = Counted {
            zones: [("z".to_owned(), Sums::default())].into(),
            by_rule: [(rule.clone(), Sums::default())].into(),
            rules: vec![rule],
            ..Counted::default()
        };
        for (identity, packets) in all {
            counted.add(identity, &counter(packets));
        }
        counted
    }

    #[test]
    fn what_the_live_policy_has() {
        let (z, gone) = (|| "z".to_owned(), || "gone".to_owned());
        let counted = counted([
            (Identity::Rule(z(), "r".into(), Action::Drop), 3),
            (Identity::Rule(z(), "before".into(), Action::Drop), 4),
            (Identity::Zone(z(), Reason::Tunnel, Action::Drop), 5),
            (Identity::Noted(z(), Reason::Tunnel, Action::Drop), 9),
            (Identity::Zone(gone(), Reason::Tunnel, Action::Drop), 7),
            (Identity::Rule(gone(), "r".into(), Action::Drop), 7),
            (Identity::Asn(gone(), Some(1), Action::Drop), 7),
            (Identity::OtherAsns(gone(), Action::Drop), 7),
            (Identity::Seen("p".into(), By::NoZone, Kind::Customer), 2),
            (Identity::Seen("p".into(), By::Guard, Kind::Customer), 9),
            (Identity::Port("p".into(), Reason::NoZone, Action::Drop), 6),
        ]);
        let zones = counted.zones(None, &[("z", true)].into());
        assert_eq!(zones.len(), 1);
        assert_eq!(zones[0]["name"], "z");
        assert_eq!(zones[0]["packets"]["drop"], 12);
        assert_eq!(zones[0]["bytes"]["drop"], 1200);
        assert_eq!(zones[0]["silent"], true);
        let rules = counted.rules();
        assert_eq!((rules.len(), &rules[0]["rule"]), (1, &json!("r")));
        assert_eq!(rules[0]["packets"]["drop"], 3);
        let reasons = counted.reasons();
        assert_eq!(
            (reasons.len(), &reasons[0]["reason"]),
            (1, &json!("tunnel"))
        );
        assert_eq!(counted.no_zone("p"), json!({"drop": 6, "pass": 2}));
        assert_eq!(counted.no_zone("q"), json!({"drop": 0, "pass": 0}));
        let networks = counted.networks(&AsnDb::default());
        assert_eq!(networks["top"], json!([]));
    }

    #[test]
    fn the_largest_networks_and_all_others() {
        let all = (1..=100).flat_map(|asn: u32| {
            let of = |action| Identity::Asn("z".into(), Some(asn), action);
            [(of(Action::Drop), u64::from(asn)), (of(Action::Audit), 1)]
        });
        let nobody = (Identity::Asn("z".into(), None, Action::Drop), 1000);
        let other = (Identity::OtherAsns("z".into(), Action::Drop), 5);
        let networks = counted(all.chain([nobody, other])).networks(&AsnDb::default());
        let top = networks["top"].as_array().unwrap();
        assert_eq!(top.len(), NETWORKS);
        assert_eq!(
            (&top[0]["asn"], &top[0]["name"]),
            (&Value::Null, &Value::Null)
        );
        for (entry, asn) in top[1..].iter().zip((1..=100).rev()) {
            assert_eq!(entry["asn"], asn);
            assert_eq!(
                entry["packets"],
                json!({"pass": 0, "audit": 1, "drop": asn})
            );
        }
        let more = &networks["more"];
        assert_eq!(more["networks"], 81);
        assert_eq!(more["packets"]["drop"], (1..=81).sum::<u32>() + 5);
        assert_eq!(more["packets"]["audit"], 81);
        // What is equal has an order, too.
        let equal = (0..50).map(|asn| (Identity::Asn("z".into(), Some(asn), Action::Drop), 1));
        let networks = counted(equal).networks(&AsnDb::default());
        let asns: Vec<_> = networks["top"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n["asn"].clone())
            .collect();
        assert_eq!(json!(asns), json!((0..20).collect::<Vec<u32>>()));
    }

    #[test]
    fn names_have_bounds() {
        let mut db = AsnDb::default();
        db.asns.push((
            7,
            AsnInfo {
                name: "ü".repeat(500),
                country: None,
            },
        ));
        let info = named_network(&db, 7).unwrap();
        assert_eq!(info.name.chars().count(), LONGEST_NAME);
        assert_eq!(named_network(&db, 8), None);
    }
}
