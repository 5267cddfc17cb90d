//! The ASN database, and how another one takes its place. What comes is judged by the gate
//! (`asn::gate`); what the gate stops is held back until somebody looks at it.
//!
//! - [`database`]: the one in use; [`find`]: the one that a start begins with.
//! - [`slot`]: files that were fetched, one place for each address; [`download`]: what servers
//!   sent this time.
//! - [`held`]: what is held back, and what the last one warned of.
//! - [`unattended`]: the same where no daemon runs.
//!
//! Here is nothing that waits for the core: what an update does one after the other is in
//! [`requests::update`](super::requests::update).

pub(super) mod database;
pub(super) mod download;
pub(super) mod find;
pub(super) mod held;
pub(super) mod slot;
pub(super) mod unattended;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use self::{
    database::Database,
    download::{Download, names, unreadable},
    held::{Held, Warned},
    slot::Slot,
};
use super::{refusal::Refusal, state::StateDir};
use crate::{
    asn::{self, AsnDb, Watched, fetch::Progress, gate::Kind},
    config::Config,
    diagnostic::Diagnostics,
    policy::Policy,
};

/// The database in use, and how updates went.
#[derive(Clone, Debug, Default)]
pub(super) struct Updates {
    /// What is in use.
    pub(super) database: Database,
    /// Snapshots that could not be used at the start, until another one is written.
    pub(super) refused: Vec<String>,
    /// Where files of the configured addresses are.
    slots: Arc<[Slot]>,
    /// Held while one is under way.
    pub(super) turn: Arc<Mutex<()>>,
    /// Held while servers are asked.
    pub(super) fetching: Arc<Mutex<()>>,
    /// Before when the clock asks no server that does not want it.
    pub(super) not_before: HashMap<String, Timestamp>,
    /// What waits.
    pub(super) held: Option<Held>,
    /// What the last that was taken warned of.
    pub(super) warned: Option<Warned>,
    /// Since the start: taken, held back, failed.
    pub(super) taken: u64,
    pub(super) stopped: u64,
    pub(super) failed: u64,
    /// Attempts by the clock that came to nothing, since the last that did.
    pub(super) in_a_row: u32,
    /// When the servers of all that the database was made from said that they have
    /// nothing newer; the earliest of these times.
    pub(super) confirmed: Option<Timestamp>,
    /// What is on its way.
    pub(super) progress: Arc<Progress>,
    /// Why the last one failed; a later success clears it.
    pub(super) failure: Option<Failure>,
}

/// What an update failed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A file did not come.
    Fetch,
    /// A file cannot be read.
    Read,
    /// What came of the files cannot be made live, or kept.
    Apply,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Fetch, Self::Read, Self::Apply];

    /// The label in metrics, and the word in `--json`.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Read => "read",
            Self::Apply => "apply",
        }
    }
}

/// An update that came to nothing.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) at: Timestamp,
    pub(super) stage: Stage,
    pub(super) message: String,
}

impl Updates {
    /// What an earlier daemon left.
    pub(super) fn load(
        state: &StateDir,
        config: &Config,
        database: Database,
        refused: Vec<String>,
    ) -> Self {
        let (held, warned) = held::load(state);
        let remotes = config.updates.remotes.iter();
        let mut updates = Self {
            database,
            refused,
            slots: remotes
                .map(|remote| Slot::of(&state.sources(), remote))
                .collect(),
            held,
            warned,
            ..Self::default()
        };
        updates.note_confirmed();
        updates
    }

    /// For `status`.
    pub(super) fn status(&self) -> Value {
        json!({
            "held": self.held,
            "warnings": self.warned,
            "failure": self.failure.as_ref().map(|failure| json!({
                "at": failure.at,
                "reason": failure.stage.as_str(),
                "message": failure.message,
            })),
        })
    }

    /// For the metrics: since the start of the daemon, by what became of them.
    pub(super) fn counts(&self) -> [(&'static str, u64); 3] {
        [
            ("taken", self.taken),
            ("held", self.stopped),
            ("failed", self.failed),
        ]
    }

    /// Whether something of this kind is why an update is held back.
    pub(super) fn concerns(&self) -> Vec<(&'static str, bool)> {
        let held = self.held.iter().flat_map(|held| &held.concerns);
        let held: Vec<Kind> = held.map(|concern| concern.kind).collect();
        let one = |kind: &Kind| (kind.as_str(), held.contains(kind));
        Kind::ALL.iter().map(one).collect()
    }

    /// Of each stage, whether the last update failed there.
    pub(super) fn failing(&self) -> Vec<(&'static str, bool)> {
        let failed = self.failure.as_ref().map(|failure| failure.stage);
        let one = |stage: &Stage| (stage.as_str(), failed == Some(*stage));
        Stage::ALL.iter().map(one).collect()
    }

    /// Seconds since the database was imported, or confirmed to be the newest there is; `None`:
    /// there is nothing in it.
    pub(super) fn age(&self) -> Option<i64> {
        let now = Timestamp::now().as_second();
        let confirmed = self.confirmed.map_or(0, Timestamp::as_second);
        let db = &self.database.db;
        let current = db.imported.max(confirmed);
        (!db.sources.is_empty()).then(|| (now - current).max(0))
    }

    /// Takes down when the database in use was last said to be the newest. Files that
    /// are not fetched nobody confirms, and a bundle is as old as what is in it.
    pub(super) fn note_confirmed(&mut self) {
        let sources = self.database.db.sources.iter();
        let checked = sources.map(|source| {
            let mut slots = self.slots.iter();
            slots.find(|slot| slot.url() == source.file)?.checked()
        });
        let all: Option<Vec<Timestamp>> = checked.collect();
        self.confirmed = all.and_then(|all| all.into_iter().min());
    }
}

/// What the policy that is live names.
pub(super) fn watched(policy: Option<&Policy>) -> Watched {
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

/// As configured, and damaged files are for the gate to judge.
pub(super) fn salvaging(config: &Config) -> asn::Options {
    asn::Options {
        salvage: true,
        ..config.import
    }
}

pub(super) fn has_sources(config: &Config) -> Result<(), Refusal> {
    let paths = !config.sources.is_empty() || !config.countries.is_empty();
    if paths || !config.updates.remotes.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        "no source is configured",
        "add `sources` or `[[asndb.source]]` to `kordon.toml`, or give files to `kordon asndb import`",
    ))
}

/// What files on disk and downloads make together.
pub(super) fn read(
    config: &Config,
    downloads: &[Download],
) -> Result<(AsnDb, Diagnostics), Refusal> {
    let mut sources = config.sources.clone();
    sources.extend(downloads.iter().map(|download| match &download.file {
        Some((file, _)) => file.path().to_owned(),
        None => download.slot.path().to_owned(),
    }));
    let keys = &config.updates.keys;
    let options = salvaging(config);
    let (mut db, found) = asn::bundle::open_trusted(&sources, &config.countries, &options, keys)
        .map_err(|e| unreadable(e.0, downloads))?;
    let names = names(downloads);
    for source in &mut db.sources {
        names.rename(&mut source.file);
    }
    Ok((db, names.renamed(found)))
}
