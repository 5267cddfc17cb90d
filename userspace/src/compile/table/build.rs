//! Builds parts of a table, from a partition's ranges into any [`Parts`]: all of a new
//! table, or what one word of a live one leads to.

use kordon_ebpf::layout::{LEAF, LINE_INNER, LINE_KEYS, Line, NO_CLASS, Node};

use super::{FANOUT, Full, Parts};

/// What makes a slot's word that is not all of one class.
type Below<'a, P, A> =
    &'a mut dyn FnMut(&mut Build, &mut P, &mut Cursor<'_, A>, A) -> Result<u32, Full>;

/// Builds parts of a table; memory that is used again.
#[derive(Default)]
pub(in crate::compile) struct Build {
    /// By the kind of tree: units of single addresses, of /96, of /64.
    entries: [Vec<(u32, u32)>; 3],
    firsts: Vec<u32>,
    /// Lines of two levels of a tree.
    levels: [Vec<Line>; 2],
}

impl Build {
    /// The word for the /16 at `first`.
    pub(in crate::compile) fn top_v4<P: Parts>(
        &mut self,
        parts: &mut P,
        cursor: &mut Cursor<'_, u32>,
        first: u32,
    ) -> Result<u32, Full> {
        if let Some(class) = cursor.uniform(first, first.last(16)) {
            return Ok(LEAF | class);
        }
        self.node(
            parts,
            cursor,
            first,
            8,
            &mut |build, parts, cursor, first| {
                // Of single addresses none is cut further.
                build.node(parts, cursor, first, 0, &mut |_, _, _, _| Ok(NO_CLASS))
            },
        )
    }

    /// The word for the /16 at `first`.
    pub(in crate::compile) fn top_v6<P: Parts>(
        &mut self,
        parts: &mut P,
        cursor: &mut Cursor<'_, u128>,
        first: u128,
    ) -> Result<u32, Full> {
        if let Some(class) = cursor.uniform(first, first.last(112)) {
            return Ok(LEAF | class);
        }
        let mut block = [0; 256];
        for (slot, word) in (0u32..).zip(&mut block) {
            let first = first.plus(slot, 104);
            *word = match cursor.uniform(first, first.last(104)) {
                Some(class) => LEAF | class,
                None => self.node(
                    parts,
                    cursor,
                    first,
                    96,
                    &mut |build, parts, cursor, first| build.tree(parts, cursor, first, 64),
                )?,
            };
        }
        parts.block(&block)
    }

    /// The word for the /32 at `first`.
    pub(in crate::compile) fn slot_v6<P: Parts>(
        &mut self,
        parts: &mut P,
        cursor: &mut Cursor<'_, u128>,
        first: u128,
    ) -> Result<u32, Full> {
        match cursor.uniform(first, first.last(96)) {
            Some(class) => Ok(LEAF | class),
            None => self.tree(parts, cursor, first, 64),
        }
    }

    /// The node for 256 slots of `1 << slot_bits` addresses.
    fn node<P: Parts, A: Space>(
        &mut self,
        parts: &mut P,
        cursor: &mut Cursor<'_, A>,
        first: A,
        slot_bits: u32,
        below: Below<'_, P, A>,
    ) -> Result<u32, Full> {
        let mut runs = Runs::default();
        let mut slot = 0;
        while slot < 256 {
            let slot_first = first.plus(slot as u32, slot_bits);
            let here = slot;
            let word = match cursor.uniform(slot_first, slot_first.last(slot_bits)) {
                Some(class) => {
                    // On to the slot in which something else begins.
                    slot = match cursor.next() {
                        Some(next) => next.slot(first, slot_bits),
                        None => 256,
                    };
                    LEAF | class
                }
                None => {
                    slot += 1;
                    below(self, parts, cursor, slot_first)?
                }
            };
            runs.push(here, word);
        }
        runs.put(parts)
    }

    /// The tree over 32 bits, of which each unit has `1 << unit_bits` addresses: 64,
    /// 32 or 0 bits. In all of it something begins.
    fn tree<P: Parts>(
        &mut self,
        parts: &mut P,
        cursor: &mut Cursor<'_, u128>,
        first: u128,
        unit_bits: u32,
    ) -> Result<u32, Full> {
        let last = first.last(unit_bits + 32);
        let key = |address: u128| (address >> unit_bits) as u32;
        let mut entries = std::mem::take(&mut self.entries[unit_bits as usize / 32]);
        entries.clear();
        let mut unit = first;
        loop {
            let unit_last = unit.last(unit_bits);
            let Some(class) = cursor.uniform(unit, unit_last) else {
                let root = self.tree(parts, cursor, unit, unit_bits - 32)?;
                entries.push((key(unit), root));
                if unit_last == last {
                    break;
                }
                unit = unit_last + 1;
                continue;
            };
            entries.push((key(unit), LEAF | class));
            // On to the unit in which something else begins.
            match cursor.next() {
                Some(next) if next <= last => unit = next >> unit_bits << unit_bits,
                _ => break,
            }
        }
        let root = self.lines_of(parts, &entries);
        self.entries[unit_bits as usize / 32] = entries;
        root
    }

