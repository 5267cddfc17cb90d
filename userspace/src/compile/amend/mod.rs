//! Changes a few prefixes of a table that is live, in place.
//!
//! What is new is written into free places, where no program looks, and read back by the
//! lookup that programs use. One store of a word then links it: a packet sees the old or
//! the new, never half of either. Words of the root link an IPv4 /16, words of a direct
//! block an IPv6 /24, of which only one /32 is made anew. The verdict planes ask the class
//! plane while that happens.
//!
//! [`Editor`] knows which places are free, and nothing of maps: it is given what lies in
//! them as [`LiveTable`] and [`LivePlanes`]. What it cannot do ([`Full`]) is done by a
//! new table.

mod free;
mod live;
mod planes;
#[cfg(test)]
mod tests;

use kordon_ebpf::{
    layout::{CLASS_MASK, Generation, LEAF, Line, Nat64, Node},
    table::{ReadTable, class_v4, class_v6},
};

pub use self::live::{LivePlanes, LiveTable};
use self::{free::Free, planes::Planes};
use super::table::{Build, Cursor, Full, Parts, Runs};

/// What is to be in a table: all ranges of each part that changes, as in a partition.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// By the first 16 bits of an IPv4 address.
    pub v4: Vec<(u16, Vec<(u32, u32)>)>,
    /// By the first 32 bits of an IPv6 address.
    pub v6: Vec<(u32, Vec<(u128, u32)>)>,
}

/// Why a table was not changed further. What had been changed before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmendError {
    /// It has to be made anew, with more room.
    #[error(transparent)]
    Full(#[from] Full),
    /// What was written does not read back as what was meant. A defect of this program.
    #[error("what was built for {0:#x} is not what was asked for")]
    Wrong(u128),
}

/// A part of a table, as a place in [`Editor::free`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Nodes,
    Values,
    Blocks,
    Lines,
}

/// What says which verdicts classes have.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The live generation.
    pub fixed: &'a Generation<0>,
    /// Its class words.
    pub class_words: &'a [u32],
}

impl<'a> Ground<'a> {
    fn nat64(self) -> &'a [Nat64] {
        let all = &self.fixed.nat64;
        &all[..all.len().min(self.fixed.nat64_len as usize)]
    }
}

/// Knows the free places of a table and its planes.
pub struct Editor {
    free: [Free; 4],
    planes: Planes,
    build: Build,
    /// What the change under way has taken.
    taken: Vec<(Part, u32, u32)>,
}

impl Editor {
    /// Looks for the places that are used.
    #[must_use]
    pub fn new(table: &LiveTable<'_>, planes: &LivePlanes<'_>, fixed: &Generation<0>) -> Self {
        Self {
            free: table.used().map(|used| Free::of(&used)),
            planes: Planes::new(planes, fixed),
            build: Build::default(),
            taken: Vec::new(),
        }
    }

    /// The planes were written anew.
    pub fn new_planes(&mut self, planes: &LivePlanes<'_>, fixed: &Generation<0>) {
        self.planes = Planes::new(planes, fixed);
    }

    /// Makes the ranges of an IPv4 /16 these.
    ///
    /// # Errors
    /// When there is no room; then it is as it was.
    pub fn set_v4(
        &mut self,
        table: &mut LiveTable<'_>,
        planes: &mut LivePlanes<'_>,
        ground: Ground<'_>,
        (top, ranges): (u16, &[(u32, u32)]),
    ) -> Result<(), AmendError> {
        let first = u32::from(top) << 16;
        let word = self.build(table, |writer, build| {
            build.top_v4(writer, &mut Cursor::new(ranges), first)
        })?;
        let read = Linked {
            table,
            v4: word,
            v6: LEAF,
            part: LEAF,
        };
        let last = first | 0xffff;
        for (at, &(start, class)) in ranges.iter().enumerate() {
            let end = ranges.get(at + 1).map_or(last, |(next, _)| next - 1);
            if [start, end]
                .iter()
                .any(|&address| class_v4(&read, address) != class)
            {
                self.undo();
                return Err(AmendError::Wrong(start.into()));
            }
        }
        let old = table.root_v4(top);
        self.planes.ask_v4(planes, top);
        table.set_root_v4(top, word);
        self.planes.set_v4(planes, &*table, ground, top);
        self.taken.clear();
        let free = &mut self.free;
        table.walk_v4(old, &mut |part: Part, at, length| {
            free[part as usize].give(at, length);
        });
        Ok(())
    }

