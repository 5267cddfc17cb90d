//! What was changed in place says what a table built anew says, and planes agree.

mod zones;

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU16, AtomicU32},
};

use kordon_ebpf::{
    layout::{ASK, GROUP_BITS, GROUP_MASK, Generation, Nat64, PlaneLine, VERDICT_ACTION_SHIFT},
    plane::{leaf_v4, leaf_v6},
};

use super::*;
use crate::compile::{
    partition::Partition,
    plane::FlatPlanes,
    table::{FlatTable, Tier},
};

/// Classes of a test; two of each group.
const CLASSES: u32 = 8;
/// Verdict words by group: a pass, a drop, another pass, the first again. As many as there
/// are leaf codes, so that planes of any table have the same.
const WORDS: [u32; 4] = [100, 2 << VERDICT_ACTION_SHIFT | 101, 102, 100];

/// The parts of a table and its planes, with some room.
pub(super) struct Memory {
    v4: Vec<AtomicU32>,
    v6: Vec<AtomicU32>,
    blocks: Vec<AtomicU32>,
    table: FlatTable,
    tops_v4: Vec<AtomicU16>,
    tops_v6: Vec<AtomicU16>,
    plane_blocks: Vec<AtomicU16>,
    planes: FlatPlanes,
}

fn atomic(words: impl IntoIterator<Item = u32>) -> Vec<AtomicU32> {
    words.into_iter().map(AtomicU32::new).collect()
}

fn atomic16(words: impl IntoIterator<Item = u16>) -> Vec<AtomicU16> {
    words.into_iter().map(AtomicU16::new).collect()
}

fn grown<T: Clone>(mut part: Vec<T>, by: usize, with: T) -> Vec<T> {
    part.resize(part.len() + by, with);
    part
}

fn roomy(planes: FlatPlanes, room: usize) -> FlatPlanes {
    FlatPlanes {
        blocks_v4: grown(planes.blocks_v4, 4 * room, [0; 64]),
        lines: grown(planes.lines, 32 * room, PlaneLine::default()),
        ..planes
    }
}

impl Memory {
    /// Of a table and its planes, with some room.
    pub(super) fn of(table: FlatTable, planes: FlatPlanes, room: usize) -> Self {
        let blocks = table.blocks.as_flattened().iter().copied();
        let plane_blocks = planes.blocks_v6.as_flattened().iter().copied();
        Self {
            v4: atomic(table.v4.iter().copied()),
            v6: atomic(table.v6.iter().copied()),
            blocks: atomic(blocks.chain(vec![0; 256 * room])),
            tops_v4: atomic16(planes.v4.iter().copied()),
            tops_v6: atomic16(planes.v6.iter().copied()),
            plane_blocks: atomic16(plane_blocks.chain(vec![0; 4096 * room])),
            table: FlatTable {
                lines: grown(table.lines, 16 * room, Line::default()),
                nodes: grown(table.nodes, 16 * room, Node::default()),
                values: grown(table.values, 256 * room, 0),
                ..table
            },
            planes: roomy(planes, room),
        }
    }

    /// Other planes of the same table.
    pub(super) fn replace_planes(&mut self, planes: FlatPlanes, room: usize) {
        let blocks = planes.blocks_v6.as_flattened().iter().copied();
        self.plane_blocks = atomic16(blocks.chain(vec![0; 4096 * room]));
        self.tops_v4 = atomic16(planes.v4.iter().copied());
        self.tops_v6 = atomic16(planes.v6.iter().copied());
        self.planes = roomy(planes, room);
    }

    pub(super) fn live(&mut self) -> (LiveTable<'_>, LivePlanes<'_>) {
        (
            LiveTable {
                v4: &self.v4,
                v6: &self.v6,
                blocks: &self.blocks,
                lines: &mut self.table.lines,
                nodes: &mut self.table.nodes,
                values: &mut self.table.values,
            },
            LivePlanes {
                v4: &self.tops_v4,
                blocks_v4: &mut self.planes.blocks_v4,
                v6: &self.tops_v6,
                blocks_v6: &self.plane_blocks,
                lines: &mut self.planes.lines,
                zones: &self.planes.zones,
            },
        )
    }
}

struct World {
    memory: Memory,
    editor: Editor,
    fixed: Box<Generation<0>>,
    words: Vec<u32>,
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u32)>,
    /// Parts that were changed: of all others the planes ask from the beginning.
    changed: HashSet<(bool, u32)>,
}

