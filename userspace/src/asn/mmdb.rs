//! MaxMind DB files, whoever made them: the fields of a record are looked for under
//! all the names that publishers give them.
//!
//! The tree is walked here, because a damaged one can lead in circles and would be
//! walked for ever; what its leaves point to is read by [`data`], which does no more work
//! than a file of that size is worth. Nothing that is not asked for is ever built.

mod data;

use std::collections::HashMap;

use self::data::{Data, Wanted};
use super::country::Country;
use super::facts::Facts;
use super::format::Format;
use super::gather::{FORMATS, Gather};
use super::line::{self, Addresses, What, as_number};
use super::source::Input;
use crate::diagnostic::Diagnostic;

const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// The marker stands within the last bytes of a file, says its specification.
const MARKER_WITHIN: usize = 128 * 1024;
/// Zero bytes between the tree and the data.
const SEPARATOR: usize = 16;

/// Where publishers write the number, the name and the country; the first that says
/// something counts.
const ASN: &[&[&str]] = &[
    &["autonomous_system_number"],
    &["asn"],
    &["as_number"],
    &["traits", "autonomous_system_number"],
];
const NAME: &[&[&str]] = &[
    &["autonomous_system_organization"],
    &["as_name"],
    &["as_organization"],
    &["traits", "autonomous_system_organization"],
    &["name"],
];
const COUNTRY: &[&[&str]] = &[
    &["country_code"],
    &["country", "iso_code"],
    &["country"],
    &["registered_country", "iso_code"],
];

/// Where the marker of the metadata stands, if it is where it has to be.
fn marker(bytes: &[u8]) -> Option<usize> {
    let from = bytes.len().saturating_sub(MARKER_WITHIN);
    let at = bytes[from..]
        .windows(MARKER.len())
        .rposition(|window| window == MARKER)?;
    Some(from + at)
}

/// What a record says.
#[derive(Clone, Copy)]
struct Said {
    asn: Option<u32>,
    country: Option<Country>,
}

/// Reads all networks into `gather`.
pub(super) fn read(input: Input, gather: &mut Gather<'_>) -> Result<(), Diagnostic> {
    let file = gather.file;
    let bytes = input
        .whole()
        .map_err(|error| gather.unreadable(&error, 0))?;
    let Some(marker) = marker(&bytes) else {
        let message = "it is binary, and of no format that is known";
        return Err(Diagnostic::of_file(file, message, FORMATS));
    };
    let damaged = |what: &str| {
        let message = format!("it is a damaged MaxMind DB file: {what}");
        Diagnostic::of_file(file, message, "fetch it again")
    };
    let tree = Tree::of(&bytes[..marker], &bytes[marker + MARKER.len()..]).map_err(damaged)?;
    let mut data = Data::new(&bytes[tree.size() + SEPARATOR..marker]);
    // Many networks share a record.
    let mut known: HashMap<usize, Option<Said>> = HashMap::new();
    let mut number = 0;
    let mut open: Option<(Addresses, u32, u64)> = None;
    tree.walk(damaged, |addresses, place| {
        number += 1;
        let Some(place) = place.filter(|&place| place < data.len()) else {
            gather.damaged(number, "its data is outside of the file");
            return Ok(());
        };
        let said = match known.get(&place) {
            Some(&said) => said,
            None => {
                let said = said(&mut data, place, gather.facts);
                if data.is_spent() {
                    return Err(damaged(
                        "its data is entangled: reading it takes longer than its size is worth",
                    ));
                }
                known.insert(place, said);
                said
            }
        };
        let Some(said) = said else {
            gather.damaged(number, "its data cannot be read");
            return Ok(());
        };
        if let Some(country) = said.country {
            let what = What::Country(Some(country));
            gather.binary(number, addresses, what, Format::Mmdb)?;
        }
        let Some(asn) = said.asn else { return Ok(()) };
        // A range of the publisher's source stands here as many networks.
        let joint = open
            .filter(|(_, same, _)| *same == asn)
            .and_then(|(before, _, first)| Some((joined(before, addresses)?, asn, first)));
        if joint.is_none() {
            flush(open.take(), gather)?;
        }
        open = Some(joint.unwrap_or((addresses, asn, number)));
        Ok(())
    })?;
    flush(open, gather)
}

fn flush(open: Option<(Addresses, u32, u64)>, gather: &mut Gather<'_>) -> Result<(), Diagnostic> {
    let Some((addresses, asn, number)) = open else {
        return Ok(());
    };
    let what = What::Origins {
        asns: vec![asn],
        peers: None,
    };
    gather.binary(number, addresses, what, Format::Mmdb)
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

/// `None`: the data is damaged.
fn said(data: &mut Data<'_>, place: usize, facts: &mut Facts) -> Option<Said> {
    let mut wanted = [Wanted::new(ASN), Wanted::new(NAME), Wanted::new(COUNTRY)];
    data.look(place, &mut wanted)?;
    let [asn, name, country] = &wanted;
    let asn = asn.first(|scalar| match scalar {
        data::Scalar::Number(number) => u32::try_from(number).ok(),
        data::Scalar::Text(text) => as_number(text),
    });
    let country = country.first(|scalar| match scalar {
        data::Scalar::Number(_) => None,
        data::Scalar::Text(text) => line::country(text).flatten(),
    });
    let name = name.first(|scalar| match scalar {
        data::Scalar::Number(_) => None,
        data::Scalar::Text(text) => Some(text),
    });
    if let (Some(asn @ 1..), Some(name)) = (asn, name) {
        facts.name(asn, name, None);
    }
    Some(Said { asn, country })
}

/// The search tree: two ways at each node, for the next bit of an address.
struct Tree<'a> {
    bytes: &'a [u8],
    nodes: usize,
    /// Bits of a way: 24, 28 or 32.
    way: usize,
    /// Bits of an address: 32 or 128.
    bits: usize,
}