    /// Builds a tree from its leaves up and returns the root line. `entries`:
    /// first address and word, never empty.
    fn lines_of<P: Parts>(&mut self, parts: &mut P, entries: &[(u32, u32)]) -> Result<u32, Full> {
        let firsts = &mut self.firsts;
        firsts.clear();
        firsts.extend(entries.iter().map(|&(first, _)| first));
        let [below, level] = &mut self.levels;
        below.clear();
        loop {
            // `firsts` are the starts of the words or lines of one level; each line of
            // the next takes up to sixteen of them, all about equally many. What one
            // line leads to stands together, and nothing else has to.
            let children = firsts.len();
            let lines = children.div_ceil(FANOUT);
            level.clear();
            for line in 0..lines {
                let from = line * children / lines;
                let to = (line + 1) * children / lines;
                let mut words = [u32::MAX; FANOUT];
                for (key, first) in words.iter_mut().zip(&firsts[from + 1..to]) {
                    // The last address before.
                    *key = first - 1;
                }
                words[LINE_KEYS] = if below.is_empty() {
                    let mut values = [0; FANOUT];
                    for (value, (_, word)) in values.iter_mut().zip(&entries[from..to]) {
                        *value = *word;
                    }
                    parts.values(&values[..to - from])?
                } else {
                    parts.lines(&below[from..to])? | LINE_INNER
                };
                level.push(Line { words });
                // Never read again at its old place: `line <= from`.
                firsts[line] = firsts[from];
            }
            if lines == 1 {
                return parts.lines(level);
            }
            firsts.truncate(lines);
            std::mem::swap(below, level);
        }
    }
}

/// Slots of a node, as far as they are known.
pub(in crate::compile) struct Runs {
    starts: [u32; 8],
    words: [u32; 256],
    len: usize,
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            starts: [0; 8],
            words: [0; 256],
            len: 0,
        }
    }
}

impl Runs {
    /// From a slot on, a word.
    pub(in crate::compile) fn push(&mut self, slot: usize, word: u32) {
        if self.len == 0 || self.words[self.len - 1] != word {
            self.starts[slot / 32] |= 1 << (slot % 32);
            self.words[self.len] = word;
            self.len += 1;
        }
    }

    /// One word for each run.
    pub(in crate::compile) fn words(&self) -> &[u32] {
        &self.words[..self.len]
    }

    /// The node, if its words are the values from this index on, which is not 0.
    pub(in crate::compile) fn node(&self, first: u32) -> Node {
        // Value 0 is no node's, so there is one before.
        let mut before = u64::from(first) - 1;
        let mut node = Node::default();
        for (word, starts) in node.words.iter_mut().zip(self.starts) {
            *word = before << 32 | u64::from(starts);
            before += u64::from(starts.count_ones());
        }
        node
    }

    /// Values and node.
    pub(in crate::compile) fn put<P: Parts>(&self, parts: &mut P) -> Result<u32, Full> {
        let first = parts.values(self.words())?;
        parts.node(self.node(first))
    }
}

/// The index of a node's first value, and how many it has.
pub(in crate::compile) fn values_of(node: &Node) -> (u32, u32) {
    let count = node
        .words
        .iter()
        .map(|word| (*word as u32).count_ones())
        .sum();
    ((node.words[0] >> 32) as u32 + 1, count)
}

/// Keys of a line that are in use.
pub(in crate::compile) fn line_keys(line: &Line) -> impl Iterator<Item = u32> + use<'_> {
    line.keys()
        .iter()
        .copied()
        .take_while(|key| *key != u32::MAX)
}

/// Addresses of one family.
pub(in crate::compile) trait Space: Copy + Ord {
    /// The first address `slots` times `1 << bits` addresses on.
    fn plus(self, slots: u32, bits: u32) -> Self;
    /// The last of the `1 << bits` addresses of which this is the first.
    fn last(self, bits: u32) -> Self;
    /// The slot of `1 << bits` addresses that this is in, of 256 from `first` on;
    /// 256: behind them all.
    fn slot(self, first: Self, bits: u32) -> usize;
}

macro_rules! space {
    ($address:ty) => {
        impl Space for $address {
            fn plus(self, slots: u32, bits: u32) -> Self {
                self + (Self::from(slots) << bits)
            }
            fn last(self, bits: u32) -> Self {
                self | ((1 << bits) - 1)
            }
            fn slot(self, first: Self, bits: u32) -> usize {
                ((self - first) >> bits).min(256) as usize
            }
        }
    };
}

space!(u32);
space!(u128);

/// A place in a partition, moving up only.
pub(in crate::compile) struct Cursor<'a, A> {
    ranges: &'a [(A, u32)],
    at: usize,
}

impl<'a, A: Copy + Ord> Cursor<'a, A> {
    /// At the first of some ranges. What is asked for is not before it.
    pub(in crate::compile) fn new(ranges: &'a [(A, u32)]) -> Self {
        Self { ranges, at: 0 }
    }

    /// Moves to the range that holds an address and returns its class.
    fn seek(&mut self, address: A) -> u32 {
        while self.next().is_some_and(|next| next <= address) {
            self.at += 1;
        }
        self.ranges[self.at].1
    }

    /// Where the next range begins.
    fn next(&self) -> Option<A> {
        self.ranges.get(self.at + 1).map(|&(start, _)| start)
    }

    /// The class of all addresses from `first` to `last`, if it is one.
    fn uniform(&mut self, first: A, last: A) -> Option<u32> {
        let class = self.seek(first);
        self.next().is_none_or(|next| next > last).then_some(class)
    }
}
