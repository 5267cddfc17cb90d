//! What outlives the controller on disk:
//!
//! ```text
//! lock               held by the running daemon
//! current.json       what is live, all of it: the one commit point
//! history/<n>.json   every applied policy with its list files, whole
//! overlay.toml       what `block` and `allow` added
//! *.damaged          what could not be read, for whoever mends it
//! changes.jsonl      who changed what
//! asndb.snapshot     the ASN database
//! asndb.held.*       one that is held back, and why
//! sources/           what was fetched
//! bgp.routes         what live BGP had
//! metrics.json       which ASNs have series, once there are too many for all
//! ```
//!
//! `current.json` is replaced last, so that a crash at any point leaves the old or the
//! new state, never a mixture. Everything is written to a temporary file and synced
//! beforehand: what is left to do is a rename, which needs no room. Names are given when
//! all else is done but the kernel's swap, and taken back where that fails.
//!
//! What is live is there twice, in `current.json` and in the other two; each file ends
//! with its checksum ([`sealed`]). Where one cannot be read, the other has it, and writes
//! it anew ([`found`]). What both have lost is said, and never taken for "nothing".

mod found;
mod sealed;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use nix::{
    sys::statvfs::statvfs,
    unistd::{AccessFlags, access},
};
use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempPath};

pub(crate) use self::found::recorded;
pub(super) use self::found::{Damage, Loaded};
use crate::{
    asn,
    datapath::faults::{self, Step},
    diagnostic::quoted,
    policy::{Bundle, Overlay},
    regular,
};

/// Policies that are kept.
pub(super) const HISTORY: usize = 20;

/// The state cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// Another daemon uses it.
    #[error("another daemon uses {}; stop it, or give this one its own {what}", quoted(.path))]
    Taken {
        /// What is shared.
        path: String,
        /// The option that tells them apart.
        what: &'static str,
    },
    /// The system said no.
    #[error("cannot {operation} {}: {source}", quoted(.path))]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Files are what they were in part only.
    #[error("{error}; and {restore}")]
    Torn {
        /// What failed.
        error: Box<StateError>,
        /// What was tried to make up for it.
        restore: Box<StateError>,
    },
}

impl StateError {
    /// What somebody else tried, and says of it.
    pub(super) fn other(
        operation: &'static str,
        path: &Path,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        failed(operation, path)(io::Error::other(source))
    }
}

fn failed<'p>(
    operation: &'static str,
    path: &'p Path,
) -> impl FnOnce(io::Error) -> StateError + 'p {
    move |source| StateError::Io {
        operation,
        path: path.display().to_string(),
        source,
    }
}

/// One policy that was live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// From 1, rising.
    pub(super) number: u64,
    /// What was live before: where `rollback` leads.
    pub(super) before: Option<u64>,
    /// When it went live.
    pub(super) applied_at: Timestamp,
    /// `start`, `apply` or `reload`.
    pub(super) by: String,
    /// The `policy_hash` of what was last live with it, overlay included: as `status` had it.
    pub(super) hash: String,
    /// Its text and list files.
    pub(super) bundle: Bundle,
}

/// Which record is live.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Current {
    /// Its number.
    pub(super) live: u64,
    /// The highest number given.
    pub(super) last: u64,
    /// It goes by itself unless confirmed.
    pub(super) pending: Option<Pending>,
    /// The ASN database that was in use, in hexadecimal; `None`: an empty one.
    pub(super) database: Option<String>,
    /// Live BGP has had something in effect: it is in a file of its own, which has to be there.
    #[serde(default)]
    pub(super) routes: bool,
}

/// What `current.json` holds.
#[derive(Serialize, Deserialize)]
struct Whole<'a> {
    current: Cow<'a, Current>,
    record: Cow<'a, Record>,
    /// As in `overlay.toml`.
    overlay: Cow<'a, str>,
}

/// A policy on trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Until then.
    pub(super) until: Timestamp,
    /// What comes back.
    pub(super) back_to: u64,
}

/// A file that is written and synced, and lacks nothing but its name.
#[derive(Debug)]
pub(super) struct Prepared {
    file: NamedTempFile,
    path: PathBuf,
}

