//! The routes of all peers in one family. Each is a prefix, a path identifier and the
//! number of its origins, in a B-tree: 16 bytes in IPv4 and 48 in IPv6, and what the
//! nodes leave free.

use std::collections::BTreeMap;

use super::sets::{SetId, Sets};
use super::update::Key;
use crate::asn::range::Address;

/// Set beside the number of a route's origins: it was there before the session came
/// back, and was not announced since.
const OLD: u32 = 1 << 31;

/// Routes of one family, by peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes<A> {
    peers: Vec<BTreeMap<Key<A>, u32>>,
    count: usize,
}

impl<A: Address> Routes<A> {
    /// All routes.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Routes of one peer.
    pub(super) fn of(&self, peer: usize) -> usize {
        self.peers.get(peer).map_or(0, BTreeMap::len)
    }

    /// All routes of one peer, with the numbers of their origins.
    pub(super) fn all_of(&self, peer: usize) -> impl Iterator<Item = (&Key<A>, SetId)> {
        let routes = self.peers.get(peer).into_iter().flatten();
        routes.map(|(key, set)| (key, set & !OLD))
    }

    fn peer(&mut self, peer: usize) -> &mut BTreeMap<Key<A>, u32> {
        if self.peers.len() <= peer {
            self.peers.resize_with(peer + 1, BTreeMap::new);
        }
        &mut self.peers[peer]
    }

    /// A route came, or came again. Says whether that changes anything. Takes over one
    /// hold of `set`.
    pub(super) fn announce(
        &mut self,
        peer: usize,
        key: Key<A>,
        set: SetId,
        sets: &mut Sets,
    ) -> bool {
        match self.peer(peer).insert(key, set) {
            Some(before) => {
                sets.release(before & !OLD);
                before & !OLD != set
            }
            None => {
                self.count += 1;
                true
            }
        }
    }

    /// A route is gone. Says whether it was there.
    pub(super) fn withdraw(&mut self, peer: usize, key: &Key<A>, sets: &mut Sets) -> bool {
        match self.peer(peer).remove(key) {
            Some(set) => {
                sets.release(set & !OLD);
                self.count -= 1;
                true
            }
            None => false,
        }
    }

    /// The peer begins anew: what it does not announce again goes with [`Self::sweep`].
    pub(super) fn suspect(&mut self, peer: usize) {
        for set in self.peer(peer).values_mut() {
            *set |= OLD;
        }
    }

    /// The peer has announced all it has: removes what it did not announce again, and
    /// calls `gone` with each.
    pub(super) fn sweep(&mut self, peer: usize, sets: &mut Sets, mut gone: impl FnMut(&Key<A>)) {
        let before = self.of(peer);
        self.peer(peer).retain(|key, set| {
            let stays = *set & OLD == 0;
            if !stays {
                sets.release(*set & !OLD);
                gone(key);
            }
            stays
        });
        self.count -= before - self.of(peer);
    }

    /// Takes a peer out, and calls `gone` with each of its routes; the one with the number
    /// `last`, which nobody has more than, has its number then.
    pub(super) fn remove(
        &mut self,
        peer: usize,
        last: usize,
        sets: &mut Sets,
        mut gone: impl FnMut(&Key<A>),
    ) {
        if let Some(routes) = self.peers.get_mut(peer) {
            self.count -= routes.len();
            for (key, set) in std::mem::take(routes) {
                sets.release(set & !OLD);
                gone(&key);
            }
        }
        if last < self.peers.len() {
            self.peers.swap(peer, last);
            self.peers.truncate(last);
        }
    }

    /// The origins of a prefix, of all paths of peers that `counts`; sorted. False:
    /// nobody announces it, or nobody that can be named.
    pub(super) fn wanted(
        &self,
        (start, len): (A, u8),
        counts: impl Fn(usize) -> bool,
        sets: &Sets,
        out: &mut Vec<u32>,
    ) -> bool {
        out.clear();
        let mut last = None;
        let (from, to) = ((start, len, 0), (start, len, u32::MAX));
        let all = self.peers.iter().enumerate();
        for (_, peer) in all.filter(|(number, _)| counts(*number)) {
            for set in peer.range(from..=to).map(|(_, set)| set & !OLD) {
                if last != Some(set) {
                    out.extend_from_slice(sets.get(set));
                    last = Some(set);
                }
            }
        }
        out.sort_unstable();
        out.dedup();
        !out.is_empty()
    }

    /// The peers that announce a prefix.
    pub(super) fn announcers(&self, start: A, len: u8) -> impl Iterator<Item = usize> {
        let (from, to) = ((start, len, 0), (start, len, u32::MAX));
        let has = move |routes: &BTreeMap<Key<A>, u32>| routes.range(from..=to).next().is_some();
        let all = self.peers.iter().enumerate();
        all.filter(move |(_, routes)| has(routes)).map(|(n, _)| n)
    }
}
