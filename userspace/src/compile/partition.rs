//! The address space cut into classes.
//!
//! A class is one distinct combination of everything that a rule can ask of a
//! destination: its origins, its country (only where a set names that country)
//! and the prefix lists it is in. Which ASNs a set names is deliberately not part
//! of it: blocking one more ASN changes which classes a set has and leaves the
//! cut, and with it the large lookup table, as it is. [`partition_key`] says
//! whether two policies share one cut.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kordon_ebpf::layout::CLASS_MASK;
use thiserror::Error;

use super::joined;
use crate::{
    asn::{
        Country,
        model::{AsnDb, CountryRange, OriginRange, OriginsId},
    },
    policy::model::{Policy, Set, SetId, Target},
};

mod inputs;
mod origins;
#[cfg(test)]
mod tests;

pub use inputs::partition_key;
use inputs::{Address, Inputs, Space, merged};
pub use origins::OriginSets;

/// What [`Target::Private`] stands for: RFC 1918, 6598, 3927, 4193 and IPv6 link-local.
pub const PRIVATE: [IpNet; 7] = [
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(100, 64, 0, 0, 10),
    v4(169, 254, 0, 0, 16),
    v6(0xfc00, 0, 7),
    v6(0xfe80, 0, 10),
];

/// What [`Target::Multicast`] stands for, limited broadcast included.
pub const MULTICAST: [IpNet; 3] = [
    v4(224, 0, 0, 0, 4),
    v4(255, 255, 255, 255, 32),
    v6(0xff00, 0, 8),
];

/// "This network", loopback and the unspecified address: never routed, and yet
/// not what an administrator means by `unrouted`.
pub const SPECIAL: [IpNet; 4] = [
    v4(0, 0, 0, 0, 8),
    v4(127, 0, 0, 0, 8),
    v6(0, 0, 128),
    v6(0, 1, 128),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(first: u16, last: u16, length: u8) -> IpNet {
    let address = Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last);
    IpNet::V6(Ipv6Net::new_assert(address, length))
}

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

    /// For every class, whether it is part of a target. The database, of which only
    /// registrations are asked for here, is that of [`Partition::new`].
    ///
    /// # Errors
    /// When the policy's prefixes or countries are not those of [`Partition::new`].
    #[cfg(test)]
    pub fn members(
        &self,
        target: Target,
        policy: &Policy,
        db: &AsnDb,
    ) -> Result<Vec<bool>, PartitionError> {
        let question = self.question(target, policy, db)?;
        let bits = self.signatures(&[question]);
        Ok(bits.into_iter().map(|bits| bits != 0).collect())
    }

    /// For every class, a bit for each question: whether it is part of what that is about.
    /// Classes, one after the other, have as many words as the bits need.
    pub(super) fn signatures(&self, questions: &[Question]) -> Vec<u64> {
        let words = questions.len().div_ceil(64);
        let add = |bits: &mut [u64], is: &dyn Fn(&Question) -> bool| {
            for (bit, question) in questions.iter().enumerate() {
                bits[bit / 64] |= u64::from(is(question)) << (bit % 64);
            }
        };
        // Few origins are named, and most classes are in few combinations of lists. What has
        // none is behind the last.
        let named = Named::new(questions);
        let mut by_origins = vec![0; (self.origins.len() + 1) * words];
        for (asns, bits) in self.origins.iter().zip(by_origins.chunks_exact_mut(words)) {
            if asns.iter().any(|asn| named.may_have(*asn)) {
                add(bits, &|question| question.names_any(asns));
            }
        }
        let mut by_membership = vec![0; self.memberships.len() * words];
        let memberships = by_membership.chunks_exact_mut(words);
        for (lists, bits) in self.memberships.iter().zip(memberships) {
            add(bits, &|question| {
                question.any || question.bit.is_some_and(|bit| is_set(lists, bit))
            });
        }
        let more: Vec<(usize, &Question)> = (questions.iter().enumerate())
            .filter(|(_, question)| !question.countries.is_empty() || question.unrouted)
            .collect();
        let mut signatures = Vec::with_capacity(self.classes.len() * words);
        for key in &self.classes {
            let start = signatures.len();
            let origins = key.origins.map_or(self.origins.len(), |id| id as usize);
            let membership = key.membership as usize;
            for word in 0..words {
                signatures.push(
                    by_origins[origins * words + word] | by_membership[membership * words + word],
                );
            }
            for (bit, question) in &more {
                if self.by_place(question, key) {
                    signatures[start + bit / 64] |= 1 << (bit % 64);
                }
            }
        }
        signatures
    }

    /// Whether a class is part of what a question is about.
    pub(super) fn answers(&self, question: &Question, key: &ClassKey) -> bool {
        let origins = key.origins.and_then(|id| self.origins.get(id));
        question.any
            || self.by_place(question, key)
            || origins.is_some_and(|asns| question.names_any(asns))
    }

    /// Everything but origins and `any`.
    fn by_place(&self, question: &Question, key: &ClassKey) -> bool {
        let is_in = |bit| self.is_in(key, bit);
        question.bit.is_some_and(is_in)
            || key.country.is_some_and(|c| question.countries.contains(&c))
            || question.unrouted
                && key.origins.is_none()
                && ![PRIVATE_BIT, MULTICAST_BIT, SPECIAL_BIT]
                    .into_iter()
                    .any(is_in)
    }

    fn is_in(&self, key: &ClassKey, bit: usize) -> bool {
        let bits = self.memberships.get(key.membership as usize);
        bits.is_some_and(|bits| is_set(bits, bit))
    }

    pub(super) fn question(
        &self,
        target: Target,
        policy: &Policy,
        db: &AsnDb,
    ) -> Result<Question, PartitionError> {
        let mut question = Question::default();
        match target {
            Target::Any => question.any = true,
            Target::Private => question.bit = Some(PRIVATE_BIT),
            Target::Multicast => question.bit = Some(MULTICAST_BIT),
            Target::Router => question.bit = Some(ROUTER_BIT),
            Target::Unrouted => question.unrouted = true,
            Target::Set(id) => return self.question_set(id, policy, db),
        }
        Ok(question)
    }

    fn question_set(
        &self,
        id: SetId,
        policy: &Policy,
        db: &AsnDb,
    ) -> Result<Question, PartitionError> {
        let other_policy = |set| PartitionError::OtherPolicy { set };
        let set = policy
            .sets
            .get(id)
            .ok_or_else(|| other_policy(id.to_string()))?;
        let is_cut = |country| self.countries.binary_search(country).is_ok();
        if !set.countries.iter().all(is_cut) {
            return Err(other_policy(set.name.clone()));
        }
        let bit = if set.prefixes.is_empty() {
            None
        } else {
            let list = Space::new(set.prefixes.iter().copied());
            let place = self.lists.binary_search(&list);
            Some(FIRST_LIST_BIT + place.map_err(|_| other_policy(set.name.clone()))?)
        };
        Ok(Question {
            bit,
            countries: set.countries.clone(),
            asns: asns_of(set, db),
            ..Question::default()
        })
    }
}

