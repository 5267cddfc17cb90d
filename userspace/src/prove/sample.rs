//! Which addresses a proof asks for.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv6Net};

use super::{
    address::is_special,
    claim::{Budget, Claim},
    naive::{Meant, Reference},
};
use crate::policy::model::Target;

/// An address in network order, IPv4 in the first four bytes.
pub(super) type Bytes = [u8; 16];

/// What every policy's built-in targets are made of, and what it is next to.
const ALWAYS: &str = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 169.254.0.0/16
    224.0.0.0/4 255.255.255.255/32 192.0.2.0/24 9.9.9.9/32 fc00::/7 fe80::/10 ff00::/8
    2001:db8::/32 2620:fe::9/128 2000::/3";

/// Prefixes whose addresses stand for IPv4 ones, with what stands before it.
const EMBEDDING: &str = "::ffff:0:0/96 64:ff9b::/96 ::/96 ::ffff:0:0:0/96 64:ff9b:1::/48
    64:ff9b:1::/64 64:ff9b:1::/96 2620:fe::5efe:0:0/96 2620:fe::200:5efe:0:0/96";

/// IPv4 addresses that are tried in each prefix that stands for them, by all zones.
const EMBEDDED: usize = 64;

pub(super) fn bytes(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address again.
pub(super) fn address(bytes: &Bytes, v6: bool) -> IpAddr {
    if v6 {
        IpAddr::from(*bytes)
    } else {
        IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

/// An address that was looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) bytes: Bytes,
    pub(super) meant: Meant,
}

/// Looks addresses up.
pub(super) fn look_up(reference: &Reference<'_>, v6: bool, all: &[Bytes]) -> Vec<Sample> {
    let sample = |bytes: &Bytes| Sample {
        bytes: *bytes,
        meant: reference.meant(address(bytes, v6)),
    };
    all.iter().map(sample).collect()
}

/// Addresses by family: IPv4, IPv6.
#[derive(Clone, Debug, Default)]
pub(super) struct Both([Vec<Bytes>; 2]);

impl Both {
    pub(super) fn of(&self, v6: bool) -> &[Bytes] {
        &self.0[usize::from(v6)]
    }

    /// Nothing on a wire goes to some: they are no destinations.
    pub(super) fn add(&mut self, address: IpAddr) {
        if !is_special(address) {
            self.0[usize::from(address.is_ipv6())].push(bytes(address));
        }
    }

    pub(super) fn add_with_neighbours(&mut self, net: IpNet) {
        let (first, last) = (net.network(), net.broadcast());
        for address in [before(first), Some(first), Some(last), after(last)] {
            address.into_iter().for_each(|address| self.add(address));
        }
    }

    fn extend(&mut self, other: &Self) {
        for (mine, others) in self.0.iter_mut().zip(&other.0) {
            mine.extend_from_slice(others);
        }
    }

    pub(super) fn done(mut self) -> Self {
        for family in &mut self.0 {
            family.sort_unstable();
            family.dedup();
        }
        self
    }

    fn at_most(mut self, limit: usize) -> Self {
        for family in &mut self.0 {
            if family.len() > limit {
                *family = every(family, limit).copied().collect();
            }
        }
        self
    }
}

/// Addresses of the policy, for each zone: those of its rules' targets, and those
/// that lie beside them or stand for them.
pub(super) fn of_zones(claim: &Claim<'_>, reference: &Reference<'_>, budget: Budget) -> Vec<Both> {
    let mut of_targets: HashMap<Target, Both> = HashMap::new();
    let always = always(claim);
    let zones = claim.policy.zones.len().max(1);
    (0..claim.policy.zones.len())
        .map(|zone| {
            let mut targets: Vec<Target> = claim
                .policy
                .rules
                .iter()
                .filter(|rule| rule.from.contains(&zone))
                .flat_map(|rule| rule.to.iter().copied())
                .collect();
            targets.sort_unstable();
            targets.dedup();
            let mut both = Both::default();
            for target in targets {
                let members = of_targets
                    .entry(target)
                    .or_insert_with(|| members(claim, reference, target, budget));
                both.extend(members);
            }
            let mut both = both.done().at_most(budget.members() * 4 / zones);
            let own = both.clone();
            both.extend(&always);
            let limit = (EMBEDDED / zones).max(4);
            for net in embedding(claim) {
                for v4 in every(own.of(false), limit).chain(every(always.of(false), limit)) {
                    let v4 = Ipv4Addr::new(v4[0], v4[1], v4[2], v4[3]);
                    both.add(embed(net, v4).into());
                    if net.prefix_len() == 32 {
                        // A Teredo client stands inverted at the end.
                        let client = u128::from(!v4.to_bits());
                        both.add(IpAddr::V6((net.network().to_bits() | client).into()));
                    }
                }
            }
            both.done()
        })
        .collect()
}

fn always(claim: &Claim<'_>) -> Both {
    let mut both = Both::default();
    for net in ALWAYS.split_whitespace().filter_map(|net| net.parse().ok()) {
        both.add_with_neighbours(net);
    }
    for address in &claim.environment.router {
        both.add_with_neighbours(IpNet::from(*address));
    }
    both.done()
}

fn embedding(claim: &Claim<'_>) -> Vec<Ipv6Net> {
    // 6to4 and Teredo put the address behind their own prefix.
    let built_in = EMBEDDING
        .split_whitespace()
        .chain(["2002::/16", "2001::/32"]);
    built_in
        .filter_map(|net| net.parse().ok())
        .chain(claim.policy.nat64.iter().copied())
        .collect()
}

/// An address in `net` that stands for `v4` (RFC 6052, 2.2: byte 8 is left out).
fn embed(net: Ipv6Net, v4: Ipv4Addr) -> Ipv6Addr {
    let mut bytes = net.network().octets();
    let first = usize::from(net.prefix_len() / 8);
    let places = (first..16).filter(|at| *at != 8);
    for (at, byte) in places.zip(v4.octets()) {
        bytes[at] = byte;
    }
    bytes.into()
}

/// The first address of each of these sets of origins, in each family. `chosen`
/// is ascending.
fn firsts(claim: &Claim<'_>, chosen: &[usize], both: &mut Both) {
    let db = claim.db;
    let mut wanted = vec![false; db.origins.len()];
    let mark = |wanted: &mut Vec<bool>| chosen.iter().for_each(|id| wanted[*id] = true);
    mark(&mut wanted);
    for range in &db.v4 {
        if std::mem::take(&mut wanted[range.origins as usize]) {
            both.add(IpAddr::V4(range.start.into()));
        }
    }
    wanted.fill(false);
    mark(&mut wanted);
    for range in &db.v6 {
        if std::mem::take(&mut wanted[range.origins as usize]) {
            both.add(IpAddr::V6(range.start.into()));
        }
    }
}

fn members(claim: &Claim<'_>, reference: &Reference<'_>, target: Target, budget: Budget) -> Both {
    let mut both = Both::default();
    let Target::Set(id) = target else {
        // Of the others every boundary is tried always.
        return both;
    };
    let limit = budget.members();
    let set = &claim.policy.sets[id];
    for prefix in every(&set.prefixes, limit) {
        both.add_with_neighbours(*prefix);
    }
    let db = claim.db;
    if !set.asns.is_empty() || !set.asn_countries.is_empty() {
        let named: Vec<usize> = (0..db.origins.len())
            .filter(|id| {
                db.origins[*id]
                    .iter()
                    .any(|asn| reference.is_named(set, *asn))
            })
            .collect();
        let chosen: Vec<usize> = every(&named, limit).copied().collect();
        firsts(claim, &chosen, &mut both);
    }
    if !set.countries.is_empty() {
        let named = |country| set.countries.contains(country);
        let v4 = db.countries_v4.iter().filter(|r| named(&r.country));
        for range in every(&v4.collect::<Vec<_>>(), limit) {
            both.add(IpAddr::V4(range.start.into()));
            both.add(IpAddr::V4(range.end.into()));
        }
        let v6 = db.countries_v6.iter().filter(|r| named(&r.country));
        for range in every(&v6.collect::<Vec<_>>(), limit) {
            both.add(IpAddr::V6(range.start.into()));
            both.add(IpAddr::V6(range.end.into()));
        }
    }
    both
}

/// Addresses of the database, whatever the policy says of them: both ends of
/// ranges and what lies beside them, and addresses inside; with the live table a
/// few of the first ones. Evenly, up to the budget.
pub(super) fn of_database(claim: &Claim<'_>, budget: Budget) -> Both {
    let mut both = Both::default();
    let db = claim.db;
    for net in claim.changed {
        both.add_with_neighbours(*net);
    }
    if budget == Budget::Rules {
        for range in every(&db.v4, budget.ranges()) {
            both.add(IpAddr::V4(range.start.into()));
        }
        for range in every(&db.v6, budget.ranges()) {
            both.add(IpAddr::V6(range.start.into()));
        }
        return both;
    }
    for (index, range) in numbered(&db.v4, budget.ranges()) {
        both.add(IpAddr::V4(range.start.into()));
        both.add(IpAddr::V4(range.end.into()));
        // What follows, unless it is the next range's first.
        if let Some(next) = range.end.checked_add(1)
            && db.v4.get(index + 1).is_none_or(|range| range.start != next)
        {
            both.add(IpAddr::V4(next.into()));
        }
    }
    for (index, range) in numbered(&db.v6, budget.ranges()) {
        both.add(IpAddr::V6(range.start.into()));
        both.add(IpAddr::V6(range.end.into()));
        both.add(IpAddr::V6(
            (range.start + (range.end - range.start) / 3).into(),
        ));
        if let Some(next) = range.end.checked_add(1)
            && db.v6.get(index + 1).is_none_or(|range| range.start != next)
        {
            both.add(IpAddr::V6(next.into()));
        }
    }
    // Each /24 that somebody announces, as far as the budget goes, and a few in
    // each /16 whoever announces it. The third byte is not always the same.
    let announced: u64 = db.v4.iter().map(|r| u64::from(r.end - r.start) >> 8).sum();
    let step = (announced as usize).div_ceil(budget.ranges()).max(1) as u32;
    for range in &db.v4 {
        let blocks = (range.start >> 8..=range.end >> 8).step_by(step as usize);
        for block in blocks.skip(1) {
            both.add(IpAddr::V4((block << 8 | block & 0xff).into()));
        }
    }
    for block in 0..1u32 << 16 {
        let inside = block.wrapping_mul(0x9e37_79b1) >> 16;
        both.add(IpAddr::V4((block << 16 | inside).into()));
        // The first 16 bits of IPv6 are as large a table. Outside of 2000::/3
        // hardly anything is there.
        if block >> 13 == 1 || block.is_multiple_of(8) {
            let inside = u128::from(inside) * (u128::MAX >> 34);
            both.add(IpAddr::V6((u128::from(block) << 112 | inside).into()));
        }
    }
    both
}

/// At most about `limit` of these, evenly, and their places.
fn numbered<T>(all: &[T], limit: usize) -> impl Iterator<Item = (usize, &T)> {
    let step = all.len().div_ceil(limit.max(1)).max(1);
    all.iter().enumerate().step_by(step)
}

fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => Some(IpAddr::V4(u32::from(v4).checked_sub(1)?.into())),
        IpAddr::V6(v6) => Some(IpAddr::V6(u128::from(v6).checked_sub(1)?.into())),
    }
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => Some(IpAddr::V4(u32::from(v4).checked_add(1)?.into())),
        IpAddr::V6(v6) => Some(IpAddr::V6(u128::from(v6).checked_add(1)?.into())),
    }
}

/// At most `limit` of these, evenly.
pub(super) fn every<T>(all: &[T], limit: usize) -> impl Iterator<Item = &T> {
    all.iter().step_by(all.len().div_ceil(limit.max(1)).max(1))
}
