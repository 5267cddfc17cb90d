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
//! boot-guard*.nft    what the next boot holds until kordon enforces
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
//!
//! [`files`] replaces files whole, [`lock`] keeps a second daemon off. [`kept`] is what of all
//! this the core has in memory; [`journal`]: who changed what.

mod files;
mod found;
pub(crate) mod journal;
pub(crate) mod kept;
mod lock;
mod sealed;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use nix::{
    sys::statvfs::statvfs,
    unistd::{AccessFlags, access},
};
use serde::{Deserialize, Serialize};

use self::files::{failed, make_folder};
pub(crate) use self::{
    files::{Before, Prepared, StateError, commit},
    found::{Damage, Loaded},
    lock::lock_pins_again,
};
pub(crate) use self::{
    found::recorded,
    lock::{holder, lock_pins},
};
use super::log::Repeated;
use crate::{
    asn,
    diagnostic::quoted,
    policy::{Bundle, Overlay},
    regular,
};

/// Policies that are kept.
pub(crate) const HISTORY: usize = 20;

/// One policy that was live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// From 1, rising.
    pub(crate) number: u64,
    /// What was live before: where `rollback` leads.
    pub(crate) before: Option<u64>,
    /// When it went live.
    pub(crate) applied_at: Timestamp,
    /// `start`, `apply` or `reload`.
    pub(crate) by: String,
    /// The `policy_hash` of what was last live with it, overlay included: as `status` had it.
    pub(crate) hash: String,
    /// Its text and list files.
    pub(crate) bundle: Bundle,
}

/// Which record is live.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Current {
    /// Its number.
    pub(crate) live: u64,
    /// The highest number given.
    pub(crate) last: u64,
    /// It goes by itself unless confirmed.
    pub(crate) pending: Option<Pending>,
    /// The ASN database that was in use, in hexadecimal; `None`: an empty one.
    pub(crate) database: Option<String>,
    /// Live BGP has had something in effect: it is in a file of its own, which has to be there.
    #[serde(default)]
    pub(crate) routes: bool,
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
pub(crate) struct Pending {
    /// Until then.
    pub(crate) until: Timestamp,
    /// What comes back.
    pub(crate) back_to: u64,
}

/// The state's folder, held by this process.
#[derive(Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
    /// What was wrong with it last.
    said: Mutex<Repeated>,
    lock: Mutex<Option<File>>,
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
            lock: Mutex::default(),
        };
        let trouble = state.trouble();
        if let Some(words) = &trouble {
            state.said().is_news(words);
            // Otherwise it is said with what is lost by it.
            if state.misplaced().is_none() {
                tracing::error!("{words}; no change can be kept until then");
            }
        }
        match state.take() {
            Ok(()) => {}
            Err(e @ StateError::Taken { .. }) => return Err(e),
            Err(e) => {
                // Pins have a lock of their own.
                if trouble.is_none() {
                    tracing::error!("{e}");
                }
            }
        }
        for folder in &folders {
            tidy(folder);
        }
        Ok(state)
    }

    /// Locks it, also where somebody has removed it and there is another by now.
    ///
    /// # Errors
    /// When another daemon has it.
    pub(crate) fn take(&self) -> Result<(), StateError> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.root.join("lock");
        if !self.root.is_dir() || held.as_ref().is_some_and(|held| lock::is_of(held, &path)) {
            return Ok(());
        }
        let made = regular::open_with(
            File::options().create(true).truncate(false).write(true),
            &path,
        );
        drop(made);
        // A lock needs no right to write, and so no disk that can be written to.
        let file = regular::open(&path).map_err(failed("open", &path))?;
        *held = Some(lock::lock(file, &self.root, "`--state-dir`")?);
        Ok(())
    }

    /// Why there can be no files of it at all; `None`: there can.
    fn misplaced(&self) -> Option<&'static str> {
        (self.root.exists() && !self.root.is_dir()).then_some("it is not a folder; move it away")
    }

    /// Says what cannot be kept, unless why has been said and is still so.
    pub(crate) fn tell(&self, words: &str) {
        let trouble = self.trouble();
        if self.said().is_news(trouble.as_deref().unwrap_or(words)) {
            tracing::error!("{words}");
        }
    }

    /// Something has been kept: what is wrong from now on is news.
    pub(crate) fn is_in_order(&self) {
        self.said().end();
    }

    fn said(&self) -> MutexGuard<'_, Repeated> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can be kept, as far as that shows without trying; `None`: it can.
    pub(crate) fn trouble(&self) -> Option<String> {
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

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn snapshot(&self) -> PathBuf {
        snapshot_path(&self.root)
    }

    /// Where files that were fetched are.
    pub(crate) fn sources(&self) -> PathBuf {
        self.root.join("sources")
    }

    /// Which ASNs have metrics of their own.
    pub(crate) fn metrics(&self) -> PathBuf {
        self.root.join("metrics.json")
    }

    /// The database that the gate holds back.
    pub(crate) fn held(&self) -> PathBuf {
        self.root.join("asndb.held.snapshot")
    }

    /// What live BGP had.
    pub(crate) fn bgp(&self) -> PathBuf {
        self.root.join("bgp.routes")
    }

    /// Since when and why.
    pub(crate) fn held_reasons(&self) -> PathBuf {
        self.root.join("asndb.held.json")
    }

    pub(crate) fn overlay(&self) -> PathBuf {
        self.root.join("overlay.toml")
    }

    /// Who changed what.
    pub(crate) fn changes(&self) -> PathBuf {
        self.root.join("changes.jsonl")
    }

    /// One that could not be read; there until somebody has looked at it.
    pub(crate) fn overlay_aside(&self) -> PathBuf {
        self.root.join("overlay.damaged")
    }

    /// What could not be read of the policy that was live; there until another is applied.
    pub(crate) fn policy_aside(&self) -> PathBuf {
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
    pub(crate) fn record(&self, number: u64) -> Result<Record, Damage> {
        let path = self.record_path(number);
        let bytes = found::read(&path)?.ok_or_else(|| Damage::new(&path, "it is missing"))?;
        sealed::read_json(&bytes).map_err(|why| Damage::new(&path, why))
    }

    /// All records that can be read, newest first.
    pub(crate) fn history(&self) -> Vec<Record> {
        self.numbers()
            .into_iter()
            .filter_map(|number| self.record(number).ok())
            .take(HISTORY)
            .collect()
    }

    /// What is to be kept of what is live, in the order in which it is to be committed.
    pub(crate) fn prepare(
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
    pub(crate) fn prune(&self, current: &Current) {
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
