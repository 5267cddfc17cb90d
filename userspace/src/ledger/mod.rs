//! The ledger as it is asked for: what is in the kernel's lines at this moment, and what came out of them
//! since the controller started, added up by flow. Nothing is counted twice: a line that is read here and
//! leaves while it is read is left out, since its record says the same.
//!
//! What is kept is bounded. Beyond [`MOST`] flows what comes is added up without destinations, and
//! beyond twice that without sources, too: the sums stay exact.
//!
//! [`clock`]: when that was.

mod clock;

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kordon_ebpf::layout::{
    Counter, FLOW_GUARD, FLOW_INTERFACE_SHIFT, FLOW_OTHERS, FLOW_SLOT, Flow, FlowLine,
};

use self::clock::{At, Clock};
use crate::datapath::{DatapathError, ledger};

/// Flows that are told apart of what has left its line.
const MOST: usize = 1 << 17;

/// What stays of the identity of a flow without a source: what was decided, where, and by whom.
const FOLDED: u64 = FLOW_SLOT | 0xff << FLOW_INTERFACE_SHIFT | FLOW_GUARD | FLOW_OTHERS;

/// How long somebody should hear of a loss.
const LATELY: Duration = Duration::from_secs(3600);

/// What was seen of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Packets and bytes.
    pub counter: Counter,
    /// When its first packet came, as far as is known.
    pub first: Timestamp,
    /// When its last packet came.
    pub last: Timestamp,
}

impl Sum {
    fn of(line: &FlowLine, clock: At) -> Self {
        Self {
            counter: Counter {
                packets: u64::from(line.packets),
                bytes: u64::from(line.bytes),
            },
            first: clock.when(line.first),
            last: clock.when(line.first.wrapping_add(u32::from(line.span))),
        }
    }

    /// Adds what else was seen.
    pub fn add(&mut self, other: &Self) {
        self.counter += other.counter;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// Everything that is known at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// What is in lines: of each CPU.
    pub lines: Vec<(Flow, Sum)>,
    /// By counter slot: what is in lines now, and all that ever came out of them.
    pub recorded: HashMap<u32, Counter>,
    /// How many lines there are.
    pub all: usize,
    /// The oldest flow that is in a line.
    pub oldest: Option<Timestamp>,
}

/// Reads the ledger, and keeps what comes out of it.
pub struct Keeper {
    kernel: ledger::Ledger,
    clock: Clock,
    kept: HashMap<Flow, Sum>,
    /// Records since the start.
    pub records: u64,
    /// What was lost when that was looked at last, and when it had become more.
    lost: (u64, Option<Instant>),
    others: u64,
}

impl Keeper {
    /// Begins with what is in the kernel.
    ///
    /// # Errors
    /// When the kernel's clock cannot be read.
    pub fn new(mut kernel: ledger::Ledger) -> Result<Self, DatapathError> {
        Ok(Self {
            clock: Clock::new(kernel.now()?),
            kernel,
            kept: HashMap::new(),
            records: 0,
            lost: (0, None),
            others: 0,
        })
    }

    /// Takes what has left its line. To be called often enough that the ring has room.
    ///
    /// # Errors
    /// When the kernel's clock cannot be read; nothing is lost then.
    pub fn drain(&mut self) -> Result<(), DatapathError> {
        self.left()?;
        let lost = self.lost()?.iter().map(|(_, lost)| lost.packets).sum();
        if lost > self.lost.0 {
            self.lost = (lost, Some(Instant::now()));
        }
        Ok(())
    }

    /// How many packets are missing in the ledger, if there were more of them lately.
    #[must_use]
    pub fn loses(&self) -> Option<u64> {
        let (lost, at) = self.lost;
        at.filter(|at| at.elapsed() < LATELY).map(|_| lost)
    }

    /// As [`Self::drain`]; the lines that were left, by their place and sequence.
    fn left(&mut self) -> Result<HashSet<(u32, u16)>, DatapathError> {
        self.clock.wait();
        let clock = self.clock.at(self.kernel.now()?);
        let mut left = HashSet::new();
        let (kept, others) = (&mut self.kept, &mut self.others);
        self.records += self.kernel.drain(|record| {
            left.insert((record.line, record.held.sequence));
            let sum = Sum::of(&record.held, clock);
            if keep(kept, record.held.flow, &sum) {
                *others += sum.counter.packets;
            }
        });
        Ok(left)
    }

