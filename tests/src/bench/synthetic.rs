//! A table like the Internet's, drawn from its [`super::shape`]: the same numbers of
//! prefixes of each length, of ASNs, and of prefixes of each ASN; the same clustering.
//! The same in every run.
//!
//! It is written as range CSV, so that it comes in by the way that real tables do.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use fastrand::Rng;

use super::shape;

const SEED: u64 = 0x1a7e_57ab;

/// Prefixes of the table in its own size, both families.
pub(super) const WHOLE: usize = 564_579 + 167_903;

/// What a node of the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Empty,
    Cut,
    Leaf,
}

/// What [`shape::Ways`] counts, in its order.
const WAYS: [[Kind; 2]; 8] = {
    use Kind::{Cut, Empty, Leaf};
    [
        [Empty, Cut],
        [Empty, Leaf],
        [Cut, Empty],
        [Cut, Cut],
        [Cut, Leaf],
        [Leaf, Empty],
        [Leaf, Cut],
        [Leaf, Leaf],
    ]
};

/// A prefix: the address in the high bits of 128, and the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Net {
    address: u128,
    length: u8,
}

impl Net {
    fn halves(self) -> [Self; 2] {
        let length = self.length + 1;
        let bit = 1 << (128 - u32::from(length));
        [0, bit].map(|bit| Self {
            address: self.address | bit,
            length,
        })
    }

    /// Whether `self` and `other` are the halves of one.
    fn beside(self, other: Self) -> bool {
        self.length == other.length
            && self.length > 0
            && self.address ^ other.address == 1 << (128 - u32::from(self.length))
    }

    fn last(self) -> u128 {
        match self.length {
            0 => u128::MAX,
            length => self.address | ((1_u128 << (128 - u32::from(length))) - 1),
        }
    }
}

/// A cut node and what its neighbour is.
type Open = (Net, Kind);

/// The tree grows downwards.
struct Tree {
    rng: Rng,
    open: Vec<Open>,
    leaves: Vec<Net>,
}

impl Tree {
    fn new(family: u64, top: &[(u128, Kind)], length: u8) -> Self {
        let mut tree = Self {
            rng: Rng::with_seed(SEED ^ family),
            open: Vec::new(),
            leaves: Vec::new(),
        };
        let net = |index: u128| Net {
            address: index << (128 - u32::from(length)),
            length,
        };
        for (index, kind) in top {
            let beside = top.iter().find(|(other, _)| *other == index ^ 1);
            let beside = beside.map_or(Kind::Empty, |(_, kind)| *kind);
            tree.add(net(*index), *kind, beside);
        }
        tree
    }

    fn add(&mut self, net: Net, kind: Kind, beside: Kind) {
        match kind {
            Kind::Empty => {}
            Kind::Cut => self.open.push((net, beside)),
            Kind::Leaf => self.leaves.push(net),
        }
    }

    fn cut(&mut self, net: Net, way: [Kind; 2]) {
        let [left, right] = net.halves();
        self.add(left, way[0], way[1]);
        self.add(right, way[1], way[0]);
    }

    /// One step down: as many nodes are cut in each way as there are in the Internet;
    /// which ones is chance.
    fn grow(&mut self, row: &shape::Row) {
        let open = std::mem::take(&mut self.open);
        for (ways, beside) in row.iter().zip([Kind::Empty, Kind::Cut, Kind::Leaf]) {
            let mut drawn: Vec<[Kind; 2]> = Vec::new();
            for (count, way) in ways.iter().zip(WAYS) {
                drawn.extend(std::iter::repeat_n(way, *count as usize));
            }
            self.rng.shuffle(&mut drawn);
            let nodes = open.iter().filter(|(_, other)| *other == beside);
            for ((net, _), way) in nodes.zip(drawn) {
                self.cut(*net, way);
            }
        }
    }

    /// One step down where there are only chains: so many of them go on.
    fn chain(&mut self, go_on: usize) {
        let mut open = std::mem::take(&mut self.open);
        self.rng.shuffle(&mut open);
        for (index, (net, beside)) in open.into_iter().enumerate() {
            let on = if index < go_on { Kind::Cut } else { Kind::Leaf };
            let other = match beside {
                Kind::Leaf => Kind::Leaf,
                _ => Kind::Empty,
            };
            self.cut(net, [on, other]);
        }
    }
}

fn v4() -> Vec<Net> {
    let mut top = Vec::new();
    for index in 0..256_usize {
        let has = |bits: &[u64; 4]| bits[index / 64] >> (index % 64) & 1 != 0;
        if has(&shape::V4_CUT) {
            top.push((index as u128, Kind::Cut));
        } else if has(&shape::V4_WHOLE) {
            top.push((index as u128, Kind::Leaf));
        }
    }
    let mut tree = Tree::new(4, &top, 8);
    for row in &shape::V4 {
        tree.grow(row);
    }
    tree.leaves
}

