//! The scalars of the language: ASNs, prefixes, VLANs, ports, countries, names.
//! Pure functions from the user's text, shared by the policy, list files and
//! the overlay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv6Net};

use super::model::VlanMatch;
use crate::asn::Country;
use crate::diagnostic::{Problem, quoted};

/// An address, or a network in the notation with a length. Zeros in front are refused
/// everywhere: some read `010` as eight, and a rule that means two things means none.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    if length.len() > 1 && length.starts_with('0') {
        return None;
    }
    let length = u8::try_from(number(length)?).ok()?;
    // The standard library is strict about addresses, the parser of networks is not.
    IpNet::new(address.parse().ok()?, length).ok()
}

/// Decimal digits only: `parse` alone takes a plus sign.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// `20` or `30-39`.
fn range(text: &str) -> Option<(u64, u64)> {
    match text.split_once('-') {
        Some((low, high)) => Some((number(low.trim_end())?, number(high.trim_start())?)),
        None => number(text).map(|number| (number, number)),
    }
}

fn backwards(text: &str, low: u64, high: u64) -> Problem {
    Problem::new(
        format!("range {} is backwards", quoted(text)),
        format!("write `{high}-{low}`"),
    )
}

/// `12389`, `AS12389`, `64512-64520`, `AS64512-AS64520`.
pub(super) fn asns(text: &str) -> Result<RangeInclusive<u32>, Problem> {
    let bare = |part: &str| {
        let part = part.trim();
        match part.get(..2) {
            Some(prefix) if prefix.eq_ignore_ascii_case("AS") => part[2..].to_owned(),
            _ => part.to_owned(),
        }
    };
    let plain = text.split('-').map(bare).collect::<Vec<_>>().join("-");
    if let Some((high, low)) = plain.split_once('.')
        && let (Some(high @ 0..=65535), Some(low @ 0..=65535)) = (number(high), number(low))
    {
        return Err(Problem::new(
            format!("{} is not an ASN", quoted(text)),
            format!("as a plain number it is `AS{}`", high << 16 | low),
        ));
    }
    let Some((low, high)) = range(&plain) else {
        return Err(Problem::new(
            format!("{} is not an ASN", quoted(text)),
            "write an ASN as `12389` or `\"AS12389\"`, a range as `\"64512-64520\"`",
        ));
    };
    if low > high {
        return Err(backwards(text, low, high));
    }
    let Ok(last) = u32::try_from(high) else {
        return Err(Problem::new(
            format!("ASN {} is too large", quoted(text)),
            "ASNs are 1 to 4294967295",
        ));
    };
    if low == 0 {
        return Err(Problem::new(
            "ASN 0 announces nothing",
            "ASNs are 1 to 4294967295; space that nobody announces is the built-in set `unrouted`",
        ));
    }
    Ok(u32::try_from(low).unwrap_or(last)..=last)
}

/// Destinations: a network without host bits. An address alone is a network of one.
pub(super) fn prefix(text: &str) -> Result<IpNet, Problem> {
    let net = without_host_bits(text)?;
    if let IpNet::V6(v6) = net
        && v6.prefix_len() >= 96
        && let Some(what) = embeds(v6.addr())
    {
        let v4 = Ipv4Addr::from_bits(v6.addr().to_bits() as u32);
        return Err(Problem::new(
            format!("prefix {} never matches", quoted(text)),
            format!(
                "packets to {what} addresses are judged by the IPv4 address in them: write `{v4}/{}`",
                v6.prefix_len() - 96
            ),
        ));
    }
    Ok(net)
}

fn without_host_bits(text: &str) -> Result<IpNet, Problem> {
    let Some(net) = network(text) else {
        return Err(Problem::new(
            format!("{} is not a prefix", quoted(text)),
            not_a_prefix(text),
        ));
    };
    if net.addr() != net.network() {
        return Err(Problem::new(
            format!("prefix {} has host bits set", quoted(text)),
            format!("the network is `{}`", net.trunc()),
        ));
    }
    Ok(net)
}

/// What an address is called whose last 32 bits alone decide.
fn embeds(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] => Some("IPv4-mapped"),
        // RFC 6052 §2.1.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some("NAT64"),
        _ => None,
    }
}

fn not_a_prefix(text: &str) -> String {
    let padded = |part: &str| part.len() > 1 && part.starts_with('0') && number(part).is_some();
    if text.contains('.') && text.split(['.', '/']).any(padded) {
        return "write its numbers without zeros in front".to_owned();
    }
    if let Some((address, length)) = text.split_once('/')
        && let Ok(address) = address.parse::<IpAddr>()
        && number(length).is_some()
    {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        return format!("its length can be 0 to {longest}");
    }
    "write a network as `\"203.0.113.0/24\"` or `\"2001:db8::/32\"`".to_owned()
}

