//! The lookup table of a partition, as the parts of a [`Table`] in vectors.
//!
//! The shapes are those of [`kordon_ebpf::layout::Table`], the lookup is
//! [`kordon_ebpf::table`]. This is a builder from scratch and knows nothing of
//! maps; whoever writes the parts into one picks the tier with [`choose_tier`].

use kordon_ebpf::{
    layout::{
        CLASS_MASK, Generation, LEAF, LINE_INNER, LINE_KEYS, Line, NO_CLASS, Node, Table, tier,
    },
    table::ReadTable,
};
use thiserror::Error;

use super::partition::Partition;

#[cfg(test)]
mod tests;

/// Children or values of one line.
const FANOUT: usize = LINE_KEYS + 1;

/// Ranges of one family. Several times what the largest tier can hold.
const MAX_RANGES: usize = 1 << 24;

/// Why no table could be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TableError {
    /// More than the largest tier holds.
    #[error(
        "cannot build the lookup table: it needs {needed} {part}, the largest size has \
         {available}; name fewer prefixes and countries, or use a smaller ASN database"
    )]
    TooLarge {
        /// What there is too much of.
        part: &'static str,
        /// How many are needed.
        needed: usize,
        /// How many the largest tier has.
        available: usize,
    },
    /// The partition does not keep its promises. A defect of this program.
    #[error("cannot build the lookup table: the {family} ranges are not a partition")]
    BadPartition {
        /// Which ranges.
        family: &'static str,
    },
}

/// A size of the maps, see [`tier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// [`tier::SmallTable`].
    Small,
    /// [`tier::InternetTable`].
    Internet,
    /// [`tier::LargeTable`].
    Large,
}

impl Tier {
    /// All, smallest first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Internet, Self::Large];

    /// The word in messages and `--json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Internet => "internet",
            Self::Large => "large",
        }
    }

    /// What fits into it.
    #[must_use]
    pub const fn capacity(self) -> Usage {
        match self {
            Self::Small => capacity::<tier::SmallTable, tier::SmallGeneration>(),
            Self::Internet => capacity::<tier::InternetTable, tier::InternetGeneration>(),
            Self::Large => capacity::<tier::LargeTable, tier::LargeGeneration>(),
        }
    }
}

const fn capacity<T: TableSize, G: GenerationSize>() -> Usage {
    Usage {
        classes: G::CLASSES,
        ..T::SIZE
    }
}

/// Reads the sizes off the shared types, so that they stand in one place only.
trait TableSize {
    const SIZE: Usage;
}

impl<const NODES: usize, const VALUES: usize, const BLOCKS: usize, const LINES: usize> TableSize
    for Table<NODES, VALUES, BLOCKS, LINES>
{
    const SIZE: Usage = Usage {
        nodes: NODES,
        values: VALUES,
        blocks: BLOCKS,
        lines: LINES,
        classes: 0,
    };
}

trait GenerationSize {
    const CLASSES: usize;
}

impl<const CLASSES: usize> GenerationSize for Generation<CLASSES> {
    const CLASSES: usize = CLASSES;
}

/// How much of each part a table takes, or a tier has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nodes of both families.
    pub nodes: usize,
    /// Values of nodes and lines.
    pub values: usize,
    /// IPv6 direct blocks.
    pub blocks: usize,
    /// IPv6 lines.
    pub lines: usize,
    /// Classes.
    pub classes: usize,
}

impl Usage {
    /// Whether this fits into a tier's [`Tier::capacity`].
    #[must_use]
    pub fn fits(&self, capacity: &Self) -> bool {
        self.excess(capacity).is_none()
    }

    /// The first part that does not fit: its name, needed, available.
    fn excess(&self, capacity: &Self) -> Option<(&'static str, usize, usize)> {
        [
            ("classes", self.classes, capacity.classes),
            ("nodes", self.nodes, capacity.nodes),
            ("values", self.values, capacity.values),
            ("IPv6 blocks", self.blocks, capacity.blocks),
            ("IPv6 lines", self.lines, capacity.lines),
        ]
        .into_iter()
        .find(|(_, needed, available)| needed > available)
    }
}

