//! The short way of a packet that passes: a gate and the verdict plane, no class.
//! It says what [`super::decide`] says, or nothing; proofs and tests hold them to
//! each other.
//!
//! Everything here is counted in instructions: what is rare is left to the longer
//! ways, and what can be folded into the plane when it is built (martians, special
//! destinations, rules with ports) is not looked at.

use crate::{
    layout::{
        GATE_DROP_UNKNOWN, GATE_SOURCES_BY_RULES, Gate, PlaneOutput, Planes, VERDICT_ACTION_SHIFT,
        VID_HAS_PAIRS, VID_ZONE,
    },
    opaque::opaque,
    packet::{Frame, View, is_tpid},
    plane::{ReadPlanes, leaf_v4, leaf_v6},
};

/// What the short way says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Express {
    /// Nothing: go on.
    Ask,
    /// No zone: passed, not counted.
    Unpoliced,
    /// Passed, counted in this slot.
    Pass(u32),
}

/// What a probe writes.
impl From<Express> for PlaneOutput {
    #[inline(always)]
    fn from(said: Express) -> Self {
        match said {
            Express::Ask => Self { said: 0, slot: 0 },
            Express::Unpoliced => Self { said: 1, slot: 0 },
            Express::Pass(slot) => Self { said: 2, slot },
        }
    }
}

/// Read access to gates.
pub trait ReadGates: ReadPlanes {
    /// Number of the generation, 0: none.
    fn number(&self) -> u64;
    /// Word of a port.
    fn gate_port(&self, port: u32) -> Option<u32>;
    /// Word of a VID in the table of a port's word.
    fn gate_vid(&self, port: u32, vid: u16) -> Option<u16>;
    /// A zone's gate, by its id + 1.
    fn gate(&self, zone: u32) -> Option<&Gate>;
}

impl<const TOPS: usize, const BLOCKS4: usize, const BLOCKS6: usize, const LINES: usize> ReadGates
    for Planes<TOPS, BLOCKS4, BLOCKS6, LINES>
{
    #[inline(always)]
    fn number(&self) -> u64 {
        self.number
    }
    #[inline(always)]
    fn gate_port(&self, port: u32) -> Option<u32> {
        self.ports.get(opaque(port as usize)).copied()
    }
    #[inline(always)]
    fn gate_vid(&self, port: u32, vid: u16) -> Option<u16> {
        let table = self.vids.get((port & 0xffff) as usize)?;
        Some(table[(vid & 0xfff) as usize])
    }
    #[inline(always)]
    fn gate(&self, zone: u32) -> Option<&Gate> {
        self.gates.get(opaque(zone as usize))
    }
}

/// Minimum length of an Ethernet frame with one tag, without its check sequence
/// (IEEE 802.3): up to here a frame may be longer than what is in it.
const PADDED: u64 = 64;

/// What is read of every frame: one tag and a plain IPv4 header.
const HEAD: usize = 18 + 20;

/// Judges a frame, or its first piece: a frame of which the first piece ends where
/// the packet ends has no other that could matter.
#[inline(always)]
pub fn express<F: Frame + ?Sized, P: ReadGates>(frame: &F, port: u32, planes: &P) -> Express {
    if planes.number() == 0 {
        return Express::Ask;
    }
    let (Some(head), Some(port)) = (frame.view::<HEAD>(0), planes.gate_port(port)) else {
        return Express::Ask;
    };
    let ethertype = head.u16(12);
    if is_tpid(ethertype) {
        selected::<18, _, _, _>(frame, &head, port, head.u16(14) & 0xfff, planes)
    } else {
        selected::<14, _, _, _>(frame, &head, port, 0, planes)
    }
}

/// The zone of a frame of which the headers begin at `AT`.
#[inline(always)]
fn selected<const AT: usize, F: Frame + ?Sized, V: View, P: ReadGates>(
    frame: &F,
    head: &V,
    port: u32,
    vid: u16,
    planes: &P,
) -> Express {
    let Some(word) = planes.gate_vid(port, vid) else {
        return Express::Ask;
    };
    let ethertype = head.u16(AT - 2);
    let zone = word & VID_ZONE;
    if zone == 0 {
        // A second tag may count where the first does not, or be one too many.
        if port & GATE_DROP_UNKNOWN != 0 || word != 0 || is_tpid(ethertype) {
            return Express::Ask;
        }
        return Express::Unpoliced;
    }
    let Some(gate) = planes.gate(zone as u32) else {
        return Express::Ask;
    };
    let code = match ethertype {
        0x0800 => v4::<AT, _, _, _>(frame, head, gate, planes),
        0x86dd => v6::<AT, _, _>(frame, gate, planes),
        _ => None,
    };
    match code {
        Some(code) => {
            let word = gate.words[code as usize & 3];
            if is_pass(word) {
                Express::Pass(word)
            } else {
                Express::Ask
            }
        }
        None => Express::Ask,
    }
}

/// No other action, and no step.
#[inline(always)]
fn is_pass(word: u32) -> bool {
    word >> VERDICT_ACTION_SHIFT == 0
}

#[inline(always)]
fn v4<const AT: usize, F: Frame + ?Sized, V: View, P: ReadGates>(
    frame: &F,
    head: &V,
    gate: &Gate,
    planes: &P,
) -> Option<u32> {
    let (len, end) = (frame.len() as u64, AT as u64 + head.u16(AT + 2) as u64);
    let proto = head.u8(AT + 9);
    let src = head.u32(AT + 12);
    // Version, length of the header, fragmentation.
    if head.u64(AT) & 0xff00_0000_0000_3fff != 0x4500_0000_0000_0000
        || !(proto == 17 || proto == 6 || proto == 1)
        || src == 0
        || (src ^ gate.net4) & gate.mask4 != 0
    {
        return None;
    }
    // Where the two are equal there is room for a header, because it was read.
    if end != len && (end > len || len > PADDED || end < AT as u64 + 20) {
        return None;
    }
    if gate.plane & GATE_SOURCES_BY_RULES != 0
        && !is_pass(gate.words[leaf_v4(planes, gate.plane & 0xffff, src) as usize & 3])
    {
        return None;
    }
    Some(leaf_v4(planes, gate.plane & 0xffff, head.u32(AT + 16)))
}

#[inline(always)]
fn v6<const AT: usize, F: Frame + ?Sized, P: ReadGates>(
    frame: &F,
    gate: &Gate,
    planes: &P,
) -> Option<u32> {
    let header = frame.view::<40>(AT as u32)?;
    let (len, end) = (frame.len() as u64, AT as u64 + 40 + header.u16(4) as u64);
    let proto = header.u8(6);
    let src = header.u64(8);
    let dst = header.u64(24);
    if header.u8(0) >> 4 != 6
        || !(proto == 17 || proto == 6)
        || dst >> 61 != 1
        || src == 0
        || (src ^ gate.net6) & gate.mask6 != 0
        || end != len && (end > len || len > PADDED)
    {
        return None;
    }
    if gate.plane & GATE_SOURCES_BY_RULES != 0
        && (src >> 61 != 1
            || !is_pass(gate.words[leaf_v6(planes, gate.plane & 0xffff, src) as usize & 3]))
    {
        return None;
    }
    Some(leaf_v6(planes, gate.plane & 0xffff, dst))
}

const _: () = assert!(VID_HAS_PAIRS & VID_ZONE == 0);
