//! What a new database changes for those that a policy names: the addresses that
//! each of them gains and loses, as prefixes.
//!
//! Differences are those of address sets, not of rows: a source that writes two
//! halves where it wrote a whole has changed nothing.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::Serialize;

use super::country::Country;
use super::model::AsnDb;
use super::range::{Address, nets, prefix_count};

/// Who is looked at: what the sets of a policy name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Origin ASNs, as ranges.
    pub asns: Vec<RangeInclusive<u32>>,
    /// Countries where ASNs are registered.
    pub asn_countries: Vec<Country>,
    /// Countries that blocks are delegated to.
    pub countries: Vec<Country>,
    /// Organisations, by id or name.
    pub orgs: Vec<String>,
}

/// One of those that are looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An origin.
    Asn(u32),
    /// All ASNs that are registered there.
    AsnCountry(Country),
    /// All blocks that are delegated there.
    Country(Country),
    /// All ASNs of an organisation, as the policy names it.
    Org(String),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asn(asn) => write!(f, "AS{asn}"),
            Self::AsnCountry(country) => write!(f, "ASNs of {country}"),
            Self::Country(country) => write!(f, "blocks of {country}"),
            Self::Org(name) => write!(f, "organisation {name}"),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A prefix that came or went, and whose it is on the other side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// The prefix.
    pub prefix: IpNet,
    /// Of one that came: who had its first address before. Of one that went: who
    /// has it now. Empty: nobody.
    pub others: Vec<u32>,
}

/// What changed for one subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Whom it concerns: `AS64500`, `ASNs of RU`, `blocks of RU`.
    pub subject: Subject,
    /// Of an ASN, where it is known; the new database's word, else the old one's.
    pub name: Option<String>,
    /// Prefixes before, the fewest that say it.
    pub before: u64,
    /// Prefixes after.
    pub after: u64,
    /// The share of the IPv4 and IPv6 addresses before that went, 0 to 1; the larger.
    pub lost_share: f64,
    /// Prefixes of `before` that lost an address.
    pub damaged: u64,
    /// The same of IPv4 alone: what one family has is nothing to compare the other with.
    pub ipv4: Loss,
    /// Of IPv6.
    pub ipv6: Loss,
    /// Addresses that came, as prefixes, IPv4 first.
    pub gained: Vec<Moved>,
    /// Addresses that went.
    pub lost: Vec<Moved>,
}

/// What became of one family of a subject's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Loss {
    /// Prefixes before.
    pub before: u64,
    /// Prefixes after.
    pub after: u64,
    /// The share of the addresses before that went, 0 to 1.
    pub lost_share: f64,
    /// Prefixes of `before` that lost an address.
    pub damaged: u64,
}

/// Both databases in numbers, and what changed for those that are looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// IPv4 prefixes, before and after.
    pub ipv4: (u64, u64),
    /// IPv6 prefixes.
    pub ipv6: (u64, u64),
    /// Subjects that gained or lost something; ASNs first.
    pub changes: Vec<Change>,
}

