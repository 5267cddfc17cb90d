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

/// Version of everything in this file. Pinned maps with another one are not adopted.
pub const LAYOUT_VERSION: u32 = 6;

/// Values of the program's `TRACE`.
pub mod trace {
    // As in `mode`: no map key is like these.
    /// Nothing is logged.
    pub const OFF: u32 = 0x6b6f_7210;
    /// Every verdict on a frame of a zone is.
    pub const ON: u32 = 0x6b6f_7211;
}

/// Zones in one policy, at most.
pub const MAX_ZONES: usize = 256;
/// Policed interfaces, at most: the length of [`Generation::ports`].
pub const MAX_PORTS: usize = 256;
/// Distinct assignments of VLANs to zones: one for all interfaces that no zone
/// names, and one for each that is named.
pub const MAX_VID_TABLES: usize = 16;
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
/// Pages of ASN counters, all zones together. See [`ASN_PAGE`].
pub const MAX_ASN_PAGES: usize = 4096;
/// ASN counters are given out in pages of this many slots.
pub const ASN_PAGE: u32 = 256;

/// Tags that are read from one frame.
pub const MAX_TAGS: usize = 8;
/// IPv6 extension headers that are walked (Fragment and AH count).
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// Set in a word of the table that holds a class; clear where the word is the
/// index of a [`Node`], a block or a [`Line`].
pub const LEAF: u32 = 1 << 31;
/// The class in a word with [`LEAF`] set.
pub const CLASS_MASK: u32 = (1 << 20) - 1;
/// "No class was looked up". Never in a table.
pub const NO_CLASS: u32 = u32::MAX;

/// Bits of a class word that hold the group.
pub const GROUP_BITS: u32 = 13;
/// The group in a class word: `word & GROUP_MASK`.
pub const GROUP_MASK: u32 = (1 << GROUP_BITS) - 1;
/// Number of ASN ordinals; the last one means "no counter of its own".
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

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Action {
    /// It goes on to the router's stack.
    Pass = 0,
    /// It goes on and is reported.
    Audit = 1,
    /// It ends here.
    Drop = 2,
}

impl Action {
    /// All, from the mildest to the strictest; the index is the value.
    pub const ALL: [Self; 3] = [Self::Pass, Self::Audit, Self::Drop];

    /// The word in policies, metrics and `--json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Audit => "audit",
            Self::Drop => "drop",
        }
    }

    /// From the two bits of a verdict word. What no writer writes is a drop.
    #[must_use]
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        match bits {
            0 => Self::Pass,
            1 => Self::Audit,
            _ => Self::Drop,
        }
    }
}

/// Why a packet got its action. The order is that of the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No zone has the frame's tags.
    NoZone = 0,
    /// ARP, LLDP, EAPOL, slow protocols, 802.3 to 01:80:c2:00:00:0x.
    NotIp = 1,
    /// What keeps a link alive and cannot leave it.
    Infrastructure = 2,
    /// No rule matched: the zone's default.
    Default = 3,
    /// A rule decided.
    Rule = 4,
    /// A third counting tag, or a ninth tag.
    VlanDepth = 5,
    /// An ethertype that is neither IP nor known to be harmless.
    Ethertype = 6,
    /// The frame is shorter than its headers declare.
    Truncated = 7,
    /// Impossible lengths or versions.
    BadHeader = 8,
    /// Loopback, 0/8 or unspecified destination.
    Martian = 9,
    /// More than eight IPv6 extension headers.
    HeaderChain = 10,
    /// IPv4 LSRR or SSRR.
    SourceRoute = 11,
    /// IPv6 routing header with segments left.
    RoutingHeader = 12,
    /// A protocol that carries other packets.
    Tunnel = 13,
    /// A source that the zone cannot have.
    SpoofedSource = 14,
}