/// A node that is still to be visited, and how one gets there.
struct Visit {
    node: usize,
    depth: usize,
    /// The bits that lead there, from the highest on.
    prefix: u128,
}

impl<'a> Tree<'a> {
    /// Of what is before the marker and what is behind it.
    fn of(bytes: &'a [u8], metadata: &'a [u8]) -> Result<Self, &'static str> {
        let mut data = Data::new(metadata);
        let mut number = |key: &'static [&'static [&'static str]]| {
            let mut wanted = [Wanted::new(key)];
            data.look(0, &mut wanted)?;
            wanted[0].first(|scalar| match scalar {
                data::Scalar::Number(number) => usize::try_from(number).ok(),
                data::Scalar::Text(_) => None,
            })
        };
        const WORD: &str = "its metadata cannot be read";
        if number(&[&["binary_format_major_version"]]).ok_or(WORD)? != 2 {
            return Err("it is of another version than 2");
        }
        let nodes = number(&[&["node_count"]]).ok_or(WORD)?;
        let way = number(&[&["record_size"]]).ok_or(WORD)?;
        let bits = match number(&[&["ip_version"]]).ok_or(WORD)? {
            4 => 32,
            6 => 128,
            _ => return Err("it is for neither IPv4 nor IPv6"),
        };
        if !matches!(way, 24 | 28 | 32) {
            return Err("its nodes have a size that there is not");
        }
        let tree = Self {
            bytes,
            nodes,
            way,
            bits,
        };
        let end = nodes
            .checked_mul(way / 4)
            .and_then(|size| size.checked_add(SEPARATOR));
        if end.is_none_or(|end| end > bytes.len()) {
            return Err("its tree is cut");
        }
        Ok(tree)
    }

    /// In bytes.
    fn size(&self) -> usize {
        self.nodes * (self.way / 4)
    }

    /// Calls `each` with every network that has data, in order, and where in the data
    /// section that is; `None`: in front of it.
    ///
    /// Each node may be reached once. Only the IPv4 part may be reached again, from
    /// the places in IPv6 that embed IPv4 (6to4, Teredo, mapped): those are passed over.
    fn walk(
        &self,
        damaged: impl Fn(&str) -> Diagnostic,
        mut each: impl FnMut(Addresses, Option<usize>) -> Result<(), Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let mut reached = vec![false; self.nodes];
        let ipv4 = self.ipv4();
        let mut stack = vec![Visit {
            node: 0,
            depth: 0,
            prefix: 0,
        }];
        while let Some(Visit {
            node,
            depth,
            prefix,
        }) = stack.pop()
        {
            if node == self.nodes {
                continue;
            }
            if node > self.nodes {
                let addresses = self
                    .addresses(prefix, depth)
                    .ok_or_else(|| damaged("a network of it is none"))?;
                each(addresses, (node - self.nodes).checked_sub(SEPARATOR))?;
                continue;
            }
            if depth >= self.bits {
                return Err(damaged("its tree is deeper than an address is long"));
            }
            let embeds = depth <= 96 && prefix != 0 || prefix >> 32 != 0;
            if Some(node) == ipv4 && embeds {
                continue;
            }
            if std::mem::replace(&mut reached[node], true) {
                return Err(damaged("its tree leads to one node twice"));
            }
            // The lower half comes first.
            for side in [1, 0] {
                stack.push(Visit {
                    node: self.child(node, side),
                    depth: depth + 1,
                    prefix: prefix | (side as u128) << (127 - depth),
                });
            }
        }
        Ok(())
    }

    /// Addresses below ::/96 are IPv4, as v4-mapped ones are.
    fn addresses(&self, prefix: u128, depth: usize) -> Option<Addresses> {
        let len = u8::try_from(depth).ok()?;
        if self.bits == 32 {
            return Addresses::of_net(((prefix >> 96) as u32).to_be_bytes().into(), len);
        }
        if len >= 96 && matches!(prefix >> 32, 0 | 0xffff) {
            return Addresses::of_net((prefix as u32).to_be_bytes().into(), len - 96);
        }
        Addresses::of_net(prefix.to_be_bytes().into(), len)
    }

    /// Where 96 zeros lead, if that is a node.
    fn ipv4(&self) -> Option<usize> {
        if self.bits == 32 {
            return None;
        }
        let mut node = 0;
        for _ in 0..96 {
            if node >= self.nodes {
                return None;
            }
            node = self.child(node, 0);
        }
        (node < self.nodes).then_some(node)
    }

    /// Of a node that there is.
    fn child(&self, node: usize, side: usize) -> usize {
        let width = self.way / 4;
        let bytes = &self.bytes[node * width..][..width];
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, &b| n << 8 | usize::from(b));
        match (self.way, side) {
            (28, 0) => usize::from(bytes[3] >> 4) << 24 | number(&bytes[..3]),
            (28, _) => usize::from(bytes[3] & 0x0f) << 24 | number(&bytes[4..7]),
            (_, 0) => number(&bytes[..width / 2]),
            (_, _) => number(&bytes[width / 2..]),
        }
    }
}
