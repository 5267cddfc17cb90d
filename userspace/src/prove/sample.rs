//! Which addresses a proof asks for.

use std::net::IpAddr;

use super::{Claim, MEMBERS, naive::is_special};
use crate::policy::model::Target;

/// An address in network order, IPv4 in the first four bytes.
pub(super) type Bytes = [u8; 16];

fn bytes(address: IpAddr) -> Bytes {
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

/// Addresses by family: IPv4, IPv6.
#[derive(Default)]
struct Both([Vec<Bytes>; 2]);

impl Both {
    fn add(&mut self, claim: &Claim<'_>, address: IpAddr) {
        if !is_special(address) && !embeds(claim, address) {
            self.0[usize::from(address.is_ipv6())].push(bytes(address));
        }
    }

    fn done(mut self) -> Self {
        for family in &mut self.0 {
            family.sort_unstable();
            family.dedup();
        }
        self
    }
}

/// Addresses that stand for IPv4 ones are judged by those.
fn embeds(claim: &Claim<'_>, address: IpAddr) -> bool {
    let IpAddr::V6(v6) = address else {
        return false;
    };
    let segments = v6.segments();
    segments[0] == 0x2002
        || segments[..2] == [0x2001, 0]
        || segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0]
        || segments[..6] == [0, 0, 0, 0, 0, 0xffff]
        || claim.policy.nat64.iter().any(|prefix| prefix.contains(&v6))
}

pub(super) struct Samples {
    zones: Vec<Both>,
    ranges: Both,
}

impl Samples {
    pub(super) fn new(claim: &Claim<'_>, ranges: usize) -> Self {
        let firsts = Firsts::new(claim);
        let zones = (0..claim.policy.zones.len())
            .map(|zone| {
                let mut both = Both::default();
                let mut targets: Vec<Target> = claim
                    .policy
                    .rules
                    .iter()
                    .filter(|rule| rule.from.contains(&zone))
                    .flat_map(|rule| rule.to.iter().copied())
                    .collect();
                targets.sort_unstable();
                targets.dedup();
                for target in targets {
                    members(claim, &firsts, target, &mut both);
                }
                both.done()
            })
            .collect();
        Self {
            zones,
            ranges: range_ends(claim, ranges).done(),
        }
    }

    pub(super) fn of_zone(&self, zone: usize, v6: bool) -> &[Bytes] {
        &self.zones[zone].0[usize::from(v6)]
    }

    pub(super) fn ranges(&self, v6: bool) -> &[Bytes] {
        &self.ranges.0[usize::from(v6)]
    }
}

/// The first range of each origin set, in each family.
struct Firsts {
    v4: Vec<Option<u32>>,
    v6: Vec<Option<u128>>,
}

impl Firsts {
    fn new(claim: &Claim<'_>) -> Self {
        let db = claim.db;
        let mut firsts = Self {
            v4: vec![None; db.origins.len()],
            v6: vec![None; db.origins.len()],
        };
        for range in &db.v4 {
            firsts.v4[range.origins as usize].get_or_insert(range.start);
        }
        for range in &db.v6 {
            firsts.v6[range.origins as usize].get_or_insert(range.start);
        }
        firsts
    }
}

fn members(claim: &Claim<'_>, firsts: &Firsts, target: Target, both: &mut Both) {
    let Target::Set(id) = target else {
        let built_in: &[&str] = match target {
            Target::Private => &[
                "10.1.2.3",
                "172.31.255.255",
                "192.168.0.1",
                "100.64.0.0",
                "fd00::1",
            ],
            Target::Multicast => &["224.0.0.251", "239.255.255.255", "ff05::1"],
            Target::Unrouted => &["192.0.2.1", "2001:db8::1"],
            _ => &["9.9.9.9", "2620:fe::9"],
        };
        let router: &[IpAddr] = if target == Target::Router {
            &claim.environment.router
        } else {
            &[]
        };
        let built_in = built_in.iter().filter_map(|address| address.parse().ok());
        for address in built_in.chain(router.iter().copied()) {
            both.add(claim, address);
        }
        return;
    };
    let set = &claim.policy.sets[id];
    for prefix in every(&set.prefixes, MEMBERS) {
        both.add(claim, prefix.network());
        both.add(claim, prefix.broadcast());
        for outside in [before(prefix.network()), after(prefix.broadcast())]
            .into_iter()
            .flatten()
        {
            both.add(claim, outside);
        }
    }
    let db = claim.db;
    if !set.asns.is_empty() || !set.asn_countries.is_empty() {
        let is_named = |asn: &u32| {
            set.asns.iter().any(|range| range.contains(asn))
                || !set.asn_countries.is_empty()
                    && db
                        .asn_info(*asn)
                        .and_then(|info| info.country)
                        .is_some_and(|country| set.asn_countries.contains(&country))
        };
        let named: Vec<usize> = (0..db.origins.len())
            .filter(|id| db.origins[*id].iter().any(is_named))
            .collect();
        for id in every(&named, MEMBERS) {
            if let Some(first) = firsts.v4[*id] {
                both.add(claim, IpAddr::V4(first.into()));
            }
            if let Some(first) = firsts.v6[*id] {
                both.add(claim, IpAddr::V6(first.into()));
            }
        }
    }
    for country in &set.countries {
        let v4: Vec<_> = db
            .countries_v4
            .iter()
            .filter(|r| r.country == *country)
            .collect();
        for range in every(&v4, MEMBERS) {
            both.add(claim, IpAddr::V4(range.start.into()));
            both.add(claim, IpAddr::V4(range.end.into()));
        }
        let v6: Vec<_> = db
            .countries_v6
            .iter()
            .filter(|r| r.country == *country)
            .collect();
        for range in every(&v6, MEMBERS) {
            both.add(claim, IpAddr::V6(range.start.into()));
            both.add(claim, IpAddr::V6(range.end.into()));
        }
    }
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
fn every<T>(all: &[T], limit: usize) -> impl Iterator<Item = &T> {
    all.iter().step_by(all.len().div_ceil(limit.max(1)).max(1))
}

fn range_ends(claim: &Claim<'_>, limit: usize) -> Both {
    let mut both = Both::default();
    for range in every(&claim.db.v4, limit) {
        both.add(claim, IpAddr::V4(range.start.into()));
        both.add(claim, IpAddr::V4(range.end.into()));
    }
    for range in every(&claim.db.v6, limit) {
        both.add(claim, IpAddr::V6(range.start.into()));
        both.add(claim, IpAddr::V6(range.end.into()));
    }
    both
}
