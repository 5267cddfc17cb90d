//! The ledger as it is asked for: what is in the kernel's lines at this moment, and what came out of them
//! since the controller started, added up by flow. Nothing is counted twice: a line that is read here and
//! leaves while it is read is left out, since its record says the same.
//!
//! What is kept is bounded. Beyond [`MOST`] flows what comes is added up without destinations, and
//! beyond twice that without sources, too: the sums stay exact.
//!
//! - [`camera`]: who sent it.
//! - [`clock`]: when that was.
//! - `missing`: what it does not have.
//! - [`network`]: whom it was for.
//! - [`witness`]: who writes it down; `tell`: of lines that are in use.

pub mod camera;
mod clock;
mod missing;
pub mod network;
mod sum;
mod tell;
pub mod witness;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kordon_ebpf::layout::{
    Counter, FLOW_GUARD, FLOW_INTERFACE_SHIFT, FLOW_OTHERS, FLOW_RING, FLOW_SLOT, Flow, FlowLine,
    Record,
};

use self::{
    camera::{Camera, Cameras},
    clock::Clock,
    network::{Look, Naming, Network, Owner},
    witness::{Seen, Witness},
};
pub use self::{missing::Missing, sum::Sum};
use crate::datapath::{
    DatapathError,
    ledger::{self, Beyond, Key},
};

/// Flows that are told apart of what has left its line.
const MOST: usize = 1 << 17;

/// What stays of the identity of a flow without a source: what was decided, where, and by whom.
const FOLDED: u64 = FLOW_SLOT | 0xff << FLOW_INTERFACE_SHIFT | FLOW_GUARD | FLOW_OTHERS;

/// Records that are read in one go.
const AT_ONCE: u64 = 4096;
/// Records that the ring has room for, at most.
const IN_RING: u64 = FLOW_RING as u64 / size_of::<Record>() as u64;
/// How often lines are read again because some of them left while the ring was full.
const AGAIN: usize = 3;

/// How long whoever reads the ring waits for live BGP that is being worked on.
const WORKED_ON: Duration = Duration::from_secs(1);
/// How long somebody should hear of a loss.
const LATELY: Duration = Duration::from_secs(3600);

/// Flows, and what was seen of each.
pub type Flows = HashMap<(Flow, Network), Sum>;

/// Everything that is known at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// What is in lines: of each CPU.
    pub lines: Vec<Seen>,
    /// By counter slot: what is in lines now, and all that ever came out of them.
    pub recorded: HashMap<u32, Counter>,
    /// By a slot that stands for a zone and action, and network: all of what was dropped or audited by rules.
    pub networks: Vec<(u32, Network, Counter)>,
    /// By counter slot and camera: all of what came since the controller started.
    pub cameras: Vec<(u32, Camera, Counter)>,
    /// How many lines there are.
    pub all: usize,
    /// The oldest flow that is in a line.
    pub oldest: Option<Timestamp>,
}

/// Reads the ledger, and keeps what comes out of it.
pub struct Keeper {
    kernel: ledger::Ledger,
    clock: Clock,
    naming: Option<Arc<dyn Naming>>,
    witness: Option<Box<dyn Witness>>,
    /// By slot, of those that are known.
    owners: HashMap<u32, Option<u32>>,
    kept: Flows,
    cameras: Cameras,
    /// What was said of networks: it never becomes less.
    said: HashMap<u64, Counter>,
    /// Records since the start.
    pub records: u64,
    /// What was lost when that was looked at last, and when it had become more.
    lost: (u64, Option<Instant>),
    others: u64,
    /// What was missing at the start, by slot.
    before: HashMap<u32, Missing>,
}

impl Keeper {
    /// Begins with what is in the kernel. Nothing is taken out of it before somebody says whom it is for.
    ///
    /// # Errors
    /// When the kernel's clock cannot be read.
    pub fn new(mut kernel: ledger::Ledger) -> Result<Self, DatapathError> {
        Ok(Self {
            clock: Clock::new(kernel.now()?),
            kernel,
            naming: None,
            witness: None,
            owners: HashMap::new(),
            kept: Flows::new(),
            cameras: Cameras::default(),
            said: HashMap::new(),
            records: 0,
            lost: (0, None),
            others: 0,
            before: HashMap::new(),
        })
    }

