//! What outlives the controller on disk:
//!
//! ```text
//! lock               held by the running daemon
//! current.json       which policy is live: the one commit point
//! history/<n>.json   every applied policy with its list files, whole
//! overlay.toml       what `block` and `allow` added
//! asndb.snapshot     the ASN database
//! asndb.held.*       one that is held back, and why
//! sources/           what was fetched
//! bgp.routes         what live BGP had
//! metrics.json       which ASNs have series, once there are too many for all
//! ```
//!
//! A policy is written to `history/` and then named by
//! `current.json`, so that a crash at any point leaves the old or the new
//! one, never a mixture. Everything is written to a temporary file and synced
//! beforehand: what is left to do is a rename, which needs no room. Names are given when all else
//! is done but the kernel's swap, and taken back where that fails.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tempfile::{NamedTempFile, TempPath};

use crate::{
    asn,
    datapath::faults::{self, Step},
    diagnostic::quoted,
    policy::Bundle,
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
    /// A file is not what was written.
    #[error("{} is damaged: {source}; it is ignored", quoted(.path))]
    Damaged {
        /// Which file.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
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
    /// Its `policy_hash` then, overlay included.
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
            let mut file = NamedTempFile::with_prefix_in(".new-", folder)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        Ok(Self {
            file: write().map_err(failed("write", path))?,
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
        file.persist(&path)
            .map_err(|e| e.error)
            .and_then(|_| File::open(folder)?.sync_all())
            .map_err(failed("replace", &path))
    }
}

/// What files were before they are replaced, by links; forgotten when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Before(Vec<(PathBuf, Option<TempPath>)>);

impl Before {
    /// Of some files, which may not be there yet.
    pub(super) fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Result<Self, StateError> {
        let link = |path: &Path| {
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
                Err(e) => Err(failed("keep", path)(e)),
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
    _lock: File,
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

impl StateDir {
    /// Makes the folder if need be, and takes it.
    pub(crate) fn open(root: &Path) -> Result<Self, StateError> {
        make_folder(&root.join("history"))?;
        make_folder(&root.join("sources"))?;
        let path = root.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        let lock = lock(file, root, "`--state-dir`")?;
        for folder in [root, &root.join("sources"), &root.join("history")] {
            tidy(folder);
        }
        Ok(Self {
            root: root.to_owned(),
            _lock: lock,
        })
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

    fn current(&self) -> PathBuf {
        self.root.join("current.json")
    }

    fn record_path(&self, number: u64) -> PathBuf {
        self.root.join("history").join(format!("{number}.json"))
    }

    /// What was live last. Where that cannot be read, the newest policy that can,
    /// and what is wrong.
    pub(super) fn load(&self) -> (Option<(Current, Record)>, Vec<StateError>) {
        let mut problems = Vec::new();
        let current = match read::<Current>(&self.current()) {
            Ok(Some(current)) => Some(current),
            Ok(None) => None,
            Err(e) => {
                problems.push(e);
                None
            }
        };
        if let Some(current) = &current {
            // What was written for an apply that never came to its end.
            for number in self.numbers() {
                if number > current.last {
                    let _ = fs::remove_file(self.record_path(number));
                }
            }
            match self.record(current.live) {
                Ok(Some(record)) => return (Some((current.clone(), record)), problems),
                Ok(None) => {
                    let source = io::ErrorKind::NotFound.into();
                    problems.push(failed("read", &self.record_path(current.live))(source));
                }
                Err(e) => problems.push(e),
            }
        } else if problems.is_empty() {
            return (None, problems);
        }
        let numbers = self.numbers();
        let last = numbers.first().copied().unwrap_or_default();
        for number in numbers {
            match self.record(number) {
                Ok(Some(record)) => {
                    let current = Current {
                        live: number,
                        last,
                        pending: None,
                    };
                    return (Some((current, record)), problems);
                }
                Ok(None) => {}
                Err(e) => problems.push(e),
            }
        }
        (None, problems)
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

    /// One record; `None`: there is none of this number.
    pub(super) fn record(&self, number: u64) -> Result<Option<Record>, StateError> {
        read(&self.record_path(number))
    }

    /// All records that can be read, newest first.
    pub(super) fn history(&self) -> Vec<Record> {
        self.numbers()
            .into_iter()
            .filter_map(|number| self.record(number).ok().flatten())
            .take(HISTORY)
            .collect()
    }

    pub(super) fn prepare_record(&self, record: &Record) -> Result<Prepared, StateError> {
        self.prepare(&self.record_path(record.number), record)
    }

    pub(super) fn prepare_current(&self, current: &Current) -> Result<Prepared, StateError> {
        self.prepare(&self.current(), current)
    }

    fn prepare<T: Serialize>(&self, path: &Path, value: &T) -> Result<Prepared, StateError> {
        let bytes =
            serde_json::to_vec(value).map_err(|e| failed("write", path)(io::Error::other(e)))?;
        Prepared::write(path, &bytes)
    }

    /// Forgets old policies, but none that something leads back to.
    pub(super) fn prune(&self, current: &Current) {
        let back_to = current.pending.as_ref().map(|pending| pending.back_to);
        let before = self.record(current.live).ok().flatten();
        let before = before.and_then(|record| record.before);
        for number in self.numbers().into_iter().skip(HISTORY) {
            let kept = [Some(current.live), back_to, before].contains(&Some(number));
            if !kept {
                let _ = fs::remove_file(self.record_path(number));
            }
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", path)(e)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| StateError::Damaged {
            path: path.display().to_string(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> Record {
        Record {
            number,
            before: number.checked_sub(1).filter(|before| *before > 0),
            applied_at: Timestamp::UNIX_EPOCH,
            by: "apply".into(),
            hash: "00".into(),
            bundle: Bundle::from_text("p.toml", &format!("# {number}")),
        }
    }

    fn commit(state: &StateDir, number: u64) {
        let current = Current {
            live: number,
            last: number,
            pending: None,
        };
        let files = [
            state.prepare_record(&record(number)).unwrap(),
            state.prepare_current(&current).unwrap(),
        ];
        for file in files {
            file.commit().unwrap();
        }
        state.prune(&current);
    }

    #[test]
    fn nothing_yet() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(&folder.path().join("a/b")).unwrap();
        let (loaded, problems) = state.load();
        assert!(loaded.is_none() && problems.is_empty());
        let second = StateDir::open(&folder.path().join("a/b")).unwrap_err();
        assert!(second.to_string().contains("--state-dir"), "{second}");
    }

    #[test]
    fn the_last_one_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        for number in 1..=30 {
            commit(&state, number);
        }
        // Written, but the crash came before it was named.
        state.prepare_record(&record(31)).unwrap().commit().unwrap();
        let (loaded, problems) = state.load();
        let (current, live) = loaded.unwrap();
        assert!(problems.is_empty());
        assert_eq!((current.live, live), (30, record(30)));
        assert_eq!(state.record(31).unwrap(), None);
        assert_eq!(state.history().len(), HISTORY);
        let leftovers = fs::read_dir(folder.path())
            .unwrap()
            .filter(|e| {
                let name = e.as_ref().unwrap().file_name();
                name.to_string_lossy().starts_with(".new-")
            })
            .count();
        assert_eq!(leftovers, 0);
    }

    #[test]
    fn damaged_files_cost_as_little_as_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        for number in 1..=3 {
            commit(&state, number);
        }
        let cut = |path: &Path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        };
        cut(&state.current());
        let (loaded, problems) = state.load();
        assert_eq!(loaded.unwrap().1.number, 3);
        assert!(problems[0].to_string().contains("current.json"));
        cut(&state.record_path(3));
        let (loaded, problems) = state.load();
        assert_eq!(loaded.unwrap().1.number, 2);
        assert_eq!(problems.len(), 2);
        commit(&state, 4);
        fs::remove_file(state.record_path(4)).unwrap();
        let (loaded, problems) = state.load();
        let (current, live) = loaded.unwrap();
        assert_eq!((live.number, current.live), (2, 2));
        assert!(!problems.is_empty());
    }
}
