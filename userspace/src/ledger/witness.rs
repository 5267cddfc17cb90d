//! Whoever writes down what the ledger sees. A line is told of while its flow goes on, and once more when it leaves:
//! then before its record is booked, so that what was written and what was not is known after a `kill -9`.

use kordon_ebpf::layout::{Flow, FlowLine};

use super::{network::Network, sum::Sum};

/// A line, as it is at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its index among those of all CPUs.
    pub line: u32,
    /// How many flows had it before, the low half.
    pub sequence: u16,
    /// Whose it is.
    pub flow: Flow,
    /// Whom its packets are for.
    pub network: Network,
    /// All that was in it since its first packet.
    pub sum: Sum,
    /// It has left: nobody tells of it again.
    pub is_last: bool,
}

/// See the module.
pub trait Witness: Send {
    /// Whether it can write now without waiting for long. What leaves stays in the ring until then.
    fn is_ready(&self) -> bool;
    /// Whether something of a line that is in use is to be written now; `all`: whatever is not written yet.
    fn wants(&self, line: u32, held: &FlowLine, all: bool) -> bool;
    /// Takes it down.
    fn seen(&mut self, seen: Seen);
}
