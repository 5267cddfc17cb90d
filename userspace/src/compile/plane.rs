//! Verdict planes, derived from what is going to be live: the class plane and the
//! verdict words of one generation. Never a second source of truth: nothing here
//! sees a policy, a database or a range.
//!
//! A zone's plane has a leaf code for each of its three most frequent verdict words,
//! and [`ASK`] for everything else, so zones with equal rules share one. Where a code does
//! not just pass there is the ordinal of the destination's ASN, too ([`origins`]). What
//! does not fit into a tier asks.

mod origins;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, ops::Range};

use kordon_ebpf::{
    layout::{
        ASK, CLASS_MASK, GATE_DROP_UNKNOWN, GATE_SOURCES_BY_RULES, GROUP_BITS, GROUP_MASK, Gate,
        Generation, LEAF, LINE_INNER, MAX_PORTS, MAX_ZONES, NO_CLASS, Nat64, Node, ORIGIN_ASK,
        PLANE_KEYS, PLANE_LEAF, PLANE_ORDINAL_ASK, PLANE_ORDINAL_SHIFT, PLANE_TREES, PlaneLine,
        Planes, Prefix, VALUE_ASK, VERDICT_ACTION_SHIFT, VERDICT_INDEX, VERDICT_STEPS,
        ZONE_SOURCES_LISTED, ZONE_SOURCES_UNCHECKED, Zone, tier,
    },
    plane::ReadPlanes,
    table::ReadTable,
};

use super::table::{Runs, Tier, line_keys, values_of};
pub(super) use origins::{Origins, line_word};

