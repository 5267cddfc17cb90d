//! Sources from the network: one file by http, https or from a path, or a reason why
//! not. What was fetched before is never touched here.
//!
//! A server that is down for a moment is asked again, later each time; what cannot
//! get better by asking again is said at once. A download counts only when it is
//! whole: as long as the server announced, and with the checksum that is published
//! beside it.

mod progress;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use ureq::http::{StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};
use url::Url;

pub use self::progress::{Progress, Transfer};

/// Longest answer to a question for a checksum, bytes.
const CHECKSUM_FILE: u64 = 1 << 20;
/// Bytes a second: what comes slower for longer than the timeout is given up, or a
/// server that sends a byte now and then would hold up updates for ever.
const SLOWEST: u64 = 1 << 10;
/// Pause before the second attempt; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A source that is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// `http`, `https` or `file`.
    pub url: Url,
    /// A file with the SHA-256 of it, in hexadecimal.
    pub checksum: Option<Url>,
    /// How often it is asked for.
    pub every: Duration,
}

/// How to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetching {
    /// Instead of what the environment says; `http://`, `socks5://`.
    pub proxy: Option<String>,
    /// For a connection, an answer, and each part of it.
    pub timeout: Duration,
    /// Attempts after the first.
    pub retries: u32,
    /// Longest file, bytes, as it is transferred.
    pub max_bytes: u64,
    /// Certificates (PEM) to trust instead of those of Mozilla.
    pub ca: Option<PathBuf>,
}

impl Default for Fetching {
    fn default() -> Self {
        Self {
            proxy: None,
            timeout: Duration::from_secs(30),
            retries: 3,
            max_bytes: 2 << 30,
            ca: None,
        }
    }
}

/// What was fetched last, and how the server knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// RFC 9110, section 8.8.3.
    pub etag: Option<String>,
    /// RFC 9110, section 8.8.2; of a path the time of its last change.
    pub last_modified: Option<String>,
    /// Of the file, hexadecimal.
    pub sha256: String,
}

/// What came of it.
#[derive(Debug)]
pub enum Fetched {
    /// The server has what is known.
    Unchanged,
    /// Another file.
    New(NamedTempFile, Known),
    /// Another file, and after all attempts not with the checksum that is published.
    Doubtful(NamedTempFile, Known, Mismatch),
}

/// A file is not the one that its publisher means.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` has the wrong checksum: {found} instead of {expected}")]
pub struct Mismatch {
    /// From where.
    url: String,
    /// Of what came.
    found: String,
    /// Of what was meant.
    expected: String,
}

impl Mismatch {
    /// What would cure it.
    pub const HELP: &str = "it changed on the way or while it was replaced there: try again \
                            later, and look at what it holds if that goes on";
}

/// Why there is no file. Addresses are shown without passwords and queries, which
/// hold keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer, or none that is of use.
    #[error("cannot fetch `{url}`: {reason}")]
    Failed {
        /// From where.
        url: String,
        /// What happened.
        reason: String,
        /// Asking again may help.
        passing: bool,
        /// What would cure it.
        help: &'static str,
    },
    /// It cannot be stored.
    #[error("cannot store `{url}`: {error}")]
    Store {
        /// From where.
        url: String,
        /// What the system said.
        error: io::Error,
    },
}

impl FetchError {
    /// What would cure it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Failed { help, .. } => help,
            Self::Store { .. } => "see to the room and the permissions of the state directory",
        }
    }

    /// Whether asking again may help.
    fn is_passing(&self) -> bool {
        match self {
            Self::Failed { passing, .. } => *passing,
            Self::Store { .. } => false,
        }
    }
}

/// An address without what is nobody's business.
#[must_use]
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Those that cannot have any have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// The SHA-256 of a file, hexadecimal.
///
/// # Errors
///
/// When it cannot be read.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(count) => hash.update(&buffer[..count]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Fetches one source unless the server has what is `known`, into a file of its own
/// in `folder`. Blocks, at worst for some multiples of the timeout.
///
/// # Errors
///
/// When there is no whole file, after all attempts.
pub fn fetch(
    remote: &Remote,
    known: Option<&Known>,
    folder: &Path,
    options: &Fetching,
    progress: &Progress,
) -> Result<Fetched, FetchError> {
    progress.begin(&shown(&remote.url));
    let mut pause = FIRST_PAUSE;
    let mut left = options.retries;
    let result = loop {
        let result = attempt(remote, known, folder, options, progress);
        let why: &dyn std::fmt::Display = match &result {
            Err(e) if e.is_passing() => e,
            // A file may be replaced before its checksum.
            Ok(Fetched::Doubtful(.., mismatch)) => mismatch,
            _ => break result,
        };
        if left == 0 {
            break result;
        }
        tracing::debug!("{why}; trying again");
        left -= 1;
        // Many routers that failed together do not come back together.
        sleep(pause.mul_f64(0.5 + fastrand::f64()));
        pause *= 2;
    };
    progress.last(|transfer| transfer.done = true);
    result
}

