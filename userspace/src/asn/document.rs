//! JSON documents, read as a stream, element by element: what RPKI validators and
//! publishers of networks write as one list. Never more than one element is held.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

use super::gather::whole_file;
use super::line;
use super::source::{Bytes, SourceError};
use crate::diagnostic::Diagnostic;

/// Longest text or number in a document: nothing real is near it, and it is all
/// that is ever held at once.
const MAX_TOKEN: usize = 1 << 20;

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error(transparent)]
    Source(SourceError),
    #[error("the document ends too early")]
    Truncated,
    #[error("it is no JSON document of {what}: {error}")]
    Json { what: &'static str, error: String },
    #[error("{}", .0.message)]
    Refused(Diagnostic),
}

impl DocumentError {
    pub(super) fn into_diagnostic(self, file: &str) -> Diagnostic {
        let help = match &self {
            Self::Source(error) => error.help(),
            Self::Truncated => "the download was cut short: fetch it again",
            Self::Json { .. } => {
                "`json` of Routinator and rpki-client, and lists of objects with `network` are read"
            }
            Self::Refused(_) => "",
        };
        match self {
            Self::Refused(diagnostic) => diagnostic,
            _ => whole_file(file, &self.to_string(), help),
        }
    }
}

/// Reads a document of `what`, whose shape `seed` knows.
pub(super) fn read<'de>(
    input: Bytes,
    what: &'static str,
    seed: impl DeserializeSeed<'de, Value = ()>,
) -> Result<(), DocumentError> {
    let mut guard = Guard {
        input,
        token: 0,
        escaped: false,
        start: true,
        failed: None,
    };
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(&mut guard));
    let result = seed.deserialize(&mut json).and_then(|()| json.end());
    drop(json);
    let Err(error) = result else { return Ok(()) };
    Err(match guard.failed.take() {
        Some(source) => DocumentError::Source(source),
        None if guard.input.is_spent() => {
            DocumentError::Source(guard.input.fault(io::ErrorKind::UnexpectedEof.into()))
        }
        None if error.is_eof() => DocumentError::Truncated,
        None => DocumentError::Json {
            what,
            error: line::printable(error.to_string().as_bytes()),
        },
    })
}

/// A list of `T`; `take` says whether to go on.
pub(super) struct List<'a, T, F> {
    take: &'a mut F,
    of: PhantomData<T>,
}

impl<'a, T, F: FnMut(T) -> bool> List<'a, T, F> {
    pub(super) fn new(take: &'a mut F) -> Self {
        Self {
            take,
            of: PhantomData,
        }
    }
}

impl<'de, T: DeserializeOwned, F: FnMut(T) -> bool> DeserializeSeed<'de> for List<'_, T, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, T: DeserializeOwned, F: FnMut(T) -> bool> Visitor<'de> for List<'_, T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<T>()? {
            if !(self.take)(element) {
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// Whatever stands there, without giving up on the document.
#[derive(Debug, Default)]
pub(super) enum Loose {
    Number(u64),
    Text(String),
    /// Nothing, or `null`.
    #[default]
    Missing,
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
                Ok(Loose::Missing)
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
