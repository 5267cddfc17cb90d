//! Another database for the one in use: fetched, imported or accepted, and past the
//! gate. What the gate stops is kept on disk, so that accepting it needs no source.
//!
//! One update at a time; sources are read and compared without holding the core.
//!
//! ```text
//! asndb.held.snapshot   the database that is held back
//! asndb.held.json       since when, and why
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Shared,
    core::Core,
    database::Database,
    lock,
    refusal::{Refusal, in_words},
    state::{Prepared, StateDir},
};
use crate::{
    asn::{self, AsnDb, Concern, Watched, gate::Kind},
    diagnostic::Diagnostics,
    policy::Policy,
};

/// An update that waits for somebody who looks at it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    /// Since when.
    pub(super) since: Timestamp,
    /// `import`, `update` or `start`.
    pub(super) by: String,
    /// Why; never empty.
    pub(super) concerns: Vec<Concern>,
}

/// How updates went.
#[derive(Debug, Default)]
pub(super) struct Updates {
    /// Held while one is under way.
    turn: Arc<Mutex<()>>,
    /// What waits.
    pub(super) held: Option<Held>,
    /// Since the start: taken, held back, failed.
    pub(super) taken: u64,
    pub(super) stopped: u64,
    pub(super) failed: u64,
    /// Why the last one failed, and when; a later success clears it.
    pub(super) failure: Option<(Timestamp, String)>,
}

impl Updates {
    /// What an earlier daemon left.
    pub(super) fn load(state: &StateDir) -> Self {
        let held = fs::read(state.held_reasons())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .filter(|_| state.held().exists());
        Self {
            held,
            ..Self::default()
        }
    }

    /// For `status`.
    pub(super) fn status(&self) -> Value {
        json!({
            "held": self.held,
            "failure": self.failure.as_ref().map(|(at, message)| json!({
                "at": at,
                "message": message,
            })),
        })
    }

    /// Whether something of this kind is why an update is held back.
    pub(super) fn concerns(&self) -> Vec<(&'static str, bool)> {
        let held = self.held.iter().flat_map(|held| &held.concerns);
        let held: Vec<Kind> = held.map(|concern| concern.kind).collect();
        let one = |kind: &Kind| (kind.as_str(), held.contains(kind));
        Kind::ALL.iter().map(one).collect()
    }
}

/// What the policy that is live names.
fn watched(policy: Option<&Policy>) -> Watched {
    let mut watched = Watched::default();
    for set in policy.into_iter().flat_map(|policy| &policy.sets) {
        watched.asns.extend(set.named_asns.iter().cloned());
        watched.asn_countries.extend(&set.asn_countries);
        watched.countries.extend(&set.countries);
        let names = set.orgs.iter().map(|org| org.name.clone());
        watched.orgs.extend(names);
    }
    watched.asn_countries.sort_unstable();
    watched.asn_countries.dedup();
    watched.countries.sort_unstable();
    watched.countries.dedup();
    watched.orgs.sort_unstable();
    watched.orgs.dedup();
    watched
}

