//! The parts of one plane, made of a table: leaves of IPv4 blocks, and the trees of IPv6. [`Places`] says
//! where they are put: `fresh` appends, `amend` uses free places.

use std::ops::Range;

use kordon_ebpf::{
    layout::{
        ASK, CLASS_MASK, LEAF, LINE_INNER, NO_CLASS, Nat64, PLANE_KEYS, PLANE_LEAF, PLANE_TREES,
        PlaneLine,
    },
    table::ReadTable,
};

use crate::compile::table::{line_keys, values_of};

/// IPv4 blocks whose leaves are all of one code: block and code are the same.
pub(in crate::compile) const UNIFORM: usize = 4;
/// Runs that a tree holds.
const MAX_RUNS: usize = (PLANE_KEYS + 1) * (PLANE_KEYS + 1);
/// Four leaves of one code.
pub(super) const FOUR: u8 = 0b0101_0101;
/// Words of the IPv6 tops of one plane.
pub(in crate::compile) const V6_TOPS: u16 = 1 << 13;
/// The first 16 bits of the first of them.
pub(in crate::compile) const V6_FIRST: u16 = 0x2000;
/// A word of an IPv6 plane that asks.
pub(in crate::compile) const ASKS: u16 = PLANE_LEAF | ASK as u16;

/// Where the parts of planes are put: behind each other into vectors, or into free
/// places of planes that are live. `None`: there is no room, and the plane asks.
pub(in crate::compile) trait Places {
    /// An IPv4 block; equal ones may be one.
    fn block_v4(&mut self, block: &[u8; 64]) -> Option<u16>;
    /// An IPv6 block.
    fn block_v6(&mut self, block: &[u16; 4096]) -> Option<u16>;
    /// Lines, one after the other.
    fn lines(&mut self, lines: &[PlaneLine]) -> Option<u16>;
}

/// Makes the parts of one plane. `of_class`: the leaf code of a class.
pub(in crate::compile) struct Builder<'a, T, P, C> {
    pub(in crate::compile) places: &'a mut P,
    pub(in crate::compile) of_class: C,
    pub(in crate::compile) table: &'a T,
    pub(in crate::compile) nat64: &'a [Nat64],
    /// Memory that is used again.
    pub(in crate::compile) runs: Vec<(u64, u8)>,
}

