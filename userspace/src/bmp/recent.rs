//! Who had a prefix before its last changes that a verdict depends on: packets that were judged by
//! then are named later, e.g. dropped as AS64500's, and AS65540's by the time that somebody asks.

use std::collections::{HashMap, VecDeque};

use prefix_trie::PrefixMap;

use super::layers::Dirty;
use crate::asn::range::{Address, host_mask};

/// Prefixes that are remembered. When more change in one go, a table is being learned.
const MOST: usize = 1024;
/// Ranges inside one of them.
const RANGES: usize = 256;
/// Changes of one prefix that are remembered.
const OF_EACH: usize = 4;

/// Where ranges inside a prefix begin, and who has them: as [`super::combine::between`] says it.
type Had<A> = Vec<(A, Vec<u32>)>;

/// What prefixes are that may change now.
pub(super) fn had<A: Address>(
    dirty: &Dirty<A>,
    between: impl Fn((A, A)) -> Had<A>,
) -> HashMap<(A, u8), Had<A>> {
    if dirty.accepted.len() + dirty.said.len() > MOST {
        return HashMap::new();
    }
    let all = dirty.accepted.iter().chain(&dirty.said);
    let all = all.map(|&(start, len)| {
        let last = A::narrow(start.wide() | host_mask::<A>(len));
        ((start, len), between((start, last)))
    });
    all.filter(|(_, had)| had.len() <= RANGES).collect()
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recent<A: Address> {
    had: PrefixMap<(A, u8), VecDeque<Had<A>>>,
    /// The oldest first.
    order: VecDeque<(A, u8)>,
}

impl<A: Address> Recent<A> {
    /// What a prefix was until now, of those that might have changed; once.
    pub(super) fn note(&mut self, prefix: (A, u8), had: &mut HashMap<(A, u8), Had<A>>) {
        let Some(had) = had.remove(&prefix) else {
            return;
        };
        if let Some(before) = self.had.get_mut(&prefix) {
            before.push_front(had);
            before.truncate(OF_EACH);
            return;
        }
        if self.order.len() == MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.had.remove(&oldest);
        }
        self.had.insert(prefix, VecDeque::from([had]));
        self.order.push_back(prefix);
    }

    /// Who had an address before, by each prefix around it, the last change of each first.
    pub(super) fn at(&self, address: A) -> impl Iterator<Item = &[u32]> {
        let around = self.had.cover(&(address, A::BITS));
        around
            .flat_map(|(_, before)| before)
            .filter_map(move |had| {
                let after = had.partition_point(|(start, _)| *start <= address);
                Some(&*had.get(after.checked_sub(1)?)?.1)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_changes_are_remembered_and_no_more_than_some() {
        let mut recent = Recent::<u32>::default();
        let at = |recent: &Recent<u32>, address| {
            let all = recent.at(address).map(<[u32]>::to_vec);
            all.collect::<Vec<_>>()
        };
        let note = |recent: &mut Recent<u32>, prefix, had| {
            recent.note(prefix, &mut HashMap::from([(prefix, had)]));
        };
        for asn in 1..=6 {
            note(&mut recent, (0, 24), vec![(0, vec![asn]), (128, vec![])]);
        }
        assert_eq!(at(&recent, 127), [[6], [5], [4], [3]]);
        assert_eq!(at(&recent, 128), [[0; 0]; 4]);
        assert_eq!(at(&recent, 256), [[0; 0]; 0]);
        for number in 1..=MOST as u32 {
            let start = number << 8;
            note(&mut recent, (start, 24), vec![(start, vec![number])]);
        }
        assert_eq!(at(&recent, 127), [[0; 0]; 0], "the oldest is forgotten");
        assert_eq!(at(&recent, 256), [[1]]);
    }
}
