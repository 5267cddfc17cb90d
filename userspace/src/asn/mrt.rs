//! RIBs in MRT `TABLE_DUMP_V2` (RFC 6396, with the path identifiers of RFC 8050):
//! what a route collector, or the router's own BGP daemon, has in its table.
//!
//! Record by record, in memory of one record: a table of a collector is larger than
//! the memory of most routers. Of each path only its origin is read. A general
//! parser builds all attributes of some ten million paths for that.
//!
//! The origins of a prefix are those that enough peers see; if they differ, all
//! count. How a path is read, `path` says.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::format::Format;
use super::gather::Gather;
use super::line::{Addresses, What};
use super::path::{Origins, Reader};
use super::source::{Bytes, SourceError};
use crate::diagnostic::Diagnostic;

/// Type `TABLE_DUMP_V2`.
const TABLE_DUMP_V2: u16 = 13;

/// Length of the header of a record.
const HEADER: usize = 12;

/// Longest record that is read: all paths of one prefix.
const MAX_RECORD: u32 = 16 << 20;

/// Why a RIB cannot be read on, and whether the file is good as far as it goes.
struct Ended {
    why: Diagnostic,
    is_cut: bool,
}

impl From<Diagnostic> for Ended {
    fn from(why: Diagnostic) -> Self {
        Self { why, is_cut: false }
    }
}

/// Whether a file begins with the header of an MRT record: a type that RFC 6396
/// knows, and a length that can be.
pub(super) fn is_mrt(head: &[u8]) -> bool {
    let Some((header, _)) = head.split_first_chunk::<HEADER>() else {
        return false;
    };
    let kind = u16::from_be_bytes([header[4], header[5]]);
    let subtype = u16::from_be_bytes([header[6], header[7]]);
    let length = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    // A timestamp of zero is what the tree of a MaxMind DB file looks like.
    header[..4] != [0; 4]
        && matches!(kind, 11..=13 | 16 | 17)
        && subtype <= 32
        && length <= MAX_RECORD
}

/// Reads a table into `gather`.
pub(super) fn read(mut input: Bytes, gather: &mut Gather<'_>) -> Result<(), Diagnostic> {
    match records(&mut input, gather) {
        Ok(()) => Ok(()),
        Err(Ended { why, is_cut }) => gather.ended(why, is_cut),
    }
}

fn records(input: &mut Bytes, gather: &mut Gather<'_>) -> Result<(), Ended> {
    let mut rib = Rib {
        min_peers: gather.options.min_peers,
        seen: Vec::new(),
        path: Origins::default(),
    };
    let mut record = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        let Some(header) = header(input, number, gather)? else {
            return Ok(());
        };
        let kind = u16::from_be_bytes([header[4], header[5]]);
        let subtype = u16::from_be_bytes([header[6], header[7]]);
        let length = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        if length > MAX_RECORD {
            let message = format!("record {number} is said to have {length} bytes");
            let help = "the file is damaged: fetch it again";
            return Err(Diagnostic::of_file(gather.file, message, help).into());
        }
        record.clear();
        (&mut *input)
            .take(length.into())
            .read_to_end(&mut record)
            .map_err(|error| broken(input, error, gather))?;
        if record.len() < length as usize {
            return Err(cut(number, gather));
        }
        if kind != TABLE_DUMP_V2 {
            if number == 1 {
                let message = format!("it holds MRT messages (type {kind}), not a table");
                let help = "take a RIB in TABLE_DUMP_V2 (`rib.*`, `bview.*`), not updates";
                return Err(Diagnostic::of_file(gather.file, message, help).into());
            }
            gather.damaged(number, "it is of another type");
            continue;
        }
        let result = match subtype {
            1 => rib.peers(&record),
            2 | 8 => rib.entry(number, &record, false, subtype == 8, gather)?,
            4 | 10 => rib.entry(number, &record, true, subtype == 10, gather)?,
            // Multicast, and families other than IP.
            _ => Ok(()),
        };
        if let Err(what) = result {
            gather.damaged(number, what);
        }
    }
}

fn broken(input: &Bytes, error: io::Error, gather: &Gather<'_>) -> Ended {
    let error = input.fault(error);
    Ended {
        why: gather.unreadable(&error, 0),
        is_cut: matches!(error, SourceError::Truncated(_)),
    }
}

