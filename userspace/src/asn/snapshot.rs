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
//! Integers are little-endian. The sections are those of [`AsnDb`], in its order.
//! The file is read, not mapped: it is copied into vectors anyway, reading takes
//! some tens of milliseconds, and a file that shrinks under a mapping would kill
//! the process. The checksum finds damage; it is no protection against somebody
//! who may write the file. What a reader relies on (order, indices) is checked
//! besides, so that a wrong file is an error and never a panic.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::model::{AsnDb, AsnInfo, Combine, CountryRange, Org, OriginRange, Row, Source, Vrp};
use crate::policy::model::Country;

/// First bytes of a snapshot.
pub(super) const MAGIC: &[u8; 8] = b"kordonDB";
const VERSION: u32 = 2;
const HEADER: usize = 24;

/// Why a snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system refused.
    #[error("cannot {operation} snapshot `{}`: {error}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Something else under this name.
    #[error("`{}` is not a snapshot of kordon", .0.display())]
    NotSnapshot(PathBuf),
    /// Written by another kordon.
    #[error("snapshot `{}` has version {found}, this kordon reads version {VERSION}", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// Shorter or longer than it says.
    #[error("snapshot `{}` has {found} bytes instead of {expected}", path.display())]
    Length {
        /// Which file.
        path: PathBuf,
        /// By its header.
        expected: u64,
        /// By the file system.
        found: u64,
    },
    /// The bytes are not those that were written.
    #[error("snapshot `{}` is damaged: its checksum is wrong", .0.display())]
    Checksum(PathBuf),
    /// The bytes are those that were written, and make no sense.
    #[error("snapshot `{}` is malformed: {what}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
    },
}

impl SnapshotError {
    /// What would cure it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Io { .. } => "check the path and its permissions",
            Self::NotSnapshot(_) => "sources become a snapshot with `kordon asndb import`",
            _ => "run `kordon asndb import` again, or put back the file that ends in `.previous`",
        }
    }
}

fn io_error<'a>(
    operation: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> SnapshotError + 'a {
    move |error| SnapshotError::Io {
        operation,
        path: path.to_owned(),
        error,
    }
}

/// Whether a file begins like a snapshot, whatever its state. Only looks at
/// regular files: from a pipe the bytes would be gone.
#[must_use]
pub fn is_snapshot(path: &Path) -> bool {
    let mut magic = [0; MAGIC.len()];
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok())
        && magic == *MAGIC
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
/// [`SnapshotError::Io`]; `path` is unchanged then.
pub fn save(db: &AsnDb, path: &Path) -> Result<(), SnapshotError> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let temporary = with_suffix(path, &format!(".{}-{serial}.tmp", process::id()));
    let written = replace(&encode(db), path, &temporary);
    if written.is_err() {
        // The error to report is the first one; the file may not even exist.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn replace(bytes: &[u8], path: &Path, temporary: &Path) -> Result<(), SnapshotError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(temporary)
        .map_err(io_error("create", temporary))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", temporary))?;
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

/// Links instead of renaming, so that `path` never disappears. A damaged file must
/// not take the place of a good older one.
fn keep_previous(path: &Path, link: &Path) -> Result<(), SnapshotError> {
    let previous = previous_path(path);
    let intact = match fs::read(path) {
        Ok(bytes) => body(&bytes, path).is_ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    if !intact {
        return Ok(());
    }
    // Some file systems have no hard links.
    fs::hard_link(path, link)
        .or_else(|_| fs::copy(path, link).map(|_| ()))
        .and_then(|()| fs::rename(link, &previous))
        .map_err(|error| {
            let _ = fs::remove_file(link);
            io_error("keep", &previous)(error)
        })
}

/// Reads a snapshot.
///
/// # Errors
///
/// Every way in which it is not exactly what [`save`] of this version wrote.
pub fn load(path: &Path) -> Result<AsnDb, SnapshotError> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    decode(&bytes, path)
}

pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<AsnDb, SnapshotError> {
    // The version first: another one may check itself in another way.
    if bytes.len() >= 12 && bytes.starts_with(MAGIC) {
        let found = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if found != VERSION {
            return Err(SnapshotError::Version {
                path: path.to_owned(),
                found,
            });
        }
    }
    let body = body(bytes, path)?;
    let malformed = |what| SnapshotError::Malformed {
        path: path.to_owned(),
        what,
    };
    let db = sections(&mut Reader { left: body }).map_err(malformed)?;
    check(&db).map_err(malformed)?;
    Ok(db)
}

/// What stands behind the header, when it is intact.
fn body<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a [u8], SnapshotError> {
    if bytes.len() < MAGIC.len() || !bytes.starts_with(MAGIC) {
        return Err(SnapshotError::NotSnapshot(path.to_owned()));
    }
    let length = |expected: u64| SnapshotError::Length {
        path: path.to_owned(),
        expected,
        found: bytes.len() as u64,
    };
    if bytes.len() < HEADER {
        return Err(length(HEADER as u64));
    }
    let (header, body) = bytes.split_at(HEADER);
    let mut fields = Reader {
        left: &header[12..],
    };
    let (Ok(crc), Ok(expected)) = (fields.get::<u32>(), fields.get::<u64>()) else {
        return Err(length(HEADER as u64));
    };
    if expected != body.len() as u64 {
        return Err(length(expected.saturating_add(HEADER as u64)));
    }
    if crc != crc32fast::hash(body) {
        return Err(SnapshotError::Checksum(path.to_owned()));
    }
    Ok(body)
}

/// An integer in the file.
trait Field: Sized + Copy {
    const SIZE: usize;
    fn put(self, out: &mut Vec<u8>);
    /// `bytes` has [`Self::SIZE`] bytes.
    fn of(bytes: &[u8]) -> Option<Self>;
}

macro_rules! fields {
    ($($int:ty),*) => {$(
        impl Field for $int {
            const SIZE: usize = size_of::<$int>();

            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn of(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_le_bytes)
            }
        }
    )*};
}

