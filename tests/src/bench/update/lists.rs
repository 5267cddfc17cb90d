//! What is blocked before and after each change, and addresses whose fate is known.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use kordon_ebpf::layout::Action;

use super::super::internet::{Input, Internet, policy_text, prefixes};
use super::super::packet::{Family, octets};
use crate::lab::flood::DESTINATIONS;

/// IPv4 prefixes of the one ASN more.
const MORE: std::ops::RangeInclusive<usize> = 8..=32;

/// Addresses of each kind that is sent.
const MOST: usize = DESTINATIONS / 2;

/// Prefixes that are blocked, and the policies that say so.
pub(super) struct Lists {
    /// The usual policy's.
    pub(super) first: List,
    /// Another list: of the first one the half, and about as many prefixes of others.
    pub(super) other: List,
    /// An ASN of neither.
    pub(super) asn: u32,
    /// Its prefixes.
    pub(super) more: Vec<IpNet>,
    /// Addresses, by what becomes of them.
    pub(super) fates: Fates,
}

/// A list of what is blocked.
pub(super) struct List {
    pub(super) nets: Vec<IpNet>,
    /// For kordon.
    pub(super) policy: String,
}

/// IPv4 addresses by what becomes of them.
#[derive(Clone, Debug)]
pub(super) struct Fates {
    /// Always dropped.
    pub(super) dropped: Vec<Input>,
    /// Always passed.
    pub(super) passed: Vec<Input>,
    /// Dropped by the first list alone.
    pub(super) of_first: Vec<Input>,
    /// Dropped by the other list alone.
    pub(super) of_other: Vec<Input>,
    /// Dropped where the one ASN more is blocked.
    pub(super) of_more: Vec<Input>,
}

impl Lists {
    /// From a policy and its table; the same in every run.
    pub(super) fn draw(internet: &Internet) -> Result<Self> {
        // IPv4 prefixes, and those of both families.
        let mut announced: BTreeMap<u32, [usize; 2]> = BTreeMap::new();
        for (net, origin) in prefixes(&internet.db) {
            let counts = announced.entry(origin).or_default();
            counts[0] += usize::from(net.addr().is_ipv4());
            counts[1] += 1;
        }
        let count = |asn: &u32| announced.get(asn).map_or(0, |counts| counts[1]);
        let (kept, gone) = internet.blocked.split_at(internet.blocked.len() / 2);
        let mut left: usize = gone.iter().map(count).sum();
        let blocked: HashSet<u32> = internet.blocked.iter().copied().collect();
        let mut free: Vec<u32> = announced.keys().copied().collect();
        free.retain(|asn| *asn != 0 && !blocked.contains(asn));
        let few = |asn: &u32| MORE.contains(&announced[asn][0]);
        let asn = free.iter().copied().find(few);
        let asn = asn.context("no ASN that is not blocked has some IPv4 prefixes, and not many")?;
        let mut other = kept.to_vec();
        for candidate in free.into_iter().filter(|candidate| *candidate != asn) {
            if count(&candidate) <= left {
                left -= count(&candidate);
                other.push(candidate);
            }
        }
        Self::judged(internet, &other, asn)
    }

    /// Asks kordon's program what each policy drops, and sorts addresses by it.
    fn judged(internet: &Internet, other: &[u32], asn: u32) -> Result<Self> {
        let first = internet.prefixes.iter();
        let first = first.filter(|(.., action)| *action == Action::Drop);
        let first: Vec<IpNet> = first.map(|(net, ..)| *net).collect();
        let and_more = internet.dropped(&[&internet.blocked[..], &[asn]].concat())?;
        let known: HashSet<IpNet> = first.iter().copied().collect();
        let more: Vec<IpNet> = and_more
            .into_iter()
            .filter(|net| !known.contains(net))
            .collect();
        let list = |nets, asns: &[u32]| List {
            nets,
            policy: policy_text(1, asns, &[]),
        };
        let other = list(internet.dropped(other)?, other);
        let pool = |action| internet.pool(Family::V4, action).iter().copied();
        let (in_other, in_more) = (Ranges::of(&other.nets), Ranges::of(&more));
        let some = |addresses: &mut dyn Iterator<Item = Input>| {
            let addresses: Vec<Input> = addresses.take(MOST).collect();
            ensure!(!addresses.is_empty(), "the table is too small for lists");
            Ok(addresses)
        };
        let fates = Fates {
            dropped: some(&mut pool(Action::Drop).filter(|to| in_other.has(to)))?,
            of_first: some(&mut pool(Action::Drop).filter(|to| !in_other.has(to)))?,
            of_other: some(&mut pool(Action::Pass).filter(|to| in_other.has(to)))?,
            passed: some(
                &mut pool(Action::Pass).filter(|to| !in_other.has(to) && !in_more.has(to)),
            )?,
            of_more: some(
                &mut more
                    .iter()
                    .map(|net| net.addr())
                    .filter(|address| address.is_ipv4())
                    .map(octets),
            )?,
        };
        Ok(Self {
            first: list(first, &internet.blocked),
            other,
            asn,
            more,
            fates,
        })
    }

    /// In a line.
    pub(super) fn summary(&self) -> String {
        format!(
            "{} prefixes are blocked; one ASN more is {} prefixes, the other list {} prefixes",
            self.first.nets.len(),
            self.more.len(),
            self.other.nets.len()
        )
    }
}

impl Fates {
    /// As many distinct addresses of each kind, for what knows single addresses only; of
    /// those that pass all.
    pub(super) fn at_most(&self, count: usize) -> Self {
        let distinct = |addresses: &[Input]| {
            let mut seen = HashSet::new();
            let new = |to: &&Input| seen.insert(**to);
            addresses.iter().filter(new).take(count).copied().collect()
        };
        Self {
            dropped: distinct(&self.dropped),
            passed: self.passed.clone(),
            of_first: distinct(&self.of_first),
            of_other: distinct(&self.of_other),
            of_more: distinct(&self.of_more),
        }
    }
}

/// IPv4 prefixes, disjoint, in order.
struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    fn of(nets: &[IpNet]) -> Self {
        let v4 = nets.iter().filter_map(|net| match net {
            IpNet::V4(net) => Some((net.network().into(), net.broadcast().into())),
            IpNet::V6(_) => None,
        });
        let mut ranges: Vec<_> = v4.collect();
        ranges.sort_unstable();
        Self(ranges)
    }

    fn has(&self, [a, b, c, d, ..]: &Input) -> bool {
        let address = u32::from_be_bytes([*a, *b, *c, *d]);
        let after = self.0.partition_point(|(start, _)| *start <= address);
        after > 0 && address <= self.0[after - 1].1
    }
}