/// Number of [`Reason`]s.
pub const REASONS: usize = 15;
/// Counter slots that each zone and each port owns: every reason with every
/// action, then every reason that was ignored with the action the packet got.
pub const FIXED_SLOTS: u32 = (REASONS * 3 + UNPARSABLE_REASONS * 3) as u32;
/// Number of reasons that say a packet was not understood or hides where it goes.
pub const UNPARSABLE_REASONS: usize = REASONS - Reason::FIRST_UNPARSABLE as usize;

impl Reason {
    /// All, by value.
    pub const ALL: [Self; REASONS] = [
        Self::NoZone,
        Self::NotIp,
        Self::Infrastructure,
        Self::Default,
        Self::Rule,
        Self::VlanDepth,
        Self::Ethertype,
        Self::Truncated,
        Self::BadHeader,
        Self::Martian,
        Self::HeaderChain,
        Self::SourceRoute,
        Self::RoutingHeader,
        Self::Tunnel,
        Self::SpoofedSource,
    ];

    /// The first reason that says a packet was not understood or hides where it goes.
    pub const FIRST_UNPARSABLE: u8 = Self::VlanDepth as u8;

    /// The word in policies, metrics and `--json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoZone => "no-zone",
            Self::NotIp => "not-ip",
            Self::Infrastructure => "infrastructure",
            Self::Default => "default",
            Self::Rule => "rule",
            Self::VlanDepth => "vlan-depth",
            Self::Ethertype => "ethertype",
            Self::Truncated => "truncated",
            Self::BadHeader => "bad-header",
            Self::Martian => "martian",
            Self::HeaderChain => "header-chain",
            Self::SourceRoute => "source-route",
            Self::RoutingHeader => "routing-header",
            Self::Tunnel => "tunnel",
            Self::SpoofedSource => "spoofed-source",
        }
    }

    /// Whether the packet was not understood or hides where it goes.
    #[must_use]
    pub const fn is_unparsable(self) -> bool {
        self as u8 >= Self::FIRST_UNPARSABLE
    }

    /// The counter slot for this reason and action, counted from the zone's first.
    #[must_use]
    #[inline(always)]
    pub const fn fixed_slot(self, action: Action) -> u32 {
        self as u32 * 3 + action as u32
    }

    /// The counter slot for packets in which unparsable reason number `index`
    /// (from [`Self::FIRST_UNPARSABLE`]) was met and ignored.
    #[must_use]
    #[inline(always)]
    pub const fn noted_slot(index: u32, action: Action) -> u32 {
        (REASONS * 3) as u32 + index * 3 + action as u32
    }
}

/// The address that decided, in the order in which they are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Judged {
    /// None: there was no destination to read.
    Nothing = 0,
    /// The packet's destination, or the IPv4 address it stands for (NAT64, v4-mapped).
    Destination = 1,
    /// The first IPv4 address in the destination; of a Teredo one the server.
    Embedded = 2,
    /// The second; of a Teredo destination the client.
    SecondEmbedded = 3,
    /// The third.
    ThirdEmbedded = 4,
    /// The fourth.
    FourthEmbedded = 5,
    /// The destination of the packet inside a tunnel.
    Inner = 6,
    /// As `Embedded`, of the inner destination.
    InnerEmbedded = 7,
    /// As `SecondEmbedded`, of the inner destination.
    InnerSecondEmbedded = 8,
    /// As `ThirdEmbedded`, of the inner destination.
    InnerThirdEmbedded = 9,
    /// As `FourthEmbedded`, of the inner destination.
    InnerFourthEmbedded = 10,
}

/// How tunnels are treated, beside the three actions.
pub const TUNNEL_INSPECT: u32 = 3;

/// Shift of a reason's two bits in [`Zone::settings`]: an [`Action`], for
/// [`Reason::Tunnel`] also [`TUNNEL_INSPECT`].
#[must_use]
#[inline(always)]
pub const fn setting_shift(reason: Reason) -> u32 {
    (reason as u32 - Reason::FIRST_UNPARSABLE as u32) * 2
}

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
    /// The zone's first page in [`Generation::asn_pages`]: `asn_pages_len` for
    /// audits, then as many for drops.
    pub asn_pages: u32,
    /// How many for each. What lies beyond, or has page 0, is counted in `asn_overflow`.
    pub asn_pages_len: u32,
    /// First of three counters (by action) for ASNs without one of their own.
    pub asn_overflow: u32,
}

