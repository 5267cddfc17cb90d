//! Sources that are one document of JSON: RPKI payloads (validated ROAs), as Routinator and
//! rpki-client write them, with a list under `roas`; and networks, as one list.

use serde::Deserialize;

use super::document::{self, Loose};
use super::format::Format;
use super::gather::Gather;
use super::line::{What, as_number};
use super::networks::NetworkRow;
use super::source::Bytes;
use super::text::prefix_at;
use crate::diagnostic::Diagnostic;

/// Names under which the payloads are found.
const LISTS: [&str; 3] = ["roas", "vrps", "routeOrigins"];

/// Whether a file begins like a document of RPKI payloads, and not like JSON lines.
pub(super) fn is_payloads(head: &[u8]) -> bool {
    let head = document::unmarked(head);
    let has = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
    head.trim_ascii_start().starts_with(b"{")
        && (has(b"\"metadata\"") || LISTS.iter().any(|l| has(format!("\"{l}\"").as_bytes())))
}

/// Reads all payloads into `gather`.
pub(super) fn payloads(input: Bytes, gather: &mut Gather<'_>) -> Result<(), Diagnostic> {
    document::rows(
        input,
        gather.file,
        "RPKI payloads",
        &LISTS,
        |number, roa| payload(number, &roa, gather),
    )
}

fn payload(number: u64, roa: &Roa, gather: &mut Gather<'_>) -> Result<(), Diagnostic> {
    let asn = match &roa.asn {
        Loose::Number(number) => u32::try_from(*number).ok(),
        Loose::Text(text) => as_number(text.as_bytes()),
        Loose::Missing | Loose::Other => None,
    };
    let prefix = match &roa.prefix {
        Loose::Text(text) => prefix_at(text.as_bytes(), &(0..text.len())).ok(),
        _ => None,
    };
    let max = match &roa.max_length {
        Loose::Number(number) => u8::try_from(*number).ok().map(Some),
        Loose::Missing => Some(None),
        Loose::Text(_) | Loose::Other => None,
    };
    let (Some(asn), Some(addresses), Some(max)) = (asn, prefix, max) else {
        gather.damaged(number, "its `asn`, `prefix` or `maxLength` is none");
        return Ok(());
    };
    let what = What::Vrp { asn, max };
    gather.binary(number, addresses, what, Format::VrpJson)
}

#[derive(Deserialize)]
struct Roa {
    #[serde(default)]
    asn: Loose,
    #[serde(default)]
    prefix: Loose,
    #[serde(default, rename = "maxLength")]
    max_length: Loose,
}

/// Whether a file begins like a list of objects.
pub(super) fn is_networks(head: &[u8]) -> bool {
    let inside = document::unmarked(head)
        .trim_ascii_start()
        .strip_prefix(b"[");
    inside.is_some_and(|inside| inside.trim_ascii_start().starts_with(b"{"))
}

/// Reads all networks of a list into `gather`.
pub(super) fn networks(input: Bytes, gather: &mut Gather<'_>) -> Result<(), Diagnostic> {
    document::rows(
        input,
        gather.file,
        "networks",
        &[],
        |number, row: NetworkRow| {
            let Ok((addresses, what)) = row.said(Format::NetworkJson) else {
                gather.damaged(number, "its network, or its `asn`, is none");
                return Ok(());
            };
            gather.binary(number, addresses, what, Format::NetworkJson)
        },
    )
}
