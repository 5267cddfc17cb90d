//! A web server with bad days, for tests of what fetches from it. By hand, because no
//! library offers to break off in the middle.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::lab::Namespace;

/// What it answers to whatever is asked.
#[derive(Clone, Debug)]
pub enum Mood {
    /// 200 with this; 304 where the client has it.
    Serve(Vec<u8>),
    /// 200 with this, and this checksum under `/sum`.
    Wrong(Vec<u8>, String),
    /// This status.
    Status(u16),
    /// The beginning of this, as if all were to come.
    Cut(Vec<u8>),
    /// The beginning of this in chunks, without the last.
    CutChunks(Vec<u8>),
    /// Nothing, for long.
    Silent,
    /// What is no HTTP.
    Garbage,
    /// 200 with zeros without end.
    Endless,
    /// 302 to itself.
    Circle,
    /// 302 to there.
    Leads(String),
    /// 429 with this as `Retry-After`.
    Busy(&'static str),
    /// 200 with this many bytes each tenth of a second, without end.
    Trickle(usize),
    /// Nothing; it hangs up.
    Closed,
    /// 200 with a byte now and then.
    Drip,
    /// 200 with this, in a second or so.
    Slow(Vec<u8>),
    /// 200 with this, last modified then; 304 where the client has it of that date.
    Dated(Vec<u8>, &'static str),
    /// The first of these once, and the others after it.
    Then(Vec<Mood>),
}

#[derive(Debug, Default)]
struct Shared {
    mood: Option<Mood>,
    requests: Vec<String>,
}

/// Listens on a loopback address of a namespace until the process ends.
#[derive(Clone, Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    /// If it cannot.
    pub fn start(namespace: &Namespace, mood: Mood) -> Result<Self> {
        let listener = namespace
            .run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen"))?;
        let server = Self {
            address: listener.local_addr().context("it has an address")?,
            shared: Arc::default(),
        };
        server.set(mood);
        let shared = Arc::clone(&server.shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    // Clients that go away are none of its business.
                    let _ = answer(stream, &shared);
                });
            }
        });
        Ok(server)
    }

    /// From now on.
    pub fn set(&self, mood: Mood) {
        lock(&self.shared).mood = Some(mood);
    }

    /// The address of a file of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// What was asked since the last call, heads as they came.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared).requests)
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn etag(body: &[u8]) -> String {
    let sum = body
        .iter()
        .fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
    format!("\"{sum:x}\"")
}

fn answer(mut stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while reader.read_line(&mut head)? > 2 {}
    if head.starts_with("CONNECT ") {
        // As a proxy it is the server behind it, too.
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
        lock(shared).requests.push(std::mem::take(&mut head));
        while reader.read_line(&mut head)? > 2 {}
    }
    let mood = {
        let mut shared = lock(shared);
        shared.requests.push(head.clone());
        match &mut shared.mood {
            Some(Mood::Then(moods)) if moods.len() > 1 => Some(moods.remove(0)),
            Some(Mood::Then(moods)) => moods.first().cloned(),
            mood => mood.clone(),
        }
    };
    let Some(mood) = mood else { return Ok(()) };
    let mut whole = |body: &[u8]| {
        let tag = etag(body);
        if head.contains(&tag) {
            return write!(
                stream,
                "HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\nConnection: close\r\n\r\n"
            );
        }
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: {tag}\r\nConnection: close\r\n\r\n",
            body.len()
        )?;
        stream.write_all(body)
    };
    match mood {
        Mood::Serve(body) => whole(&body),
        Mood::Wrong(_, sum) if head.starts_with("GET /sum") => whole(sum.as_bytes()),
        Mood::Wrong(body, _) => whole(&body),
        Mood::Status(status) => write!(
            stream,
            "HTTP/1.1 {status} Bad Day\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n"
        ),
        Mood::Cut(body) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
            stream.write_all(&body[..body.len() / 2])
        }
        Mood::CutChunks(body) => {
            let half = &body[..body.len() / 2];
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            write!(stream, "{:x}\r\n", half.len())?;
            stream.write_all(half)?;
            stream.write_all(b"\r\n")
        }
        Mood::Closed => Ok(()),
        Mood::Silent => {
            thread::sleep(Duration::from_secs(30));
            Ok(())
        }
        Mood::Garbage => stream.write_all(b"\x00\x01\x02 what?\r\n\r\n"),
        Mood::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[0; 64 << 10])?;
            }
        }
        Mood::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(b"#")?;
                thread::sleep(Duration::from_millis(100));
            }
        }
        Mood::Slow(body) => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            )?;
            for piece in body.chunks(body.len() / 10 + 1) {
                stream.write_all(piece)?;
                thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        }
        Mood::Dated(_, date) if head.contains(date) => {
            stream.write_all(b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n")
        }
        Mood::Dated(body, date) => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nLast-Modified: {date}\r\n\
                 Connection: close\r\n\r\n",
                body.len()
            )?;
            stream.write_all(&body)
        }
        Mood::Then(_) => Ok(()),
        Mood::Leads(to) => write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        Mood::Busy(wait) => write!(
            stream,
            "HTTP/1.1 429 Too Many\r\nRetry-After: {wait}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        ),
        Mood::Trickle(bytes) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&vec![b'#'; bytes])?;
                thread::sleep(Duration::from_millis(100));
            }
        }
        Mood::Circle => stream.write_all(
            b"HTTP/1.1 302 Found\r\nLocation: /round\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
    }
}
