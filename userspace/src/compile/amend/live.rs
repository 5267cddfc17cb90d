//! A table and its planes as they lie in the kernel's memory, while programs read them.
//!
//! Words that link something are atomic; all else is written only where nothing links to.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use kordon_ebpf::{
    layout::{FAST_PLANE, FastZone, LEAF, LINE_INNER, Line, Node, PlaneLine},
    plane::ReadPlanes,
    table::ReadTable,
};

use super::{Part, push};
use crate::compile::table::{line_keys, values_of};

/// A table that programs read. The parts are those of [`kordon_ebpf::layout::Table`].
pub struct LiveTable<'a> {
    /// 65536 words.
    pub v4: &'a [AtomicU32],
    /// 65536 words.
    pub v6: &'a [AtomicU32],
    /// All blocks, one after the other, 256 words each.
    pub blocks: &'a [AtomicU32],
    /// All lines.
    pub lines: &'a mut [Line],
    /// All nodes.
    pub nodes: &'a mut [Node],
    /// All values.
    pub values: &'a mut [u32],
}

/// Whoever sees a word sees what was written before it.
const LINK: Ordering = Ordering::Release;
/// Only this process writes.
const READ: Ordering = Ordering::Relaxed;

impl LiveTable<'_> {
    pub(super) fn set_root_v4(&self, top: u16, word: u32) {
        self.v4[usize::from(top)].store(word, LINK);
    }

    pub(super) fn set_root_v6(&self, top: u16, word: u32) {
        self.v6[usize::from(top)].store(word, LINK);
    }

    pub(super) fn set_part_v6(&self, block: u32, part: u8, word: u32) {
        self.blocks[block as usize * 256 + usize::from(part)].store(word, LINK);
    }

    /// Nothing links to it yet.
    pub(super) fn write_block(&self, block: usize, words: &[u32; 256]) {
        for (place, word) in self.blocks[block * 256..][..256].iter().zip(words) {
            place.store(*word, READ);
        }
    }

    /// The word of a /24: of the direct block, or of the root where there is none.
    pub(super) fn part_v6(&self, top: u16, part: u8) -> u32 {
        let root = self.root_v6(top);
        if root & LEAF != 0 {
            return root;
        }
        self.block(root, part).unwrap_or(LEAF)
    }

    /// The words of what a word leads to that is a node's.
    pub(super) fn words(&self, word: u32) -> [u32; 256] {
        let mut words = [word; 256];
        if word & LEAF == 0
            && let Some(node) = self.node(word)
        {
            let (first, _) = values_of(node);
            let mut at = first.wrapping_sub(1);
            for (slot, word) in words.iter_mut().enumerate() {
                at = at.wrapping_add(u32::from(node.starts(slot as u8)));
                *word = self.value(at).unwrap_or(LEAF);
            }
        }
        words
    }

    /// Ranges of the /16 with these first bits.
    #[must_use]
    pub fn ranges_v4(&self, top: u16) -> Vec<(u32, u32)> {
        let mut out = Vec::new();
        let word = self.root_v4(top);
        self.ranges_of(word, u32::from(top) << 16, 8, &mut out);
        out
    }

    fn ranges_of(&self, word: u32, first: u32, slot_bits: u32, out: &mut Vec<(u32, u32)>) {
        if word & LEAF != 0 {
            return push(out, first, word);
        }
        for (slot, word) in (0..).zip(self.words(word)) {
            let first = first + (slot << slot_bits);
            if slot_bits == 0 {
                push(out, first, word);
            } else {
                self.ranges_of(word, first, 0, out);
            }
        }
    }

    /// Ranges of the /32 with these first bits.
    #[must_use]
    pub fn ranges_v6(&self, slot: u32) -> Vec<(u128, u32)> {
        let mut out = Vec::new();
        let part = self.part_v6((slot >> 16) as u16, (slot >> 8) as u8);
        let word = self.words(part)[(slot & 0xff) as usize];
        let first = u128::from(slot) << 96;
        if word & LEAF != 0 {
            push(&mut out, first, word);
        } else {
            self.ranges_in(word, first, 64, &mut out);
        }
        out
    }

    /// Ranges of a tree over 32 bits, of units of `1 << unit_bits` addresses. `first`:
    /// where what the line has begins.
    fn ranges_in(&self, index: u32, first: u128, unit_bits: u32, out: &mut Vec<(u128, u32)>) {
        let Some(line) = self.line(index) else { return };
        let whole = unit_bits + 32;
        let base = first >> whole << whole;
        // Keys are the last units before.
        let starts = line_keys(line).map(|key| base | (u128::from(key) + 1) << unit_bits);
        let tail = line.tail();
        for (child, start) in (tail & !LINE_INNER..).zip(std::iter::once(first).chain(starts)) {
            if tail & LINE_INNER != 0 {
                self.ranges_in(child, start, unit_bits, out);
                continue;
            }
            let word = self.value(child).unwrap_or(LEAF);
            if word & LEAF != 0 || unit_bits == 0 {
                push(out, start, word);
            } else {
                self.ranges_in(word, start, unit_bits - 32, out);
            }
        }
    }

    /// Everything below a word of the IPv4 root.
    pub(super) fn walk_v4(&self, word: u32, visit: &mut impl FnMut(Part, u32, u32)) {
        if let Some((first, count)) = self.visit_node(word, visit) {
            for at in first..first + count {
                self.walk_v4(self.value(at).unwrap_or(LEAF), visit);
            }
        }
    }

    /// A node and its values, and nothing below.
    pub(super) fn visit_node(
        &self,
        word: u32,
        visit: &mut impl FnMut(Part, u32, u32),
    ) -> Option<(u32, u32)> {
        let node = self.node(word).filter(|_| word & LEAF == 0)?;
        let (first, count) = values_of(node);
        visit(Part::Nodes, word, 1);
        visit(Part::Values, first, count);
        Some((first, count))
    }

    /// Everything below a word of a /32.
    pub(super) fn walk_tree(&self, word: u32, visit: &mut impl FnMut(Part, u32, u32)) {
        if word & LEAF == 0 {
            visit(Part::Lines, word, 1);
            self.walk_lines(word, visit);
        }
    }

    fn walk_lines(&self, index: u32, visit: &mut impl FnMut(Part, u32, u32)) {
        let Some(line) = self.line(index) else { return };
        let count = line_keys(line).count() as u32 + 1;
        let first = line.tail() & !LINE_INNER;
        if line.tail() & LINE_INNER != 0 {
            visit(Part::Lines, first, count);
            (first..first + count).for_each(|child| self.walk_lines(child, visit));
            return;
        }
        for at in first..first + count {
            self.walk_tree(self.value(at).unwrap_or(LEAF), visit);
        }
        visit(Part::Values, first, count);
    }

    /// For each part, in the order of [`Part`], whether each place is used.
    pub(super) fn used(&self) -> [Vec<bool>; 4] {
        let sizes = [
            self.nodes.len(),
            self.values.len(),
            self.blocks.len() / 256,
            self.lines.len(),
        ];
        let mut used = sizes.map(|size| vec![false; size]);
        let mut mark = |part: Part, at: u32, length: u32| {
            let places = &mut used[part as usize];
            let end = places.len().min((at + length) as usize);
            places[(at as usize).min(end)..end].fill(true);
        };
        // The first value is none.
        mark(Part::Values, 0, 1);
        for top in 0..=u16::MAX {
            self.walk_v4(self.root_v4(top), &mut mark);
            let root = self.root_v6(top);
            if root & LEAF != 0 {
                continue;
            }
            mark(Part::Blocks, root, 1);
            for part in 0..=255 {
                let word = self.block(root, part).unwrap_or(LEAF);
                if let Some((first, count)) = self.visit_node(word, &mut mark) {
                    for at in first..first + count {
                        self.walk_tree(self.value(at).unwrap_or(LEAF), &mut mark);
                    }
                }
            }
        }
        used
    }
}