    /// From now on flows are named by this, and those that are under way by what lies `between` that and what was before.
    ///
    /// # Errors
    /// When the kernel's clock cannot be read; they are named by what there is now then.
    pub fn name_by(
        &mut self,
        naming: Arc<dyn Naming>,
        between: Option<Arc<dyn Naming>>,
    ) -> Result<(), DatapathError> {
        let settled = between.map_or(Ok(()), |between| self.settle(between));
        self.naming = Some(naming);
        settled
    }

    /// Names what is in lines. A mark takes the place of that of a flow that had the line before, so the
    /// records of those are read between reading lines and marking them, here and in [`Self::read`].
    fn settle(&mut self, naming: Arc<dyn Naming>) -> Result<(), DatapathError> {
        self.naming = Some(Arc::clone(&naming));
        let lines: Vec<(u32, FlowLine)> = self.kernel.lines().collect();
        self.left(true)?;
        // What is not known with live BGP is not said for good.
        if let Some(look) = naming.look() {
            for (index, line) in lines {
                self.network(index, &line, &*look, true);
            }
        }
        Ok(())
    }

    /// The network of a line, which it keeps if it is to be marked.
    fn network(&mut self, index: u32, line: &FlowLine, look: &dyn Look, marks: bool) -> Network {
        if line.flow.identity & FLOW_OTHERS != 0 {
            return Network::UNKNOWN;
        }
        if let Some(mark) = self.kernel.mark(index, line.sequence) {
            return Network::of_mark(mark);
        }
        let network = look.network(&line.flow);
        if marks {
            let mark = network.to_mark();
            self.kernel.set_mark(index, line.sequence, mark);
        }
        network
    }

    /// Takes what has left its line. To be called often enough that the ring has room.
    ///
    /// # Errors
    /// When the kernel's clock cannot be read; nothing is lost then.
    pub fn drain(&mut self) -> Result<(), DatapathError> {
        self.left(false)?;
        let lost = self.lost_packets()?;
        if lost > self.lost.0 {
            self.lost = (lost, Some(Instant::now()));
        }
        Ok(())
    }

    fn lost_packets(&self) -> Result<u64, DatapathError> {
        Ok(self.lost()?.iter().map(|(_, lost)| lost.packets).sum())
    }

    /// How many packets are missing in the ledger, if there were more of them lately.
    #[must_use]
    pub fn loses(&self) -> Option<u64> {
        let (lost, at) = self.lost;
        at.filter(|at| at.elapsed() < LATELY).map(|_| lost)
    }

    /// As [`Self::drain`]; the lines that were left, by their place and sequence. `all`: also what has
    /// to be named without live BGP, because that is being worked on.
    fn left(&mut self, all: bool) -> Result<HashSet<(u32, u16)>, DatapathError> {
        self.clock.wait();
        let clock = self.clock.at(self.kernel.now()?);
        let mut left = HashSet::new();
        let Some(naming) = self.naming.clone() else {
            return Ok(left);
        };
        // What comes while this reads is for the next time: somebody may send faster than it is read.
        let mut most = IN_RING;
        loop {
            if self
                .witness
                .as_ref()
                .is_some_and(|witness| !witness.is_ready())
            {
                return Ok(left);
            }
            if !all && naming.look().is_none() {
                return Ok(left);
            }
            let (kept, others) = (&mut self.kept, &mut self.others);
            let (owners, cameras) = (&mut self.owners, &mut self.cameras);
            let witness = &mut self.witness;
            let count = self.kernel.drain(AT_ONCE, |record, mark| {
                let held = &record.held;
                left.insert((record.line, held.sequence));
                cameras.left(held);
                let sum = Sum::of(held, clock);
                let is_others = held.flow.identity & FLOW_OTHERS != 0;
                let network = match mark {
                    _ if is_others => Network::UNKNOWN,
                    Some(mark) => Network::of_mark(mark),
                    None => named(&*naming, &held.flow, all),
                };
                if let Some(witness) = witness {
                    witness.seen(Seen {
                        line: record.line,
                        sequence: held.sequence,
                        flow: held.flow,
                        network,
                        sum,
                        is_last: true,
                    });
                }
                if keep(kept, held.flow, network, &sum) {
                    *others += sum.counter.packets;
                }
                let slot = (held.flow.identity & FLOW_SLOT) as u32;
                // Of others the kernel counts for whom they are.
                let owner = owner(owners, &*naming, slot).filter(|_| !is_others)?;
                Some(Key {
                    network: network.key(owner),
                    others: Network::UNKNOWN.key(owner),
                })
            });
            self.records += count;
            most = most.saturating_sub(count);
            if count < AT_ONCE || most == 0 {
                return Ok(left);
            }
        }
    }

