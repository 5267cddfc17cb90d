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
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Shared,
    core::Core,
    database::Database,
    downloads::{Download, of_fetching, rename, renamed, unreadable, until_due},
    fetched::Slot,
    lock,
    received::Received,
    refusal::{Refusal, in_words},
    state::{Prepared, StateDir},
};
use crate::{
    asn::{
        self, AsnDb, Concern, Watched,
        fetch::{Progress, Remote},
        gate::Kind,
    },
    config::Config,
    diagnostic::Diagnostics,
    policy::{self, Policy},
};

/// Who wants an update that the timer began.
const BY_CLOCK: &str = "clock";
/// Before a source that failed is asked for again by the clock; doubles each time.
const AGAIN: Duration = Duration::from_secs(60);

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
    /// Attempts by the clock that came to nothing, since the last that did.
    in_a_row: u32,
    /// When the servers of all that the database was made from said that they have
    /// nothing newer; the earliest of these times.
    pub(super) confirmed: Option<Timestamp>,
    /// What is on its way.
    progress: Arc<Progress>,
    /// Why the last one failed; a later success clears it.
    failure: Option<Failure>,
}

/// What an update failed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
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
#[derive(Debug)]
struct Failure {
    at: Timestamp,
    stage: Stage,
    message: String,
}

/// Why an update comes to nothing, and where.
struct Stopped(Stage, Refusal);