fn is_set(bits: &[u64], bit: usize) -> bool {
    bits.get(bit / 64)
        .is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

/// ASNs that some question names: a bitmap, because all that there are are asked for. Those
/// above [`LOW_ASNS`], which are few, may be.
struct Named(Vec<u64>);

/// Almost all ASNs are below this.
const LOW_ASNS: u32 = 1 << 20;

impl Named {
    fn new(questions: &[Question]) -> Self {
        let mut low = vec![0u64; LOW_ASNS as usize / 64];
        for (first, last) in questions.iter().flat_map(|question| &question.asns) {
            for asn in *first..(*last).saturating_add(1).min(LOW_ASNS) {
                low[asn as usize / 64] |= 1 << (asn % 64);
            }
        }
        Self(low)
    }

    fn may_have(&self, asn: u32) -> bool {
        asn >= LOW_ASNS || is_set(&self.0, asn as usize)
    }
}

/// A target, resolved.
#[derive(Clone, Debug, Default)]
pub(super) struct Question {
    any: bool,
    unrouted: bool,
    bit: Option<usize>,
    countries: Vec<Country>,
    /// Sorted, disjoint, inclusive.
    asns: Vec<(u32, u32)>,
}

impl Question {
    /// One of several origins is enough.
    fn names_any(&self, origins: &[u32]) -> bool {
        origins.iter().any(|&asn| {
            let after = self.asns.partition_point(|&(first, _)| first <= asn);
            after > 0 && self.asns[after - 1].1 >= asn
        })
    }
}

/// The ASNs of a set: those named and those registered in its countries.
pub(crate) fn asns_of(set: &Set, db: &AsnDb) -> Vec<(u32, u32)> {
    let mut ranges: Vec<_> = set.asns.iter().map(|r| (*r.start(), *r.end())).collect();
    if !set.asn_countries.is_empty() {
        let registered = db.asns.iter().filter(|(_, info)| {
            info.country
                .is_some_and(|country| set.asn_countries.contains(&country))
        });
        ranges.extend(registered.map(|&(asn, _)| (asn, asn)));
    }
    merged(ranges)
}

/// Every combination of lists that occurs.
struct Memberships {
    words: usize,
    all: Vec<Membership>,
    ids: HashMap<Membership, u32>,
}

impl Memberships {
    fn new(bits: usize) -> Self {
        Self {
            words: bits.div_ceil(64),
            all: Vec::new(),
            ids: HashMap::new(),
        }
    }

    fn id(&mut self, bits: &[u64]) -> u32 {
        if let Some(&id) = self.ids.get(bits) {
            return id;
        }
        // A combination needs an address where it begins: far fewer than 2^32.
        let id = self.all.len() as u32;
        self.all.push(bits.into());
        self.ids.insert(bits.into(), id);
        id
    }

    /// From which address on which combination holds.
    fn steps<'a, A: Address + 'a>(
        &mut self,
        lists: impl Iterator<Item = &'a [(A, A)]>,
    ) -> Vec<(A, u32)> {
        // Ranges of one list do not touch, so each end of a range flips its bit.
        let mut flips: Vec<(A, usize)> = Vec::new();
        for (bit, ranges) in lists.enumerate() {
            for &(first, last) in ranges {
                flips.push((first, bit));
                flips.extend(last.next().map(|end| (end, bit)));
            }
        }
        flips.sort_unstable();
        let mut bits = vec![0u64; self.words];
        let mut steps = vec![];
        let mut flips = flips.into_iter().peekable();
        let mut at = A::ZERO;
        loop {
            while let Some((_, bit)) = flips.next_if(|&(address, _)| address <= at) {
                bits[bit / 64] ^= 1 << (bit % 64);
            }
            steps.push((at, self.id(&bits)));
            match flips.peek() {
                Some(&(address, _)) => at = address,
                None => return steps,
            }
        }
    }
}

/// The classes found so far.
struct Classes {
    keys: Vec<ClassKey>,
    /// By origins, `None` last: the first class that has them. Most have one
    /// only, so few keys are ever hashed.
    first: Vec<Option<u32>>,
    /// All others.
    others: HashMap<ClassKey, u32>,
}

impl Classes {
    fn new(origins: usize, key: ClassKey) -> Result<Self, PartitionError> {
        let mut classes = Self {
            keys: Vec::with_capacity(origins + 1),
            first: vec![None; origins + 1],
            others: HashMap::new(),
        };
        classes.id(key)?;
        Ok(classes)
    }

    fn id(&mut self, key: ClassKey) -> Result<u32, PartitionError> {
        let place = key.origins.map_or(self.first.len() - 1, |id| id as usize);
        let new = self.keys.len() as u32;
        match self.first[place] {
            None => self.first[place] = Some(new),
            Some(first) if self.keys[first as usize] == key => return Ok(first),
            Some(_) => match self.others.entry(key) {
                std::collections::hash_map::Entry::Occupied(entry) => return Ok(*entry.get()),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(new);
                }
            },
        }
        if self.keys.len() == MAX_CLASSES {
            return Err(PartitionError::TooManyClasses);
        }
        self.keys.push(key);
        Ok(new)
    }
}

