//! Frames that a policed interface let through, by their tags: counted by the XDP program
//! and once more by the guard, a tc program behind it. To tc all tags are visible, also
//! those that a driver or the other end of a veth keeps beside the frame, where XDP does
//! not see them. What the guard sees and the XDP program did not pass was hidden
//! from it.
//!
//! An interface has the same block of counters as a zone. These stand in the part that a zone
//! uses for ignored reasons. Only packets are counted, no bytes.

use crate::layout::{FIXED_SLOTS, REASONS};

/// The tags of a frame, as far as Linux knows them: it takes 0x8100 and 0x88a8 for tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// None.
    Untagged = 0,
    /// One, 0x8100 (IEEE 802.1Q).
    Customer = 1,
    /// One, 0x88a8 (IEEE 802.1ad).
    Service = 2,
    /// Two or more.
    Stacked = 3,
    /// 0x9100, of before the standard, outermost.
    Old = 4,
}

/// Number of [`Kind`]s.
pub const KINDS: usize = 5;

/// Who saw the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum By {
    /// The XDP program: of no zone, passed.
    NoZone = 0,
    /// The XDP program: of a zone, passed.
    Zone = 1,
    /// The guard; aggregates by their segments.
    Guard = 2,
    /// The guard; aggregates as one.
    GuardWhole = 3,
    /// The guard: of a zone, dropped, because the XDP program had not; aggregates by their
    /// segments.
    Stopped = 4,
}

const FIRST: u32 = (REASONS * 3) as u32;
const _: () = assert!(FIRST + 5 * KINDS as u32 <= FIXED_SLOTS);

impl Kind {
    /// All, by value.
    pub const ALL: [Self; KINDS] = [
        Self::Untagged,
        Self::Customer,
        Self::Service,
        Self::Stacked,
        Self::Old,
    ];

    /// The word in metrics and `--json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Untagged => "none",
            Self::Customer => "0x8100",
            Self::Service => "0x88a8",
            Self::Stacked => "stacked",
            Self::Old => "0x9100",
        }
    }

    /// Of the first ethertype, and the one behind the first tag.
    #[must_use]
    #[inline(always)]
    pub const fn of(first: u16, second: u16) -> Self {
        if !is_tag(first) {
            return if first == 0x9100 {
                Self::Old
            } else {
                Self::Untagged
            };
        }
        if is_tag(second) {
            Self::Stacked
        } else if first == 0x8100 {
            Self::Customer
        } else {
            Self::Service
        }
    }
}

impl By {
    /// All, by value.
    pub const ALL: [Self; 5] = [
        Self::NoZone,
        Self::Zone,
        Self::Guard,
        Self::GuardWhole,
        Self::Stopped,
    ];
}

/// Whether Linux takes it for a tag (`eth_type_vlan`).
#[inline(always)]
const fn is_tag(ethertype: u16) -> bool {
    ethertype == 0x8100 || ethertype == 0x88a8
}

/// The counter slot, counted from the interface's first.
#[must_use]
#[inline(always)]
pub const fn slot(by: By, kind: Kind) -> u32 {
    FIRST + by as u32 * KINDS as u32 + kind as u32
}

/// Whose a slot is, counted from the interface's first.
#[must_use]
pub fn of_slot(offset: u32) -> Option<(By, Kind)> {
    let index = offset.checked_sub(FIRST)? as usize;
    Some((*By::ALL.get(index / KINDS)?, *Kind::ALL.get(index % KINDS)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_lead_back() {
        for by in By::ALL {
            for kind in Kind::ALL {
                assert_eq!(of_slot(slot(by, kind)), Some((by, kind)));
            }
        }
        assert_eq!(of_slot(FIRST - 1), None);
        assert_eq!(of_slot(slot(By::Stopped, Kind::Old) + 1), None);
    }

    #[test]
    fn kinds_are_what_linux_makes_of_tags() {
        for (first, second, kind) in [
            (0x0800, 0x4500, Kind::Untagged),
            (0x8100, 0x0800, Kind::Customer),
            (0x88a8, 0x86dd, Kind::Service),
            (0x88a8, 0x8100, Kind::Stacked),
            (0x8100, 0x8100, Kind::Stacked),
            (0x8100, 0x9100, Kind::Customer),
            (0x9100, 0x8100, Kind::Old),
            (0x0800, 0x8100, Kind::Untagged),
        ] {
            assert_eq!(Kind::of(first, second), kind, "{first:x} {second:x}");
        }
    }
}
