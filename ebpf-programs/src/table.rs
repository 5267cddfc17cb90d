//! The class plane: destination address -> class, for both families.
//!
//! Generic over how the parts of a [`Table`] are read, so that the kernel reads
//! a map value of a fixed size and userspace the vectors that become one. The
//! shapes are those of [`crate::layout::Table`]; an index that no builder writes
//! ends in [`NO_CLASS`], for which the verdict is a drop.

use crate::{
    layout::{CLASS_MASK, LEAF, LINE_INNER, Line, MAX_LINE_DEPTH, NO_CLASS, Node, Table},
    opaque::opaque,
};

/// Read access to the parts of a table. Indices out of range give `None`.
pub trait ReadTable {
    /// Word of the IPv4 root for the first 16 bits.
    fn root_v4(&self, index: u16) -> u32;
    /// Word of the IPv6 root for the first 16 bits.
    fn root_v6(&self, index: u16) -> u32;
    /// Word of a direct block; `index` is below 4096.
    fn block(&self, block: u32, index: u16) -> Option<u32>;
    /// A line.
    fn line(&self, index: u32) -> Option<&Line>;
    /// A node.
    fn node(&self, index: u32) -> Option<&Node>;
    /// A value.
    fn value(&self, index: u32) -> Option<u32>;
}

impl<const NODES: usize, const VALUES: usize, const BLOCKS: usize, const LINES: usize> ReadTable
    for Table<NODES, VALUES, BLOCKS, LINES>
{
    #[inline(always)]
    fn root_v4(&self, index: u16) -> u32 {
        self.v4[index as usize]
    }

    #[inline(always)]
    fn root_v6(&self, index: u16) -> u32 {
        self.v6[index as usize]
    }

    #[inline(always)]
    fn block(&self, block: u32, index: u16) -> Option<u32> {
        let block = self.blocks.get(block as usize)?;
        Some(block[(index & 0xfff) as usize])
    }

    #[inline(always)]
    fn line(&self, index: u32) -> Option<&Line> {
        self.lines.get(index as usize)
    }

    #[inline(always)]
    fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    #[inline(always)]
    fn value(&self, index: u32) -> Option<u32> {
        self.values.get(index as usize).copied()
    }
}

/// The class of an IPv4 address (host byte order).
#[inline(always)]
pub fn class_v4<T: ReadTable>(table: &T, address: u32) -> u32 {
    let mut word = table.root_v4((address >> 16) as u16);
    if word & LEAF == 0 {
        word = in_node(table, word, (address >> 8) as u8);
        if word & LEAF == 0 {
            word = in_node(table, word, address as u8);
        }
    }
    class(word)
}

/// The class of an IPv6 address, as its two halves (host byte order).
#[inline(never)]
pub fn class_v6<T: ReadTable>(table: &T, high: u64, low: u64) -> u32 {
    let mut word = table.root_v6((high >> 48) as u16);
    if word & LEAF == 0 {
        word = table
            .block(word, ((high >> 36) & 0xfff) as u16)
            .unwrap_or(NO_CLASS);
        if word & LEAF == 0 {
            word = in_tree(table, word, high & ((1 << 36) - 1));
            if word & LEAF == 0 {
                word = in_deep_tree(table, word, low);
            }
        }
    }
    class(word)
}

/// A leaf's class. What is no leaf after the last level was never built.
#[inline(always)]
fn class(word: u32) -> u32 {
    if word & LEAF == 0 || word == NO_CLASS {
        NO_CLASS
    } else {
        word & CLASS_MASK
    }
}

#[inline(always)]
fn in_node<T: ReadTable>(table: &T, index: u32, slot: u8) -> u32 {
    let Some(node) = table.node(index) else {
        return NO_CLASS;
    };
    let word = (slot >> 6) as usize & 3;
    // Shifted so that the bits up to and with this slot remain.
    let starts = node.starts[word] << (63 - (slot as u32 & 63));
    let rank = node.ranks[word] as u32 + starts.count_ones();
    table
        .value(node.base.wrapping_add(rank).wrapping_sub(1))
        .unwrap_or(NO_CLASS)
}

/// A tree below a direct block: keys have 36 bits, so the sign of a difference
/// says which is larger, without a branch.
#[inline(always)]
fn in_tree<T: ReadTable>(table: &T, root: u32, key: u64) -> u32 {
    let mut index = root;
    for _ in 0..opaque(MAX_LINE_DEPTH) {
        let Some(line) = table.line(index) else {
            return NO_CLASS;
        };
        let mut rank = 0;
        for k in line.keys {
            rank += k.wrapping_sub(key + 1) >> 63;
        }
        index = line.base.wrapping_add(rank as u32);
        if line.inner & LINE_INNER == 0 {
            return table.value(index).unwrap_or(NO_CLASS);
        }
    }
    NO_CLASS
}

/// A tree below a /64: keys have 64 bits and are the last addresses of ranges,
/// so that the unused `u64::MAX` is below no address. Few prefixes are that long.
#[inline(never)]
fn in_deep_tree<T: ReadTable>(table: &T, root: u32, key: u64) -> u32 {
    let mut index = root;
    for _ in 0..opaque(MAX_LINE_DEPTH) {
        let Some(line) = table.line(index) else {
            return NO_CLASS;
        };
        let mut rank = 0;
        for k in line.keys {
            // The borrow of k - key, computed without a branch: 2^7 ways through
            // each line would be too many for the verifier.
            rank += (!k & key | (!k | key) & k.wrapping_sub(key)) >> 63;
        }
        index = line.base.wrapping_add(rank as u32);
        if line.inner & LINE_INNER == 0 {
            return table.value(index).unwrap_or(NO_CLASS);
        }
    }
    NO_CLASS
}
