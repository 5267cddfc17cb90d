//! Validated ROA payloads as JSON, as Routinator and rpki-client write them: one
//! document with a list under `roas`.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::document::{self, DocumentError, List, Loose};
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
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
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
    let mut refused = None;
    let mut number = 0;
    let mut take = |roa: Roa| {
        number += 1;
        refused = payload(number, &roa, gather, shared).err();
        refused.is_none()
    };
    let result = document::read(input, "RPKI payloads", Document { take: &mut take });
    refused.map_or(result, |refused| Err(DocumentError::Refused(refused)))
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

/// The document, and the list in it. `take` says whether to go on.
struct Document<'a, F> {
    take: &'a mut F,
}

impl<'de, F: FnMut(Roa) -> bool> DeserializeSeed<'de> for Document<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Roa) -> bool> Visitor<'de> for Document<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `roas`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if LISTS.contains(&key.as_str()) {
                map.next_value_seed(List::new(&mut *self.take))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
