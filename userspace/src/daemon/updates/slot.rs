//! Files that were fetched, one place for each address, with what the server called
//! them. What is there was live once: a download takes its place only after it has
//! become the database.
//!
//! ```text
//! sources/<id>-<name>        the file
//! sources/<id>-<name>.json   what the server calls it, and when it was asked last
//! sources/<id>-<name>.held   a file that is part of an update that is held back
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::{
    asn::fetch::{Remote, Validators, sha256, shown},
    daemon::state::{Prepared, StateError},
    regular,
};

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    /// Where it is from, for people.
    url: String,
    known: Validators,
    /// When the server was asked last, and answered.
    checked: Timestamp,
}

/// The place of one address.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    path: PathBuf,
    url: String,
}

impl Slot {
    pub(crate) fn of(folder: &Path, remote: &Remote) -> Self {
        let id = hex::encode(&Sha256::digest(remote.url.as_str())[..4]);
        let segments = remote.url.path_segments();
        let name = segments.and_then(Iterator::last).unwrap_or_default();
        let name: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                    c
                } else {
                    '.'
                }
            })
            .take(80)
            .collect();
        Self {
            path: folder.join(format!("{id}-{name}")),
            url: shown(&remote.url),
        }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(ending);
        name.into()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is from, for people.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn stored(&self, ending: &str) -> Option<Stored> {
        serde_json::from_slice(&regular::read(&self.beside(ending)).ok()?).ok()
    }

    /// What the server calls the file, if that is here and whole.
    pub(crate) fn known(&self) -> Option<Validators> {
        let known = self.stored(".json")?.known;
        (sha256(&self.path).ok()? == known.sha256).then_some(known)
    }

    /// When the server answered last.
    pub(crate) fn checked(&self) -> Option<Timestamp> {
        Some(self.stored(".json")?.checked)
    }

    fn write(&self, ending: &str, known: Validators) -> Result<(), StateError> {
        let stored = Stored {
            url: self.url.clone(),
            known,
            checked: Timestamp::now(),
        };
        let text = serde_json::to_vec(&stored).unwrap_or_default();
        Prepared::write(&self.beside(ending), &text)?.commit()
    }

    /// The server has nothing newer.
    pub(crate) fn confirm(&self, known: Validators) -> Result<(), StateError> {
        self.write(".json", known)
    }

    /// A file takes the place of the one before.
    pub(crate) fn keep(&self, file: NamedTempFile, known: Validators) -> Result<(), StateError> {
        Prepared::of(file, &self.path).commit()?;
        self.write(".json", known)
    }

    /// A file waits until the update that it is part of is accepted.
    pub(crate) fn hold(&self, file: NamedTempFile, known: Validators) -> Result<(), StateError> {
        Prepared::of(file, &self.beside(".held")).commit()?;
        self.write(".held.json", known)
    }

    /// What was held is accepted, or is history.
    pub(crate) fn end_hold(&self, accepted: bool) {
        let (file, state) = (self.beside(".held"), self.beside(".held.json"));
        let move_or_remove = |from: &Path, to: &Path| {
            let result = if accepted {
                fs::rename(from, to)
            } else {
                fs::remove_file(from)
            };
            // Most are not there.
            if let Err(e) = result
                && e.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!("cannot tidy up {}: {e}", from.display());
            }
        };
        move_or_remove(&file, &self.path);
        move_or_remove(&state, &self.beside(".json"));
    }
}
