//! Lines of every text format. The first line that can be read says which one it
//! is; the shape is kept, so that later lines are read as the same.
//!
//! Each shape is a function from a line to a record: nothing is remembered but the
//! columns that a header names.

use std::net::IpAddr;
use std::ops::Range;

use serde::Deserialize;

use super::columns::Columns;
use super::format::Format;
use super::line::{
    self, Addresses, Fact, Fault, Parsed, Record, RowError, What, as_number, country, printable,
};
use super::networks::NetworkRow;

/// Origins of one prefix, at most; what has more is no announcement.
const MAX_ORIGINS: usize = 64;

/// ASNs of one line of a registry, at most: the largest blocks have some thousand.
const MAX_BLOCK: u32 = 1 << 16;

/// How the lines of a file are read.
#[derive(Debug, Default)]
pub(super) enum Shape {
    /// Nothing could be read yet.
    #[default]
    Unknown,
    /// start, end and something.
    Positional,
    /// As the header says.
    Columns(Columns),
    /// By blanks: address, length, origins.
    Pfx2As,
    /// By blanks: origins, prefix, peers.
    RisWhois,
    /// prefix, then an ASN or a country.
    Prefixes,
    /// bgp.tools.
    TableJson,
    /// IPinfo.
    NetworkJson,
    /// By bars: registry, country, kind, start, size, date, status.
    Delegated,
    /// By bars: organisations and ASNs.
    As2Org,
    /// The same as JSON.
    As2OrgJson,
}

impl Shape {
    /// Reads a line; the first one that is readable decides how. `None`: a header.
    pub(super) fn read<'a>(
        &mut self,
        line: &'a [u8],
        first: bool,
    ) -> Result<Option<Record<'a>>, RowError> {
        if !matches!(self, Self::Unknown) {
            return self.parse(line).map(Some);
        }
        if first && line::is_header(line) {
            if let Some(columns) = Columns::of(line) {
                *self = Self::Columns(columns);
            }
            return Ok(None);
        }
        let shape = recognise(line);
        let record = shape.parse(line)?;
        // `None` for an ASN fits several formats, all of them positional.
        *self = shape;
        Ok(Some(record))
    }

    fn parse<'a>(&self, line: &'a [u8]) -> Result<Record<'a>, RowError> {
        let whole = |fault: Fault| fault.at(0..line.len());
        match self {
            Self::Unknown | Self::Positional => line::parse(line).map(Record::Row),
            Self::Columns(columns) => columns.parse(line),
            Self::Pfx2As => pfx2as(line),
            Self::RisWhois => riswhois(line),
            Self::Prefixes => prefixes(line),
            Self::TableJson => table_json(line).map_err(whole),
            Self::NetworkJson => network_json(line).map_err(whole),
            Self::Delegated => delegated(line).map_err(whole),
            Self::As2Org => as2org(line).map_err(whole),
            Self::As2OrgJson => as2org_json(line).map_err(whole),
        }
    }
}

fn recognise(line: &[u8]) -> Shape {
    if line.starts_with(b"{") && line.contains(&b'"') {
        return if serde_json::from_slice::<TableRow<'_>>(line).is_ok() {
            Shape::TableJson
        } else if NetworkRow::of(line).is_some() {
            Shape::NetworkJson
        } else {
            Shape::As2OrgJson
        };
    }
    if line.contains(&b'|') {
        return if registry(line) {
            Shape::Delegated
        } else {
            Shape::As2Org
        };
    }
    let separator = |b: &u8| matches!(b, b',' | b'\t' | b' ');
    let mut words = line.split(separator).filter(|word| !word.is_empty());
    let (Some(one), Some(two)) = (words.next(), words.next()) else {
        return Shape::Positional;
    };
    let digits = |text: &[u8]| text.len() <= 3 && text.iter().all(u8::is_ascii_digit);
    if prefix(one).is_some() {
        Shape::Prefixes
    } else if line::read_address(one).is_some() && digits(two) {
        Shape::Pfx2As
    } else if !line.contains(&b',') && prefix(two).is_some()
        || line.starts_with(b"{") && line.contains(&b'\t')
    {
        Shape::RisWhois
    } else {
        Shape::Positional
    }
}

/// Words between blanks or tabs, with their places.
fn words(line: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while matches!(line.get(at), Some(b' ' | b'\t')) {
            at += 1;
        }
        let start = at;
        while line.get(at).is_some_and(|b| !matches!(b, b' ' | b'\t')) {
            at += 1;
        }
        (at > start).then_some(start..at)
    })
}

fn prefix(text: &[u8]) -> Option<Addresses> {
    let slash = text.iter().position(|&b| b == b'/')?;
    Addresses::of_prefix(&text[..slash], &text[slash + 1..])
}

/// A prefix at a place of a line.
pub(super) fn prefix_at(line: &[u8], at: &Range<usize>) -> Result<Addresses, RowError> {
    prefix(&line[at.clone()])
        .ok_or_else(|| Fault::NoPrefix(printable(&line[at.clone()])).at(at.clone()))
}

