//! The database that a start begins with: from its snapshot, so that a start reads no source, else
//! from the sources.

use std::{
    fs,
    path::Path,
    time::{Instant, SystemTime},
};

use super::{database::Database, slot::Slot};
use crate::{
    asn::{self, AsnDb},
    config::Config,
    daemon::{refusal::in_words, state::StateDir},
    diagnostic::{Problem, quoted},
};

/// What was found at the start.
pub(crate) struct Found {
    pub(crate) database: Database,
    /// The sources are newer: import them once enforcement has begun.
    pub(crate) outdated: bool,
    /// It came from the sources and has to be saved.
    pub(crate) imported: bool,
    /// It is from the newest snapshot.
    pub(crate) is_newest: bool,
    /// Snapshots that cannot be used, newest first: which, and why.
    pub(crate) refused: Vec<String>,
}

/// The snapshot, else the one before it, else the sources, else nothing.
pub(crate) fn find(state: &StateDir, config: &Config) -> Found {
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
            Some(database) => database.imported(),
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
