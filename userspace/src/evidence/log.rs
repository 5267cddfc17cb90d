//! The writer: appends records, and from time to time makes them durable and signs them.
//!
//! The two are apart because they cost so differently. [`Log::append`] is one `write(2)`: the kernel has the record,
//! and killing the process cannot lose it. [`Log::checkpoint`] waits for the disk. What was appended after the last
//! checkpoint can be lost with the power, and is then missing at the end only.
//!
//! The order in a checkpoint is what makes it safe to stop anywhere: records, then tiles, then `checkpoint`, then its
//! copy in `checkpoints`, then old files go. Each says something only about what is on disk before it. So there is
//! never a signature for records that a loss of power has taken.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use tlog_tiles::record_hash;

use super::{
    checkpoint::{HISTORY, Keys, NEWEST, Signed, remember},
    error::LogError,
    files,
    tree::{Edge, TILE, encode, partial_folder, tile_path},
};

/// Up to so many tiles are waited for one by one. Beyond, one wait for the whole file system is faster.
const FEW: usize = 16;

/// A log that is open for writing. There is at most one for a folder.
#[derive(Debug)]
pub struct Log {
    pub(super) folder: PathBuf,
    /// Holds the lock until it is dropped, or the process dies.
    pub(super) _lock: File,
    pub(super) keys: Keys,
    pub(super) file_size: u64,
    pub(super) file: File,
    /// First record of the file.
    pub(super) first: u64,
    /// Bytes of whole records in the file.
    pub(super) length: u64,
    /// There may be part of a record behind `length`.
    pub(super) spoiled: bool,
    pub(super) edge: Edge,
    pub(super) signed: Option<Signed>,
    /// Files before the current one that have records that were not waited for.
    pub(super) unsynced: Vec<u64>,
    /// Checkpoints in `checkpoints`.
    pub(super) remembered: usize,
    /// The newest is not among them yet.
    pub(super) forgetful: bool,
}

/// What was found when a log was opened.
#[derive(Debug, Default)]
pub struct Opened {
    /// Bytes of a record that were cut off at the end: the process, or the machine, died while it was written.
    pub torn: u64,
    /// Record files that were set aside (renamed to end with `.lost`): after a loss of power they did not follow what
    /// was left of the file before. None of them was signed.
    pub lost: Vec<PathBuf>,
    /// The last whole records, oldest first, without `\n`.
    pub tail: Vec<Vec<u8>>,
}

