//! Destination -> class, both families: all that follows from the ASN database and the prefixes that
//! the policy names. Large, and kept while only rules change.

/// Set in a word of the table that holds a class; clear where the word is the
/// index of a [`Node`], a block or a [`Line`].
pub const LEAF: u32 = 1 << 31;
/// The class in a word with [`LEAF`] set.
pub const CLASS_MASK: u32 = (1 << 20) - 1;
/// "No class was looked up". Never in a table.
pub const NO_CLASS: u32 = u32::MAX;

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