/// Lays origins, countries and lists over each other.
fn cut<A: Address>(
    origins: &[OriginRange<A>],
    countries: &[CountryRange<A>],
    named: &[Country],
    lists: &[(A, u32)],
    classes: &mut Classes,
) -> Result<Vec<(A, u32)>, PartitionError> {
    let known = classes.first.len() - 1;
    if let Some(bad) = origins.iter().find(|r| r.origins as usize >= known) {
        return Err(PartitionError::BadDatabase {
            what: "origins",
            address: bad.start.ip(),
        });
    }
    let origins = origins.iter().map(|r| (r.start, r.end, r.origins));
    check(origins.clone(), "announced ranges")?;
    let countries = countries.iter().map(|r| (r.start, r.end, r.country));
    check(countries.clone(), "country ranges")?;

    let mut out: Vec<(A, u32)> = Vec::with_capacity(origins.len() + lists.len());
    let mut origins = Ranges::new(origins);
    let mut countries = Ranges::new(countries.filter(|(.., c)| named.binary_search(c).is_ok()));
    let mut lists = lists.iter().copied().peekable();
    let mut membership = 0;
    let mut at = A::ZERO;
    loop {
        let (origin, origin_changes) = origins.at(at);
        let (country, country_changes) = countries.at(at);
        while let Some((_, id)) = lists.next_if(|&(start, _)| start <= at) {
            membership = id;
        }
        let list_changes = lists.peek().map(|&(start, _)| start);
        let class = classes.id(ClassKey {
            origins: origin,
            country,
            membership,
        })?;
        if out.last().is_none_or(|&(_, last)| last != class) {
            out.push((at, class));
        }
        let changes = [origin_changes, country_changes, list_changes];
        match changes.into_iter().flatten().min() {
            Some(next) => at = next,
            None => return Ok(out),
        }
    }
}

/// Refuses ranges that overlap or are not sorted.
fn check<A: Address, V>(
    ranges: impl Iterator<Item = (A, A, V)>,
    what: &'static str,
) -> Result<(), PartitionError> {
    // The first address that is still free; `None` behind the last one.
    let mut free = Some(A::ZERO);
    for (start, end, _) in ranges {
        if end < start || free.is_none_or(|free| start < free) {
            return Err(PartitionError::BadDatabase {
                what,
                address: start.ip(),
            });
        }
        free = end.next();
    }
    Ok(())
}

/// A place in ranges with gaps, moving up only.
struct Ranges<A, V, I> {
    left: I,
    current: Option<(A, A, V)>,
}

impl<A: Address, V: Copy, I: Iterator<Item = (A, A, V)>> Ranges<A, V, I> {
    fn new(mut left: I) -> Self {
        let current = left.next();
        Self { left, current }
    }

    /// The value at an address, and where it changes next.
    fn at(&mut self, address: A) -> (Option<V>, Option<A>) {
        while self.current.is_some_and(|(_, end, _)| end < address) {
            self.current = self.left.next();
        }
        match self.current {
            Some((start, end, value)) if start <= address => (Some(value), end.next()),
            Some((start, ..)) => (None, Some(start)),
            None => (None, None),
        }
    }
}
