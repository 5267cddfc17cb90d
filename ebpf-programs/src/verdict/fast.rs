//! The fast path of almost every packet: its zone and the verdict plane say that it passes,
//! that it is dropped, or that only its destination's class is missing. It says what
//! [`super::decide`], the slow path, says, or nothing; proofs and tests hold them to each other.
//!
//! Everything here is counted in instructions: what is rare is left to the slow path, and what
//! can be folded into the plane when it is built (martians, special destinations, rules with
//! ports) is not looked at before the plane says "ask".

use super::{
    Known, Lines, ReadFast, Tables, Verdict,
    plain::{is_plain_v4, is_plain_v6_packet, v4, v6},
    zone_word,
};
use crate::{
    flow::{HEADERS_V6, HEADERS_ZONE_SHIFT, Headers},
    layout::{
        Action, FAST_DROP_UNKNOWN, FAST_RECORD_DROPS, FAST_RECORD_PASS, FAST_SLOT_SHIFT,
        FastOutput, FastZone, GROUP_MASK, Judged, NO_CLASS, VERDICT_ACTION_SHIFT, VERDICT_INDEX,
        VERDICT_STEPS, VID_HAS_PAIRS, VID_ZONE,
    },
    opaque,
    packet::{Address, Frame, View, is_isatap},
    seen::{By, Kind, slot},
};

/// What the fast path says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastPath {
    /// Nothing: go on.
    Ask,
    /// No zone: passed.
    Unpoliced {
        /// Counter slot of the interface.
        seen: u32,
    },
    /// Passed.
    Pass {
        /// Counter slot.
        slot: u32,
        /// Counter slot of the interface.
        seen: u32,
        /// What goes into the ledger.
        headers: Headers,
    },
    /// Dropped, or passed and reported.
    Counted {
        /// What happens to it.
        action: Action,
        /// Counter slot.
        slot: u32,
        /// Counter slot of the interface, for what passes.
        seen: u32,
        /// What goes into the ledger.
        headers: Headers,
    },
    /// There are two tags: [`stacked`] goes on from here.
    Stacked,
    /// Header and source are in order: [`by_class`] goes on from here.
    Destination(Destination),
}

impl Destination {
    /// Where the headers are.
    #[inline(always)]
    #[must_use]
    pub const fn headers(&self) -> Headers {
        let at = if self.v6 { self.at - 24 } else { self.at - 16 };
        headers(at, self.v6, self.zone)
    }
}

/// `zone`: id + 1.
#[inline(always)]
const fn headers(at: u32, v6: bool, zone: u32) -> Headers {
    let family = if v6 { HEADERS_V6 } else { 0 };
    at | family | zone.wrapping_sub(1) << HEADERS_ZONE_SHIFT
}

/// A destination of a packet whose header and source are in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Zone id + 1 in the generation of the planes.
    pub zone: u32,
    /// Where it is in the frame.
    pub at: u32,
    /// Whether it is an IPv6 address.
    pub v6: bool,
}

/// What a probe writes.
impl From<FastPath> for FastOutput {
    #[inline(always)]
    fn from(said: FastPath) -> Self {
        let (said, slot) = match said {
            FastPath::Ask | FastPath::Stacked | FastPath::Destination(_) => (0, 0),
            FastPath::Unpoliced { .. } => (1, 0),
            FastPath::Pass { slot, .. } => (2, slot),
            FastPath::Counted { action, slot, .. } => (action as u32 + 3, slot),
        };
        Self {
            said,
            slot,
            class: NO_CLASS,
        }
    }
}

/// What a probe writes of [`by_class`].
impl From<&Verdict> for FastOutput {
    #[inline(always)]
    fn from(verdict: &Verdict) -> Self {
        Self {
            said: verdict.action as u32 + 3,
            slot: verdict.slot,
            class: verdict.class,
        }
    }
}

/// Minimum length of an Ethernet frame with one tag, without its check sequence
/// (IEEE 802.3): up to here a frame may be longer than what is in it.
pub(super) const PADDED: u64 = 64;

/// What is read of every frame: one tag and a plain IPv4 header.
const HEAD: usize = 18 + 20;

/// Judges a frame, or its first piece: a frame of which the first piece ends where
/// the packet ends has no other that could matter, but for its length.
#[inline(always)]
pub fn fast_path<F: Frame + ?Sized, P: ReadFast, L: Lines>(
    frame: &F,
    port: u32,
    planes: &P,
    lines: &L,
) -> FastPath {
    if planes.number() == 0 {
        return FastPath::Ask;
    }
    let (Some(head), Some(port)) = (frame.view::<HEAD>(0), planes.fast_port(port)) else {
        return FastPath::Ask;
    };
    if is_raw_tpid(head.raw_u16(12)) {
        let vid = head.u16(14) & 0xfff;
        selected::<18, _, _, _, _>(frame, &head, port, vid, planes, lines)
    } else {
        selected::<14, _, _, _, _>(frame, &head, port, 0, planes, lines)
    }
}

