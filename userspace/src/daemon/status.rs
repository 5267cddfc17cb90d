//! What is enforced, where, since when, and what came of it.

use std::{collections::BTreeMap, path::Path};

use kordon_ebpf::layout::{Action, Counter};
use serde_json::{Map, Value, json};

use super::{
    bgp::Bgp, journal::Entry, meant::is_known, operations::hex, owner::Busy, refusal::Refusal,
    state::Record, view::View,
};
use crate::{
    compile::directory::Identity,
    datapath::{DatapathError, guard::Hook},
    metrics::Snapshot,
    policy::Bundle,
};

/// Packets and bytes by action.
#[derive(Clone, Copy, Debug, Default)]
struct Sums([Counter; 3]);

impl Sums {
    fn json(&self, what: impl Fn(&Counter) -> u64) -> Value {
        let fields: Map<String, Value> = [Action::Pass, Action::Audit, Action::Drop]
            .into_iter()
            .map(|action| {
                let counter = &self.0[action as usize];
                (action.as_str().to_owned(), what(counter).into())
            })
            .collect();
        fields.into()
    }
}

impl View {
    /// Packets of each zone of the live policy.
    pub(super) fn packets(&self) -> Result<BTreeMap<String, u64>, DatapathError> {
        let zones = self.sums()?;
        let live = self.live.iter().flat_map(|live| &live.policy.zones);
        Ok(live
            .map(|zone| {
                let sums = zones.get(&zone.name).copied().unwrap_or_default();
                (zone.name.clone(), sums.0.iter().map(|c| c.packets).sum())
            })
            .collect())
    }

    fn sums(&self) -> Result<BTreeMap<String, Sums>, DatapathError> {
        let mut zones: BTreeMap<String, Sums> = BTreeMap::new();
        for zone in self.live.iter().flat_map(|live| &live.policy.zones) {
            zones.insert(zone.name.clone(), Sums::default());
        }
        for (identity, counter) in self.reader.counts()? {
            // The others are counted under one of these as well.
            let (Identity::Zone(zone, _, action) | Identity::Rule(zone, _, action)) = identity
            else {
                continue;
            };
            // Counters outlive the zones that they are of.
            let Some(sums) = zones.get_mut(&zone) else {
                continue;
            };
            let sum = &mut sums.0[action as usize];
            sum.packets += counter.packets;
            sum.bytes += counter.bytes;
        }
        Ok(zones)
    }

    fn zones(&self) -> Result<Vec<Value>, Refusal> {
        let silent: BTreeMap<&str, bool> = self.silences().collect();
        let zones = self.sums().map_err(Refusal::from_error)?;
        Ok(zones
            .into_iter()
            .map(|(name, sums)| {
                json!({
                    "name": name,
                    "packets": sums.json(|c| c.packets),
                    "bytes": sums.json(|c| c.bytes),
                    "silent": silent.get(name.as_str()),
                })
            })
            .collect())
    }

    /// What the metrics show.
    pub(super) fn snapshot(&self, busy: Option<&Busy>) -> Result<Snapshot, DatapathError> {
        let counters = self.reader.counts()?;
        let db = &self.database.db;
        let countries = counters.iter().filter_map(|(identity, _)| match identity {
            Identity::Asn(_, Some(asn), _) => Some((*asn, db.asn_info(*asn)?.country?)),
            _ => None,
        });
        let policy = self.live.as_ref().map(|live| &live.policy);
        let zones = policy.map_or(&[][..], |policy| &policy.zones);
        let rules = policy.iter().flat_map(|policy| &policy.rules);
        let rules = rules.flat_map(|rule| {
            let zone = |id: &usize| (zones[*id].name.clone(), rule.name.clone(), rule.action);
            rule.from.iter().map(zone)
        });
        let info = self.database.info();
        Ok(Snapshot {
            countries: countries.collect(),
            zones: zones.iter().map(|zone| zone.name.clone()).collect(),
            rules: rules.collect(),
            enforcing: self.reasons(busy).is_empty(),
            policy_hash: self.live.as_ref().map(|live| hex(&live.hash)),
            policy_applied: self.record.as_ref().map(|r| r.applied_at.as_second()),
            apply: self.applies.last,
            applies: (self.applies.ok, self.applies.failed),
            prefixes: (info.ipv4.prefixes, info.ipv6.prefixes),
            database_age: self.database_age(),
            database_held: self.updates.concerns.clone(),
            database_failing: self.updates.failing.clone(),
            database_updates: self.updates.counts,
            database_refused: self.refused.len() as u64,
            database_old: self.config.max_age.map(|_| self.database_is_old()),
            interfaces: self.attachments().collect(),
            missed: self.missed().collect(),
            switched_off: self
                .devices
                .iter()
                .map(|port| (port.config.name.clone(), port.switched_off))
                .collect(),
            silent: self
                .silences()
                .map(|(zone, silent)| (zone.to_owned(), silent))
                .collect(),
            bgp: self.bgp.as_ref().map(Bgp::snapshot),
            state_lost: self.doubts.clone(),
            state_repaired: self.repaired.len() as u64,
            state_writable: self.state_problem().is_none(),
            trial: self.trial.is_some(),
            counters,
        })
    }

