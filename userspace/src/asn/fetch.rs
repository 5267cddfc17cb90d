//! Sources from the network: one file by http, https or from a path, or a reason why
//! not. What was fetched before is never touched here.
//!
//! A server that is down for a moment is asked again, later each time; what cannot
//! get better by asking again is said at once. A download counts only when it is
//! whole: as long as the server announced, and with the checksum that is published
//! beside it.

mod checksum;
mod http;
mod progress;
pub mod proxy;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use url::Url;

pub use self::checksum::sha256;
pub use self::progress::{Progress, Transfer};

/// Bytes a second, over each two timeouts: a server that sends a byte now and then would
/// hold up updates for ever.
const SLOWEST: u64 = 8 << 10;
/// Longer than this nobody waits here for a server that asks to be asked later.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than this no server keeps itself from being asked.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);
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
    /// What the server is told instead of kordon's own name.
    pub user_agent: Option<String>,
    /// What else it is told; keys, for example. Servers that it redirects to are not.
    pub headers: Vec<Header>,
}

/// A field of a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// What it says: nobody's business.
    pub value: String,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: …", self.name)
    }
}

/// How to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetching {
    /// Instead of what the environment says; `http://`, `socks5://`.
    pub proxy: Option<String>,
    /// For a connection, an answer, and each part of it.
    pub timeout: Duration,
    /// For a source, with all attempts.
    pub max_time: Duration,
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
            max_time: Duration::from_secs(3600),
            retries: 3,
            max_bytes: 2 << 30,
            ca: None,
        }
    }
}

/// What was fetched last, and how the server knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
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
    New(NamedTempFile, Validators),
    /// Another file, and after all attempts not with the checksum that is published.
    Doubtful(NamedTempFile, Validators, Mismatch),
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
#[error("{message}")]
pub struct FetchError {
    message: String,
    help: &'static str,
    /// Asking again may help.
    passing: bool,
    /// Not before so much time has passed, says the server.
    after: Option<Duration>,
}

impl FetchError {
    fn new(url: &str, reason: impl fmt::Display, help: &'static str) -> Self {
        Self {
            message: format!("cannot fetch `{url}`: {reason}"),
            help,
            passing: false,
            after: None,
        }
    }

    /// What would cure it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// How long the server asks not to be asked again; a day at most.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.after.map(|after| after.min(LONGEST_WAIT))
    }

    /// Its server asked not to be asked yet.
    #[must_use]
    pub fn not_yet(remote: &Remote, wait: Duration) -> Self {
        let reason = format!("the server asks to be asked again in {wait:.0?}");
        passing(&shown(&remote.url), reason).after(wait)
    }

    /// The same, not before so much time has passed.
    fn after(self, wait: Duration) -> Self {
        Self {
            after: Some(wait),
            ..self
        }
    }

    /// Whether asking again may help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.passing
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

/// Fetches one source unless the server has what is `known`, into a file of its own
/// in `folder`. Blocks, at worst for the time that a source may take.
///
/// # Errors
///
/// When there is no whole file, after all attempts.
pub fn fetch(
    remote: &Remote,
    known: Option<&Validators>,
    folder: &Path,
    options: &Fetching,
    progress: &Progress,
) -> Result<Fetched, FetchError> {
    progress.begin(&shown(&remote.url));
    let mut pause = FIRST_PAUSE;
    let mut left = options.retries;
    let end = Instant::now() + options.max_time;
    let result = loop {
        let result = attempt(remote, known, folder, options, progress, end);
        let why: &dyn fmt::Display = match &result {
            Err(e) if e.is_passing() => e,
            // A file may be replaced before its checksum.
            Ok(Fetched::Doubtful(.., mismatch)) => mismatch,
            _ => break result,
        };
        // Many routers that failed together do not come back together.
        let mut wait = pause.mul_f64(0.5 + fastrand::f64());
        if let Err(e) = &result {
            wait = wait.max(e.wait().unwrap_or_default());
        }
        if left == 0 || wait > PATIENCE || Instant::now() + wait > end {
            break result;
        }
        tracing::debug!("{why}; trying again");
        left -= 1;
        sleep(wait);
        pause *= 2;
    };
    progress.last(|transfer| transfer.done = true);
    result
}

fn attempt(
    remote: &Remote,
    known: Option<&Validators>,
    folder: &Path,
    options: &Fetching,
    progress: &Progress,
    end: Instant,
) -> Result<Fetched, FetchError> {
    let url = shown(&remote.url);
    let expected = match &remote.checksum {
        Some(address) => {
            let expected = checksum::published_for(remote, address, options)?;
            if known.is_some_and(|known| known.sha256 == expected) {
                return Ok(Fetched::Unchanged);
            }
            Some(expected)
        }
        None => None,
    };
    let Some(mut answer) = http::open(&remote.url, remote, known, options)? else {
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
    let store = |error: io::Error| FetchError {
        message: format!("cannot store `{url}`: {error}"),
        ..FetchError::new(
            &url,
            "",
            "see to the room and the permissions of the state directory",
        )
    };
    let mut file = NamedTempFile::with_prefix_in(".fetch-", folder).map_err(store)?;
    let mut hash = Sha256::new();
    let mut received = 0;
    let mut pace = Pace::new(options);
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
        pace.keep(&url, received)?;
        if Instant::now() > end {
            let reason = format!(
                "it took too long: {received} bytes in {:?}",
                options.max_time
            );
            let help = "raise `max_time` in `[asndb]` if it must";
            return Err(FetchError::new(&url, reason, help));
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
    let found = hex::encode(hash.finalize());
    // Some servers do not know what they sent before; somebody may have accepted it.
    if known.is_some_and(|known| known.sha256 == found) {
        return Ok(Fetched::Unchanged);
    }
    file.as_file().sync_all().map_err(store)?;
    let known = Validators {
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

/// How fast a file comes.
struct Pace {
    /// Over so long.
    over: Duration,
    since: Instant,
    had: u64,
}

impl Pace {
    fn new(options: &Fetching) -> Self {
        Self {
            over: options.timeout * 2,
            since: Instant::now(),
            had: 0,
        }
    }

    /// So many bytes have come.
    fn keep(&mut self, url: &str, received: u64) -> Result<(), FetchError> {
        let taken = self.since.elapsed();
        if taken < self.over {
            return Ok(());
        }
        let came = received - self.had;
        if came < taken.as_secs().saturating_mul(SLOWEST) {
            let least = SLOWEST >> 10;
            let reason = format!(
                "it comes too slowly: {came} bytes in {taken:.0?}, less than {least} KiB a second"
            );
            return Err(passing(url, reason));
        }
        (self.since, self.had) = (Instant::now(), received);
        Ok(())
    }
}

fn too_large(url: &str, options: &Fetching) -> FetchError {
    let reason = format!("it is larger than {} MiB", options.max_bytes >> 20);
    let help = "raise `max_mib` in `[asndb]` if that is as it should be";
    FetchError::new(url, reason, help)
}

fn passing(url: &str, reason: String) -> FetchError {
    let help = "see whether the server can be reached from this router";
    FetchError {
        passing: true,
        ..FetchError::new(url, reason, help)
    }
}
