//! A syslog server that takes what the daemon sends on: RFC 5424 over TLS (RFC 5425), octet counting (RFC 6587).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::router::Router;
use rustls::ServerConfig;
use serde_json::Value;

use super::outside::{Listening, Stream, more};

/// Numbers of records in the order in which they came first, and the records.
type Taken = Mutex<(Vec<u64>, BTreeMap<u64, String>)>;

/// It listens until it is dropped.
pub(super) struct Server {
    pub(super) listening: Listening,
    taken: Arc<Taken>,
}

impl Server {
    pub(super) fn start(router: &Router, config: &Arc<ServerConfig>) -> Result<Self> {
        let taken: Arc<Taken> = Arc::default();
        let into = Arc::clone(&taken);
        let take = move |stream: Stream, ends: &AtomicBool| take(stream, &into, ends);
        let listening = Listening::start(router, config, take)?;
        Ok(Self { listening, taken })
    }

    /// How many records came.
    pub(super) fn count(&self) -> usize {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.0.len()
    }

    /// Every line of the log came, in order, as it is there.
    pub(super) fn has_all(&self, lines: &[String]) -> Result<()> {
        let (order, records) = &*self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(order.is_sorted(), "they came out of order");
        ensure!(
            records.len() == lines.len(),
            "{} of {} came",
            records.len(),
            lines.len()
        );
        for (number, line) in (0..).zip(lines) {
            ensure!(records.get(&number) == Some(line), "record {number}");
        }
        Ok(())
    }
}

fn take(mut stream: Stream, into: &Taken, ends: &AtomicBool) {
    let mut bytes = Vec::new();
    while more(&mut stream, &mut bytes, ends).is_some() {
        while let Some((number, record, rest)) = message(&bytes) {
            let mut taken = into.lock().unwrap_or_else(PoisonError::into_inner);
            if taken.1.insert(number, record).is_none() {
                taken.0.push(number);
            }
            bytes.drain(..rest);
        }
    }
}

/// The first whole message: its record's number, the record, and where the next one begins.
fn message(bytes: &[u8]) -> Option<(u64, String, usize)> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let text = std::str::from_utf8(bytes.get(space + 1..space + 1 + length)?).ok()?;
    assert!(text.starts_with('<') && text.contains(" kordon "), "{text}");
    let record = &text[text.find("{\"@timestamp\"").context("a record").ok()?..];
    let value: Value = serde_json::from_str(record).ok()?;
    let number = value["event"]["sequence"].as_u64()?;
    Some((number, record.to_owned(), space + 1 + length))
}
