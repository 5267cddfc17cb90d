//! Arithmetic on address ranges, once for both families, and the sweep that
//! turns overlapping rows into ranges that do not overlap.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use num_traits::{CheckedShr, PrimInt, Unsigned};

use super::country::Country;
use super::model::Row;

/// An address as an integer in host order.
pub(crate) trait Address:
    PrimInt + Unsigned + CheckedShr + Default + std::hash::Hash + std::fmt::Debug
{
    /// 32 or 128.
    const BITS: u8;
    /// Zero-extended.
    fn wide(self) -> u128;
    /// The low bits of `wide`.
    fn narrow(wide: u128) -> Self;
    /// The prefix of length `len` that `self` is in; `len` at most [`Self::BITS`].
    fn net(self, len: u8) -> IpNet;

    /// As the standard library has it.
    fn ip(self) -> IpAddr {
        self.net(Self::BITS).addr()
    }

    /// The address after this one.
    fn next(self) -> Option<Self> {
        let next = Self::narrow(self.wide().wrapping_add(1));
        (next > self).then_some(next)
    }

    /// The address before this one; only for addresses that are not zero.
    fn before(self) -> Self {
        Self::narrow(self.wide().wrapping_sub(1))
    }
}

impl Address for u32 {
    const BITS: u8 = 32;

    fn wide(self) -> u128 {
        u128::from(self)
    }

    fn narrow(wide: u128) -> Self {
        wide as Self
    }

    fn net(self, len: u8) -> IpNet {
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(self), len).trunc())
    }
}

impl Address for u128 {
    const BITS: u8 = 128;

    fn wide(self) -> u128 {
        self
    }

    fn narrow(wide: u128) -> Self {
        wide
    }

    fn net(self, len: u8) -> IpNet {
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(self), len).trunc())
    }
}

/// Host bits of a prefix of length `len`, all set.
pub(crate) fn host_mask<A: Address>(len: u8) -> u128 {
    match A::BITS - len {
        0 => 0,
        host => u128::MAX >> (128 - u32::from(host)),
    }
}

/// Length of the prefix that the range is, if it is exactly one.
pub(super) fn exact_len<A: Address>(start: A, end: A) -> Option<u8> {
    let hosts = end.wide() - start.wide();
    let aligned = hosts & hosts.wrapping_add(1) == 0 && start.wide() & hosts == 0;
    aligned.then(|| A::BITS - hosts.count_ones() as u8)
}

/// The largest prefix around `addr` inside the range, which must hold `addr`.
pub(super) fn largest_around<A: Address>(addr: A, start: A, end: A) -> IpNet {
    let len = (0..A::BITS)
        .find(|&len| {
            let hosts = host_mask::<A>(len);
            addr.wide() & !hosts >= start.wide() && addr.wide() | hosts <= end.wide()
        })
        .unwrap_or(A::BITS);
    addr.net(len)
}

/// Calls `each` with the fewest prefixes that make up the range, in order.
fn split<A: Address>(start: A, end: A, mut each: impl FnMut(A, u8)) {
    let mut at = start;
    loop {
        // Aligned at `at`, and not past `end`.
        let left = end.wide() - at.wide();
        let fits = match left.checked_add(1) {
            Some(count) => count.ilog2() as u8,
            None => 128,
        };
        let host = fits.min((at.wide().trailing_zeros() as u8).min(A::BITS));
        let len = A::BITS - host;
        each(at, len);
        let last = A::narrow(at.wide() | host_mask::<A>(len));
        match last.next() {
            Some(next) if last < end => at = next,
            _ => return,
        }
    }
}

/// How many prefixes a range splits into.
pub(super) fn prefix_count<A: Address>(start: A, end: A) -> u64 {
    let mut count = 0;
    split(start, end, |_, _| count += 1);
    count
}

/// The fewest prefixes that make up each of these ranges, in their order.
pub(super) fn nets<A: Address>(ranges: impl IntoIterator<Item = (A, A)>) -> Vec<IpNet> {
    let mut nets = Vec::new();
    for (start, end) in ranges {
        split(start, end, |at, len| nets.push(at.net(len)));
    }
    nets
}