/// The smallest tier that holds this.
///
/// # Errors
/// When even the largest does not.
pub fn choose_tier(usage: &Usage) -> Result<Tier, TableError> {
    let mut all = Tier::ALL.into_iter();
    if let Some(tier) = all.find(|tier| usage.fits(&tier.capacity())) {
        return Ok(tier);
    }
    let excess = usage.excess(&Tier::Large.capacity());
    let (part, needed, available) = excess.unwrap_or(("parts", 0, 0));
    Err(TableError::TooLarge {
        part,
        needed,
        available,
    })
}

/// A [`Table`] whose parts are as long as they need to be.
#[derive(Clone, Debug)]
pub struct FlatTable {
    /// 65536 words.
    pub v4: Vec<u32>,
    /// 65536 words.
    pub v6: Vec<u32>,
    /// IPv6 direct blocks.
    pub blocks: Vec<[u32; 256]>,
    /// IPv6 trees.
    pub lines: Vec<Line>,
    /// Nodes of both families.
    pub nodes: Vec<Node>,
    /// Words of nodes and leaf lines. The first is of none, see [`Node`].
    pub values: Vec<u32>,
    /// Classes of the partition.
    pub classes: usize,
}

impl ReadTable for FlatTable {
    fn root_v4(&self, index: u16) -> u32 {
        self.v4.get(index as usize).copied().unwrap_or(NO_CLASS)
    }

    fn root_v6(&self, index: u16) -> u32 {
        self.v6.get(index as usize).copied().unwrap_or(NO_CLASS)
    }

    fn block(&self, block: u32, index: u8) -> Option<u32> {
        self.blocks
            .get(block as usize)?
            .get(index as usize)
            .copied()
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

impl FlatTable {
    /// Builds the table of both families.
    ///
    /// # Errors
    /// When there are more ranges than any tier could hold, or they are not sorted.
    pub fn build(partition: &Partition) -> Result<Self, TableError> {
        check(&partition.v4, "IPv4")?;
        check(&partition.v6, "IPv6")?;
        let mut table = Self {
            v4: Vec::with_capacity(1 << 16),
            v6: Vec::with_capacity(1 << 16),
            blocks: Vec::new(),
            lines: Vec::with_capacity(partition.v6.len() / 8),
            nodes: Vec::with_capacity(partition.v4.len() / 16),
            values: Vec::with_capacity(2 * (partition.v4.len() + partition.v6.len())),
            classes: partition.classes.len(),
        };
        table.values.push(NO_CLASS);
        table.build_v4(&partition.v4);
        table.build_v6(&partition.v6);
        Ok(table)
    }

    /// How much of each part it takes.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            nodes: self.nodes.len(),
            values: self.values.len(),
            blocks: self.blocks.len(),
            lines: self.lines.len(),
            classes: self.classes,
        }
    }

    fn build_v4(&mut self, ranges: &[(u32, u32)]) {
        let mut cursor = Cursor { ranges, at: 0 };
        for top in 0..1u32 << 16 {
            let first = top << 16;
            let word = match cursor.uniform(first, first | 0xffff) {
                Some(class) => LEAF | class,
                None => self.node(&mut cursor, first, 8, &mut |table, cursor, first| {
                    // Of single addresses none is cut further.
                    table.node(cursor, first, 0, &mut |_, _, _| NO_CLASS)
                }),
            };
            self.v4.push(word);
        }
    }

