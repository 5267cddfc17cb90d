//! Sets of origins by number, in two vectors: a set of its own for each of a hundred
//! thousand would be as many allocations.

use std::collections::HashMap;

use crate::asn::model::OriginsId;

/// Origin sets. Numbers are those of the database, and then those of sets that came later.
#[derive(Clone, Debug, Default)]
pub struct OriginSets {
    ends: Vec<u32>,
    asns: Vec<u32>,
    /// Filled when a set comes later.
    known: HashMap<Box<[u32]>, OriginsId>,
}

impl OriginSets {
    pub(super) fn new(sets: &[Vec<u32>]) -> Self {
        let mut all = Self {
            ends: Vec::with_capacity(sets.len()),
            asns: Vec::with_capacity(sets.len() + sets.len() / 8),
            known: HashMap::new(),
        };
        sets.iter().for_each(|set| all.push(set));
        all
    }

    fn push(&mut self, set: &[u32]) {
        self.asns.extend_from_slice(set);
        // Far fewer than 2^32.
        self.ends.push(self.asns.len() as u32);
    }

    /// A set.
    #[must_use]
    pub fn get(&self, id: OriginsId) -> Option<&[u32]> {
        let id = id as usize;
        let end = *self.ends.get(id)? as usize;
        let start = id
            .checked_sub(1)
            .map_or(0, |before| self.ends[before] as usize);
        self.asns.get(start..end)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.ends.len() as OriginsId).filter_map(|id| self.get(id))
    }

    /// The number of a set, which is new if it was not there.
    pub(super) fn id(&mut self, set: &[u32]) -> OriginsId {
        if self.known.is_empty() {
            let all: Vec<Box<[u32]>> = self.iter().map(Box::from).collect();
            self.known = all.into_iter().zip(0..).collect();
        }
        if let Some(&id) = self.known.get(set) {
            return id;
        }
        self.push(set);
        let id = self.ends.len() as OriginsId - 1;
        self.known.insert(set.into(), id);
        id
    }
}