fn v6() -> Vec<Net> {
    let cut = shape::V6_CUT.iter().map(|index| (*index, Kind::Cut));
    let whole = shape::V6_WHOLE.iter().map(|index| (*index, Kind::Leaf));
    let top: Vec<_> = cut
        .chain(whole)
        .map(|(index, kind)| (u128::from(index), kind))
        .collect();
    let mut tree = Tree::new(6, &top, 16);
    for row in &shape::V6 {
        tree.grow(row);
    }
    for go_on in &shape::V6_TAIL[1..] {
        tree.chain(*go_on as usize);
    }
    tree.leaves
}

/// To another size: prefixes are left out by chance, or cut in two where a network
/// would announce its halves.
fn resize(mut nets: Vec<Net>, wanted: usize, longest: u8, rng: &mut Rng) -> Vec<Net> {
    rng.shuffle(&mut nets);
    nets.truncate(wanted);
    let mut at = 0;
    while nets.len() < wanted && at < nets.len() {
        let net = nets[at];
        if net.length < longest {
            let [left, right] = net.halves();
            nets[at] = left;
            nets.push(right);
        }
        at += 1;
    }
    nets.sort_unstable();
    nets
}

/// How many prefixes each ASN has, from the largest; together `sum`.
fn sizes(points: &[(usize, usize)], asns: usize, sum: usize) -> Vec<usize> {
    let at = |rank: usize| {
        let next = points.partition_point(|(other, _)| *other <= rank);
        let (low, low_size) = points[next - 1];
        let Some((high, high_size)) = points.get(next).copied() else {
            return low_size as f64;
        };
        let part = (rank as f64 / low as f64).ln() / (high as f64 / low as f64).ln();
        (low_size as f64) * (high_size as f64 / low_size as f64).powf(part)
    };
    let drawn: Vec<f64> = (1..=asns).map(at).collect();
    // What one has beyond the first is scaled until the sum is right.
    let beyond: f64 = drawn.iter().map(|size| size - 1.0).sum();
    let scale = sum.saturating_sub(asns) as f64 / beyond.max(1.0);
    let mut carried = 0.0;
    let mut sizes: Vec<usize> = drawn
        .iter()
        .map(|size| {
            let exact = (size - 1.0) * scale + carried;
            carried = exact - exact.floor();
            1 + exact as usize
        })
        .collect();
    let given: usize = sizes.iter().sum();
    if let Some(first) = sizes.first_mut() {
        *first += sum.saturating_sub(given);
    }
    sizes
}

/// Who announces which prefix. An ASN has its prefixes in some neighbourhoods, among
/// those of others.
fn owners(nets: &[Net], asns: &[u32], sizes: &[usize], rng: &mut Rng) -> Vec<u32> {
    let whole = nets.len() as f64;
    let mut places: Vec<(f64, u32)> = Vec::with_capacity(nets.len());
    for (asn, size) in asns.iter().zip(sizes) {
        let mut left = *size;
        while left > 0 {
            // Mostly few at a time; the large have long stretches, too.
            let most = 4 + size / 16;
            let here = (1 + rng.usize(..most)).min(left);
            left -= here;
            let mut at = rng.f64() * whole;
            for _ in 0..here {
                places.push((at, *asn));
                at += if rng.f64() < 0.55 {
                    1e-6
                } else {
                    2.0 + 4.0 * rng.f64()
                };
            }
        }
    }
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places.truncate(nets.len());
    let mut owners: Vec<u32> = places.into_iter().map(|(_, asn)| asn).collect();
    // Fewer ASNs than prefixes may have been asked for.
    let last = owners.last().copied().unwrap_or(1);
    owners.resize(nets.len(), last);
    // Halves of one prefix with one owner would be that prefix.
    for index in 1..nets.len() {
        if nets[index].beside(nets[index - 1]) && owners[index] == owners[index - 1] {
            let fits = |other: &usize| owners[*other] != owners[index];
            if let Some(other) = (index + 1..nets.len()).find(fits) {
                owners.swap(index, other);
            }
        }
    }
    owners
}

/// AS numbers that may be announced, in two crowds as the real ones.
fn numbers(count: usize, rng: &mut Rng) -> Vec<u32> {
    let low = (1..64_000).filter(|asn| *asn != 23_456 && asn % 7 != 0);
    let high = (196_608_u32..).step_by(5);
    let mut asns: Vec<u32> = low.chain(high).take(count.max(1)).collect();
    rng.shuffle(&mut asns);
    asns
}

/// A table.
pub(super) struct Synthetic {
    v4: Vec<(Net, u32)>,
    v6: Vec<(Net, u32)>,
}

