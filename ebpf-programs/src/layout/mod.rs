//! What the kernel and userspace share byte for byte: the maps' values, their
//! sizes and limits, and the enums whose text is at once a reason, a metric
//! label and a field of `--json`.
//!
//! Everything is `repr(C)`, made of integers only and zero-initialisable, with
//! its size asserted; a change here raises [`LAYOUT_VERSION`], which is stored in
//! the pinned maps and checked before they are adopted.
//!
//! A packet is judged with two values. [`Generation`] is small and holds all
//! that follows from the policy: ports, zones, verdicts. [`Table`] is large and
//! holds what follows from the ASN database and the prefixes named in the
//! policy: destination address -> class. A generation names the slot of its
//! table, so one pointer swap changes both.
//!
//! - `reason`: what happens to a packet, and why.
//! - `generation`, `table`: the two values.
//! - `planes`: what is derived from both for the fast path.
//! - `ledger`: who sent what to whom.
//! - `instance`: constants of a loaded program, test runs.

mod generation;
mod instance;
mod ledger;
mod planes;
mod reason;
mod table;

pub use self::{generation::*, instance::*, ledger::*, planes::*, reason::*, table::*};

/// Version of everything in here. Pinned maps with another one are not adopted.
pub const LAYOUT_VERSION: u32 = 9;

/// Zones in one policy, at most.
pub const MAX_ZONES: usize = 256;
/// Policed interfaces, at most: the length of [`Generation::ports`].
pub const MAX_PORTS: usize = 256;
/// Distinct assignments of VLANs to zones: one for all interfaces that no zone
/// names, and one for each that is named.
pub const MAX_VID_TABLES: usize = 16;
/// Entries of [`Generation::stopped`]: interfaces times zones that have counters of what the guard
/// dropped.
pub const MAX_STOPPED: usize = 8192;
/// QinQ pairs, hashed: slots, a power of two.
pub const PAIR_SLOTS: usize = 4096;
/// Slots that are looked at for one pair before it counts as absent.
pub const PAIR_PROBES: usize = 8;
/// Source prefixes of all zones together.
pub const MAX_SOURCES: usize = 1024;
/// Source prefixes of one family in one zone.
pub const MAX_ZONE_SOURCES: usize = 32;
/// Configured NAT64 prefixes (the well-known one is built in).
pub const MAX_NAT64: usize = 8;
/// Groups of classes that one policy tells apart.
pub const MAX_GROUPS: usize = 1 << GROUP_BITS;
/// Words of [`Generation::verdicts`]: zones times groups must fit.
pub const MAX_VERDICTS: usize = 1 << 17;
/// Steps of rules with protocol or ports, all zones together.
pub const MAX_STEPS: usize = 1 << 13;
/// Steps that are walked for one destination.
pub const MAX_WALK: usize = 64;
/// Older directories gave counters of ASNs out in pages of this many slots.
pub const ASN_PAGE: u32 = 256;

/// Tags that are read from one frame.
pub const MAX_TAGS: usize = 8;
/// IPv6 extension headers that are walked (Fragment and AH count).
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// Size tiers. A program is compiled for each; outgrowing one means new maps.
pub mod tier {
    use super::{Generation, Planes, Table};

    /// A table of policy prefixes and a few ASNs: laboratories, small allow lists.
    pub type SmallTable = Table<2048, 65536, 64, 1024>;
    /// Its generation.
    pub type SmallGeneration = Generation<8192>;
    /// Its planes.
    pub type SmallPlanes = Planes<2, 1024, 16, 1024>;
    /// The Internet of 2026 and a quarter more.
    pub type InternetTable = Table<36_864, 819_200, 128, 20_480>;
    /// Its generation.
    pub type InternetGeneration = Generation<163_840>;
    /// Its planes.
    pub type InternetPlanes = Planes<4, 16384, 96, 8192>;
    /// About four times that.
    pub type LargeTable = Table<147_456, 3_276_800, 512, 81_920>;
    /// Its generation.
    pub type LargeGeneration = Generation<786_432>;
    /// Its planes.
    pub type LargePlanes = Planes<16, 65536, 384, 16384>;
}

/// Slots of the map of tables: the live one and the one that is built beside it.
pub const TABLE_SLOTS: u32 = 2;
/// Counter slots: 16 bytes for each and every CPU.
pub const COUNTER_SLOTS: u32 = COUNTER_PAGES * COUNTER_PAGE;
/// Counter slots that versions had which counted by ASN in them; such a map is kept.
pub const COUNTER_SLOTS_BEFORE: u32 = 1 << 17;
/// Slots in one value of the map of counters: the kernel looks up where each value is
/// in a list that must stay in the cache, so there are few of them, and large.
pub const COUNTER_PAGE: u32 = 256;
/// Values of the map of counters.
pub const COUNTER_PAGES: u32 = 144;

/// One counter of one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames, as received.
    pub bytes: u64,
}

impl Counter {
    /// Nothing was counted.
    pub const ZERO: Self = Self {
        packets: 0,
        bytes: 0,
    };
}

impl core::ops::AddAssign for Counter {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

const _: () = {
    assert!(size_of::<Port>() == 8);
    assert!(size_of::<Pair>() == 8);
    assert!(size_of::<Zone>() == 24);
    assert!(size_of::<Prefix>() == 32);
    assert!(size_of::<Nat64>() == 40);
    assert!(size_of::<Step>() == 12);
    assert!(size_of::<Node>() == 64);
    assert!(size_of::<Line>() == 64);
    assert!(size_of::<FastZone>() == 64);
    assert!(size_of::<PlaneLine>() == 64);
    assert!(core::mem::offset_of!(tier::InternetPlanes, zones) % 64 == 0);
    assert!(core::mem::offset_of!(tier::InternetPlanes, blocks4) % 64 == 0);
    assert!(core::mem::offset_of!(tier::InternetPlanes, lines) % 64 == 0);
    assert!(size_of::<Counter>() == 16);
    assert!(size_of::<ProbeControl>() == 16);
    assert!(size_of::<ProbeOutput>() == 12);
    assert!(size_of::<Probe>() == 16 + 40 * PROBE_BATCH);
    assert!(core::mem::offset_of!(Generation<8>, ports) == 88);
    assert!(core::mem::offset_of!(Generation<8>, ports) % 8 == 0);
    assert!(core::mem::offset_of!(Generation<8>, sources) % 8 == 0);
    // The table's parts follow each other without padding; lines start on a
    // cache line when the value does.
    assert!(core::mem::offset_of!(tier::InternetTable, blocks) == 2 * 65536 * 4);
    assert!(core::mem::offset_of!(tier::InternetTable, lines) % 64 == 0);
    assert!(core::mem::offset_of!(tier::InternetTable, nodes) % 64 == 0);
    assert!(
        size_of::<tier::InternetTable>()
            == 2 * 65536 * 4 + 128 * 1024 + 20_480 * 64 + 36_864 * 64 + 819_200 * 4
    );
};
