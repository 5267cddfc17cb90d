//! One pass over all records: what tree they make, and where they differ from the hashes that were kept.
//!
//! The half of the verifier that reads much and decides little. It holds one tile, one line and the edge of a tree in
//! memory, however long the log is. Places come from the names of the files, so a line that is missing in one file does
//! not make the next ones look wrong. What the differences mean is for [`super::verify`].

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tlog_tiles::{Hash, record_hash};

use super::{
    files,
    finding::Finding,
    record::Head,
    tree::{Edge, TILE, WIDTH, read_tile, tile_path},
};

/// How far a time may be before that of the record before: two threads may take the time in another order than they
/// append.
const BACK: SignedDuration = SignedDuration::from_secs(1);

/// A record file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Index of its first record.
    pub(crate) first: u64,
    /// Index of the next file's first, if there is a next file.
    pub(crate) end: Option<u64>,
    /// Bytes of whole lines.
    pub(crate) bytes: u64,
    /// Bytes of the last of them.
    pub(crate) last: u64,
    /// Its lines are not those that were signed, or not as many as the next file's name says.
    pub(crate) suspect: bool,
}

/// What was seen, and where it is now.
pub(crate) struct Walk<'a> {
    folder: &'a Path,
    /// Records that are signed.
    size: u64,
    /// Edge of the signed tree, as the partial tiles say.
    signed: &'a Edge,
    /// Roots of the tree over the records, at the sizes that were asked for and are there.
    pub(crate) roots: BTreeMap<u64, Hash>,
    wanted: BTreeSet<u64>,
    edge: Edge,
    /// All records up to here are there.
    unbroken: bool,
    tile: Option<(u64, Vec<Hash>)>,
    /// Tiles that do not fit the records: level, place, width.
    pub(crate) differing: BTreeSet<(u8, u64, usize)>,
    pub(crate) spans: Vec<Span>,
    pub(crate) findings: Vec<Finding>,
    /// Sequences that are not the index, by file: what moved lines say about themselves.
    pub(crate) sequences: Vec<(u64, Finding)>,
    last: Option<Timestamp>,
    boot: Option<Value>,
    /// Greatest `kordon.forgot_before` that is signed.
    pub(crate) forgot: u64,
    pub(crate) records: u64,
    pub(crate) unsigned: u64,
    pub(crate) torn: u64,
    /// A file was listed and is gone.
    pub(crate) vanished: bool,
}

impl<'a> Walk<'a> {
    /// Prepares a walk over a log of which `size` records are signed, to find the roots at the `wanted` sizes.
    pub(crate) fn new(
        folder: &'a Path,
        size: u64,
        signed: &'a Edge,
        wanted: BTreeSet<u64>,
    ) -> Self {
        Self {
            folder,
            size,
            signed,
            roots: BTreeMap::new(),
            wanted,
            edge: Edge::default(),
            unbroken: true,
            tile: None,
            differing: BTreeSet::new(),
            spans: Vec::new(),
            findings: Vec::new(),
            sequences: Vec::new(),
            last: None,
            boot: None,
            forgot: 0,
            records: 0,
            unsigned: 0,
            torn: 0,
            vanished: false,
        }
    }

    /// Records that are signed.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Path of a record file.
    pub(crate) fn path(&self, first: u64) -> PathBuf {
        self.folder.join(files::name(first))
    }

    /// Reads all files, given by their first records.
    pub(crate) fn all(&mut self, firsts: &[u64]) {
        self.note_root();
        // What is before the first file must have been forgotten; of that the tiles are all that is left.
        for index in 0..firsts.first().copied().unwrap_or(0).min(self.size) {
            match self.kept(index) {
                Some(leaf) => self.push(leaf),
                None => self.unbroken = false,
            }
        }
        for (number, first) in firsts.iter().enumerate() {
            let end = firsts.get(number + 1).copied();
            if let Err(error) = self.file(*first, end) {
                self.vanished |= error.kind() == io::ErrorKind::NotFound;
                self.find(
                    files::name(*first),
                    None,
                    format!("cannot be read: {error}"),
                );
            }
        }
    }

    fn file(&mut self, first: u64, end: Option<u64>) -> io::Result<()> {
        self.unbroken &= first == self.edge.size();
        let path = self.path(first);
        let (mut index, mut suspect, mut shift, mut last) = (first, false, 0, 0);
        let bytes = files::lines(&path, |line, whole| -> io::Result<()> {
            if !whole && end.is_none() {
                self.torn = line.len() as u64;
                return Ok(());
            }
            let number = index - first + 1;
            if !whole {
                self.find(
                    files::name(first),
                    Some(number),
                    "has no end of line".into(),
                );
            }
            let leaf = record_hash(line);
            suspect |= self.differs(index, leaf);
            self.push(leaf);
            self.fields(line, first, index, &mut shift);
            self.records += 1;
            self.unsigned += u64::from(index >= self.size);
            last = line.len() as u64 + 1;
            index += 1;
            Ok(())
        })?;
        self.spans.push(Span {
            first,
            end,
            bytes,
            last,
            suspect: suspect
                || index < self.size && end.is_none()
                || end.is_some_and(|end| end != index),
        });
        Ok(())
    }

