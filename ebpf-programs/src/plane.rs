//! The verdict plane: destination -> leaf code, for one set of rules.
//!
//! It is derived from the class plane and the verdict words of one generation and
//! answers the same question in a fraction of the memory, so that it stays in the
//! cache. A leaf has two bits: one of the three most frequent verdict words of the
//! rules, or [`ASK`]: then the class plane is asked. What is longer than /24 or
//! /60, special, or not worth a leaf, is [`ASK`]. It may be absent, whole or in
//! part, without any loss but speed.
//!
//! Generic over how the parts are read, as [`crate::table`] is.

use crate::{
    layout::{ASK, PLANE_LEAF, PLANE_TREES, PlaneLine, Planes},
    opaque,
    table::rank,
};

/// Read access to the parts of [`Planes`]. Indices out of range give `None`.
pub trait ReadPlanes {
    /// Block of the first 16 bits of an IPv4 address.
    fn top_v4(&self, plane: u32, index: u16) -> Option<u16>;
    /// Four leaves; `index` is below 64.
    fn leaves_v4(&self, block: u16, index: u8) -> Option<u8>;
    /// Word of the first 16 bits of an address in 2000::/3; `index` is below 8192.
    fn top_v6(&self, plane: u32, index: u16) -> Option<u16>;
    /// Word of the next 12 bits; `index` is below 4096.
    fn block_v6(&self, block: u16, index: u16) -> Option<u16>;
    /// A line.
    fn plane_line(&self, index: u16) -> Option<&PlaneLine>;
}

impl<const TOPS: usize, const BLOCKS4: usize, const BLOCKS6: usize, const LINES: usize> ReadPlanes
    for Planes<TOPS, BLOCKS4, BLOCKS6, LINES>
{
    #[inline(always)]
    fn top_v4(&self, plane: u32, index: u16) -> Option<u16> {
        let top = self.v4.get(opaque::index(plane as usize))?;
        Some(top[index as usize])
    }
    #[inline(always)]
    fn leaves_v4(&self, block: u16, index: u8) -> Option<u8> {
        let block = self.blocks4.get(block as usize)?;
        Some(block[(index & 63) as usize])
    }
    #[inline(always)]
    fn top_v6(&self, plane: u32, index: u16) -> Option<u16> {
        let top = self.v6.get(opaque::index(plane as usize))?;
        Some(top[(index & 0x1fff) as usize])
    }
    #[inline(always)]
    fn block_v6(&self, block: u16, index: u16) -> Option<u16> {
        let block = self.blocks6.get(block as usize)?;
        Some(block[(index & 0xfff) as usize])
    }
    #[inline(always)]
    fn plane_line(&self, index: u16) -> Option<&PlaneLine> {
        self.lines.get(opaque::index(index as usize))
    }
}

/// The leaf code of an IPv4 address (host byte order).
#[inline(always)]
pub fn leaf_v4<P: ReadPlanes>(planes: &P, plane: u32, address: u32) -> u32 {
    let address = address as u64;
    let Some(block) = planes.top_v4(plane, (address >> 16) as u16) else {
        return ASK;
    };
    let Some(leaves) = planes.leaves_v4(block, (address >> 10) as u8 & 63) else {
        return ASK;
    };
    (leaves as u64 >> (address >> 7 & 6)) as u32 & 3
}

/// The leaf code of an IPv6 address in 2000::/3, of which the high half is
/// enough (host byte order).
#[inline(always)]
pub fn leaf_v6<P: ReadPlanes>(planes: &P, plane: u32, high: u64) -> u32 {
    let Some(top) = planes.top_v6(plane, (high >> 48) as u16 & 0x1fff) else {
        return ASK;
    };
    if top & PLANE_LEAF != 0 {
        return top as u32 & 3;
    }
    let Some(word) = planes.block_v6(top, (high >> 36) as u16 & 0xfff) else {
        return ASK;
    };
    if word & PLANE_LEAF != 0 {
        return word as u32 & 3;
    }
    // The next 32 bits; what is longer than /60 was built as ASK.
    let key = (high >> 4) & 0xffff_ffff;
    let Some(line) = planes.plane_line(word & (PLANE_TREES - 1)) else {
        return ASK;
    };
    let mut line = line;
    let mut behind = rank(&line.words, key + 1);
    if word & PLANE_TREES != 0 {
        let below = (line.tail() as u16).wrapping_add(behind as u16);
        let Some(below) = planes.plane_line(below) else {
            return ASK;
        };
        line = below;
        behind = rank(&line.words, key + 1);
    }
    (line.tail() as u64 >> (behind * 2)) as u32 & 3
}
