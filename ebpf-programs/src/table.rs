//! The class plane: destination address -> class, for both families.
//!
//! Generic over how the parts of a [`Table`] are read, so that the kernel reads
//! a map value of a fixed size and userspace the vectors that become one. The
//! shapes are those of [`crate::layout::Table`]; an index that no builder writes
//! ends in [`NO_CLASS`], for which the verdict is a drop.

use crate::{
    layout::{
        CLASS_MASK, LEAF, LINE_INNER, LINE_KEYS, Line, MAX_LINE_DEPTH, NO_CLASS, Node, Table,
    },
    opaque,
};

/// Read access to the parts of a table. Indices out of range give `None`.
pub trait ReadTable {
    /// Word of the IPv4 root for the first 16 bits.
    fn root_v4(&self, index: u16) -> u32;
    /// Word of the IPv6 root for the first 16 bits.
    fn root_v6(&self, index: u16) -> u32;
    /// Word of a direct block.
    fn block(&self, block: u32, index: u8) -> Option<u32>;
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
    fn block(&self, block: u32, index: u8) -> Option<u32> {
        let block = self.blocks.get(block as usize)?;
        Some(block[index as usize])
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
        self.values.get(opaque::index(index as usize)).copied()
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
        word = table.block(word, (high >> 40) as u8).unwrap_or(NO_CLASS);
        if word & LEAF == 0 {
            word = in_node(table, word, (high >> 32) as u8);
            if word & LEAF == 0 {
                word = in_tree(table, word, high & 0xffff_ffff);
                if word & LEAF == 0 {
                    word = behind_64(table, word, low);
                }
            }
        }
    }
    class(word)
}

/// Few prefixes are that long.
#[inline(never)]
fn behind_64<T: ReadTable>(table: &T, root: u32, low: u64) -> u32 {
    let word = in_tree(table, root, low >> 32);
    if word & LEAF == 0 {
        in_tree(table, word, low & 0xffff_ffff)
    } else {
        word
    }
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
    table.value(value_of(node, slot)).unwrap_or(NO_CLASS)
}

/// Where the value of a node's slot is.
#[inline(always)]
fn value_of(node: &Node, slot: u8) -> u32 {
    let word = node.words[(slot >> 5) as usize & 7];
    // Shifted so that the bits up to and with this slot remain.
    let starts = (word << (31 - (slot as u64 & 31))) & 0xffff_ffff;
    ((word >> 32) + ones(starts)) as u32
}

/// Bits that are set in the low half. BPF cannot count them; with constants of 32 bits
/// this is half as long as what the compiler makes of `count_ones`.
#[inline(always)]
fn ones(bits: u64) -> u64 {
    let bits = bits - (bits >> 1 & 0x5555_5555);
    let bits = (bits & 0x3333_3333) + (bits >> 2 & 0x3333_3333);
    let bits = (bits + (bits >> 4)) & 0x0f0f_0f0f;
    (opaque::apart(bits) * 0x0101_0101) >> 24 & 0xff
}

/// A tree over 32 bits.
#[inline(always)]
fn in_tree<T: ReadTable>(table: &T, root: u32, key: u64) -> u32 {
    let mut index = root;
    for _ in 0..opaque::rounds(MAX_LINE_DEPTH) {
        let Some(line) = table.line(index) else {
            return NO_CLASS;
        };
        let tail = line.tail();
        index = (tail & !LINE_INNER).wrapping_add(rank(&line.words, key) as u32);
        if tail & LINE_INNER == 0 {
            return table.value(index).unwrap_or(NO_CLASS);
        }
    }
    NO_CLASS
}

/// How many of the 15 ascending keys of a line are less than a limit. No processor
/// could predict branches here, and one of two steps at a time waits four times for
/// what it reads: so in two steps of three keys, which are read at once.
#[inline(always)]
pub(crate) fn rank(words: &[u32; LINE_KEYS + 1], limit: u64) -> u64 {
    let less = |at: usize| opaque::branchless((words[at] as u64).wrapping_sub(limit)) >> 63;
    let four = (less(3) + less(7) + less(11)) << 2;
    let at = four as usize;
    four + less(at) + less(at + 1) + less(at + 2)
}

const _: () = assert!(LINE_KEYS == 15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_are_counted() {
        for bit in 0..32 {
            assert_eq!(ones(1 << bit), 1);
            assert_eq!(ones((1 << bit) - 1), bit);
        }
        assert_eq!(ones(0xffff_ffff), 32);
        assert_eq!(ones(0x8421_1248), 8);
    }

    #[test]
    fn keys_are_ranked() {
        let words = core::array::from_fn(|at| at as u32 * 10);
        for limit in 0..200 {
            let below = words[..LINE_KEYS]
                .iter()
                .filter(|key| u64::from(**key) < limit);
            assert_eq!(rank(&words, limit), below.count() as u64, "{limit}");
        }
    }
}
