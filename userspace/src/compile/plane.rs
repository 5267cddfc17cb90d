//! Verdict planes, derived from what is going to be live: the class plane and the
//! verdict words of one generation. Never a second source of truth: nothing here
//! sees a policy, a database or a range.
//!
//! A zone's plane has a leaf code for each of its three most frequent verdict words,
//! and [`ASK`] for everything else, so zones with equal rules share one. Where a code does
//! not just pass there is the ordinal of the destination's ASN, too ([`origins`]). What
//! does not fit into a tier asks.

mod build;
mod fast;
mod fresh;
mod origins;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use kordon_ebpf::{
    layout::{
        ASK, FAST_DROP_UNKNOWN, FAST_SLOT_SHIFT, FastZone, GROUP_BITS, GROUP_MASK, Generation,
        LEAF, MAX_PORTS, MAX_ZONES, NO_CLASS, Nat64, Node, ORIGIN_ASK, PLANE_LEAF,
        PLANE_ORDINAL_ASK, PLANE_ORDINAL_SHIFT, PLANE_TREES, PlaneLine, Planes, VALUE_ASK,
        VERDICT_STEPS, tier,
    },
    table::ReadTable,
};

use super::{joined, table::Tier};
pub(super) use build::{ASKS, Builder, Leaves, Places, UNIFORM, V6_FIRST, V6_TOPS};
use build::{FOUR, MAX_LINES};
use fast::{CLOSED, codes, fast_zone, weights};
pub(super) use fast::{groups, leaf_code, passes};
use fresh::Fresh;
pub(super) use origins::{Origins, line_word};

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
    /// Nodes of IPv4 origins.
    pub nodes: usize,
    /// Ordinals of origins.
    pub origins: usize,
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

impl<
    const TOPS: usize,
    const BLOCKS4: usize,
    const BLOCKS6: usize,
    const LINES: usize,
    const NODES: usize,
    const ORIGINS: usize,
