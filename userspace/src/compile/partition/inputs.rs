//! What cuts the address space beside the database: prefix lists, countries that sets name, the router's
//! addresses; and [`partition_key`], a hash over these and the database: the table is kept while it
//! stays the same. Both go by one form for each meaning, whatever the order or spelling of the policy.

use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

use crate::asn::Country;
use crate::asn::range::merged;
use crate::policy::model::Policy;

/// Raised when the same inputs are cut in another way.
const KEY_VERSION: u8 = 1;

/// Identifies what shapes a partition: equal keys, equal partitions. `db_id`
/// identifies the content of the database.
#[must_use]
pub fn partition_key(policy: &Policy, db_id: &[u8], router: &[IpAddr]) -> [u8; 32] {
    let inputs = Inputs::of(policy, router);
    let mut hash = Sha256::new();
    let number = |hash: &mut Sha256, n: usize| hash.update((n as u64).to_le_bytes());
    hash.update([KEY_VERSION]);
    number(&mut hash, db_id.len());
    hash.update(db_id);
    number(&mut hash, inputs.countries.len());
    for country in &inputs.countries {
        hash.update(country.0);
    }
    number(&mut hash, inputs.lists.len());
    for space in std::iter::once(&inputs.router).chain(&inputs.lists) {
        number(&mut hash, space.v4.len());
        for (first, last) in &space.v4 {
            hash.update(first.to_le_bytes());
            hash.update(last.to_le_bytes());
        }
        number(&mut hash, space.v6.len());
        for (first, last) in &space.v6 {
            hash.update(first.to_le_bytes());
            hash.update(last.to_le_bytes());
        }
    }
    hash.finalize().into()
}

/// What shapes a partition beside the database, independent of names, order
/// and spelling.
pub(super) struct Inputs {
    pub(super) countries: Vec<Country>,
    pub(super) lists: Vec<Space>,
    pub(super) router: Space,
}

impl Inputs {
    pub(super) fn of(policy: &Policy, router: &[IpAddr]) -> Self {
        let named = policy.sets.iter().flat_map(|set| &set.countries);
        let mut countries: Vec<_> = named.copied().collect();
        countries.sort_unstable();
        countries.dedup();
        let with_prefixes = policy.sets.iter().filter(|set| !set.prefixes.is_empty());
        let mut lists: Vec<_> = with_prefixes
            .map(|set| Space::new(set.prefixes.iter().copied()))
            .collect();
        lists.sort_unstable();
        lists.dedup();
        Self {
            countries,
            lists,
            router: Space::new(router.iter().copied().map(IpNet::from)),
        }
    }
}

/// A part of both address spaces, each as sorted, disjoint, inclusive ranges
/// that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Space {
    pub(super) v4: Vec<(u32, u32)>,
    pub(super) v6: Vec<(u128, u128)>,
}

impl Space {
    pub(super) fn new(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        Self {
            v4: merged(v4),
            v6: merged(v6),
        }
    }
}
