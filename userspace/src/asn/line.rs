//! One line of start, end and something. The line itself says what it is: the
//! first comma or tab is the separator, and the third field is an AS number or a
//! country code. What all formats share is here too: addresses, AS numbers,
//! countries, names, and what can be wrong with a row.
//!
//! A name never costs a row: whatever stands there, the range and its ASN count.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

use super::country::Country;
use super::format::Format;
use crate::diagnostic::is_harmful;

/// Addresses of a row; v4-mapped ones are IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    V4(u32, u32),
    V6(u128, u128),
}

/// What a row says of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// An origin; 0 is nobody. `name` is raw, see [`clean_name`].
    Origin {
        asn: u32,
        country: Option<Country>,
        name: &'a [u8],
    },
    /// A country; `None`: the file says that it knows none.
    Country(Option<Country>),
    /// The word `None` where an ASN or a country would stand.
    Nothing,
    /// Several origins, and how many peers see them, where the source says so.
    Origins { asns: Vec<u32>, peers: Option<u32> },
    /// An origin and the country of the block; either may be missing.
    Network {
        asn: Option<u32>,
        name: Cow<'a, [u8]>,
        block: Option<Country>,
    },
    /// A key into the locations of MaxMind.
    Location(u32),
    /// An authorisation: this origin, up to this length, else up to that of the prefix
    /// (RFC 9582, section 4.3.2.2).
    Vrp { asn: u32, max: Option<u8> },
}

/// What a line says that is not about addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact<'a> {
    /// MaxMind's number of a country.
    Location(u32, Country),
    /// ASNs, first and last, that are registered in a country.
    Registered(u32, u32, Country),
    /// Name and country of an ASN; either may be missing.
    Named(u32, &'a [u8], Option<Country>),
    /// An organisation: its id, name and country.
    Org(Cow<'a, str>, Cow<'a, str>, Option<Country>),
    /// An ASN, its own name and the id of its organisation.
    Member(u32, Cow<'a, str>, Cow<'a, str>),
    /// Understood, and of no use.
    Nothing,
}

/// A readable line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Row(Parsed<'a>),
    Fact(Format, Fact<'a>),
}

/// A readable row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parsed<'a> {
    pub(super) addresses: Addresses,
    pub(super) what: What<'a>,
    /// `None` where the row fits several.
    pub(super) format: Option<Format>,
    /// Where start and end stand.
    pub(super) range: Range<usize>,
    /// Where the third field stands.
    pub(super) third: Range<usize>,
}

/// Why a row cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("the line is longer than 64 KiB")]
    TooLong,
    #[error("a row needs start, end and an AS number or country, by commas or tabs")]
    Fields,
    #[error("`{0}` is not an IP address")]
    Address(String),
    #[error("`{0}` is a prefix, not an address")]
    Prefix(String),
    #[error("`{0}` and `{1}` are not of one family")]
    Families(IpAddr, IpAddr),
    #[error("the range starts at `{0}`, after its end `{1}`")]
    Reversed(IpAddr, IpAddr),
    #[error("`{0}` is neither an AS number nor a country code")]
    Third(String),
    #[error("`{0}` is no prefix")]
    NoPrefix(String),
    #[error("`{0}` is not a list of origins")]
    Origins(String),
    #[error("a row of {} needs {}", .0.described(), .1)]
    Shape(Format, &'static str),
    #[error("record {0} is damaged: {1}")]
    Damaged(u64, &'static str),
    #[error("this row is {}, the file is {}", .0.described(), .1.described())]
    OtherFormat(Format, Format),
}

impl Fault {
    /// At these bytes of the line.
    pub(super) fn at(self, at: Range<usize>) -> RowError {
        RowError { fault: self, at }
    }

    /// What would cure it.
    pub(super) fn help(&self) -> Option<&'static str> {
        match self {
            Self::Prefix(_) => Some("ranges are written as two addresses: start and end"),
            Self::Reversed(..) => Some("start comes first, then end"),
            Self::NoPrefix(_) => Some("a prefix is an address without host bits, and a length"),
            Self::Third(_) | Self::Origins(_) => {
                Some("AS numbers are 0 to 4294967295, with or without `AS`")
            }
            _ => None,
        }
    }
}

/// A fault and the bytes of the line that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowError {
    pub(super) fault: Fault,
    pub(super) at: Range<usize>,
}

