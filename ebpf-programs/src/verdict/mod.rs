//! The decision: a frame, a port and a generation in, a verdict out. The same code runs in the
//! kernel and in userspace.
//!
//! - `fast`: the fast path, of almost every packet; it says what the slow one would, or nothing; `plain`: the headers that it
//!   takes.
//! - `slow`: the slow path: all that the documentation says, in its order.
//! - `tables`: what is read.
//!
//! What no builder writes (an index out of range) ends in a drop.

mod fast;
mod plain;
mod slow;
mod tables;

pub use self::{
    fast::{Destination, FastPath, by_class, fast_path, fast_path_beside, stacked},
    slow::{Observer, Work, decide},
    tables::{InMaps, Known, Lines, ReadFast, Tables},
};

use crate::{
    layout::{
        Action, GROUP_MASK, Judged, NO_CLASS, PAIR_PROBES, PAIR_SLOTS, Prefix, ProbeOutput, Reason,
        VERDICT_ACTION_SHIFT, VID_HAS_PAIRS, VID_ZONE, ZONE_RECORD_DROPS, ZONE_RECORD_PASS, Zone,
        pair_hash, pair_key,
    },
    packet::Address,
};

/// "No counter".
pub const NO_SLOT: u32 = u32::MAX;

/// What happens to one frame, and what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What happens.
    pub action: Action,
    /// Counter of (zone, reason or rule, action), or [`NO_SLOT`].
    pub slot: u32,
    /// Class of the judged address, or [`NO_CLASS`].
    pub class: u32,
    /// Which address decided.
    pub judged: Judged,
    /// Bit r: reason `FIRST_UNPARSABLE + r` was met and ignored.
    pub noted: u16,
    /// First of the zone's fixed counters, for what was noted.
    pub slot_base: u32,
}

impl Verdict {
    /// Whether the zone, by its id + 1, wants it recorded.
    #[inline(always)]
    pub fn is_recorded<T: Tables>(&self, tables: &T, zone: u32) -> bool {
        let wanted = match self.action {
            Action::Pass => ZONE_RECORD_PASS,
            _ => ZONE_RECORD_DROPS,
        };
        let zone = tables.zone(zone.wrapping_sub(1));
        // What could not be judged has no counter, and of it nothing is known.
        self.slot != NO_SLOT && zone.is_some_and(|zone| zone.flags & wanted != 0)
    }

    /// No zone: passed, not counted.
    pub const UNPOLICED: Self = Self {
        action: Action::Pass,
        slot: NO_SLOT,
        class: NO_CLASS,
        judged: Judged::Nothing,
        noted: 0,
        slot_base: 0,
    };

    /// What no builder writes: dropped, and nothing can be said of it.
    const UNJUDGED: Self = Self {
        action: Action::Drop,
        ..Self::UNPOLICED
    };

    #[inline(always)]
    fn fixed(base: u32, reason: Reason, action: Action) -> Self {
        Self {
            action,
            slot: base + reason.fixed_slot(action),
            slot_base: base,
            ..Self::UNPOLICED
        }
    }
}

/// A verdict as a probe writes it.
impl From<&Verdict> for ProbeOutput {
    #[inline(always)]
    fn from(verdict: &Verdict) -> Self {
        Self {
            slot: verdict.slot,
            class: verdict.class,
            judged: verdict.judged as u8,
            action: verdict.action as u8,
            noted: verdict.noted,
        }
    }
}

/// Whether a prefix has an address of its family.
#[inline(always)]
fn contains(prefix: &Prefix, address: Address) -> bool {
    (address.hi ^ prefix.hi) & prefix.hi_mask == 0 && (address.lo ^ prefix.lo) & prefix.lo_mask == 0
}

/// The zone's verdict word for a class; one that drops where there is none.
#[inline(always)]
fn class_verdict<T: Tables>(tables: &T, zone: &Zone, class: u32) -> u32 {
    if let Some(word) = tables.class_word(class)
        && let Some(verdict) = tables.verdict(zone.verdict_base + (word & GROUP_MASK))
    {
        return verdict;
    }
    (Action::Drop as u32) << VERDICT_ACTION_SHIFT
        | (zone.slot_base + Reason::Default.fixed_slot(Action::Drop))
}

/// Zone id + 1 for the VIDs of the first two tags that count, 0: none.
#[inline(always)]
fn zone_word<T: Tables>(tables: &T, table: u16, outer: u16, inner: u16) -> u32 {
    let word = tables.vid(table, outer);
    if word & VID_HAS_PAIRS != 0 && inner != 0 {
        let key = pair_key(table, outer, inner);
        let mut slot = pair_hash(key);
        #[expect(
            clippy::explicit_counter_loop,
            reason = "the verifier knows loops like this"
        )]
        for _ in 0..PAIR_PROBES {
            match tables.pair(slot & (PAIR_SLOTS as u32 - 1)) {
                Some(pair) if pair.key == key => return pair.zone,
                Some(pair) if pair.zone != 0 => {}
                _ => break,
            }
            slot += 1;
        }
    }
    (word & VID_ZONE) as u32
}
