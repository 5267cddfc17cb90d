//! The history's database: its tables, and what one connection does with them.
//!
//! It is an index over the log of evidence, and no truth of its own: it can be removed at any time, and is made again from the log.
//! What it has of the log, and how far that is, changes in one transaction, so that a process that dies leaves it
//! behind, and never wrong.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};

use super::{
    books::Books,
    flow::{Count, Flow, Sum},
};

/// Name of the file, in the folder of the log.
pub const NAME: &str = "history.db";
/// Of the tables, not of kordon; another one is made anew.
const VERSION: i64 = 1;
/// Flows that are read whether they are needed or not.
const MANY: i64 = 500_000;
/// How long somebody else may have it locked.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// A value of `meta` stays what it is: with a type, SQLite would make numbers of words that look like some.
const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE flows (
    id INTEGER PRIMARY KEY AUTOINCREMENT, hash INTEGER NOT NULL,
    zone TEXT NOT NULL, interface TEXT, mac TEXT, src TEXT, dst TEXT, judged TEXT,
    asn INTEGER, country TEXT, name TEXT, proto TEXT, dport INTEGER,
    action TEXT NOT NULL, reason TEXT NOT NULL, rule TEXT, by TEXT NOT NULL, others INTEGER NOT NULL);
CREATE INDEX flows_by_hash ON flows (hash);
CREATE TABLE sums (
    hour INTEGER NOT NULL, flow INTEGER NOT NULL, packets INTEGER NOT NULL, bytes INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (hour, flow)) WITHOUT ROWID;
CREATE TABLE hours (hour INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE missing (
    at INTEGER NOT NULL, zone TEXT NOT NULL, action TEXT NOT NULL,
    packets INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (at, zone, action)) WITHOUT ROWID;
CREATE TABLE books (
    side TEXT NOT NULL, zone TEXT NOT NULL, action TEXT NOT NULL,
    packets INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (side, zone, action)) WITHOUT ROWID;
CREATE TABLE silences (until INTEGER PRIMARY KEY, since INTEGER NOT NULL);
CREATE TABLE events (sequence INTEGER PRIMARY KEY, at INTEGER NOT NULL, action TEXT NOT NULL, record TEXT NOT NULL);
";

/// Columns of a flow, in the order of [`read_flow`].
const FLOW: &str = "zone, interface, mac, src, dst, judged, asn, country, name, proto, dport, action, reason, rule, by, others";

/// Why the history could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The database says no.
    #[error("the history's database {0}: {1}")]
    Database(PathBuf, #[source] rusqlite::Error),
    /// It is of another version, of another log, or of more than the log has.
    #[error("the history's database {0} is of {1}")]
    Another(PathBuf, &'static str),
}

impl HistoryError {
    /// Whether making it anew from the log is the cure.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Another(..) => true,
            Self::Database(
                _,
                rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..),
            ) => true,
            Self::Database(_, e) => {
                matches!(
                    e.sqlite_error_code(),
                    Some(
                        rusqlite::ErrorCode::DatabaseCorrupt
                            | rusqlite::ErrorCode::NotADatabase
                            | rusqlite::ErrorCode::TypeMismatch
                    )
                ) || matches!(e, rusqlite::Error::SqliteFailure(_, Some(words)) if words.starts_with("no such table"))
            }
        }
    }
}

/// A database.
pub struct Store {
    pub(super) connection: Connection,
    path: PathBuf,
}

/// As SQLite has it.
pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// Out of range only where somebody has written there.
pub(super) fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or_default()
}

impl Store {
    /// To write, in the folder of a log; made where there is none. `log`: what tells this log from others.
    ///
    /// # Errors
    /// Any [`HistoryError`].
    pub fn open(folder: &Path, log: &str) -> Result<Self, HistoryError> {
        let path = folder.join(NAME);
        let connection = Connection::open(&path);
        let store = Self::of(path.clone(), connection)?;
        // The log can tell again what a loss of power takes.
        let begin = "PRAGMA trusted_schema = OFF; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = 4194304;";
        store.run(|c| c.execute_batch(begin))?;
        store.make(log)?;
        Ok(store)
    }

