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

use super::line;
use super::source::{Bytes, SourceError};
use crate::diagnostic::Diagnostic;

/// Longest text or number in a document: nothing real is near it, and it is all
/// that is ever held at once.
const MAX_TOKEN: usize = 1 << 20;
/// The byte order mark in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// A text without its byte order mark.
pub(super) fn unmarked(head: &[u8]) -> &[u8] {
    head.strip_prefix(MARK).unwrap_or(head)
}

/// Reads a document of `what`, from a file of this name, that is a list, or an object with lists
/// under one of some names. Each element is taken with its number, from 1, until one is refused.
pub(super) fn rows<T: DeserializeOwned>(
    input: Bytes,
    file: &str,
    what: &str,
    under: &'static [&'static str],
    mut take: impl FnMut(u64, T) -> Result<(), Diagnostic>,
) -> Result<(), Diagnostic> {
    let (mut number, mut refused) = (0, None);
    let mut one = |element: T| {
        number += 1;
        refused = take(number, element).err();
        refused.is_none()
    };
    let list = List {
        take: &mut one,
        under,
        of: PhantomData,
    };
    let mut guard = Guard {
        input,
        token: 0,
        escaped: false,
        start: true,
        failed: None,
    };
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(&mut guard));
    let result = list.deserialize(&mut json).and_then(|()| json.end());
    drop(json);
    if let Some(refused) = refused {
        return Err(refused);
    }
    let Err(error) = result else { return Ok(()) };
    let mut failed = guard.failed.take();
    if failed.is_none() && guard.input.is_spent() {
        failed = Some(guard.input.fault(io::ErrorKind::UnexpectedEof.into()));
    }
    let (message, help) = match failed {
        Some(source) => (source.to_string(), source.help()),
        None if error.is_eof() => (
            "the document ends too early".to_owned(),
            "the download was cut short: fetch it again",
        ),
        None => {
            let error = line::printable(error.to_string().as_bytes());
            (
                format!("it is no JSON document of {what}: {error}"),
                "`json` of Routinator and rpki-client, and lists of objects with `network` are read",
            )
        }
    };
    Err(Diagnostic::of_file(file, message, help))
}

/// A list of `T`; `take` says whether to go on.
struct List<'a, T, F> {
    take: &'a mut F,
    /// What it is called in the object that it is in; nothing: it is the document.
    under: &'static [&'static str],
    of: PhantomData<T>,
}

impl<'de, T: DeserializeOwned, F: FnMut(T) -> bool> DeserializeSeed<'de> for List<'_, T, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        match self.under {
            [] => from.deserialize_seq(self),
            _ => from.deserialize_map(self),
        }
    }
}

impl<'de, T: DeserializeOwned, F: FnMut(T) -> bool> Visitor<'de> for List<'_, T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.under {
            [] => f.write_str("a list"),
            [name, ..] => write!(f, "an object with `{name}`"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<T>()? {
            if !(self.take)(element) {
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if self.under.contains(&key.as_str()) {
                map.next_value_seed(List {
                    take: &mut *self.take,
                    under: &[],
                    of: self.of,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
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
        if std::mem::take(&mut self.start) && buffer[..read].starts_with(MARK) {
            buffer.copy_within(MARK.len()..read, 0);
            read -= MARK.len();
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