    /// What is known now. `slots`: counters that have been given.
    ///
    /// # Errors
    /// When the kernel's clock cannot be read.
    pub fn read(&mut self, slots: u32) -> Result<Reading, DatapathError> {
        // Where the ring is full, what was read in a line may be in `beyond` a moment later.
        let mut beyond = self.kernel.beyond()?;
        let (mut lines, mut left) = (Vec::new(), HashSet::new());
        for _ in 0..AGAIN {
            let lost = self.lost_packets()?;
            // Lines first: what leaves meanwhile is in the ring after it.
            lines = self.kernel.lines().collect::<Vec<(u32, FlowLine)>>();
            left = self.left(true)?;
            let now = self.kernel.beyond()?;
            if self.lost_packets()? == lost {
                beyond = now;
                break;
            }
        }
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
        let mut networks: HashMap<u64, Counter> = self.kernel.networks().collect();
        let naming = self.naming.clone();
        let look = naming.as_ref().and_then(|naming| naming.look());
        let marks = look.is_some();
        let look = look.or_else(|| Some(naming.as_ref()?.glance()));
        lines.retain(|(index, line)| !left.contains(&(*index, line.sequence)));
        reading.cameras = self.cameras.say(lines.iter().map(|(_, line)| line));
        for (index, line) in lines {
            let sum = Sum::of(&line, clock);
            let oldest = reading.oldest.unwrap_or(sum.first);
            reading.oldest = Some(oldest.min(sum.first));
            let slot = (line.flow.identity & FLOW_SLOT) as u32;
            *reading.recorded.entry(slot).or_default() += sum.counter;
            let mut network = Network::UNKNOWN;
            if let (Some(look), Some(naming)) = (&look, &naming) {
                network = self.network(index, &line, &**look, marks);
                let owner = owner(&mut self.owners, &**naming, slot);
                if let Some(owner) = owner.filter(|_| line.flow.identity & FLOW_OTHERS == 0) {
                    *networks.entry(network.key(owner)).or_default() += sum.counter;
                }
            }
            reading.lines.push(Seen {
                line: index,
                sequence: line.sequence,
                flow: line.flow,
                network,
                sum,
                is_last: false,
            });
        }
        for (slot, beyond, sum) in beyond {
            let Some(naming) = naming.as_ref().filter(|_| slot != 0) else {
                continue;
            };
            if let Some(owner) = owner(&mut self.owners, &**naming, slot) {
                let network = match beyond {
                    Beyond::Ordinal(ordinal) => naming.of_ordinal(ordinal),
                    Beyond::Mark(mark) => Network::of_mark(mark),
                };
                *networks.entry(network.key(owner)).or_default() += sum;
            }
        }
        reading.networks = self.say(networks);
        Ok(reading)
    }

