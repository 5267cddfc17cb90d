//! All that follows from the policy: ports, zones, verdict words. Small, and written anew with each
//! change of rules.

use super::{
    LAYOUT_VERSION, MAX_NAT64, MAX_PORTS, MAX_SOURCES, MAX_STEPS, MAX_STOPPED, MAX_VERDICTS,
    MAX_VID_TABLES, MAX_ZONES, PAIR_SLOTS,
};

/// Bits of a class word that hold the group.
pub const GROUP_BITS: u32 = 13;
/// The group in a class word: `word & GROUP_MASK`.
pub const GROUP_MASK: u32 = (1 << GROUP_BITS) - 1;
/// Number of ASN ordinals; the last one means "none of its own".
pub const MAX_ORDINALS: u32 = 1 << (32 - GROUP_BITS);

/// Verdict word: the counter slot, or with [`VERDICT_STEPS`] the first step.
pub const VERDICT_INDEX: u32 = (1 << 24) - 1;
/// Verdict word: shift of the two bits that hold the [`Action`].
pub const VERDICT_ACTION_SHIFT: u32 = 24;
/// Verdict word: rules with protocol or ports must be walked, from step
/// `word & VERDICT_INDEX`.
pub const VERDICT_STEPS: u32 = 1 << 26;
/// Verdict word: as a source this address is spoofed, for a zone without `sources`.
pub const VERDICT_SPOOFED: u32 = 1 << 27;
/// Verdict word: one of the router's own addresses.
pub const VERDICT_ROUTER: u32 = 1 << 28;

/// Zone id + 1 in a word of a VID table; 0: no zone.
pub const VID_ZONE: u16 = 0x7fff;
/// Set in a word of a VID table where some pair with this outer VID is named.
pub const VID_HAS_PAIRS: u16 = 0x8000;

/// One policed interface. Ports are numbered by the controller; the program
/// that is attached to an interface carries its port number as a constant.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Port {
    /// Index into [`Generation::vid_tables`].
    pub vid_table: u16,
    /// 1: frames of no zone are dropped (`unknown_vlans = "drop"`).
    pub drop_unknown: u16,
    /// First of [`FIXED_SLOTS`] counters: frames of no zone that are dropped, then those of
    /// [`crate::seen`].
    pub slot_base: u32,
}

/// One QinQ pair of a VID table. Free slots are all zero (VID 0 is never named).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Pair {
    /// `pair_key(table, outer, inner)`.
    pub key: u32,
    /// Zone id + 1.
    pub zone: u32,
}

/// The key of a pair: table, outer and inner VID.
#[must_use]
#[inline(always)]
pub const fn pair_key(table: u16, outer: u16, inner: u16) -> u32 {
    (table as u32) << 24 | (outer as u32) << 12 | inner as u32
}

/// The first slot to look at for a key.
#[must_use]
#[inline(always)]
pub const fn pair_hash(key: u32) -> u32 {
    key.wrapping_mul(0x9e37_79b1) >> 20
}

/// What the datapath needs to know of one zone.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Zone {
    /// `ZONE_*` flags.
    pub flags: u32,
    /// Two bits for each reason, see [`setting_shift`].
    pub settings: u32,
    /// The zone's first word in [`Generation::verdicts`]; the group is added.
    pub verdict_base: u32,
    /// First of [`FIXED_SLOTS`] counters.
    pub slot_base: u32,
    /// The zone's first IPv4 prefix in [`Generation::sources`].
    pub sources_v4: u16,
    /// How many.
    pub sources_v4_len: u16,
    /// The zone's first IPv6 prefix in [`Generation::sources`].
    pub sources_v6: u16,
    /// How many.
    pub sources_v6_len: u16,
}

/// PPPoE sessions are opened.
pub const ZONE_PPPOE: u32 = 1;
/// Sources must be in the zone's list.
pub const ZONE_SOURCES_LISTED: u32 = 2;
/// Sources are not checked at all.
pub const ZONE_SOURCES_UNCHECKED: u32 = 4;

