//! Another database for the one in use: fetched, imported or accepted, and past the
//! gate. What the gate stops of the configured sources is held back.
//!
//! One update at a time. Sources are read and compared, the table is made and the snapshot written
//! without holding the core, which looks after interfaces meanwhile. Nobody who has files at hand
//! waits for a server.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::received::Received;
use crate::{
    asn::{
        self, AsnDb, Concern,
        fetch::{self, Remote},
        gate::Kind,
    },
    config::Config,
    daemon::{
        by::By,
        core::{Core, Ready},
        owner::Owner,
        refusal::{Refusal, in_words},
        updates::{
            Failure, Stage,
            database::Database,
            download::{Download, of_fetching, until_due},
            has_sources,
            held::{Held, Origin},
            read, salvaging,
            slot::Slot,
            watched,
        },
    },
    diagnostic::Diagnostics,
};

/// Who wants an update that the timer began.
const BY_CLOCK: &str = "asndb update, by the clock";
/// Before a source that failed is asked for again by the clock; doubles each time.
const AGAIN: Duration = Duration::from_secs(60);

/// Why an update comes to nothing, and where.
struct Stopped(Stage, Refusal);

impl<E: Into<Refusal>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self(Stage::Apply, error.into())
    }
}

/// Runs one update; others wait.
fn in_turn<T>(owner: &Owner, job: impl FnOnce() -> T) -> T {
    let turn = Arc::clone(&owner.view().updates.turn);
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    let result = job();
    // A daemon that fails at this shows an older time.
    let _ = owner.ask("a look at the sources", |core: &mut Core| {
        core.updates.note_confirmed();
    });
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
pub(in crate::daemon) fn import(
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

fn open(owner: &Owner, files: &Received) -> Result<(AsnDb, Diagnostics), Refusal> {
    let config = &owner.view().config;
    let (options, keys) = (salvaging(config), &config.updates.keys);
    let (asn, countries) = (files.asn(), files.countries());
    let opened = asn::bundle::open_trusted(&asn, &countries, &options, keys);
    let names = files.names();
    let (mut db, found) = opened.map_err(|e| Refusal::found("the import", names.renamed(e.0)))?;
    for source in &mut db.sources {
        names.rename(&mut source.file);
    }
    Ok((db, names.renamed(found)))
}

/// What the configuration names becomes live.
pub(in crate::daemon) fn update(
    owner: &Owner,
    accept: bool,
    id: Option<&str>,
    by: &By,
) -> Result<Value, Refusal> {
    if accept && (id.is_some() || owner.view().updates.held.is_some()) {
        return in_turn(owner, || {
            let view = owner.view();
            let (held, database) = view.updates.held_back(&view.kept.state, id)?;
            let (ready, by) = (Ready::new(&view, database)?, by.clone());
            let command = by.command.clone();
            owner.ask(&command, move |core| core.accept(held, ready, &by))?
        });
    }
    refresh(owner, by, accept)
}

/// The sources again, at the start or by the clock.
pub(in crate::daemon) fn renew(owner: &Owner, by: &str) {
    match refresh(owner, &By::daemon(by), false) {
        Ok(_) => tracing::info!("newer database sources were imported"),
        Err(e) => tracing::error!("the database stays as it was: {}", e.in_words()),
    }
}

/// Reads the sources again, and remembers how that went.
fn refresh(owner: &Owner, by: &By, accept: bool) -> Result<Value, Refusal> {
    let (stopped, fetching) = {
        let updates = &owner.view().updates;
        (updates.stopped, Arc::clone(&updates.fetching))
    };
    let _fetching = fetching.lock().unwrap_or_else(PoisonError::into_inner);
    let result = read_again(owner, by, accept);
    let failure = result.as_ref().err().map(|Stopped(stage, e)| Failure {
        at: Timestamp::now(),
        stage: *stage,
        message: e.in_words(),
    });
    owner.ask("a note of an update", move |core| {
        core.updates.note_confirmed();
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

fn read_again(owner: &Owner, by: &By, accept: bool) -> Result<Value, Stopped> {
    let view = owner.view();
    let (config, folder, progress) = (
        &view.config,
        view.kept.state.sources(),
        &view.updates.progress,
    );
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
    let stopped = owner.view().updates.stopped;
    let result = offer(owner, candidate, by, accept, true);
    let held = owner.view().updates.stopped > stopped;
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
pub(in crate::daemon) fn next_due(owner: &Owner) -> Option<Duration> {
    let view = owner.view();
    let folder = view.kept.state.sources();
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
pub(in crate::daemon) fn fetch_due(owner: &Owner) {
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
pub(in crate::daemon) fn progress(owner: &Owner) -> Value {
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
        let unknown = view.troubles.is_kept() && !view.updates.database.was_in_use();
        (
            view.updates.database.clone(),
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
        let ready = Ready::new(&owner.view(), database)?;
        return owner.ask(&command, move |core| {
            let mut answer = core.replace_database(ready, &found, &by)?;
            if accept {
                held.log();
                answer["accepted"] = json!(held);
            }
            let state = Arc::clone(&core.kept.state);
            core.updates.taken(&state);
            if accept || !is_same {
                let warnings = asn::gate::warnings(&difference);
                core.updates
                    .warn(&state, if accept { Vec::new() } else { warnings });
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
    owner.ask(&by.command, move |core| {
        core.updates.hold(&core.kept.state, &db, held)
    })??;
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

/// What files, or else the update that is held back, would change.
pub(in crate::daemon) fn diff(owner: &Owner, files: &Received) -> Result<Value, Refusal> {
    let candidate = if files.is_empty() {
        let path = {
            let view = owner.view();
            if view.updates.held.is_none() {
                return Err(Refusal::new(
                    "no update is held back",
                    "name files to compare with: `kordon asndb diff FILE…`",
                ));
            }
            view.kept.state.held()
        };
        asn::load(&path).map_err(|e| Refusal::new(e.to_string(), "run the update again"))?
    } else {
        open(owner, files)?.0
    };
    let (live, watched) = {
        let view = owner.view();
        (
            Arc::clone(&view.updates.database.db),
            watched(view.policy()),
        )
    };
    let difference = asn::compare(&live, &candidate, &watched);
    serde_json::to_value(difference).map_err(Refusal::from_error)
}
