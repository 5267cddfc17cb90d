//! Who says that an ASN announces an address, and whether the RPKI agrees
//! (RFC 6811). This walks rows: it is for explaining, not for packets.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::flatten::winners;
use super::format::Format;
use super::model::{AsnDb, Combine, Row, Vrp};
use super::range::{Address, exact_len, host_mask, largest_around};

/// What the RPKI says of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rpki {
    /// Authorised.
    Valid,
    /// Others are authorised, or shorter prefixes only.
    Invalid,
    /// Nobody is.
    NotFound,
}

impl Rpki {
    /// As it is written: `valid`, `invalid`, `not-found`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
        }
    }
}

/// One row that gives an address its origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The origin.
    pub asn: u32,
    /// Path of the source as given at the import.
    pub source: String,
    /// Line there, from 1; 0: the source has no lines.
    pub line: u32,
    /// Record there, from 1; 0: the source has lines.
    pub record: u32,
    /// The largest prefix around the address inside the row.
    pub prefix: IpNet,
    /// What the RPKI says; `None`: no payloads are loaded.
    pub rpki: Option<Rpki>,
}

impl AsnDb {
    /// Every row that counts at an address, in the order of its origins.
    #[must_use]
    pub fn evidence(&self, addr: IpAddr) -> Vec<Evidence> {
        match addr.to_canonical() {
            IpAddr::V4(addr) => self.rows_at(&self.rows_v4, &self.vrps_v4, addr.into()),
            IpAddr::V6(addr) => self.rows_at(&self.rows_v6, &self.vrps_v6, addr.into()),
        }
    }

    /// What the RPKI says of an announcement (RFC 6811); `None`: no payloads are loaded.
    #[must_use]
    pub fn rpki(&self, prefix: IpNet, asn: u32) -> Option<Rpki> {
        if self.vrps_v4.is_empty() && self.vrps_v6.is_empty() {
            return None;
        }
        let len = Some(prefix.prefix_len());
        Some(match prefix {
            IpNet::V4(net) => validate(&self.vrps_v4, net.network().to_bits(), len, asn),
            IpNet::V6(net) => validate(&self.vrps_v6, net.network().to_bits(), len, asn),
        })
    }

    fn rows_at<A: Address>(&self, rows: &[Row<A>], vrps: &[Vrp<A>], addr: A) -> Vec<Evidence> {
        let mut covering: Vec<&Row<A>> = rows
            .iter()
            .filter(|row| row.start <= addr && addr <= row.end)
            .collect();
        let mut found: Vec<&Row<A>> = Vec::new();
        winners(&mut covering, |row| found.push(row));
        found.sort_by_key(|row| (row.source, row.asn, row.line));
        if let (Combine::Priority, Some(first)) = (self.combine, found.first()) {
            let source = first.source;
            found.retain(|row| row.source == source);
        }
        let any_vrps = !(self.vrps_v4.is_empty() && self.vrps_v6.is_empty());
        let evidence = |row: &Row<A>| {
            let source = self.sources.get(usize::from(row.source));
            let format = source.and_then(|source| Format::of(&source.format));
            let records = format.is_some_and(Format::has_records);
            let announced = format
                .filter(|format| format.is_routes())
                .and_then(|_| exact_len(row.start, row.end));
            Evidence {
                asn: row.asn,
                source: source.map_or_else(String::new, |source| source.file.clone()),
                line: if records { 0 } else { row.line },
                record: if records { row.line } else { 0 },
                prefix: largest_around(addr, row.start, row.end),
                rpki: any_vrps.then(|| validate(vrps, addr, announced, row.asn)),
            }
        };
        found.into_iter().map(evidence).collect()
    }
}

/// RFC 6811 for a prefix of length `announced` around `addr`. Where the length is not
/// known, because the source has joined neighbours, any length is taken to be the
/// right one.
fn validate<A: Address>(vrps: &[Vrp<A>], addr: A, announced: Option<u8>, asn: u32) -> Rpki {
    let mut state = Rpki::NotFound;
    for len in 0..=announced.unwrap_or(A::BITS) {
        let start = A::narrow(addr.wide() & !host_mask::<A>(len));
        let from = vrps.partition_point(|vrp| (vrp.start, vrp.len) < (start, len));
        let covering = vrps[from..]
            .iter()
            .take_while(|vrp| (vrp.start, vrp.len) == (start, len));
        for vrp in covering {
            if vrp.asn == asn && asn != 0 && announced.is_none_or(|len| len <= vrp.max) {
                return Rpki::Valid;
            }
            state = Rpki::Invalid;
        }
    }
    state
}