    /// What there is by network: never less than was said before. Where the ring is full, what was read in a
    /// line is nowhere for a moment.
    fn say(&mut self, networks: HashMap<u64, Counter>) -> Vec<(u32, Network, Counter)> {
        // What was of slots that nobody knew may be of known ones by now.
        let mut all: HashMap<u64, Counter> = HashMap::new();
        let naming = self.naming.clone();
        let mut unknown = Vec::new();
        for (key, sum) in networks {
            let (slot, network) = Network::of_key(key);
            let naming = naming.as_ref();
            match naming.map_or(Owner::Unknown, |naming| naming.owner(slot)) {
                Owner::Slot(owner) => *all.entry(network.key(owner)).or_default() += sum,
                Owner::Unknown => unknown.push((slot, network, sum)),
                Owner::None => {}
            }
        }
        for (key, sum) in all {
            let said = self.said.entry(key).or_default();
            said.packets = said.packets.max(sum.packets);
            said.bytes = said.bytes.max(sum.bytes);
        }
        let said = self.said.iter().map(|(key, sum)| {
            let (owner, network) = Network::of_key(*key);
            (owner, network, *sum)
        });
        said.chain(unknown).collect()
    }

    /// By flow: what is in lines, and what came out of them since the start.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn flows(&mut self, slots: u32) -> Result<(Flows, Reading), DatapathError> {
        let reading = self.read(slots)?;
        let mut flows = self.kept.clone();
        for seen in &reading.lines {
            add(&mut flows, (seen.flow, seen.network), &seen.sum);
        }
        Ok((flows, reading))
    }

    /// All that ever came out of lines, by counter slot.
    #[must_use]
    pub fn booked(&self, slot: u32) -> Counter {
        self.kernel.booked(slot)
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

/// The network of a flow. Live BGP is let go of at once: whoever changes routes waits for that, and must not wait for who
/// writes the flow down.
fn named(naming: &dyn Naming, flow: &Flow, all: bool) -> Network {
    let begun = Instant::now();
    loop {
        match naming.look() {
            Some(look) => return look.network(flow),
            None if all || begun.elapsed() > WORKED_ON => return naming.glance().network(flow),
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The slot that stands for the zone and action of one, if these are counted by network.
fn owner(known: &mut HashMap<u32, Option<u32>>, naming: &dyn Naming, slot: u32) -> Option<u32> {
    if let Some(owner) = known.get(&slot) {
        return *owner;
    }
    let owner = match naming.owner(slot) {
        // It is told apart later.
        Owner::Unknown => return Some(slot).filter(|slot| *slot != 0),
        Owner::None => None,
        Owner::Slot(owner) => Some(owner),
    };
    known.insert(slot, owner);
    owner
}

fn add(flows: &mut Flows, flow: (Flow, Network), sum: &Sum) {
    flows
        .entry(flow)
        .and_modify(|known| known.add(sum))
        .or_insert(*sum);
}

/// As [`add`], of what there may be any number of. Whether the destination is not known, or no longer.
fn keep(kept: &mut Flows, mut flow: Flow, mut network: Network, sum: &Sum) -> bool {
    if kept.len() >= MOST && !kept.contains_key(&(flow, network)) {
        flow.be_others();
        network = Network::UNKNOWN;
        if kept.len() >= 2 * MOST && !kept.contains_key(&(flow, network)) {
            flow = Flow {
                identity: flow.identity & FOLDED,
                ..Flow::default()
            };
        }
    }
    add(kept, (flow, network), sum);
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
        let mut kept = Flows::new();
        let total = 3 * MOST as u64;
        for number in 0..total {
            // Each from a source of its own.
            let flow = Flow {
                addresses: [number, 0, 0, 0],
                sender: number,
                identity: 5 | 3 << FLOW_INTERFACE_SHIFT,
            };
            keep(&mut kept, flow, Network::NOBODY, &one);
        }
        let all: u64 = kept.values().map(|sum| sum.counter.packets).sum();
        assert_eq!(all, total);
        assert!(kept.len() <= 2 * MOST + 1, "{}", kept.len());
        assert!(kept.keys().all(|(flow, _)| flow.identity & FLOW_SLOT == 5));
        let is_there =
            |(flow, _): &(Flow, Network)| flow.identity >> FLOW_INTERFACE_SHIFT & 0xff == 3;
        assert!(
            kept.keys().all(is_there),
            "another interface than it came in on"
        );
    }
}