    /// Appends to the tree over the records, and compares the inner tiles that become full.
    fn push(&mut self, leaf: Hash) {
        if !self.unbroken {
            return;
        }
        self.edge.push(leaf);
        if self.edge.size().is_multiple_of(TILE) {
            let (folder, size) = (self.folder, self.size);
            let (differing, findings) = (&mut self.differing, &mut self.findings);
            let compared =
                self.edge
                    .settle(|level, n, hashes| -> Result<(), std::convert::Infallible> {
                        // The leaves are compared one by one, as they are read.
                        if level > 0 && n < (size >> (u32::from(level) * 8)) / TILE {
                            match read_tile(folder, level, n, WIDTH) {
                                Ok(kept) if kept == hashes => {}
                                Ok(_) => drop(differing.insert((level, n, WIDTH))),
                                Err(error) => findings.push(unreadable(level, n, WIDTH, &error)),
                            }
                        }
                        Ok(())
                    });
            match compared {
                Ok(()) => {}
            }
        }
        self.note_root();
        if self.edge.size() == self.size {
            for (ours, kept) in self.edge.partials().zip(self.signed.partials()) {
                if ours.2 != kept.2 {
                    self.differing.insert((ours.0, ours.1, ours.2.len()));
                }
            }
        }
    }

    fn note_root(&mut self) {
        let size = self.edge.size();
        if self.wanted.contains(&size) {
            self.roots.insert(size, self.edge.root());
        }
    }

    /// Whether a line is another than the tiles say. What is not signed has no tile yet.
    fn differs(&mut self, index: u64, leaf: Hash) -> bool {
        let differs = self.kept(index).is_some_and(|kept| kept != leaf);
        if differs {
            let n = index / TILE;
            self.differing.insert((0, n, self.width(n)));
        }
        differs
    }

    /// Hashes in a leaf tile of the signed tree.
    fn width(&self, n: u64) -> usize {
        usize::try_from(self.size - n * TILE).map_or(WIDTH, |rest| rest.min(WIDTH))
    }

    /// The hash of a record, as the tiles have it.
    pub(crate) fn kept(&mut self, index: u64) -> Option<Hash> {
        if index >= self.size {
            return None;
        }
        let n = index / TILE;
        if self.tile.as_ref().is_none_or(|(cached, _)| *cached != n) {
            let width = self.width(n);
            let partial = self
                .signed
                .partials()
                .find(|(level, at, _)| *level == 0 && *at == n);
            let hashes = match partial {
                Some((_, _, hashes)) => hashes.to_vec(),
                // Its absence was found when the edge was loaded.
                None if width < WIDTH => Vec::new(),
                None => read_tile(self.folder, 0, n, width).unwrap_or_else(|error| {
                    self.findings.push(unreadable(0, n, width, &error));
                    Vec::new()
                }),
            };
            self.tile = Some((n, hashes));
        }
        let at = usize::from(index.to_le_bytes()[0]);
        self.tile
            .as_ref()
            .and_then(|(_, hashes)| hashes.get(at))
            .copied()
    }

    /// Looks at what the record says of itself. `shift` is how far the sequences of this file are off so far: one line
    /// that is missing is one finding.
    fn fields(&mut self, line: &[u8], first: u64, index: u64, shift: &mut i128) {
        let number = Some(index - first + 1);
        let head = match Head::parse(line) {
            Ok(head) => head,
            Err(what) => return self.find(files::name(first), number, what),
        };
        match head.sequence() {
            Some(sequence) if i128::from(sequence) == i128::from(index) + *shift => {}
            Some(sequence) => {
                *shift = i128::from(sequence) - i128::from(index);
                let what = format!("has the sequence {sequence} and is record {index}");
                self.sequences
                    .push((first, Finding::new(files::name(first), number, what)));
            }
            None => self.find(files::name(first), number, "has no `event.sequence`".into()),
        }
        if index < self.size {
            self.forgot = self.forgot.max(head.forgot_before().unwrap_or(0));
        }
        let booted = head
            .boot()
            .is_some_and(|boot| self.boot.as_ref() != Some(boot));
        match head.at() {
            Ok(at) => {
                if let Some(last) = self.last.filter(|last| last.duration_since(at) > BACK)
                    && !booted
                    && !head.is_clock()
                {
                    let what =
                        format!("a clock set back: it is of {at}, the record before of {last}");
                    self.find(files::name(first), number, what);
                }
                self.last = Some(at);
            }
            Err(what) => self.find(files::name(first), number, what),
        }
        if booted {
            self.boot = head.boot().cloned();
        }
    }

    fn find(&mut self, file: String, line: Option<u64>, what: String) {
        self.findings.push(Finding::new(file, line, what));
    }
}

fn unreadable(level: u8, n: u64, width: usize, error: &io::Error) -> Finding {
    let path = tile_path(level, n, width).display().to_string();
    Finding::new(path, None, format!("cannot be used: {error}"))
}