/// `1`, `AS1`, `1_2` (several origins), `1,2` and `{1,2}` (an AS_SET): whoever is
/// named may be the origin, and counts.
fn origins(text: &[u8]) -> Option<Vec<u32>> {
    let mut asns = Vec::with_capacity(1);
    for part in text.split(|b| matches!(b, b'_' | b',')) {
        let part = part.strip_prefix(b"{").unwrap_or(part);
        let part = part.strip_suffix(b"}").unwrap_or(part);
        let asn = as_number(part.trim_ascii())?;
        if !asns.contains(&asn) {
            asns.push(asn);
        }
        if asns.len() > MAX_ORIGINS {
            return None;
        }
    }
    Some(asns)
}

fn origins_at(line: &[u8], at: &Range<usize>) -> Result<Vec<u32>, RowError> {
    origins(&line[at.clone()])
        .ok_or_else(|| Fault::Origins(printable(&line[at.clone()])).at(at.clone()))
}

fn missing(line: &[u8], format: Format, what: &'static str) -> RowError {
    Fault::Shape(format, what).at(0..line.len())
}

fn row(
    addresses: Addresses,
    what: What<'_>,
    format: Format,
    range: Range<usize>,
    third: Range<usize>,
) -> Record<'_> {
    Record::Row(Parsed {
        addresses,
        what,
        format: Some(format),
        range,
        third,
    })
}

fn pfx2as(line: &[u8]) -> Result<Record<'_>, RowError> {
    let format = Format::Pfx2As;
    let mut words = words(line);
    let (Some(address), Some(len), Some(asns)) = (words.next(), words.next(), words.next()) else {
        return Err(missing(line, format, "address, length and origins"));
    };
    let range = address.start..len.end;
    let addresses = Addresses::of_prefix(&line[address], &line[len])
        .ok_or_else(|| Fault::NoPrefix(printable(&line[range.clone()])).at(range.clone()))?;
    let what = What::Origins {
        asns: origins_at(line, &asns)?,
        peers: None,
    };
    Ok(row(addresses, what, format, range, asns))
}

fn riswhois(line: &[u8]) -> Result<Record<'_>, RowError> {
    let format = Format::RisWhois;
    let mut words = words(line);
    let (Some(asns), Some(range), Some(peers)) = (words.next(), words.next(), words.next()) else {
        return Err(missing(line, format, "origin, prefix and number of peers"));
    };
    let addresses = prefix_at(line, &range)?;
    let count = std::str::from_utf8(&line[peers.clone()]).unwrap_or("");
    let Ok(count) = count.parse() else {
        return Err(Fault::Shape(format, "a number of peers in its third column").at(peers));
    };
    let what = What::Origins {
        asns: origins_at(line, &asns)?,
        peers: Some(count),
    };
    Ok(row(addresses, what, format, range, asns))
}

/// `prefix asn`, `prefix,asn[,name]`, `prefix,CC`.
fn prefixes(line: &[u8]) -> Result<Record<'_>, RowError> {
    let separator = line
        .iter()
        .copied()
        .find(|b| matches!(b, b',' | b'\t' | b' '));
    let format = Format::PrefixAsn;
    let (range, next) = line::field(line, 0, separator.unwrap_or(b' '));
    let addresses = prefix_at(line, &range)?;
    let Some(next) = next else {
        return Err(missing(line, format, "a prefix and an AS number"));
    };
    let (third, next) = line::field(line, next, separator.unwrap_or(b' '));
    let text = &line[third.clone()];
    if let Some(asns) = origins(text) {
        let what = match (next, &asns[..]) {
            (Some(next), &[asn]) if separator == Some(b',') => What::Origin {
                asn,
                country: None,
                name: &line[next..],
            },
            _ => What::Origins { asns, peers: None },
        };
        return Ok(row(addresses, what, format, range, third));
    }
    if let Some(code) = country(text) {
        let format = Format::CountryPrefixes;
        return Ok(row(addresses, What::Country(code), format, range, third));
    }
    Err(Fault::Third(printable(text)).at(third))
}

#[derive(Deserialize)]
struct TableRow<'a> {
    #[serde(rename = "CIDR")]
    prefix: &'a str,
    #[serde(rename = "ASN")]
    asn: u32,
    #[serde(rename = "Hits")]
    peers: Option<u32>,
}

fn table_json(line: &[u8]) -> Result<Record<'_>, Fault> {
    let format = Format::TableJson;
    let read: TableRow<'_> =
        serde_json::from_slice(line).map_err(|_| Fault::Shape(format, "`CIDR` and `ASN`"))?;
    let addresses =
        prefix(read.prefix.as_bytes()).ok_or_else(|| Fault::NoPrefix(read.prefix.to_owned()))?;
    let what = What::Origins {
        asns: vec![read.asn],
        peers: read.peers,
    };
    Ok(row(addresses, what, format, 0..line.len(), 0..line.len()))
}

fn network_json(line: &[u8]) -> Result<Record<'_>, Fault> {
    let format = Format::NetworkJsonl;
    let read = NetworkRow::of(line).ok_or(Fault::Shape(format, "`network` and `asn`"))?;
    let (addresses, what) = read.said(format)?;
    Ok(row(addresses, what, format, 0..line.len(), 0..line.len()))
}

