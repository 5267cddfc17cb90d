//! What an answer to `flows` does not have, by zone: packets that found no room in the ring, or were sent while less was
//! recorded, since the daemon started; and what there was before. Without it a short answer looks like silence.
//!
//! Counters are read before the ledger. What is sent meanwhile can only hide something: each number is the least that
//! it can be.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kordon_ebpf::layout::{Counter, FLOW_SLOT};
use serde_json::{Value, json};

use super::View;
use crate::{
    control::{protocol::FlowsQuery, refusal::Refusal},
    diagnostic::did_you_mean,
    ledger::{Flows, Missing, Reading},
};

/// Packets of a zone.
#[derive(Default)]
struct Of {
    /// Recorded, and not among the flows.
    recorded_before: u64,
    /// Not recorded before the daemon started.
    missing_before: u64,
    lost: u64,
    unrecorded: u64,
}

impl View {
    /// That there is such a zone, in the live policy or in what was counted: `counters` by slot.
    pub(super) fn knows_zone(&self, zone: &str, counters: &[Counter]) -> Result<(), Refusal> {
        let live = self.policy().map_or(&[][..], |policy| &policy.zones);
        let live = live.iter().map(|zone| zone.name.clone());
        let counted = counters.iter().zip(0..).filter(|(sum, _)| sum.packets > 0);
        let counted = counted.filter_map(|(_, slot)| Some(self.zone_of(slot)?.0));
        let names: BTreeSet<String> = live.chain(counted).collect();
        if names.contains(zone) {
            return Ok(());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let cure = match did_you_mean(zone, names.iter().copied()) {
            Some(name) => format!("did you mean `{name}`"),
            None if names.is_empty() => "no policy is live: `kordon apply`".to_owned(),
            None => format!("the zones are {}", names.join(", ")),
        };
        Err(Refusal::new(format!("there is no zone `{zone}`"), cure))
    }

    /// Zone and action of what counts each packet of a zone once.
    fn zone_of(&self, slot: u32) -> Option<(String, &'static str)> {
        let identity = self.reader.identity(slot)?;
        let (zone, action) = identity.of_zone()?;
        Some((zone.to_owned(), action.as_str()))
    }

    /// By zone, where there is something. `counters`: by slot, read before the ledger; `lost`: by slot, after it;
    /// `before`: what was missing when the daemon started.
    pub(super) fn unshown(
        &self,
        query: &FlowsQuery,
        counters: &[Counter],
        (flows, reading): (&Flows, &Reading),
        lost: &HashMap<u32, Counter>,
        before: &HashMap<u32, Missing>,
    ) -> Vec<Value> {
        let mut kept: HashMap<u32, u64> = HashMap::new();
        for ((flow, _), sum) in flows {
            let slot = (flow.identity & FLOW_SLOT) as u32;
            *kept.entry(slot).or_default() += sum.counter.packets;
        }
        let mut zones: BTreeMap<String, Of> = BTreeMap::new();
        for (counted, slot) in counters.iter().zip(0..) {
            let recorded = reading.recorded.get(&slot).map_or(0, |sum| sum.packets);
            if counted.packets == 0 && recorded == 0 {
                continue;
            }
            let Some((zone, action)) = self.zone_of(slot) else {
                continue;
            };
            if query.zone.as_ref().is_some_and(|asked| *asked != zone)
                || query.action.as_ref().is_some_and(|asked| asked != action)
            {
                continue;
            }
            let before = before.get(&slot).copied().unwrap_or_default();
            let missing = counted.packets.saturating_sub(recorded + before.most);
            let lost = lost.get(&slot).map_or(0, |sum| sum.packets);
            let lost = lost.saturating_sub(before.lost).min(missing);
            let of = zones.entry(zone).or_default();
            of.recorded_before += recorded.saturating_sub(kept.get(&slot).copied().unwrap_or(0));
            of.missing_before += before.packets;
            of.lost += lost;
            of.unrecorded += missing - lost;
        }
        let live = self.policy().map_or(&[][..], |policy| &policy.zones);
        let zones = zones.into_iter().filter_map(|(zone, of)| {
            let record = live.iter().find(|live| live.name == zone);
            let row = [
                of.recorded_before,
                of.missing_before,
                of.lost,
                of.unrecorded,
            ];
            row.iter().any(|packets| *packets > 0).then(|| {
                json!({
                    "zone": zone,
                    "recorded_before": of.recorded_before,
                    "missing_before": of.missing_before,
                    "lost": of.lost,
                    "unrecorded": of.unrecorded,
                    "record": record.map(|zone| zone.record.as_str()),
                })
            })
        });
        zones.collect()
    }
}