/// IPv4 blocks whose leaves are all of one code: block and code are the same.
pub(super) const UNIFORM: usize = 4;
/// Four leaves of one code.
const FOUR: u8 = 0b0101_0101;
/// Runs that a tree holds.
const MAX_RUNS: usize = (PLANE_KEYS + 1) * (PLANE_KEYS + 1);
/// Lines of the largest tree.
const MAX_LINES: usize = PLANE_KEYS + 2;
/// Verdicts that have a leaf code.
const CODES: usize = ASK as usize;

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
    pub gates: Vec<Gate>,
    /// By port.
    pub ports: Vec<u32>,
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
    /// Derives planes from a generation and its table, as far as they fit.
    #[must_use]
    pub fn build<T: ReadTable>(
        fixed: &Generation<0>,
        class_words: &[u32],
        table: &T,
        tier: Tier,
    ) -> Self {
        let room = tier.planes();
        let weights = weights(class_words, table);
        let planes = Self::with_origins(fixed, class_words, table, room, &weights, true);
        // Origins need more lines than codes alone. What passes must not suffer from it.
        if planes.lines.len() + MAX_LINES > room.lines.min(PLANE_TREES as usize) {
            return Self::with_origins(fixed, class_words, table, room, &weights, false);
        }
        planes
    }

    /// Derives planes. Whether IPv6 has origins.
    fn with_origins<T: ReadTable>(
        fixed: &Generation<0>,
        class_words: &[u32],
        table: &T,
        room: Room,
        weights: &[usize],
        origins_v6: bool,
    ) -> Self {
        let mut planes = Self::empty(fixed);
        let mut known: Vec<(Vec<u8>, [u32; 4])> = Vec::new();
        let mut shared = HashMap::new();
        let mut counted: Vec<Option<u16>> = vec![None; class_words.len()];
        for (id, zone) in fixed.zones.iter().enumerate() {
            let Some((words, codes)) = codes(fixed, zone, weights) else {
                continue;
            };
            // Codes alike, and they pass alike.
            let is_known = |known: &(Vec<u8>, [u32; 4])| {
                known.0 == codes && known.1.map(passes) == words.map(passes)
            };
            let plane = match known.iter().position(is_known) {
                Some(plane) => plane,
                None if known.len() == room.planes => continue,
                None => {
                    let answers: Vec<Answer> = class_words
                        .iter()
                        .map(|word| Answer::of(&codes, &words, *word))
                        .collect();
                    for (counted, answer) in counted.iter_mut().zip(&answers) {
                        *counted = counted.or(answer.origin);
                    }
                    let mut builder = Builder {
                        places: &mut Fresh {
                            planes: &mut planes,
                            shared: &mut shared,
                            room,
                        },
                        of_class: |class: u32| {
                            let mut answer = answers.get(class as usize).copied()?;
                            if !origins_v6 && answer.origin.is_some() {
                                answer.origin = Some(VALUE_ASK);
                            }
                            Some(answer)
                        },
                        table,
                        nat64: &fixed.nat64[..fixed.nat64_len as usize],
                        runs: Vec::new(),
                    };
                    let v4: Vec<u16> = (0..=u16::MAX)
                        .map(|top| builder.top_v4(top, table.root_v4(top)))
                        .collect();
                    let v6: Vec<u16> = (0..V6_TOPS)
                        .map(|top| builder.top_v6(top, table.root_v6(V6_FIRST | top)))
                        .collect();
                    planes.v4.extend(v4);
                    planes.v6.extend(v6);
                    known.push((codes, words));
                    known.len() - 1
                }
            };
            planes.gates[id + 1] = gate(fixed, zone, words, plane as u32);
        }
        let mut origins = Origins {
            table,
            counted: |class: u32| counted.get(class as usize).copied().flatten(),
            exact: false,
        };
        planes.origins_v4 = vec![ORIGIN_ASK; 1 << 16];
        for top in 0..=u16::MAX {
            let mut places = Fresh {
                planes: &mut planes,
                shared: &mut shared,
                room,
            };
            let word = origins.top_v4(&mut places, table.root_v4(top));
            planes.origins_v4[usize::from(top)] = word;
        }
        planes
    }

    /// Planes of a generation, of which nothing is built yet.
    fn empty(fixed: &Generation<0>) -> Self {
        let ports: Vec<u32> = (fixed.ports.iter())
            .map(|port| {
                let unknown = if port.drop_unknown == 0 {
                    0
                } else {
                    GATE_DROP_UNKNOWN
                };
                u32::from(port.vid_table) | unknown
            })
            .collect();
        debug_assert_eq!(ports.len(), MAX_PORTS);
        Self {
            number: fixed.number,
            gates: vec![CLOSED; MAX_ZONES + 1],
            ports,
            asn_pages: fixed.asn_pages.to_vec(),
            vids: fixed.vid_tables.to_vec(),
            v4: Vec::new(),
            blocks_v4: (0..UNIFORM as u8).map(|code| [FOUR * code; 64]).collect(),
            v6: Vec::new(),
            blocks_v6: Vec::new(),
            lines: Vec::new(),
            line_origins: Vec::new(),
            origins_v4: Vec::new(),
            nodes: Vec::new(),
            // The first is no node's: see `Node`.
            origins: vec![VALUE_ASK],
        }
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
    /// By the leaf codes of groups, and a gate's words.
    fn of(codes: &[u8], words: &[u32; 4], class_word: u32) -> Self {
        let code = codes.get((class_word & GROUP_MASK) as usize);
        Self::with(code.map_or(ASK as u8, |code| *code), words, class_word)
    }

    /// Of a class that has this code.
    pub(super) fn with(code: u8, words: &[u32; 4], class_word: u32) -> Self {
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

/// Whether a gate's word passes and does nothing else.
fn passes(word: u32) -> bool {
    word >> VERDICT_ACTION_SHIFT == 0
}

impl ReadPlanes for FlatPlanes {
    fn top_v4(&self, plane: u32, index: u16) -> Option<u16> {
        let index = plane as usize * 65536 + usize::from(index);
        self.v4.get(index).copied()
    }
    fn leaves_v4(&self, block: u16, index: u8) -> Option<u8> {
        let block = self.blocks_v4.get(usize::from(block))?;
        block.get(usize::from(index)).copied()
    }
    fn top_v6(&self, plane: u32, index: u16) -> Option<u16> {
        let index = plane as usize * 8192 + usize::from(index);
        self.v6.get(index).copied()
    }
    fn block_v6(&self, block: u16, index: u16) -> Option<u16> {
        let block = self.blocks_v6.get(usize::from(block))?;
        block.get(usize::from(index)).copied()
    }
    fn plane_line(&self, index: u16) -> Option<&PlaneLine> {
        self.lines.get(usize::from(index))
    }
    fn line_origin(&self, index: u16) -> Option<u32> {
        self.line_origins.get(usize::from(index)).copied()
    }
    fn origin_v4(&self, index: u16) -> u16 {
        self.origins_v4[usize::from(index)]
    }
    fn origin_node(&self, index: u16) -> Option<&Node> {
        self.nodes.get(usize::from(index))
    }
    fn origin(&self, index: u32) -> Option<u16> {
        self.origins.get(index as usize).copied()
    }
}

/// A gate without a short way.
const CLOSED: Gate = Gate {
    words: [VERDICT_STEPS; 4],
    plane: 0,
    asn_pages: 0,
    asn_pages_len: 0,
    asn_overflow: 0,
    net4: 0,
    mask4: u32::MAX as u64,
    net6: 0,
    mask6: u64::MAX,
};

fn gate(fixed: &Generation<0>, zone: &Zone, words: [u32; 4], plane: u32) -> Gate {
    let mut gate = Gate {
        words,
        plane,
        asn_pages: zone.asn_pages,
        asn_pages_len: zone.asn_pages_len,
        asn_overflow: zone.asn_overflow,
        ..CLOSED
    };
    if zone.flags & ZONE_SOURCES_LISTED != 0 {
        let first = |at: u16, len: u16| (len > 0).then(|| fixed.sources.get(at as usize)).flatten();
        if let Some(Prefix { lo, lo_mask, .. }) = first(zone.sources_v4, zone.sources_v4_len) {
            let raw = |half: u64| u64::from((half as u32).to_be());
            (gate.net4, gate.mask4) = (raw(*lo), raw(*lo_mask));
        }
        // The low half is not looked at.
        if let Some(prefix) = first(zone.sources_v6, zone.sources_v6_len)
            && prefix.lo_mask == 0
        {
            (gate.net6, gate.mask6) = (prefix.hi.to_be(), prefix.hi_mask.to_be());
        }
        return gate;
    }
    (gate.mask4, gate.mask6) = (0, 0);
    if zone.flags & ZONE_SOURCES_UNCHECKED == 0 {
        gate.plane |= GATE_SOURCES_BY_RULES;
    }
    gate
}

/// How often each group is found in the table.
fn weights<T: ReadTable>(class_words: &[u32], table: &T) -> Vec<usize> {
    let mut weights = Vec::new();
    let mut count = |word: u32| {
        if word & LEAF != 0
            && let Some(word) = class_words.get((word & CLASS_MASK) as usize)
        {
            let group = (word & GROUP_MASK) as usize;
            if weights.len() <= group {
                weights.resize(group + 1, 0);
            }
            weights[group] += 1;
        }
    };
    for top in 0..=u16::MAX {
        count(table.root_v4(top));
    }
    let mut index = 0;
    while let Some(word) = table.value(index) {
        count(word);
        index += 1;
    }
    weights
}

/// A zone's words by leaf code, passes first, and the leaf code of each group; `None`:
/// there is nothing that could have one.
fn codes(fixed: &Generation<0>, zone: &Zone, weights: &[usize]) -> Option<([u32; 4], Vec<u8>)> {
    // Every zone has some; free places have none.
    if zone.settings == 0 {
        return None;
    }
    let word = |group: u32| plain_word(fixed, zone.verdict_base, group);
    let mut found: HashMap<u32, usize> = HashMap::new();
    for (group, weight) in (0..).zip(weights) {
        if let Some(word) = word(group).filter(|_| *weight > 0) {
            *found.entry(word).or_default() += weight;
        }
    }
    let mut found: Vec<(u32, usize)> = found.into_iter().collect();
    found.sort_unstable_by_key(|&(word, weight)| (std::cmp::Reverse(weight), word));
    found.truncate(CODES);
    found.sort_by_key(|(word, _)| !passes(*word));
    if found.is_empty() {
        return None;
    }
    let mut words = CLOSED.words;
    for (code, (word, _)) in found.iter().enumerate() {
        words[code] = *word;
    }
    let codes = (0..weights.len() as u32)
        .map(|group| leaf_code(fixed, zone.verdict_base, &words, group))
        .collect();
    Some((words, codes))
}

/// The leaf code of a class for zones whose verdict words begin at `base` and whose gate
/// has these words.
pub(super) fn leaf_code(fixed: &Generation<0>, base: u32, words: &[u32; 4], class_word: u32) -> u8 {
    let word = plain_word(fixed, base, class_word & GROUP_MASK);
    let code = words[..CODES].iter().position(|known| word == Some(*known));
    code.unwrap_or(CODES) as u8
}

/// What a gate has of the verdict word of a group, if no rule looks at more.
fn plain_word(fixed: &Generation<0>, base: u32, group: u32) -> Option<u32> {
    let word = fixed.verdicts.get((base + group) as usize)?;
    let kept = word & (VERDICT_INDEX | 3 << VERDICT_ACTION_SHIFT | VERDICT_STEPS);
    (kept & VERDICT_STEPS == 0).then_some(kept)
}

/// Words of the IPv6 tops of one plane.
pub(super) const V6_TOPS: u16 = 1 << 13;
/// The first 16 bits of the first of them.
pub(super) const V6_FIRST: u16 = 0x2000;
/// A word of an IPv6 plane that asks.
pub(super) const ASKS: u16 = PLANE_LEAF | ASK as u16;

/// Where the parts of planes are put: behind each other into vectors, or into free
/// places of planes that are live. `None`: there is no room, and the plane asks.
pub(super) trait Places {
    /// An IPv4 block; equal ones may be one.
    fn block_v4(&mut self, block: &[u8; 64]) -> Option<u16>;
    /// An IPv6 block.
    fn block_v6(&mut self, block: &[u16; 4096]) -> Option<u16>;
    /// Lines, one after the other, with what is beside them.
    fn lines(&mut self, lines: &[Leaves]) -> Option<u16>;
    /// A node of IPv4 origins: each slot's ordinal.
    fn origin_node(&mut self, runs: &Runs) -> Option<u16>;
}

/// A line, and where its leaves are counted by ASN, ordinals.
pub(super) struct Leaves {
    pub(super) line: PlaneLine,
    pub(super) origins: [Option<u16>; PLANE_KEYS + 1],
}

/// Planes that are being built.
struct Fresh<'a> {
    planes: &'a mut FlatPlanes,
    /// IPv4 blocks that are there.
    shared: &'a mut HashMap<[u8; 64], u16>,
    room: Room,
}

impl Places for Fresh<'_> {
    fn block_v4(&mut self, packed: &[u8; 64]) -> Option<u16> {
        if let Some(block) = self.shared.get(packed) {
            return Some(*block);
        }
        if self.planes.blocks_v4.len() == self.room.blocks_v4 {
            return None;
        }
        let block = self.planes.blocks_v4.len() as u16;
        self.planes.blocks_v4.push(*packed);
        self.shared.insert(*packed, block);
        Some(block)
    }

    fn block_v6(&mut self, block: &[u16; 4096]) -> Option<u16> {
        if self.planes.blocks_v6.len() == self.room.blocks_v6 {
            return None;
        }
        self.planes.blocks_v6.push(*block);
        Some(self.planes.blocks_v6.len() as u16 - 1)
    }

    fn lines(&mut self, lines: &[Leaves]) -> Option<u16> {
        let at = self.planes.lines.len();
        if at + lines.len() > self.room.lines.min(PLANE_TREES as usize) {
            return None;
        }
        for leaves in lines {
            let origin = line_word(&leaves.origins, |ordinals| self.origins(ordinals));
            self.planes.lines.push(leaves.line);
            self.planes.line_origins.push(origin);
        }
        Some(at as u16)
    }

    fn origin_node(&mut self, runs: &Runs) -> Option<u16> {
        let index = self.planes.nodes.len();
        if index == self.room.nodes {
            return None;
        }
        let ordinals: Vec<u16> = runs.words().iter().map(|word| *word as u16).collect();
        let first = self.origins(&ordinals)?;
        self.planes.nodes.push(runs.node(first));
        Some(index as u16)
    }
}