/// Addresses of one subject: sorted, apart from each other.
#[derive(Default)]
struct Space {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

/// Compares two databases.
#[must_use]
pub fn compare(before: &AsnDb, after: &AsnDb, watched: &Watched) -> Difference {
    let (mut old, mut new) = (spaces(before, watched), spaces(after, watched));
    let mut subjects: Vec<Subject> = old.keys().chain(new.keys()).cloned().collect();
    subjects.sort_unstable();
    subjects.dedup();
    let changes = subjects.into_iter().filter_map(|subject| {
        let old = old.remove(&subject).unwrap_or_default();
        let new = new.remove(&subject).unwrap_or_default();
        change(subject, &old, &new, before, after)
    });
    let (a, b) = (before.info(), after.info());
    Difference {
        ipv4: (a.ipv4.prefixes, b.ipv4.prefixes),
        ipv6: (a.ipv6.prefixes, b.ipv6.prefixes),
        changes: changes.collect(),
    }
}

fn change(
    subject: Subject,
    old: &Space,
    new: &Space,
    before: &AsnDb,
    after: &AsnDb,
) -> Option<Change> {
    let (lost_v4, lost_v6) = (minus(&old.v4, &new.v4), minus(&old.v6, &new.v6));
    let (came_v4, came_v6) = (minus(&new.v4, &old.v4), minus(&new.v6, &old.v6));
    let nothing =
        lost_v4.is_empty() && lost_v6.is_empty() && came_v4.is_empty() && came_v6.is_empty();
    if nothing {
        return None;
    }
    let (ipv4, ipv6) = (
        loss(&old.v4, &new.v4, &lost_v4),
        loss(&old.v6, &new.v6, &lost_v6),
    );
    let moved = |v4: &[(u32, u32)], v6: &[(u128, u128)], there: &AsnDb| {
        let nets = nets(v4.iter().copied())
            .into_iter()
            .chain(nets(v6.iter().copied()));
        let moved = nets.map(|prefix| Moved {
            others: there.origins_at(prefix.network()).to_vec(),
            prefix,
        });
        moved.collect::<Vec<_>>()
    };
    let name = match subject {
        Subject::Asn(asn) => [after, before]
            .into_iter()
            .filter_map(|db| db.asn_info(asn))
            .map(|info| info.name.clone())
            .find(|name| !name.is_empty()),
        _ => None,
    };
    Some(Change {
        subject,
        name,
        before: ipv4.before + ipv6.before,
        after: ipv4.after + ipv6.after,
        lost_share: ipv4.lost_share.max(ipv6.lost_share),
        damaged: ipv4.damaged + ipv6.damaged,
        ipv4,
        ipv6,
        gained: moved(&came_v4, &came_v6, before),
        lost: moved(&lost_v4, &lost_v6, after),
    })
}

fn loss<A: Address>(old: &[(A, A)], new: &[(A, A)], lost: &[(A, A)]) -> Loss {
    Loss {
        before: prefixes(old),
        after: prefixes(new),
        lost_share: share(lost, old),
        damaged: damaged(old, lost),
    }
}

fn prefixes<A: Address>(ranges: &[(A, A)]) -> u64 {
    ranges.iter().map(|&(a, b)| prefix_count(a, b)).sum()
}

fn addresses<A: Address>(ranges: &[(A, A)]) -> f64 {
    let size = |&(start, end): &(A, A)| (end.wide() - start.wide()) as f64 + 1.0;
    ranges.iter().map(size).sum()
}

fn share<A: Address>(part: &[(A, A)], whole: &[(A, A)]) -> f64 {
    if whole.is_empty() {
        0.0
    } else {
        addresses(part) / addresses(whole)
    }
}

/// Prefixes that an address is missing of.
fn damaged<A: Address>(ranges: &[(A, A)], lost: &[(A, A)]) -> u64 {
    if lost.is_empty() {
        return 0;
    }
    // Both in order; prefixes nest or are apart.
    let mut holes = nets(lost.iter().copied()).into_iter().peekable();
    let mut count = 0;
    for net in nets(ranges.iter().copied()) {
        let mut hit = false;
        while let Some(hole) = holes.peek() {
            if hole.network() > net.broadcast() {
                break;
            }
            hit |= hole.broadcast() >= net.network();
            if hole.broadcast() > net.broadcast() {
                break;
            }
            holes.next();
        }
        count += u64::from(hit);
    }
    count
}

/// What is in `a` and not in `b`; both sorted, each without overlaps.
fn minus<A: Address>(a: &[(A, A)], b: &[(A, A)]) -> Vec<(A, A)> {
    let mut out = Vec::new();
    let mut b = b.iter().copied().peekable();
    for &(start, end) in a {
        let mut from = Some(start);
        while let (Some(at), Some(&(b_start, b_end))) = (from, b.peek()) {
            if b_end < at {
                b.next();
                continue;
            }
            if b_start > end {
                break;
            }
            if b_start > at {
                out.push((at, b_start.before()));
            }
            from = if b_end < end { b_end.next() } else { None };
        }
        if let Some(at) = from {
            out.push((at, end));
        }
    }
    out
}

fn spaces(db: &AsnDb, watched: &Watched) -> HashMap<Subject, Space> {
    let orgs: Vec<(&str, &[u32])> = watched
        .orgs
        .iter()
        .filter_map(|name| Some((name.as_str(), db.org(name).ok()?.asns.as_slice())))
        .collect();
    let of_set: Vec<Vec<Subject>> = db
        .origins
        .iter()
        .map(|origins| subjects_of(db, origins, watched, &orgs))
        .collect();
    let of_origins = |id: u32| of_set.get(id as usize).map_or(&[][..], Vec::as_slice);
    let countries: Vec<_> = watched
        .countries
        .iter()
        .map(|c| Subject::Country(*c))
        .collect();
    let of_country = |country: Country| {
        let at = watched.countries.iter().position(|c| *c == country);
        at.map_or(&[][..], |at| &countries[at..=at])
    };
    let mut spaces: HashMap<Subject, Space> = HashMap::new();
    let v4 = db
        .v4
        .iter()
        .map(|r| (r.start, r.end, of_origins(r.origins)));
    add(&mut spaces, v4, |space| &mut space.v4);
    let v6 = db
        .v6
        .iter()
        .map(|r| (r.start, r.end, of_origins(r.origins)));
    add(&mut spaces, v6, |space| &mut space.v6);
    let v4 = db
        .countries_v4
        .iter()
        .map(|r| (r.start, r.end, of_country(r.country)));
    add(&mut spaces, v4, |space| &mut space.v4);
    let v6 = db
        .countries_v6
        .iter()
        .map(|r| (r.start, r.end, of_country(r.country)));
    add(&mut spaces, v6, |space| &mut space.v6);
    spaces
}

fn subjects_of(
    db: &AsnDb,
    origins: &[u32],
    watched: &Watched,
    orgs: &[(&str, &[u32])],
) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for &asn in origins {
        if watched.asns.iter().any(|range| range.contains(&asn)) {
            subjects.push(Subject::Asn(asn));
        }
        let country = db.asn_info(asn).and_then(|info| info.country);
        if let Some(country) = country
            && watched.asn_countries.contains(&country)
        {
            subjects.push(Subject::AsnCountry(country));
        }
        for (name, asns) in orgs {
            if asns.binary_search(&asn).is_ok() {
                subjects.push(Subject::Org((*name).to_owned()));
            }
        }
    }
    subjects.sort_unstable();
    subjects.dedup();
    subjects
}