fn cut(number: u64, gather: &Gather<'_>) -> Ended {
    let message = format!("it ends in the middle of record {number}");
    let help = "the download was cut short: fetch it again";
    Ended {
        why: Diagnostic::of_file(gather.file, message, help),
        is_cut: true,
    }
}

fn header(
    input: &mut Bytes,
    number: u64,
    gather: &Gather<'_>,
) -> Result<Option<[u8; HEADER]>, Ended> {
    let mut header = [0; HEADER];
    let mut have = 0;
    while have < HEADER {
        match input.read(&mut header[have..]) {
            Ok(0) if input.is_spent() => {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(broken(input, error, gather));
            }
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(cut(number, gather)),
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(input, error, gather)),
        }
    }
    Ok(Some(header))
}

/// A table while it is read.
struct Rib {
    /// Peers that have to see an origin.
    min_peers: u32,
    /// (origin, peer) of the prefix at hand.
    seen: Vec<(u32, u16)>,
    path: Origins,
}

impl Rib {
    /// `PEER_INDEX_TABLE`: only how many there are. A router has few peers, and
    /// what they say counts there.
    fn peers(&mut self, record: &[u8]) -> Result<(), &'static str> {
        let mut left = Reader(record);
        left.take(4)?;
        let name = left.u16()?;
        left.take(name.into())?;
        let peers = u32::from(left.u16()?);
        self.min_peers = self.min_peers.min(peers / 2).max(1);
        Ok(())
    }

    /// One prefix and its paths. The outer error is about the file.
    fn entry(
        &mut self,
        number: u64,
        record: &[u8],
        v6: bool,
        path_ids: bool,
        gather: &mut Gather<'_>,
    ) -> Result<Result<(), &'static str>, Diagnostic> {
        let addresses = match self.paths(record, v6, path_ids) {
            Ok(addresses) => addresses,
            Err(what) => return Ok(Err(what)),
        };
        let any = !self.seen.is_empty();
        let asns: Vec<u32> = self
            .seen
            .chunk_by(|a, b| a.0 == b.0)
            .filter(|peers| peers.len() as u64 >= u64::from(self.min_peers))
            .map(|peers| peers[0].0)
            .collect();
        if asns.is_empty() && any {
            gather.unseen();
            return Ok(Ok(()));
        }
        let what = What::Origins { asns, peers: None };
        gather.binary(number, addresses, what, Format::Mrt).map(Ok)
    }

    /// Fills `seen`, each pair once, in order.
    fn paths(
        &mut self,
        record: &[u8],
        v6: bool,
        path_ids: bool,
    ) -> Result<Addresses, &'static str> {
        let mut left = Reader(record);
        left.take(4)?;
        let len = left.take(1)?[0];
        let bytes = left.take(usize::from(len.div_ceil(8)))?;
        let mut address = [0; 16];
        let size = if v6 { 16 } else { 4 };
        if bytes.len() > size {
            return Err("its prefix is too long");
        }
        address[..bytes.len()].copy_from_slice(bytes);
        let address = if v6 {
            IpAddr::V6(Ipv6Addr::from(address))
        } else {
            IpAddr::V4(Ipv4Addr::new(
                address[0], address[1], address[2], address[3],
            ))
        };
        // What is behind the prefix is to be ignored (RFC 6396, 4.3.2, and RFC 4271, 4.3).
        let net = IpNet::new(address, len).map(|net| net.network());
        let addresses = net.ok().and_then(|net| Addresses::of_net(net, len));
        let addresses = addresses.ok_or("its prefix is too long")?;
        let count = left.u16()?;
        self.seen.clear();
        for _ in 0..count {
            let peer = left.u16()?;
            left.take(if path_ids { 8 } else { 4 })?;
            let size = left.u16()?;
            self.path.read(left.take(size.into())?)?;
            for &asn in self.path.asns() {
                self.seen.push((asn, peer));
            }
        }
        if !left.0.is_empty() {
            return Err("it is longer than it says");
        }
        self.seen.sort_unstable();
        self.seen.dedup();
        Ok(addresses)
    }
}
