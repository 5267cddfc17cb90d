//! Checksums that are published beside a source.

use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use url::Url;

use super::http::open;
use super::{FetchError, Fetching, Remote, passing, shown};

/// Longest answer to a question for a checksum, bytes.
const LONGEST: u64 = 1 << 20;

/// The SHA-256 of a file, hexadecimal.
///
/// # Errors
///
/// When it cannot be read.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = crate::regular::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex::encode(hash.finalize())),
            Ok(count) => hash.update(&buffer[..count]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The checksum that is published for a source.
pub(super) fn published_for(
    remote: &Remote,
    address: &Url,
    options: &Fetching,
) -> Result<String, FetchError> {
    let name = shown(address);
    let mut text = String::new();
    if let Some(stream) = open(address, remote, None, options)? {
        stream
            .body
            .take(LONGEST)
            .read_to_string(&mut text)
            .map_err(|e| passing(&name, e.to_string()))?;
    }
    let segments = remote.url.path_segments();
    let file = segments.and_then(Iterator::last).unwrap_or_default();
    published(&text, file).ok_or_else(|| {
        FetchError::new(
            &name,
            "it holds no SHA-256 for the file",
            "64 hexadecimal digits are expected, or lines of `sha256sum` that name the file",
        )
    })
}

/// The checksum for `file` in a text as `sha256sum` writes it, or the only one.
pub(super) fn published(text: &str, file: &str) -> Option<String> {
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