/// Adds ranges to the spaces of their subjects, behind all others there, joined to neighbours.
fn add<'s, A: Address>(
    spaces: &mut HashMap<Subject, Space>,
    ranges: impl Iterator<Item = (A, A, &'s [Subject])>,
    family: impl Fn(&mut Space) -> &mut Vec<(A, A)>,
) {
    for (start, end, subjects) in ranges {
        for subject in subjects {
            let space = family(spaces.entry(subject.clone()).or_default());
            match space.last_mut() {
                Some(last) if last.1.next() == Some(start) => last.1 = end,
                _ => space.push((start, end)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Against sets of single addresses.
    #[test]
    fn subtraction_is_that_of_sets() {
        let mut random = fastrand::Rng::with_seed(4);
        let mut some = || {
            let mut ranges = Vec::new();
            let mut at = random.u32(0..4);
            while at < 60 {
                let end = at + random.u32(0..6);
                ranges.push((at, end));
                at = end + 2 + random.u32(0..6);
            }
            ranges
        };
        for _ in 0..2000 {
            let (a, b) = (some(), some());
            let set = |ranges: &[(u32, u32)]| -> BTreeSet<u32> {
                ranges.iter().flat_map(|&(a, b)| a..=b).collect()
            };
            let found = minus(&a, &b);
            let expected: BTreeSet<u32> = set(&a).difference(&set(&b)).copied().collect();
            assert_eq!(set(&found), expected, "{a:?} {b:?}");
            let hurt = a.iter().flat_map(|&range| nets([range]));
            let hurt = hurt
                .filter(|net| {
                    let IpNet::V4(net) = net else { return false };
                    expected
                        .range(u32::from(net.network())..=u32::from(net.broadcast()))
                        .next()
                        .is_some()
                })
                .count();
            assert_eq!(damaged(&a, &found), hurt as u64, "{a:?} {b:?}");
        }
        let all = [(0, u32::MAX)];
        assert_eq!(minus(&all, &all), []);
        assert_eq!(minus(&all, &[]), all);
        assert_eq!(minus(&all, &[(u32::MAX, u32::MAX)]), [(0, u32::MAX - 1)]);
    }

    #[test]
    fn what_moves_is_named() {
        let one = |text| crate::asn::tests::import_texts(&[text], &[]).unwrap();
        let (before, _) =
            one("198.51.100.0,198.51.100.255,64500,Bad\n203.0.113.0,203.0.113.255,64501,Good\n");
        let (after, _) = one(
            "198.51.100.0,198.51.100.127,64500,Bad\n198.51.100.128,198.51.100.255,64501,Good\n\
             203.0.113.0,203.0.113.255,64501,Good\n",
        );
        let watched = Watched {
            asns: vec![64500..=64500],
            ..Watched::default()
        };
        let found = compare(&before, &after, &watched);
        assert_eq!(found.changes.len(), 1);
        let change = &found.changes[0];
        assert_eq!(change.subject.to_string(), "AS64500");
        assert_eq!(change.name.as_deref(), Some("Bad"));
        assert_eq!((change.before, change.after, change.damaged), (1, 1, 1));
        assert!((change.lost_share - 0.5).abs() < 1e-9);
        assert_eq!(change.lost[0].prefix.to_string(), "198.51.100.128/25");
        assert_eq!(change.lost[0].others, [64501]);
        assert!(change.gained.is_empty());
        assert!(compare(&after, &after, &watched).changes.is_empty());
    }
}
