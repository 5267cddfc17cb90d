//! All of it with real sockets. Here: a log that grows, and servers that take what comes.

mod lasting;
mod posted;
mod wires;

use std::{
    fs::{self, File},
    io::{Read, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Forwarder,
    config::{Destination, Target},
    pace::Pace,
};

pub(super) const PACE: Pace = Pace {
    connect: Duration::from_secs(2),
    patience: Duration::from_secs(1),
    margin: Duration::from_millis(200),
    proven: Duration::from_millis(200),
    idle: Duration::from_millis(10),
    keep: Duration::from_millis(30),
    first: Duration::from_millis(50),
    most: Duration::from_millis(200),
};

/// Writes records as the daemon does.
pub(super) struct Log {
    pub(super) folder: tempfile::TempDir,
    pub(super) next: u64,
    first: u64,
}

impl Log {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            next: 0,
            first: 0,
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn file(&self, first: u64) -> PathBuf {
        self.path().join(format!("{first:020}.jsonl"))
    }

    pub(super) fn rotate(&mut self) {
        self.first = self.next;
    }

    pub(super) fn raw(&self, text: &[u8]) {
        let path = self.file(self.first);
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text).unwrap();
    }

    pub(super) fn record(&self, action: &str, pad: usize) -> Value {
        json!({
            "@timestamp": format!("{:.6}", jiff::Timestamp::now()),
            "event": { "kind": "event", "action": action, "sequence": self.next },
            "destination": { "as": { "organization": { "name": "Telef\u{f3}nica \"x]\\\u{7f}" } } },
            "kordon": { "action": "drop", "zone": "cameras", "pad": "x".repeat(pad) },
        })
    }

    pub(super) fn write_as(&mut self, action: &str, pad: usize) {
        let line = format!("{}\n", self.record(action, pad));
        self.raw(line.as_bytes());
        self.next += 1;
    }

    pub(super) fn write(&mut self, sum: u64) {
        for _ in 0..sum {
            self.write_as("flow", 100);
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut files: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        files.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
        files.sort();
        let text: String = files
            .iter()
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        text.lines().map(str::to_owned).collect()
    }
}

pub(super) fn to(scheme: &str, address: SocketAddr) -> Destination {
    Destination::new(Target::parse(&format!("{scheme}://{address}")).unwrap())
}

pub(super) fn spawn(log: &Log, destination: &Destination) -> Forwarder {
    destination.check().unwrap();
    Forwarder::spawn_at(log.path(), std::slice::from_ref(destination), &PACE).unwrap()
}

#[track_caller]
pub(super) fn wait(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{what} does not happen"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// A message, as an independent parser reads it.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) text: String,
    pub(super) body: String,
    pub(super) value: Value,
}

impl Got {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let message = syslog_loose::parse_message(&text, syslog_loose::Variant::RFC5424);
        assert_eq!(
            message.protocol,
            syslog_loose::Protocol::RFC5424(1),
            "{text}"
        );
        assert_eq!(message.appname, Some("kordon"));
        assert!(
            message.hostname.is_some() && message.procid.is_some(),
            "{text}"
        );
        assert_eq!(
            message.facility,
            Some(syslog_loose::SyslogFacility::LOG_AUDIT)
        );
        let ids: Vec<_> = message.structured_data.iter().map(|e| e.id).collect();
        assert_eq!(ids, ["origin", "meta"], "{text}");
        let body = message.msg.to_owned();
        let value: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
        assert_eq!(message.msgid, value["event"]["action"].as_str());
        if let Some(at) = message.timestamp {
            let at: jiff::Timestamp = at.to_rfc3339().parse().unwrap();
            let said: jiff::Timestamp = value["@timestamp"].as_str().unwrap().parse().unwrap();
            assert_eq!(at, said);
        }
        Self { body, value, text }
    }

    pub(super) fn number(&self) -> Option<u64> {
        self.value["event"]["sequence"].as_u64()
    }
}

/// All that came to a server.
#[derive(Clone, Default)]
pub(super) struct Inbox(pub(super) Arc<Mutex<Vec<Got>>>);

impl Inbox {
    pub(super) fn all(&self) -> Vec<Got> {
        self.0.lock().unwrap().clone()
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(super) fn push(&self, bytes: &[u8]) {
        self.0.lock().unwrap().push(Got::parse(bytes));
    }

    /// Numbers, without those that came again.
    #[track_caller]
    pub(super) fn fresh(&self) -> Vec<u64> {
        let mut fresh: Vec<u64> = Vec::new();
        for number in self.all().iter().filter_map(Got::number) {
            if fresh.last().is_none_or(|last| *last < number) {
                fresh.push(number);
            }
        }
        fresh
    }

    #[track_caller]
    pub(super) fn has_all(&self, from: u64, until: u64) {
        wait("the last record", || {
            self.all().iter().any(|got| got.number() == Some(until - 1))
        });
        assert_eq!(self.fresh(), Vec::from_iter(from..until));
    }
}

/// Takes octets apart until there are no more.
pub(super) fn take_apart(mut stream: impl Read, inbox: &Inbox, is_over: &AtomicBool) {
    let mut bytes = Vec::new();
    let mut some = [0; 8192];
    while !is_over.load(Ordering::Relaxed) {
        match stream.read(&mut some) {
            Ok(0) => return,
            Ok(read) => bytes.extend_from_slice(&some[..read]),
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                continue;
            }
            Err(_) => return,
        }
        while let Some(space) = bytes.iter().position(|byte| *byte == b' ') {
            let length: usize = std::str::from_utf8(&bytes[..space])
                .unwrap()
                .parse()
                .unwrap();
            if bytes.len() < space + 1 + length {
                break;
            }
            inbox.push(&bytes[space + 1..][..length]);
            bytes.drain(..space + 1 + length);
        }
    }
}

/// A syslog server on TCP. Dropping it closes everything.
pub(super) struct Server {
    pub(super) at: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub(super) fn tcp(at: &str, inbox: &Inbox) -> Self {
        Self::new(at, inbox, |stream, inbox, is_over| {
            take_apart(stream, inbox, is_over);
        })
    }

    pub(super) fn new(
        at: &str,
        inbox: &Inbox,
        each: impl Fn(TcpStream, &Inbox, &AtomicBool) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let at = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let (told, taken) = (Arc::clone(&is_over), inbox.clone());
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).unwrap();
                        let time = Some(Duration::from_millis(20));
                        stream.set_read_timeout(time).unwrap();
                        each(stream, &taken, &told);
                    }
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self {
            at,
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}
