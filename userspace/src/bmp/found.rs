//! What a feed tells those who ask: what it has around an address, from whom, and what
//! waits.

use std::net::IpAddr;

use super::{
    feed::Feed, layers::Layers, message::LOC_RIB, overlay::Layer, rib::Moment, routes::Routes,
    sets::Sets,
};
use crate::asn::range::Address;

/// A change that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Of which prefix.
    pub prefix: ipnet::IpNet,
    /// The origins that are in effect for it.
    pub current: Vec<u32>,
    /// Those that wait; empty: the prefix is to go.
    pub wanted: Vec<u32>,
    /// Seconds since 1970.
    pub since: u32,
    /// Seconds from now.
    pub left: u32,
}

/// What the RIB has around an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The longest prefix.
    pub prefix: ipnet::IpNet,
    /// Its origins as they are in effect.
    pub origins: Vec<u32>,
    /// Since when; seconds since 1970.
    pub since: u32,
    /// Who announces it. Empty: nobody any more, and that waits.
    pub peers: Vec<IpAddr>,
    /// Whether all of these are stale.
    pub stale: bool,
    /// The imported origins count beside these.
    pub beside: bool,
}

impl Feed {
    /// The changes that wait, `limit` of each family at most.
    #[must_use]
    pub fn waits(&self, now: Moment, limit: usize) -> Vec<Wait> {
        let mut out = Vec::new();
        let (sets, Feed { v4, v6, .. }) = (&self.sets, self);
        let of_v4 = waits(&v4.accepted, sets, now).chain(waits(&v4.said, sets, now));
        out.extend(of_v4.take(limit));
        let of_v6 = waits(&v6.accepted, sets, now).chain(waits(&v6.said, sets, now));
        out.extend(of_v6.take(limit));
        out
    }

    /// What there is around an address, and what waits there.
    #[must_use]
    pub fn at(&self, address: IpAddr, now: Moment) -> (Option<Found>, Option<Wait>) {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let (layers, routes) = (&self.v4, &self.rib.v4);
                self.around(layers, routes, address.to_bits(), now)
            }
            IpAddr::V6(address) => {
                let (layers, routes) = (&self.v6, &self.rib.v6);
                self.around(layers, routes, address.to_bits(), now)
            }
        }
    }

    fn around<A: Address>(
        &self,
        layers: &Layers<A>,
        routes: &Routes<A>,
        address: A,
        now: Moment,
    ) -> (Option<Found>, Option<Wait>) {
        let at = |layer: &Layer<A>| layer.at(address).map(|(prefix, _)| prefix);
        let prefix = at(&layers.accepted);
        let found = prefix.and_then(|prefix| self.found(&layers.accepted, routes, prefix, true));
        let of = |layer: &Layer<A>| {
            let (prefix, _) = layer.waiting_at(address)?;
            Some(one(layer, &self.sets, now, prefix))
        };
        (found, of(&layers.accepted).or_else(|| of(&layers.said)))
    }

    /// What was said of an address before the router's filters that makes it stricter: only
    /// origins that do so.
    #[must_use]
    pub fn tightened(&self, address: IpAddr) -> Option<Found> {
        match address.to_canonical() {
            IpAddr::V4(address) => self.said(&self.v4, &self.rib.v4, address.to_bits()),
            IpAddr::V6(address) => self.said(&self.v6, &self.rib.v6, address.to_bits()),
        }
    }

    fn said<A: Address>(
        &self,
        layers: &Layers<A>,
        routes: &Routes<A>,
        address: A,
    ) -> Option<Found> {
        let (prefix, _) = layers.said.at(address)?;
        let accepted = layers.accepted.at(address);
        if accepted.is_some_and(|((_, len), _)| len > prefix.1) {
            return None;
        }
        let mut found = self.found(&layers.said, routes, prefix, false)?;
        found.origins.retain(|&asn| self.stakes.tightens(asn));
        Some(found).filter(|found| !found.origins.is_empty())
    }

    fn found<A: Address>(
        &self,
        layer: &Layer<A>,
        routes: &Routes<A>,
        prefix: (A, u8),
        accepted: bool,
    ) -> Option<Found> {
        let entry = layer.entries.get(&prefix)?;
        let announcers = routes.announcers(prefix.0, prefix.1);
        let peers: Vec<_> = announcers
            .filter_map(|number| self.rib.tables.get(number))
            .filter(|table| table.is_accepted() == accepted)
            .collect();
        let mut addresses: Vec<IpAddr> = peers
            .iter()
            .map(|table| match table.peer.kind {
                LOC_RIB => table.router,
                _ => table.peer.address,
            })
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        Some(Found {
            prefix: prefix.0.net(prefix.1),
            origins: self.sets.get(entry.set).to_vec(),
            since: entry.since,
            stale: peers.iter().all(|table| table.stale) && !peers.is_empty(),
            peers: addresses,
            beside: entry.beside,
        })
    }
}

fn waits<A: Address>(layer: &Layer<A>, sets: &Sets, now: Moment) -> impl Iterator<Item = Wait> {
    let one = move |prefix| one(layer, sets, now, prefix);
    layer.waiting.keys().map(one)
}

fn one<A: Address>(layer: &Layer<A>, sets: &Sets, now: Moment, prefix: (A, u8)) -> Wait {
    let waiting = layer.waiting.get(&prefix);
    let set = |id| sets.get(id).to_vec();
    let current = layer.entries.get(&prefix).map(|entry| set(entry.set));
    Wait {
        prefix: prefix.0.net(prefix.1),
        current: current.unwrap_or_default(),
        wanted: waiting.and_then(|w| w.wanted).map(set).unwrap_or_default(),
        since: waiting.map_or(0, |w| w.since),
        left: waiting.map_or(0, |w| w.until.saturating_sub(now.steady)),
    }
}