fn attempt(
    remote: &Remote,
    known: Option<&Known>,
    folder: &Path,
    options: &Fetching,
    progress: &Progress,
) -> Result<Fetched, FetchError> {
    let url = shown(&remote.url);
    let expected = match &remote.checksum {
        Some(address) => {
            let expected = checksum(remote, address, options)?;
            if known.is_some_and(|known| known.sha256 == expected) {
                return Ok(Fetched::Unchanged);
            }
            Some(expected)
        }
        None => None,
    };
    let Some(mut answer) = open(&remote.url, known, options)? else {
        return Ok(Fetched::Unchanged);
    };
    progress.last(|transfer| {
        transfer.received = 0;
        transfer.total = answer.length;
    });
    if answer
        .length
        .is_some_and(|length| length > options.max_bytes)
    {
        return Err(too_large(&url, options));
    }
    let store = |error| FetchError::Store {
        url: url.clone(),
        error,
    };
    let mut file = NamedTempFile::with_prefix_in(".fetch-", folder).map_err(store)?;
    let mut hash = Sha256::new();
    let mut received = 0;
    let began = Instant::now();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match answer.body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                return Err(passing(
                    &url,
                    format!("it broke off after {received} bytes: {e}"),
                ));
            }
        };
        received += count as u64;
        if received > options.max_bytes {
            return Err(too_large(&url, options));
        }
        let taken = began.elapsed();
        if taken > options.timeout && received < taken.as_secs().saturating_mul(SLOWEST) {
            let reason = format!("it comes too slowly: {received} bytes in {taken:.0?}");
            return Err(passing(&url, reason));
        }
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(store)?;
        progress.last(|transfer| transfer.received = received);
    }
    if let Some(length) = answer.length
        && received != length
    {
        let reason = format!("it broke off: {received} of {length} bytes came");
        return Err(passing(&url, reason));
    }
    let found = hex(&hash.finalize());
    // Some servers do not know what they sent before; somebody may have accepted it.
    if known.is_some_and(|known| known.sha256 == found) {
        return Ok(Fetched::Unchanged);
    }
    file.as_file().sync_all().map_err(store)?;
    let known = Known {
        sha256: found.clone(),
        ..answer.known
    };
    Ok(match expected.filter(|expected| *expected != found) {
        None => Fetched::New(file, known),
        Some(expected) => {
            let mismatch = Mismatch {
                url,
                found,
                expected,
            };
            Fetched::Doubtful(file, known, mismatch)
        }
    })
}

fn too_large(url: &str, options: &Fetching) -> FetchError {
    FetchError::Failed {
        url: url.to_owned(),
        reason: format!("it is larger than {} MiB", options.max_bytes >> 20),
        passing: false,
        help: "raise `max_mib` in `[asndb]` if that is as it should be",
    }
}

fn passing(url: &str, reason: String) -> FetchError {
    FetchError::Failed {
        url: url.to_owned(),
        reason,
        passing: true,
        help: "see whether the server can be reached from this router; it is asked again later",
    }
}

fn lasting(url: &str, reason: impl Into<String>, help: &'static str) -> FetchError {
    FetchError::Failed {
        url: url.to_owned(),
        reason: reason.into(),
        passing: false,
        help,
    }
}

/// An answer with a file in it.
struct Stream {
    body: Box<dyn Read>,
    length: Option<u64>,
    known: Known,
}

