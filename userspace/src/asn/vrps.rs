//! Validated ROA payloads as JSON, as Routinator and rpki-client write them: one
//! document with a list under `roas`.

use serde::Deserialize;

use super::document::{self, DocumentError, Loose};
use super::format::Format;
use super::gather::Gather;
use super::import::Shared;
use super::line::{What, as_number};
use super::source::Bytes;
use super::text::prefix_at;
use crate::diagnostic::Diagnostic;

/// Names under which the payloads are found.
const LISTS: [&str; 3] = ["roas", "vrps", "routeOrigins"];

/// Whether a file begins like such a document, and not like JSON lines.
pub(super) fn is_document(head: &[u8]) -> bool {
    let head = document::unmarked(head);
    let has = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
    head.trim_ascii_start().starts_with(b"{")
        && (has(b"\"metadata\"") || LISTS.iter().any(|l| has(format!("\"{l}\"").as_bytes())))
}

/// Reads all payloads into `gather`.
pub(super) fn read(
    input: Bytes,
    gather: &mut Gather<'_>,
    shared: &mut Shared,
) -> Result<(), DocumentError> {
    document::rows(input, "RPKI payloads", &LISTS, |number, roa| {
        payload(number, &roa, gather, shared)
    })
}

fn payload(
    number: u64,
    roa: &Roa,
    gather: &mut Gather<'_>,
    shared: &mut Shared,
) -> Result<(), Diagnostic> {
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
    gather.binary(number, addresses, what, Format::VrpJson, shared)
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