impl World {
    fn new(room: usize, nat64: Vec<Nat64>) -> Self {
        let mut partition = Partition::default();
        (partition.v4, partition.v6) = (vec![(0, 0)], vec![(0, 0)]);
        let table = FlatTable::build(&partition).unwrap();
        let mut fixed: Box<Generation<0>> = bytemuck::zeroed_box();
        for (zone, base) in [(0, 0), (1, 4)] {
            fixed.zones[zone].settings = 1;
            fixed.zones[zone].verdict_base = base;
        }
        fixed.verdicts[..4].copy_from_slice(&WORDS);
        fixed.verdicts[4..8].copy_from_slice(&[WORDS[1], WORDS[0], WORDS[0], WORDS[2]]);
        fixed.nat64[..nat64.len()].copy_from_slice(&nat64);
        fixed.nat64_len = nat64.len() as u32;
        let words: Vec<u32> = (0..CLASSES)
            .map(|class| (class << GROUP_BITS) | (class / 2))
            .collect();
        // So that every group is there when planes choose their codes.
        let mut all = partition;
        all.v4 = (0..CLASSES).map(|class| (class << 24, class)).collect();
        let weights = FlatTable::build(&all).unwrap();
        let mut planes = FlatPlanes::build(&fixed, &words, &weights, Tier::Small);
        // Of the table that there is, by the editor itself.
        planes.blocks_v4 = grown(planes.blocks_v4, 2 * room, [0; 64]);
        planes.lines = grown(planes.lines, 32 * room, Default::default());
        let mut memory = Memory {
            v4: atomic(table.v4.iter().copied()),
            v6: atomic(table.v6.iter().copied()),
            blocks: atomic(vec![0; 256 * (room / 8).max(1)]),
            tops_v4: atomic16(vec![ASK as u16; 2 << 16]),
            tops_v6: atomic16(vec![1 << 15 | ASK as u16; 2 << 13]),
            plane_blocks: atomic16(vec![0; 4096 * (room / 8).max(1)]),
            table: FlatTable {
                lines: grown(table.lines, 16 * room, Line::default()),
                nodes: grown(table.nodes, 16 * room, Node::default()),
                values: grown(table.values, 256 * room, 0),
                ..table
            },
            planes,
        };
        let (live, planes) = memory.live();
        assert_eq!(planes.planes(), 2);
        let editor = Editor::new(&live, &planes, &fixed);
        Self {
            memory,
            editor,
            fixed,
            words,
            v4: vec![(0, 0)],
            v6: vec![(0, 0)],
            changed: HashSet::new(),
        }
    }

    /// Makes a range of one class, in the model and in the table.
    fn set_v4(&mut self, start: u32, end: u32, class: u32) -> Result<(), AmendError> {
        let before = self.v4.clone();
        set(&mut self.v4, start, end.checked_add(1), class);
        for top in start >> 16..=end >> 16 {
            let ranges = part(&self.v4, top << 16, top << 16 | 0xffff);
            if self.editor.is_short() {
                self.editor.reuse();
            }
            let (mut live, mut planes) = self.memory.live();
            let done = self.editor.set_v4(
                &mut live,
                &mut planes,
                Ground {
                    fixed: &self.fixed,
                    class_words: &self.words,
                },
                (top as u16, &ranges),
            );
            if let Err(e) = done {
                self.v4 = before;
                return Err(e);
            }
            assert_eq!(live.ranges_v4(top as u16), ranges);
            self.changed.insert((false, top));
        }
        Ok(())
    }

    fn set_v6(&mut self, start: u128, end: u128, class: u32) -> Result<(), AmendError> {
        let before = self.v6.clone();
        set(&mut self.v6, start, end.checked_add(1), class);
        for slot in start >> 96..=end >> 96 {
            let ranges = part(&self.v6, slot << 96, slot << 96 | u128::MAX >> 32);
            if self.editor.is_short() {
                self.editor.reuse();
            }
            let (mut live, mut planes) = self.memory.live();
            let done = self.editor.set_v6(
                &mut live,
                &mut planes,
                Ground {
                    fixed: &self.fixed,
                    class_words: &self.words,
                },
                (slot as u32, &ranges),
            );
            if let Err(e) = done {
                self.v6 = before;
                return Err(e);
            }
            assert_eq!(live.ranges_v6(slot as u32), ranges);
            self.changed.insert((true, slot as u32));
        }
        Ok(())
    }

