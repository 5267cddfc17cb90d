//! MaxMind DB files, whoever made them: the fields of a record are looked for under
//! all the names that publishers give them.
//!
//! The library reads the file; before that the tree is walked once here, because a
//! damaged one can lead in circles, and would be walked for ever.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use maxminddb::{LookupResult, PathElement, Reader, WithinOptions};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::format::Format;
use super::gather::{Gather, whole_file};
use super::import::Shared;
use super::line::{self, Addresses, What, as_number};
use crate::diagnostic::Diagnostic;
use crate::policy::model::Country;

const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// The marker stands within the last bytes of a file, says its specification.
const MARKER_WITHIN: usize = 128 * 1024;

/// Where publishers write the number, the name and the country.
const ASN: &[&[PathElement<'_>]] = &[
    &[PathElement::Key("autonomous_system_number")],
    &[PathElement::Key("asn")],
    &[PathElement::Key("as_number")],
    &[
        PathElement::Key("traits"),
        PathElement::Key("autonomous_system_number"),
    ],
];
const NAME: &[&[PathElement<'_>]] = &[
    &[PathElement::Key("autonomous_system_organization")],
    &[PathElement::Key("as_name")],
    &[PathElement::Key("as_organization")],
    &[
        PathElement::Key("traits"),
        PathElement::Key("autonomous_system_organization"),
    ],
    &[PathElement::Key("name")],
];
const COUNTRY: &[&[PathElement<'_>]] = &[
    &[PathElement::Key("country_code")],
    &[PathElement::Key("country"), PathElement::Key("iso_code")],
    &[PathElement::Key("country")],
    &[
        PathElement::Key("registered_country"),
        PathElement::Key("iso_code"),
    ],
];

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum MmdbError {
    #[error("it is a damaged MaxMind DB file: {0}")]
    Damaged(String),
    #[error("{}", .0.message)]
    Refused(Diagnostic),
}

impl MmdbError {
    pub(super) fn into_diagnostic(self, file: &str) -> Diagnostic {
        match self {
            Self::Refused(diagnostic) => diagnostic,
            damaged @ Self::Damaged(_) => whole_file(file, &damaged.to_string(), "fetch it again"),
        }
    }
}

impl From<maxminddb::MaxMindDbError> for MmdbError {
    fn from(error: maxminddb::MaxMindDbError) -> Self {
        Self::Damaged(line::printable(error.to_string().as_bytes()))
    }
}

/// Whether the marker of the metadata is where it has to be.
pub(super) fn is_mmdb(bytes: &[u8]) -> bool {
    let end = &bytes[bytes.len().saturating_sub(MARKER_WITHIN)..];
    end.windows(MARKER.len()).any(|window| window == MARKER)
}

/// What a record says.
#[derive(Clone, Copy)]
struct Said {
    asn: Option<u32>,
    country: Option<Country>,
}

/// Reads all networks into `gather`.
///
/// The library checks what it reads; should it ever miss something and panic, that
/// is a damaged file and not the end of the controller. What was gathered until then
/// is thrown away with the error.
pub(super) fn read(
    bytes: &[u8],
    gather: &mut Gather<'_>,
    shared: &mut Shared,
) -> Result<(), MmdbError> {
    catch_unwind(AssertUnwindSafe(|| networks(bytes, gather, shared))).unwrap_or_else(|_| {
        let what = "its data cannot be read";
        Err(MmdbError::Damaged(what.to_owned()))
    })
}

fn networks(bytes: &[u8], gather: &mut Gather<'_>, shared: &mut Shared) -> Result<(), MmdbError> {
    let reader = Reader::from_source(bytes)?;
    let metadata = reader.metadata();
    Tree {
        bytes,
        nodes: metadata.node_count as usize,
        size: usize::from(metadata.record_size),
        bits: if metadata.ip_version == 4 { 32 } else { 128 },
    }
    .check()
    .map_err(|what| MmdbError::Damaged(what.to_owned()))?;

    // Many networks share a record.
    let mut known: HashMap<usize, Option<Said>> = HashMap::new();
    let mut number = 0;
    let mut open: Option<(Addresses, u32, u64)> = None;
    for result in reader.networks(WithinOptions::default())? {
        number += 1;
        let Ok(result) = result else {
            gather.damaged(number, "its data is outside of the file");
            continue;
        };
        let Some(offset) = result.offset() else {
            continue;
        };
        let said = *known
            .entry(offset)
            .or_insert_with(|| said(&result, gather, shared));
        let Some(said) = said else {
            gather.damaged(number, "its data cannot be read");
            continue;
        };
        let Some(addresses) = network(&result) else {
            gather.damaged(number, "its network is none");
            continue;
        };
        if let Some(country) = said.country {
            let what = What::Country(Some(country));
            gather
                .binary(number, addresses, what, Format::Mmdb, shared)
                .map_err(MmdbError::Refused)?;
        }
        let Some(asn) = said.asn else { continue };
        // A range of the publisher's source stands here as many networks.
        open = match open.take() {
            Some((before, same, first)) if same == asn => match joined(before, addresses) {
                Some(both) => Some((both, asn, first)),
                None => {
                    flush(Some((before, same, first)), gather, shared)?;
                    Some((addresses, asn, number))
                }
            },
            other => {
                flush(other, gather, shared)?;
                Some((addresses, asn, number))
            }
        };
    }
    flush(open, gather, shared)
}

fn flush(
    open: Option<(Addresses, u32, u64)>,
    gather: &mut Gather<'_>,
    shared: &mut Shared,
) -> Result<(), MmdbError> {
    let Some((addresses, asn, number)) = open else {
        return Ok(());
    };
    let what = What::Origins {
        asns: vec![asn],
        peers: None,
    };
    gather
        .binary(number, addresses, what, Format::Mmdb, shared)
        .map_err(MmdbError::Refused)
}

/// Networks come in order; neighbours are one.
fn joined(a: Addresses, b: Addresses) -> Option<Addresses> {
    match (a, b) {
        (Addresses::V4(start, end), Addresses::V4(next, last)) if end.checked_add(1)? == next => {
            Some(Addresses::V4(start, last))
        }
        (Addresses::V6(start, end), Addresses::V6(next, last)) if end.checked_add(1)? == next => {
            Some(Addresses::V6(start, last))
        }
        _ => None,
    }
}

fn network(result: &LookupResult<'_, &[u8]>) -> Option<Addresses> {
    let network = result.network().ok()?;
    let (address, len) = (network.ip(), network.prefix());
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Addresses::of_net(v4.into(), len.checked_sub(96)?),
            None => Addresses::of_net(address, len),
        },
        IpAddr::V4(_) => Addresses::of_net(address, len),
    }
}

/// `None`: the data is damaged.
fn said(
    result: &LookupResult<'_, &[u8]>,
    gather: &Gather<'_>,
    shared: &mut Shared,
) -> Option<Said> {
    // Whatever is looked for is in a map; a path that is not there is no error.
    result
        .decode_path::<Scalar>(&[PathElement::Key("\0")])
        .ok()?;
    let find = |paths: &[&[PathElement<'_>]], wanted: &dyn Fn(&Scalar) -> bool| {
        paths.iter().find_map(|path| {
            let found = result.decode_path::<Scalar>(path).ok().flatten()?;
            wanted(&found).then_some(found)
        })
    };
    let asn = find(ASN, &|scalar| scalar.asn().is_some()).and_then(|scalar| scalar.asn());
    let country =
        find(COUNTRY, &|scalar| scalar.country().is_some()).and_then(|scalar| scalar.country());
    if let Some(asn) = asn.filter(|&asn| asn != 0)
        && let Some(Scalar::Text(name)) = find(NAME, &|scalar| matches!(scalar, Scalar::Text(_)))
    {
        gather.named(asn, name.as_bytes(), shared);
    }
    Some(Said { asn, country })
}

/// A number or a text; anything else is an error, so that nothing that is nested
/// or huge is ever built.
enum Scalar {
    Number(u64),
    Text(String),
}

impl Scalar {
    fn asn(&self) -> Option<u32> {
        match self {
            Self::Number(number) => u32::try_from(*number).ok(),
            Self::Text(text) => as_number(text.as_bytes()),
        }
    }

    fn country(&self) -> Option<Country> {
        match self {
            Self::Number(_) => None,
            Self::Text(text) => line::country(text.as_bytes()).flatten(),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a text")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                let cut = text
                    .char_indices()
                    .nth(1000)
                    .map_or(text.len(), |(at, _)| at);
                Ok(Scalar::Text(text[..cut].to_owned()))
            }
        }
        from.deserialize_any(Any)
    }
}

/// The search tree, to be walked once.
struct Tree<'a> {
    bytes: &'a [u8],
    nodes: usize,
    size: usize,
    bits: usize,
}