impl Log {
    /// Records in the log, so the index that the next one gets.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The file that is written, to be waited for beside what goes on: the next checkpoint then waits for little.
    ///
    /// # Errors
    ///
    /// When the system has no more of them.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Whether what is written is where the log was opened: somebody may have moved or removed it.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        let here = fs::metadata(self.path()).map(|file| (file.dev(), file.ino()));
        let written = self.file.metadata().map(|file| (file.dev(), file.ino()));
        matches!((here, written), (Ok(here), Ok(written)) if here == written)
    }

    /// The newest checkpoint.
    #[must_use]
    pub fn signed(&self) -> Option<&Signed> {
        self.signed.as_ref()
    }

    /// Appends one record, `line` without `\n`, and returns its index.
    ///
    /// After it returns, the death of the process loses nothing. The loss of power may: see [`Log::checkpoint`].
    ///
    /// # Errors
    ///
    /// [`LogError::Line`] if it is empty or has a `\n` in it. [`LogError::Io`] if it could not be written in whole: what
    /// was written of it is taken back, the index stays free, and a later call may succeed.
    pub fn append(&mut self, line: &[u8]) -> Result<u64, LogError> {
        if line.is_empty() {
            return Err(LogError::Line("is empty"));
        }
        if line.contains(&b'\n') {
            return Err(LogError::Line("has an end of line in it"));
        }
        if self.spoiled {
            self.take_back()
                .map_err(LogError::io("shorten", &self.path()))?;
        }
        if self.length > 0 && self.length >= self.file_size {
            self.begin()?;
        }
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        if let Err(error) = self.write(&bytes) {
            // If this fails as well, the next append tries again before it writes.
            self.spoiled = self.take_back().is_err();
            return Err(LogError::io("append to", &self.path())(error));
        }
        self.length += bytes.len() as u64;
        let index = self.size();
        self.edge.push(record_hash(line));
        Ok(index)
    }

    /// One write. A second one for the rest would leave half a record if the process died between them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.file.write(bytes) {
                Ok(written) if written == bytes.len() => return Ok(()),
                Ok(written) => {
                    let short = format!("{written} of {} bytes were written", bytes.len());
                    return Err(io::Error::new(io::ErrorKind::StorageFull, short));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.spoiled = false;
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.folder.join(files::name(self.first))
    }

    /// Begins a new record file.
    fn begin(&mut self) -> Result<(), LogError> {
        let first = self.size();
        let path = self.folder.join(files::name(first));
        let mut options = OpenOptions::new();
        self.file = options
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(LogError::io("make", &path))?;
        self.unsynced.push(self.first);
        self.first = first;
        self.length = 0;
        Ok(())
    }

    /// Makes all records durable, writes the hashes that are new, and signs.
    ///
    /// If nothing was appended since the last one, that one is returned and nothing is written. The cost is that of
    /// the records since then, and of some waits for the disk.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`]. The log stays as it was and can be appended to; a later call may succeed.
    pub fn checkpoint(&mut self) -> Result<Signed, LogError> {
        let old = self.signed.as_ref().map_or(0, |signed| signed.size);
        let signed = match &self.signed {
            Some(signed) if signed.size == self.size() => signed.clone(),
            _ => {
                self.sync_records()?;
                self.write_tiles(old)?;
                let path = self.folder.join(NEWEST);
                let signed = self
                    .keys
                    .sign(self.size(), self.edge.root())
                    .map_err(|fault| LogError::damaged(&path, fault.to_string()))?;
                files::replace(&self.folder, NEWEST, signed.text.as_bytes(), 0o644)
                    .map_err(LogError::io("write", &path))?;
                self.signed = Some(signed.clone());
                self.forgetful = true;
                signed
            }
        };
        if self.forgetful {
            self.remembered = remember(&self.folder, &signed, self.remembered)
                .map_err(LogError::io("append to", &self.folder.join(HISTORY)))?;
            self.forgetful = false;
            self.remove_partials(old)
                .map_err(LogError::io("tidy", &self.folder.join("tile")))?;
        }
        Ok(signed)
    }

    fn sync_records(&mut self) -> Result<(), LogError> {
        let moved = !self.unsynced.is_empty() || self.signed.is_none();
        while let Some(first) = self.unsynced.last() {
            let path = self.folder.join(files::name(*first));
            File::open(&path)
                .and_then(|file| file.sync_data())
                .map_err(LogError::io("sync", &path))?;
            self.unsynced.pop();
        }
        self.file
            .sync_data()
            .map_err(LogError::io("sync", &self.path()))?;
        if moved {
            files::sync(&self.folder).map_err(LogError::io("sync", &self.folder))?;
        }
        Ok(())
    }

    /// Writes the tiles that the tree has now and had not at `old` records, and waits for them.
    fn write_tiles(&mut self, old: u64) -> Result<(), LogError> {
        let folder = &self.folder;
        let mut written = Vec::new();
        let mut write = |level: u8, n: u64, hashes: &[_]| {
            let path = folder.join(tile_path(level, n, hashes.len()));
            path.parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(&path, encode(hashes)))
                .map_err(LogError::io("write", &path))?;
            written.push(path);
            Ok(())
        };
        self.edge.settle(&mut write)?;
        for (level, n, hashes) in self.edge.partials() {
            // The same number of hashes on this level are the same hashes.
            if n * TILE + hashes.len() as u64 != old >> (u32::from(level) * 8) {
                write(level, n, hashes)?;
            }
        }
        if written.len() > FEW {
            return File::open(folder)
                .and_then(|file| Ok(rustix::fs::syncfs(&file)?))
                .map_err(LogError::io("sync the file system of", folder));
        }
        for path in written {
            // The folders above it may be new as well.
            for part in path.ancestors().take_while(|part| *part != folder) {
                files::sync(part).map_err(LogError::io("sync", part))?;
            }
        }
        Ok(())
    }

    /// Removes the partial tiles of the tree of `old` records, and what an interrupted checkpoint has left.
    fn remove_partials(&self, old: u64) -> io::Result<()> {
        let (mut from, mut to, mut level) = (old, self.size(), 0);
        while to > 0 {
            let width = to % TILE;
            for n in from / TILE..=to / TILE {
                let partials = self.folder.join(partial_folder(level, n));
                if n < to / TILE || width == 0 {
                    unless_gone(fs::remove_dir_all(&partials))?;
                    continue;
                }
                for entry in fs::read_dir(&partials)? {
                    let entry = entry?;
                    if entry.file_name().to_string_lossy() != width.to_string() {
                        unless_gone(fs::remove_file(entry.path()))?;
                    }
                }
            }
            (from, to, level) = (from / TILE, to / TILE, level + 1);
        }
        Ok(())
    }

    /// Removes the record files that have only records before `index`. The newest file always stays.
    ///
    /// So that this is no hole, the log says it first: `record` is called with the index that the statement gets and
    /// with the first record that will still be there, and returns a record with `event.action` `forget` and that
    /// record in `kordon.forgot_before`. It is appended and signed before anything is removed. The hashes stay, so all
    /// other records can still be proven. Returns the first record that is there; if there was nothing to remove,
    /// nothing is written.
    ///
    /// # Errors
    ///
    /// As of [`Log::append`] and [`Log::checkpoint`]; then nothing was removed. If a file cannot be removed, the next
    /// call removes it.
    pub fn forget_before(
        &mut self,
        index: u64,
        record: impl FnOnce(u64, u64) -> Vec<u8>,
    ) -> Result<u64, LogError> {
        let list = || files::list(&self.folder).map_err(LogError::io("list", &self.folder));
        let (firsts, _) = list()?;
        let kept = firsts
            .iter()
            .copied()
            .rfind(|first| *first <= index)
            .unwrap_or(0);
        if firsts.first().is_none_or(|first| *first >= kept) {
            return Ok(firsts.first().copied().unwrap_or(0));
        }
        self.append(&record(self.size(), kept))?;
        self.checkpoint()?;
        for first in firsts.into_iter().take_while(|first| *first < kept) {
            let path = self.folder.join(files::name(first));
            unless_gone(fs::remove_file(&path)).map_err(LogError::io("remove", &path))?;
        }
        Ok(kept)
    }
}

/// Somebody else having removed it is as good.
fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Takes the lock of a folder.
pub(super) fn lock(folder: &Path) -> Result<File, LogError> {
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(LogError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(LogError::io("lock", &path)(error)),
    }
}
