//! The books of the ledger: of each zone and action, what was counted, and what of that is in some record.
//!
//! Counters are raised before records, and read before them: what is not in a record, then, is not on its
//! way there, either. It was sent while nothing was recorded, or found no room.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kordon_ebpf::layout::{Action, Counter, FLOW_OTHERS, Flow};
use serde_json::{Map, Value, json};

use super::View;
use crate::{compile::directory::Identity, metrics::Ledger};

/// Of one zone and action.
#[derive(Clone, Copy, Default)]
struct Book {
    counted: Counter,
    recorded: Counter,
}

impl View {
    /// For `status`: by zone of the live policy, and action; null where the ledger cannot be read.
    pub(super) fn books(&self) -> Value {
        let (Some(policy), Ok(counted)) = (self.policy(), self.counts()) else {
            return Value::Null;
        };
        let reading = self.ledger().ok();
        let reading = reading.and_then(|mut ledger| ledger.read(self.reader.slots()).ok());
        let Some(reading) = reading else {
            return Value::Null;
        };
        let zones = policy.zones.iter().map(|zone| &*zone.name);
        let mut books: BTreeMap<&str, [Book; 3]> =
            zones.map(|zone| (zone, Default::default())).collect();
        let mut add = |identity: &Identity, counter: &Counter, recorded: bool| {
            let (Identity::Zone(zone, _, action) | Identity::Rule(zone, _, action)) = identity
            else {
                return;
            };
            if let Some(book) = books.get_mut(&**zone) {
                let book = &mut book[*action as usize];
                let sum = match recorded {
                    true => &mut book.recorded,
                    false => &mut book.counted,
                };
                sum.packets += counter.packets;
                sum.bytes += counter.bytes;
            }
        };
        for (identity, counter) in &counted {
            add(identity, counter, false);
        }
        for (slot, counter) in &reading.recorded {
            if let Some(identity) = self.reader.identity(*slot) {
                add(&identity, counter, true);
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
}

impl View {
    /// For the metrics; `None` where the ledger cannot be read.
    pub(super) fn ledger_snapshot(&self) -> Option<Ledger> {
        let mut ledger = self.ledger().ok()?;
        let reading = ledger.read(self.reader.slots()).ok()?;
        let lost = ledger.lost().ok()?;
        let (records, mut others) = (ledger.records, ledger.others());
        drop(ledger);
        let is_others = |flow: &Flow| flow.identity & FLOW_OTHERS != 0;
        let in_lines = reading.lines.iter().filter(|(flow, _)| is_others(flow));
        others += in_lines.map(|(_, sum)| sum.counter.packets).sum::<u64>();
        let age = |oldest: Timestamp| Timestamp::now().duration_since(oldest).as_secs_f64();
        Some(Ledger {
            recorded: self.by_zone(reading.recorded.into_iter()),
            lost: self.by_zone(lost.into_iter()),
            records,
            others,
            used: reading.lines.len() as u64,
            all: reading.all as u64,
            oldest: reading.oldest.map(age),
        })
    }

    /// By zone and action; what is of neither is left out.
    fn by_zone(
        &self,
        slots: impl Iterator<Item = (u32, Counter)>,
    ) -> Vec<(String, Action, Counter)> {
        let mut sums: BTreeMap<(String, Action), Counter> = BTreeMap::new();
        for (slot, counter) in slots {
            let key = match self.reader.identity(slot) {
                Some(Identity::Zone(zone, _, action) | Identity::Rule(zone, _, action)) => {
                    (zone, action)
                }
                _ => (String::new(), Action::Drop),
            };
            let sum = sums.entry(key).or_default();
            sum.packets += counter.packets;
            sum.bytes += counter.bytes;
        }
        let sums = sums.into_iter();
        sums.map(|((zone, action), sum)| (zone, action, sum))
            .collect()
    }
}

impl Book {
    fn row(&self) -> Value {
        let Self { counted, recorded } = self;
        let unrecorded = Counter {
            packets: counted.packets.saturating_sub(recorded.packets),
            bytes: counted.bytes.saturating_sub(recorded.bytes),
        };
        let row = |counter: &Counter| json!({ "packets": counter.packets, "bytes": counter.bytes });
        // What was counted and recorded since the counters were read is counted here.
        let all = Counter {
            packets: recorded.packets + unrecorded.packets,
            bytes: recorded.bytes + unrecorded.bytes,
        };
        json!({
            "counted": row(&all),
            "recorded": row(recorded),
            "unrecorded": row(&unrecorded),
        })
    }
}
