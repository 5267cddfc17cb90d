//! The cut itself: origins, countries and prefix lists laid over each other, once over all
//! addresses of a family. Each combination that occurs becomes a class.

use std::collections::HashMap;

use super::{ClassKey, MAX_CLASSES, Membership, PartitionError};
use crate::asn::{
    Country,
    model::{CountryRange, OriginRange},
    range::Address,
};

/// Every combination of lists that occurs.
pub(super) struct Memberships {
    pub(super) words: usize,
    pub(super) all: Vec<Membership>,
    ids: HashMap<Membership, u32>,
}

impl Memberships {
    pub(super) fn new(bits: usize) -> Self {
        Self {
            words: bits.div_ceil(64),
            all: Vec::new(),
            ids: HashMap::new(),
        }
    }

    pub(super) fn id(&mut self, bits: &[u64]) -> u32 {
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
    pub(super) fn steps<'a, A: Address + 'a>(
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
        let mut at = A::narrow(0);
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
pub(super) struct Classes {
    pub(super) keys: Vec<ClassKey>,
    /// By origins, `None` last: the first class that has them. Most have one
    /// only, so few keys are ever hashed.
    first: Vec<Option<u32>>,
    /// All others.
    others: HashMap<ClassKey, u32>,
}

impl Classes {
    pub(super) fn new(origins: usize, key: ClassKey) -> Result<Self, PartitionError> {
        let mut classes = Self {
            keys: Vec::with_capacity(origins + 1),
            first: vec![None; origins + 1],
            others: HashMap::new(),
        };
        classes.id(key)?;
        Ok(classes)
    }

    pub(super) fn id(&mut self, key: ClassKey) -> Result<u32, PartitionError> {
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
pub(super) fn cut<A: Address>(
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
    let mut at = A::narrow(0);
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
    let mut free = Some(A::narrow(0));
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