    /// The node for 256 slots of `1 << slot_bits` addresses. `below` makes what a slot
    /// leads to that is not all of one class.
    fn node<A: Space>(
        &mut self,
        cursor: &mut Cursor<'_, A>,
        first: A,
        slot_bits: u32,
        below: &mut dyn FnMut(&mut Self, &mut Cursor<'_, A>, A) -> u32,
    ) -> u32 {
        let mut starts = [0u32; 8];
        let mut words = [0u32; 256];
        let mut len = 0;
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
                    below(self, cursor, slot_first)
                }
            };
            if len == 0 || words[len - 1] != word {
                starts[here / 32] |= 1 << (here % 32);
                words[len] = word;
                len += 1;
            }
        }
        // Value 0 is no node's, so there is one before.
        let mut before = self.values.len() as u64 - 1;
        let mut node = Node::default();
        for (word, starts) in node.words.iter_mut().zip(starts) {
            *word = before << 32 | u64::from(starts);
            before += u64::from(starts.count_ones());
        }
        self.values.extend_from_slice(&words[..len]);
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    fn build_v6(&mut self, ranges: &[(u128, u32)]) {
        let mut cursor = Cursor { ranges, at: 0 };
        let mut scratch = Scratch::default();
        for top in 0..1u128 << 16 {
            let first = top << 112;
            let word = match cursor.uniform(first, first.last(112)) {
                Some(class) => LEAF | class,
                None => self.block(&mut cursor, first, &mut scratch),
            };
            self.v6.push(word);
        }
    }

    /// The direct block for 256 slots of a /24.
    fn block(&mut self, cursor: &mut Cursor<'_, u128>, first: u128, scratch: &mut Scratch) -> u32 {
        let mut block = [0; 256];
        for (slot, word) in (0u32..).zip(&mut block) {
            let first = first.plus(slot, 104);
            *word = match cursor.uniform(first, first.last(104)) {
                Some(class) => LEAF | class,
                None => self.node(cursor, first, 96, &mut |table, cursor, first| {
                    table.tree(cursor, first, 64, scratch)
                }),
            };
        }
        self.blocks.push(block);
        self.blocks.len() as u32 - 1
    }

    /// The tree over 32 bits, of which each unit has `1 << unit_bits` addresses: 64,
    /// 32 or 0 bits. In all of it something begins.
    fn tree(
        &mut self,
        cursor: &mut Cursor<'_, u128>,
        first: u128,
        unit_bits: u32,
        scratch: &mut Scratch,
    ) -> u32 {
        let last = first.last(unit_bits + 32);
        let key = |address: u128| (address >> unit_bits) as u32;
        let mut entries = std::mem::take(&mut scratch.entries[unit_bits as usize / 32]);
        entries.clear();
        let mut unit = first;
        loop {
            let unit_last = unit.last(unit_bits);
            let Some(class) = cursor.uniform(unit, unit_last) else {
                let root = self.tree(cursor, unit, unit_bits - 32, scratch);
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
        let root = self.lines_of(&entries, &mut scratch.firsts);
        scratch.entries[unit_bits as usize / 32] = entries;
        root
    }

    /// Builds a tree from its leaves up and returns the root line. `entries`:
    /// first address and word, never empty.
    fn lines_of(&mut self, entries: &[(u32, u32)], firsts: &mut Vec<u32>) -> u32 {
        firsts.clear();
        firsts.extend(entries.iter().map(|&(first, _)| first));
        let mut level = self.values.len();
        self.values.extend(entries.iter().map(|&(_, word)| word));
        let mut inner = 0;
        loop {
            // `firsts` are the starts of what stands from `level` on; each
            // line takes up to sixteen of them, all about equally many.
            let children = firsts.len();
            let lines = children.div_ceil(FANOUT);
            let start = self.lines.len();
            for line in 0..lines {
                let from = line * children / lines;
                let to = (line + 1) * children / lines;
                let mut words = [u32::MAX; FANOUT];
                for (key, first) in words.iter_mut().zip(&firsts[from + 1..to]) {
                    // The last address before.
                    *key = first - 1;
                }
                words[LINE_KEYS] = (level + from) as u32 | inner;
                self.lines.push(Line { words });
                // Never read again at its old place: `line <= from`.
                firsts[line] = firsts[from];
            }
            if lines == 1 {
                return start as u32;
            }
            firsts.truncate(lines);
            level = start;
            inner = LINE_INNER;
        }
    }
}

/// What trees are made from, kept to spare allocations.
#[derive(Default)]
struct Scratch {
    /// By the kind of tree: units of single addresses, of /96, of /64.
    entries: [Vec<(u32, u32)>; 3],
    firsts: Vec<u32>,
}

/// Addresses of one family.
trait Space: Copy + Ord {
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
struct Cursor<'a, A> {
    ranges: &'a [(A, u32)],
    at: usize,
}

impl<A: Copy + Ord> Cursor<'_, A> {
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

fn check<A: Ord + Default>(ranges: &[(A, u32)], family: &'static str) -> Result<(), TableError> {
    if ranges.len() > MAX_RANGES {
        return Err(TableError::TooLarge {
            part: "ranges",
            needed: ranges.len(),
            available: MAX_RANGES,
        });
    }
    let starts_at_zero = ranges.first().is_some_and(|r| r.0 == A::default());
    let ascends = ranges.is_sorted_by(|a, b| a.0 < b.0);
    let in_range = ranges.iter().all(|r| r.1 <= CLASS_MASK);
    if starts_at_zero && ascends && in_range {
        Ok(())
    } else {
        Err(TableError::BadPartition { family })
    }
}