impl ReadTable for LiveTable<'_> {
    fn root_v4(&self, index: u16) -> u32 {
        self.v4[usize::from(index)].load(READ)
    }
    fn root_v6(&self, index: u16) -> u32 {
        self.v6[usize::from(index)].load(READ)
    }
    fn block(&self, block: u32, index: u8) -> Option<u32> {
        let at = block as usize * 256 + usize::from(index);
        Some(self.blocks.get(at)?.load(READ))
    }
    fn line(&self, index: u32) -> Option<&Line> {
        self.lines.get(index as usize)
    }
    fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(index as usize)
    }
    fn value(&self, index: u32) -> Option<u32> {
        self.values.get(index as usize).copied()
    }
}

/// Planes that programs read. The parts are those of [`kordon_ebpf::layout::Planes`].
pub struct LivePlanes<'a> {
    /// By zone id + 1.
    pub zones: &'a [FastZone],
    /// 65536 words for each plane.
    pub v4: &'a [AtomicU16],
    /// IPv4 blocks.
    pub blocks_v4: &'a mut [[u8; 64]],
    /// 8192 words for each plane.
    pub v6: &'a [AtomicU16],
    /// All blocks, one after the other, 4096 words each.
    pub blocks_v6: &'a [AtomicU16],
    /// IPv6 trees.
    pub lines: &'a mut [PlaneLine],
}

