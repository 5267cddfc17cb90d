//! The verdict planes during a change in place: the part that changes says "ask", and is derived again
//! from the new table.

use std::collections::HashMap;

use kordon_ebpf::{
    layout::{ASK, FAST_PLANE, Generation, PLANE_LEAF, PLANE_TREES, PlaneLine},
    plane::ReadPlanes,
    table::ReadTable,
};

use super::{Ground, free::Free, live::LivePlanes};
use crate::compile::plane::{
    ASKS, Builder, Places, UNIFORM, V6_FIRST, V6_TOPS, class_code, groups, leaf_code,
};

/// Lines below an inner one.
const CHILDREN: u32 = 16;

/// Free places of planes, and how often each shared block is used.
pub(super) struct Planes {
    /// By plane: leaf codes of groups.
    codes: Vec<Vec<u8>>,
    spare: Spare,
    runs: Vec<(u64, u8)>,
}

/// Free places of each part.
struct Spare {
    shared: Shared,
    blocks_v6: Free,
    lines: Free,
}

/// What a plane says of groups: what all its zones say. Where they differ, and where only one of
/// them has a word in its fast zone, that the class plane is asked. Zones came to share the plane for
/// the groups that the table had then; changes bring others.
fn codes_of(live: &LivePlanes<'_>, fixed: &Generation<0>, plane: usize) -> Vec<u8> {
    let zones: Vec<(u32, &[u32; 4])> = (live.zones.iter().skip(1).zip(&fixed.zones))
        .filter(|(fast, _)| fast.is_open())
        .filter(|(fast, _)| (fast.plane & FAST_PLANE) as usize == plane)
        .map(|(fast, zone)| (zone.verdict_base, &fast.words))
        .collect();
    let Some((first, others)) = zones.split_first() else {
        return Vec::new();
    };
    let code_of = |group| {
        let code = leaf_code(fixed, first.0, first.1, group);
        let is_alike =
            |(base, words): &(u32, &[u32; 4])| leaf_code(fixed, *base, words, group) == code;
        if others.iter().all(is_alike) {
            code
        } else {
            ASK as u8
        }
    };
    (0..groups(fixed)).map(code_of).collect()
}

/// IPv4 blocks; equal ones are one.
struct Shared {
    uses: Vec<u32>,
    known: HashMap<[u8; 64], u16>,
    free: Free,
}

impl Shared {
    fn release(&mut self, blocks: &[[u8; 64]], block: u16) {
        let Some(uses) = self.uses.get_mut(usize::from(block)) else {
            return;
        };
        *uses = uses.saturating_sub(1);
        if *uses == 0 && usize::from(block) >= UNIFORM {
            self.known.remove(&blocks[usize::from(block)]);
            self.free.give(block.into(), 1);
        }
    }
}

impl Planes {
    pub(super) fn new(live: &LivePlanes<'_>, fixed: &Generation<0>) -> Self {
        let codes: Vec<Vec<u8>> = (0..live.planes())
            .map(|plane| codes_of(live, fixed, plane))
            .collect();
        let mut uses = vec![0; live.blocks_v4.len()];
        let mut blocks_v6 = vec![false; live.blocks_v6.len() >> 12];
        let mut lines = vec![false; live.lines.len()];
        for plane in 0..codes.len() as u32 {
            for top in 0..=u16::MAX {
                if let Some(block) = live.top_v4(plane, top)
                    && let Some(uses) = uses.get_mut(usize::from(block))
                {
                    *uses += 1;
                }
            }
            for top in 0..V6_TOPS {
                let Some(block) = live.top_v6(plane, top).filter(|w| w & PLANE_LEAF == 0) else {
                    continue;
                };
                if let Some(used) = blocks_v6.get_mut(usize::from(block)) {
                    *used = true;
                }
                for index in 0..4096 {
                    let word = live.block_v6(block, index).unwrap_or(ASKS);
                    for (at, length) in lines_of(live, word).into_iter().flatten() {
                        if let Some(used) = lines.get_mut(at as usize..(at + length) as usize) {
                            used.fill(true);
                        }
                    }
                }
            }
        }
        let used: Vec<bool> = uses
            .iter()
            .enumerate()
            .map(|(block, uses)| block < UNIFORM || *uses > 0)
            .collect();
        // Words have room for no more.
        lines.truncate(PLANE_TREES as usize);
        let known = (UNIFORM..uses.len())
            .filter(|block| uses[*block] > 0)
            .map(|block| (live.blocks_v4[block], block as u16))
            .collect();
        Self {
            codes,
            spare: Spare {
                shared: Shared {
                    uses,
                    known,
                    free: Free::of(&used),
                },
                blocks_v6: Free::of(&blocks_v6),
                lines: Free::of(&lines),
            },
            runs: Vec::new(),
        }
    }

    /// From here on the class plane is asked.
    pub(super) fn ask_v4(&mut self, live: &LivePlanes<'_>, top: u16) {
        for plane in 0..self.codes.len() {
            let block = live.set_top_v4(plane, top, ASK as u16);
            self.spare.shared.release(live.blocks_v4, block);
        }
    }

    /// Derives a /16 of all planes from a table.
    pub(super) fn set_v4<T: ReadTable>(
        &mut self,
        live: &mut LivePlanes<'_>,
        table: &T,
        ground: Ground<'_>,
        top: u16,
    ) {
        for plane in 0..self.codes.len() {
            let block = self.with(live, table, ground, plane, |builder| {
                builder.top_v4(top, table.root_v4(top))
            });
            if let Some(uses) = self.spare.shared.uses.get_mut(usize::from(block)) {
                *uses += 1;
            }
            live.set_top_v4(plane, top, block);
        }
    }

