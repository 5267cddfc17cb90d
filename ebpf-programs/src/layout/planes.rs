//! What the fast path reads: the verdict planes, and what it must know of zones before it looks into them. For
//! example: zone → [`FastZone`] (one cache line) → plane → two bits for 198.51.100.0/24.

use super::{MAX_PORTS, MAX_VID_TABLES, MAX_ZONES, VERDICT_STEPS};

/// See [`Planes::settled`]: later than all that there will be.
pub const UNSETTLED: u64 = i64::MAX as u64;
/// Leaf code: the class plane must be asked.
pub const ASK: u32 = 3;
/// Set in a word of an IPv6 plane where it is a leaf code, not an index.
pub const PLANE_LEAF: u16 = 1 << 15;
/// Set in a word of a direct block of an IPv6 plane that leads to an inner line.
/// Indices of lines that such words lead to are below it.
pub const PLANE_TREES: u16 = 1 << 14;
/// Keys of a [`PlaneLine`].
pub const PLANE_KEYS: usize = 15;

/// Set in [`Planes::ports`] where frames of no zone are dropped.
pub const FAST_DROP_UNKNOWN: u32 = 1 << 16;
/// Shift of [`Port::slot_base`] in [`Planes::ports`].
pub const FAST_SLOT_SHIFT: u32 = 32;
/// The plane's index in [`FastZone::plane`].
pub const FAST_PLANE: u32 = (1 << 16) - 1;
/// Set in [`FastZone::plane`]: sources are looked up in the plane, they must have a pass.
pub const FAST_SOURCES_BY_RULES: u32 = 1 << 16;

/// Set in [`FastZone::plane`]: as [`ZONE_RECORD_PASS`](super::ZONE_RECORD_PASS).
pub const FAST_RECORD_PASS: u32 = 1 << 17;
/// Set in [`FastZone::plane`]: as [`ZONE_RECORD_DROPS`](super::ZONE_RECORD_DROPS).
pub const FAST_RECORD_DROPS: u32 = 1 << 18;

/// What the fast path needs to know of one zone, one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct FastZone {
    /// Verdict word by leaf code, without what is of no interest here; for [`ASK`]
    /// and unused codes [`VERDICT_STEPS`].
    pub words: [u32; 4],
    /// Index into [`Planes::v4`] and [`Planes::v6`], [`FAST_SOURCES_BY_RULES`], and what is recorded.
    pub plane: u32,
    /// Always 0.
    pub reserved: [u32; 3],
    /// First IPv4 prefix that sources may have, as it stands in a packet. Sources that
    /// are 0 have no fast path, so a network of 0 with all of its mask set says that the
    /// family has none.
    pub net4: u64,
    /// Its mask, as it would stand in a packet; 0: any source.
    pub mask4: u64,
    /// High half of the first IPv6 prefix that sources may have, as `net4`.
    pub net6: u64,
    /// High half of its mask, as `mask4`; 0: any source.
    pub mask6: u64,
}

impl FastZone {
    /// Whether it leads to a plane.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.words[0] & VERDICT_STEPS == 0
    }
}

/// A node of a plane's IPv6 tree, one cache line: 15 ascending keys (32 bits behind a
/// /28, the first address of the range behind each; unused ones are `u32::MAX`), then
/// the tail: of an inner line the index of its first child, else 16 leaf codes, the
/// first in the lowest bits.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PlaneLine {
    /// Keys and tail.
    pub words: [u32; PLANE_KEYS + 1],
}

impl PlaneLine {
    /// Codes or first child.
    #[must_use]
    #[inline(always)]
    pub const fn tail(&self) -> u32 {
        self.words[PLANE_KEYS]
    }
}

/// The verdict planes, and what is known of zones before them: all that the fast path reads.
/// Derived from one generation and its table, shared by zones with equal rules.
///
/// A leaf has two bits, see [`FastZone::words`]. IPv4: `v4[plane][addr >> 16]` is a block of
/// 256 leaves. IPv6, only 2000::/3: `v6[plane][13 bits]`, then `blocks6[..][12 bits]`, then
/// one or two [`PlaneLine`]s over the next 32 bits.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Planes<const TOPS: usize, const BLOCKS4: usize, const BLOCKS6: usize, const LINES: usize>
{
    /// Number of the generation that this was made of; 0: nothing here may be used.
    pub number: u64,
    /// A jiffy after the last change ended of what packets are judged by. What was judged later is still so,
    /// see [`FLOW_KNOWN`](super::FLOW_KNOWN). [`UNSETTLED`]: a change is under way.
    pub settled: u64,
    /// By port number: index into `vids`, [`FAST_DROP_UNKNOWN`], and from
    /// [`FAST_SLOT_SHIFT`] on the port's first counter. The first of them are on the cache
    /// line of the number, which is read before.
    pub ports: [u64; MAX_PORTS],
    /// Always 0: what follows starts on a cache line.
    pub reserved: [u64; 6],
    /// By zone id + 1.
    pub zones: [FastZone; MAX_ZONES + 1],
    /// As [`Generation::vid_tables`].
    pub vids: [[u16; 4096]; MAX_VID_TABLES],
    /// Blocks of the first 16 bits.
    pub v4: [[u16; 65536]; TOPS],
    /// Four leaves a byte, the first in the lowest bits.
    pub blocks4: [[u8; 64]; BLOCKS4],
    /// Leaf code with [`PLANE_LEAF`], or index of a block.
    pub v6: [[u16; 8192]; TOPS],
    /// Leaf code with [`PLANE_LEAF`], or index of a line, with [`PLANE_TREES`] of an
    /// inner one.
    pub blocks6: [[u16; 4096]; BLOCKS6],
    /// IPv6 trees.
    pub lines: [PlaneLine; LINES],
}