impl<E: Into<Refusal>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self(Stage::Apply, error.into())
    }
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
            "failure": self.failure.as_ref().map(|failure| json!({
                "at": failure.at,
                "reason": failure.stage.as_str(),
                "message": failure.message,
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

    /// Of each stage, whether the last update failed there.
    pub(super) fn failing(&self) -> Vec<(&'static str, bool)> {
        let failed = self.failure.as_ref().map(|failure| failure.stage);
        let one = |stage: &Stage| (stage.as_str(), failed == Some(*stage));
        Stage::ALL.iter().map(one).collect()
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

/// Runs one update; others wait.
fn in_turn<T>(core: &Shared, job: impl FnOnce() -> T) -> T {
    let turn = Arc::clone(&lock(core).updates.turn);
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    let result = job();
    lock(core).note_confirmed();
    result
}

/// What files hold becomes live. They are read before it is their turn: what takes long
/// there holds up nobody.
pub(super) fn import(
    core: &Shared,
    files: &Received,
    accept: bool,
    unsigned: bool,
) -> Result<Value, Refusal> {
    let signed = lock(core).config.updates.keys.is_empty()
        || files.asn().iter().any(|path| asn::bundle::is_bundle(path));
    if !signed && !unsigned {
        return Err(Refusal::new(
            "this is not a signed bundle, and `keys` in `[asndb]` asks for one",
            "`kordon asndb export` makes one; `--unsigned` imports other files all the same",
        ));
    }
    let (db, found) = open(core, files)?;
    in_turn(core, || {
        offer(
            core,
            Database::new(db),
            &found,
            Vec::new(),
            "import",
            accept,
        )
    })
}

/// As configured, and damaged files are for the gate to judge.
fn salvaging(config: &Config) -> asn::Options {
    asn::Options {
        salvage: true,
        ..config.import
    }
}

fn open(core: &Shared, files: &Received) -> Result<(AsnDb, Diagnostics), Refusal> {
    let (options, keys) = {
        let core = lock(core);
        (salvaging(&core.config), core.config.updates.keys.clone())
    };
    let (asn, countries) = (files.asn(), files.countries());
    let opened = asn::bundle::open_trusted(&asn, &countries, &options, &keys);
    let (mut db, found) = opened.map_err(|e| Refusal::found("the import", files.renamed(e.0)))?;
    for source in &mut db.sources {
        files.rename(&mut source.file);
    }
    Ok((db, files.renamed(found)))
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
        Err(Stopped(stage, e)) => {
            core.updates.failed += 1;
            core.updates.failure = Some(Failure {
                at: Timestamp::now(),
                stage: *stage,
                message: e.in_words(),
            });
        }
    }
    result.map_err(|stopped| stopped.1)
}

fn read_again(core: &Shared, by: &str, accept: bool) -> Result<Value, Stopped> {
    let (config, folder, progress) = {
        let core = lock(core);
        let progress = Arc::clone(&core.updates.progress);
        (core.config.clone(), core.state.sources(), progress)
    };
    let remotes = &config.updates.remotes;
    if config.sources.is_empty() && config.countries.is_empty() && remotes.is_empty() {
        return Err(Refusal::new(
            "no source is configured",
            "add `sources` or `[[asndb.source]]` to `kordon.toml`, or give files to `kordon asndb import`",
        )
        .into());
    }
    progress.clear();
    let by_clock = by == BY_CLOCK;
    let mut downloads = Vec::new();
    let mut failures = Vec::new();
    for remote in remotes {
        let (download, failure) = Download::of(remote, &folder, &config, by_clock, &progress)?;
        downloads.push(download);
        failures.extend(failure);
    }
    let missing = |d: &Download| d.file.is_none() && !d.slot.path().exists();
    let nothing_new = downloads.iter().all(|d| d.file.is_none());
    // An older file of one source is better than none, but alone no reason to
    // return to it.
    if let Some(first) = failures.first()
        && (nothing_new || downloads.iter().any(missing))
    {
        return Err(Stopped(Stage::Fetch, of_fetching(&failures, first)));
    }
    if by_clock && nothing_new {
        tracing::info!("the sources of the ASN database have not changed");
        return Ok(json!({ "changed": false }));
    }
    let mut sources = config.sources.clone();
    sources.extend(downloads.iter().map(|download| match &download.file {
        Some((file, _)) => file.path().to_owned(),
        None => download.slot.path().to_owned(),
    }));
    let keys = &config.updates.keys;
    let options = salvaging(&config);
    let (mut db, mut found) =
        asn::bundle::open_trusted(&sources, &config.countries, &options, keys)
            .map_err(|e| Stopped(Stage::Read, unreadable(e.0, &downloads)))?;
    found = renamed(found, &downloads);
    for source in &mut db.sources {
        rename(&mut source.file, &downloads);
    }
    for warning in &found.warnings {
        tracing::warn!("{}", in_words(warning));
    }
    let stopped = lock(core).updates.stopped;
    let doubts = downloads.iter_mut().flat_map(Download::doubts).collect();
    let result = offer(core, Database::new(db), &found, doubts, by, accept);
    let held = lock(core).updates.stopped > stopped;
    for Download { slot, file, .. } in downloads {
        let Some((file, known)) = file else { continue };
        match &result {
            Ok(_) => slot.keep(file, known)?,
            Err(_) if held => slot.hold(file, known)?,
            Err(_) => {}
        }
    }
    let result = result?;
    if let Some(first) = failures.first() {
        // The rest is live; this one is not.
        let message = format!("the other sources are live, but {first}");
        return Err(Stopped(Stage::Fetch, Refusal::new(message, first.help())));
    }
    Ok(result)
}

/// How long until some source is due; `None`: none is fetched.
pub(super) fn next_due(core: &Shared) -> Option<Duration> {
    let core = lock(core);
    let folder = core.state.sources();
    let remotes = &core.config.updates.remotes;
    let wait = |remote: &Remote| until_due(&Slot::of(&folder, remote), remote);
    let due = remotes.iter().map(wait).min()?;
    let shortest = remotes.iter().map(|remote| remote.every).min()?;
    // What failed or is held back is asked for again sooner than usual, but ever later.
    let again = match core.updates.in_a_row {
        0 => Duration::ZERO,
        n => shortest.min(AGAIN * 2_u32.pow(n.min(10) - 1)),
    };
    // Many routers have the same clock.
    let wait = due.max(again);
    Some(wait + wait.mul_f64(fastrand::f64() / 10.0))
}

/// By the clock.
pub(super) fn fetch_due(core: &Shared) {
    let result = in_turn(core, || refresh(core, BY_CLOCK, false));
    let mut core = lock(core);
    match result {
        Ok(_) => core.updates.in_a_row = 0,
        Err(e) => {
            core.updates.in_a_row += 1;
            tracing::error!("the ASN database was not updated: {}", e.in_words());
        }
    }
}

/// What is on its way.
pub(super) fn progress(core: &Shared) -> Value {
    let progress = Arc::clone(&lock(core).updates.progress);
    json!({ "sources": progress.transfers() })
}

fn accept_held(core: &Shared) -> Result<Value, Refusal> {
    let path = lock(core).state.held();
    let db = asn::load(&path).map_err(|e| Refusal::new(e.to_string(), "run the update again"))?;
    let mut core = lock(core);
    let answer = core.replace_database(Database::new(db), &Diagnostics::default())?;
    tracing::warn!("the update that was held back was accepted");
    core.settle(true);
    core.taken();
    Ok(answer)
}

/// Makes a database live unless something speaks against it: the gate, or `doubts`.
fn offer(
    core: &Shared,
    candidate: Database,
    found: &Diagnostics,
    doubts: Vec<Concern>,
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
    let mut concerns = asn::judge(&live.db, &candidate.db, &difference, found, percent);
    // What comes first is older than nothing.
    let is_first = live.db.sources.is_empty();
    concerns.extend(
        doubts
            .into_iter()
            .filter(|doubt| !is_first || doubt.kind == Kind::Checksum),
    );
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
    /// Takes down when the database in use was last said to be the newest. Files that
    /// are not fetched nobody confirms, and a bundle is as old as what is in it.
    pub(super) fn note_confirmed(&mut self) {
        let folder = self.state.sources();
        let remotes = self.config.updates.remotes.iter();
        let slots: Vec<Slot> = remotes.map(|remote| Slot::of(&folder, remote)).collect();
        let sources = self.database.db.sources.iter();
        let checked = sources.map(|source| {
            let mut slots = slots.iter();
            slots.find(|slot| slot.url() == source.file)?.checked()
        });
        let all: Option<Vec<Timestamp>> = checked.collect();
        self.updates.confirmed = all.and_then(|all| all.into_iter().min());
    }

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

    /// What becomes of the files of an update that was held back.
    fn settle(&self, accepted: bool) {
        for remote in &self.config.updates.remotes {
            Slot::of(&self.state.sources(), remote).settle(accepted);
        }
    }

    /// A database went live: what was held back is older than it.
    fn taken(&mut self) {
        self.updates.taken += 1;
        self.updates.failure = None;
        if self.updates.held.take().is_some() {
            self.settle(false);
            let remove = |path: &Path| {
                let _ = fs::remove_file(path);
            };
            remove(&self.state.held_reasons());
            remove(&self.state.held());
        }
    }
}

/// What speaks against a database that is imported while no daemon runs: the next start
/// makes it live, over programs that enforce what was there before.
pub(crate) fn concerns(
    state: &StateDir,
    candidate: &AsnDb,
    found: &Diagnostics,
    percent: u8,
) -> Vec<Concern> {
    // What cannot be read is no reason to keep it.
    let Ok(before) = asn::load(&state.snapshot()) else {
        return Vec::new();
    };
    let policy = state.load().0.and_then(|(_, record)| {
        let context = policy::Context::now(Some(&before));
        policy::parse(&record.bundle, &policy::Overlay::default(), &context).0
    });
    let difference = asn::compare(&before, candidate, &watched(policy.as_ref()));
    asn::judge(&before, candidate, &difference, found, percent)
}

/// What files, or else the update that is held back, would change.
pub(super) fn diff(core: &Shared, files: &Received) -> Result<Value, Refusal> {
    let candidate = if files.is_empty() {
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
        open(core, files)?.0
    };
    let (live, watched) = {
        let core = lock(core);
        let policy = core.live.as_ref().map(|live| &*live.policy);
        (Arc::clone(&core.database.db), watched(policy))
    };
    let difference = asn::compare(&live, &candidate, &watched);
    serde_json::to_value(difference).map_err(Refusal::from_error)
}
