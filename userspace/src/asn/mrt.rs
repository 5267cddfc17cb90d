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

use super::format::Format;
use super::gather::{Gather, whole_file};
use super::import::Shared;
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

/// Why a RIB cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum MrtError {
    #[error(transparent)]
    Source(SourceError),
    #[error("it ends in the middle of record {0}")]
    Truncated(u64),
    #[error("record {number} is said to have {length} bytes")]
    TooLong { number: u64, length: u32 },
    #[error("it holds MRT messages (type {0}), not a table")]
    NoTable(u16),
    #[error("{}", .0.message)]
    Refused(Diagnostic),
}

impl MrtError {
    /// Whether the file is good as far as it goes.
    pub(super) fn is_cut(&self) -> bool {
        matches!(
            self,
            Self::Truncated(_) | Self::Source(SourceError::Truncated(_))
        )
    }

    pub(super) fn into_diagnostic(self, file: &str) -> Diagnostic {
        let help = match &self {
            Self::Source(error) => error.help(),
            Self::Truncated(_) => "the download was cut short: fetch it again",
            Self::TooLong { .. } => "the file is damaged: fetch it again",
            Self::NoTable(_) => "take a RIB in TABLE_DUMP_V2 (`rib.*`, `bview.*`), not updates",
            Self::Refused(_) => "",
        };
        match self {
            Self::Refused(diagnostic) => diagnostic,
            _ => whole_file(file, &self.to_string(), help),
        }
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
pub(super) fn read(
    mut input: Bytes,
    gather: &mut Gather<'_>,
    shared: &mut Shared,
) -> Result<(), MrtError> {
    let mut rib = Rib {
        min_peers: gather.options.min_peers,
        seen: Vec::new(),
        path: Origins::default(),
    };
    let mut record = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        let Some(header) = header(&mut input, number)? else {
            return Ok(());
        };
        let kind = u16::from_be_bytes([header[4], header[5]]);
        let subtype = u16::from_be_bytes([header[6], header[7]]);
        let length = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        if length > MAX_RECORD {
            return Err(MrtError::TooLong { number, length });
        }
        record.clear();
        (&mut input)
            .take(length.into())
            .read_to_end(&mut record)
            .map_err(|error| source(&input, error))?;
        if record.len() < length as usize {
            return Err(MrtError::Truncated(number));
        }
        if kind != TABLE_DUMP_V2 {
            if number == 1 {
                return Err(MrtError::NoTable(kind));
            }
            gather.damaged(number, "it is of another type");
            continue;
        }
        let result = match subtype {
            1 => rib.peers(&record),
            2 | 8 => rib.entry(number, &record, false, subtype == 8, gather, shared)?,
            4 | 10 => rib.entry(number, &record, true, subtype == 10, gather, shared)?,
            // Multicast, and families other than IP.
            _ => Ok(()),
        };
        if let Err(what) = result {
            gather.damaged(number, what);
        }
    }
}

fn source(input: &Bytes, error: io::Error) -> MrtError {
    MrtError::Source(input.fault(error))
}

fn header(input: &mut Bytes, number: u64) -> Result<Option<[u8; HEADER]>, MrtError> {
    let mut header = [0; HEADER];
    let mut have = 0;
    while have < HEADER {
        match input.read(&mut header[have..]) {
            Ok(0) if input.is_spent() => {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(source(input, error));
            }
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(MrtError::Truncated(number)),
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(source(input, error)),
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
        shared: &mut Shared,
    ) -> Result<Result<(), &'static str>, MrtError> {
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
        gather
            .binary(number, addresses, what, Format::Mrt, shared)
            .map_err(MrtError::Refused)?;
        Ok(Ok(()))
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
        let addresses =
            Addresses::of_net(address, len).ok_or("its prefix is too long or has host bits")?;
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
