//! A feed as bytes, so that a restart of the daemon loosens nothing: routes of each peer,
//! and what is in effect. What waits is not kept: it waits anew.
//!
//! ```text
//! "kordbgp2"  stakes  sets  tables with their routes  entries in effect  CRC-32
//! ```
//! All numbers are in network order; a count comes before what it counts. The first
//! version has no stakes, and knew only entries of what was taken as accepted.

use std::net::{IpAddr, Ipv6Addr};

use super::feed::Feed;
use super::layers::Layers;
use super::message::{Peer, PeerHeader};
use super::overlay::{Entry, Layer, Stakes};
use super::rib::{MAX_PEERS, Moment, Rib};
use super::routes::Routes;
use super::sets::Sets;
use crate::asn::path::{Reader, Width};
use crate::asn::range::{Address, host_mask};

const MAGIC: &[u8; 8] = b"kordbgp2";
const FIRST: &[u8; 8] = b"kordbgp1";
const DAMAGED: &str = "it is damaged";

impl Feed {
    /// All of it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        ranges(&mut out, &self.stakes.drops);
        ranges(&mut out, &self.stakes.passes);
        let unrouted = [self.stakes.drops_unrouted, self.stakes.passes_unrouted];
        out.extend(unrouted.map(u8::from));
        let sets = self.sets.all();
        number(&mut out, sets.len());
        for set in sets {
            number(&mut out, set.len());
            out.extend(set.iter().flat_map(|asn| asn.to_be_bytes()));
        }
        number(&mut out, self.rib.tables.len());
        for (index, table) in self.rib.tables.iter().enumerate() {
            address(&mut out, table.router);
            address(&mut out, table.peer.address);
            out.extend([table.peer.kind, u8::from(table.post_policy)]);
            out.extend(table.peer.distinguisher.to_be_bytes());
            out.extend(table.asn.to_be_bytes());
            routes(&mut out, &self.rib.v4, index);
            routes(&mut out, &self.rib.v6, index);
        }
        entries(&mut out, &self.v4.accepted);
        entries(&mut out, &self.v6.accepted);
        entries(&mut out, &self.v4.said);
        entries(&mut out, &self.v6.said);
        let sum = crc32fast::hash(&out);
        out.extend(sum.to_be_bytes());
        out
    }

    /// Takes over what [`Self::to_bytes`] gave, into a feed without routes. All peers are
    /// down; what waited then waits again.
    ///
    /// # Errors
    /// What is wrong with it; then nothing is taken over.
    pub fn restore(&mut self, bytes: &[u8], now: Moment) -> Result<(), &'static str> {
        let (body, sum) = bytes.split_last_chunk().ok_or(DAMAGED)?;
        if crc32fast::hash(body) != u32::from_be_bytes(*sum) {
            return Err(DAMAGED);
        }
        let mut left = Reader(body);
        let (magic, mut stakes) = (left.array()?, Stakes::default());
        match &magic {
            MAGIC => {
                stakes.drops = read_ranges(&mut left)?;
                stakes.passes = read_ranges(&mut left)?;
                [stakes.drops_unrouted, stakes.passes_unrouted] =
                    left.array::<2>()?.map(|is| is != 0);
            }
            FIRST => {}
            _ => return Err("it is of another version"),
        }
        let mut known = Vec::new();
        for _ in 0..left.u32()? {
            let mut set = Vec::new();
            for _ in 0..left.u32()? {
                set.push(left.u32()?);
            }
            known.push(set);
        }
        let (mut rib, mut sets) = (Rib::default(), Sets::default());
        let tables = left.u32()? as usize;
        if tables > MAX_PEERS {
            return Err(DAMAGED);
        }
        for index in 0..tables {
            let router = read_address(&mut left)?;
            let address = read_address(&mut left)?;
            let [kind, post_policy] = left.array()?;
            let distinguisher = u64::from_be_bytes(left.array()?);
            let peer = Peer {
                kind,
                distinguisher,
                address,
            };
            let header = PeerHeader {
                peer,
                post_policy: post_policy != 0,
                adj_rib_out: false,
                width: Width::default(),
                asn: left.u32()?,
            };
            rib.restored(router, &header, now);
            read_routes(&mut left, &mut rib.v4, index, &known, &mut sets)?;
            read_routes(&mut left, &mut rib.v6, index, &known, &mut sets)?;
        }
        let (mut v4, mut v6) = (Layers::default(), Layers::default());
        read_entries(&mut left, &mut v4.accepted, &known, &mut sets)?;
        read_entries(&mut left, &mut v6.accepted, &known, &mut sets)?;
        if magic == *MAGIC {
            read_entries(&mut left, &mut v4.said, &known, &mut sets)?;
            read_entries(&mut left, &mut v6.said, &known, &mut sets)?;
        }
        if !left.0.is_empty() {
            return Err(DAMAGED);
        }
        (self.rib, self.sets, self.v4, self.v6) = (rib, sets, v4, v6);
        // What tightened then does, until the policy is known.
        self.stakes = stakes;
        self.look_again();
        Ok(())
    }
}

