//! Another database for the one in use: fetched, imported or accepted, and past the
//! gate. What the gate stops of the configured sources is [`held`](super::held) back.
//!
//! One update at a time; sources are read and compared without holding the core. Nobody who
//! has files at hand waits for a server.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    core::Core,
    database::Database,
    downloads::{Download, of_fetching, rename, renamed, unreadable, until_due},
    fetched::Slot,
    held::{self, Held, Origin, Warned},
    journal::By,
    owner::Owner,
    received::Received,
    refusal::{Refusal, in_words},
    state::StateDir,
};
use crate::{
    asn::{
        self, AsnDb, Concern, Watched,
        fetch::{self, Progress, Remote},
        gate::Kind,
    },
    config::Config,
    diagnostic::Diagnostics,
    policy::Policy,
};

/// Who wants an update that the timer began.
const BY_CLOCK: &str = "asndb update, by the clock";
/// Before a source that failed is asked for again by the clock; doubles each time.
const AGAIN: Duration = Duration::from_secs(60);

/// How updates went.
#[derive(Debug, Default)]
pub(super) struct Updates {
    /// Held while one is under way.
    turn: Arc<Mutex<()>>,
    /// Held while servers are asked.
    fetching: Arc<Mutex<()>>,
    /// Before when the clock asks no server that does not want it.
    not_before: HashMap<String, Timestamp>,
    /// What waits.
    pub(super) held: Option<Held>,
    /// What the last that was taken warned of.
    pub(super) warned: Option<Warned>,
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
    pub(super) failure: Option<Failure>,
}