    /// Makes the ranges of an IPv6 /32 these.
    ///
    /// # Errors
    /// When there is no room; then it is as it was.
    pub fn set_v6(
        &mut self,
        table: &mut LiveTable<'_>,
        planes: &mut LivePlanes<'_>,
        ground: Ground<'_>,
        (slot, ranges): (u32, &[(u128, u32)]),
    ) -> Result<(), AmendError> {
        let first = u128::from(slot) << 96;
        let (top, part, place) = ((slot >> 16) as u16, (slot >> 8) as u8, slot as u8);
        let (root, old_part) = (table.root_v6(top), table.part_v6(top, part));
        let mut words = table.words(old_part);
        let old = words[usize::from(place)];
        let mut block = None;
        let word = self.build(table, |writer, build| {
            words[usize::from(place)] = build.slot_v6(writer, &mut Cursor::new(ranges), first)?;
            let word = if words[0] & LEAF != 0 && words.iter().all(|word| *word == words[0]) {
                words[0]
            } else {
                let mut runs = Runs::default();
                words
                    .iter()
                    .enumerate()
                    .for_each(|(at, word)| runs.push(at, *word));
                runs.put(writer)?
            };
            if root & LEAF != 0 {
                // Nothing in the /16 was told apart until now.
                let mut parts = [root; 256];
                parts[usize::from(part)] = word;
                block = Some(writer.block(&parts)?);
            }
            Ok(word)
        })?;
        let read = Linked {
            table,
            v4: LEAF,
            v6: 0,
            part: word,
        };
        let last = first | u128::MAX >> 32;
        for (at, &(start, class)) in ranges.iter().enumerate() {
            let end = ranges.get(at + 1).map_or(last, |(next, _)| next - 1);
            let class_of = |address: u128| class_v6(&read, (address >> 64) as u64, address as u64);
            if class_of(start) != class || class_of(end) != class {
                self.undo();
                return Err(AmendError::Wrong(start));
            }
        }
        // Planes have words for a /28.
        let index = block.is_none().then_some((slot >> 4 & 0xfff) as u16);
        self.planes.ask_v6(planes, top, index);
        match block {
            Some(block) => table.set_root_v6(top, block),
            None => table.set_part_v6(root, part, word),
        }
        self.planes.set_v6(planes, &*table, ground, top, index);
        self.taken.clear();
        let free = &mut self.free;
        let mut give = |part: Part, at, length| {
            free[part as usize].give(at, length);
        };
        table.visit_node(old_part, &mut give);
        table.walk_tree(old, &mut give);
        Ok(())
    }

    /// Builds something in free places; all or nothing.
    fn build(
        &mut self,
        table: &mut LiveTable<'_>,
        build: impl FnOnce(&mut Writer<'_, '_>, &mut Build) -> Result<u32, Full>,
    ) -> Result<u32, Full> {
        let mut writer = Writer {
            table,
            free: &mut self.free,
            taken: &mut self.taken,
        };
        let result = build(&mut writer, &mut self.build);
        if result.is_err() {
            self.undo();
        }
        result
    }

    fn undo(&mut self) {
        for (part, at, length) in self.taken.drain(..) {
            self.free[part as usize].undo(at, length);
        }
    }

    /// Whether it is time for a grace period, and [`Self::reuse`].
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.free.iter().any(Free::is_short) || self.planes.is_short()
    }

    /// A grace period has passed: no program is on its way to what was taken out before.
    pub fn reuse(&mut self) {
        self.free.iter_mut().for_each(Free::reuse);
        self.planes.reuse();
    }
}

/// Puts parts into free places.
struct Writer<'a, 'b> {
    table: &'a mut LiveTable<'b>,
    free: &'a mut [Free; 4],
    taken: &'a mut Vec<(Part, u32, u32)>,
}

impl Writer<'_, '_> {
    fn take(&mut self, part: Part, length: usize, name: &'static str) -> Result<usize, Full> {
        let length = length as u32;
        let at = self.free[part as usize].take(length).ok_or(Full(name))?;
        self.taken.push((part, at, length));
        Ok(at as usize)
    }
}

impl Parts for Writer<'_, '_> {
    fn node(&mut self, node: Node) -> Result<u32, Full> {
        let at = self.take(Part::Nodes, 1, "nodes")?;
        self.table.nodes[at] = node;
        Ok(at as u32)
    }

    fn values(&mut self, values: &[u32]) -> Result<u32, Full> {
        let at = self.take(Part::Values, values.len(), "values")?;
        self.table.values[at..][..values.len()].copy_from_slice(values);
        Ok(at as u32)
    }

    fn block(&mut self, block: &[u32; 256]) -> Result<u32, Full> {
        let at = self.take(Part::Blocks, 1, "IPv6 blocks")?;
        self.table.write_block(at, block);
        Ok(at as u32)
    }

    fn lines(&mut self, lines: &[Line]) -> Result<u32, Full> {
        let at = self.take(Part::Lines, lines.len(), "IPv6 lines")?;
        self.table.lines[at..][..lines.len()].copy_from_slice(lines);
        Ok(at as u32)
    }
}

/// A table in which one word is linked already, to be read before it is.
struct Linked<'a, 'b> {
    table: &'a LiveTable<'b>,
    /// Of every /16.
    v4: u32,
    /// Of every /16.
    v6: u32,
    /// Of every /24.
    part: u32,
}

impl ReadTable for Linked<'_, '_> {
    fn root_v4(&self, _: u16) -> u32 {
        self.v4
    }
    fn root_v6(&self, _: u16) -> u32 {
        self.v6
    }
    fn block(&self, _: u32, _: u8) -> Option<u32> {
        Some(self.part)
    }
    fn line(&self, index: u32) -> Option<&Line> {
        self.table.line(index)
    }
    fn node(&self, index: u32) -> Option<&Node> {
        self.table.node(index)
    }
    fn value(&self, index: u32) -> Option<u32> {
        self.table.value(index)
    }
}

/// Appends a range unless it goes on the last one.
fn push<A>(out: &mut Vec<(A, u32)>, start: A, word: u32) {
    let class = word & CLASS_MASK;
    if out.last().is_none_or(|&(_, last)| last != class) {
        out.push((start, class));
    }
}