/// PPPoE sessions are opened.
pub const ZONE_PPPOE: u32 = 1;
/// Sources must be in the zone's list.
pub const ZONE_SOURCES_LISTED: u32 = 2;
/// Sources are not checked at all.
pub const ZONE_SOURCES_UNCHECKED: u32 = 4;

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
    /// Always 0.
    pub reserved: u32,
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
    /// First counter slot of each page, see [`ASN_PAGE`]; 0: none.
    pub asn_pages: [u32; MAX_ASN_PAGES],
    /// (zone, group) -> verdict word, from [`Zone::verdict_base`].
    pub verdicts: [u32; MAX_VERDICTS],
    /// Walks.
    pub steps: [Step; MAX_STEPS],
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

/// A node of a trie, one cache line: 256 slots, compressed to one value for each run
/// of equal neighbours.
///
/// Word i has slots `32 * i` to `32 * i + 31`. Its low half: bit k is set where slot k
/// differs from the one before it, always for slot 0 of the node. Its high half: where
/// the value of a slot is, less the bits that are set up to and with it. Value 0 is
/// never a node's, so that no half is negative.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Index and starts, 32 bits each.
    pub words: [u64; 8],
}

impl Node {
    /// Whether something begins at a slot.
    #[must_use]
    pub const fn starts(&self, slot: u8) -> bool {
        self.words[slot as usize / 32] >> (slot % 32) & 1 != 0
    }
}

/// Keys in one line.
pub const LINE_KEYS: usize = 15;
/// Lines that are walked from the root to a leaf, at most: 16^8 keys.
pub const MAX_LINE_DEPTH: usize = 8;
/// Set in [`Line::tail`] where it is the index of the first child line.
pub const LINE_INNER: u32 = 1 << 31;

/// A node of a B-tree over 32 bits of an IPv6 address, one cache line.
///
/// Keys are ascending, the LAST addresses of the ranges before them; unused ones are
/// `u32::MAX`. Then the tail: the index of the first child line, with [`LINE_INNER`],
/// or that of the first value. With r the number of keys that are less than an
/// address, an inner line continues at line `tail + r`, a leaf ends at value `tail + r`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Keys and tail.
    pub words: [u32; LINE_KEYS + 1],
}

impl Line {
    /// First child line, with [`LINE_INNER`], or first value.
    #[must_use]
    #[inline(always)]
    pub const fn tail(&self) -> u32 {
        self.words[LINE_KEYS]
    }

    /// All keys, unused ones too.
    #[must_use]
    pub fn keys(&self) -> &[u32] {
        &self.words[..LINE_KEYS]
    }
}

/// Destination -> class, both families.
///
/// IPv4: `v4[addr >> 16]`, then a [`Node`] for the next 8 bits, then, where
/// something is longer than /24, another for the last 8.
///
/// IPv6: `v6[addr >> 112]`, then `blocks[..][8 bits]`, then a [`Node`] for 8 bits,
/// then, where something is longer than /32, a tree of [`Line`]s over the next 32 bits,
/// where something is longer than /64 another, and behind /96 a third.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Table<const NODES: usize, const VALUES: usize, const BLOCKS: usize, const LINES: usize> {
    /// By the first 16 bits of an IPv4 address: class, or index of a node.
    pub v4: [u32; 65536],
    /// By the first 16 bits of an IPv6 address: class, or index of a block.
    pub v6: [u32; 65536],
    /// By the next 8 bits: class, or index of a node.
    pub blocks: [[u32; 256]; BLOCKS],
    /// IPv6 trees.
    pub lines: [Line; LINES],
    /// Nodes of both families.
    pub nodes: [Node; NODES],
    /// Words of nodes (class, or index of a node or a root line) and of leaf lines
    /// (class, or index of a root line).
    pub values: [u32; VALUES],
}

