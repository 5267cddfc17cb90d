//! The lookup table of a partition, as the parts of a [`Table`] in vectors.
//!
//! The shapes are those of [`kordon_ebpf::layout::Table`], the lookup is
//! [`kordon_ebpf::table`]. This is a builder from scratch and knows nothing of
//! maps; whoever writes the parts into one picks the tier with [`choose_tier`].

use kordon_ebpf::{
    layout::{
        CLASS_MASK, Generation, LEAF, LINE_INNER, LINE_KEYS, Line, MAX_LINE_DEPTH, NO_CLASS, Node,
        Table, tier,
    },
    table::ReadTable,
};
use thiserror::Error;

use super::partition::Partition;

#[cfg(test)]
mod tests;

/// Children or values of one line.
const FANOUT: usize = LINE_KEYS + 1;

/// Ranges of one family: what fills the deepest tree. Three times what the
/// largest tier can hold.
const MAX_RANGES: usize = FANOUT.pow(MAX_LINE_DEPTH as u32);

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
    /// IPv4 nodes.
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
            ("IPv4 nodes", self.nodes, capacity.nodes),
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
    pub blocks: Vec<[u32; 4096]>,
    /// IPv6 trees.
    pub lines: Vec<Line>,
    /// IPv4 nodes.
    pub nodes: Vec<Node>,
    /// Words of nodes and leaf lines.
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

    fn block(&self, block: u32, index: u16) -> Option<u32> {
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

/// There is no free place of this kind left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the live table has no room for more {0}")]
pub struct Full(pub &'static str);

/// Where the parts of a table are put: behind each other into vectors, or into free
/// places of a table that is live. Each returns the index of the first.
pub trait Parts {
    /// An IPv4 node.
    ///
    /// # Errors
    /// When there is no room; likewise the others.
    fn node(&mut self, node: Node) -> Result<u32, Full>;
    /// Values, one after the other.
    ///
    /// # Errors
    /// See `node`.
    fn values(&mut self, values: &[u32]) -> Result<u32, Full>;
    /// A direct block.
    ///
    /// # Errors
    /// See `node`.
    fn block(&mut self, block: &[u32; 4096]) -> Result<u32, Full>;
    /// Lines, one after the other.
    ///
    /// # Errors
    /// See `node`.
    fn lines(&mut self, lines: &[Line]) -> Result<u32, Full>;
}

/// Never full.
impl Parts for FlatTable {
    fn node(&mut self, node: Node) -> Result<u32, Full> {
        self.nodes.push(node);
        Ok(self.nodes.len() as u32 - 1)
    }

    fn values(&mut self, values: &[u32]) -> Result<u32, Full> {
        self.values.extend_from_slice(values);
        Ok((self.values.len() - values.len()) as u32)
    }

    fn block(&mut self, block: &[u32; 4096]) -> Result<u32, Full> {
        self.blocks.push(*block);
        Ok(self.blocks.len() as u32 - 1)
    }

    fn lines(&mut self, lines: &[Line]) -> Result<u32, Full> {
        self.lines.extend_from_slice(lines);
        Ok((self.lines.len() - lines.len()) as u32)
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
        // Neither family knows of the other but for the values, which are shared.
        let (mut table, v6) = std::thread::scope(|scope| {
            let v6 = scope.spawn(|| Self::family_v6(&partition.v6));
            (Self::family_v4(&partition.v4), v6.join())
        });
        let Ok(mut v6) = v6 else {
            return Err(TableError::BadPartition { family: "IPv6" });
        };
        let before = table.values.len() as u32;
        for line in v6
            .lines
            .iter_mut()
            .filter(|line| line.inner & LINE_INNER == 0)
        {
            line.base += before;
        }
        table.values.append(&mut v6.values);
        Ok(Self {
            v6: v6.v6,
            blocks: v6.blocks,
            lines: v6.lines,
            classes: partition.classes.len(),
            ..table
        })
    }

    fn empty(values: usize) -> Self {
        Self {
            v4: Vec::new(),
            v6: Vec::new(),
            blocks: Vec::new(),
            lines: Vec::new(),
            nodes: Vec::new(),
            values: Vec::with_capacity(values),
            classes: 0,
        }
    }

    fn family_v4(ranges: &[(u32, u32)]) -> Self {
        let mut table = Self::empty(2 * ranges.len());
        table.nodes.reserve(ranges.len() / 16);
        let mut cursor = Cursor::new(ranges);
        let tops = (0..1u32 << 16).map_while(|top| table.top_v4(&mut cursor, top << 16).ok());
        table.v4 = tops.collect();
        table
    }

    fn family_v6(ranges: &[(u128, u32)]) -> Self {
        let mut table = Self::empty(2 * ranges.len());
        table.lines.reserve(ranges.len() / 4);
        let mut cursor = Cursor::new(ranges);
        let mut trees = Trees::default();
        let tops =
            (0..1u128 << 16).map_while(|top| trees.top(&mut table, &mut cursor, top << 112).ok());
        table.v6 = tops.collect();
        table
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
}

/// Builds what is below one word of the IPv4 root.
pub(super) trait BuildV4: Parts {
    /// The word for the /16 at `first`.
    fn top_v4(&mut self, cursor: &mut Cursor<'_, u32>, first: u32) -> Result<u32, Full> {
        match cursor.uniform(first, first | 0xffff) {
            Some(class) => Ok(LEAF | class),
            None => self.node_of(cursor, first, 8),
        }
    }

    /// The node for 256 slots of `1 << slot_bits` addresses.
    fn node_of(
        &mut self,
        cursor: &mut Cursor<'_, u32>,
        first: u32,
        slot_bits: u32,
    ) -> Result<u32, Full> {
        let slot_mask = (1 << slot_bits) - 1;
        let mut starts = [0u64; 4];
        let mut words = [0u32; 256];
        let mut len = 0;
        let mut slot = 0;
        while slot < 256 {
            let slot_first = first + (slot << slot_bits);
            let here = slot as usize;
            let word = match cursor.uniform(slot_first, slot_first | slot_mask) {
                Some(class) => {
                    // On to the slot in which something else begins.
                    slot = match cursor.next() {
                        Some(next) => ((next - first) >> slot_bits).min(256),
                        None => 256,
                    };
                    LEAF | class
                }
                None => {
                    slot += 1;
                    self.node_of(cursor, slot_first, 0)?
                }
            };
            if len == 0 || words[len - 1] != word {
                starts[here / 64] |= 1 << (here % 64);
                words[len] = word;
                len += 1;
            }
        }
        let mut ranks = [0u8; 4];
        for i in 1..4 {
            // At most 192.
            ranks[i] = ranks[i - 1] + starts[i - 1].count_ones() as u8;
        }
        let base = self.values(&words[..len])?;
        self.node(Node {
            starts,
            ranks,
            base,
        })
    }
}

impl<P: Parts> BuildV4 for P {}

/// Builds what is below words of the IPv6 root; memory that is used again.
#[derive(Default)]
pub(super) struct Trees {
    entries: Vec<(u64, u32)>,
    deep: Vec<(u64, u32)>,
    firsts: Vec<u64>,
    words: Vec<u32>,
    level: Vec<Line>,
}

impl Trees {
    /// The word for the /16 at `first`.
    pub(super) fn top<P: Parts>(
        &mut self,
        parts: &mut P,
        cursor: &mut Cursor<'_, u128>,
        first: u128,
    ) -> Result<u32, Full> {
        if let Some(class) = cursor.uniform(first, first | ((1 << 112) - 1)) {
            return Ok(LEAF | class);
        }
        let mut block = [0; 4096];
        for (slot, word) in (0u128..).zip(&mut block) {
            *word = self.slot(parts, cursor, first + (slot << 100))?;
        }
        parts.block(&block)
    }

    /// The word for the /28 at `first`.
    pub(super) fn slot<P: Parts>(
        &mut self,
        parts: &mut P,
        cursor: &mut Cursor<'_, u128>,
        first: u128,
    ) -> Result<u32, Full> {
        let last = first | ((1 << 100) - 1);
        match cursor.uniform(first, last) {
            Some(class) => Ok(LEAF | class),
            None => self.tree(parts, cursor, first, last),
        }
    }

    /// The tree for one /28 in which something begins.
    fn tree<P: Parts>(
        &mut self,
        parts: &mut P,
        cursor: &mut Cursor<'_, u128>,
        first: u128,
        last: u128,
    ) -> Result<u32, Full> {
        let key = |address: u128| (address >> 64) as u64 & ((1 << 36) - 1);
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        let mut subnet = first;
        loop {
            let subnet_last = subnet | u128::from(u64::MAX);
            let Some(class) = cursor.uniform(subnet, subnet_last) else {
                let root = self.deep_tree(parts, cursor, subnet, subnet_last)?;
                entries.push((key(subnet), root));
                if subnet_last == last {
                    break;
                }
                subnet = subnet_last + 1;
                continue;
            };
            entries.push((key(subnet), LEAF | class));
            // On to the /64 in which something else begins.
            match cursor.next() {
                Some(next) if next <= last => subnet = next & !u128::from(u64::MAX),
                _ => break,
            }
        }
        let root = self.lines_of(parts, &entries, false);
        self.entries = entries;
        root
    }

    /// The tree for one /64 in which something begins.
    fn deep_tree<P: Parts>(
        &mut self,
        parts: &mut P,
        cursor: &mut Cursor<'_, u128>,
        first: u128,
        last: u128,
    ) -> Result<u32, Full> {
        let mut deep = std::mem::take(&mut self.deep);
        deep.clear();
        let mut address = first;
        loop {
            let class = cursor.seek(address);
            deep.push((address as u64, LEAF | class));
            match cursor.next() {
                Some(next) if next <= last => address = next,
                _ => break,
            }
        }
        // Keys are the last addresses of the ranges before.
        let root = self.lines_of(parts, &deep, true);
        self.deep = deep;
        root
    }

    /// Builds a tree from its leaves up and returns the root line. `entries`:
    /// first address and word, never empty. Keys are the last addresses before these
    /// in a `deep` tree.
    fn lines_of<P: Parts>(
        &mut self,
        parts: &mut P,
        entries: &[(u64, u32)],
        deep: bool,
    ) -> Result<u32, Full> {
        let below = u64::from(deep);
        let firsts = &mut self.firsts;
        firsts.clear();
        firsts.extend(entries.iter().map(|&(first, _)| first));
        self.words.clear();
        self.words.extend(entries.iter().map(|&(_, word)| word));
        self.level.clear();
        let mut inner = 0;
        loop {
            // `firsts` are the starts of the words or lines of one level; each line of
            // the next takes up to eight of them, all about equally many. What one line
            // leads to stands together, and nothing else has to.
            let children = firsts.len();
            let lines = children.div_ceil(FANOUT);
            let mut level = Vec::with_capacity(lines);
            for line in 0..lines {
                let from = line * children / lines;
                let to = (line + 1) * children / lines;
                let mut keys = [unused_key(deep); LINE_KEYS];
                for (key, first) in keys.iter_mut().zip(&firsts[from + 1..to]) {
                    *key = first.wrapping_sub(below);
                }
                let base = if inner == 0 {
                    parts.values(&self.words[from..to])?
                } else {
                    parts.lines(&self.level[from..to])?
                };
                level.push(Line { keys, base, inner });
                // Never read again at its old place: `line <= from`.
                firsts[line] = firsts[from];
            }
            self.level = level;
            if lines == 1 {
                return parts.lines(&self.level);
            }
            firsts.truncate(lines);
            inner = LINE_INNER;
        }
    }
}

/// What an unused key of a line is: under a direct block, or below a /64 (`deep`).
const fn unused_key(deep: bool) -> u64 {
    if deep { u64::MAX } else { u64::MAX >> 1 }
}

/// Keys of a line that are in use.
pub(super) fn line_keys(line: &Line, deep: bool) -> impl Iterator<Item = u64> + use<> {
    let unused = unused_key(deep);
    line.keys.into_iter().take_while(move |key| *key != unused)
}

/// A place in a partition, moving up only.
pub(super) struct Cursor<'a, A> {
    ranges: &'a [(A, u32)],
    at: usize,
}

impl<'a, A: Copy + Ord> Cursor<'a, A> {
    /// At the first of some ranges. What is asked for is not before it.
    pub(super) fn new(ranges: &'a [(A, u32)]) -> Self {
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
