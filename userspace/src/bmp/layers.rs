//! What is in effect of the two kinds of tables that a router has of its peers: what it
//! accepted, which decides, and what they said before its filters, which it may have
//! refused, and which therefore only tightens.

use std::collections::{HashMap, HashSet};

use super::overlay::{Change, Ground, Layer, Stakes};
use super::rib::Touch;
use super::routes::Routes;
use super::sets::{SetId, Sets};
use crate::asn::range::Address;

/// What is in effect of both kinds of tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers<A: Address> {
    /// Of what the router accepted.
    pub(super) accepted: Layer<A>,
    /// Of what its peers said, before its filters: it only tightens.
    pub(super) said: Layer<A>,
}

impl<A: Address> Layers<A> {
    /// Whether nothing is in effect.
    pub(super) fn is_empty(&self) -> bool {
        self.accepted.entries.is_empty() && self.said.entries.is_empty()
    }
}

/// Prefixes that have changed, by the kind of the tables that they changed in: what a
/// router accepted is not decided again because of what it refused.
#[derive(Clone, Debug, Default)]
pub(super) struct Dirty<A> {
    pub(super) accepted: HashSet<(A, u8)>,
    pub(super) said: HashSet<(A, u8)>,
}

impl<A: Address> Dirty<A> {
    fn of(&mut self, accepted: bool) -> &mut HashSet<(A, u8)> {
        match accepted {
            true => &mut self.accepted,
            false => &mut self.said,
        }
    }

    pub(super) fn add(&mut self, touched: &mut Vec<Touch<A>>) {
        for Touch { prefix, accepted } in touched.drain(..) {
            self.of(accepted).insert(prefix);
        }
    }

    /// All that a table has.
    pub(super) fn add_routes(&mut self, routes: &Routes<A>, table: usize, accepted: bool) {
        let prefixes = routes.all_of(table).map(|(key, _)| (key.0, key.1));
        self.of(accepted).extend(prefixes);
    }

    pub(super) fn add_all(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.said.extend(other.said);
    }

    /// What a layer has, of each kind.
    pub(super) fn add_of(&mut self, layers: &Layers<A>, which: impl Fn(&Layer<A>) -> Vec<(A, u8)>) {
        self.accepted.extend(which(&layers.accepted));
        self.said.extend(which(&layers.said));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accepted.is_empty() && self.said.is_empty()
    }
}

/// Decides on prefixes that have changed, each by the tables of its layer.
pub(super) fn decide<A: Address>(
    layers: &mut Layers<A>,
    routes: &Routes<A>,
    dirty: &Dirty<A>,
    ground: &Ground<'_>,
    sets: &mut Sets,
    changes: &mut Vec<Change>,
) {
    let mut found = Vec::new();
    let mut wanted = |dirty: &HashSet<(A, u8)>, counts: bool, sets: &Sets| -> Vec<_> {
        let one = |&prefix: &(A, u8)| {
            let of = |peer: usize| ground.accepted.get(peer) == Some(&counts);
            let any = routes.wanted(prefix, of, sets, &mut found);
            (prefix, any.then(|| found.clone()))
        };
        dirty.iter().map(one).collect()
    };
    let of_the_router = wanted(&dirty.accepted, true, sets);
    let of_peers = wanted(&dirty.said, false, sets);
    layers
        .accepted
        .change(of_the_router.into_iter(), ground, sets, changes);
    let mut said = Vec::new();
    layers
        .said
        .change(of_peers.into_iter(), ground, sets, &mut said);
    // What no rule names tightens nothing.
    changes.extend(said.into_iter().filter(|change| change.urgent));
}

/// Prefixes of peers that tighten what they did not, or no longer do.
pub(super) fn changed_meaning<A: Address>(
    layers: &Layers<A>,
    sets: &Sets,
    (before, after): (&Stakes, &Stakes),
    out: &mut Vec<Change>,
) {
    let nobody = before.drops_unrouted != after.drops_unrouted;
    let mut known: HashMap<SetId, bool> = HashMap::new();
    for ((start, len), entry) in &layers.said.entries {
        let changed = *known.entry(entry.set).or_insert_with(|| {
            let mut all = sets.get(entry.set).iter();
            all.any(|&asn| {
                let tightens = after.tightens(asn);
                before.tightens(asn) != tightens || (nobody && tightens)
            })
        });
        if changed {
            out.push(Change {
                prefix: start.net(len),
                origins: Some(sets.get(entry.set).to_vec()),
                beside: false,
                urgent: true,
            });
        }
    }
}
