//! What is enforced, where, since when, and what came of it: the answers to `status` and `history`,
//! and what the metrics are made of. All of it comes from a [`View`]; [`reasons`] says why less is
//! enforced than was asked for, [`counted`] what was counted.

mod books;
mod counted;
mod evidence;
mod flows;
mod reasons;
mod unshown;
mod view;

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use self::counted::{Counts, named_network};
pub(super) use self::{
    counted::packets,
    flows::Told,
    view::{Applies, Busy, EvidenceLog, Ledger, View, beside},
};
use super::{
    bgp::Bgp,
    live::Live,
    meant::is_known,
    refusal::Refusal,
    state::{Record, journal::Entry},
};
use crate::{
    compile::directory::Identity, coverage::Gap, datapath::guard::Hook, diagnostic::printable,
    metrics::Snapshot, policy::Bundle,
};

/// Changes that `status` shows, the newest.
const CHANGES: usize = 5;

impl View {
    /// What the metrics show, of what was counted until a moment ago.
    pub(super) fn snapshot(&self, busy: Option<&Busy>, counts: Counts) -> Snapshot {
        let Counts {
            counters,
            cameras,
            ledger,
        } = counts;
        let db = &self.updates.database.db;
        let networks = counters.iter().filter_map(|(identity, _)| match identity {
            Identity::Asn(_, Some(asn), _) => {
                let mut info = named_network(db, *asn)?;
                info.name = printable(&info.name).into_owned();
                Some((*asn, info))
            }
            _ => None,
        });
        let policy = self.live.as_ref().map(|live| &live.policy);
        let zones = policy.map_or(&[][..], |policy| &policy.zones);
        let rules = policy.iter().flat_map(|policy| &policy.rules);
        let rules = rules.flat_map(|rule| {
            let zone = |id: &usize| (zones[*id].name.clone(), rule.name.clone(), rule.action);
            rule.from.iter().map(zone)
        });
        let info = self.updates.database.info();
        Snapshot {
            networks: networks.collect(),
            zones: zones.iter().map(|zone| zone.name.clone()).collect(),
            rules: rules.collect(),
            enforcing: self.reasons(busy).is_empty(),
            policy_hash: self.live.as_ref().map(Live::hash_in_words),
            policy_applied: self.kept.record.as_ref().map(|r| r.applied_at.as_second()),
            apply: self.applies.last,
            applies: (self.applies.ok, self.applies.failed),
            prefixes: (info.ipv4.prefixes, info.ipv6.prefixes),
            database_age: self.updates.age(),
            database_held: self.updates.concerns(),
            database_failing: self.updates.failing(),
            database_updates: self.updates.counts(),
            database_refused: self.updates.refused.len() as u64,
            database_old: self.config.max_age.map(|_| self.database_is_old()),
            interfaces: self.attachments().collect(),
            missed: self.missed().collect(),
            switched_off: self
                .links
                .devices
                .iter()
                .map(|device| (device.config.name.clone(), device.switched_off))
                .collect(),
            held: self.held().collect(),
            silent: self
                .silences()
                .map(|(zone, silent)| (zone.to_owned(), silent))
                .collect(),
            bgp: self.bgp.as_ref().map(Bgp::snapshot),
            state_lost: self.troubles.doubts(),
            state_repaired: self.kept.repaired.len() as u64,
            state_writable: self.state_problem().is_none(),
            trial: self.trial().is_some(),
            cameras: (cameras.into_iter())
                .map(|(zone, camera, action, sum)| {
                    (zone, camera.map(|camera| camera.to_string()), action, sum)
                })
                .collect(),
            ledger: self.ledger_snapshot(ledger),
            evidence: self.standing(),
            counters,
        }
    }

    /// Packets that programs were not shown as they arrived: logical name, how, how many.
    fn missed(&self) -> impl Iterator<Item = (String, &'static str, u64)> {
        self.links.devices.iter().flat_map(|device| {
            let of = |how, count| (device.config.name.clone(), how, count);
            let watch = &device.watch;
            [
                of("hidden-tag", watch.hidden),
                of("not-called", watch.uncalled),
            ]
        })
    }

    /// Configured interfaces: logical name, mode, whether the program is there and sees.
    pub(in crate::daemon) fn attachments(
        &self,
    ) -> impl Iterator<Item = (String, &'static str, bool)> {
        self.links.devices.iter().map(|device| {
            let attached = self.reader.attached(&device.config.device);
            let is_there = attached.is_some() && device.sees() || device.is_alone();
            let mode = device.mode(attached);
            (device.config.name.clone(), mode, is_there)
        })
    }

    /// Configured interfaces: logical name, and whether the boot guard holds it.
    fn held(&self) -> impl Iterator<Item = (String, bool)> {
        self.links.devices.iter().filter_map(|device| {
            let is_held = self.boot.holds(&device.config.device)?;
            Some((device.config.name.clone(), is_held))
        })
    }

    /// Zones, and whether they had packets and have none any more.
    fn silences(&self) -> impl Iterator<Item = (&str, bool)> {
        let zones = self.links.silent_zones(self.config.silent_after);
        zones.map(|(zone, silent)| (zone, silent.is_some()))
    }