impl Prepared {
    pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<Self, StateError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let write = || {
            let mut file = NamedTempFile::with_prefix_in(".new-", folder).or_else(|e| {
                // The disk may have come back without it.
                if e.kind() != io::ErrorKind::NotFound || make_folder(folder).is_err() {
                    return Err(e);
                }
                NamedTempFile::with_prefix_in(".new-", folder)
            })?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        Ok(Self {
            file: write()
                .map_err(regular::nameless)
                .map_err(failed("write", path))?,
            path: path.to_owned(),
        })
    }

    /// A file that was written and synced by somebody else.
    pub(super) fn of(file: NamedTempFile, path: &Path) -> Self {
        Self {
            file,
            path: path.to_owned(),
        }
    }

    pub(super) fn commit(self) -> Result<(), StateError> {
        let Self { file, path } = self;
        let folder = path.parent().unwrap_or(Path::new("."));
        give_way(&path)?;
        file.persist(&path)
            .map_err(|e| e.error)
            .and_then(|_| File::open(folder)?.sync_all())
            .map_err(failed("replace", &path))
    }
}

/// A file takes the place of everything but a folder, which somebody else has put there.
fn give_way(path: &Path) -> Result<(), StateError> {
    if !path.is_dir() {
        return Ok(());
    }
    let mut aside = path.to_owned().into_os_string();
    aside.push(".damaged");
    fs::rename(path, aside).map_err(failed("replace", path))
}

/// What files were before they are replaced, by links; forgotten when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Before(Vec<(PathBuf, Option<TempPath>)>);

impl Before {
    /// Of some files, which may not be there yet.
    pub(super) fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Result<Self, StateError> {
        let link = |path: &Path| {
            give_way(path)?;
            let folder = path.parent().unwrap_or(Path::new("."));
            let link = tempfile::Builder::new()
                .prefix(".new-")
                .make_in(folder, |link| {
                    // Some file systems have no links.
                    fs::hard_link(path, link).or_else(|_| fs::copy(path, link).map(drop))
                });
            match link {
                Ok(link) => Ok((path.to_owned(), Some(link.into_temp_path()))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok((path.to_owned(), None)),
                Err(e) => Err(failed("keep", path)(regular::nameless(e))),
            }
        };
        let all = paths.into_iter().map(link).collect::<Result<_, _>>()?;
        Ok(Self(all))
    }

    /// Puts back what was there.
    pub(super) fn restore(self) -> Result<(), StateError> {
        let back = |(path, before): (PathBuf, Option<TempPath>)| {
            let folder = path.parent().unwrap_or(Path::new("."));
            faults::reach(Step::Restore)
                .map_err(io::Error::other)
                .and_then(|()| match before {
                    Some(before) => {
                        let link = before.to_path_buf();
                        let back = before.persist(&path).map_err(|e| e.error);
                        // Where it was not replaced both are one file, and renaming does nothing.
                        let _ = fs::remove_file(link);
                        back
                    }
                    None => match fs::remove_file(&path) {
                        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                        _ => Ok(()),
                    },
                })
                .and_then(|()| File::open(folder)?.sync_all())
                .map_err(failed("put back", &path))
        };
        // As many as can be.
        let all: Vec<_> = self.0.into_iter().map(back).collect();
        all.into_iter().collect()
    }
}

/// Gives files their names: all of them, or none.
pub(super) fn commit(files: Vec<Prepared>) -> Result<Before, StateError> {
    let before = Before::of(files.iter().map(|file| &*file.path))?;
    for file in files {
        let path = file.path.clone();
        let named = faults::reach(Step::Keep)
            .map_err(|e| failed("replace", &path)(io::Error::other(e)))
            .and_then(|()| file.commit());
        if let Err(e) = named {
            return Err(match before.restore() {
                Ok(()) => e,
                Err(restore) => StateError::Torn {
                    error: Box::new(e),
                    restore: Box::new(restore),
                },
            });
        }
    }
    Ok(before)
}

/// The state's folder, held by this process.
#[derive(Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
    /// What was wrong with it at the start, and has been said.
    said: Mutex<Option<String>>,
    _lock: Option<File>,
}

