//! The address space cut into classes.
//!
//! A class is one distinct combination of everything that a rule can ask of a
//! destination: its origins, its country (only where a set names that country)
//! and the prefix lists it is in. Which ASNs a set names is deliberately not part
//! of it: blocking one more ASN changes which classes a set has and leaves the
//! cut, and with it the large lookup table, as it is. [`partition_key`] says
//! whether two policies share one cut.
//!
//! For example, of a database with AS64500 on `198.51.100.0/24` and a set with the prefix
//! `198.51.100.64/26`, the /24 is three ranges of two classes: "AS64500, in no list" before and
//! behind the /26, and "AS64500, in the first list" on it.

use std::{collections::HashMap, net::IpAddr};

use kordon_ebpf::layout::CLASS_MASK;
use thiserror::Error;

use super::joined;
use crate::{
    asn::{AsnDb, Country, model::OriginsId},
    policy::model::{MULTICAST, PRIVATE, Policy, SPECIAL},
};

mod cut;
mod inputs;
mod origins;
mod questions;
#[cfg(test)]
mod tests;

use cut::{Classes, Memberships, cut};
pub use inputs::partition_key;
use inputs::{Inputs, Space};
pub use origins::OriginSets;
pub(super) use questions::Question;

/// Classes that a table can tell apart.
const MAX_CLASSES: usize = CLASS_MASK as usize + 1;

// Bits of a membership. The distinct prefix lists of the policy's sets follow.
const PRIVATE_BIT: usize = 0;
const MULTICAST_BIT: usize = 1;
const SPECIAL_BIT: usize = 2;
const ROUTER_BIT: usize = 3;
const FIRST_LIST_BIT: usize = 4;

/// Why no partition could be made or asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PartitionError {
    /// More classes than a table can name.
    #[error(
        "cannot cut the address space: origins, countries and prefix lists make more than \
         {MAX_CLASSES} kinds of destination; name fewer countries or prefixes in the policy's sets"
    )]
    TooManyClasses,
    /// The ASN database is not what its model promises.
    #[error(
        "cannot cut the address space: the ASN database's {what} are damaged at `{address}`; \
         import it again"
    )]
    BadDatabase {
        /// Which of its ranges.
        what: &'static str,
        /// The first address of the first bad range.
        address: IpAddr,
    },
    /// The partition was made for a policy with other prefixes or countries.
    #[error(
        "cannot find the destinations of set `{set}`: the address space was cut for another \
         policy; compile this policy anew"
    )]
    OtherPolicy {
        /// The set, or its number when the policy does not have it.
        set: String,
    },
}

/// What makes a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassKey {
    /// Who announces it, by number in [`Partition::origins`].
    pub origins: Option<OriginsId>,
    /// Where the block is delegated to, if a set names that country.
    pub country: Option<Country>,
    /// The lists that it is in: an index that only the partition can resolve.
    pub membership: u32,
}

/// All addresses, in ranges of one class.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    /// IPv4: first address and class of each range. Sorted, the first starts at
    /// 0, neighbours have different classes.
    pub v4: Vec<(u32, u32)>,
    /// IPv6, likewise.
    pub v6: Vec<(u128, u32)>,
    /// By class, each once.
    pub classes: Vec<ClassKey>,
    /// Who announces something.
    pub origins: OriginSets,
    /// By key, filled when a class comes later.
    known: HashMap<ClassKey, u32>,
    memberships: Vec<Membership>,
    countries: Vec<Country>,
    lists: Vec<Space>,
}

/// A bit for each built-in set and each list.
type Membership = Box<[u64]>;

impl Partition {
    /// Cuts the address space for a policy, a database and the router's own addresses.
    ///
    /// # Errors
    /// When there are too many classes, or the database's ranges are not sorted.
    pub fn new(policy: &Policy, db: &AsnDb, router: &[IpAddr]) -> Result<Self, PartitionError> {
        let inputs = Inputs::of(policy, router);
        let mut spaces = vec![
            Space::new(PRIVATE),
            Space::new(MULTICAST),
            Space::new(SPECIAL),
            inputs.router,
        ];
        debug_assert_eq!(spaces.len(), FIRST_LIST_BIT);
        spaces.extend_from_slice(&inputs.lists);
        let mut memberships = Memberships::new(spaces.len());
        let none = memberships.id(&vec![0; memberships.words]);
        let lists_v4 = memberships.steps(spaces.iter().map(|space| space.v4.as_slice()));
        let lists_v6 = memberships.steps(spaces.iter().map(|space| space.v6.as_slice()));

        // Class 0, so that the most frequent one is found without hashing.
        let first = ClassKey {
            membership: none,
            ..ClassKey::default()
        };
        let mut classes = Classes::new(db.origins.len(), first)?;
        let countries = &inputs.countries;
        // IPv6 has classes of its own meanwhile; their order is as if it came afterwards.
        let (v4, v6, origins) = std::thread::scope(|scope| {
            let v6 = scope.spawn(|| {
                let mut classes = Classes::new(db.origins.len(), first)?;
                let v6 = cut(&db.v6, &db.countries_v6, countries, &lists_v6, &mut classes)?;
                Ok((v6, classes.keys))
            });
            let origins = scope.spawn(|| OriginSets::new(&db.origins));
            let v4 = cut(&db.v4, &db.countries_v4, countries, &lists_v4, &mut classes);
            (v4, joined(v6), joined(origins))
        });
        let (v4, (mut v6, keys)) = (v4?, v6?);
        let ids = keys.into_iter().map(|key| classes.id(key));
        let ids = ids.collect::<Result<Vec<u32>, _>>()?;
        for (_, class) in &mut v6 {
            *class = ids[*class as usize];
        }
        Ok(Self {
            v4,
            v6,
            classes: classes.keys,
            origins,
            known: HashMap::new(),
            memberships: memberships.all,
            countries: inputs.countries,
            lists: inputs.lists,
        })
    }

    /// Forgets the ranges, once they are in a table.
    pub fn forget_ranges(&mut self) {
        self.v4 = Vec::new();
        self.v6 = Vec::new();
    }

    /// The class of addresses that had this one before they were announced by others
    /// (none: by nobody); a new one where none was like that.
    ///
    /// # Errors
    /// When there are too many classes.
    pub fn reclass(&mut self, class: u32, origins: &[u32]) -> Result<u32, PartitionError> {
        if self.known.is_empty() {
            self.known = self.classes.iter().copied().zip(0..).collect();
        }
        let key = ClassKey {
            origins: (!origins.is_empty()).then(|| self.origins.id(origins)),
            ..self
                .classes
                .get(class as usize)
                .copied()
                .unwrap_or_default()
        };
        if let Some(&known) = self.known.get(&key) {
            return Ok(known);
        }
        if self.classes.len() == MAX_CLASSES {
            return Err(PartitionError::TooManyClasses);
        }
        let new = self.classes.len() as u32;
        self.known.insert(key, new);
        self.classes.push(key);
        Ok(new)
    }
}