impl Tree<'_> {
    /// Each node may be reached once. Only the IPv4 part may be reached again, from
    /// the places that embed IPv4 (6to4, Teredo, mapped): readers skip those.
    fn check(&self) -> Result<(), &'static str> {
        let mut reached = vec![false; self.nodes];
        let ipv4 = self.ipv4();
        // Node, depth, and whether only zeros lead there: then it is before ::/96's end.
        let mut stack = vec![(0usize, 0usize, true)];
        while let Some((node, depth, zeros)) = stack.pop() {
            if node >= self.nodes {
                continue;
            }
            if depth >= self.bits {
                return Err("its tree is deeper than an address is long");
            }
            if Some(node) == ipv4 && !zeros {
                continue;
            }
            if std::mem::replace(&mut reached[node], true) {
                return Err("its tree leads to one node twice");
            }
            // Behind ::/96 everything is IPv4, whatever its bits are.
            let inside = zeros && depth >= 96;
            for (side, zero) in [(1, false), (0, true)] {
                let next = self.child(node, side).ok_or("its tree is cut")?;
                stack.push((next, depth + 1, zeros && zero || inside));
            }
        }
        Ok(())
    }

    /// Where 96 zeros lead, if that is a node.
    fn ipv4(&self) -> Option<usize> {
        if self.bits == 32 {
            return None;
        }
        let mut node = 0;
        for _ in 0..96 {
            node = self.child(node, 0)?;
            if node >= self.nodes {
                return None;
            }
        }
        Some(node)
    }

    fn child(&self, node: usize, side: usize) -> Option<usize> {
        let width = self.size / 4;
        let at = node.checked_mul(width)?;
        let bytes = self.bytes.get(at..at.checked_add(width)?)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, &b| n << 8 | usize::from(b));
        Some(match (self.size, side) {
            (28, 0) => usize::from(bytes[3] >> 4) << 24 | number(&bytes[..3]),
            (28, _) => usize::from(bytes[3] & 0x0f) << 24 | number(&bytes[4..7]),
            (_, 0) => number(&bytes[..width / 2]),
            (_, _) => number(&bytes[width / 2..]),
        })
    }
}