impl Synthetic {
    /// Draws a table of about so many prefixes, of both families; ASNs in proportion,
    /// up to as many as there are.
    pub(super) fn new(prefixes: usize) -> Self {
        let mut rng = Rng::with_seed(SEED);
        let share = prefixes as f64 / WHOLE as f64;
        let part = |count: usize| ((count as f64 * share).round() as usize).max(1);
        let (v4, v6) = (v4(), v6());
        let wanted = [part(v4.len()), part(v6.len())];
        let v4 = resize(v4, wanted[0], 24, &mut rng);
        let v6 = resize(v6, wanted[1], 48, &mut rng);
        let asns = shape::ASNS.map(|count| part(count).min(count));
        let all = numbers(asns.iter().sum(), &mut rng);
        let in_v4 = asns[0] + asns[1];
        // The large of one family are mostly large in the other.
        let mut both: Vec<(f64, u32)> = all[..in_v4]
            .iter()
            .enumerate()
            .map(|(rank, asn)| ((rank + 1) as f64 * (2.0 * rng.f64()).exp(), *asn))
            .collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut order: Vec<u32> = both[..asns[0]].iter().map(|(_, asn)| *asn).collect();
        order.extend(&all[in_v4..]);
        let v4_sizes = sizes(&shape::V4_SIZES, in_v4.min(v4.len()), v4.len());
        let v6_sizes = sizes(&shape::V6_SIZES, order.len().min(v6.len()), v6.len());
        let v4_owners = owners(&v4, &all[..in_v4], &v4_sizes, &mut rng);
        let v6_owners = owners(&v6, &order, &v6_sizes, &mut rng);
        Self {
            v4: v4.into_iter().zip(v4_owners).collect(),
            v6: v6.into_iter().zip(v6_owners).collect(),
        }
    }

    /// Writes it as two files, and returns their paths.
    pub(super) fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let v4 = text(&self.v4, |bits| Ipv4Addr::from((bits >> 96) as u32));
        let v6 = text(&self.v6, Ipv6Addr::from);
        [("asn-ipv4.csv", v4), ("asn-ipv6.csv", v6)]
            .into_iter()
            .map(|(name, text)| {
                let path = folder.join(name);
                fs::write(&path, text)
                    .with_context(|| format!("cannot write the table to {}", path.display()))?;
                Ok(path)
            })
            .collect()
    }
}

/// Rows: neighbours of one owner are one range.
fn text<A: std::fmt::Display>(nets: &[(Net, u32)], address: impl Fn(u128) -> A) -> String {
    let mut text = String::new();
    let mut rest = nets;
    while let Some(((first, owner), _)) = rest.split_first() {
        let mut count = 1;
        while let Some((next, other)) = rest.get(count)
            && other == owner
            && rest[count - 1].0.last().checked_add(1) == Some(next.address)
        {
            count += 1;
        }
        let last = rest[count - 1].0.last();
        let (start, end) = (address(first.address), address(last));
        writeln!(text, "{start},{end},{owner},AS {owner}")
            .expect("writing to a string cannot fail");
        rest = &rest[count..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(nets: &[(Net, u32)]) -> Vec<usize> {
        let mut counts = vec![0; 129];
        for (net, _) in nets {
            counts[usize::from(net.length)] += 1;
        }
        counts
    }

    #[test]
    fn is_shaped_like_the_internet() {
        let table = Synthetic::new(WHOLE);
        let v4 = lengths(&table.v4);
        assert_eq!(table.v4.len(), 564_579);
        // As in the table that the shape was counted in.
        assert_eq!(
            (v4[8], v4[16], v4[22], v4[24], v4[32]),
            (8, 9331, 103_676, 218_667, 7)
        );
        let v6 = lengths(&table.v6);
        assert_eq!(
            (v6[29], v6[32], v6[48], v6[64]),
            (10_410, 28_341, 41_327, 1712)
        );
        assert!(table.v6.len().abs_diff(167_903) < 500, "{}", table.v6.len());
        for (nets, asns) in [(&table.v4, 84_159), (&table.v6, 52_521)] {
            let mut owners: Vec<u32> = nets.iter().map(|(_, asn)| *asn).collect();
            let changes = owners.windows(2).filter(|pair| pair[0] != pair[1]).count();
            let share = changes as f64 / nets.len() as f64;
            println!("{share}");
            assert!((0.5..0.8).contains(&share), "{share}");
            owners.sort_unstable();
            let largest = owners.chunk_by(|a, b| a == b).map(<[u32]>::len).max();
            println!("{largest:?}");
            owners.dedup();
            assert!(owners.len().abs_diff(asns) < asns / 50, "{}", owners.len());
            assert!(
                nets.windows(2)
                    .all(|pair| pair[0].0.last() < pair[1].0.address)
            );
        }
    }

    #[test]
    fn comes_in_any_size_and_the_same_every_time() {
        for wanted in [1000, 10_000, 1_000_000] {
            let table = Synthetic::new(wanted);
            let got = table.v4.len() + table.v6.len();
            assert!(
                got.abs_diff(wanted) <= wanted / 500 + 2,
                "{got} for {wanted}"
            );
        }
        let of = || {
            text(&Synthetic::new(5000).v4, |bits| {
                Ipv4Addr::from((bits >> 96) as u32)
            })
        };
        assert_eq!(of(), of());
    }
}
