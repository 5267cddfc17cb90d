//! Names the network of a flow, e.g. 198.51.100.7 → AS64500, by the database and live BGP over it; for tunnels and
//! addresses that stand for others, by the address that decided.

use std::{
    net::IpAddr,
    sync::{Arc, MutexGuard},
};

use ipnet::Ipv6Net;
use kordon_ebpf::layout::{Action, Flow, Judged, Reason};

use super::bgp::Bgp;
use crate::{
    asn::AsnDb,
    bmp::feed::Feed,
    compile::directory::{Directory, Identity},
    ledger::{
        camera::{addresses, code},
        network::{Look, Naming, Network, Owner},
    },
    prove::stands_for,
};

/// What flows are named by.
pub(super) struct Names {
    pub(super) db: Arc<AsnDb>,
    pub(super) bgp: Option<Bgp>,
    /// Of the live policy.
    pub(super) nat64: Vec<Ipv6Net>,
    pub(super) directory: Arc<Directory>,
}

impl Names {
    /// Whether the same flows have the same names.
    pub(super) fn names_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.db, &other.db) && self.nat64 == other.nat64
    }

    /// Whether nothing is another.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.names_as(other) && Arc::ptr_eq(&self.directory, &other.directory)
    }
}

impl Naming for Names {
    fn look(&self) -> Option<Box<dyn Look + '_>> {
        let feed = self.bgp.as_ref().map(Bgp::glance).transpose().ok()?;
        Some(Box::new(Named { names: self, feed }))
    }

    fn glance(&self) -> Box<dyn Look + '_> {
        Box::new(Named {
            names: self,
            feed: None,
        })
    }

    fn owner(&self, slot: u32) -> Owner {
        let (zone, action) = match self.directory.identity(slot) {
            None => return Owner::Unknown,
            // What no rule decided is nobody's.
            Some(
                Identity::Rule(zone, _, action) | Identity::Zone(zone, Reason::Default, action),
            ) if action != Action::Pass => (zone, action),
            Some(_) => return Owner::None,
        };
        let base = self.directory.known_zone(&zone);
        base.map_or(Owner::None, |base| {
            Owner::Slot(base + Reason::Default.fixed_slot(action))
        })
    }

    fn of_ordinal(&self, ordinal: u32) -> Network {
        (self.directory.asn(ordinal)).map_or(Network::UNKNOWN, Network::of)
    }
}

/// What is known now.
struct Named<'a> {
    names: &'a Names,
    feed: Option<MutexGuard<'a, Feed>>,
}

impl Look for Named<'_> {
    fn network(&self, flow: &Flow) -> Network {
        let [_, dst, inner] = addresses(flow);
        let Some(address) = judged(flow, dst, inner, &self.names.nat64) else {
            return Network::UNKNOWN;
        };
        let db = &*self.names.db;
        let Some(feed) = &self.feed else {
            return Network::of(db.origins_at(address).first().copied());
        };
        let first = match address {
            IpAddr::V4(address) => {
                let at = address.to_bits();
                first_of(feed.between_v4(db, (at, at)))
            }
            IpAddr::V6(address) => {
                let at = address.to_bits();
                first_of(feed.between_v6(db, (at, at)))
            }
        };
        Network::of(first)
    }
}

/// The first origin of the first range.
fn first_of<A>(ranges: Vec<(A, Vec<u32>)>) -> Option<u32> {
    ranges.first()?.1.first().copied()
}

/// The address that decided.
pub(super) fn judged(
    flow: &Flow,
    dst: Option<IpAddr>,
    inner: Option<IpAddr>,
    nat64: &[Ipv6Net],
) -> Option<IpAddr> {
    let (from, place) = match code(flow).checked_sub(Judged::Inner as u8) {
        Some(place) => (inner?, place),
        None => (dst?, code(flow).checked_sub(Judged::Destination as u8)?),
    };
    stands_for(from, nat64).get(usize::from(place)).copied()?
}