/// Text for a message: printable and short, whatever was in the file.
pub(super) fn printable(bytes: &[u8]) -> String {
    const MAX: usize = 80;
    let bytes = &bytes[..bytes.len().min(4 * MAX)];
    let text = String::from_utf8_lossy(bytes);
    let mut out: String = text
        .chars()
        .take(MAX)
        // A tab is what separates the fields of half of all sources.
        .map(|c| {
            if c != '\t' && is_harmful(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect();
    if text.chars().nth(MAX).is_some() {
        out.push('…');
    }
    out
}

/// A name as it is kept: unquoted, printable, at most 200 characters; empty where
/// the source only says that it knows none.
pub(super) fn clean_name(raw: &[u8]) -> String {
    const MAX: usize = 200;
    let raw = &raw[..raw.len().min(8 * MAX)];
    let text = String::from_utf8_lossy(raw);
    let text = text.trim();
    let unquoted = match text.strip_prefix('"') {
        None => text.to_owned(),
        Some(inside) => {
            let mut name = String::new();
            let mut chars = inside.chars().peekable();
            while let Some(c) = chars.next() {
                if c == '"' && chars.next_if_eq(&'"').is_none() {
                    break;
                }
                name.push(c);
            }
            name
        }
    };
    let clean: String = unquoted
        .chars()
        .take(MAX)
        .map(|c| if is_harmful(c) { ' ' } else { c })
        .collect();
    match clean.trim() {
        "None" | "Not routed" | "-" => String::new(),
        name => name.to_owned(),
    }
}

/// The field that starts at `from`, without quotes and blanks, and where the next
/// one starts.
pub(super) fn field(line: &[u8], from: usize, separator: u8) -> (Range<usize>, Option<usize>) {
    let mut start = from;
    while line.get(start) == Some(&b' ') {
        start += 1;
    }
    if line.get(start) == Some(&b'"')
        && let Some(len) = line[start + 1..].iter().position(|&b| b == b'"')
    {
        let end = start + 1 + len;
        let next = line[end..].iter().position(|&b| b == separator);
        return (start + 1..end, next.map(|n| end + n + 1));
    }
    let next = line[start..].iter().position(|&b| b == separator);
    let mut end = next.map_or(line.len(), |n| start + n);
    while end > start && line[end - 1] == b' ' {
        end -= 1;
    }
    (start..end, next.map(|n| start + n + 1))
}

/// Reads a row from a line without its line end.
pub(super) fn parse(line: &[u8]) -> Result<Parsed<'_>, RowError> {
    let whole = |fault: Fault| fault.at(0..line.len());
    let separator = *line
        .iter()
        .find(|&&b| b == b',' || b == b'\t')
        .ok_or_else(|| whole(first_fault(line)))?;
    let (first, next) = field(line, 0, separator);
    let next = next.ok_or_else(|| whole(Fault::Fields))?;
    let (second, next) = field(line, next, separator);
    let (start, end) = ends(line, &first, &second)?;
    let next = next.ok_or_else(|| whole(Fault::Fields))?;
    let (third, next) = field(line, next, separator);

    let range = first.start..second.end;
    let addresses = range_between(start, end, &range)?;

    let text = &line[third.clone()];
    let (what, format) = if text.eq_ignore_ascii_case(b"none") {
        (What::Nothing, None)
    } else if let Some(asn) = as_number(text) {
        if separator == b'\t' {
            let (country, name) = country_and_name(line, next);
            (What::Origin { asn, country, name }, Some(Format::IpToAsn))
        } else {
            let origin = What::Origin {
                asn,
                country: None,
                name: next.map_or(&[], |next| &line[next..]),
            };
            (origin, Some(Format::RangeCsv))
        }
    } else if let Some(code) = country(text) {
        (What::Country(code), Some(Format::CountryCsv))
    } else {
        return Err(Fault::Third(printable(text)).at(third));
    };
    Ok(Parsed {
        addresses,
        what,
        format,
        range,
        third,
    })
}

fn range_between(start: IpAddr, end: IpAddr, at: &Range<usize>) -> Result<Addresses, RowError> {
    let fault = match (start, end) {
        _ if start > end && start.is_ipv4() == end.is_ipv4() => Fault::Reversed(start, end),
        (IpAddr::V4(a), IpAddr::V4(b)) => return Ok(Addresses::V4(a.into(), b.into())),
        (IpAddr::V6(a), IpAddr::V6(b)) => return Ok(Addresses::V6(a.into(), b.into())),
        (a, b) => Fault::Families(a, b),
    };
    Err(fault.at(at.clone()))
}

/// The range between two addresses that stand at these places.
pub(super) fn range_of(
    line: &[u8],
    start: &Range<usize>,
    end: &Range<usize>,
) -> Result<Addresses, RowError> {
    let at = start.start.min(end.start)..end.end.max(start.end);
    let (start, end) = ends(line, start, end)?;
    range_between(start, end, &at)
}

/// Both ends as addresses, or both as numbers.
fn ends(
    line: &[u8],
    start: &Range<usize>,
    end: &Range<usize>,
) -> Result<(IpAddr, IpAddr), RowError> {
    if let Some(ends) = numbers(&line[start.clone()], &line[end.clone()]) {
        return Ok(ends);
    }
    Ok((address(line, start)?, address(line, end)?))
}

/// Ends of a range as decimal numbers: beyond 32 bits they are of IPv6, and so is a range
/// that ends there. What ends within 0.0.0.0/8 is no range of addresses, but a table of
/// something else.
fn numbers(start: &[u8], end: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let number = |text: &[u8]| -> Option<u128> {
        let plain = matches!(text, [b'0'] | [b'1'..=b'9', ..]);
        let digits = plain && text.iter().all(u8::is_ascii_digit);
        digits.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
    };
    let (start, end) = (number(start)?, number(end)?);
    if start.max(end) > u128::from(u32::MAX) {
        let v6 = |number: u128| Ipv6Addr::from(number).to_canonical();
        return Some((v6(start), v6(end)));
    }
    let v4 = |number: u128| IpAddr::V4((number as u32).into());
    (end >= 0x00ff_ffff).then(|| (v4(start), v4(end)))
}

/// Whether a line that is not a row names columns.
pub(super) fn is_header(line: &[u8]) -> bool {
    let Some(&separator) = line.iter().find(|&&b| b == b',' || b == b'\t') else {
        return false;
    };
    let word = |range: Range<usize>| {
        let text = &line[range];
        text.first().is_some_and(u8::is_ascii_alphabetic)
            && text
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"_- ".contains(b))
    };
    let (first, next) = field(line, 0, separator);
    word(first) && next.is_some_and(|next| word(field(line, next, separator).0))
}

/// What to say of a line without separators.
fn first_fault(line: &[u8]) -> Fault {
    match line {
        [b'<', ..] => Fault::Address(printable(line)),
        _ => Fault::Fields,
    }
}

/// v4-mapped ones are IPv4.
pub(super) fn read_address(bytes: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(bytes).ok().and_then(|text| {
        if text.contains(':') {
            text.parse::<Ipv6Addr>()
                .ok()
                .map(|address| address.to_canonical())
        } else {
            text.parse().ok().map(IpAddr::V4)
        }
    })
}

/// A prefix, or one address: IPinfo writes those without a length.
pub(super) fn network(text: &[u8]) -> Option<Addresses> {
    if let Some(slash) = text.iter().position(|&b| b == b'/') {
        return Addresses::of_prefix(&text[..slash], &text[slash + 1..]);
    }
    Some(match read_address(text)? {
        IpAddr::V4(address) => Addresses::V4(address.into(), address.into()),
        IpAddr::V6(address) => Addresses::V6(address.into(), address.into()),
    })
}

impl Addresses {
    /// Of an address and a length. `None`: too long, or host bits are set. The
    /// length of a v4-mapped prefix counts from its 96 bits.
    pub(super) fn of_prefix(address: &[u8], len: &[u8]) -> Option<Self> {
        let mapped = address.contains(&b':');
        let address = read_address(address)?;
        // Zeros before a number are octal to some and decimal to others.
        let plain = matches!(len, [b'0'] | [b'1'..=b'9', ..]);
        if !plain || len.len() > 3 || !len.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let len: u8 = std::str::from_utf8(len).ok()?.parse().ok()?;
        let len = match address {
            IpAddr::V4(_) if mapped => len.checked_sub(96)?,
            _ => len,
        };
        Self::of_net(address, len)
    }

    /// As [`Self::of_prefix`], with numbers.
    pub(super) fn of_net(address: IpAddr, len: u8) -> Option<Self> {
        match address {
            IpAddr::V4(address) if len <= 32 => {
                let start = u32::from(address);
                let hosts = u32::MAX.checked_shr(len.into()).unwrap_or(0);
                (start & hosts == 0).then_some(Self::V4(start, start | hosts))
            }
            IpAddr::V6(address) if len <= 128 => {
                let start = u128::from(address);
                let hosts = u128::MAX.checked_shr(len.into()).unwrap_or(0);
                (start & hosts == 0).then_some(Self::V6(start, start | hosts))
            }
            _ => None,
        }
    }
}

fn address(line: &[u8], at: &Range<usize>) -> Result<IpAddr, RowError> {
    let bytes = &line[at.clone()];
    let read = read_address(bytes);
    read.ok_or_else(|| RowError {
        fault: if bytes.contains(&b'/') {
            Fault::Prefix(printable(bytes))
        } else {
            Fault::Address(printable(bytes))
        },
        at: at.clone(),
    })
}

/// Digits, with or without `AS` before them.
pub(super) fn as_number(text: &[u8]) -> Option<u32> {
    let digits = match text {
        [b'a' | b'A', b's' | b'S', digits @ ..] => digits,
        digits => digits,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Outer `None`: not a country field. Inner `None`: it says "no country" (`ZZ` is
/// what registries write for that).
pub(super) fn country(text: &[u8]) -> Option<Option<Country>> {
    let text = std::str::from_utf8(text).ok()?;
    if text.eq_ignore_ascii_case("zz") || text == "--" || text == "-" {
        return Some(None);
    }
    text.parse().ok().map(Some)
}

/// Columns four and five of iptoasn; with four columns, the fourth may be either.
fn country_and_name(line: &[u8], from: Option<usize>) -> (Option<Country>, &[u8]) {
    let Some(from) = from else {
        return (None, &[]);
    };
    let (fourth, next) = field(line, from, b'\t');
    let code = country(&line[fourth.clone()]);
    match (code, next) {
        (Some(code), next) => (code, next.map_or(&[], |next| &line[next..])),
        (None, Some(next)) => (None, &line[next..]),
        (None, None) => (None, &line[fourth]),
    }
}