/// `None`: it is what is known.
fn open(
    url: &Url,
    known: Option<&Known>,
    options: &Fetching,
) -> Result<Option<Stream>, FetchError> {
    if url.scheme() == "file" {
        return open_path(url, known);
    }
    let name = shown(url);
    let agent = agent(&name, options)?;
    let mut request = agent.get(url.as_str());
    if let Some(known) = known {
        if let Some(etag) = &known.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(date) = &known.last_modified {
            request = request.header(header::IF_MODIFIED_SINCE, date);
        }
    }
    let answer = request.call().map_err(|e| failed(&name, &e))?;
    let status = answer.status();
    if status == StatusCode::NOT_MODIFIED && known.is_some() {
        return Ok(None);
    }
    if status != StatusCode::OK {
        let reason = format!("the server says {status}");
        let busy = status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT;
        if busy || status.is_server_error() {
            return Err(passing(&name, reason));
        }
        let help = "check the address, and the key in it if there is one";
        return Err(lasting(&name, reason, help));
    }
    let field = |name: header::HeaderName| {
        let value = answer.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let length = field(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let known = Known {
        etag: field(header::ETAG),
        last_modified: field(header::LAST_MODIFIED),
        sha256: String::new(),
    };
    let body = answer
        .into_body()
        .into_with_config()
        .limit(u64::MAX)
        .reader();
    Ok(Some(Stream {
        body: Box::new(body),
        length,
        known,
    }))
}

fn open_path(url: &Url, known: Option<&Known>) -> Result<Option<Stream>, FetchError> {
    let name = shown(url);
    let path = url.to_file_path().map_err(|()| {
        let help = "write it like `file:///var/lib/lists/asn.csv`";
        lasting(&name, "it is no path of this machine", help)
    })?;
    let said = |e: io::Error| lasting(&name, e.to_string(), "check the path and its permissions");
    let file = File::open(path).map_err(said)?;
    let metadata = file.metadata().map_err(said)?;
    let changed = metadata.modified().ok();
    let changed = changed.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    let changed = changed.map(|at| {
        format!(
            "{}.{:09} {}",
            at.as_secs(),
            at.subsec_nanos(),
            metadata.len()
        )
    });
    if changed.is_some() && known.is_some_and(|known| known.last_modified == changed) {
        return Ok(None);
    }
    Ok(Some(Stream {
        body: Box::new(file),
        length: Some(metadata.len()),
        known: Known {
            last_modified: changed,
            ..Known::default()
        },
    }))
}

fn agent(url: &str, options: &Fetching) -> Result<Agent, FetchError> {
    let proxy = match &options.proxy {
        Some(proxy) => Some(Proxy::new(proxy).map_err(|e| {
            let reason = format!("the proxy cannot be used: {e}");
            lasting(url, reason, "write `proxy = \"http://proxy.example:3128\"`")
        })?),
        None => Proxy::try_from_env(),
    };
    let mut tls = TlsConfig::builder();
    if let Some(path) = &options.ca {
        let help = "`ca` in `[asndb]` names a file with certificates in PEM";
        let name = path.display();
        let bytes = std::fs::read(path)
            .map_err(|e| lasting(url, format!("cannot read `{name}`: {e}"), help))?;
        let certificates: Vec<Certificate<'static>> = parse_pem(&bytes)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if certificates.is_empty() {
            return Err(lasting(url, format!("`{name}` holds no certificate"), help));
        }
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
    }
    let limit = Some(options.timeout);
    let config = Agent::config_builder()
        .proxy(proxy)
        .tls_config(tls.build())
        .user_agent(concat!(
            "kordon/",
            env!("CARGO_PKG_VERSION"),
            " (ASN data update)"
        ))
        .http_status_as_error(false)
        .max_redirects(5)
        .timeout_resolve(limit)
        .timeout_connect(limit)
        .timeout_send_request(limit)
        .timeout_recv_response(limit)
        .timeout_per_read(limit)
        .build();
    Ok(config.into())
}

fn failed(url: &str, error: &ureq::Error) -> FetchError {
    use ureq::Error as E;
    // The TLS library says what it thinks of a certificate by way of an error of the
    // stream.
    let distrusted = |e: &io::Error| {
        e.get_ref()
            .is_some_and(|e| e.to_string().contains("certificate"))
    };
    match error {
        E::Io(e) if distrusted(e) => not_trusted(url, error),
        E::Rustls(_) | E::Tls(_) | E::Pem(_) => not_trusted(url, error),
        E::BadUri(_) | E::Http(_) | E::InvalidProxyUrl | E::TooManyRedirects => {
            lasting(url, error.to_string(), "check the address")
        }
        _ => passing(url, error.to_string()),
    }
}

fn not_trusted(url: &str, error: &ureq::Error) -> FetchError {
    lasting(
        url,
        format!("the server is not trusted: {error}"),
        "check the router's clock; `ca` in `[asndb]` names certificates of your own",
    )
}

/// The checksum that is published for a source.
fn checksum(remote: &Remote, address: &Url, options: &Fetching) -> Result<String, FetchError> {
    let name = shown(address);
    let mut text = String::new();
    if let Some(stream) = open(address, None, options)? {
        stream
            .body
            .take(CHECKSUM_FILE)
            .read_to_string(&mut text)
            .map_err(|e| passing(&name, e.to_string()))?;
    }
    let segments = remote.url.path_segments();
    let file = segments.and_then(Iterator::last).unwrap_or_default();
    published(&text, file).ok_or_else(|| {
        lasting(
            &name,
            "it holds no SHA-256 for the file",
            "64 hexadecimal digits are expected, or lines of `sha256sum` that name the file",
        )
    })
}

/// The checksum for `file` in a text as `sha256sum` writes it, or the only one.
fn published(text: &str, file: &str) -> Option<String> {
    let digest = |word: &str| {
        (word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| word.to_ascii_lowercase())
    };
    let mut all = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(found) = words.iter().copied().find_map(digest) else {
            continue;
        };
        let named = words.iter().any(|word| {
            let word = word.trim_start_matches('*').trim_matches(['(', ')']);
            !file.is_empty() && word.rsplit('/').next() == Some(file)
        });
        if named {
            return Some(found);
        }
        all.push(found);
    }
    all.dedup();
    match all.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
