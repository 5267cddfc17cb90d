//! What is to be proven, and how much is tried for it.

use ipnet::IpNet;

use crate::{
    asn::AsnDb,
    compile::{directory::Directory, generation::Environment},
    policy::Policy,
};

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// The table is the one that is live, and was proven, or that one but for `changed`:
    /// what the rules name.
    Rules,
    /// The table is new: its ranges too.
    Table,
}

impl Budget {
    /// Prefixes, ASNs and blocks that are tried of one target.
    pub(super) const fn members(self) -> usize {
        match self {
            Self::Rules => 512,
            Self::Table => 16 << 10,
        }
    }

    /// Packets with conditions that are tried, of each family and in one zone.
    pub(super) const fn conditions(self) -> usize {
        match self {
            Self::Rules => 2048,
            Self::Table => 8192,
        }
    }

    /// VIDs that no zone names are tried too: each of so many.
    pub(super) const fn stride(self) -> usize {
        match self {
            Self::Rules => 8,
            Self::Table => 1,
        }
    }

    /// Ranges of each family that are tried, whatever the policy says of them: one
    /// address of each, with a new table about three.
    pub(super) const fn ranges(self) -> usize {
        match self {
            Self::Rules => 1024,
            Self::Table => 32 << 10,
        }
    }
}

/// What is proven.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The database.
    pub db: &'a AsnDb,
    /// What else the generation was compiled from.
    pub environment: &'a Environment,
    /// Whose the counters are.
    pub directory: &'a Directory,
    /// Prefixes that live BGP has changed, which are tried with every budget.
    pub changed: &'a [IpNet],
}
