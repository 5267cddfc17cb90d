//! Which network a flow was for: what is kept of that, and who says it. The database changes while flows
//! live, so it is said once for each line, when it is first asked for or when it leaves.

use kordon_ebpf::layout::Flow;

/// Who announces the address that decided. In 34 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(u64);

/// Bits of a [`Network`].
const BITS: u32 = 34;

impl Network {
    /// Nobody.
    pub const NOBODY: Self = Self(0);
    /// There was no such address, or nobody knows any more.
    pub const UNKNOWN: Self = Self((1 << BITS) - 1);

    /// Of the first of its origins.
    #[must_use]
    pub fn of(asn: Option<u32>) -> Self {
        asn.map_or(Self::NOBODY, |asn| Self(u64::from(asn) + 1))
    }

    /// Its number, of one that somebody announces.
    #[must_use]
    pub fn asn(self) -> Option<u32> {
        u32::try_from(self.0.checked_sub(1)?).ok()
    }

    pub(super) fn to_mark(self) -> u64 {
        self.0
    }

    pub(super) fn of_mark(mark: u64) -> Self {
        Self(mark.min(Self::UNKNOWN.0))
    }

    /// A key for what an owner has of it. No owner is 0.
    pub(super) fn key(self, owner: u32) -> u64 {
        u64::from(owner) << BITS | self.0
    }

    /// See [`Self::key`].
    pub(super) fn of_key(key: u64) -> (u32, Self) {
        ((key >> BITS) as u32, Self(key & Self::UNKNOWN.0))
    }
}

/// Says for whom packets were.
pub trait Naming: Send + Sync {
    /// By what is known now, live BGP included; `None`: that is being worked on.
    fn look(&self) -> Option<Box<dyn Look + '_>>;
    /// By what was imported.
    fn glance(&self) -> Box<dyn Look + '_>;
    /// The counter slot that stands for all with the zone and action of one, if these are counted by
    /// network; of a slot that is not known yet itself.
    fn owner(&self, slot: u32) -> Owner;
    /// The network of an ordinal of the kernel's.
    fn of_ordinal(&self, ordinal: u32) -> Network;
}

/// See [`Naming::look`].
pub trait Look {
    /// The network of the address that decided.
    fn network(&self, flow: &Flow) -> Network;
}

/// See [`Naming::owner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody knows yet.
    Unknown,
    /// Not counted by network.
    None,
    /// Counted there.
    Slot(u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_marks_are_what_they_were_made_of() {
        let asns = [Some(0), Some(64500), Some(u32::MAX)];
        let all = asns.into_iter().map(Some).chain([Some(None), None]);
        for asn in all {
            let network = asn.map_or(Network::UNKNOWN, Network::of);
            assert_eq!(Network::of_mark(network.to_mark()), network);
            assert_eq!(Network::of_key(network.key(131_071)), (131_071, network));
            assert_eq!(network.asn(), asn.flatten());
        }
    }
}
