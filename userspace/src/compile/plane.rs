//! Verdict planes, derived from what is going to be live: the class plane and the
//! verdict words of one generation. Never a second source of truth: nothing here
//! sees a policy, a database or a range.
//!
//! A zone's plane has a leaf code for each of its three most frequent verdict words,
//! and [`ASK`] for everything else, so zones with equal rules share one. What does not fit
//! into a tier asks.

mod build;
mod fast;
mod fresh;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use kordon_ebpf::{
    layout::{
        ASK, FAST_DROP_UNKNOWN, FAST_SLOT_SHIFT, FastZone, GROUP_MASK, Generation, MAX_PORTS,
        MAX_ZONES, Nat64, PlaneLine, Planes, tier,
    },
    table::ReadTable,
};

use super::{joined, table::Tier};
use build::FOUR;
pub(super) use build::{ASKS, Builder, Places, UNIFORM, V6_FIRST, V6_TOPS};
use fast::{CLOSED, codes, fast_zone, weights};
pub(super) use fast::{groups, leaf_code};
use fresh::Fresh;

/// How much of each part a tier has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Planes.
    pub planes: usize,
    /// IPv4 blocks.
    pub blocks_v4: usize,
    /// IPv6 direct blocks.
    pub blocks_v6: usize,
    /// IPv6 lines.
    pub lines: usize,
}

impl Tier {
    /// What fits into the planes of it.
    #[must_use]
    pub const fn planes(self) -> Room {
        match self {
            Self::Small => <tier::SmallPlanes as HasRoom>::ROOM,
            Self::Internet => <tier::InternetPlanes as HasRoom>::ROOM,
            Self::Large => <tier::LargePlanes as HasRoom>::ROOM,
        }
    }
}

/// Reads the sizes off the shared types.
trait HasRoom {
    const ROOM: Room;
}

impl<const TOPS: usize, const BLOCKS4: usize, const BLOCKS6: usize, const LINES: usize> HasRoom
    for Planes<TOPS, BLOCKS4, BLOCKS6, LINES>
{
    const ROOM: Room = Room {
        planes: TOPS,
        blocks_v4: BLOCKS4,
        blocks_v6: BLOCKS6,
        lines: LINES,
    };
}

/// [`Planes`] whose parts are as long as they need to be.
#[derive(Clone, Debug)]
pub struct FlatPlanes {
    /// Number of the generation that they are of.
    pub number: u64,
    /// By zone id + 1.
    pub zones: Vec<FastZone>,
    /// By port.
    pub ports: Vec<u64>,
    /// As [`Generation::vid_tables`].
    pub vids: Vec<[u16; 4096]>,
    /// 65536 words for each plane.
    pub v4: Vec<u16>,
    /// IPv4 blocks.
    pub blocks_v4: Vec<[u8; 64]>,
    /// 8192 words for each plane.
    pub v6: Vec<u16>,
    /// IPv6 direct blocks.
    pub blocks_v6: Vec<[u16; 4096]>,
    /// IPv6 trees.
    pub lines: Vec<PlaneLine>,
}

impl FlatPlanes {
    /// Derives planes from a generation and its table, as far as they fit; each family in
    /// a thread of its own.
    #[must_use]
    pub fn build<T: ReadTable + Sync>(
        fixed: &Generation<0>,
        class_words: &[u32],
        table: &T,
        tier: Tier,
    ) -> Self {
        let room = tier.planes();
        let weights = weights(class_words, table);
        let mut planes = Self::empty(fixed);
        let mut known: Vec<Draft> = Vec::new();
        for (id, zone) in fixed.zones.iter().enumerate() {
            let Some((words, codes)) = codes(fixed, zone, &weights) else {
                continue;
            };
            let plane = match known.iter().position(|known| known.codes == codes) {
                Some(plane) => plane,
                None if known.len() == room.planes => continue,
                None => {
                    known.push(Draft::new(codes, class_words));
                    known.len() - 1
                }
            };
            planes.zones[id + 1] = fast_zone(fixed, zone, words, plane as u32);
        }
        let nat64 = &fixed.nat64[..fixed.nat64_len as usize];
        std::thread::scope(|scope| {
            let v6 = scope.spawn(|| Self::empty(fixed).with_v6(&known, table, nat64, room));
            planes.add_v4(&known, table, nat64, room);
            let six = joined(v6);
            (planes.v6, planes.blocks_v6, planes.lines) = (six.v6, six.blocks_v6, six.lines);
        });
        planes
    }

    fn add_v4<T: ReadTable>(&mut self, known: &[Draft], table: &T, nat64: &[Nat64], room: Room) {
        let mut shared = HashMap::new();
        for plane in known {
            let mut builder = Builder {
                places: &mut Fresh {
                    planes: self,
                    shared: &mut shared,
                    room,
                },
                of_class: |class: u32| plane.of_class.get(class as usize).copied(),
                table,
                nat64,
                runs: Vec::new(),
            };
            let tops: Vec<u16> = (0..=u16::MAX)
                .map(|top| builder.top_v4(top, table.root_v4(top)))
                .collect();
            self.v4.extend(tops);
        }
    }

    fn with_v6<T: ReadTable>(
        mut self,
        known: &[Draft],
        table: &T,
        nat64: &[Nat64],
        room: Room,
    ) -> Self {
        for plane in known {
            let mut builder = Builder {
                places: &mut Fresh {
                    planes: &mut self,
                    shared: &mut HashMap::new(),
                    room,
                },
                of_class: |class: u32| plane.of_class.get(class as usize).copied(),
                table,
                nat64,
                runs: Vec::new(),
            };
            let tops: Vec<u16> = (0..V6_TOPS)
                .map(|top| builder.top_v6(top, table.root_v6(V6_FIRST | top)))
                .collect();
            self.v6.extend(tops);
        }
        self
    }

    /// Planes of a generation, of which nothing is built yet.
    fn empty(fixed: &Generation<0>) -> Self {
        let ports: Vec<u64> = (fixed.ports.iter())
            .map(|port| {
                let unknown = if port.drop_unknown == 0 {
                    0
                } else {
                    FAST_DROP_UNKNOWN
                };
                u64::from(port.vid_table)
                    | u64::from(unknown)
                    | u64::from(port.slot_base) << FAST_SLOT_SHIFT
            })
            .collect();
        debug_assert_eq!(ports.len(), MAX_PORTS);
        Self {
            number: fixed.number,
            zones: vec![CLOSED; MAX_ZONES + 1],
            ports,
            vids: fixed.vid_tables.to_vec(),
            v4: Vec::new(),
            blocks_v4: (0..UNIFORM as u8).map(|code| [FOUR * code; 64]).collect(),
            v6: Vec::new(),
            blocks_v6: Vec::new(),
            lines: Vec::new(),
        }
    }
}

/// A plane, before it is built.
struct Draft {
    /// Leaf codes of groups.
    codes: Vec<u8>,
    /// Of classes.
    of_class: Vec<u8>,
}

impl Draft {
    fn new(codes: Vec<u8>, class_words: &[u32]) -> Self {
        let of_class = class_words.iter().map(|word| class_code(&codes, *word));
        Self {
            of_class: of_class.collect(),
            codes,
        }
    }
}

/// The leaf code of a class, by those of groups.
pub(super) fn class_code(codes: &[u8], class_word: u32) -> u8 {
    let code = codes.get((class_word & GROUP_MASK) as usize);
    code.map_or(ASK as u8, |code| *code)
}