/// Leaf code: the class plane must be asked.
pub const ASK: u32 = 3;
/// Set in a word of an IPv6 plane where it is a leaf code, not an index.
pub const PLANE_LEAF: u16 = 1 << 15;
/// Set in a word of a direct block of an IPv6 plane that leads to an inner line.
/// Indices of lines that such words lead to are below it.
pub const PLANE_TREES: u16 = 1 << 14;
/// Keys of a [`PlaneLine`].
pub const PLANE_KEYS: usize = 15;

/// Set in a word of [`Planes::origins4`] where it is the index of a node, not an ordinal.
pub const ORIGIN_NODE: u16 = 1 << 15;
/// A word of [`Planes::origins4`] that asks the class plane.
pub const ORIGIN_ASK: u16 = ORIGIN_NODE - 1;
/// One of [`Planes::origins`] that asks the class plane.
pub const VALUE_ASK: u16 = u16::MAX;
/// Shift of the ordinal in a word of an IPv6 plane with [`PLANE_LEAF`].
pub const PLANE_ORDINAL_SHIFT: u16 = 2;
/// Such an ordinal that asks the class plane; all others are below it.
pub const PLANE_ORDINAL_ASK: u16 = (1 << 13) - 1;

/// Set in [`Planes::ports`] where frames of no zone are dropped.
pub const GATE_DROP_UNKNOWN: u32 = 1 << 16;
/// Shift of [`Port::slot_base`] in [`Planes::ports`].
pub const GATE_SLOT_SHIFT: u32 = 32;
/// Set in [`Gate::plane`]: sources are looked up in the plane, they must have a pass.
pub const GATE_SOURCES_BY_RULES: u32 = 1 << 16;

/// What the short way needs to know of one zone, one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    /// Verdict word by leaf code, without what is of no interest here; for [`ASK`]
    /// and unused codes [`VERDICT_STEPS`].
    pub words: [u32; 4],
    /// Index into [`Planes::v4`] and [`Planes::v6`], and [`GATE_SOURCES_BY_RULES`].
    pub plane: u32,
    /// As [`Zone::asn_pages`], in [`Planes::asn_pages`].
    pub asn_pages: u32,
    /// As [`Zone::asn_pages_len`].
    pub asn_pages_len: u32,
    /// As [`Zone::asn_overflow`].
    pub asn_overflow: u32,
    /// First IPv4 prefix that sources may have, as it stands in a packet. Sources that
    /// are 0 have no short way, so a network of 0 with all of its mask set says that the
    /// family has none.
    pub net4: u64,
    /// Its mask, as it would stand in a packet; 0: any source.
    pub mask4: u64,
    /// High half of the first IPv6 prefix that sources may have, as `net4`.
    pub net6: u64,
    /// High half of its mask, as `mask4`; 0: any source.
    pub mask6: u64,
}