/// As [`fast_path`], of a frame whose one tag is beside it, as tc has it.
#[inline(always)]
pub fn fast_path_beside<F: Frame + ?Sized, P: ReadFast>(
    frame: &F,
    port: u32,
    vid: u16,
    planes: &P,
) -> FastPath {
    match (frame.view::<HEAD>(0), planes.fast_port(port)) {
        (Some(head), Some(port)) if planes.number() != 0 => {
            selected::<14, _, _, _, _>(frame, &head, port, vid, planes, &())
        }
        _ => FastPath::Ask,
    }
}

/// Whether a tag follows; the ethertype as it stands in a frame.
#[inline(always)]
const fn is_raw_tpid(ethertype: u16) -> bool {
    ethertype == 0x8100u16.to_be()
        || ethertype == 0x88a8u16.to_be()
        || ethertype == 0x9100u16.to_be()
}

const RAW_IPV4: u16 = 0x0800u16.to_be();
const RAW_IPV6: u16 = 0x86ddu16.to_be();

/// The zone of a frame with one tag or none, of which the headers begin at `AT`.
#[inline(always)]
fn selected<const AT: usize, F: Frame + ?Sized, V: View, P: ReadFast, L: Lines>(
    frame: &F,
    head: &V,
    port: u64,
    vid: u16,
    planes: &P,
    lines: &L,
) -> FastPath {
    let Some(word) = planes.fast_vid(port, vid) else {
        return FastPath::Ask;
    };
    let zone = (word & VID_ZONE) as u32;
    if zone == 0 {
        // A second tag may count where the first does not, or be one too many.
        if word != 0 || is_raw_tpid(head.raw_u16(AT - 2)) {
            return tagged_again::<AT, _>(head);
        }
        return unpoliced::<AT, _>(head, port);
    }
    of_zone::<AT, _, _, _, _>(frame, head, port, zone, planes, lines)
}

/// A frame of no zone.
#[inline(always)]
fn unpoliced<const AT: usize, V: View>(head: &V, port: u64) -> FastPath {
    if port & FAST_DROP_UNKNOWN as u64 != 0 {
        return FastPath::Ask;
    }
    FastPath::Unpoliced {
        seen: seen::<AT, _>(head, port, By::NoZone),
    }
}

/// What is neither IPv4 nor IPv6 behind its tags.
#[inline(always)]
fn tagged_again<const AT: usize, V: View>(head: &V) -> FastPath {
    if AT == 18 && is_raw_tpid(head.raw_u16(AT - 2)) {
        FastPath::Stacked
    } else {
        FastPath::Ask
    }
}

/// As [`fast_path`], of a frame with two tags. `tables` is of the generation that the planes
/// were made of.
#[inline(always)]
pub fn stacked<F: Frame + ?Sized, P: ReadFast, T: Tables, L: Lines>(
    frame: &F,
    port: u32,
    planes: &P,
    tables: &T,
    lines: &L,
) -> FastPath {
    let (Some(head), Some(word), Some(port)) = (
        frame.view::<{ HEAD + 4 }>(0),
        planes.fast_port(port),
        tables.port(port),
    ) else {
        return FastPath::Ask;
    };
    let (outer, inner) = (head.u16(14) & 0xfff, head.u16(18) & 0xfff);
    // A tag without a VID does not count, and a third may.
    if outer == 0 || inner == 0 || is_raw_tpid(head.raw_u16(20)) {
        return FastPath::Ask;
    }
    match zone_word(tables, port.vid_table, outer, inner) {
        0 => unpoliced::<22, _>(&head, word),
        zone => of_zone::<22, _, _, _, _>(frame, &head, word, zone, planes, lines),
    }
}

/// The verdict on a frame of a zone (its id + 1), of which the headers begin at `AT`.
#[inline(always)]
fn of_zone<const AT: usize, F: Frame + ?Sized, V: View, P: ReadFast, L: Lines>(
    frame: &F,
    head: &V,
    port: u64,
    zone: u32,
    planes: &P,
    lines: &L,
) -> FastPath {
    let Some(fast) = planes.fast_zone(zone) else {
        return FastPath::Ask;
    };
    let place = |v6| headers(AT as u32, v6, zone);
    let (found, at, v6) = match head.raw_u16(AT - 2) {
        RAW_IPV4 => {
            if !is_plain_v4::<AT, _, _>(frame, head, fast) {
                return FastPath::Ask;
            }
            let known = known::<false, _, _, _>(lines, frame, fast, planes, place(false));
            let code = || v4::<AT, _, _>(head, fast, planes);
            (
                known.map_or_else(|| Found::from(code()), Found::Known),
                AT + 16,
                false,
            )
        }
        RAW_IPV6 => {
            if !is_plain_v6_packet::<AT, _>(frame, fast) {
                return FastPath::Ask;
            }
            let known = known::<true, _, _, _>(lines, frame, fast, planes, place(true));
            let code = || v6::<AT, _, _>(frame, fast, planes);
            (
                known.map_or_else(|| Found::from(code()), Found::Known),
                AT + 24,
                true,
            )
        }
        _ => return tagged_again::<AT, _>(head),
    };
    let code = match found {
        Found::Ask => return FastPath::Ask,
        Found::Code(code) => code,
        Found::Known(Known { slot, is_dropped }) => {
            return FastPath::Counted {
                action: if is_dropped {
                    Action::Drop
                } else {
                    Action::Pass
                },
                slot,
                seen: seen::<AT, _>(head, port, By::Zone),
                headers: 0,
            };
        }
    };
    // The most frequent verdict is a branch of its own: where the counter is then does
    // not depend on what was looked up, and the next packet need not wait for it.
    let most = opaque::apart(fast.words[0] as u64) as u32;
    if code == 0 && is_pass(most) {
        return FastPath::Pass {
            slot: most,
            seen: seen::<AT, _>(head, port, By::Zone),
            headers: recorded(fast, FAST_RECORD_PASS, place(v6)),
        };
    }
    let word = fast.words[code as usize & 3];
    if is_pass(word) {
        return FastPath::Pass {
            slot: word,
            seen: seen::<AT, _>(head, port, By::Zone),
            headers: recorded(fast, FAST_RECORD_PASS, place(v6)),
        };
    }
    if word & VERDICT_STEPS == 0 {
        return FastPath::Counted {
            action: Action::from_bits(word >> VERDICT_ACTION_SHIFT),
            slot: word & VERDICT_INDEX,
            seen: seen::<AT, _>(head, port, By::Zone),
            headers: recorded(fast, FAST_RECORD_DROPS, place(v6)),
        };
    }
    FastPath::Destination(Destination {
        zone,
        at: at as u32,
        v6,
    })
}