impl Fresh<'_> {
    fn origins(&mut self, ordinals: &[u16]) -> Option<u32> {
        let at = self.planes.origins.len();
        if at + ordinals.len() > self.room.origins {
            return None;
        }
        self.planes.origins.extend_from_slice(ordinals);
        Some(at as u32)
    }
}

/// Makes the parts of one plane. `of_class`: what it says of a class.
pub(super) struct Builder<'a, T, P, C> {
    pub(super) places: &'a mut P,
    pub(super) of_class: C,
    pub(super) table: &'a T,
    pub(super) nat64: &'a [Nat64],
    /// Memory that is used again.
    pub(super) runs: Vec<(u64, Answer)>,
}

impl<T: ReadTable, P: Places, C: Fn(u32) -> Option<Answer>> Builder<'_, T, P, C> {
    /// What a word of the table comes to that ends a walk.
    fn answer(&self, word: u32) -> Answer {
        if word == NO_CLASS {
            return ASKING;
        }
        (self.of_class)(word & CLASS_MASK).unwrap_or(ASKING)
    }

    /// Its leaf code.
    fn code(&self, word: u32) -> u8 {
        self.answer(word).code
    }

    /// The block of a /16, of which this is the word of the table.
    pub(super) fn top_v4(&mut self, top: u16, word: u32) -> u16 {
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
    pub(super) fn top_v6(&mut self, top: u16, word: u32) -> u16 {
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
    pub(super) fn leaf_v6(&self, top: u16, word: u32) -> Option<u16> {
        let first = u64::from(V6_FIRST | top) << 48;
        match top {
            // 6to4: the address stands for another one.
            0x0002 => Some(ASKS),
            // Teredo is in it, and a prefix of NAT64 may be.
            0x0001 => None,
            _ if word & LEAF != 0 && !self.has_nat64(first, 16) => {
                Some(self.answer(word).short_leaf())
            }
            _ => None,
        }
    }

    /// The word of a /28 in a /16 of which this is the word of the table.
    pub(super) fn slot_v6(&mut self, top: u16, slot: u16, word: u32) -> u16 {
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
            None => self.answer(below).short_leaf(),
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
        let mut runs = std::mem::take(&mut self.runs);
        runs.clear();
        for (slot, word) in (0u64..).zip(words) {
            if word & LEAF != 0 {
                runs.push((slot << 32, self.answer(*word)));
            } else {
                self.walk(*word, slot << 32, &mut runs);
            }
        }
        runs.dedup_by_key(|run| run.1);
        // In units of /60; one in which a run begins elsewhere than at its first
        // address has several codes.
        let mut units: Vec<(u32, Answer)> = Vec::with_capacity(runs.len());
        for (at, (first, answer)) in runs.iter().enumerate() {
            let end = runs.get(at + 1).map_or(1 << 36, |(next, _)| *next);
            let unit = (first >> 4) as u32;
            if first & 15 != 0 && units.last().is_none_or(|(last, _)| *last != unit) {
                units.push((unit, ASKING));
            }
            let whole = first.div_ceil(16);
            if whole < end >> 4 {
                units.push((whole as u32, *answer));
            }
        }
        units.dedup_by_key(|unit| unit.1);
        self.runs = runs;
        self.lines(&units).unwrap_or(ASKS)
    }

    /// Ranges of a tree of the class plane: first address (36 bits) and answer.
    fn walk(&self, index: u32, first: u64, runs: &mut Vec<(u64, Answer)>) {
        let Some(line) = self.table.line(index) else {
            runs.push((first, ASKING));
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
            let answer = match self.table.value(child) {
                Some(word) if word & LEAF != 0 => self.answer(word),
                // Something is longer than /64.
                _ => ASKING,
            };
            runs.push((start, answer));
        }
    }

    /// A tree of one line, or of two levels with all children.
    fn lines(&mut self, units: &[(u32, Answer)]) -> Option<u16> {
        let width = PLANE_KEYS + 1;
        if let [(_, answer)] = units
            && let Some(leaf) = answer.leaf()
        {
            return Some(leaf);
        }
        if units.len() <= width {
            return self.places.lines(&[leaves(units)]);
        }
        if units.len() > MAX_RUNS {
            return None;
        }
        // All children are there: an unused key would be at or before the last unit.
        let share = |child: usize| child * units.len() / width;
        let children: Vec<Leaves> = (0..width)
            .map(|child| leaves(&units[share(child)..share(child + 1)]))
            .collect();
        let base = self.places.lines(&children)?;
        let mut root = PlaneLine::default();
        for (key, child) in root.words.iter_mut().zip(1..width) {
            *key = units[share(child)].0;
        }
        root.words[PLANE_KEYS] = u32::from(base);
        let root = Leaves {
            line: root,
            origins: [None; PLANE_KEYS + 1],
        };
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

/// At most sixteen units.
fn leaves(units: &[(u32, Answer)]) -> Leaves {
    let mut line = PlaneLine {
        words: [u32::MAX; PLANE_KEYS + 1],
    };
    let mut origins = [None; PLANE_KEYS + 1];
    let mut tail = 0;
    for (slot, origin) in origins.iter_mut().enumerate() {
        // An unused key is at the last unit: what is behind it is what is before it.
        let (first, answer) = units[slot.min(units.len() - 1)];
        tail |= u32::from(answer.code) << (2 * slot);
        *origin = answer.origin;
        if slot > 0 && slot < units.len() {
            line.words[slot - 1] = first;
        }
    }
    line.words[PLANE_KEYS] = tail;
    Leaves { line, origins }
}
