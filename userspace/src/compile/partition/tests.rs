//! The cut agrees with asking each address on its own.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::asn::model::AsnInfo;
use crate::asn::model::{CountryRange, OriginRange};
use crate::policy::model::{Set, Target};

const RU: Country = Country(*b"RU");
const BY: Country = Country(*b"BY");
const NO: Country = Country(*b"NO");

impl Partition {
    /// For every class, whether it is part of a target. The database, of which only
    /// registrations are asked for here, is that of [`Partition::new`].
    ///
    /// # Errors
    /// When the policy's prefixes or countries are not those of [`Partition::new`].
    pub(in crate::compile) fn members(
        &self,
        target: Target,
        policy: &Policy,
        db: &AsnDb,
    ) -> Result<Vec<bool>, PartitionError> {
        let question = self.question(target, policy, db)?;
        let bits = self.signatures(&[question]);
        Ok(bits.into_iter().map(|bits| bits != 0).collect())
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Partition {
    /// Whether a class is part of a target, asked as it is of a class that comes later.
    fn contains(
        &self,
        class: usize,
        target: Target,
        policy: &Policy,
        db: &AsnDb,
    ) -> Result<bool, PartitionError> {
        let question = self.question(target, policy, db)?;
        Ok(self.answers(&question, &self.classes[class]))
    }
}

fn class(partition: &Partition, address: IpAddr) -> usize {
    fn find<A: Ord>(ranges: &[(A, u32)], address: &A) -> usize {
        ranges[ranges.partition_point(|(start, _)| start <= address) - 1].1 as usize
    }
    match address {
        IpAddr::V4(address) => find(&partition.v4, &address.to_bits()),
        IpAddr::V6(address) => find(&partition.v6, &address.to_bits()),
    }
}

/// What a target means, by definition and not by classes.
fn expected(target: Target, policy: &Policy, db: &AsnDb, router: &[IpAddr], at: IpAddr) -> bool {
    let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&at));
    let origins = match at {
        IpAddr::V4(a) => find_in(&db.v4, a.to_bits(), |r| (r.start, r.end)).map(|r| r.origins),
        IpAddr::V6(a) => find_in(&db.v6, a.to_bits(), |r| (r.start, r.end)).map(|r| r.origins),
    };
    let country = match at {
        IpAddr::V4(a) => {
            find_in(&db.countries_v4, a.to_bits(), |r| (r.start, r.end)).map(|r| r.country)
        }
        IpAddr::V6(a) => {
            find_in(&db.countries_v6, a.to_bits(), |r| (r.start, r.end)).map(|r| r.country)
        }
    };
    match target {
        Target::Any => true,
        Target::Private => within(&PRIVATE),
        Target::Multicast => within(&MULTICAST),
        Target::Router => router.contains(&at),
        Target::Unrouted => {
            origins.is_none() && !within(&PRIVATE) && !within(&MULTICAST) && !within(&SPECIAL)
        }
        Target::Set(id) => {
            let set = &policy.sets[id];
            let asns = origins.map_or(&[][..], |id| &db.origins[id as usize]);
            let registered = |asn: &u32| {
                let info = db.asns.iter().find(|(a, _)| a == asn);
                info.and_then(|(_, info)| info.country)
                    .is_some_and(|c| set.asn_countries.contains(&c))
            };
            within(&set.prefixes)
                || country.is_some_and(|c| set.countries.contains(&c))
                || asns
                    .iter()
                    .any(|asn| set.asns.iter().any(|r| r.contains(asn)))
                || asns.iter().any(registered)
        }
    }
}

fn find_in<R, A: Ord>(ranges: &[R], at: A, bounds: impl Fn(&R) -> (A, A)) -> Option<&R> {
    ranges.iter().find(|range| {
        let (start, end) = bounds(range);
        start <= at && at <= end
    })
}

/// Sorted, disjoint ranges from any points; some touch, some leave gaps.
fn pairs<A: Ord + Copy>(mut points: Vec<A>) -> Vec<(A, A)> {
    points.sort_unstable();
    points.dedup();
    points.chunks_exact(2).map(|p| (p[0], p[1])).collect()
}

fn v4_point() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0..8u32,
        (u32::MAX - 8)..=u32::MAX,
        0x0a00_0000..0x0a00_0040u32
    ]
}

fn v6_point() -> impl Strategy<Value = u128> {
    prop_oneof![any::<u128>(), 0..8u128, (u128::MAX - 8)..=u128::MAX]
}

