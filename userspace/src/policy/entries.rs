//! One line of a list file, as others publish them: an ASN, a prefix, a range of addresses,
//! or an object of JSON (Spamhaus writes its DROP lists so). Values are read by what reads
//! them in a policy.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::Deserialize;

use super::values::{self, AsnOrPrefix};
use crate::asn;
use crate::diagnostic::{Problem, quoted};

/// What a line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) asns: Vec<RangeInclusive<u32>>,
    pub(super) prefixes: Vec<IpNet>,
}

/// Whether it is one of those in which `#` and `;` begin no comment.
pub(super) fn is_object(line: &str) -> bool {
    line.trim_start().starts_with('{')
}

/// Reads a line without comments.
pub(super) fn read(text: &str) -> Result<Entry, Problem> {
    if is_object(text) {
        return object(text);
    }
    if let Some((start, end)) = text.split_once('-')
        && let (start, end) = (start.trim(), end.trim())
        && (start.contains([':']) || start.matches('.').count() > 1)
    {
        return range(text, start, end);
    }
    let mut entry = Entry::default();
    match values::asn_or_prefix(text)? {
        AsnOrPrefix::Asns(asns) => entry.asns.push(asns),
        AsnOrPrefix::Prefix(prefix) => entry.prefixes.push(prefix),
    }
    Ok(entry)
}

/// Both ends belong to it.
fn range(text: &str, start: &str, end: &str) -> Result<Entry, Problem> {
    // Each end as it would be read alone, so that it is refused as it would be.
    let end_of = |word: &str| match word.parse::<IpAddr>() {
        Ok(address) => Ok(address),
        Err(_) => Err(Problem::new(
            format!("{} is not a range of addresses", quoted(text)),
            "write a range as `192.0.2.0 - 192.0.2.255`, both ends inclusive",
        )),
    };
    let (start, end) = (end_of(start)?, end_of(end)?);
    let prefixes = asn::cidrs(start, end);
    if prefixes.is_empty() {
        return Err(Problem::new(
            format!("range {} ends before it starts", quoted(text)),
            "write the lower end first, and both of one family",
        ));
    }
    // v4-mapped and the like are for the policy's own rules to judge.
    for prefix in &prefixes {
        values::prefix(&prefix.to_string())?;
    }
    Ok(Entry {
        asns: Vec::new(),
        prefixes,
    })
}

/// What is known of an object; the rest is nobody's business.
#[derive(Deserialize)]
struct Object {
    #[serde(alias = "prefix", alias = "network")]
    cidr: Option<String>,
    asn: Option<Asn>,
    /// `metadata`: about the list, not of it.
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Asn {
    Number(u64),
    Text(String),
}

/// The prefix of an object, else its ASN: an object with both is about the prefix.
fn object(text: &str) -> Result<Entry, Problem> {
    let help = "an object names a prefix as `cidr`, or an ASN as `asn`, in one line";
    let Ok(object) = serde_json::from_str::<Object>(text) else {
        return Err(Problem::new("this is no JSON object of a list", help));
    };
    let mut entry = Entry::default();
    match object {
        Object {
            cidr: Some(cidr), ..
        } => entry.prefixes.push(values::prefix(&cidr)?),
        Object { asn: Some(asn), .. } => entry.asns.push(values::asns(&match asn {
            Asn::Number(number) => number.to_string(),
            Asn::Text(text) => text,
        })?),
        Object {
            kind: Some(kind), ..
        } if kind == "metadata" => {}
        _ => {
            let message = "this object names neither a prefix nor an ASN";
            return Err(Problem::new(message, help));
        }
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(entry: &Entry) -> String {
        let asns = entry.asns.iter().map(|asns| format!("{asns:?}"));
        let prefixes = entry.prefixes.iter().map(ToString::to_string);
        asns.chain(prefixes).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn as_others_write_them() {
        for (line, expected) in [
            ("AS64500", "64500..=64500"),
            ("64512-64520", "64512..=64520"),
            ("AS64512 - AS64520", "64512..=64520"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.0 - 192.0.2.255", "192.0.2.0/24"),
            (
                "192.0.2.1-192.0.2.4",
                "192.0.2.1/32 192.0.2.2/31 192.0.2.4/32",
            ),
            ("192.0.2.7 - 192.0.2.7", "192.0.2.7/32"),
            ("2001:db8:: - 2001:db8::1:ffff", "2001:db8::/111"),
            (
                r#"{"cidr":"1.10.16.0/20","sblid":"SBL256894","rir":"apnic"}"#,
                "1.10.16.0/20",
            ),
            (
                r#"{"asn":213371,"rir":"ripencc","domain":"a.example","cc":"NL","asname":"A; #1"}"#,
                "213371..=213371",
            ),
            (r#"{"asn":"AS7"}"#, "7..=7"),
            (
                r#"{"type":"metadata","timestamp":1764000000,"records":2,"copyright":"(c)"}"#,
                "",
            ),
        ] {
            assert_eq!(words(&read(line).unwrap()), expected, "{line}");
        }
    }

    #[test]
    fn what_is_none() {
        for (line, message) in [
            ("192.0.2.9 - 192.0.2.1", "ends before it starts"),
            ("192.0.2.0 - 2001:db8::", "ends before it starts"),
            ("192.0.2.0 - soon", "is not a range of addresses"),
            ("010.0.0.0 - 10.0.0.255", "is not a range of addresses"),
            ("192.0.2.0/24 - 192.0.3.0/24", "is not a range of addresses"),
            ("::ffff:192.0.2.0 - ::ffff:192.0.2.255", "never matches"),
            ("{\"cidr\":\"192.0.2.1/24\"}", "has host bits set"),
            ("{\"asn\":0}", "announces nothing"),
            ("{\"asn\":1.5}", "no JSON object of a list"),
            ("{\"cidr\":\"192.0.2.0/24\"", "no JSON object of a list"),
            ("{\"type\":\"other\"}", "neither a prefix nor an ASN"),
            ("hello", "neither an ASN nor a prefix"),
        ] {
            let problem = read(line).unwrap_err();
            assert!(problem.message.contains(message), "{line}: {problem:?}");
        }
    }
}
