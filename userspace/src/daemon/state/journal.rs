//! Who changed what, when: every change that was accepted, in the log and in
//! `changes.jsonl` of the state folder, whether a user, a signal, the clock or the end of
//! a trial brought it. `kordon history` shows it.
//!
//! ```text
//! {"at":"…","command":"block AS64500 --zone cameras","uid":1000,…,"crc":"1c291ca3"}
//! ```
//!
//! A line is complete or it does not count: each has its checksum. Nothing is decided by
//! them, so that what cannot be read costs nothing but the knowledge.

use std::{
    collections::VecDeque,
    fs::OpenOptions,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Prepared, StateError};
use crate::{
    daemon::{by::By, log::Repeated},
    regular,
};

/// Changes that are kept; the file has at most twice as many.
const KEPT: usize = 1000;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    /// The command, or what happened.
    pub(crate) command: String,
    /// Of whoever asked; null: the daemon itself.
    pub(crate) uid: Option<u32>,
    pub(crate) user: Option<String>,
    /// Who logged in, where that is known.
    pub(crate) login: Option<String>,
    /// `policy_hash` before and after.
    pub(crate) old: Option<String>,
    pub(crate) new: Option<String>,
    /// Number of the policy that is live then.
    pub(crate) policy: Option<u64>,
    /// The ASN database before and after, where it is another one.
    pub(crate) database: Option<(String, String)>,
}

impl Entry {
    /// Of now.
    pub(crate) fn new(by: &By) -> Self {
        let peer = by.peer.as_ref();
        Self {
            at: Timestamp::now(),
            command: by.command.clone(),
            uid: peer.map(|peer| peer.uid),
            user: peer.map(|peer| peer.name.clone()),
            login: peer.and_then(|peer| peer.login.clone()),
            old: None,
            new: None,
            policy: None,
            database: None,
        }
    }

    fn line(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        let body = text.strip_suffix('}').unwrap_or_default();
        let crc = crc32fast::hash(body.as_bytes());
        format!("{body},\"crc\":\"{crc:08x}\"}}\n")
    }

    fn read(line: &str) -> Option<Self> {
        let (body, end) = line.rsplit_once(",\"crc\":\"")?;
        let crc = u32::from_str_radix(end.strip_suffix("\"}")?, 16).ok()?;
        if crc != crc32fast::hash(body.as_bytes()) {
            return None;
        }
        serde_json::from_str(&format!("{body}}}")).ok()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// Oldest first.
    entries: Arc<VecDeque<Entry>>,
    /// How it failed last.
    failing: Repeated,
    /// Lines of the file.
    lines: usize,
    /// It does not end with a whole line.
    torn: bool,
}

impl Journal {
    /// What there is.
    pub(crate) fn open(path: PathBuf) -> Self {
        let bytes = match regular::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if regular::is_absent(&e) => Vec::new(),
            Err(e) => {
                tracing::error!("cannot read {}: {e}", path.display());
                Vec::new()
            }
        };
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().count();
        let mut entries: VecDeque<Entry> = text.lines().filter_map(Entry::read).collect();
        if entries.len() < lines {
            tracing::error!(
                "{} lines of {} are damaged and left out",
                lines - entries.len(),
                path.display()
            );
        }
        entries.drain(..entries.len().saturating_sub(KEPT));
        Self {
            path,
            entries: Arc::new(entries),
            failing: Repeated::default(),
            lines,
            torn: !bytes.is_empty() && !bytes.ends_with(b"\n"),
        }
    }

    /// For readers; oldest first.
    pub(crate) fn view(&self) -> Arc<VecDeque<Entry>> {
        Arc::clone(&self.entries)
    }

    /// Newest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().rev()
    }

    /// Takes a change down. It is live, whether it can be or not.
    pub(crate) fn note(&mut self, entry: Entry) {
        let words = |hash: &Option<String>| match hash {
            Some(hash) => hash.get(..16).unwrap_or(hash).to_owned(),
            None => "nothing".to_owned(),
        };
        tracing::info!(
            user = entry.user.as_deref().unwrap_or("the daemon"),
            login = entry.login.as_deref(),
            uid = entry.uid,
            old = words(&entry.old),
            new = words(&entry.new),
            "changed: {}",
            entry.command
        );
        let line = entry.line();
        let entries = Arc::make_mut(&mut self.entries);
        entries.push_back(entry);
        entries.drain(..entries.len().saturating_sub(KEPT));
        let appended = match self.torn || self.lines >= 2 * KEPT {
            true => None,
            false => self.append(&line).ok(),
        };
        match appended.map_or_else(|| self.rewrite(), Ok) {
            // The folder is a file, which is said elsewhere.
            Err(StateError::Io { source, .. }) if regular::is_absent(&source) => {}
            Err(e) => {
                let e = e.to_string();
                if self.failing.is_news(&e) {
                    tracing::error!("the change is not in the history: {e}");
                }
            }
            Ok(()) => self.failing.end(),
        }
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        let mut file =
            regular::open_with(OpenOptions::new().create(true).append(true), &self.path)?;
        self.lines += 1;
        let written = file
            .write_all(line.as_bytes())
            .and_then(|()| file.sync_data());
        self.torn |= written.is_err();
        written
    }

    fn rewrite(&mut self) -> Result<(), StateError> {
        let text: String = self.entries.iter().map(Entry::line).collect();
        Prepared::write(&self.path, text.as_bytes())?.commit()?;
        (self.lines, self.torn) = (self.entries.len(), false);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn note(journal: &mut Journal, number: usize) {
        journal.note(Entry::new(&By::daemon(&format!("change {number}"))));
    }

    fn commands(journal: &Journal) -> Vec<&str> {
        journal.entries().map(|e| e.command.as_str()).collect()
    }

    #[test]
    fn what_is_whole_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes.jsonl");
        let mut journal = Journal::open(path.clone());
        for number in 1..=3 {
            note(&mut journal, number);
        }
        let whole = fs::read(&path).unwrap();
        assert_eq!(
            commands(&Journal::open(path.clone())),
            ["change 3", "change 2", "change 1"]
        );
        // Cut in the last line: it is lost, and what follows is not.
        fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let mut journal = Journal::open(path.clone());
        assert_eq!(commands(&journal), ["change 2", "change 1"]);
        note(&mut journal, 4);
        assert_eq!(
            commands(&Journal::open(path.clone())),
            ["change 4", "change 2", "change 1"]
        );
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, flipped).unwrap();
            let journal = Journal::open(path.clone());
            for command in commands(&journal) {
                assert!(["change 1", "change 2", "change 3"].contains(&command));
            }
            assert!(journal.entries().count() >= 1);
        }
    }

    #[test]
    fn it_does_not_grow_for_ever_and_needs_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changes.jsonl");
        let mut journal = Journal::open(path.clone());
        for number in 0..KEPT {
            Arc::make_mut(&mut journal.entries)
                .push_back(Entry::new(&By::daemon(&number.to_string())));
        }
        (journal.lines, journal.torn) = (2 * KEPT, true);
        note(&mut journal, 1);
        assert_eq!(Journal::open(path.clone()).entries().count(), KEPT);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), KEPT);
        // Something else is there: it is moved away, or cannot be, and nobody waits for it.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let mut journal = Journal::open(path.clone());
        note(&mut journal, 2);
        assert_eq!(commands(&Journal::open(path.clone())), ["change 2"]);
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut journal = Journal::open(path.clone());
        note(&mut journal, 3);
        assert_eq!(commands(&Journal::open(path)), ["change 3"]);
    }
}
