//! The books of the ledger: for each zone and action what was counted, what was recorded, and the difference (sent
//! while nothing was recorded, or lost).
//!
//! Counters are read before lines and ring, and a program raises both for a packet in one go: what was counted by
//! then and is in no record is not on its way there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kordon_ebpf::layout::{Action, Counter, FLOW_OTHERS, Flow};
use serde_json::{Map, Value, json};

use super::{
    View,
    counted::{Counts, Recorded},
};
use crate::{compile::directory::Identity, metrics::Ledger};

/// Of one zone and action.
#[derive(Clone, Copy, Default)]
struct Book {
    counted: Counter,
    recorded: Counter,
}

impl View {
    /// For `status`: by zone of the live policy, and action; null where the ledger cannot be read.
    pub(super) fn books(&self, counts: &Counts) -> Value {
        let (Some(policy), Some(recorded)) = (self.policy(), &counts.ledger) else {
            return Value::Null;
        };
        let zones = policy.zones.iter().map(|zone| &*zone.name);
        let mut books: BTreeMap<&str, [Book; 3]> =
            zones.map(|zone| (zone, Default::default())).collect();
        let mut add =
            |identity: &Identity, counter: &Counter, side: fn(&mut Book) -> &mut Counter| {
                if let Some((zone, action)) = identity.of_zone()
                    && let Some(books) = books.get_mut(zone)
                {
                    *side(&mut books[action as usize]) += *counter;
                }
            };
        for (identity, counter) in &counts.counters {
            add(identity, counter, |book| &mut book.counted);
        }
        for (slot, counter) in &recorded.reading.recorded {
            if let Some(identity) = self.reader.identity(*slot) {
                add(&identity, counter, |book| &mut book.recorded);
            }
        }
        let books = books.into_iter().map(|(zone, books)| {
            let actions = Action::ALL.into_iter().map(|action| {
                let row = books[action as usize].row();
                (action.as_str().to_owned(), row)
            });
            (zone.to_owned(), actions.collect::<Map<_, _>>().into())
        });
        Value::Object(books.collect())
    }

    /// For the metrics; `None` where the ledger cannot be read.
    pub(super) fn ledger_snapshot(&self, recorded: Option<Recorded>) -> Option<Ledger> {
        let Recorded {
            reading,
            lost,
            records,
            mut others,
            ..
        } = recorded?;
        let is_others = |flow: &Flow| flow.identity & FLOW_OTHERS != 0;
        let in_lines = reading.lines.iter().filter(|seen| is_others(&seen.flow));
        others += in_lines.map(|seen| seen.sum.counter.packets).sum::<u64>();
        let age = |oldest: Timestamp| Timestamp::now().duration_since(oldest).as_secs_f64();
        Some(Ledger {
            recorded: self.by_zone(reading.recorded),
            lost: self.by_zone(lost),
            records,
            others,
            used: reading.lines.len() as u64,
            all: reading.all as u64,
            oldest: reading.oldest.map(age),
        })
    }

    /// By zone and action; what is of neither has no name.
    fn by_zone(
        &self,
        slots: impl IntoIterator<Item = (u32, Counter)>,
    ) -> Vec<(String, Action, Counter)> {
        let mut sums: BTreeMap<(String, Action), Counter> = BTreeMap::new();
        for (slot, counter) in slots {
            let identity = self.reader.identity(slot);
            let (zone, action) = (identity.as_ref())
                .and_then(Identity::of_zone)
                .unwrap_or(("", Action::Drop));
            *sums.entry((zone.to_owned(), action)).or_default() += counter;
        }
        let sums = sums.into_iter();
        sums.map(|((zone, action), sum)| (zone, action, sum))
            .collect()
    }
}

impl Book {
    fn row(&self) -> Value {
        let Self { counted, recorded } = self;
        // What was counted and recorded since the counters were read is counted here.
        let all = Counter {
            packets: counted.packets.max(recorded.packets),
            bytes: counted.bytes.max(recorded.bytes),
        };
        let unrecorded = Counter {
            packets: all.packets - recorded.packets,
            bytes: all.bytes - recorded.bytes,
        };
        let row = |counter: &Counter| json!({ "packets": counter.packets, "bytes": counter.bytes });
        json!({
            "counted": row(&all),
            "recorded": row(recorded),
            "unrecorded": row(&unrecorded),
        })
    }
}