    /// What is known now. `slots`: counters that have been given.
    ///
    /// # Errors
    /// When the kernel's clock cannot be read.
    pub fn read(&mut self, slots: u32) -> Result<Reading, DatapathError> {
        // Lines first: what leaves meanwhile is in the ring after it.
        let lines: Vec<(u32, FlowLine)> = self.kernel.lines().collect();
        let left = self.left()?;
        let clock = self.clock.at(self.kernel.now()?);
        let mut reading = Reading {
            all: self.kernel.size(),
            ..Reading::default()
        };
        for slot in 0..slots {
            let booked = self.kernel.booked(slot);
            if booked.packets > 0 {
                reading.recorded.insert(slot, booked);
            }
        }
        for (index, line) in lines {
            if left.contains(&(index, line.sequence)) {
                continue;
            }
            let sum = Sum::of(&line, clock);
            let oldest = reading.oldest.unwrap_or(sum.first);
            reading.oldest = Some(oldest.min(sum.first));
            reading.lines.push((line.flow, sum));
            let slot = (line.flow.identity & FLOW_SLOT) as u32;
            *reading.recorded.entry(slot).or_default() += sum.counter;
        }
        Ok(reading)
    }

    /// By flow: what is in lines, and what came out of them since the start.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn flows(&mut self, slots: u32) -> Result<(HashMap<Flow, Sum>, Reading), DatapathError> {
        let reading = self.read(slots)?;
        let mut flows = self.kept.clone();
        for (flow, sum) in &reading.lines {
            add(&mut flows, *flow, sum);
        }
        Ok((flows, reading))
    }

    /// Packets that came out of lines since the start without a destination: beyond the budget of their
    /// source, or beyond what is kept here.
    #[must_use]
    pub fn others(&self) -> u64 {
        self.others
    }

    /// What found no room in the ring, by counter slot; of slot 0 whose is not known.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn lost(&self) -> Result<Vec<(u32, Counter)>, DatapathError> {
        self.kernel.lost()
    }
}

fn add(flows: &mut HashMap<Flow, Sum>, flow: Flow, sum: &Sum) {
    flows
        .entry(flow)
        .and_modify(|known| known.add(sum))
        .or_insert(*sum);
}

/// As [`add`], of what there may be any number of. Whether the destination is not known, or no longer.
fn keep(kept: &mut HashMap<Flow, Sum>, mut flow: Flow, sum: &Sum) -> bool {
    if kept.len() >= MOST && !kept.contains_key(&flow) {
        flow.be_others();
        if kept.len() >= 2 * MOST && !kept.contains_key(&flow) {
            flow = Flow {
                identity: flow.identity & FOLDED,
                ..Flow::default()
            };
        }
    }
    add(kept, flow, sum);
    flow.identity & FLOW_OTHERS != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_exact() {
        let now = Timestamp::UNIX_EPOCH;
        let one = Sum {
            counter: Counter {
                packets: 1,
                bytes: 100,
            },
            first: now,
            last: now,
        };
        let mut kept = HashMap::new();
        let total = 3 * MOST as u64;
        for number in 0..total {
            // Each from a source of its own.
            let flow = Flow {
                addresses: [number, 0, 0, 0],
                sender: number,
                identity: 5 | 3 << FLOW_INTERFACE_SHIFT,
            };
            keep(&mut kept, flow, &one);
        }
        let all: u64 = kept.values().map(|sum| sum.counter.packets).sum();
        assert_eq!(all, total);
        assert!(kept.len() <= 2 * MOST + 1, "{}", kept.len());
        assert!(kept.keys().all(|flow| flow.identity & FLOW_SLOT == 5));
        let is_there = |flow: &Flow| flow.identity >> FLOW_INTERFACE_SHIFT & 0xff == 3;
        assert!(
            kept.keys().all(is_there),
            "another interface than it came in on"
        );
    }
}