fields!(u8, u16, u32, u64, u128, i64);

impl Field for Country {
    const SIZE: usize = 2;

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        // `from_str` would repair lower case; a snapshot has none.
        let code: [u8; 2] = bytes.try_into().ok()?;
        code.iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(code))
    }
}

fn put_list<T>(items: &[T], out: &mut Vec<u8>, mut each: impl FnMut(&T, &mut Vec<u8>)) {
    (items.len() as u64).put(out);
    for item in items {
        each(item, out);
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    (text.len() as u32).put(out);
    out.extend_from_slice(text.as_bytes());
}

fn put_ranges<A: Field>(ranges: &[OriginRange<A>], out: &mut Vec<u8>) {
    put_list(ranges, out, |range, out| {
        range.start.put(out);
        range.end.put(out);
        range.origins.put(out);
    });
}

fn put_countries<A: Field>(ranges: &[CountryRange<A>], out: &mut Vec<u8>) {
    put_list(ranges, out, |range, out| {
        range.start.put(out);
        range.end.put(out);
        range.country.put(out);
    });
}

fn put_rows<A: Field>(rows: &[Row<A>], out: &mut Vec<u8>) {
    put_list(rows, out, |row, out| {
        row.start.put(out);
        row.end.put(out);
        row.asn.put(out);
        row.source.put(out);
        row.line.put(out);
    });
}

fn put_country(country: Option<Country>, out: &mut Vec<u8>) {
    out.extend_from_slice(&country.map_or([0, 0], |country| country.0));
}

fn put_vrps<A: Field>(vrps: &[Vrp<A>], out: &mut Vec<u8>) {
    put_list(vrps, out, |vrp, out| {
        vrp.start.put(out);
        out.extend_from_slice(&[vrp.len, vrp.max]);
        vrp.asn.put(out);
        vrp.source.put(out);
        vrp.line.put(out);
    });
}

pub(super) fn encode(db: &AsnDb) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    VERSION.put(&mut out);
    out.resize(HEADER, 0);
    put_ranges(&db.v4, &mut out);
    put_ranges(&db.v6, &mut out);
    put_list(&db.origins, &mut out, |set, out| {
        (set.len() as u32).put(out);
        for asn in set {
            asn.put(out);
        }
    });
    put_countries(&db.countries_v4, &mut out);
    put_countries(&db.countries_v6, &mut out);
    put_rows(&db.rows_v4, &mut out);
    put_rows(&db.rows_v6, &mut out);
    put_list(&db.asns, &mut out, |(asn, info), out| {
        asn.put(out);
        put_country(info.country, out);
        put_text(&info.name, out);
    });
    put_list(&db.orgs, &mut out, |org, out| {
        put_text(&org.id, out);
        put_text(&org.name, out);
        put_country(org.country, out);
        put_list(&org.asns, out, |asn, out| asn.put(out));
    });
    put_vrps(&db.vrps_v4, &mut out);
    put_vrps(&db.vrps_v6, &mut out);
    out.push(match db.combine {
        Combine::Union => 0,
        Combine::Priority => 1,
    });
    put_list(&db.sources, &mut out, |source, out| {
        put_text(&source.file, out);
        put_text(&source.format, out);
        source.rows.put(out);
        source.skipped.put(out);
    });
    db.imported.put(&mut out);
    let crc = crc32fast::hash(&out[HEADER..]);
    let length = (out.len() - HEADER) as u64;
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out[16..24].copy_from_slice(&length.to_le_bytes());
    out
}

