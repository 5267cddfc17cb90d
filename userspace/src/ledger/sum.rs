//! What was seen of a flow, added up.

use jiff::Timestamp;
use kordon_ebpf::layout::{Counter, FlowLine};

use super::clock::At;

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
    pub(super) fn of(line: &FlowLine, clock: At) -> Self {
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
