//! The ASN database of the daemon: from its snapshot, so that a start reads no
//! source, else from the sources.

use std::{
    fs,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Instant, SystemTime},
};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{bgp::Bgp, fetched::Slot, operations::hex, refusal::in_words, state::StateDir};
use crate::{
    asn::{self, AsnDb, Country, Info},
    bmp::feed::Feed,
    config::Config,
    diagnostic::{Problem, quoted},
};

/// A database, and what it is known by.
#[derive(Clone, Debug)]
pub(super) struct Database {
    /// As it was imported.
    pub(super) db: Arc<AsnDb>,
    id: [u8; 32],
    info: Arc<OnceLock<Info>>,
    /// With live BGP over it.
    live: Option<Live>,
    /// It is empty because what was kept cannot be read: nothing may come of it that
    /// takes the place of what is enforced.
    lost: bool,
    /// It was imported at the start, because there was no snapshot of it.
    imported: bool,
}

/// What live BGP makes of a database.
#[derive(Clone, Debug)]
struct Live {
    id: [u8; 32],
    /// Made when somebody asks: the kernel's table is changed without it.
    db: Arc<OnceLock<Arc<AsnDb>>>,
    bgp: Option<Bgp>,
}

impl Database {
    pub(super) fn new(db: AsnDb) -> Self {
        Self {
            id: id(&db),
            db: Arc::new(db),
            info: Arc::default(),
            live: None,
            lost: false,
            imported: false,
        }
    }

    /// Stands for one that cannot be read.
    fn lost() -> Self {
        Self {
            lost: true,
            ..Self::new(AsnDb::default())
        }
    }

    /// Whether it only stands for one that cannot be read.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether it was in use before: now, or in an earlier daemon.
    pub(super) fn was_in_use(&self) -> bool {
        !self.lost && !self.imported
    }

    /// Whether another one holds the same, whatever live BGP says.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.id == other.id
    }

    /// Equal ids, equal verdicts.
    pub(super) fn id(&self) -> &[u8; 32] {
        self.live.as_ref().map_or(&self.id, |live| &live.id)
    }

    /// What it is called as it was imported, in hexadecimal; `None`: there is nothing in it.
    pub(super) fn name(&self) -> Option<String> {
        (!self.db.sources.is_empty()).then(|| hex(&self.id))
    }

    /// What is enforced: with live BGP over it.
    pub(super) fn effective(&self) -> &Arc<AsnDb> {
        let Some(live) = &self.live else {
            return &self.db;
        };
        live.db.get_or_init(|| match &live.bgp {
            Some(bgp) => Arc::new(bgp.overlaid(&self.db)),
            None => Arc::clone(&self.db),
        })
    }

    /// Whether nobody is known to announce anything.
    pub(super) fn has_no_origins(&self) -> bool {
        self.live.is_none() && self.db.origins.is_empty()
    }

    /// With what is in effect of a feed over it.
    pub(super) fn under(mut self, feed: &Feed) -> Self {
        self.live = (!feed.is_empty()).then(|| {
            let db = feed.overlaid(&self.db);
            Live {
                id: id(&db),
                db: Arc::new(OnceLock::from(Arc::new(db))),
                bgp: None,
            }
        });
        self
    }

    /// After the kernel's table was changed in place: it is another one, which no other
    /// daemon knows.
    pub(super) fn amended(mut self, bgp: &Bgp) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.id());
        hash.update(Timestamp::now().as_nanosecond().to_le_bytes());
        self.live = Some(Live {
            id: hash.finalize().into(),
            db: Arc::default(),
            bgp: Some(bgp.clone()),
        });
        self
    }

    pub(super) fn info(&self) -> &Info {
        self.info.get_or_init(|| self.db.info())
    }

    /// Seconds since it was imported, or confirmed to be the newest there is; `None`:
    /// there is nothing in it.
    pub(super) fn age(&self, confirmed: Option<Timestamp>) -> Option<i64> {
        let now = Timestamp::now().as_second();
        let confirmed = confirmed.map_or(0, Timestamp::as_second);
        let current = self.db.imported.max(confirmed);
        (!self.db.sources.is_empty()).then(|| (now - current).max(0))
    }
}

/// What was found at the start.
pub(super) struct Found {
    pub(super) database: Database,
    /// The sources are newer: import them once enforcement has begun.
    pub(super) outdated: bool,
    /// It came from the sources and has to be saved.
    pub(super) imported: bool,
    /// It is from the newest snapshot.
    pub(super) is_newest: bool,
    /// Snapshots that cannot be used, newest first: which, and why.
    pub(super) refused: Vec<String>,
}