type Read1<T> = Result<T, &'static str>;

const SHORT: &str = "a section is longer than the file";

struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Read1<&'a [u8]> {
        let (bytes, left) = self.left.split_at_checked(size).ok_or(SHORT)?;
        self.left = left;
        Ok(bytes)
    }

    fn get<T: Field>(&mut self) -> Read1<T> {
        T::of(self.take(T::SIZE)?).ok_or("a country is not two letters")
    }

    /// A list whose items take at least `least` bytes each: so a wrong count is
    /// found before memory is set aside for it.
    fn list<T>(
        &mut self,
        least: usize,
        mut each: impl FnMut(&mut Self) -> Read1<T>,
    ) -> Read1<Vec<T>> {
        let count = self.get::<u64>()?;
        let fits = (self.left.len() / least) as u64;
        if count > fits {
            return Err(SHORT);
        }
        (0..count).map(|_| each(self)).collect()
    }

    fn text(&mut self) -> Read1<String> {
        let size = self.get::<u32>()?;
        let bytes = self.take(size as usize)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| "a text is not UTF-8")
    }

    fn ranges<A: Field>(&mut self) -> Read1<Vec<OriginRange<A>>> {
        self.list(2 * A::SIZE + 4, |from| {
            Ok(OriginRange {
                start: from.get()?,
                end: from.get()?,
                origins: from.get()?,
            })
        })
    }

    fn countries<A: Field>(&mut self) -> Read1<Vec<CountryRange<A>>> {
        self.list(2 * A::SIZE + 2, |from| {
            Ok(CountryRange {
                start: from.get()?,
                end: from.get()?,
                country: from.get()?,
            })
        })
    }

    fn rows<A: Field>(&mut self) -> Read1<Vec<Row<A>>> {
        self.list(2 * A::SIZE + 10, |from| {
            Ok(Row {
                start: from.get()?,
                end: from.get()?,
                asn: from.get()?,
                source: from.get()?,
                line: from.get()?,
            })
        })
    }
}

fn country(from: &mut Reader<'_>) -> Read1<Option<Country>> {
    match from.take(2)? {
        [0, 0] => Ok(None),
        code => Ok(Some(
            Country::of(code).ok_or("a country is not two letters")?,
        )),
    }
}

fn vrps<A: Field>(from: &mut Reader<'_>) -> Read1<Vec<Vrp<A>>> {
    from.list(A::SIZE + 12, |from| {
        let start = from.get()?;
        let [len, max] = *from.take(2)? else {
            return Err(SHORT);
        };
        Ok(Vrp {
            start,
            len,
            max,
            asn: from.get()?,
            source: from.get()?,
            line: from.get()?,
        })
    })
}

fn sections(from: &mut Reader<'_>) -> Read1<AsnDb> {
    let db = AsnDb {
        v4: from.ranges()?,
        v6: from.ranges()?,
        origins: from.list(4, |from| {
            let size = from.get::<u32>()?;
            let bytes = from.take(size as usize * 4)?;
            Ok(bytes.chunks_exact(4).filter_map(u32::of).collect())
        })?,
        countries_v4: from.countries()?,
        countries_v6: from.countries()?,
        rows_v4: from.rows()?,
        rows_v6: from.rows()?,
        asns: from.list(10, |from| {
            let asn = from.get()?;
            let country = country(from)?;
            let name = from.text()?;
            Ok((asn, AsnInfo { name, country }))
        })?,
        orgs: from.list(18, |from| {
            Ok(Org {
                id: from.text()?,
                name: from.text()?,
                country: country(from)?,
                asns: from.list(4, Reader::get)?,
            })
        })?,
        vrps_v4: vrps(from)?,
        vrps_v6: vrps(from)?,
        combine: match from.take(1)? {
            [0] => Combine::Union,
            [1] => Combine::Priority,
            _ => return Err("its sources are combined in an unknown way"),
        },
        sources: from.list(24, |from| {
            Ok(Source {
                file: from.text()?,
                format: from.text()?,
                rows: from.get()?,
                skipped: from.get()?,
            })
        })?,
        imported: from.get()?,
    };
    if from.left.is_empty() {
        Ok(db)
    } else {
        Err("there is more than its sections")
    }
}