    /// In memory, where there is no file, or none that could be used.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn in_memory() -> Result<Self, HistoryError> {
        let store = Self::of(PathBuf::from("in memory"), Connection::open_in_memory())?;
        store.make("")?;
        Ok(store)
    }

    /// To read, beside whoever writes. `log`: what tells the log from others. `None`: there is none.
    ///
    /// # Errors
    /// Any [`HistoryError`].
    pub fn read(folder: &Path, log: &str) -> Result<Option<Self>, HistoryError> {
        let path = folder.join(NAME);
        if !path.exists() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let store = Self::of(path.clone(), Connection::open_with_flags(&path, flags))?;
        let store = match store.version() {
            Ok(_) => store,
            // Nobody writes it, and nothing may be written beside it.
            Err(e) if !e.is_damage() && !folder.join(format!("{NAME}-wal")).exists() => {
                let name = path.to_string_lossy().replace('%', "%25");
                let name = name.replace('?', "%3f").replace('#', "%23");
                let uri = format!("file:{name}?immutable=1");
                let flags = flags | OpenFlags::SQLITE_OPEN_URI;
                Self::of(path, Connection::open_with_flags(uri, flags))?
            }
            Err(e) => return Err(e),
        };
        store.run(|c| c.execute_batch("PRAGMA trusted_schema = OFF"))?;
        store.is_of(log)?;
        Ok(Some(store))
    }

    /// That it is of this version and log.
    fn is_of(&self, log: &str) -> Result<(), HistoryError> {
        if self.version()? != VERSION {
            return Err(HistoryError::Another(self.path.clone(), "another version"));
        }
        match self.run(|c| get::<String>(c, "log"))? {
            Some(of) if of == log => Ok(()),
            _ => Err(HistoryError::Another(self.path.clone(), "another log")),
        }
    }

    /// That it has no more records than the log: these were signed, and a loss of power takes none of those.
    ///
    /// # Errors
    /// When it has.
    pub fn is_within(&self, records: u64) -> Result<(), HistoryError> {
        let words = "more records than the log has";
        match self.next()? <= records {
            true => Ok(()),
            false => Err(HistoryError::Another(self.path.clone(), words)),
        }
    }

    fn of(path: PathBuf, connection: rusqlite::Result<Connection>) -> Result<Self, HistoryError> {
        let connection = connection.map_err(|e| HistoryError::Database(path.clone(), e))?;
        let store = Self { connection, path };
        store.run(|c| c.busy_timeout(PATIENCE))?;
        Ok(store)
    }

    /// With the name of the file where it fails.
    pub(super) fn run<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, HistoryError> {
        work(&self.connection).map_err(|e| HistoryError::Database(self.path.clone(), e))
    }

    /// That its pages are whole.
    ///
    /// # Errors
    /// When they are not.
    pub fn is_sound(&self) -> Result<(), HistoryError> {
        let said: String =
            self.run(|c| c.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        match &*said {
            "ok" => Ok(()),
            _ => Err(HistoryError::Another(self.path.clone(), "damaged pages")),
        }
    }

    /// Writes all of it to another file: the same for the same content, whatever became of it in between.
    ///
    /// # Errors
    /// When the file is there, or cannot be written.
    pub fn copy_to(&self, file: &Path) -> Result<(), HistoryError> {
        let file = file.to_string_lossy();
        self.run(|c| c.execute("VACUUM INTO ?1", [file]).map(|_| ()))
    }

    /// What is read until it ends is of one moment.
    pub(super) fn snapshot(&self) -> Result<rusqlite::Transaction<'_>, HistoryError> {
        let transaction = self.connection.unchecked_transaction();
        transaction.map_err(|e| HistoryError::Database(self.path.clone(), e))
    }

    fn version(&self) -> Result<i64, HistoryError> {
        self.run(|c| c.query_row("PRAGMA user_version", [], |row| row.get(0)))
    }

    /// Makes the tables where there are none.
    fn make(&self, log: &str) -> Result<(), HistoryError> {
        match self.version()? {
            0 => {
                let tables =
                    format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;");
                self.run(|c| c.execute_batch(&tables))?;
                self.run(|c| set(c, "log", log))
            }
            _ => self.is_of(log),
        }
    }

    /// Records of the log that it has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn next(&self) -> Result<u64, HistoryError> {
        Ok(self.run(|c| get::<u64>(c, "next"))?.unwrap_or(0))
    }

    /// When the last record was written that it has.
    pub(super) fn heard(&self) -> Result<Option<Timestamp>, HistoryError> {
        Ok(self.run(|c| get(c, "heard"))?.map(timestamp))
    }

    /// Where the books are.
    pub(super) fn books(&self) -> Result<Books, HistoryError> {
        let mut books = Books {
            counters: self.run(|c| get(c, "counters"))?,
            boot: self.run(|c| get(c, "boot"))?.unwrap_or_default(),
            ..Books::default()
        };
        self.run(|c| {
            let mut rows = c.prepare("SELECT side, zone, action, packets, bytes FROM books")?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let side = match &*row.get::<_, String>(0)? {
                    "told" => &mut books.told,
                    "unwritten" => &mut books.unwritten,
                    _ => &mut books.written,
                };
                let count = Count {
                    packets: row.get(3)?,
                    bytes: row.get(4)?,
                };
                side.insert((row.get(1)?, row.get(2)?), count);
            }
            Ok(())
        })?;
        Ok(books)
    }
}