impl Gate {
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

/// The verdict planes and the gates before them: all that the short way reads.
/// Derived from one generation and its table, shared by zones with equal rules.
///
/// A leaf has two bits, see [`Gate::words`]. IPv4: `v4[plane][addr >> 16]` is a block of
/// 256 leaves. IPv6, only 2000::/3: `v6[plane][13 bits]`, then `blocks6[..][12 bits]`, then
/// one or two [`PlaneLine`]s over the next 32 bits.
///
/// Who does not just pass is counted by the ASN of the destination, so there is its
/// ordinal, too (see [`GROUP_BITS`]), or that the class plane must be asked. IPv4: all planes
/// have one table, `origins4[addr >> 16]`, then a [`Node`] over the next 8 bits of which
/// the values are `origins`. IPv6: in the word that has the leaf code, or beside the line:
/// `line_origins` is the ordinal of all its leaves with [`LEAF`], [`NO_CLASS`], or where
/// in `origins` those of its 16 leaves begin. What passes may have any.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Planes<
    const TOPS: usize,
    const BLOCKS4: usize,
    const BLOCKS6: usize,
    const LINES: usize,
    const NODES: usize,
    const ORIGINS: usize,
> {
    /// Number of the generation that this was made of; 0: nothing here may be used.
    pub number: u64,
    /// By port number: index into `vids`, [`GATE_DROP_UNKNOWN`], and from
    /// [`GATE_SLOT_SHIFT`] on the port's first counter. The first of them are on the cache
    /// line of the number, which is read before.
    pub ports: [u64; MAX_PORTS],
    /// Always 0: what follows starts on a cache line.
    pub reserved: [u64; 7],
    /// By zone id + 1.
    pub gates: [Gate; MAX_ZONES + 1],
    /// As [`Generation::asn_pages`].
    pub asn_pages: [u32; MAX_ASN_PAGES],
    /// As [`Generation::vid_tables`].
    pub vids: [[u16; 4096]; MAX_VID_TABLES],
    /// Blocks of the first 16 bits.
    pub v4: [[u16; 65536]; TOPS],
    /// Four leaves a byte, the first in the lowest bits.
    pub blocks4: [[u8; 64]; BLOCKS4],
    /// Leaf code with [`PLANE_LEAF`], and an ordinal; or index of a block.
    pub v6: [[u16; 8192]; TOPS],
    /// Leaf code with [`PLANE_LEAF`], and an ordinal; or index of a line, with
    /// [`PLANE_TREES`] of an inner one.
    pub blocks6: [[u16; 4096]; BLOCKS6],
    /// IPv6 trees.
    pub lines: [PlaneLine; LINES],
    /// By line.
    pub line_origins: [u32; LINES],
    /// Ordinal, [`ORIGIN_ASK`], or index of a node with [`ORIGIN_NODE`].
    pub origins4: [u16; 65536],
    /// Their nodes.
    pub nodes: [Node; NODES],
    /// Ordinals, or [`VALUE_ASK`].
    pub origins: [u16; ORIGINS],
}

/// Size tiers. A program is compiled for each; outgrowing one means new maps.
pub mod tier {
    use super::{Generation, Planes, Table};

    /// A table of policy prefixes and a few ASNs: laboratories, small allow lists.
    pub type SmallTable = Table<2048, 65536, 64, 1024>;
    /// Its generation.
    pub type SmallGeneration = Generation<8192>;
    /// Its planes.
    pub type SmallPlanes = Planes<2, 1024, 16, 1024, 256, 16384>;
    /// The Internet of 2026 and a quarter more.
    pub type InternetTable = Table<36_864, 819_200, 128, 20_480>;
    /// Its generation.
    pub type InternetGeneration = Generation<163_840>;
    /// Its planes.
    pub type InternetPlanes = Planes<4, 16384, 96, 8192, 6144, 49_152>;
    /// About four times that.
    pub type LargeTable = Table<147_456, 3_276_800, 512, 81_920>;
    /// Its generation.
    pub type LargeGeneration = Generation<786_432>;
    /// Its planes.
    pub type LargePlanes = Planes<16, 65536, 384, 16384, 32_768, 524_288>;
}

/// Slots of the map of tables: the live one and the one that is built beside it.
pub const TABLE_SLOTS: u32 = 2;
/// Counter slots. 16 bytes for each and every CPU.
pub const COUNTER_SLOTS: u32 = 1 << 17;
/// Slots in one value of the map of counters: the kernel looks up where each value is
/// in a list that must stay in the cache, so there are few of them, and large.
pub const COUNTER_PAGE: u32 = 256;
/// Values of the map of counters.
pub const COUNTER_PAGES: u32 = COUNTER_SLOTS / COUNTER_PAGE;

/// One counter of one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes of their frames, as received.
    pub bytes: u64,
}