/// The snapshot, else the one before it, else the sources, else nothing.
pub(super) fn find(state: &StateDir, config: &Config) -> Found {
    let snapshot: &Path = &state.snapshot();
    let mut refused = Vec::new();
    for path in [snapshot.to_owned(), asn::previous_path(snapshot)] {
        if !path.exists() {
            continue;
        }
        if path != snapshot && refused.is_empty() {
            let name = quoted(&snapshot.display().to_string());
            tracing::error!("snapshot {name} is missing");
            refused.push(format!("snapshot {name} is missing"));
        }
        match load(&path) {
            Ok(database) => {
                if !refused.is_empty() {
                    tracing::warn!("the database before is used: `{}`", path.display());
                }
                return Found {
                    database,
                    outdated: path != snapshot || is_outdated(snapshot, config),
                    imported: false,
                    is_newest: path == snapshot,
                    refused,
                };
            }
            Err(e) => {
                tracing::error!("{e} ({})", e.help);
                refused.push(e.to_string());
            }
        }
    }
    let imported = match import(state, config) {
        Ok(imported) => imported,
        Err(e) => {
            tracing::error!("{e}");
            None
        }
    };
    Found {
        imported: imported.is_some(),
        database: match imported {
            Some(database) => Database {
                imported: true,
                ..database
            },
            None if refused.is_empty() => Database::new(AsnDb::default()),
            None => Database::lost(),
        },
        outdated: false,
        is_newest: false,
        refused,
    }
}

/// Reads a snapshot; what takes how long is logged.
fn load(path: &Path) -> Result<Database, Problem> {
    let start = Instant::now();
    let opened = asn::snapshot::open(path)?;
    let mapped = start.elapsed();
    let verified = opened.verify()?;
    let checked = start.elapsed();
    let db = verified.database()?;
    let built = start.elapsed();
    let database = Database::new(db);
    tracing::info!(
        map = ?mapped,
        check = ?(checked - mapped),
        build = ?(built - checked),
        identify = ?(start.elapsed() - built),
        "the snapshot of the ASN database is read"
    );
    Ok(database)
}

/// Imports what the configuration names and what was fetched; `None`: there is
/// nothing, or not all of it was fetched yet.
fn import(state: &StateDir, config: &Config) -> Result<Option<Database>, asn::ImportError> {
    let mut sources = config.sources.clone();
    for remote in &config.updates.remotes {
        let slot = Slot::of(&state.sources(), remote);
        if !slot.path().exists() {
            tracing::warn!("no ASN database until {} is fetched", slot.url());
            return Ok(None);
        }
        sources.push(slot.path().to_owned());
    }
    if sources.is_empty() && config.countries.is_empty() {
        tracing::warn!("no ASN database: add sources to `[asndb]`, or run `kordon asndb import`");
        return Ok(None);
    }
    let (db, found) = asn::bundle::open_trusted(
        &sources,
        &config.countries,
        &config.import,
        &config.updates.keys,
    )?;
    for warning in &found.warnings {
        tracing::warn!("{}", in_words(warning));
    }
    Ok(Some(Database::new(db)))
}

fn is_outdated(snapshot: &Path, config: &Config) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let saved = modified(snapshot).unwrap_or(SystemTime::UNIX_EPOCH);
    // A source that is not there is no reason to give up what there is.
    let sources = config.sources.iter().chain(&config.countries);
    sources.filter_map(|path| modified(path)).any(|m| m > saved)
}

/// A hash that is given millions of small pieces.
struct Pieces {
    hash: Sha256,
    buffer: Vec<u8>,
}

impl Pieces {
    const SIZE: usize = 16 << 10;

    fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.buffer.extend_from_slice(bytes.as_ref());
        if self.buffer.len() >= Self::SIZE {
            self.hash.update(&self.buffer);
            self.buffer.clear();
        }
    }

    fn finish(mut self) -> [u8; 32] {
        self.hash.update(&self.buffer);
        self.hash.finalize().into()
    }
}

fn id(db: &AsnDb) -> [u8; 32] {
    let mut hash = Pieces {
        hash: Sha256::new(),
        buffer: Vec::with_capacity(2 * Pieces::SIZE),
    };
    let code = |country: Option<Country>| country.map_or([0; 2], |country| country.0);
    for length in [
        db.v4.len(),
        db.v6.len(),
        db.origins.len(),
        db.countries_v4.len(),
    ] {
        hash.update((length as u64).to_le_bytes());
    }
    for range in &db.v4 {
        hash.update(range.start.to_le_bytes());
        hash.update(range.end.to_le_bytes());
        hash.update(range.origins.to_le_bytes());
    }
    for range in &db.v6 {
        hash.update(range.start.to_le_bytes());
        hash.update(range.end.to_le_bytes());
        hash.update(range.origins.to_le_bytes());
    }
    for origins in &db.origins {
        hash.update((origins.len() as u64).to_le_bytes());
        for asn in origins {
            hash.update(asn.to_le_bytes());
        }
    }
    for range in &db.countries_v4 {
        hash.update(range.start.to_le_bytes());
        hash.update(range.end.to_le_bytes());
        hash.update(range.country.0);
    }
    for range in &db.countries_v6 {
        hash.update(range.start.to_le_bytes());
        hash.update(range.end.to_le_bytes());
        hash.update(range.country.0);
    }
    for (asn, info) in &db.asns {
        hash.update(asn.to_le_bytes());
        hash.update(code(info.country));
    }
    for org in &db.orgs {
        for text in [&org.id, &org.name] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hash.update((org.asns.len() as u64).to_le_bytes());
        for asn in &org.asns {
            hash.update(asn.to_le_bytes());
        }
    }
    hash.finish()
}