impl LivePlanes<'_> {
    /// How many planes zones have.
    pub(super) fn planes(&self) -> usize {
        let open = self.zones.iter().filter(|fast| fast.is_open());
        let planes = open.map(|fast| (fast.plane & FAST_PLANE) as usize + 1);
        planes.max().unwrap_or(0).min(self.v4.len() >> 16)
    }

    pub(super) fn set_top_v4(&self, plane: usize, top: u16, word: u16) -> u16 {
        self.v4[plane << 16 | usize::from(top)].swap(word, Ordering::AcqRel)
    }

    pub(super) fn set_top_v6(&self, plane: usize, top: u16, word: u16) {
        self.v6[plane << 13 | usize::from(top)].store(word, LINK);
    }

    pub(super) fn set_slot_v6(&self, block: u16, index: u16, word: u16) -> u16 {
        self.blocks_v6[usize::from(block) << 12 | usize::from(index)].swap(word, Ordering::AcqRel)
    }

    /// Nothing links to it yet.
    pub(super) fn write_block_v6(&self, block: usize, words: &[u16; 4096]) {
        for (place, word) in self.blocks_v6[block << 12..][..4096].iter().zip(words) {
            place.store(*word, READ);
        }
    }
}

impl ReadPlanes for LivePlanes<'_> {
    fn top_v4(&self, plane: u32, index: u16) -> Option<u16> {
        let word = self.v4.get((plane as usize) << 16 | usize::from(index))?;
        Some(word.load(READ))
    }
    fn leaves_v4(&self, block: u16, index: u8) -> Option<u8> {
        let block = self.blocks_v4.get(usize::from(block))?;
        block.get(usize::from(index)).copied()
    }
    fn top_v6(&self, plane: u32, index: u16) -> Option<u16> {
        let word = self.v6.get((plane as usize) << 13 | usize::from(index))?;
        Some(word.load(READ))
    }
    fn block_v6(&self, block: u16, index: u16) -> Option<u16> {
        let word = self
            .blocks_v6
            .get(usize::from(block) << 12 | usize::from(index))?;
        Some(word.load(READ))
    }
    fn plane_line(&self, index: u16) -> Option<&PlaneLine> {
        self.lines.get(usize::from(index))
    }
}
