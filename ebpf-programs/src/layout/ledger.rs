//! The ledger: who sent what to whom. A flow cache, as routers keep it for NetFlow (RFC 3954): one line
//! for each flow, in an array of which each CPU has a part of its own. A flow that has no line takes
//! that of another one, which goes out as a [`Record`] first; where the ring has no room, what the line
//! held is counted as lost. Nobody but the program of its CPU ever writes a line.

use core::ops::RangeInclusive;

/// Version of all in here. Pinned maps of another one are not adopted. What programs alone read ([`FLOW_SAID`]) is not
/// of it: who does not know those bits shows a flow twice, and sums stay right.
pub const LEDGER_VERSION: u32 = 2;

/// One flow of one CPU, as long as it has the line: a cache line, as the map's memory begins on a page.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct FlowLine {
    /// Whose packets, and what became of them.
    pub flow: Flow,
    /// How many, since the line was taken.
    pub packets: u32,
    /// Bytes of their frames, as received. From [`FLOW_FULL`] on the flow gets the line anew.
    pub bytes: u32,
    /// When the line was taken: jiffies, the low half.
    pub first: u32,
    /// How many jiffies later the last packet came. A flow that would be older gets the line anew.
    pub span: u16,
    /// How often the line was taken. With CPU and place it names the record that the line will be.
    pub sequence: u16,
}

/// See [`FlowLine::bytes`]. What is added at once is less than that.
pub const FLOW_FULL: u32 = 1 << 30;

/// What packets have in common that are of one flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Flow {
    /// IPv6: source and destination, as in the packet. IPv4: both in the first word, and in the last two
    /// the inner destination, where that was judged; 0 without. Of IPv6 packets of which the inner
    /// destination was judged, that stands for the destination.
    pub addresses: [u64; 4],
    /// MAC address of the sender as in the frame, and from [`FLOW_PORT_SHIFT`] on the destination port.
    pub sender: u64,
    /// Counter slot: says zone, reason or rule, and action. Then `FLOW_*`. 0: the line is free, or being
    /// written.
    pub identity: u64,
}

/// Shift of the destination port in [`Flow::sender`].
pub const FLOW_PORT_SHIFT: u32 = 48;

/// The counter slot in [`Flow::identity`].
pub const FLOW_SLOT: u64 = (1 << 20) - 1;
/// Shift of the interface's port.
pub const FLOW_INTERFACE_SHIFT: u32 = 20;
/// Shift of the protocol.
pub const FLOW_PROTO_SHIFT: u32 = 28;
/// Shift of the four bits of [`Judged`](super::Judged).
pub const FLOW_JUDGED_SHIFT: u32 = 36;
/// IPv6.
pub const FLOW_V6: u64 = 1 << 40;
/// Addresses and protocol could be read.
pub const FLOW_READABLE: u64 = 1 << 41;
/// The destination port was read.
pub const FLOW_PORT: u64 = 1 << 42;
/// The guard counted it.
pub const FLOW_GUARD: u64 = 1 << 43;
/// All that its source sent beyond its budget of lines: without a destination.
pub const FLOW_OTHERS: u64 = 1 << 44;
/// The inner destination is one of IPv6.
pub const FLOW_INNER_V6: u64 = 1 << 45;
/// The transport is in another fragment, or the packet hides it.
pub const FLOW_HIDDEN: u64 = 1 << 46;
/// What of [`Flow::identity`] says whose packets they are, and what became of them. The rest is for programs
/// alone.
pub const FLOW_SAID: u64 = FLOW_KNOWN - 1;

/// What became of the flow's packets follows from what stands in their headers, its interface and its zone:
/// as long as nothing changes by which they are judged ([`Planes::settled`](super::Planes::settled)), it
/// becomes of the next one.
pub const FLOW_KNOWN: u64 = 1 << 47;
/// Of these: they are dropped.
pub const FLOW_DROPPED: u64 = 1 << 48;
/// Shift of the zone's id, of these.
pub const FLOW_ZONE_SHIFT: u32 = 49;
/// Shift of the bits of jiffies, when the line was taken, that [`FlowLine::first`] has not, of these.
pub const FLOW_EPOCH_SHIFT: u32 = 57;
/// What is known of these before they are judged.
pub const FLOW_GIVEN: u64 = !(FLOW_SLOT | FLOW_DROPPED);

/// A line that its flow has left.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Record {
    /// As it was.
    pub held: FlowLine,
    /// Index of the line among those of all CPUs.
    pub line: u32,
    /// When it left: jiffies, the low half.
    pub at: u32,
}

/// Lines of one CPU: a power of two.
pub const FLOW_LINES: RangeInclusive<u32> = 1 << 10..=1 << 18;
/// As many as there are where nobody wants another number.
pub const FLOW_LINES_USUAL: u32 = 1 << 14;
/// Bytes of the ring: a power of two, and pages.
pub const FLOW_RING: u32 = 8 << 20;
/// Counters of what was lost, by slot.
pub const FLOW_LOST: u32 = 4096;
/// Counters of what was for some network and is in no line or record that says so, by
/// [`beyond_key`].
pub const FLOW_BEYOND: u32 = 1 << 16;
/// Budgets of one CPU: of two sources with the same place the first has it, and the other one none.
pub const FLOW_BUDGETS: u32 = 1024;
/// Jiffies of the time that a budget is for.
pub const FLOW_BUDGET_SHIFT: u32 = 8;
/// Lines that a source may take in that time, on one CPU.
pub const FLOW_BUDGET: u32 = 512;

/// The key of a counter slot, and the ordinal of a network. 0: what had no room.
#[must_use]
#[inline(always)]
pub const fn beyond_key(slot: u32, ordinal: u32) -> u64 {
    slot as u64 | (ordinal as u64) << BEYOND_SHIFT
}

/// Where the ordinal is in a key of [`beyond_key`], or the mark of a line.
pub const BEYOND_SHIFT: u32 = 20;
/// It is the mark of the line that the packets were in.
pub const BEYOND_MARK: u64 = 1 << 63;

/// Bits of a mark: what the controller said of a line, not 0. Before it in the word is the sequence of the
/// line that it is of.
pub const MARK_SHIFT: u32 = 16;

const _: () = {
    assert!(size_of::<FlowLine>() == 64);
    assert!(size_of::<Record>() == 72);
    assert!(super::COUNTER_SLOTS_BEFORE as u64 <= FLOW_SLOT + 1);
    assert!(super::MAX_PORTS <= 1 << (FLOW_PROTO_SHIFT - FLOW_INTERFACE_SHIFT));
    assert!(super::MAX_ZONES <= 1 << (FLOW_EPOCH_SHIFT - FLOW_ZONE_SHIFT));
};