/// A NAT64 prefix of a length that RFC 6052 §2.2 knows.
pub(super) fn nat64(text: &str) -> Result<Ipv6Net, Problem> {
    match without_host_bits(text)? {
        IpNet::V6(net) if matches!(net.prefix_len(), 32 | 40 | 48 | 56 | 64 | 96) => Ok(net),
        IpNet::V6(_) => Err(Problem::new(
            format!("{} cannot be a NAT64 prefix", quoted(text)),
            "its length is 32, 40, 48, 56, 64 or 96 (RFC 6052)",
        )),
        IpNet::V4(_) => Err(Problem::new(
            format!("{} cannot be a NAT64 prefix", quoted(text)),
            "write an IPv6 prefix, as in `nat64 = [\"2001:db8:64::/96\"]`",
        )),
    }
}

/// One entry of `vlans`: `20`, `30-39`, `100.5`, `untagged`.
pub(super) fn vlans(text: &str) -> Result<Vec<VlanMatch>, Problem> {
    if text == "untagged" {
        return Ok(vec![VlanMatch::Untagged]);
    }
    let vid = |number: u64| match u16::try_from(number) {
        Ok(vid @ 1..=4094) => Ok(vid),
        _ => Err(Problem::new(
            format!("there is no VLAN {number}"),
            "VLANs are 1 to 4094; frames without a tag are `\"untagged\"`",
        )),
    };
    if let Some((outer, inner)) = text.split_once('.')
        && let (Some(outer), Some(inner)) = (number(outer), number(inner))
    {
        return Ok(vec![VlanMatch::Pair(vid(outer)?, vid(inner)?)]);
    }
    let Some((low, high)) = range(text) else {
        return Err(Problem::new(
            format!("{} is not a VLAN", quoted(text)),
            "write `20`, `\"30-39\"`, `\"100.5\"` (outer and inner tag) or `\"untagged\"`",
        ));
    };
    if low > high {
        return Err(backwards(text, low, high));
    }
    Ok((vid(low)?..=vid(high)?).map(VlanMatch::Outer).collect())
}

/// `443` or `8000-8100`.
pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, Problem> {
    let Some((low, high)) = range(text) else {
        return Err(Problem::new(
            format!("{} is not a port", quoted(text)),
            "write a port as `443`, a range as `\"8000-8100\"`",
        ));
    };
    if low > high {
        return Err(backwards(text, low, high));
    }
    match (u16::try_from(low), u16::try_from(high)) {
        (Ok(low), Ok(high)) => Ok(low..=high),
        _ => Err(Problem::new(
            format!("there is no port {high}"),
            "ports are 0 to 65535",
        )),
    }
}

/// A country code that ISO 3166 or the registries use.
pub(super) fn country(text: &str) -> Result<Country, Problem> {
    let Ok(country) = text.parse::<Country>() else {
        return Err(Problem::new(
            format!("{} is not a country code", quoted(text)),
            "write the two letters of ISO 3166, as in `\"RU\"`",
        ));
    };
    if country.exists() {
        return Ok(country);
    }
    Err(Problem::new(
        format!("{} is not a country code", quoted(text)),
        match country.meant() {
            Some(meant) => format!("did you mean `\"{meant}\"`"),
            None => "write the two letters of ISO 3166, as in `\"RU\"`".to_owned(),
        },
    ))
}

/// The name of a zone, a set or an interface.
pub(super) fn name(text: &str, what: &str) -> Result<String, Problem> {
    let fits = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits {
        return Ok(text.to_owned());
    }
    Err(Problem::new(
        format!("{} cannot be the name of {what}", quoted(text)),
        "names are 1 to 64 letters, digits, `-`, `_` and `.`",
    ))
}

/// One line of a list file, or a target of the overlay: an ASN or a prefix.
pub(super) enum AsnOrPrefix {
    Asns(RangeInclusive<u32>),
    Prefix(IpNet),
}

pub(super) fn asn_or_prefix(text: &str) -> Result<AsnOrPrefix, Problem> {
    let dots = text.bytes().filter(|byte| *byte == b'.').count();
    if text.contains(['/', ':']) || dots > 1 {
        return prefix(text).map(AsnOrPrefix::Prefix);
    }
    match asns(text) {
        Ok(asns) => Ok(AsnOrPrefix::Asns(asns)),
        Err(problem) if text.bytes().any(|byte| byte.is_ascii_digit()) => Err(problem),
        Err(_) => Err(Problem::new(
            format!("{} is neither an ASN nor a prefix", quoted(text)),
            "write one ASN or prefix in each line, as in `AS12389` or `203.0.113.0/24`",
        )),
    }
}

/// Ascending, overlapping and touching ranges merged.
pub(super) fn merge<T>(mut ranges: Vec<RangeInclusive<T>>) -> Vec<RangeInclusive<T>>
where
    T: Copy + Ord + Into<u64>,
{
    ranges.sort_unstable_by_key(|range| (*range.start(), *range.end()));
    let mut merged: Vec<RangeInclusive<T>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if (*range.start()).into() <= (*last.end()).into() + 1 => {
                let end = *last.end().max(range.end());
                *last = *last.start()..=end;
            }
            _ => merged.push(range),
        }
    }
    merged
}