fn paths(names: &[String]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

/// Runs one update; others wait.
fn in_turn<T>(core: &Shared, job: impl FnOnce() -> T) -> T {
    let turn = Arc::clone(&lock(core).updates.turn);
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    job()
}

/// What files hold becomes live.
pub(super) fn import(
    core: &Shared,
    asn: &[String],
    countries: &[String],
    accept: bool,
) -> Result<Value, Refusal> {
    in_turn(core, || {
        let (db, found) = open(core, asn, countries)?;
        offer(core, Database::new(db), &found, "import", accept)
    })
}

fn open(
    core: &Shared,
    asn: &[String],
    countries: &[String],
) -> Result<(AsnDb, Diagnostics), Refusal> {
    let options = lock(core).config.import;
    asn::open_with(&paths(asn), &paths(countries), &options)
        .map_err(|e| Refusal::found("the import", e.0))
}

/// What the configuration names becomes live.
pub(super) fn update(core: &Shared, accept: bool) -> Result<Value, Refusal> {
    in_turn(core, || {
        if accept && lock(core).updates.held.is_some() {
            return accept_held(core);
        }
        refresh(core, "update", accept)
    })
}

/// The sources again, at the start or by the clock.
pub(super) fn renew(core: &Shared, by: &str) {
    let result = in_turn(core, || refresh(core, by, false));
    match result {
        Ok(_) => tracing::info!("newer database sources were imported"),
        Err(e) => tracing::error!("the database stays as it was: {}", e.in_words()),
    }
}

/// Reads the sources again, and remembers how that went.
fn refresh(core: &Shared, by: &str, accept: bool) -> Result<Value, Refusal> {
    let stopped = lock(core).updates.stopped;
    let result = read_again(core, by, accept);
    let mut core = lock(core);
    match &result {
        Ok(_) => core.updates.failure = None,
        // What is held back is shown as that.
        Err(_) if core.updates.stopped > stopped => {}
        Err(e) => {
            core.updates.failed += 1;
            core.updates.failure = Some((Timestamp::now(), e.in_words()));
        }
    }
    result
}

fn read_again(core: &Shared, by: &str, accept: bool) -> Result<Value, Refusal> {
    let config = lock(core).config.clone();
    if config.sources.is_empty() && config.countries.is_empty() {
        return Err(Refusal::new(
            "no source is configured",
            "add `sources` to `[asndb]` in `kordon.toml`, or give files to `kordon asndb import`",
        ));
    }
    let (db, found) = asn::open_with(&config.sources, &config.countries, &config.import)
        .map_err(|e| Refusal::found("the update", e.0))?;
    for warning in &found.warnings {
        tracing::warn!("{}", in_words(warning));
    }
    offer(core, Database::new(db), &found, by, accept)
}

/// Nothing is under way that could be shown.
pub(super) fn progress(_core: &Shared) -> Value {
    json!({ "sources": [] })
}

fn accept_held(core: &Shared) -> Result<Value, Refusal> {
    let path = lock(core).state.held();
    let db = asn::load(&path).map_err(|e| Refusal::new(e.to_string(), "run the update again"))?;
    let mut core = lock(core);
    let answer = core.replace_database(Database::new(db), &Diagnostics::default())?;
    tracing::warn!("the update that was held back was accepted");
    core.taken();
    Ok(answer)
}

/// Makes a database live unless something speaks against it.
pub(super) fn offer(
    core: &Shared,
    candidate: Database,
    found: &Diagnostics,
    by: &str,
    accept: bool,
) -> Result<Value, Refusal> {
    let (live, watched, percent) = {
        let core = lock(core);
        let policy = core.live.as_ref().map(|live| &*live.policy);
        let percent = core.config.updates.max_change;
        (core.database.clone(), watched(policy), percent)
    };
    let difference = asn::compare(&live.db, &candidate.db, &watched);
    let concerns = asn::judge(&live.db, &candidate.db, &difference, found, percent);
    if accept || concerns.is_empty() {
        for concern in &concerns {
            tracing::warn!("accepted: {}", concern.message);
        }
        let mut core = lock(core);
        let answer = core.replace_database(candidate, found)?;
        core.taken();
        return Ok(answer);
    }
    for concern in &concerns {
        tracing::error!(
            "the update of the ASN database is held back: {}",
            concern.message
        );
    }
    let held = Held {
        since: Timestamp::now(),
        by: by.to_owned(),
        concerns,
    };
    let message = held.in_words();
    lock(core).hold(&candidate.db, held)?;
    Err(Refusal::new(
        message,
        "the database in use stays; `kordon asndb diff` shows what would change, \
         `kordon asndb update --accept` takes it",
    ))
}

impl Held {
    fn in_words(&self) -> String {
        let concerns: Vec<&str> = self.concerns.iter().map(|c| c.message.as_str()).collect();
        format!("the update is held back: {}", concerns.join("; "))
    }
}

impl Core {
    fn hold(&mut self, db: &AsnDb, held: Held) -> Result<(), Refusal> {
        self.updates.stopped += 1;
        let reasons = serde_json::to_vec(&held).map_err(Refusal::from_error)?;
        // It is held back even where it cannot be kept.
        self.updates.held = Some(held);
        let path = self.state.held();
        asn::save(db, &path).map_err(Refusal::from_error)?;
        let _ = fs::remove_file(asn::previous_path(&path));
        Prepared::write(&self.state.held_reasons(), &reasons)?.commit()?;
        Ok(())
    }

    /// A database went live: what was held back is older than it.
    fn taken(&mut self) {
        self.updates.taken += 1;
        self.updates.failure = None;
        if self.updates.held.take().is_some() {
            let remove = |path: &Path| {
                let _ = fs::remove_file(path);
            };
            remove(&self.state.held_reasons());
            remove(&self.state.held());
        }
    }
}

/// What files, or else the update that is held back, would change.
pub(super) fn diff(core: &Shared, asn: &[String], countries: &[String]) -> Result<Value, Refusal> {
    let candidate = if asn.is_empty() && countries.is_empty() {
        let path = {
            let core = lock(core);
            if core.updates.held.is_none() {
                return Err(Refusal::new(
                    "no update is held back",
                    "name files to compare with: `kordon asndb diff FILE…`",
                ));
            }
            core.state.held()
        };
        asn::load(&path).map_err(|e| Refusal::new(e.to_string(), "run the update again"))?
    } else {
        open(core, asn, countries)?.0
    };
    let (live, watched) = {
        let core = lock(core);
        let policy = core.live.as_ref().map(|live| &*live.policy);
        (Arc::clone(&core.database.db), watched(policy))
    };
    let difference = asn::compare(&live, &candidate, &watched);
    serde_json::to_value(difference).map_err(Refusal::from_error)
}