impl<T: ReadTable, P: Places, C: Fn(u32) -> Option<u8>> Builder<'_, T, P, C> {
    /// The leaf code of a word of the table that ends a walk.
    fn code(&self, word: u32) -> u8 {
        if word == NO_CLASS {
            return ASK as u8;
        }
        (self.of_class)(word & CLASS_MASK).unwrap_or(ASK as u8)
    }

    /// The block of a /16, of which this is the word of the table.
    pub(in crate::compile) fn top_v4(&mut self, top: u16, word: u32) -> u16 {
        // "This network" and loopback are martians, whatever the rules say.
        if matches!(top >> 8, 0 | 127) {
            return ASK as u16;
        }
        if word & LEAF != 0 && top != u16::MAX {
            return u16::from(self.code(word));
        }
        let mut leaves = [0; 256];
        if word & LEAF != 0 {
            leaves.fill(self.code(word));
        } else {
            self.node(word, &mut leaves);
        }
        if top == u16::MAX {
            // Limited broadcast: DHCP.
            leaves[255] = ASK as u8;
        }
        self.block(&leaves)
    }

    /// The codes of a node's slots.
    fn node(&self, index: u32, leaves: &mut [u8; 256]) {
        leaves.fill(ASK as u8);
        runs_of(self.table, index, |slots, word| {
            let code = if word & LEAF != 0 {
                self.code(word)
            } else {
                self.uniform(word)
            };
            leaves[slots].fill(code);
        });
    }

    /// The words of a node's slots.
    fn words(&self, index: u32) -> [u32; 256] {
        let mut words = [NO_CLASS; 256];
        runs_of(self.table, index, |slots, word| words[slots].fill(word));
        words
    }

    /// The code of everything in a node, if it is one.
    fn uniform(&self, index: u32) -> u8 {
        let mut all = None;
        runs_of(self.table, index, |_, word| {
            let code = match word & LEAF {
                0 => ASK as u8,
                _ => self.code(word),
            };
            if all.get_or_insert(code) != &code {
                all = Some(ASK as u8);
            }
        });
        all.unwrap_or(ASK as u8)
    }

    fn block(&mut self, leaves: &[u8; 256]) -> u16 {
        let mut packed = [0; 64];
        for (byte, four) in packed.iter_mut().zip(leaves.chunks_exact(4)) {
            *byte = four[0] | four[1] << 2 | four[2] << 4 | four[3] << 6;
        }
        if let Some(code) = (0..UNIFORM as u8).find(|code| packed == [FOUR * code; 64]) {
            return u16::from(code);
        }
        self.places.block_v4(&packed).unwrap_or(ASK as u16)
    }

    /// The word of a /16 that begins with [`V6_FIRST`]` | top`, of which this is the
    /// word of the table.
    pub(in crate::compile) fn top_v6(&mut self, top: u16, word: u32) -> u16 {
        if let Some(leaf) = self.leaf_v6(top, word) {
            return leaf;
        }
        let mut block = [0; 4096];
        // By the /24; each has sixteen /28.
        for (part, leaves) in (0u16..).zip(block.chunks_exact_mut(16)) {
            let below = self.below(word, part as u8);
            let words = (below & LEAF == 0).then(|| self.words(below));
            for (slot, leaf) in (part * 16..).zip(leaves) {
                *leaf = self.slice_v6(top, slot, below, words.as_ref());
            }
        }
        if block
            .iter()
            .all(|word| *word == block[0] && word & PLANE_LEAF != 0)
        {
            return block[0];
        }
        self.places.block_v6(&block).unwrap_or(ASKS)
    }

    /// The word of a /16 that needs no block.
    pub(in crate::compile) fn leaf_v6(&self, top: u16, word: u32) -> Option<u16> {
        let first = u64::from(V6_FIRST | top) << 48;
        match top {
            // 6to4: the address stands for another one.
            0x0002 => Some(ASKS),
            // Teredo is in it, and a prefix of NAT64 may be.
            0x0001 => None,
            _ if word & LEAF != 0 && !self.has_nat64(first, 16) => Some(leaf(self.code(word))),
            _ => None,
        }
    }

    /// The word of a /28 in a /16 of which this is the word of the table.
    pub(in crate::compile) fn slot_v6(&mut self, top: u16, slot: u16, word: u32) -> u16 {
        let below = self.below(word, (slot >> 4) as u8);
        let words = (below & LEAF == 0).then(|| self.words(below));
        self.slice_v6(top, slot, below, words.as_ref())
    }

    /// The table's word of a /24.
    fn below(&self, word: u32, part: u8) -> u32 {
        if word & LEAF != 0 {
            return word;
        }
        self.table.block(word, part).unwrap_or(NO_CLASS)
    }

    /// The word of a /28 in a /24: by the /24's word, or those of its 256 /32.
    fn slice_v6(&mut self, top: u16, slot: u16, below: u32, words: Option<&[u32; 256]>) -> u16 {
        let first = u64::from(V6_FIRST | top) << 48 | u64::from(slot) << 36;
        if first >> 32 == 0x2001_0000 || self.has_nat64(first, 28) {
            return ASKS;
        }
        match words {
            Some(words) => self.trees(&words[usize::from(slot & 15) * 16..][..16]),
            None => leaf(self.code(below)),
        }
    }

    /// Whether a configured NAT64 prefix and these addresses have some in common.
    fn has_nat64(&self, first: u64, length: u32) -> bool {
        let mask = u64::MAX << (64 - length);
        self.nat64
            .iter()
            .any(|nat64| (nat64.prefix.hi ^ first) & mask & nat64.prefix.hi_mask == 0)
    }

    /// The word for a /28, by the words of its sixteen /32.
    fn trees(&mut self, words: &[u32]) -> u16 {
        // Mostly there is one thing in it, or nothing.
        if words.iter().all(|word| *word == words[0]) && words[0] & LEAF != 0 {
            return leaf(self.code(words[0]));
        }
        let mut runs = std::mem::take(&mut self.runs);
        runs.clear();
        for (slot, word) in (0u64..).zip(words) {
            if word & LEAF != 0 {
                runs.push((slot << 32, self.code(*word)));
            } else {
                self.walk(*word, slot << 32, &mut runs);
            }
        }
        runs.dedup_by_key(|run| run.1);
        // In units of /60; one in which a run begins elsewhere than at its first
        // address has several codes.
        let mut units: Vec<(u32, u8)> = Vec::with_capacity(runs.len());
        for (at, (first, code)) in runs.iter().enumerate() {
            let end = runs.get(at + 1).map_or(1 << 36, |(next, _)| *next);
            let unit = (first >> 4) as u32;
            if first & 15 != 0 && units.last().is_none_or(|(last, _)| *last != unit) {
                units.push((unit, ASK as u8));
            }
            let whole = first.div_ceil(16);
            if whole < end >> 4 {
                units.push((whole as u32, *code));
            }
        }
        units.dedup_by_key(|unit| unit.1);
        self.runs = runs;
        self.lines(&units).unwrap_or(ASKS)
    }

    /// Ranges of a tree of the class plane: first address (36 bits) and leaf code.
    fn walk(&self, index: u32, first: u64, runs: &mut Vec<(u64, u8)>) {
        let Some(line) = self.table.line(index) else {
            runs.push((first, ASK as u8));
            return;
        };
        // Keys are the last addresses before.
        let keys = line_keys(line);
        let slash_32 = first >> 32 << 32;
        let starts = std::iter::once(first).chain(keys.map(|key| slash_32 | u64::from(key + 1)));
        let tail = line.tail();
        for (child, start) in (tail & !LINE_INNER..).zip(starts) {
            if tail & LINE_INNER != 0 {
                self.walk(child, start, runs);
                continue;
            }
            let code = match self.table.value(child) {
                Some(word) if word & LEAF != 0 => self.code(word),
                // Something is longer than /64.
                _ => ASK as u8,
            };
            runs.push((start, code));
        }
    }

    /// A tree of one line, or of two levels with all children.
    fn lines(&mut self, units: &[(u32, u8)]) -> Option<u16> {
        let width = PLANE_KEYS + 1;
        if let [(_, code)] = units {
            return Some(leaf(*code));
        }
        if units.len() <= width {
            return self.places.lines(&[line(units)]);
        }
        if units.len() > MAX_RUNS {
            return None;
        }
        // All children are there: an unused key would be at or before the last unit.
        let share = |child: usize| child * units.len() / width;
        let children: Vec<PlaneLine> = (0..width)
            .map(|child| line(&units[share(child)..share(child + 1)]))
            .collect();
        let base = self.places.lines(&children)?;
        let mut root = PlaneLine::default();
        for (key, child) in root.words.iter_mut().zip(1..width) {
            *key = units[share(child)].0;
        }
        root.words[PLANE_KEYS] = u32::from(base);
        Some(self.places.lines(&[root])? | PLANE_TREES)
    }
}

