//! How the decision reads its data: traits, over the kernel's maps or over vectors in a process. [`Tables`]: a
//! generation and its table; [`ReadFast`]: the planes and what stands before them; [`Lines`]: the ledger's lines.

use crate::{
    flow::Headers,
    layout::{FastZone, Generation, Nat64, Pair, Planes, Port, Prefix, Step, Zone},
    opaque,
    packet::{Address, Frame},
    plane::ReadPlanes,
    table::{ReadTable, class_v4, class_v6},
};

/// One generation and its table.
pub trait Tables {
    /// Number of the generation.
    fn number(&self) -> u64;
    /// A policed interface.
    fn port(&self, port: u32) -> Option<&Port>;
    /// Word of a VID table.
    fn vid(&self, table: u16, vid: u16) -> u16;
    /// A QinQ pair; `slot` is below [`PAIR_SLOTS`](crate::layout::PAIR_SLOTS).
    fn pair(&self, slot: u32) -> Option<&Pair>;
    /// A zone.
    fn zone(&self, id: u32) -> Option<&Zone>;
    /// A source prefix.
    fn source(&self, index: u32) -> Option<&Prefix>;
    /// Configured NAT64 prefixes in use.
    fn nat64_len(&self) -> u32;
    /// A configured NAT64 prefix.
    fn nat64(&self, index: u32) -> Option<&Nat64>;
    /// A verdict word.
    fn verdict(&self, index: u32) -> Option<u32>;
    /// A step of a walk.
    fn step(&self, index: u32) -> Option<&Step>;
    /// The counter of what the guard drops of a zone on a port, 0: none.
    fn stopped(&self, zone: u32, port: u32) -> u32;
    /// Group and ordinal of a class.
    fn class_word(&self, class: u32) -> Option<u32>;
    /// The class of an address.
    fn class(&self, address: Address) -> u32;
}

/// Read access to what is before the planes.
pub trait ReadFast: ReadPlanes {
    /// Number of the generation, 0: none.
    fn number(&self) -> u64;
    /// See [`Planes::settled`]: it changes while programs run.
    fn settled(&self) -> &u64;
    /// Word of a port.
    fn fast_port(&self, port: u32) -> Option<u64>;
    /// Word of a VID in the table of a port's word.
    fn fast_vid(&self, port: u64, vid: u16) -> Option<u16>;
    /// A zone, by its id + 1.
    fn fast_zone(&self, zone: u32) -> Option<&FastZone>;
}

impl<const TOPS: usize, const BLOCKS4: usize, const BLOCKS6: usize, const LINES: usize> ReadFast
    for Planes<TOPS, BLOCKS4, BLOCKS6, LINES>
{
    #[inline(always)]
    fn number(&self) -> u64 {
        self.number
    }
    #[inline(always)]
    fn settled(&self) -> &u64 {
        &self.settled
    }
    #[inline(always)]
    fn fast_port(&self, port: u32) -> Option<u64> {
        self.ports.get(opaque::index(port as usize)).copied()
    }
    #[inline(always)]
    fn fast_vid(&self, port: u64, vid: u16) -> Option<u16> {
        let table = self.vids.get((port & 0xffff) as usize)?;
        Some(table[opaque::index(vid as usize) & 0xfff])
    }
    #[inline(always)]
    fn fast_zone(&self, zone: u32) -> Option<&FastZone> {
        self.zones.get(opaque::index(zone as usize))
    }
}

/// What became of packets before: the ledger's lines.
pub trait Lines {
    /// What becomes of a packet whose headers are in order, if one of its flow was judged before and nothing
    /// has changed since; it is recorded then. `settled`: see [`ReadFast::settled`].
    fn known<const V6: bool, F: Frame + ?Sized>(
        &self,
        frame: &F,
        headers: Headers,
        settled: &u64,
    ) -> Option<Known>;
}

/// See [`Lines::known`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Counter slot.
    pub slot: u32,
    /// Dropped, or passed.
    pub is_dropped: bool,
}

/// No lines.
impl Lines for () {
    #[inline(always)]
    fn known<const V6: bool, F: Frame + ?Sized>(
        &self,
        _: &F,
        _: Headers,
        _: &u64,
    ) -> Option<Known> {
        None
    }
}

/// Both as they lie in maps.
#[derive(Clone, Copy, Debug)]
pub struct InMaps<'a, G, T> {
    /// From the policy.
    pub generation: &'a G,
    /// From the ASN database.
    pub table: &'a T,
}

impl<const CLASSES: usize, T: ReadTable> Tables for InMaps<'_, Generation<CLASSES>, T> {
    #[inline(always)]
    fn number(&self) -> u64 {
        self.generation.number
    }
    #[inline(always)]
    fn port(&self, port: u32) -> Option<&Port> {
        self.generation.ports.get(opaque::index(port as usize))
    }
    #[inline(always)]
    fn vid(&self, table: u16, vid: u16) -> u16 {
        match self.generation.vid_tables.get(table as usize) {
            Some(table) => table[opaque::index(vid as usize) & 0xfff],
            None => 0,
        }
    }
    #[inline(always)]
    fn pair(&self, slot: u32) -> Option<&Pair> {
        self.generation.pairs.get(opaque::index(slot as usize))
    }
    #[inline(always)]
    fn zone(&self, id: u32) -> Option<&Zone> {
        self.generation.zones.get(opaque::index(id as usize))
    }
    #[inline(always)]
    fn source(&self, index: u32) -> Option<&Prefix> {
        self.generation.sources.get(opaque::index(index as usize))
    }
    #[inline(always)]
    fn nat64_len(&self) -> u32 {
        self.generation.nat64_len
    }
    #[inline(never)]
    fn nat64(&self, index: u32) -> Option<&Nat64> {
        self.generation.nat64.get(opaque::index(index as usize))
    }
    #[inline(always)]
    fn verdict(&self, index: u32) -> Option<u32> {
        self.generation.verdicts.get(index as usize).copied()
    }
    #[inline(always)]
    fn step(&self, index: u32) -> Option<&Step> {
        self.generation.steps.get(opaque::index(index as usize))
    }
    #[inline(always)]
    fn stopped(&self, zone: u32, port: u32) -> u32 {
        let index = zone
            .wrapping_mul(self.generation.ports_len)
            .wrapping_add(port);
        match self.generation.stopped.get(opaque::index(index as usize)) {
            Some(slot) => *slot,
            None => 0,
        }
    }
    #[inline(always)]
    fn class_word(&self, class: u32) -> Option<u32> {
        let index = opaque::index(class as usize);
        self.generation.class_words.get(index).copied()
    }
    #[inline(always)]
    fn class(&self, address: Address) -> u32 {
        if address.v6 {
            class_v6(self.table, address.hi, address.lo)
        } else {
            class_v4(self.table, address.lo as u32)
        }
    }
}