/// What readers get of it.
pub(super) struct Updated {
    pub(super) status: Value,
    pub(super) concerns: Vec<(&'static str, bool)>,
    pub(super) failing: Vec<(&'static str, bool)>,
    pub(super) counts: [(&'static str, u64); 3],
    /// Whether one waits.
    held: bool,
    pub(super) confirmed: Option<Timestamp>,
    not_before: HashMap<String, Timestamp>,
    in_a_row: u32,
    turn: Arc<Mutex<()>>,
    fetching: Arc<Mutex<()>>,
    progress: Arc<Progress>,
}

impl Updated {
    /// How many were held back since the start.
    fn stopped(&self) -> u64 {
        let [_, (_, stopped), _] = self.counts;
        stopped
    }
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
pub(super) struct Failure {
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
        let (held, warned) = held::load(state);
        Self {
            held,
            warned,
            ..Self::default()
        }
    }

    /// For readers.
    pub(super) fn view(&self) -> Updated {
        Updated {
            status: self.status(),
            concerns: self.concerns(),
            failing: self.failing(),
            counts: [
                ("taken", self.taken),
                ("held", self.stopped),
                ("failed", self.failed),
            ],
            held: self.held.is_some(),
            confirmed: self.confirmed,
            not_before: self.not_before.clone(),
            in_a_row: self.in_a_row,
            turn: Arc::clone(&self.turn),
            fetching: Arc::clone(&self.fetching),
            progress: Arc::clone(&self.progress),
        }
    }

    /// For `status`.
    fn status(&self) -> Value {
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

    /// Whether something of this kind is why an update is held back.
    fn concerns(&self) -> Vec<(&'static str, bool)> {
        let held = self.held.iter().flat_map(|held| &held.concerns);
        let held: Vec<Kind> = held.map(|concern| concern.kind).collect();
        let one = |kind: &Kind| (kind.as_str(), held.contains(kind));
        Kind::ALL.iter().map(one).collect()
    }

    /// Of each stage, whether the last update failed there.
    fn failing(&self) -> Vec<(&'static str, bool)> {
        let failed = self.failure.as_ref().map(|failure| failure.stage);
        let one = |stage: &Stage| (stage.as_str(), failed == Some(*stage));
        Stage::ALL.iter().map(one).collect()
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

/// Runs one update; others wait.
fn in_turn<T>(owner: &Owner, job: impl FnOnce() -> T) -> T {
    let turn = Arc::clone(&owner.view().updates.turn);
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    let result = job();
    // A daemon that fails at this shows an older time.
    let _ = owner.ask("a look at the sources", Core::note_confirmed);
    result
}

/// How long a server does not want to be asked.
fn unwelcome(not_before: &HashMap<String, Timestamp>, remote: &Remote) -> Duration {
    let until = not_before.get(remote.url.as_str());
    let wait = until.map(|until| until.duration_since(Timestamp::now()));
    wait.and_then(|wait| Duration::try_from(wait).ok())
        .unwrap_or_default()
}

/// What files hold becomes live. They are read before it is their turn: what takes long
/// there holds up nobody.
pub(super) fn import(
    owner: &Owner,
    files: &Received,
    accept: bool,
    unsigned: bool,
    by: &By,
) -> Result<Value, Refusal> {
    let signed = owner.view().config.updates.keys.is_empty()
        || files.asn().iter().any(|path| asn::bundle::is_bundle(path));
    if !signed && !unsigned {
        return Err(Refusal::new(
            "this is not a signed bundle, and `keys` in `[asndb]` asks for one",
            "`kordon asndb export` makes one; `--unsigned` imports other files all the same",
        ));
    }
    let (db, found) = open(owner, files)?;
    in_turn(owner, || {
        let candidate = Candidate {
            database: Database::new(db),
            found,
            doubts: Vec::new(),
            origins: files.origins(),
        };
        offer(owner, candidate, by, accept, false)
    })
}

/// As configured, and damaged files are for the gate to judge.
fn salvaging(config: &Config) -> asn::Options {
    asn::Options {
        salvage: true,
        ..config.import
    }
}

fn open(owner: &Owner, files: &Received) -> Result<(AsnDb, Diagnostics), Refusal> {
    let config = &owner.view().config;
    let (options, keys) = (salvaging(config), &config.updates.keys);
    let (asn, countries) = (files.asn(), files.countries());
    let opened = asn::bundle::open_trusted(&asn, &countries, &options, keys);
    let (mut db, found) = opened.map_err(|e| Refusal::found("the import", files.renamed(e.0)))?;
    for source in &mut db.sources {
        files.rename(&mut source.file);
    }
    Ok((db, files.renamed(found)))
}

/// What the configuration names becomes live.
pub(super) fn update(
    owner: &Owner,
    accept: bool,
    id: Option<&str>,
    by: &By,
) -> Result<Value, Refusal> {
    if accept && (id.is_some() || owner.view().updates.held) {
        let (id, by) = (id.map(str::to_owned), by.clone());
        return in_turn(owner, || {
            let command = by.command.clone();
            owner.ask(&command, move |core| core.accept(id.as_deref(), &by))?
        });
    }
    refresh(owner, by, accept)
}

/// The sources again, at the start or by the clock.
pub(super) fn renew(owner: &Owner, by: &str) {
    match refresh(owner, &By::daemon(by), false) {
        Ok(_) => tracing::info!("newer database sources were imported"),
        Err(e) => tracing::error!("the database stays as it was: {}", e.in_words()),
    }
}

/// Reads the sources again, and remembers how that went.
fn refresh(owner: &Owner, by: &By, accept: bool) -> Result<Value, Refusal> {
    let (stopped, fetching) = {
        let updates = &owner.view().updates;
        (updates.stopped(), Arc::clone(&updates.fetching))
    };
    let _fetching = fetching.lock().unwrap_or_else(PoisonError::into_inner);
    let result = read_again(owner, by, accept);
    let failure = result.as_ref().err().map(|Stopped(stage, e)| Failure {
        at: Timestamp::now(),
        stage: *stage,
        message: e.in_words(),
    });
    owner.ask("a note of an update", move |core| {
        core.note_confirmed();
        match failure {
            None => core.updates.failure = None,
            // What is held back is shown as that.
            Some(_) if core.updates.stopped > stopped => {}
            Some(failure) => {
                core.updates.failed += 1;
                core.updates.failure = Some(failure);
            }
        }
    })?;
    result.map_err(|stopped| stopped.1)
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

fn read_again(owner: &Owner, by: &By, accept: bool) -> Result<Value, Stopped> {
    let view = owner.view();
    let (config, folder, progress) = (&view.config, view.state.sources(), &view.updates.progress);
    let remotes = &config.updates.remotes;
    has_sources(config)?;
    progress.clear();
    let by_clock = by.command == BY_CLOCK;
    let mut downloads = Vec::new();
    let mut failures = Vec::new();
    for remote in remotes {
        let wait = unwelcome(&view.updates.not_before, remote);
        if by_clock && wait > Duration::ZERO {
            downloads.push(Download::none(remote, &folder));
            failures.push(fetch::FetchError::not_yet(remote, wait));
            continue;
        }
        let (download, failure) = Download::of(remote, &folder, config, by_clock, progress)?;
        let wait = failure.as_ref().and_then(fetch::FetchError::wait);
        let (url, until) = (
            remote.url.to_string(),
            wait.map(|wait| Timestamp::now() + wait),
        );
        owner.ask("a note of a download", move |core| {
            match until {
                Some(until) => core.updates.not_before.insert(url, until),
                None => core.updates.not_before.remove(&url),
            };
        })?;
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
        let mut refusal = of_fetching(&failures, first);
        if first.is_passing() {
            refusal.help = refusal.help.map(|help| help + "; it is asked again later");
        }
        return Err(Stopped(Stage::Fetch, refusal));
    }
    if by_clock && nothing_new {
        tracing::info!("the sources of the ASN database have not changed");
        return Ok(json!({ "changed": false }));
    }
    let result = in_turn(owner, || made(owner, config, downloads, by, accept))?;
    if let Some(first) = failures.first() {
        // The rest is live; this one is not.
        let message = format!("the other sources are live, but {first}");
        return Err(Stopped(Stage::Fetch, Refusal::new(message, first.help())));
    }
    Ok(result)
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
    for source in &mut db.sources {
        rename(&mut source.file, downloads);
    }
    Ok((db, renamed(found, downloads)))
}

/// What they make together, offered.
fn made(
    owner: &Owner,
    config: &Config,
    mut downloads: Vec<Download>,
    by: &By,
    accept: bool,
) -> Result<Value, Stopped> {
    let (db, found) = read(config, &downloads).map_err(|e| Stopped(Stage::Read, e))?;
    for warning in &found.warnings {
        tracing::warn!("{}", in_words(warning));
    }
    let files = config.sources.iter().chain(&config.countries);
    let mut origins: Vec<Origin> = files.map(|path| Origin::of_path(path)).collect();
    origins.extend(downloads.iter().map(Download::origin));
    let candidate = Candidate {
        database: Database::new(db),
        found,
        doubts: downloads.iter_mut().flat_map(Download::doubts).collect(),
        origins,
    };
    let stopped = owner.view().updates.stopped();
    let result = offer(owner, candidate, by, accept, true);
    let held = owner.view().updates.stopped() > stopped;
    for Download { slot, file, .. } in downloads {
        let Some((file, known)) = file else { continue };
        match &result {
            Ok(_) => slot.keep(file, known)?,
            Err(_) if held => slot.hold(file, known)?,
            Err(_) => {}
        }
    }
    Ok(result?)
}

/// How long until some source is due; `None`: none is fetched.
pub(super) fn next_due(owner: &Owner) -> Option<Duration> {
    let view = owner.view();
    let folder = view.state.sources();
    let remotes = &view.config.updates.remotes;
    let wait = |remote: &Remote| {
        let due = until_due(&Slot::of(&folder, remote), remote);
        due.max(unwelcome(&view.updates.not_before, remote))
    };
    let due = remotes.iter().map(wait).min()?;
    let shortest = remotes.iter().map(|remote| remote.every).min()?;
    // What failed or is held back is asked for again sooner than usual, but ever later.
    let again = match view.updates.in_a_row {
        0 => Duration::ZERO,
        n => shortest.min(AGAIN * 2_u32.pow(n.min(10) - 1)),
    };
    // Many routers have the same clock.
    let wait = due.max(again);
    Some(wait + wait.mul_f64(fastrand::f64() / 10.0))
}

/// By the clock.
pub(super) fn fetch_due(owner: &Owner) {
    let result = refresh(owner, &By::daemon(BY_CLOCK), false);
    if let Err(e) = &result {
        tracing::error!("the ASN database was not updated: {}", e.in_words());
    }
    let came = result.is_ok();
    let _ = owner.ask("a note of an update", move |core| {
        core.updates.in_a_row = if came { 0 } else { core.updates.in_a_row + 1 };
    });
}

/// What is on its way.
pub(super) fn progress(owner: &Owner) -> Value {
    json!({ "sources": owner.view().updates.progress.transfers() })
}

/// A database that may become the one in use.
struct Candidate {
    database: Database,
    /// What its import warned of.
    found: Diagnostics,
    /// What speaks against its files.
    doubts: Vec<Concern>,
    origins: Vec<Origin>,
}

/// Makes a database live unless something speaks against it: the gate, or `doubts`. What
/// is not taken is kept for `--accept` only where that is asked for.
fn offer(
    owner: &Owner,
    candidate: Candidate,
    by: &By,
    accept: bool,
    keep: bool,
) -> Result<Value, Refusal> {
    let Candidate {
        database,
        found,
        doubts,
        origins,
    } = candidate;
    let (live, watched, percent, nothing_known) = {
        let view = owner.view();
        let percent = view.config.updates.max_change;
        // What is in the kernel was made of one that is lost: there is nothing to compare with.
        let unknown = view.kept && !view.database.was_in_use();
        (
            view.database.clone(),
            watched(view.policy()),
            percent,
            unknown,
        )
    };
    let difference = asn::compare(&live.db, &database.db, &watched);
    let mut concerns = asn::judge(&live.db, &database.db, &difference, &found, percent);
    // What comes first is older than nothing.
    let is_first = live.db.sources.is_empty();
    concerns.extend(
        doubts
            .into_iter()
            .filter(|doubt| !is_first || doubt.kind == Kind::Checksum),
    );
    // Who asks for it is told that, and looks at it.
    if nothing_known && !by.is_asked_for() {
        concerns.push(Concern {
            kind: Kind::Unknown,
            message: "the database that was in use is lost, and nothing is left to compare with; \
                      what is in the kernel was made of it"
                .to_owned(),
        });
    }
    let held = Held::new(&database, &by.command, origins, concerns);
    if accept || held.concerns.is_empty() {
        // The same again says nothing new of those who lost half by it.
        let is_same = live.same(&database);
        let by = by.clone();
        let command = by.command.clone();
        return owner.ask(&command, move |core| {
            let mut answer = core.replace_database(database, &found, &by)?;
            if accept {
                held.log();
                answer["accepted"] = json!(held);
            }
            core.taken();
            if accept || !is_same {
                let warnings = asn::gate::warnings(&difference);
                core.warn(if accept { Vec::new() } else { warnings });
            }
            Ok(answer)
        })?;
    }
    let reasons = held.reasons();
    let left_out = asn::left_out(&live.db, &database.db);
    if !keep {
        tracing::warn!("an import is refused: {reasons}");
        if let Some(what) = left_out {
            let message = format!("the import is refused: {what}");
            return Err(Refusal::new(message, asn::gate::NAME_ALL));
        }
        return Err(Refusal::new(
            format!("the import is refused: {reasons}"),
            "the database in use stays, and nothing is kept; `kordon asndb diff FILE…` shows what \
             would change, `kordon asndb import --accept FILE…` takes it",
        ));
    }
    for concern in &held.concerns {
        tracing::error!(
            "the update of the ASN database is held back: {}",
            concern.message
        );
    }
    let id = held.id.clone();
    let db = Arc::clone(&database.db);
    owner.ask(&by.command, move |core| core.hold(&db, held))??;
    let missing = left_out.map_or_else(String::new, |what| {
        format!("{what}: add it to `[asndb]` in `kordon.toml` and restart the daemon; else ")
    });
    Err(Refusal::new(
        format!("the update is held back: {reasons}"),
        format!(
            "{missing}the database in use stays; `kordon asndb diff` shows what would change, \
             `kordon asndb update --accept={id}` takes it, `kordon asndb discard` forgets it"
        ),
    ))
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
}

/// What files, or else the update that is held back, would change.
pub(super) fn diff(owner: &Owner, files: &Received) -> Result<Value, Refusal> {
    let candidate = if files.is_empty() {
        let path = {
            let view = owner.view();
            if !view.updates.held {
                return Err(Refusal::new(
                    "no update is held back",
                    "name files to compare with: `kordon asndb diff FILE…`",
                ));
            }
            view.state.held()
        };
        asn::load(&path).map_err(|e| Refusal::new(e.to_string(), "run the update again"))?
    } else {
        open(owner, files)?.0
    };
    let (live, watched) = {
        let view = owner.view();
        (Arc::clone(&view.database.db), watched(view.policy()))
    };
    let difference = asn::compare(&live, &candidate, &watched);
    serde_json::to_value(difference).map_err(Refusal::from_error)
}