/// Each run of a node's slots that have one word.
fn runs_of<T: ReadTable>(table: &T, index: u32, mut visit: impl FnMut(Range<usize>, u32)) {
    let Some(node) = table.node(index) else {
        return;
    };
    let (mut value, _) = values_of(node);
    let mut start = None;
    let mut visit_to = |start: Option<usize>, end: usize| {
        if let Some(start) = start {
            visit(start..end, table.value(value).unwrap_or(NO_CLASS));
            value += 1;
        }
    };
    for (at, word) in node.words.iter().enumerate() {
        let mut starts = *word as u32;
        while starts != 0 {
            let slot = at * 32 + starts.trailing_zeros() as usize;
            visit_to(start, slot);
            start = Some(slot);
            starts &= starts - 1;
        }
    }
    visit_to(start, 256);
}

/// The word of an IPv6 plane that is no index.
fn leaf(code: u8) -> u16 {
    PLANE_LEAF | u16::from(code)
}

/// At most sixteen units.
fn line(units: &[(u32, u8)]) -> PlaneLine {
    let mut line = PlaneLine {
        words: [u32::MAX; PLANE_KEYS + 1],
    };
    let mut tail = 0;
    for slot in 0..=PLANE_KEYS {
        // An unused key is at the last unit: what is behind it is what is before it.
        let (first, code) = units[slot.min(units.len() - 1)];
        tail |= u32::from(code) << (2 * slot);
        if slot > 0 && slot < units.len() {
            line.words[slot - 1] = first;
        }
    }
    line.words[PLANE_KEYS] = tail;
    line
}