/// What passes is recorded.
pub const ZONE_RECORD_PASS: u32 = 8;
/// What is dropped or audited is recorded.
pub const ZONE_RECORD_DROPS: u32 = 16;

/// A prefix as a network and a mask, in host byte order. IPv4 lives in the low
/// 32 bits of `lo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Prefix {
    /// High 64 bits of the network.
    pub hi: u64,
    /// Low 64 bits of the network.
    pub lo: u64,
    /// High 64 bits of the mask.
    pub hi_mask: u64,
    /// Low 64 bits of the mask.
    pub lo_mask: u64,
}

/// A configured NAT64 prefix (RFC 6052). All have lengths of at most 96.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Nat64 {
    /// The prefix.
    pub prefix: Prefix,
    /// 32, 40, 48, 56, 64 or 96.
    pub length: u32,
    /// Always 0.
    pub reserved: u32,
}

/// One rule of a walk. Rules without protocol and ports end a walk or mark it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Step {
    /// `STEP_*` flags.
    pub flags: u8,
    /// IP protocol, where [`STEP_PROTO`] is set.
    pub proto: u8,
    /// [`Action`].
    pub action: u8,
    /// Always 0.
    pub reserved: u8,
    /// First destination port, where [`STEP_PORTS`] is set.
    pub port_low: u16,
    /// Last destination port, inclusive.
    pub port_high: u16,
    /// Counter slot of (zone, rule, action) or (zone, default, action).
    pub slot: u32,
}

/// The step wants protocol [`Step::proto`].
pub const STEP_PROTO: u8 = 1;
/// The step wants ICMP: 1 in IPv4, 58 in IPv6.
pub const STEP_ICMP: u8 = 2;
/// The step wants a destination port; without [`STEP_PROTO`], of TCP or UDP.
pub const STEP_PORTS: u8 = 4;
/// The step is the zone's default, for counting and explaining.
pub const STEP_DEFAULT: u8 = 8;

/// All that follows from the policy. `CLASSES`: capacity of the tier.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Zeroable)]
pub struct Generation<const CLASSES: usize> {
    /// [`LAYOUT_VERSION`]. 0: never written, every policed packet is dropped.
    pub version: u32,
    /// Which slot of the tables map holds this generation's table.
    pub table_slot: u32,
    /// Number of this generation, rising.
    pub number: u64,
    /// SHA-256 of what it was compiled from.
    pub hash: [u8; 32],
    /// SHA-256 of what its table was built from.
    pub table_key: [u8; 32],
    /// Configured NAT64 prefixes in use.
    pub nat64_len: u32,
    /// How many of `ports` are in use.
    pub ports_len: u32,
    /// By port number.
    pub ports: [Port; MAX_PORTS],
    /// By VID; entry 0: frames without a counting tag. Zone id + 1, see [`VID_ZONE`].
    pub vid_tables: [[u16; 4096]; MAX_VID_TABLES],
    /// QinQ pairs, by [`pair_hash`] and linear probing.
    pub pairs: [Pair; PAIR_SLOTS],
    /// By zone id.
    pub zones: [Zone; MAX_ZONES],
    /// Source prefixes.
    pub sources: [Prefix; MAX_SOURCES],
    /// Configured NAT64 prefixes.
    pub nat64: [Nat64; MAX_NAT64],
    /// (zone, group) -> verdict word, from [`Zone::verdict_base`].
    pub verdicts: [u32; MAX_VERDICTS],
    /// Walks.
    pub steps: [Step; MAX_STEPS],
    /// `zone id * ports_len + port` -> counter of what the guard dropped there because it got past the
    /// XDP program; 0: none.
    pub stopped: [u32; MAX_STOPPED],
    /// Class -> `ordinal << GROUP_BITS | group`.
    pub class_words: [u32; CLASSES],
}

impl<const CLASSES: usize> Generation<CLASSES> {
    /// Where its table is, if it is of this layout.
    #[must_use]
    #[inline(always)]
    pub const fn slot(&self) -> Option<u32> {
        if self.version == LAYOUT_VERSION {
            Some(self.table_slot)
        } else {
            None
        }
    }
}