/// Takes a lock that goes with the process.
pub(super) fn lock(file: File, path: &Path, what: &'static str) -> Result<File, StateError> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StateError::Taken {
            path: path.display().to_string(),
            what,
        }),
        Err(TryLockError::Error(source)) => Err(failed("lock", path)(source)),
    }
}

/// Makes a folder that only root may look into.
fn make_folder(path: &Path) -> Result<(), StateError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o750);
    builder.create(path).map_err(failed("make", path))
}

/// Removes what somebody was writing when he was killed: it never got its name. Who
/// holds the lock is the only one who writes.
fn tidy(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let unnamed = name.starts_with(".new-") || name.starts_with(".fetch-");
        if unnamed || asn::snapshot::is_unfinished(&name) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Where a state directory has its ASN database.
pub(crate) fn snapshot_path(root: &Path) -> PathBuf {
    root.join("asndb.snapshot")
}

fn current_path(root: &Path) -> PathBuf {
    root.join("current.json")
}

impl StateDir {
    /// Makes the folder if need be, and takes it. What cannot be read or written does not
    /// stop a start: [`Self::load`] and [`Self::trouble`] say what that costs.
    ///
    /// # Errors
    /// When another daemon has it.
    pub(crate) fn open(root: &Path) -> Result<Self, StateError> {
        let folders = [root.to_owned(), root.join("history"), root.join("sources")];
        for folder in &folders {
            if let Err(e) = make_folder(folder) {
                tracing::debug!("{e}");
            }
        }
        let state = Self {
            root: root.to_owned(),
            said: Mutex::default(),
            _lock: None,
        };
        let trouble = state.trouble();
        match (state.misplaced(), &trouble) {
            // It is said with what is lost by it.
            (Some(_), _) | (_, None) => {}
            (None, Some(words)) => tracing::error!("{words}; no change can be kept until then"),
        }
        let path = root.join("lock");
        let made = regular::open_with(
            File::options().create(true).truncate(false).write(true),
            &path,
        );
        drop(made);
        // A lock needs no right to write, and so no disk that can be written to.
        let file = regular::open(&path).map_err(failed("open", &path));
        let lock = match file.and_then(|file| lock(file, root, "`--state-dir`")) {
            Ok(file) => Some(file),
            Err(e @ StateError::Taken { .. }) => return Err(e),
            Err(e) => {
                // Pins have a lock of their own.
                if trouble.is_none() {
                    tracing::error!("{e}");
                }
                None
            }
        };
        for folder in &folders {
            tidy(folder);
        }
        Ok(Self {
            _lock: lock,
            said: Mutex::new(trouble),
            ..state
        })
    }

    /// Why there can be no files of it at all; `None`: there can.
    fn misplaced(&self) -> Option<&'static str> {
        (self.root.exists() && !self.root.is_dir()).then_some("it is not a folder; move it away")
    }

    /// Whether what is wrong with it now was so at the start, and need not be said again.
    pub(super) fn is_said(&self) -> bool {
        let said = self.said();
        said.is_some() && *said == self.trouble()
    }

    /// Something has been kept: what is wrong from now on is news.
    pub(super) fn is_in_order(&self) {
        *self.said() = None;
    }

    fn said(&self) -> MutexGuard<'_, Option<String>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can be kept, as far as that shows without trying; `None`: it can.
    pub(super) fn trouble(&self) -> Option<String> {
        for folder in [&self.root, &self.root.join("history")] {
            let name = quoted(&folder.display().to_string());
            if folder.exists() && !folder.is_dir() {
                return Some(format!("{name} is not a folder; move it away"));
            }
            // One that is missing is made by the next change.
            let there = folder.ancestors().find(|folder| folder.exists());
            let rights = AccessFlags::W_OK | AccessFlags::X_OK;
            if let Some(there) = there
                && let Err(e) = access(there, rights)
            {
                return Some(format!(
                    "{name} cannot be written to: {}",
                    io::Error::from(e)
                ));
            }
        }
        let full = statvfs(&self.root).is_ok_and(|disk| disk.blocks_available() == 0);
        let name = quoted(&self.root.display().to_string());
        full.then(|| format!("the disk of {name} is full; make room"))
    }

    pub(crate) fn snapshot(&self) -> PathBuf {
        snapshot_path(&self.root)
    }

    /// Where files that were fetched are.
    pub(super) fn sources(&self) -> PathBuf {
        self.root.join("sources")
    }

    /// Which ASNs have metrics of their own.
    pub(super) fn metrics(&self) -> PathBuf {
        self.root.join("metrics.json")
    }

    /// The database that the gate holds back.
    pub(super) fn held(&self) -> PathBuf {
        self.root.join("asndb.held.snapshot")
    }

    /// What live BGP had.
    pub(super) fn bgp(&self) -> PathBuf {
        self.root.join("bgp.routes")
    }

    /// Since when and why.
    pub(super) fn held_reasons(&self) -> PathBuf {
        self.root.join("asndb.held.json")
    }

    pub(super) fn overlay(&self) -> PathBuf {
        self.root.join("overlay.toml")
    }

    /// Who changed what.
    pub(super) fn changes(&self) -> PathBuf {
        self.root.join("changes.jsonl")
    }

    /// One that could not be read; there until somebody has looked at it.
    pub(super) fn overlay_aside(&self) -> PathBuf {
        self.root.join("overlay.damaged")
    }

    /// What could not be read of the policy that was live; there until another is applied.
    pub(super) fn policy_aside(&self) -> PathBuf {
        self.root.join("current.damaged")
    }

    fn current(&self) -> PathBuf {
        current_path(&self.root)
    }

    fn record_path(&self, number: u64) -> PathBuf {
        self.root.join("history").join(format!("{number}.json"))
    }

    /// Numbers of all records, newest first.
    fn numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(self.root.join("history"));
        let mut numbers: Vec<u64> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                name.to_str()?.strip_suffix(".json")?.parse().ok()
            })
            .collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers
    }

    /// One record.
    pub(super) fn record(&self, number: u64) -> Result<Record, Damage> {
        let path = self.record_path(number);
        let bytes = found::read(&path)?.ok_or_else(|| Damage::new(&path, "it is missing"))?;
        sealed::read_json(&bytes).map_err(|why| Damage::new(&path, why))
    }

    /// All records that can be read, newest first.
    pub(super) fn history(&self) -> Vec<Record> {
        self.numbers()
            .into_iter()
            .filter_map(|number| self.record(number).ok())
            .take(HISTORY)
            .collect()
    }

    /// What is to be kept of what is live, in the order in which it is to be committed.
    pub(super) fn prepare(
        &self,
        current: &Current,
        record: &Record,
        overlay: &Overlay,
    ) -> Result<Vec<Prepared>, StateError> {
        let text = overlay.to_toml();
        let whole = Whole {
            current: Cow::Borrowed(current),
            record: Cow::Borrowed(record),
            overlay: Cow::Borrowed(&text),
        };
        let (path, last) = (self.record_path(record.number), self.current());
        let sealed = |path, bytes: Result<Vec<u8>, serde_json::Error>| {
            bytes.map_err(|e| failed("write", path)(io::Error::other(e)))
        };
        let mut files = Vec::new();
        if !self.record(record.number).is_ok_and(|copy| copy == *record) {
            let bytes = sealed(&path, sealed::json(record))?;
            files.push(Prepared::write(&path, &bytes)?);
        }
        let whole = sealed(&last, sealed::json(&whole))?;
        files.push(Prepared::write(
            &self.overlay(),
            &sealed::toml(text.clone()),
        )?);
        files.push(Prepared::write(&last, &whole)?);
        Ok(files)
    }

    /// Forgets old policies, but none that something leads back to.
    pub(super) fn prune(&self, current: &Current) {
        let back_to = current.pending.as_ref().map(|pending| pending.back_to);
        let before = self.record(current.live).ok();
        let before = before.and_then(|record| record.before);
        for number in self.numbers().into_iter().skip(HISTORY) {
            let kept = [Some(current.live), back_to, before].contains(&Some(number));
            if !kept {
                let _ = fs::remove_file(self.record_path(number));
            }
        }
    }
}