/// What queries and the compiler rely on.
fn check(db: &AsnDb) -> Read1<()> {
    fn sorted<A: Ord, T>(items: &[T], ends: impl Fn(&T) -> (&A, &A)) -> bool {
        items.iter().all(|item| ends(item).0 <= ends(item).1)
            && items.windows(2).all(|w| ends(&w[0]).1 < ends(&w[1]).0)
    }
    fn rows<A: Ord + Copy>(rows: &[Row<A>], sources: usize) -> bool {
        rows.is_sorted_by_key(|row| (row.source, row.start, row.end))
            && rows
                .iter()
                .all(|row| row.start <= row.end && usize::from(row.source) < sources)
    }
    let ranges = sorted(&db.v4, |r| (&r.start, &r.end))
        && sorted(&db.v6, |r| (&r.start, &r.end))
        && sorted(&db.countries_v4, |r| (&r.start, &r.end))
        && sorted(&db.countries_v6, |r| (&r.start, &r.end));
    if !ranges {
        return Err("its ranges are not in order");
    }
    let known = |id: u32| {
        db.origins
            .get(id as usize)
            .is_some_and(|set| !set.is_empty())
    };
    if !(db.v4.iter().all(|r| known(r.origins)) && db.v6.iter().all(|r| known(r.origins))) {
        return Err("a range has no origins");
    }
    if !(rows(&db.rows_v4, db.sources.len()) && rows(&db.rows_v6, db.sources.len())) {
        return Err("its rows are not in order");
    }
    if !db.asns.is_sorted_by_key(|&(asn, _)| asn) {
        return Err("its ASNs are not in order");
    }
    if !db.orgs.iter().all(|org| org.asns.is_sorted()) {
        return Err("the ASNs of an organisation are not in order");
    }
    if !(db.vrps_v4.is_sorted_by_key(|vrp| (vrp.start, vrp.len))
        && db.vrps_v6.is_sorted_by_key(|vrp| (vrp.start, vrp.len)))
    {
        return Err("its RPKI payloads are not in order");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose checksum is right and whose content is not.
    #[test]
    fn content_is_checked_besides_the_checksum() {
        let good = AsnDb {
            v4: vec![OriginRange {
                start: 1,
                end: 2,
                origins: 0,
            }],
            origins: vec![vec![7]],
            ..AsnDb::default()
        };
        let path = Path::new("x");
        assert_eq!(decode(&encode(&good), path).expect("good"), good);

        let mut no_origin = good.clone();
        no_origin.v4[0].origins = 1;
        let mut backwards = good.clone();
        backwards.v4[0].start = 3;
        let mut stray = good.clone();
        stray.rows_v4.push(Row {
            start: 1,
            end: 2,
            asn: 7,
            source: 0,
            line: 1,
        });
        for (db, expected) in [
            (
                no_origin,
                "snapshot `x` is malformed: a range has no origins",
            ),
            (
                backwards,
                "snapshot `x` is malformed: its ranges are not in order",
            ),
            (
                stray,
                "snapshot `x` is malformed: its rows are not in order",
            ),
        ] {
            let error = decode(&encode(&db), path).expect_err(expected);
            assert_eq!(error.to_string(), expected);
        }

        // A count that would need more memory than there is.
        let mut huge = encode(&good);
        huge[HEADER..HEADER + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        let crc = crc32fast::hash(&huge[HEADER..]);
        huge[12..16].copy_from_slice(&crc.to_le_bytes());
        let error = decode(&huge, path).expect_err("huge");
        assert_eq!(
            error.to_string(),
            "snapshot `x` is malformed: a section is longer than the file"
        );
    }
}
