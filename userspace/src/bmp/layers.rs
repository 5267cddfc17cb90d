//! What is in effect of the two kinds of tables that a router has of its peers: what it
//! accepted, which decides, and what they said before its filters, which it may have
//! refused, and which therefore only tightens.

use std::collections::{HashMap, HashSet};

use super::overlay::{Change, Ground, Layer, Stakes};
use super::routes::Routes;
use super::sets::{SetId, Sets};
use crate::asn::range::Address;

/// What is in effect of both kinds of tables.
#[derive(Clone, Debug)]
pub(super) struct Layers<A> {
    /// Of what the router accepted.
    pub(super) accepted: Layer<A>,
    /// Of what its peers said, before its filters: it only tightens.
    pub(super) said: Layer<A>,
}

impl<A> Default for Layers<A> {
    fn default() -> Self {
        Self {
            accepted: Layer::default(),
            said: Layer::default(),
        }
    }
}

/// Decides on prefixes that have changed, each by the tables of its layer.
pub(super) fn decide<A: Address>(
    layers: &mut Layers<A>,
    routes: &Routes<A>,
    accepted: &[bool],
    dirty: HashSet<(A, u8)>,
    ground: &Ground<'_>,
    sets: &mut Sets,
    changes: &mut Vec<Change>,
) {
    let mut found = Vec::new();
    let mut wanted = |counts: bool, sets: &Sets| -> Vec<_> {
        let one = |&prefix: &(A, u8)| {
            let of = |peer: usize| accepted.get(peer) == Some(&counts);
            let any = routes.wanted(prefix, of, sets, &mut found);
            (prefix, any.then(|| found.clone()))
        };
        dirty.iter().map(one).collect()
    };
    let of_the_router = wanted(true, sets);
    // Most routers have none of these.
    let of_peers = if accepted.contains(&false) || !layers.said.entries.is_empty() {
        wanted(false, sets)
    } else {
        Vec::new()
    };
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
    for (&(start, len), entry) in &layers.said.entries {
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
