//! Names the network of a flow, e.g. 198.51.100.7 → AS64500, by the database and live BGP over it; for tunnels and
//! addresses that stand for others, by the address that decided.
//!
//! A flow is named after it was judged, and whose an address is may have changed in between. A packet that was dropped
//! because it went to AS64500 is AS64500's, whoever has the address by now: the name is the one that explains the
//! verdict, as far as one of those that were known lately does.

use std::{
    net::IpAddr,
    sync::{Arc, MutexGuard},
};

use ipnet::Ipv6Net;
use kordon_ebpf::layout::{Action, FLOW_SLOT, Flow, Judged, Reason};

use super::bgp::Bgp;
use crate::{
    asn::AsnDb,
    bmp::feed::Feed,
    compile::directory::{Directory, Identity},
    ledger::{
        camera::{addresses, code},
        network::{Look, Naming, Network, Owner},
    },
    policy::{
        Policy,
        model::{Rule, Target},
    },
    prove::stands_for,
};

/// What flows are named by.
#[derive(Clone)]
pub(super) struct Names {
    pub(super) db: Arc<AsnDb>,
    pub(super) bgp: Option<Bgp>,
    /// The live policy.
    pub(super) policy: Option<Arc<Policy>>,
    pub(super) directory: Arc<Directory>,
    /// What flows were named by that may have been judged by that.
    pub(super) before: Option<Arc<Self>>,
}

impl Names {
    /// Whether the same flows have the same names.
    pub(super) fn is(&self, other: &Self) -> bool {
        let is_policy = match (&self.policy, &other.policy) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        is_policy
            && Arc::ptr_eq(&self.db, &other.db)
            && Arc::ptr_eq(&self.directory, &other.directory)
    }

    fn nat64(&self) -> &[Ipv6Net] {
        self.policy.as_ref().map_or(&[], |policy| &policy.nat64)
    }

    /// Who announces an address.
    fn origins(&self, address: IpAddr, feed: Option<&Feed>) -> Vec<u32> {
        let db = &*self.db;
        let Some(feed) = feed else {
            return db.origins_at(address).to_vec();
        };
        match address {
            IpAddr::V4(address) => {
                let at = address.to_bits();
                first_of(feed.between_v4(db, (at, at)))
            }
            IpAddr::V6(address) => {
                let at = address.to_bits();
                first_of(feed.between_v6(db, (at, at)))
            }
        }
    }

    /// Whether packets to these may have been counted there: not those of others than a rule names that decided, and not
    /// those that a rule would have dropped where none decided.
    fn explains(&self, origins: &[u32], slot: u32) -> bool {
        let Some(policy) = &self.policy else {
            return true;
        };
        let is_of_origins = |target: &Target| match target {
            Target::Unrouted => true,
            Target::Set(id) => (policy.sets.get(*id))
                .is_some_and(|set| set.prefixes.is_empty() && set.countries.is_empty()),
            _ => false,
        };
        let names = |target: &Target| match target {
            Target::Unrouted => origins.is_empty(),
            Target::Set(id) => (policy.sets.get(*id))
                .is_some_and(|set| origins.iter().any(|asn| set.names(*asn, &self.db))),
            _ => false,
        };
        let mut rules = policy.rules.iter();
        match self.directory.identity(slot) {
            Some(Identity::Rule(_, name, _)) => rules
                .find(|rule| rule.name == name)
                .is_none_or(|rule| !rule.to.iter().all(is_of_origins) || rule.to.iter().any(names)),
            Some(Identity::Zone(zone, Reason::Default, Action::Pass)) => {
                let is_from = |rule: &Rule| {
                    let mut zones = rule.from.iter().filter_map(|id| policy.zones.get(*id));
                    zones.any(|from| from.name == zone)
                };
                let is_whole = |rule: &Rule| rule.proto.is_none() && rule.ports.is_empty();
                !rules.any(|rule| {
                    rule.action == Action::Drop
                        && is_whole(rule)
                        && is_from(rule)
                        && rule.to.iter().any(names)
                })
            }
            _ => true,
        }
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
        let Some(address) = judged(flow, dst, inner, self.names.nat64()) else {
            return Network::UNKNOWN;
        };
        let slot = (flow.identity & FLOW_SLOT) as u32;
        let feed = self.feed.as_deref();
        let now = self.names.origins(address, feed);
        let first = |origins: &[u32]| Network::of(origins.first().copied());
        let mut before = feed.map(|feed| feed.before(address)).into_iter().flatten();
        let earlier = self.names.before.as_deref();
        let is_sure = earlier.is_none() && before.next().is_none();
        let is_other = earlier.is_some_and(|earlier| earlier.nat64() != self.names.nat64());
        if is_sure || (!is_other && self.names.explains(&now, slot)) {
            return first(&now);
        }
        let is_it = |origins: &&[u32]| self.names.explains(origins, slot);
        // What an address stands for may be another, too.
        let of_earlier = || {
            let earlier = earlier?;
            let address = judged(flow, dst, inner, earlier.nat64())?;
            let origins = earlier.origins(address, feed);
            earlier.explains(&origins, slot).then(|| first(&origins))
        };
        let of_feed = || {
            let mut before = feed?.before(address);
            before.find(is_it).map(first)
        };
        of_earlier().or_else(of_feed).unwrap_or(first(&now))
    }
}

/// The origins of the first range.
fn first_of<A>(ranges: Vec<(A, Vec<u32>)>) -> Vec<u32> {
    let first = ranges.into_iter().next();
    first.map(|(_, origins)| origins).unwrap_or_default()
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
