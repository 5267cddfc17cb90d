//! The database on disk, so that a start needs neither sources nor seconds.
//!
//! ```text
//! offset  size  field
//!      0     8  magic "kordonDB"
//!      8     4  version
//!     12     4  CRC-32 (IEEE) of everything behind the header
//!     16     8  length of everything behind the header
//!     24        sections: a count (u64), then that many records, without padding
//! ```
//!
//! Integers are little-endian. The [`sections`] are those of [`AsnDb`], in its order.
//! The checksum finds damage; it is no protection against somebody who may write the
//! file. What a reader relies on (order, indices) is checked besides, so that a wrong
//! file is an error and never a panic.
//!
//! The file is mapped while it is read, and let go when the database is built: a
//! snapshot is replaced by renaming, never written to, so that what is mapped stays as
//! it is. Loading has three steps that can be timed: [`open`], [`Opened::verify`],
//! [`Verified::database`].

mod sections;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;

use super::model::AsnDb;
use crate::diagnostic::Problem;
use crate::regular;

/// First bytes of a snapshot.
pub(super) const MAGIC: &[u8; 8] = b"kordonDB";
const VERSION: u32 = 2;
const HEADER: usize = 24;

fn io_error<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Problem + 'a {
    move |error| {
        let path = path.display();
        Problem::new(
            format!("cannot {operation} snapshot `{path}`: {error}"),
            "check the path and its permissions",
        )
    }
}

/// Of a file that is not as it was written.
fn unusable(path: &Path, what: impl std::fmt::Display) -> Problem {
    Problem::new(
        format!("snapshot `{}` {what}", path.display()),
        "run `kordon asndb import` again, or put back the file that ends in `.previous`",
    )
}

/// Whether a file begins like a snapshot, whatever its state.
#[must_use]
pub fn is_snapshot(path: &Path) -> bool {
    regular::starts_with(path, MAGIC)
}

/// Whether a file of this name is one that [`save`] did not come to the end of.
#[must_use]
pub fn is_unfinished(name: &str) -> bool {
    name.ends_with(".tmp") || name.ends_with(".tmp.old")
}

/// Where [`save`] keeps the snapshot that it replaces.
#[must_use]
pub fn previous_path(path: &Path) -> PathBuf {
    with_suffix(path, ".previous")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Writes the database, replacing `path` in one step: at any moment, whatever
/// fails, there is the old file or the new one. An old one that is intact stays as
/// [`previous_path`].
///
/// # Errors
///
/// When the system refuses; `path` is unchanged then.
pub fn save(db: &AsnDb, path: &Path) -> Result<(), Problem> {
    Unnamed::write(db, path)?.commit()
}

/// A snapshot that is written and synced, and lacks nothing but its name; removed when dropped.
#[derive(Debug)]
pub struct Unnamed {
    path: PathBuf,
    temporary: PathBuf,
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        // It may not even exist.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl Unnamed {
    /// Writes what is to be at `path`.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn write(db: &AsnDb, path: &Path) -> Result<Self, Problem> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let unnamed = Self {
            path: path.to_owned(),
            temporary: with_suffix(path, &format!(".{}-{serial}.tmp", process::id())),
        };
        let temporary = &unnamed.temporary;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(temporary)
            .map_err(io_error("create", temporary))?;
        file.write_all(&encode(db))
            .and_then(|()| file.sync_all())
            .map_err(io_error("write", temporary))?;
        Ok(unnamed)
    }

    /// Gives it its name; what had it is the previous one.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn commit(self) -> Result<(), Problem> {
        let (path, temporary) = (&self.path, &self.temporary);
        keep_previous(path, &with_suffix(temporary, ".old"))?;
        fs::rename(temporary, path).map_err(io_error("replace", path))?;
        // Without this the rename itself may be lost with the power.
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io_error("sync the folder of", path))
    }
}