/// The fewest prefixes that make up a range, both ends inclusive, in order.
/// Ends of different families, or in the wrong order, have none.
pub fn cidrs(start: IpAddr, end: IpAddr) -> Vec<IpNet> {
    match (start, end) {
        (IpAddr::V4(start), IpAddr::V4(end)) if start <= end => {
            nets([(u32::from(start), u32::from(end))])
        }
        (IpAddr::V6(start), IpAddr::V6(end)) if start <= end => {
            nets([(u128::from(start), u128::from(end))])
        }
        _ => Vec::new(),
    }
}

/// Sorts inclusive ranges and joins those that overlap or touch.
pub(crate) fn merged<A: Address>(mut ranges: Vec<(A, A)>) -> Vec<(A, A)> {
    ranges.retain(|(first, last)| first <= last);
    ranges.sort_unstable();
    ranges.dedup_by(|later, earlier| {
        let joins = earlier.1.next().is_none_or(|next| later.0 <= next);
        if joins {
            earlier.1 = earlier.1.max(later.1);
        }
        joins
    });
    ranges
}

/// Whether ranges that are [`merged`] have this address, or ASN.
pub(crate) fn within<A: Address>(ranges: &[(A, A)], address: A) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= address);
    after > 0 && ranges[after - 1].1 >= address
}

/// A row of a country source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CountryRow<A> {
    pub(super) start: A,
    pub(super) end: A,
    pub(super) country: Country,
    pub(super) source: u16,
    pub(super) line: u32,
}

/// Anything that covers a range of addresses and stands in a file.
pub(super) trait Span<A> {
    /// First address.
    fn start(&self) -> A;
    /// Last address, inclusive.
    fn end(&self) -> A;
    /// Index of its source, and its line there.
    fn place(&self) -> (u16, u32);
}

impl<A: Copy> Span<A> for Row<A> {
    fn start(&self) -> A {
        self.start
    }

    fn end(&self) -> A {
        self.end
    }

    fn place(&self) -> (u16, u32) {
        (self.source, self.line)
    }
}

impl<A: Copy> Span<A> for CountryRow<A> {
    fn start(&self) -> A {
        self.start
    }

    fn end(&self) -> A {
        self.end
    }

    fn place(&self) -> (u16, u32) {
        (self.source, self.line)
    }
}

/// Rows that may lie over one address. Nested prefixes reach a few dozen; a file
/// with more is no routing table, and would cost time in the square of it.
pub(super) const MAX_DEPTH: usize = 256;

/// More rows at one address than [`MAX_DEPTH`], or more distinct combinations
/// than anything can use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crowded {
    /// Source and line of one of the rows.
    pub(super) place: (u16, u32),
}

/// Cuts the address space at every start and end of a row, asks `decide` for the
/// value of each piece, and joins neighbours of equal value. `decide` gets the rows
/// that cover the piece (never none, and it may reorder them), and says `None` when
/// it has had enough.
pub(super) fn sweep<A: Address, R: Span<A>, V: PartialEq>(
    rows: &[R],
    mut decide: impl FnMut(&mut [&R]) -> Option<V>,
) -> Result<Vec<(A, A, V)>, Crowded> {
    let mut order: Vec<&R> = rows.iter().collect();
    order.sort_by_key(|row| row.start());
    let mut waiting = order.as_slice();
    let mut active: Vec<&R> = Vec::new();
    let mut out: Vec<(A, A, V)> = Vec::new();
    let mut at: Option<A> = None;
    loop {
        let start = match (at, waiting.first()) {
            (Some(at), _) if !active.is_empty() => at,
            (_, Some(row)) => row.start(),
            (_, None) => return Ok(out),
        };
        let arriving = waiting.partition_point(|row| row.start() == start);
        let (arrived, later) = waiting.split_at(arriving);
        active.extend(arrived);
        waiting = later;
        let crowded = |row: &R| Crowded { place: row.place() };
        if active.len() > MAX_DEPTH {
            return Err(crowded(active[MAX_DEPTH]));
        }
        let mut end = active[0].end();
        for row in &active[1..] {
            end = end.min(row.end());
        }
        if let Some(row) = waiting.first() {
            end = end.min(row.start().before());
        }
        let value = decide(&mut active).ok_or_else(|| crowded(active[0]))?;
        match out.last_mut() {
            Some(last) if last.1.next() == Some(start) && last.2 == value => last.1 = end,
            _ => out.push((start, end, value)),
        }
        active.retain(|row| row.end() > end);
        at = end.next();
    }
}
