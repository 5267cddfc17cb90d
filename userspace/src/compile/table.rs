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

mod build;
#[cfg(test)]
mod tests;

pub(super) use build::{Build, Cursor, Runs, line_keys, values_of};

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

/// As [`choose_tier`], of a table that will be changed in place: a sixteenth of each part
/// is to spare, as far as there is such a tier. One that is almost full would soon be
/// made anew, again and again.
///
/// # Errors
/// As `choose_tier`.
pub fn choose_tier_with_room(usage: &Usage) -> Result<Tier, TableError> {
    let more = |part: usize| part + part / 16;
    let roomy = Usage {
        nodes: more(usage.nodes),
        values: more(usage.values),
        blocks: more(usage.blocks),
        lines: more(usage.lines),
        classes: more(usage.classes),
    };
    choose_tier(&roomy).or_else(|_| choose_tier(usage))
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

/// There is no free place of this kind left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the live table has no room for more {0}")]
pub struct Full(pub &'static str);

/// Where the parts of a table are put: behind each other into vectors, or into free
/// places of a table that is live. Each returns the index of the first.
pub trait Parts {
    /// A node.
    ///
    /// # Errors
    /// When there is no room; likewise the others.
    fn node(&mut self, node: Node) -> Result<u32, Full>;
    /// Values, one after the other, never at 0.
    ///
    /// # Errors
    /// See `node`.
    fn values(&mut self, values: &[u32]) -> Result<u32, Full>;
    /// A direct block.
    ///
    /// # Errors
    /// See `node`.
    fn block(&mut self, block: &[u32; 256]) -> Result<u32, Full>;
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

    fn block(&mut self, block: &[u32; 256]) -> Result<u32, Full> {
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
        // One family knows nothing of the other; their parts are put together then.
        let (v4, v6) = std::thread::scope(|scope| {
            let v6 = scope.spawn(|| Self::family_v6(&partition.v6));
            (Self::family_v4(&partition.v4), v6.join())
        });
        let (Ok(table), Ok(Ok(v6))) = (v4, v6) else {
            return Err(TableError::BadPartition { family: "IPv6" });
        };
        Ok(table.with_v6(v6, partition.classes.len()))
    }

    fn empty(values: usize) -> Self {
        let mut table = Self {
            v4: Vec::new(),
            v6: Vec::new(),
            blocks: Vec::new(),
            lines: Vec::new(),
            nodes: Vec::new(),
            values: Vec::with_capacity(values + 1),
            classes: 0,
        };
        table.values.push(NO_CLASS);
        table
    }

    fn family_v4(ranges: &[(u32, u32)]) -> Result<Self, Full> {
        let mut table = Self::empty(2 * ranges.len());
        table.nodes.reserve(ranges.len() / 16);
        let (mut cursor, mut build) = (Cursor::new(ranges), Build::default());
        let tops = (0..1u32 << 16).map(|top| build.top_v4(&mut table, &mut cursor, top << 16));
        table.v4 = tops.collect::<Result<_, _>>()?;
        Ok(table)
    }

    fn family_v6(ranges: &[(u128, u32)]) -> Result<Self, Full> {
        let mut table = Self::empty(2 * ranges.len());
        table.lines.reserve(ranges.len() / 8);
        let (mut cursor, mut build) = (Cursor::new(ranges), Build::default());
        let tops = (0..1u128 << 16).map(|top| build.top_v6(&mut table, &mut cursor, top << 112));
        table.v6 = tops.collect::<Result<_, _>>()?;
        Ok(table)
    }

    /// This one of IPv4, and one of IPv6, of which nodes and values come behind.
    fn with_v6(mut self, mut v6: Self, classes: usize) -> Self {
        // Both have a value 0, and one is enough.
        let (nodes, values) = (self.nodes.len() as u32, self.values.len() as u32 - 1);
        for line in &mut v6.lines {
            if line.tail() & LINE_INNER == 0 {
                line.words[LINE_KEYS] += values;
            }
        }
        for word in v6.nodes.iter_mut().flat_map(|node| &mut node.words) {
            *word += u64::from(values) << 32;
        }
        // Only blocks lead to nodes: values of IPv6 are classes and lines.
        for word in v6
            .blocks
            .iter_mut()
            .flatten()
            .filter(|word| **word & LEAF == 0)
        {
            *word += nodes;
        }
        self.nodes.append(&mut v6.nodes);
        self.values.extend_from_slice(&v6.values[1..]);
        Self {
            v6: v6.v6,
            blocks: v6.blocks,
            lines: v6.lines,
            classes,
            ..self
        }
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