    /// When the trial of the live policy ends.
    fn trial(&self) -> Option<Timestamp> {
        let pending = self.kept.current.pending.as_ref();
        pending.map(|pending| pending.until)
    }

    fn database_is_old(&self) -> bool {
        let ages = self.config.max_age.zip(self.updates.age());
        ages.is_some_and(|(max, age)| age.unsigned_abs() > max.as_secs())
    }

    /// Why changes cannot be kept now, or have not been.
    fn state_problem(&self) -> Option<String> {
        let unsaved = self.kept.unsaved.as_ref();
        let unsaved = unsaved.map(|why| format!("what is live is not on disk: {why}"));
        unsaved.or_else(|| self.kept.state.trouble())
    }

    /// The answer to `status`. `busy`: what keeps the core.
    pub(super) fn status(&self, busy: Option<&Busy>) -> Result<Value, Refusal> {
        let counts = self.counts().map_err(Refusal::from_error)?;
        let counted = self.counted(&counts);
        let of_devices = self.of_devices();
        let of_all = self.of_all(busy);
        let interfaces: Vec<Value> = self
            .attachments()
            .zip(&self.links.devices)
            .zip(&of_devices)
            .map(|(((name, mode, attached), device), reasons)| {
                let gaps = self.links.cover.gaps().iter();
                let flows = gaps.filter(|gap| gap.interface.as_ref() == Some(&name));
                let reasons = reasons.iter().chain(of_all.iter().flatten()).cloned();
                let reasons: Vec<String> = reasons.chain(flows.map(Gap::to_string)).collect();
                json!({
                    "name": name,
                    "device": device.config.device,
                    "mode": mode,
                    "attached": attached,
                    "by": match attached && !device.is_alone() {
                        true => Some("xdp"),
                        false if attached || device.stood_in_for().is_some() => Some("tc"),
                        false => None,
                    },
                    "held": self.boot.holds(&device.config.device),
                    "unknown_vlans": if device.config.drop_unknown { "drop" } else { "pass" },
                    "guard": device.hook.map(Hook::as_str),
                    "guard_judges": device.hook.is_some() && device.judges,
                    "missed": device.watch.hidden + device.watch.uncalled,
                    "stopped": device.stopped,
                    "no_zone": counted.no_zone(&device.config.name),
                    "enforcing": reasons.is_empty(),
                    "reasons": reasons,
                })
            })
            .collect();
        let policy = self.live.as_ref().zip(self.kept.record.as_ref());
        let policy = policy.map(|(live, record)| {
            json!({
                "path": record.bundle.file,
                "hash": live.hash_in_words(),
                "drift": differs(record, &self.config.policy),
                "configured": self.config.policy.display().to_string(),
                "applied_at": record.applied_at,
                "pending_confirm": self.trial(),
            })
        });
        let info = self.updates.database.info();
        let overlay: Vec<Value> = self
            .kept
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
                    "matches": is_known(entry.target, &self.updates.database, self.bgp.is_some()),
                })
            })
            .collect();
        let [before, after] = of_all;
        let reasons = [before, of_devices.concat(), after, self.uncovered()].concat();
        let gaps: Vec<Value> = self
            .links
            .cover
            .gaps()
            .iter()
            .map(|gap| {
                json!({
                    "device": gap.device,
                    "interface": gap.interface,
                    "certain": gap.is_certain,
                    "found": gap.found,
                    "cure": gap.cure,
                })
            })
            .collect();
        let changes = self.changes.iter().rev().take(CHANGES);
        Ok(json!({
            "at": Timestamp::now(),
            "enforcing": reasons.is_empty(),
            "reasons": reasons,
            "notices": self.notices(busy, counts.ledger.as_ref().and_then(|ledger| ledger.loses)),
            "gaps": gaps,
            "fail": self.config.fail.as_str(),
            "interfaces": interfaces,
            "generation": self.generation,
            "policy": policy,
            "asndb": {
                "prefixes_v4": info.ipv4.prefixes,
                "prefixes_v6": info.ipv6.prefixes,
                "asns": info.asns,
                "age_seconds": self.updates.age(),
                "old": self.database_is_old(),
                "sources": info.sources,
                "update": self.updates.status(),
                "refused_snapshots": self.updates.refused,
            },
            "bgp": self.bgp.as_ref().map(Bgp::status),
            "books": self.books(&counts),
            "evidence": self.standing().as_ref().map(evidence::json),
            "zones": counted.zones(self.policy(), &self.silences().collect()),
            "rules": counted.rules(),
            "decided": counted.reasons(),
            "networks": counted.networks(&self.updates.database.db),
            "overlay": overlay,
            "changes": changes.collect::<Vec<&Entry>>(),
            "state": {
                "directory": self.config.state_dir,
                "problem": self.state_problem(),
                "repaired": self.kept.repaired,
            },
            "started_at": self.started_at,
            "version": env!("CARGO_PKG_VERSION"),
        }))
    }

    /// The answer to `history`.
    pub(super) fn history(&self) -> Value {
        let live = self.kept.number();
        let hash = self.live.as_ref().map(Live::hash_in_words);
        let entries: Vec<Value> = self
            .kept
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