    /// From here on the class plane is asked: for a /28, or `None`: a whole /16.
    pub(super) fn ask_v6(&mut self, live: &LivePlanes<'_>, top: u16, index: Option<u16>) {
        let Some(top) = below(top) else { return };
        for plane in 0..self.codes.len() {
            let word = live.top_v6(plane as u32, top).unwrap_or(ASKS);
            match index {
                Some(index) if word & PLANE_LEAF == 0 => {
                    let old = live.set_slot_v6(word, index, ASKS);
                    self.give_lines(live, old);
                }
                _ => {
                    live.set_top_v6(plane, top, ASKS);
                    self.give_block(live, word);
                }
            }
        }
    }

    /// Derives a /28, or a whole /16, of all planes from a table.
    pub(super) fn set_v6<T: ReadTable>(
        &mut self,
        live: &mut LivePlanes<'_>,
        table: &T,
        ground: Ground<'_>,
        top: u16,
        index: Option<u16>,
    ) {
        let root = table.root_v6(top);
        let Some(top) = below(top) else { return };
        for plane in 0..self.codes.len() {
            let word = live.top_v6(plane as u32, top).unwrap_or(ASKS);
            match index {
                Some(index) if word & PLANE_LEAF == 0 => {
                    let slot = self.with(live, table, ground, plane, |builder| {
                        builder.slot_v6(top, index, root)
                    });
                    live.set_slot_v6(word, index, slot);
                }
                _ => {
                    let word = self.with(live, table, ground, plane, |builder| {
                        builder.top_v6(top, root)
                    });
                    live.set_top_v6(plane, top, word);
                }
            }
        }
    }

    fn with<T: ReadTable, O>(
        &mut self,
        live: &mut LivePlanes<'_>,
        table: &T,
        ground: Ground<'_>,
        plane: usize,
        build: impl FnOnce(&mut Builder<'_, T, Writer<'_, '_>, &dyn Fn(u32) -> Option<u8>>) -> O,
    ) -> O {
        let codes = &self.codes[plane];
        let of_class = |class: u32| {
            let word = ground.class_words.get(class as usize)?;
            Some(class_code(codes, *word))
        };
        let mut builder = Builder {
            places: &mut Writer {
                live,
                spare: &mut self.spare,
            },
            of_class: &of_class as &dyn Fn(u32) -> Option<u8>,
            table,
            nat64: ground.nat64(),
            runs: std::mem::take(&mut self.runs),
        };
        let out = build(&mut builder);
        self.runs = builder.runs;
        out
    }

    fn give_block(&mut self, live: &LivePlanes<'_>, word: u16) {
        if word & PLANE_LEAF == 0 {
            for index in 0..4096 {
                let slot = live.block_v6(word, index).unwrap_or(ASKS);
                self.give_lines(live, slot);
            }
            self.spare.blocks_v6.give(word.into(), 1);
        }
    }

    fn give_lines(&mut self, live: &LivePlanes<'_>, word: u16) {
        for (at, length) in lines_of(live, word).into_iter().flatten() {
            self.spare.lines.give(at, length);
        }
    }

    pub(super) fn is_short(&self) -> bool {
        let spare = &self.spare;
        spare.shared.free.is_short() || spare.blocks_v6.is_short() || spare.lines.is_short()
    }

    pub(super) fn reuse(&mut self) {
        self.spare.shared.free.reuse();
        self.spare.blocks_v6.reuse();
        self.spare.lines.reuse();
    }
}

/// A /16 of the planes, which have 2000::/3 only.
fn below(top: u16) -> Option<u16> {
    (top & !(V6_TOPS - 1) == V6_FIRST).then_some(top & (V6_TOPS - 1))
}

/// Lines that a word of a direct block leads to.
fn lines_of(live: &LivePlanes<'_>, word: u16) -> [Option<(u32, u32)>; 2] {
    if word & PLANE_LEAF != 0 {
        return [None; 2];
    }
    let index = word & (PLANE_TREES - 1);
    let children = (word & PLANE_TREES != 0)
        .then(|| live.plane_line(index).map(|root| (root.tail(), CHILDREN)))
        .flatten();
    [Some((index.into(), 1)), children]
}

/// Puts parts into free places.
struct Writer<'a, 'b> {
    live: &'a mut LivePlanes<'b>,
    spare: &'a mut Spare,
}

impl Places for Writer<'_, '_> {
    fn block_v4(&mut self, block: &[u8; 64]) -> Option<u16> {
        if let Some(known) = self.spare.shared.known.get(block) {
            return Some(*known);
        }
        let at = self.spare.shared.free.take(1)?;
        self.live.blocks_v4[at as usize] = *block;
        self.spare.shared.known.insert(*block, at as u16);
        Some(at as u16)
    }

    fn block_v6(&mut self, block: &[u16; 4096]) -> Option<u16> {
        let at = self.spare.blocks_v6.take(1)?;
        self.live.write_block_v6(at as usize, block);
        Some(at as u16)
    }

    fn lines(&mut self, lines: &[PlaneLine]) -> Option<u16> {
        let at = self.spare.lines.take(lines.len() as u32)?;
        self.live.lines[at as usize..][..lines.len()].copy_from_slice(lines);
        Some(at as u16)
    }
}