    /// Packets that programs were not shown as they arrived: logical name, how, how many.
    fn missed(&self) -> impl Iterator<Item = (String, &'static str, u64)> {
        self.devices.iter().flat_map(|port| {
            let [hidden, uncalled] = port.missed;
            let of = |how, count| (port.config.name.clone(), how, count);
            [of("hidden-tag", hidden), of("not-called", uncalled)]
        })
    }

    /// Configured interfaces: logical name, mode, whether the program is there and sees.
    fn attachments(&self) -> impl Iterator<Item = (String, &'static str, bool)> {
        self.devices.iter().map(|port| {
            let attached = self.reader.attached(&port.config.device);
            let is_there = attached.is_some() && port.sees();
            (port.config.name.clone(), port.mode(attached), is_there)
        })
    }

    /// Zones, and whether they had packets and have none any more.
    fn silences(&self) -> impl Iterator<Item = (&str, bool)> {
        let zones = self.silent.iter();
        zones.map(|(zone, silent)| (zone.as_str(), silent.is_some()))
    }

    fn database_age(&self) -> Option<i64> {
        self.database.age(self.updates.confirmed)
    }

    fn database_is_old(&self) -> bool {
        let ages = self.config.max_age.zip(self.database_age());
        ages.is_some_and(|(max, age)| age.unsigned_abs() > max.as_secs())
    }

    /// Why changes cannot be kept now, or have not been.
    fn state_problem(&self) -> Option<String> {
        let unsaved = self.unsaved.as_ref();
        let unsaved = unsaved.map(|why| format!("what is live is not on disk: {why}"));
        unsaved.or_else(|| self.state.trouble())
    }

    /// The answer to `status`. `busy`: what keeps the core.
    pub(super) fn status(&self, busy: Option<&Busy>) -> Result<Value, Refusal> {
        let reasons = self.reasons(busy);
        let interfaces: Vec<Value> = self
            .attachments()
            .zip(&self.devices)
            .map(|((name, mode, attached), port)| {
                json!({
                    "name": name,
                    "device": port.config.device,
                    "mode": mode,
                    "attached": attached,
                    "unknown_vlans": if port.config.drop_unknown { "drop" } else { "pass" },
                    "guard": port.hook.map(Hook::as_str),
                    "missed": port.missed.iter().sum::<u64>(),
                })
            })
            .collect();
        let policy = self.live.as_ref().zip(self.record.as_ref());
        let policy = policy.map(|(live, record)| {
            json!({
                "path": record.bundle.file,
                "hash": hex(&live.hash),
                "drift": differs(record, &self.config.policy),
                "configured": self.config.policy.display().to_string(),
                "applied_at": record.applied_at,
                "pending_confirm": self.trial,
            })
        });
        let info = self.database.info();
        let overlay: Vec<Value> = self
            .overlay
            .entries
            .iter()
            .map(|entry| {
                json!({
                    "action": entry.action.as_str(),
                    "target": entry.target.to_string(),
                    "zone": entry.zone,
                    "until": entry.until,
                    "note": entry.note,
                    "added": entry.added,
                    "matches": is_known(entry.target, &self.database, self.bgp.is_some()),
                })
            })
            .collect();
        Ok(json!({
            "enforcing": reasons.is_empty(),
            "reasons": reasons,
            "notices": self.notices(busy),
            "fail": self.config.fail.as_str(),
            "interfaces": interfaces,
            "generation": self.generation,
            "policy": policy,
            "asndb": {
                "prefixes_v4": info.ipv4.prefixes,
                "prefixes_v6": info.ipv6.prefixes,
                "asns": info.asns,
                "age_seconds": self.database_age(),
                "old": self.database_is_old(),
                "sources": info.sources,
                "update": self.updates.status,
                "refused_snapshots": self.refused,
            },
            "bgp": self.bgp.as_ref().map(Bgp::status),
            "zones": self.zones()?,
            "overlay": overlay,
            "state": {
                "directory": self.config.state_dir,
                "problem": self.state_problem(),
                "repaired": self.repaired,
            },
            "started_at": self.started_at,
            "version": env!("CARGO_PKG_VERSION"),
        }))
    }

    /// The answer to `history`.
    pub(super) fn history(&self) -> Value {
        let live = self.record.as_ref().map(|record| record.number);
        let hash = self.live.as_ref().map(|live| hex(&live.hash));
        let entries: Vec<Value> = self
            .state
            .history()
            .into_iter()
            .map(|record| {
                let is_live = Some(record.number) == live;
                json!({
                    "number": record.number,
                    "live": is_live,
                    "applied_at": record.applied_at,
                    "by": record.by,
                    "path": record.bundle.file,
                    // Where its entries are lost it is not the one that is kept.
                    "hash": hash.clone().filter(|_| is_live).unwrap_or(record.hash),
                })
            })
            .collect();
        let changes: Vec<&Entry> = self.changes.iter().rev().collect();
        json!({ "history": entries, "changes": changes })
    }
}

/// Whether a file is another policy than the one that is live.
fn differs(live: &Record, path: &Path) -> bool {
    let Ok(on_disk) = Bundle::read(path) else {
        return true;
    };
    on_disk.text != live.bundle.text || on_disk.lists != live.bundle.lists
}