/// What is found of a packet.
enum Found {
    /// The slow path must be taken.
    Ask,
    /// A leaf code.
    Code(u32),
    /// What became of the packet before.
    Known(Known),
}

impl From<Option<u32>> for Found {
    #[inline(always)]
    fn from(code: Option<u32>) -> Self {
        code.map_or(Self::Ask, Self::Code)
    }
}

/// What became of packets of this flow, where all of them are recorded.
#[inline(always)]
fn known<const V6: bool, L: Lines, F: Frame + ?Sized, P: ReadFast>(
    lines: &L,
    frame: &F,
    fast: &FastZone,
    planes: &P,
    headers: Headers,
) -> Option<Known> {
    // Whoever wants what passes wants what does not.
    if fast.plane & FAST_RECORD_PASS != 0 {
        lines.known::<V6, F>(frame, headers, planes.settled())
    } else {
        None
    }
}

/// Where the headers are, of what a zone records.
#[inline(always)]
fn recorded(fast: &FastZone, what: u32, headers: Headers) -> Headers {
    if fast.plane & what == 0 { 0 } else { headers }
}

/// The interface's counter of a frame that passes.
#[inline(always)]
fn seen<const AT: usize, V: View>(head: &V, port: u64, by: By) -> u32 {
    let kind = match AT {
        14 => Kind::Untagged,
        18 => Kind::of(head.u16(12), 0),
        _ => Kind::of(head.u16(12), head.u16(16)),
    };
    (port >> FAST_SLOT_SHIFT) as u32 + slot(by, kind)
}

/// The verdict on a packet of which only the destination's class is missing; `None`:
/// the destination is special, or rules look at more than it. `tables` is of the
/// generation that the planes were made of.
#[inline(always)]
pub fn by_class<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    destination: Destination,
    tables: &T,
) -> Option<Verdict> {
    let zone = tables.zone(destination.zone.wrapping_sub(1))?;
    let at = opaque::index(destination.at as usize) as u32;
    let address = if destination.v6 {
        let bytes = frame.view::<16>(at)?;
        Address::v6(bytes.u64(0), bytes.u64(8))
    } else {
        Address::v4(frame.view::<4>(at)?.u32(0))
    };
    let special = if address.v6 {
        !is_plain_v6(address) || tables.nat64_len() != 0
    } else {
        address.lo == 0xffff_ffff || address.is_martian()
    };
    if special {
        return None;
    }
    let class = tables.class(address);
    let class_word = tables.class_word(class)?;
    let word = tables.verdict(zone.verdict_base + (class_word & GROUP_MASK))?;
    if word & VERDICT_STEPS != 0 {
        return None;
    }
    Some(Verdict {
        action: Action::from_bits(word >> VERDICT_ACTION_SHIFT & 3),
        slot: word & VERDICT_INDEX,
        class,
        judged: Judged::Destination,
        noted: 0,
        slot_base: zone.slot_base,
    })
}

/// Global unicast that stands for itself alone: 2000::/3 without Teredo, 6to4 and ISATAP.
#[inline(always)]
fn is_plain_v6(address: Address) -> bool {
    address.hi >> 61 == 1
        && address.hi >> 48 != 0x2002
        && address.hi >> 32 != 0x2001_0000
        && !is_isatap(address.lo)
}

/// No other action, and no step.
#[inline(always)]
pub(super) fn is_pass(word: u32) -> bool {
    word >> VERDICT_ACTION_SHIFT == 0
}

const _: () = assert!(VID_HAS_PAIRS & VID_ZONE == 0);
const _: () = assert!(Action::Pass as u32 == 0);