/// Of `meta`.
pub(super) fn get<T: rusqlite::types::FromSql>(
    connection: &Connection,
    key: &str,
) -> rusqlite::Result<Option<T>> {
    let mut found = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    found.query_row([key], |row| row.get(0)).optional()
}

/// Of `meta`.
pub(super) fn set(
    connection: &Connection,
    key: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
    put.execute(params![key, value]).map(|_| ())
}

/// All of the books, in place of what there was.
pub(super) fn keep_books(connection: &Connection, books: &Books) -> rusqlite::Result<()> {
    if let Some(counters) = &books.counters {
        set(connection, "counters", counters)?;
    }
    set(connection, "boot", &books.boot)?;
    connection.execute("DELETE FROM books", [])?;
    let mut put = connection.prepare_cached("INSERT INTO books VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (side, counts) in [
        ("told", &books.told),
        ("unwritten", &books.unwritten),
        ("written", &books.written),
    ] {
        for ((zone, action), count) in counts {
            put.execute(params![side, zone, action, count.packets, count.bytes])?;
        }
    }
    Ok(())
}

/// The number of a flow, which gets one where it has none.
pub(super) fn number_of(connection: &Connection, flow: &Flow) -> rusqlite::Result<i64> {
    let hash = flow.hash();
    let select = format!("SELECT id, {FLOW} FROM flows WHERE hash = ?1");
    let mut found = connection.prepare_cached(&select)?;
    let mut rows = found.query([hash])?;
    while let Some(row) = rows.next()? {
        if read_flow(row, 1)? == *flow {
            return row.get(0);
        }
    }
    let text = |address: Option<IpAddr>| address.map(|address| address.to_string());
    let mut put = connection.prepare_cached(
        "INSERT INTO flows VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
    )?;
    put.insert(params![
        hash,
        flow.zone,
        flow.interface,
        flow.mac,
        text(flow.src),
        text(flow.dst),
        text(flow.judged),
        flow.asn,
        flow.country,
        flow.name,
        flow.proto,
        flow.dport,
        flow.action,
        flow.reason,
        flow.rule,
        flow.by,
        flow.others,
    ])
}

fn read_flow(row: &Row<'_>, from: usize) -> rusqlite::Result<Flow> {
    let address = |at: usize| {
        let text: Option<String> = row.get(from + at)?;
        Ok::<_, rusqlite::Error>(text.and_then(|text| text.parse().ok()))
    };
    Ok(Flow {
        zone: row.get(from)?,
        interface: row.get(from + 1)?,
        mac: row.get(from + 2)?,
        src: address(3)?,
        dst: address(4)?,
        judged: address(5)?,
        asn: row.get(from + 6)?,
        country: row.get(from + 7)?,
        name: row.get(from + 8)?,
        proto: row.get(from + 9)?,
        dport: row.get(from + 10)?,
        action: row.get(from + 11)?,
        reason: row.get(from + 12)?,
        rule: row.get(from + 13)?,
        by: row.get(from + 14)?,
        others: row.get(from + 15)?,
    })
}

/// Flows that were seen in these hours, each with its number.
pub(super) fn flows(
    connection: &Connection,
    hours: &std::ops::Range<i64>,
    mut each: impl FnMut(i64, Flow),
) -> rusqlite::Result<()> {
    let most: Option<i64> =
        connection.query_row("SELECT max(id) FROM flows", [], |row| row.get(0))?;
    // To look for them takes longer than to read some that are not needed.
    let which = match most.unwrap_or(0) > MANY {
        true => "id IN (SELECT flow FROM sums WHERE hour >= ?1 AND hour < ?2)",
        false => "?1 < ?2",
    };
    let mut found = connection.prepare(&format!("SELECT id, {FLOW} FROM flows WHERE {which}"))?;
    let mut rows = found.query([hours.start, hours.end])?;
    while let Some(row) = rows.next()? {
        each(row.get(0)?, read_flow(row, 1)?);
    }
    Ok(())
}

/// Sums of whole hours: when, the number of the flow, what was seen.
pub(super) fn sums(
    connection: &Connection,
    hours: std::ops::Range<i64>,
    mut each: impl FnMut(i64, i64, Sum),
) -> rusqlite::Result<()> {
    let select =
        "SELECT hour, flow, packets, bytes, first, last FROM sums WHERE hour >= ?1 AND hour < ?2";
    let mut found = connection.prepare_cached(select)?;
    let mut rows = found.query([hours.start, hours.end])?;
    while let Some(row) = rows.next()? {
        let sum = Sum {
            count: Count {
                packets: row.get(2)?,
                bytes: row.get(3)?,
            },
            first: timestamp(row.get(4)?),
            last: timestamp(row.get(5)?),
        };
        each(row.get(0)?, row.get(1)?, sum);
    }
    Ok(())
}