const REGISTRIES: [&str; 7] = [
    "afrinic", "apnic", "arin", "iana", "lacnic", "ripencc", "nro",
];

/// `apnic|JP|asn|173|1|…`, or the first line `2|apnic|…`.
fn registry(line: &[u8]) -> bool {
    let known = |text: &[u8]| REGISTRIES.iter().any(|name| name.as_bytes() == text);
    let mut fields = line.split(|&b| b == b'|');
    let first = fields.next().unwrap_or_default();
    known(first) || first.starts_with(b"2") && fields.next().is_some_and(known)
}

fn delegated(line: &[u8]) -> Result<Record<'_>, Fault> {
    let format = Format::Delegated;
    let nothing = || Ok(Record::Fact(format, Fact::Nothing));
    let bad = |what| Err(Fault::Shape(format, what));
    if !registry(line) {
        return bad("the name of a registry");
    }
    let fields: Vec<&[u8]> = line.split(|&b| b == b'|').collect();
    if fields.first().is_some_and(|first| first.starts_with(b"2"))
        || fields.last() == Some(&&b"summary"[..])
    {
        return nothing();
    }
    let [_, code, kind, start, size, _, status, ..] = fields[..] else {
        return bad("registry, country, kind, start, size, date and status");
    };
    if !matches!(status, b"allocated" | b"assigned") {
        return nothing();
    }
    let code = match country(code) {
        Some(Some(code)) => code,
        Some(None) => return nothing(),
        None if code.is_empty() || code == b"*" => return nothing(),
        None => return Err(Fault::Third(printable(code))),
    };
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u32>().ok();
    let Some(size) = number(size) else {
        return bad("a number as its size");
    };
    let addresses = match kind {
        b"asn" => {
            let Some(first) = number(start) else {
                return bad("a number as its first ASN");
            };
            let last = first.checked_add(size.wrapping_sub(1));
            return match last {
                Some(last) if (1..=MAX_BLOCK).contains(&size) => {
                    Ok(Record::Fact(format, Fact::Registered(first, last, code)))
                }
                _ => bad("a block of ASNs that exists"),
            };
        }
        b"ipv4" => match line::read_address(start) {
            Some(IpAddr::V4(first)) => {
                let first = u32::from(first);
                let last = first.checked_add(size.wrapping_sub(1));
                last.filter(|_| size > 0)
                    .map(|last| Addresses::V4(first, last))
            }
            _ => None,
        },
        b"ipv6" => match (line::read_address(start), u8::try_from(size)) {
            (Some(first @ IpAddr::V6(_)), Ok(len)) => Addresses::of_net(first, len),
            _ => None,
        },
        _ => return nothing(),
    };
    match addresses {
        Some(addresses) => {
            let all = 0..line.len();
            let what = What::Country(Some(code));
            Ok(row(addresses, what, format, all.clone(), all))
        }
        None => bad("a block of addresses that exists"),
    }
}

fn text(bytes: &[u8]) -> &str {
    // Names that are not UTF-8 cost the name, not the line.
    std::str::from_utf8(bytes).unwrap_or("").trim()
}

/// `org_id|changed|name|country|source`, or `aut|changed|name|org_id|…`.
fn as2org(line: &[u8]) -> Result<Record<'_>, Fault> {
    let format = Format::As2Org;
    let fields: Vec<&[u8]> = line.split(|&b| b == b'|').collect();
    let fact = match fields[..] {
        [asn, _, name, org, _, ..] if as_number(asn).is_some() && !org.is_empty() => Fact::Member(
            as_number(asn).unwrap_or(0),
            text(name).into(),
            text(org).into(),
        ),
        [id, _, name, code, _] if !text(id).is_empty() => {
            Fact::Org(text(id).into(), text(name).into(), country(code).flatten())
        }
        _ => {
            return Err(Fault::Shape(
                format,
                "an organisation (id, date, name, country, source) or an ASN (number, date, name, organisation, …)",
            ));
        }
    };
    Ok(Record::Fact(format, fact))
}

// Owned, because JSON may write any letter as an escape.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrgRow {
    organization_id: String,
    #[serde(default)]
    name: String,
    asn: Option<String>,
    country: Option<String>,
}

fn as2org_json(line: &[u8]) -> Result<Record<'_>, Fault> {
    let format = Format::As2Org;
    let read: OrgRow = serde_json::from_slice(line)
        .map_err(|_| Fault::Shape(format, "`organizationId`, and `asn` or `name`"))?;
    let (id, name) = (read.organization_id.into(), read.name.into());
    let fact = match read.asn {
        None => Fact::Org(id, name, read.country.and_then(|code| code.parse().ok())),
        Some(asn) => match as_number(asn.as_bytes()) {
            Some(asn) => Fact::Member(asn, name, id),
            None => return Err(Fault::Third(printable(asn.as_bytes()))),
        },
    };
    Ok(Record::Fact(format, fact))
}