    /// Every boundary. `whole`: planes say all that planes built anew say.
    fn check(&mut self, whole: bool) {
        let (v4, v6, words) = (self.v4.clone(), self.v6.clone(), self.words.clone());
        let mut partition = Partition::default();
        (partition.v4, partition.v6) = (v4.clone(), v6.clone());
        let fresh = FlatTable::build(&partition).unwrap();
        let fresh = FlatPlanes::build(&self.fixed, &self.words, &fresh, Tier::Large);
        let zones =
            [(0, 1), (4, 2)].map(|(base, fast)| (base, self.memory.planes.zones[fast].words));
        let fixed = &self.fixed;
        // A code says the verdict word that the class plane leads to.
        let says = |plane: u32, code: u32, class: u32| {
            let (base, fast): &(u32, [u32; 4]) = &zones[plane as usize];
            if code != ASK {
                let group = words[class as usize] & GROUP_MASK;
                let word = fixed.verdicts[(base + group) as usize];
                assert_eq!(fast[code as usize], word);
            }
        };
        let (live, planes) = self.memory.live();
        for &(start, class) in &v4 {
            assert_eq!(class_v4(&live, start), class, "{start:#x}");
            for plane in 0..2 {
                let code = leaf_v4(&planes, plane, start);
                says(plane, code, class);
                let fresh_code = leaf_v4(&fresh, plane, start);
                if whole && self.changed.contains(&(false, start >> 16)) && fresh_code != ASK {
                    assert_ne!(code, ASK, "{start:#x} asks");
                }
            }
        }
        for (at, &(start, class)) in v6.iter().enumerate() {
            let end = v6.get(at + 1).map_or(u128::MAX, |(next, _)| next - 1);
            for address in [start, end] {
                let high = (address >> 64) as u64;
                assert_eq!(class_v6(&live, high, address as u64), class, "{address:#x}");
                if high >> 61 == 1 {
                    for plane in 0..2 {
                        let code = leaf_v6(&planes, plane, high);
                        says(plane, code, class);
                        let fresh_code = leaf_v6(&fresh, plane, high);
                        let is_changed = self.changed.contains(&(true, (high >> 32) as u32));
                        if whole && is_changed && fresh_code != ASK {
                            assert_ne!(code, ASK, "{address:#x} asks");
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn set<A: Ord + Copy>(
    ranges: &mut Vec<(A, u32)>,
    start: A,
    next: Option<A>,
    class: u32,
) {
    let at = |ranges: &[(A, u32)], address: A| {
        ranges[ranges.partition_point(|(first, _)| *first <= address) - 1].1
    };
    let behind = next.map(|next| (next, at(ranges, next)));
    ranges.retain(|(first, _)| *first < start || next.is_some_and(|next| *first > next));
    ranges.push((start, class));
    ranges.extend(behind);
    ranges.sort_unstable();
    ranges.dedup_by_key(|range| range.1);
}

pub(super) fn part<A: Ord + Copy>(ranges: &[(A, u32)], first: A, last: A) -> Vec<(A, u32)> {
    let from = ranges.partition_point(|(start, _)| *start <= first) - 1;
    let to = ranges.partition_point(|(start, _)| *start <= last);
    let mut part = ranges[from..to].to_vec();
    part[0].0 = first;
    part
}

/// Addresses that share as much as those of the Internet do.
fn address_v6(rng: &mut fastrand::Rng) -> u128 {
    let top = [0x2001_u128, 0x2002, 0x2a00, 0x2a01, 0xfe80][rng.usize(..5)];
    let below = rng.u128(..) & rng.u128(..) & rng.u128(..);
    top << 112 | below >> 16
}

#[test]
fn in_place_is_as_built_anew() {
    let nat64 = Nat64 {
        prefix: kordon_ebpf::layout::Prefix {
            hi: 0x2a00_0064_ff9b_0000,
            lo: 0,
            hi_mask: u64::MAX,
            lo_mask: 0xffff_ffff_0000_0000,
        },
        length: 96,
        reserved: 0,
    };
    let mut world = World::new(256, vec![nat64]);
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..4000 {
        let class = rng.u32(..CLASSES);
        let done = if rng.bool() {
            let length = [8 + rng.u32(..9), 20 + rng.u32(..5), 25 + rng.u32(..8)][rng.usize(..3)];
            let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
            // 64 of /16.
            let start = (rng.u32(..64) << 24 | rng.u32(..) & 0xffff) & !hosts;
            world.set_v4(start, start | hosts, class)
        } else {
            let length = [
                28 + rng.u32(..4),
                32 + rng.u32(..17),
                48 + rng.u32(..16),
                128,
            ][rng.usize(..4)];
            let hosts = u128::MAX.checked_shr(length).unwrap_or(0);
            let start = address_v6(&mut rng) & !hosts;
            world.set_v6(start, start | hosts, class)
        };
        done.unwrap_or_else(|e| panic!("round {round}: {e}"));
        if round % 200 == 0 {
            world.check(true);
        }
    }
    world.check(true);
}

#[test]
fn what_does_not_fit_leaves_everything_as_it_was() {
    let mut world = World::new(2, Vec::new());
    let mut rng = fastrand::Rng::with_seed(8);
    let (mut full, mut fits) = (0, 0);
    for _ in 0..2000 {
        let class = rng.u32(..CLASSES);
        let start = rng.u32(..1 << 20) << 4;
        let mut results = vec![world.set_v4(start, start | 0xf, class)];
        let start = address_v6(&mut rng) & !0xffff;
        results.push(world.set_v6(start, start | 0xffff, class));
        for result in results {
            match result {
                Ok(()) => fits += 1,
                Err(AmendError::Full(_)) => full += 1,
                Err(e) => panic!("{e}"),
            }
        }
        world.editor.reuse();
    }
    world.check(false);
    assert!(full > 100 && fits > 100, "{full} {fits}");
}
