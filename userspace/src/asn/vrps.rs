//! Validated ROA payloads as JSON, as Routinator and rpki-client write them: one
//! document with a list under `roas`. It is read as a stream, element by element.

use std::fmt;
use std::io::{self, BufReader, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::format::Format;
use super::gather::{Gather, whole_file};
use super::import::Shared;
use super::line::{self, What, as_number};
use super::source::{Bytes, SourceError};
use super::text::prefix_at;
use crate::diagnostic::Diagnostic;

/// Names under which the payloads are found.
const LISTS: [&str; 3] = ["roas", "vrps", "routeOrigins"];

/// Longest text or number in a document: nothing real is near it, and it is all
/// that is ever held at once.
const MAX_TOKEN: usize = 1 << 20;

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum VrpError {
    #[error(transparent)]
    Source(SourceError),
    #[error("the document ends too early")]
    Truncated,
    #[error("it is no JSON document of RPKI payloads: {0}")]
    Json(String),
    #[error("{}", .0.message)]
    Refused(Diagnostic),
}

impl VrpError {
    pub(super) fn into_diagnostic(self, file: &str) -> Diagnostic {
        let help = match &self {
            Self::Source(error) => error.help(),
            Self::Truncated => "the download was cut short: fetch it again",
            Self::Json(_) => "Routinator's and rpki-client's `json` are read",
            Self::Refused(_) => "",
        };
        match self {
            Self::Refused(diagnostic) => diagnostic,
            _ => whole_file(file, &self.to_string(), help),
        }
    }
}

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
) -> Result<(), VrpError> {
    let mut guard = Guard {
        input,
        token: 0,
        escaped: false,
        start: true,
        failed: None,
    };
    let mut refused = None;
    let mut number = 0;
    let mut take = |roa: Roa| {
        number += 1;
        if let Err(error) = payload(number, &roa, gather, shared) {
            refused = Some(error);
        }
        refused.is_none()
    };
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(&mut guard));
    let result = Document { take: &mut take }
        .deserialize(&mut json)
        .and_then(|()| json.end());
    drop(json);
    if let Some(error) = refused {
        return Err(VrpError::Refused(error));
    }
    let Err(error) = result else { return Ok(()) };
    Err(match guard.failed.take() {
        Some(source) => VrpError::Source(source),
        None if guard.input.is_spent() => {
            VrpError::Source(guard.input.fault(io::ErrorKind::UnexpectedEof.into()))
        }
        None if error.is_eof() => VrpError::Truncated,
        None => VrpError::Json(line::printable(error.to_string().as_bytes())),
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
        Loose::Other => None,
    };
    let prefix = match &roa.prefix {
        Loose::Text(text) => prefix_at(text.as_bytes(), &(0..text.len())).ok(),
        _ => None,
    };
    let max = match &roa.max_length {
        Loose::Number(number) => u8::try_from(*number).ok(),
        _ => None,
    };
    let (Some(asn), Some(addresses), Some(max)) = (asn, prefix, max) else {
        gather.damaged(
            number,
            "it has no `asn`, `prefix` and `maxLength` that can be",
        );
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

/// Whatever stands there, without giving up on the document.
#[derive(Default)]
enum Loose {
    Number(u64),
    Text(String),
    #[default]
    Other,
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Loose;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Loose, E> {
                Ok(Loose::Number(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose::Text(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Loose, E> {
                Ok(Loose::Other)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Loose, E> {
                Ok(Loose::Other)
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Loose, E> {
                Ok(Loose::Other)
            }

            fn visit_unit<E: Error>(self) -> Result<Loose, E> {
                Ok(Loose::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Loose, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Loose::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Loose::Other)
            }
        }
        from.deserialize_any(Any)
    }
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
                map.next_value_seed(List {
                    take: &mut *self.take,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct List<'a, F> {
    take: &'a mut F,
}

impl<'de, F: FnMut(Roa) -> bool> DeserializeSeed<'de> for List<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Roa) -> bool> Visitor<'de> for List<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of payloads")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(roa) = seq.next_element::<Roa>()? {
            if !(self.take)(roa) {
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// Passes a document on, without its byte order mark, until a text in it is longer
/// than can be.
struct Guard {
    input: Bytes,
    token: usize,
    escaped: bool,
    start: bool,
    failed: Option<SourceError>,
}

impl Read for Guard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = match self.input.read(buffer) {
            Ok(read) => read,
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(self.input.fault(error));
                return Err(kind.into());
            }
        };
        // The first bytes come from memory, so they come together.
        if std::mem::take(&mut self.start) && buffer[..read].starts_with(b"\xef\xbb\xbf") {
            buffer.copy_within(3..read, 0);
            read -= 3;
        }
        for &byte in &buffer[..read] {
            let delimits = byte == b'"' && !self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            self.token = if delimits { 0 } else { self.token + 1 };
            if self.token > MAX_TOKEN {
                return Err(io::Error::other("a text in it is longer than 1 MiB"));
            }
        }
        Ok(read)
    }
}
