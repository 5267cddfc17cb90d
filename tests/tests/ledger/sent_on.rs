//! A syslog server that takes what the daemon sends on: RFC 5424 over TCP, octet counting (RFC 6587).

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::router::Router;
use serde_json::Value;

/// Numbers of records in the order in which they came first, and the records.
type Taken = Mutex<(Vec<u64>, BTreeMap<u64, String>)>;

/// It listens until it is dropped.
pub(super) struct Server {
    pub(super) port: u16,
    taken: Arc<Taken>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(router: &Router) -> Result<Self> {
        let listener = router
            .wire
            .namespace
            .run(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (taken, ends): (Arc<Mutex<_>>, Arc<AtomicBool>) = Default::default();
        let (into, until) = (Arc::clone(&taken), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            thread::scope(|scope| {
                while !until.load(Ordering::Relaxed) {
                    if let Ok((stream, _)) = listener.accept() {
                        let (into, until) = (&into, &until);
                        scope.spawn(move || take(stream, into, until));
                    }
                    thread::sleep(Duration::from_millis(10));
                }
            });
        });
        Ok(Self {
            port,
            taken,
            ends,
            thread: Some(thread),
        })
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

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn take(mut stream: TcpStream, into: &Taken, ends: &AtomicBool) {
    let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
    let mut bytes = Vec::new();
    let mut block = [0; 1 << 16];
    loop {
        match stream.read(&mut block) {
            Ok(0) => return,
            Ok(read) => bytes.extend(&block[..read]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
            }
            Err(_) => return,
        }
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
