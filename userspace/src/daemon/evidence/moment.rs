//! One moment of counters, lines and log: what was counted, and what of it is not in the log yet. For heartbeats, and for
//! whoever adds up the log with what is still in the kernel.
//!
//! All is read while the ledger is locked, so that no record of a flow comes between. Counters are read first; what came
//! in between is known from the lines, and counted.

use std::{
    collections::BTreeMap,
    sync::{MutexGuard, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use kordon_ebpf::layout::{Action, Counter, FLOW_SLOT};
use serde_json::{Value, json};

use super::{Evidence, recorder::Recorder};
use crate::{
    daemon::{
        refusal::Refusal,
        status::{EvidenceLog, View},
    },
    ledger::{Keeper, Reading, Sum, witness::Seen},
    metrics,
};

/// Lines of one answer that are not in the log; of more, all is written first.
const MOST: usize = 50_000;

/// How long somebody waits for a log that is being signed, and how often he looks.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// By zone and action.
type Sums = BTreeMap<(String, Action), Counter>;

/// See the module.
pub(super) struct Moment<'a> {
    reading: Reading,
    counted: Sums,
    recorded: Sums,
    /// No record comes before this ends.
    ledger: MutexGuard<'a, Keeper>,
}

impl<'a> Moment<'a> {
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn read(view: &'a View) -> Result<Self, Refusal> {
        let counters = view.reader.counters().map_err(Refusal::from_error)?;
        let mut ledger = view.ledger()?;
        let reading = (ledger.read(view.reader.slots())).map_err(Refusal::from_error)?;
        let counted = sums(view, (0..).zip(counters));
        let recorded = sums(
            view,
            reading.recorded.iter().map(|(slot, sum)| (*slot, *sum)),
        );
        Ok(Self {
            reading,
            counted,
            recorded,
            ledger,
        })
    }

    /// What was counted, what of it the log lacks so far, and, the first time, what was before the log.
    pub(super) fn books(&self, view: &View, recorder: &Recorder) -> Value {
        let mut counted = self.counted.clone();
        for (key, recorded) in &self.recorded {
            let counted = counted.entry(key.clone()).or_default();
            counted.packets = counted.packets.max(recorded.packets);
            counted.bytes = counted.bytes.max(recorded.bytes);
        }
        let due = self.due(recorder).map(|(seen, new)| (slot(seen), new));
        let mut books = json!({
            "counters": recorder.counters(view),
            "counted": list(&counted),
            "unwritten": list(&sums(view, due)),
        });
        if let Some(booked) = &recorder.opening {
            let booked = sums(view, booked.iter().map(|(slot, sum)| (*slot, *sum)));
            for (key, counted) in &mut counted {
                let of = |sums: &Sums| sums.get(key).copied().unwrap_or_default();
                let (recorded, booked) = (of(&self.recorded), of(&booked));
                let before =
                    |all: u64, recorded: u64, booked: u64| all - recorded.min(all) + booked;
                counted.packets = before(counted.packets, recorded.packets, booked.packets);
                counted.bytes = before(counted.bytes, recorded.bytes, booked.bytes);
            }
            books["opening"] = list(&counted).into();
        }
        books
    }

    /// What is not in the log yet: in lines, or of a counter that nobody knew.
    fn due<'m>(&'m self, recorder: &'m Recorder) -> impl Iterator<Item = (&'m Seen, Counter)> {
        let accounts = &recorder.accounts;
        let lines = self.reading.lines.iter().filter_map(|seen| {
            let new = accounts.due(seen.line, seen.sequence, seen.sum.counter)?;
            Some((seen, new))
        });
        lines.chain(recorder.waiting.iter().map(|late| (&late.seen, late.new)))
    }

    /// As rows of `flows`.
    fn rows(&self, view: &View, recorder: &Recorder) -> String {
        let mut rows = String::new();
        for (seen, new) in self.due(recorder) {
            let sum = Sum {
                counter: new,
                ..seen.sum
            };
            let db = &view.updates.database.db;
            if let Some(told) = view.told(&seen.flow, seen.network, db) {
                rows += &told.row(&sum).to_string();
                rows.push('\n');
            }
        }
        rows
    }
}

impl EvidenceLog for Evidence {
    fn standing(&self) -> metrics::Evidence {
        self.now()
    }

    fn is_late(&self) -> bool {
        self.is_behind()
    }

    fn troubles(&self) -> Vec<String> {
        self.all_troubles()
    }

    fn unwritten(&self, view: &View) -> Result<Value, Refusal> {
        let begun = Instant::now();
        let mut is_told = false;
        while begun.elapsed() < PATIENCE {
            // While it is signed the ring is not read, and nobody is to wait for the disk with the ledger in his hands.
            if !self.signing.load(Ordering::Relaxed) {
                let mut moment = Moment::read(view)?;
                if let Ok(recorder) = self.recorder.try_lock()
                    && !self.signing.load(Ordering::Relaxed)
                {
                    if moment.due(&recorder).nth(MOST).is_none() {
                        let mut answer = moment.books(view, &recorder);
                        answer["folder"] = json!(recorder.folder);
                        answer["records"] = json!(recorder.log.size());
                        answer["troubles"] = json!(self.troubles.of_records());
                        answer["rows"] = json!(moment.rows(view, &recorder));
                        return Ok(answer);
                    }
                    if is_told {
                        break;
                    }
                    drop(recorder);
                    moment.ledger.tell(true).map_err(Refusal::from_error)?;
                    is_told = true;
                    continue;
                }
            }
            thread::sleep(PAUSE);
        }
        Err(Refusal::new(
            "what is not in the log yet cannot be said now: the log is being signed, or cannot be written",
            "`kordon status` says whether something is wrong with it; try again",
        ))
    }
}

fn slot(seen: &Seen) -> u32 {
    (seen.flow.identity & FLOW_SLOT) as u32
}

fn sums(view: &View, slots: impl IntoIterator<Item = (u32, Counter)>) -> Sums {
    let mut sums = Sums::new();
    for (slot, counter) in slots {
        let identity = view.reader.identity(slot);
        if let Some((zone, action)) = identity.as_ref().and_then(|identity| identity.of_zone()) {
            *sums.entry((zone.to_owned(), action)).or_default() += counter;
        }
    }
    sums
}

fn list(sums: &Sums) -> Vec<Value> {
    let sums = sums.iter().map(|((zone, action), sum)| {
        let (packets, bytes) = (sum.packets, sum.bytes);
        json!({ "zone": zone, "action": action.as_str(), "packets": packets, "bytes": bytes })
    });
    sums.collect()
}