fn country() -> impl Strategy<Value = Country> {
    prop_oneof![Just(RU), Just(BY), Just(NO)]
}

prop_compose! {
    fn database()(
        v4 in vec(v4_point(), 0..40),
        v6 in vec(v6_point(), 0..40),
        countries_v4 in vec(v4_point(), 0..20),
        countries_v6 in vec(v6_point(), 0..20),
        origins in vec(vec(1..20u32, 1..3), 1..8),
        countries in vec(country(), 1..5),
        asns in vec(proptest::option::of(country()), 20),
    ) -> AsnDb {
        let id = |n: usize| (n % origins.len()) as u32;
        let land = |n: usize| countries[n % countries.len()];
        let origin4 = |(n, (start, end))| OriginRange { start, end, origins: id(n) };
        let origin6 = |(n, (start, end))| OriginRange { start, end, origins: id(n) };
        let country4 = |(n, (start, end))| CountryRange { start, end, country: land(n) };
        let country6 = |(n, (start, end))| CountryRange { start, end, country: land(n) };
        let info = |country: &Option<Country>| AsnInfo { name: String::new(), country: *country };
        AsnDb {
            v4: pairs(v4).into_iter().enumerate().map(origin4).collect(),
            v6: pairs(v6).into_iter().enumerate().map(origin6).collect(),
            countries_v4: pairs(countries_v4).into_iter().enumerate().map(country4).collect(),
            countries_v6: pairs(countries_v6).into_iter().enumerate().map(country6).collect(),
            asns: (1..).zip(asns.iter().map(info)).collect(),
            origins,
            ..AsnDb::default()
        }
    }
}

fn prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (v4_point(), 0..=32u8)
            .prop_map(|(a, length)| IpNet::new(Ipv4Addr::from_bits(a).into(), length)),
        (v6_point(), 0..=128u8)
            .prop_map(|(a, length)| IpNet::new(Ipv6Addr::from_bits(a).into(), length)),
    ]
    .prop_map(|net| net.unwrap().trunc())
}

prop_compose! {
    fn set()(
        first in 1..20u32,
        more in 0..5u32,
        asn_countries in vec(country(), 0..2),
        countries in vec(country(), 0..2),
        prefixes in vec(prefix(), 0..6),
        named in any::<bool>(),
    ) -> Set {
        let asns: Vec<RangeInclusive<u32>> = if named { vec![first..=first + more] } else { vec![] };
        Set { name: "s".into(), asns, asn_countries, countries, prefixes, ..Set::default() }
    }
}

proptest! {
    #[test]
    fn agrees_with_asking_each_address(
        db in database(),
        sets in vec(set(), 0..5),
        router in vec(prop_oneof![
            v4_point().prop_map(|a| IpAddr::from(Ipv4Addr::from_bits(a))),
            v6_point().prop_map(|a| IpAddr::from(Ipv6Addr::from_bits(a))),
        ], 0..4),
    ) {
        let policy = Policy { sets, ..Policy::default() };
        let partition = Partition::new(&policy, &db, &router).unwrap();

        prop_assert_eq!(partition.v4[0].0, 0);
        prop_assert_eq!(partition.v6[0].0, 0);
        prop_assert!(partition.v4.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 != w[1].1));
        prop_assert!(partition.v6.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 != w[1].1));
        let mut keys = partition.classes.clone();
        keys.sort_unstable();
        keys.dedup();
        prop_assert_eq!(keys.len(), partition.classes.len());

        let points_v4 = partition.v4.iter()
            .flat_map(|&(a, _)| [a.wrapping_sub(1), a, a.wrapping_add(1)])
            .map(|a| IpAddr::from(Ipv4Addr::from_bits(a)));
        let points_v6 = partition.v6.iter()
            .flat_map(|&(a, _)| [a.wrapping_sub(1), a, a.wrapping_add(1)])
            .map(|a| IpAddr::from(Ipv6Addr::from_bits(a)));
        let points: Vec<_> = points_v4.chain(points_v6).collect();
        let named = (0..policy.sets.len()).map(Target::Set);
        for target in named.chain([
            Target::Any, Target::Private, Target::Multicast, Target::Unrouted, Target::Router,
        ]) {
            let members = partition.members(target, &policy, &db).unwrap();
            prop_assert_eq!(members.len(), partition.classes.len());
            for &at in &points {
                let class = class(&partition, at);
                let want = expected(target, &policy, &db, &router, at);
                prop_assert_eq!(members[class], want, "{:?} {}", target, at);
                prop_assert_eq!(partition.contains(class, target, &policy, &db), Ok(want));
            }
        }
    }
}