> HasRoom for Planes<TOPS, BLOCKS4, BLOCKS6, LINES, NODES, ORIGINS>
{
    const ROOM: Room = Room {
        planes: TOPS,
        blocks_v4: BLOCKS4,
        blocks_v6: BLOCKS6,
        lines: LINES,
        nodes: NODES,
        origins: ORIGINS,
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
    /// As [`Generation::asn_pages`].
    pub asn_pages: Vec<u32>,
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
    /// By line.
    pub line_origins: Vec<u32>,
    /// 65536 words.
    pub origins_v4: Vec<u16>,
    /// Nodes of IPv4 origins.
    pub nodes: Vec<Node>,
    /// Ordinals.
    pub origins: Vec<u16>,
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
            let plane = match known.iter().position(|known| known.is(&codes, &words)) {
                Some(plane) => plane,
                None if known.len() == room.planes => continue,
                None => {
                    known.push(Draft::new(codes, words, class_words));
                    known.len() - 1
                }
            };
            planes.zones[id + 1] = fast_zone(fixed, zone, words, plane as u32);
        }
        let nat64 = &fixed.nat64[..fixed.nat64_len as usize];
        std::thread::scope(|scope| {
            let v6 = scope.spawn(|| {
                let six = Self::empty(fixed).with_v6(&known, table, nat64, room, true);
                // Origins need more lines than codes alone. What passes must not suffer
                // from it.
                if six.lines.len() + MAX_LINES > room.lines.min(PLANE_TREES as usize) {
                    return Self::empty(fixed).with_v6(&known, table, nat64, room, false);
                }
                six
            });
            planes.add_v4(&known, table, nat64, room);
            planes.merge_v6(joined(v6), room);
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
                of_class: |class: u32| plane.answers.get(class as usize).copied(),
                table,
                nat64,
                runs: Vec::new(),
            };
            let tops: Vec<u16> = (0..=u16::MAX)
                .map(|top| builder.top_v4(top, table.root_v4(top)))
                .collect();
            self.v4.extend(tops);
        }
        let mut origins = Origins {
            table,
            counted: |class: u32| {
                let answers = known.iter().map(|plane| plane.answers.get(class as usize));
                answers.flatten().find_map(|answer| answer.origin)
            },
            exact: false,
        };
        for top in 0..=u16::MAX {
            let mut places = Fresh {
                planes: self,
                shared: &mut shared,
                room,
            };
            let word = origins.top_v4(&mut places, table.root_v4(top));
            self.origins_v4[usize::from(top)] = word;
        }
    }

    fn with_v6<T: ReadTable>(
        mut self,
        known: &[Draft],
        table: &T,
        nat64: &[Nat64],
        room: Room,
        origins: bool,
    ) -> Self {
        for plane in known {
            let mut builder = Builder {
                places: &mut Fresh {
                    planes: &mut self,
                    shared: &mut HashMap::new(),
                    room,
                },
                of_class: |class: u32| {
                    let mut answer = plane.answers.get(class as usize).copied()?;
                    if !origins && answer.origin.is_some() {
                        answer.origin = Some(VALUE_ASK);
                    }
                    Some(answer)
                },
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

    /// Takes IPv6 over from others, of which IPv4 is missing. Ordinals are in one place.
    fn merge_v6(&mut self, other: Self, room: Room) {
        let base = self.origins.len() as u32;
        let fits = self.origins.len() + other.origins.len() <= room.origins;
        (self.v6, self.blocks_v6, self.lines) = (other.v6, other.blocks_v6, other.lines);
        self.line_origins = other.line_origins;
        for word in self
            .line_origins
            .iter_mut()
            .filter(|word| **word & LEAF == 0)
        {
            *word = if fits { *word + base } else { NO_CLASS };
        }
        if fits {
            self.origins.extend(other.origins);
        }
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
            asn_pages: fixed.asn_pages.to_vec(),
            vids: fixed.vid_tables.to_vec(),
            v4: Vec::new(),
            blocks_v4: (0..UNIFORM as u8).map(|code| [FOUR * code; 64]).collect(),
            v6: Vec::new(),
            blocks_v6: Vec::new(),
            lines: Vec::new(),
            line_origins: Vec::new(),
            origins_v4: vec![ORIGIN_ASK; 1 << 16],
            nodes: Vec::new(),
            // The first is no node's: see `Node`.
            origins: vec![VALUE_ASK],
        }
    }
}

/// A plane, before it is built.
struct Draft {
    /// Leaf codes of groups.
    codes: Vec<u8>,
    /// The words of the fast zone of the first zone that it is for.
    words: [u32; 4],
    /// By class.
    answers: Vec<Answer>,
}

impl Draft {
    fn new(codes: Vec<u8>, words: [u32; 4], class_words: &[u32]) -> Self {
        let answers = class_words.iter();
        let answers = answers.map(|word| Answer::of(&codes, &words, *word));
        Self {
            answers: answers.collect(),
            codes,
            words,
        }
    }

    /// Whether it is for a zone, too: codes are alike, and they pass alike.
    fn is(&self, codes: &[u8], words: &[u32; 4]) -> bool {
        self.codes == codes && self.words.map(passes) == words.map(passes)
    }
}

/// What a plane says of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    code: u8,
    /// Where that does not just pass: the ordinal of the ASN, or [`VALUE_ASK`].
    origin: Option<u16>,
}

/// The class plane is asked.
const ASKING: Answer = Answer {
    code: ASK as u8,
    origin: None,
};

impl Answer {
    /// By the leaf codes of groups, and a fast zone's words.
    pub(super) fn of(codes: &[u8], words: &[u32; 4], class_word: u32) -> Self {
        let code = codes.get((class_word & GROUP_MASK) as usize);
        Self::with(code.map_or(ASK as u8, |code| *code), words, class_word)
    }

    /// Of a class that has this code.
    fn with(code: u8, words: &[u32; 4], class_word: u32) -> Self {
        let word = words[usize::from(code & 3)];
        let counted = word & VERDICT_STEPS == 0 && !passes(word);
        let ordinal = class_word >> GROUP_BITS;
        Self {
            code,
            origin: counted.then(|| u16::try_from(ordinal).unwrap_or(VALUE_ASK)),
        }
    }

    /// What is counted by the ASN.
    pub(super) fn origin(self) -> Option<u16> {
        self.origin
    }

    /// The word of an IPv6 plane that is no index; `None`: the ordinal has no room.
    fn leaf(self) -> Option<u16> {
        let ordinal = match self.origin {
            None => 0,
            Some(VALUE_ASK) => PLANE_ORDINAL_ASK,
            Some(ordinal) if ordinal < PLANE_ORDINAL_ASK => ordinal,
            Some(_) => return None,
        };
        Some(PLANE_LEAF | ordinal << PLANE_ORDINAL_SHIFT | u16::from(self.code))
    }

    /// As `leaf`; the ordinal is asked for where it has no room.
    fn short_leaf(self) -> u16 {
        let ask = Self {
            origin: self.origin.map(|_| VALUE_ASK),
            ..self
        };
        self.leaf().or_else(|| ask.leaf()).unwrap_or(ASKS)
    }
}