/// What the program does besides judging; a constant of each loaded instance.
///
/// The values are such as no other constant has: the compiler merges equal
/// constants, and a map key that shares its place with one of these would change
/// when the loader writes it.
pub mod mode {
    /// Judge packets of an interface.
    pub const LIVE: u32 = 0x6b6f_7201;
    /// Judge packets of `BPF_PROG_TEST_RUN` and write a trace.
    pub const PROBE: u32 = 0x6b6f_7202;
    /// Judge packets of `BPF_PROG_TEST_RUN` and count them, as on an interface, but
    /// write the next of the probe's destinations into each first.
    pub const BENCH: u32 = 0x6b6f_7203;
}

/// The port of an instance that the loader gave none. See [`mode`] for the value.
pub const NO_PORT: u32 = 0x6b6f_72ff;

/// Addresses that one probe run can judge.
pub const PROBE_BATCH: usize = 1 << 13;

/// What a probe run is to do. Written by userspace before each run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ProbeControl {
    /// The port as which the packet is judged.
    pub port: u32,
    /// 0: judge the packet as it is. 4 or 6: write [`Probe::inputs`]`[next]`
    /// over the destination first (the frame needs an IPv4 or IPv6 header there).
    pub family: u32,
    /// Offset of the destination address in the frame, bytes.
    pub destination: u32,
    /// Next entry of inputs and outputs, modulo [`PROBE_BATCH`]; the program raises it.
    pub next: u32,
}

/// What the program says about one packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ProbeOutput {
    /// Counter slot: says zone, reason or rule, and action. `u32::MAX`: none.
    pub slot: u32,
    /// Class of the judged address, or [`NO_CLASS`].
    pub class: u32,
    /// Counter slot of the ASN. `u32::MAX`: none.
    pub asn_slot: u32,
    /// [`Judged`], [`Action`], and a bit for each reason that was ignored, from
    /// [`Reason::FIRST_UNPARSABLE`].
    pub judged: u8,
    /// [`Action`].
    pub action: u8,
    /// Bit r: reason `FIRST_UNPARSABLE + r` was met and ignored.
    pub noted: u16,
}

/// What the fast path says about one packet, beside [`ProbeOutput`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct FastOutput {
    /// 0: nothing, the slow path is taken. 1: no zone, passed. 2: passed and
    /// counted in `slot`. 3 and more: [`Action`] + 3, by the class of the destination.
    pub said: u32,
    /// Counter slot.
    pub slot: u32,
    /// Counter slot of the ASN. `u32::MAX`: none.
    pub asn_slot: u32,
    /// Class of the destination, or [`NO_CLASS`].
    pub class: u32,
}

/// Input and output of probe runs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Probe {
    /// What to do.
    pub control: ProbeControl,
    /// Addresses in network byte order; IPv4 in the first four bytes.
    pub inputs: [[u8; 16]; PROBE_BATCH],
    /// Results.
    pub outputs: [ProbeOutput; PROBE_BATCH],
    /// What the fast path says of the same.
    pub fast: [FastOutput; PROBE_BATCH],
}

const _: () = {
    assert!(size_of::<Port>() == 8);
    assert!(size_of::<Pair>() == 8);
    assert!(size_of::<Zone>() == 36);
    assert!(size_of::<Prefix>() == 32);
    assert!(size_of::<Nat64>() == 40);
    assert!(size_of::<Step>() == 12);
    assert!(size_of::<Node>() == 64);
    assert!(size_of::<Line>() == 64);
    assert!(size_of::<Gate>() == 64);
    assert!(size_of::<PlaneLine>() == 64);
    assert!(core::mem::offset_of!(tier::InternetPlanes, gates) % 64 == 0);
    assert!(core::mem::offset_of!(tier::InternetPlanes, blocks4) % 64 == 0);
    assert!(core::mem::offset_of!(tier::InternetPlanes, lines) % 64 == 0);
    assert!(core::mem::offset_of!(tier::InternetPlanes, nodes) % 64 == 0);
    assert!(size_of::<Counter>() == 16);
    assert!(size_of::<ProbeControl>() == 16);
    assert!(size_of::<ProbeOutput>() == 16);
    assert!(size_of::<Probe>() == 16 + 48 * PROBE_BATCH);
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
