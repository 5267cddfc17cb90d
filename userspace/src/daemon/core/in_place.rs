//! Prefixes of the live table, changed where they are: what live BGP says comes into the kernel
//! in less than a millisecond. What cannot be done in place takes a new table
//! ([`routes`](super::routes)).
//!
//! What changes is read out of the table, its origins are replaced, and
//! [`Datapath::amend`](crate::datapath::kernel::Datapath::amend) puts it back. Countries and
//! prefix lists of an address do not depend on BGP, so nothing else is asked.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    ops::{Add, Sub},
};

use ipnet::IpNet;

use super::enforced::Enforced;
use crate::{
    asn::AsnDb,
    bmp::{feed::Feed, overlay::Change},
    compile::{
        amend::{LiveTable, Patch},
        partition::{Partition, PartitionError},
    },
    daemon::{bgp::Bgp, live::Names, updates::database::Database},
    datapath::amend::NotAmended,
    prove,
};

/// More parts of the table than this are worth a new one.
const MANY_PARTS: usize = 1 << 14;
/// Packets that are given to the program in the kernel after a change.
const ASKED: usize = 1024;
/// At least so many in each zone.
const ASKED_IN_ZONE: usize = 16;

/// Why the table was not changed in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotInPlace {
    #[error(transparent)]
    Datapath(#[from] NotAmended),
    #[error(transparent)]
    Partition(#[from] PartitionError),
    #[error("{0} parts of it change")]
    TooMuch(usize),
    #[error("it is not the one that is known here")]
    OtherTable,
    #[error("a kind of destination that rules have not been compiled for")]
    NewGroup,
    #[error("{0}")]
    Wrong(String),
}

/// Parts of the table that prefixes touch, and what of them.
#[derive(Default)]
struct Touched {
    v4: BTreeMap<u16, Vec<(u32, u32)>>,
    v6: BTreeMap<u32, Vec<(u128, u128)>>,
}

impl Touched {
    fn of(changes: &[Change]) -> Result<Self, NotInPlace> {
        let mut touched = Self::default();
        let mut parts = 0;
        for change in changes {
            // Counted before they are listed: a /3 has half a billion.
            match change.prefix {
                IpNet::V4(net) => {
                    let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                    parts += (last >> 16) as usize - (first >> 16) as usize + 1;
                    check(parts)?;
                    for top in first >> 16..=last >> 16 {
                        let ends = (first.max(top << 16), last.min(top << 16 | 0xffff));
                        touched.v4.entry(top as u16).or_default().push(ends);
                    }
                }
                IpNet::V6(net) => {
                    let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                    parts += (last >> 96) as usize - (first >> 96) as usize + 1;
                    check(parts)?;
                    for slot in first >> 96..=last >> 96 {
                        let ends = (
                            first.max(slot << 96),
                            last.min(slot << 96 | u128::MAX >> 32),
                        );
                        touched.v6.entry(slot as u32).or_default().push(ends);
                    }
                }
            }
        }
        Ok(touched)
    }
}

fn check(parts: usize) -> Result<(), NotInPlace> {
    if parts > MANY_PARTS {
        return Err(NotInPlace::TooMuch(parts));
    }
    Ok(())
}

/// Ranges with other origins between some addresses; `None` where nothing changes.
fn replaced<A: Copy + Ord>(
    old: &[(A, u32)],
    ends: &[(A, A)],
    mut origins: impl FnMut((A, A)) -> Vec<(A, Vec<u32>)>,
    next: impl Fn(A) -> Option<A>,
    mut reclass: impl FnMut(u32, &[u32]) -> Result<u32, PartitionError>,
) -> Result<Option<Vec<(A, u32)>>, PartitionError> {
    let mut new = old.to_vec();
    for &(first, last) in ends {
        let mut part: Vec<(A, u32)> = Vec::new();
        let segments = origins((first, last));
        for (at, (start, origins)) in segments.iter().enumerate() {
            let end = segments.get(at + 1).map(|(start, _)| *start);
            let is_inside = |address: A| {
                address > *start && address <= last && end.is_none_or(|end| address < end)
            };
            part.push((*start, reclass(class_at(&new, *start), origins)?));
            for (address, class) in new.iter().filter(|(address, _)| is_inside(*address)) {
                part.push((*address, reclass(*class, origins)?));
            }
        }
        // What follows is as it was, even where no range began.
        let behind = next(last).map(|next| (next, class_at(&new, next)));
        new.retain(|(start, _)| *start < first || *start > last);
        new.extend(part);
        if let Some((address, class)) = behind
            && new.iter().all(|(start, _)| *start != address)
        {
            new.push((address, class));
        }
        new.sort_unstable_by_key(|(start, _)| *start);
    }
    new.dedup_by_key(|range| range.1);
    Ok((new != old).then_some(new))
}

/// What is to become of the parts that are touched.
fn patch(
    touched: &Touched,
    table: &LiveTable<'_>,
    feed: &Feed,
    db: &AsnDb,
    partition: &mut Partition,
) -> Result<Patch, PartitionError> {
    let mut patch = Patch::default();
    for (top, ends) in &touched.v4 {
        let last = u32::from(*top) << 16 | 0xffff;
        let new = replaced(
            &table.ranges_v4(*top),
            ends,
            |ends| feed.between_v4(db, ends),
            |address| (address < last).then(|| address + 1),
            |class, origins| partition.reclass(class, origins),
        )?;
        patch.v4.extend(new.map(|new| (*top, new)));
    }
    for (slot, ends) in &touched.v6 {
        let last = u128::from(*slot) << 96 | u128::MAX >> 32;
        let new = replaced(
            &table.ranges_v6(*slot),
            ends,
            |ends| feed.between_v6(db, ends),
            |address| (address < last).then(|| address + 1),
            |class, origins| partition.reclass(class, origins),
        )?;
        patch.v6.extend(new.map(|new| (*slot, new)));
    }
    Ok(patch)
}

/// Some of what changes, with their classes: both ends of what prefixes touch, and what is
/// beside them.
fn sample(touched: &Touched, patch: &Patch) -> Vec<(IpAddr, u32)> {
    let mut all = Vec::new();
    for (top, ranges) in &patch.v4 {
        let whole = (u32::from(*top) << 16, u32::from(*top) << 16 | 0xffff);
        for at in ends(touched.v4.get(top), whole) {
            let class = class_at(ranges, at);
            all.push((IpAddr::from(at.to_be_bytes()), class));
        }
    }
    for (slot, ranges) in &patch.v6 {
        // Others may stand for IPv4 addresses.
        if slot >> 29 != 1 {
            continue;
        }
        let first = u128::from(*slot) << 96;
        for at in ends(touched.v6.get(slot), (first, first | u128::MAX >> 32)) {
            let class = class_at(ranges, at);
            all.push((IpAddr::from(at.to_be_bytes()), class));
        }
    }
    all
}

/// First and last addresses, and their neighbours in the same part.
fn ends<A>(touched: Option<&Vec<(A, A)>>, (from, to): (A, A)) -> Vec<A>
where
    A: Copy + Ord + Sub<Output = A> + Add<Output = A> + From<u8>,
{
    let one = A::from(1);
    let mut ends = Vec::new();
    for &(first, last) in touched.into_iter().flatten() {
        ends.extend([first, last]);
        ends.extend((first > from).then(|| first - one));
        ends.extend((last < to).then(|| last + one));
    }
    ends.sort_unstable();
    ends.dedup();
    ends
}

fn class_at<A: Copy + Ord>(ranges: &[(A, u32)], address: A) -> u32 {
    let after = ranges.partition_point(|(start, _)| *start <= address);
    ranges[after.max(1) - 1].1
}

impl Enforced {
    /// Changes the live table; returns how many parts of it.
    pub(super) fn in_place(
        &mut self,
        changes: &[Change],
        database: &mut Database,
        bgp: &Bgp,
    ) -> Result<usize, NotInPlace> {
        let touched = Touched::of(changes)?;
        let live = self.datapath.live().ok_or(NotAmended::NotLive)?;
        let (Some(table), Some(current)) = (&mut self.classes, &self.live) else {
            return Err(NotInPlace::OtherTable);
        };
        if table.key != live.table_key {
            return Err(NotInPlace::OtherTable);
        }
        let Some(grouping) = &self.grouping else {
            return Err(NotInPlace::OtherTable);
        };
        let known = table.partition.classes.len();
        let patch = {
            let feed = bgp.feed();
            let partition = &mut table.partition;
            let db = &database.db;
            self.datapath
                .read_table(|table| patch(&touched, table, &feed, db, partition))??
        };
        let amended = database.clone().amended(bgp);
        let parts = patch.v4.len() + patch.v6.len();
        let policy = &current.policy;
        if table.partition.classes.len() > known {
            let new = grouping
                .classes(&table.partition, known, self.datapath.directory())
                .ok_or(NotInPlace::NewGroup)?;
            self.datapath.add_classes(&new)?;
        }
        let names = Names::of(policy, &amended, &current.environment);
        self.datapath
            .amend(&patch, table.partition.classes.len(), names)?;
        table.key = names.table_key;
        *database = amended;
        let mut asked = sample(&touched, &patch);
        asked.retain(|(address, _)| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !policy.nat64.iter().any(|net| net.contains(address)),
        });
        // Zones may have planes of their own.
        let places = &self.places;
        let in_zone = (ASKED / places.len().max(1)).max(ASKED_IN_ZONE);
        let step = asked.len().div_ceil(in_zone).max(1);
        let wrong = self.datapath.ask_live(|prober| {
            for (number, place) in places.iter().enumerate() {
                let part = asked.iter().skip(number % step).step_by(step).copied();
                prove::classes(place, prober, &part.collect::<Vec<_>>())?;
            }
            Ok(())
        });
        if let Err(why) = wrong {
            self.datapath.distrust();
            return Err(NotInPlace::Wrong(why));
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_replaced_and_nothing_else() {
        // Classes stand for (place, origins): 10 * place + origins.
        let reclass = |class: u32, origins: &[u32]| Ok(class / 10 * 10 + origins[0]);
        let next = |address: u32| (address < 99).then(|| address + 1);
        let old = [(0, 11), (20, 21), (40, 11)];
        type Origins = fn((u32, u32)) -> Vec<(u32, Vec<u32>)>;
        let new =
            |ends: &[(u32, u32)], with: Origins| replaced(&old, ends, with, next, reclass).unwrap();
        let one = |(first, _): (u32, u32)| vec![(first, vec![2])];
        assert_eq!(
            new(&[(0, 9)], one),
            Some(vec![(0, 12), (10, 11), (20, 21), (40, 11)])
        );
        assert_eq!(
            new(&[(30, 50)], one),
            Some(vec![(0, 11), (20, 21), (30, 22), (40, 12), (51, 11)])
        );
        assert_eq!(
            new(&[(50, 99)], one),
            Some(vec![(0, 11), (20, 21), (40, 11), (50, 12)])
        );
        assert_eq!(new(&[(0, 99)], |(first, _)| vec![(first, vec![1])]), None);
        let two = |(first, _): (u32, u32)| vec![(first, vec![3]), (25, vec![1]), (41, vec![3])];
        assert_eq!(
            new(&[(10, 45)], two),
            Some(vec![
                (0, 11),
                (10, 13),
                (20, 23),
                (25, 21),
                (40, 11),
                (41, 13),
                (46, 11)
            ])
        );
        // A part of what was replaced before is replaced again.
        let all = new(&[(0, 9), (5, 7)], |(first, _)| {
            vec![(first, vec![first % 7])]
        });
        assert_eq!(
            all,
            Some(vec![
                (0, 10),
                (5, 15),
                (8, 10),
                (10, 11),
                (20, 21),
                (40, 11)
            ])
        );
    }
}