fn policy(sets: Vec<Set>) -> Policy {
    Policy {
        sets,
        ..Policy::default()
    }
}

fn list(name: &str, prefixes: &[&str]) -> Set {
    Set {
        name: name.into(),
        prefixes: prefixes.iter().copied().map(net).collect(),
        ..Set::default()
    }
}

#[test]
fn the_key_is_of_what_shapes_the_cut() {
    let router = [ip("192.0.2.1"), ip("2001:db8::1")];
    let base = policy(vec![
        list("a", &["198.51.100.0/24"]),
        list("b", &["2001:db8::/32"]),
    ]);
    let key = partition_key(&base, b"db", &router);

    // Rules, names, order, spelling and ASNs do not shape it.
    let mut same = policy(vec![
        list("y", &["2001:db8::/33", "2001:db8:8000::/33"]),
        list("x", &["198.51.100.128/25", "198.51.100.0/24"]),
        list("empty", &[]),
    ]);
    same.sets[2].asns = vec![64512..=64520];
    same.sets[0].asn_countries = vec![RU];
    let reversed = [router[1], router[0]];
    assert_eq!(partition_key(&same, b"db", &reversed), key);

    // These do.
    let mut country = base.clone();
    country.sets[0].countries = vec![RU];
    let mut joined = base.clone();
    let moved = joined.sets.remove(1);
    joined.sets[0].prefixes.extend(moved.prefixes);
    for (other, db, addresses) in [
        (&base, &b"other"[..], &router[..]),
        (&base, b"db", &router[..1]),
        (&base, b"db", &[]),
        (&country, b"db", &router),
        (&joined, b"db", &router),
    ] {
        assert_ne!(partition_key(other, db, addresses), key);
    }
}

#[test]
fn a_cut_serves_every_policy_with_its_key() {
    let db = AsnDb::default();
    let first = policy(vec![
        list("a", &["192.0.2.0/24"]),
        list("b", &["2001:db8::/32"]),
    ]);
    let second = policy(vec![list("n", &[]), list("c", &["2001:db8::/32"])]);
    let partition = Partition::new(&first, &db, &[]).unwrap();
    let class = class(&partition, ip("2001:db8::7"));
    assert_eq!(
        partition.contains(class, Target::Set(1), &first, &db),
        Ok(true)
    );
    assert_eq!(
        partition.contains(class, Target::Set(1), &second, &db),
        Ok(true)
    );
    assert_eq!(
        partition.contains(class, Target::Set(0), &second, &db),
        Ok(false)
    );

    let mut other = policy(vec![list("theirs", &["192.0.2.0/25"])]);
    let refused = Err(PartitionError::OtherPolicy {
        set: "theirs".into(),
    });
    assert_eq!(
        partition.contains(class, Target::Set(0), &other, &db),
        refused
    );
    other.sets[0].prefixes.clear();
    other.sets[0].countries.push(NO);
    assert_eq!(
        partition.contains(class, Target::Set(0), &other, &db),
        refused
    );
    assert!(partition.members(Target::Set(9), &other, &db).is_err());
}

#[test]
fn a_damaged_database_is_refused() {
    let range = |start, end, origins| OriginRange {
        start,
        end,
        origins,
    };
    let make = |v4| {
        let db = AsnDb {
            v4,
            origins: vec![vec![1]],
            ..AsnDb::default()
        };
        Partition::new(&Policy::default(), &db, &[])
            .unwrap_err()
            .to_string()
    };
    let message = |what, address| {
        format!(
            "cannot cut the address space: the ASN database's {what} are damaged at `{address}`; \
             import it again"
        )
    };
    let announced = "announced ranges";
    assert_eq!(
        make(vec![range(1, 5, 0), range(5, 6, 0)]),
        message(announced, "0.0.0.5")
    );
    assert_eq!(make(vec![range(9, 8, 0)]), message(announced, "0.0.0.9"));
    assert_eq!(
        make(vec![range(3, u32::MAX, 0), range(4, 5, 0)]),
        message(announced, "0.0.0.4")
    );
    assert_eq!(make(vec![range(3, 4, 7)]), message("origins", "0.0.0.3"));
}