/// Links instead of renaming, so that `path` never disappears. A damaged file must
/// not take the place of a good older one.
fn keep_previous(path: &Path, link: &Path) -> Result<(), Problem> {
    let previous = previous_path(path);
    match regular::map(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("read", path)(error)),
        Ok(bytes) if body(&bytes, path).is_err() => return Ok(()),
        Ok(_) => {}
    }
    // Some file systems have no hard links.
    let kept = fs::hard_link(path, link)
        .or_else(|_| fs::copy(path, link).map(|_| ()))
        .and_then(|()| fs::rename(link, &previous));
    // Where it failed; and where both are one file already, renaming does nothing.
    let _ = fs::remove_file(link);
    kept.map_err(io_error("keep", &previous))
}

/// A snapshot whose bytes have not been looked at.
pub struct Opened {
    path: PathBuf,
    bytes: Mmap,
}

/// A snapshot that is as it was written.
pub struct Verified(Opened);

/// Maps a snapshot.
///
/// # Errors
///
/// When it cannot be opened, or is no file.
pub fn open(path: &Path) -> Result<Opened, Problem> {
    let bytes = regular::map(path).map_err(io_error("read", path))?;
    Ok(Opened {
        path: path.to_owned(),
        bytes,
    })
}

impl Opened {
    /// Compares the bytes with their checksum.
    ///
    /// # Errors
    ///
    /// When it is not whole, not as it was written, or not of this version.
    pub fn verify(self) -> Result<Verified, Problem> {
        body(&self.bytes, &self.path)?;
        Ok(Verified(self))
    }
}

impl Verified {
    /// Builds the database.
    ///
    /// # Errors
    ///
    /// When what is in it is not what [`save`] writes.
    pub fn database(self) -> Result<AsnDb, Problem> {
        let Self(Opened { path, bytes }) = self;
        parsed(&bytes[HEADER..], &path)
    }
}

/// Reads a snapshot.
///
/// # Errors
///
/// Every way in which it is not exactly what [`save`] of this version wrote.
pub fn load(path: &Path) -> Result<AsnDb, Problem> {
    open(path)?.verify()?.database()
}

/// A snapshot that is in memory already.
pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<AsnDb, Problem> {
    parsed(body(bytes, path)?, path)
}

fn parsed(body: &[u8], path: &Path) -> Result<AsnDb, Problem> {
    sections::read(body).map_err(|what| unusable(path, format_args!("is malformed: {what}")))
}

pub(super) fn encode(db: &AsnDb) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.resize(HEADER, 0);
    sections::write(db, &mut out);
    let crc = crc32fast::hash(&out[HEADER..]);
    let length = (out.len() - HEADER) as u64;
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out[16..24].copy_from_slice(&length.to_le_bytes());
    out
}

/// What stands behind the header, when it is intact.
fn body<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a [u8], Problem> {
    if !bytes.starts_with(MAGIC) {
        return Err(Problem::new(
            format!("`{}` is not a snapshot of kordon", path.display()),
            "sources become a snapshot with `kordon asndb import`",
        ));
    }
    // The version first: another one may check itself in another way.
    if let Some(found) = bytes.get(8..12).and_then(|b| b.first_chunk()) {
        let found = u32::from_le_bytes(*found);
        if found != VERSION {
            let what = format_args!("has version {found}, this kordon reads version {VERSION}");
            return Err(unusable(path, what));
        }
    }
    let length = |expected: u64| {
        let found = bytes.len();
        unusable(
            path,
            format_args!("has {found} bytes instead of {expected}"),
        )
    };
    let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(length(HEADER as u64));
    };
    let [_, _, _, a, b, c] = bytemuck::cast::<[u8; HEADER], [[u8; 4]; 6]>(*header);
    let crc = u32::from_le_bytes(a);
    let expected = u64::from_le_bytes(bytemuck::cast([b, c]));
    if expected != body.len() as u64 {
        return Err(length(expected.saturating_add(HEADER as u64)));
    }
    if crc != crc32fast::hash(body) {
        return Err(unusable(path, "is damaged: its checksum is wrong"));
    }
    Ok(body)
}
