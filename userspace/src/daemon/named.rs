//! Whom a flow was for: the addresses in it, which of them decided, and who announces that, by the
//! database and by live BGP over it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, MutexGuard},
};

use ipnet::Ipv6Net;
use kordon_ebpf::layout::{
    Action, FLOW_INNER_V6, FLOW_JUDGED_SHIFT, FLOW_OTHERS, FLOW_READABLE, FLOW_V6, Flow, Judged,
    Reason,
};

use super::bgp::Bgp;
use crate::{
    asn::AsnDb,
    bmp::feed::Feed,
    compile::directory::{Directory, Identity},
    ledger::network::{Look, Naming, Network, Owner},
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

/// Which address decided: one of [`Judged`].
fn code(flow: &Flow) -> u8 {
    (flow.identity >> FLOW_JUDGED_SHIFT) as u8 & 15
}

/// Source, destination as in the packet, and the inner destination that was judged.
pub(super) fn addresses(flow: &Flow) -> [Option<IpAddr>; 3] {
    let is = |flag: u64| flow.identity & flag != 0;
    if !is(FLOW_READABLE) {
        return [None; 3];
    }
    let v4 = |raw: u64| IpAddr::V4(Ipv4Addr::from((raw as u32).to_ne_bytes()));
    let v6 = |high: u64, low: u64| {
        let (high, low) = (u64::from_be(high), u64::from_be(low));
        IpAddr::V6(Ipv6Addr::from_bits(
            u128::from(high) << 64 | u128::from(low),
        ))
    };
    let [a, b, c, d] = flow.addresses;
    let is_inner = code(flow) >= Judged::Inner as u8;
    let inner = || match is(FLOW_INNER_V6) {
        true => v6(c, d),
        false => IpAddr::V4(Ipv4Addr::from_bits(u64::from_be(d) as u32)),
    };
    let (src, dst) = match is(FLOW_V6) {
        // There the inner destination stands for the outer one.
        true => (v6(a, b), (!is_inner).then(|| v6(c, d))),
        false => (v4(a), Some(v4(a >> 32))),
    };
    let is_others = is(FLOW_OTHERS);
    let inner = (is_inner && !is_others).then(inner);
    [Some(src), dst.filter(|_| !is_others), inner]
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