fn number(out: &mut Vec<u8>, value: usize) {
    // Routes, sets and tables are bounded far below.
    out.extend((value as u32).to_be_bytes());
}

fn ranges(out: &mut Vec<u8>, ranges: &[(u32, u32)]) {
    number(out, ranges.len());
    let ends = ranges.iter().flat_map(|&(first, last)| [first, last]);
    out.extend(ends.flat_map(u32::to_be_bytes));
}

fn read_ranges(left: &mut Reader<'_>) -> Result<Vec<(u32, u32)>, &'static str> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for _ in 0..left.u32()? {
        let (first, last) = (left.u32()?, left.u32()?);
        if first > last || ranges.last().is_some_and(|before| before.1 >= first) {
            return Err(DAMAGED);
        }
        ranges.push((first, last));
    }
    Ok(ranges)
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    let wide = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    out.extend(wide.octets());
}

fn read_address(left: &mut Reader<'_>) -> Result<IpAddr, &'static str> {
    Ok(IpAddr::V6(Ipv6Addr::from(left.array::<16>()?)).to_canonical())
}

fn prefix<A: Address>(out: &mut Vec<u8>, start: A, len: u8) {
    let octets = start.wide().to_be_bytes();
    out.extend(&octets[16 - usize::from(A::BITS / 8)..]);
    out.push(len);
}

fn read_prefix<A: Address>(left: &mut Reader<'_>) -> Result<(A, u8), &'static str> {
    let mut wide = [0; 16];
    let octets = left.take(usize::from(A::BITS / 8))?;
    wide[16 - octets.len()..].copy_from_slice(octets);
    let len = left.u8()?;
    let wide = u128::from_be_bytes(wide);
    if len > A::BITS || wide & host_mask::<A>(len) != 0 {
        return Err(DAMAGED);
    }
    Ok((A::narrow(wide), len))
}

fn routes<A: Address>(out: &mut Vec<u8>, routes: &Routes<A>, peer: usize) {
    number(out, routes.of(peer));
    for (key, set) in routes.all_of(peer) {
        prefix(out, key.0, key.1);
        out.extend(key.2.to_be_bytes());
        out.extend(set.to_be_bytes());
    }
}

fn read_routes<A: Address>(
    left: &mut Reader<'_>,
    routes: &mut Routes<A>,
    peer: usize,
    known: &[Vec<u32>],
    sets: &mut Sets,
) -> Result<(), &'static str> {
    for _ in 0..left.u32()? {
        let (start, len) = read_prefix(left)?;
        let id = left.u32()?;
        let set = known.get(left.u32()? as usize).ok_or(DAMAGED)?;
        let set = sets.hold(set);
        routes.announce(peer, (start, len, id), set, sets);
    }
    Ok(())
}

fn entries<A: Address>(out: &mut Vec<u8>, layer: &Layer<A>) {
    number(out, layer.entries.len());
    for ((start, len), entry) in &layer.entries {
        prefix(out, start, len);
        out.extend(entry.set.to_be_bytes());
        out.extend(entry.since.to_be_bytes());
        out.push(u8::from(entry.beside));
    }
}

fn read_entries<A: Address>(
    left: &mut Reader<'_>,
    layer: &mut Layer<A>,
    known: &[Vec<u32>],
    sets: &mut Sets,
) -> Result<(), &'static str> {
    for _ in 0..left.u32()? {
        let prefix = read_prefix(left)?;
        let set = known.get(left.u32()? as usize).ok_or(DAMAGED)?;
        let (since, beside) = (left.u32()?, left.u8()? != 0);
        let entry = Entry {
            set: sets.hold(set),
            since,
            beside,
        };
        layer.insert(prefix, entry, sets);
    }
    Ok(())
}
