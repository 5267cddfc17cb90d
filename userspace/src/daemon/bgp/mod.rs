//! Live BGP: routers connect, what they tell goes into the feed, and what takes effect
//! goes into the kernel's table.
//!
//! Sessions only ever hold the feed's lock, and shortly; the core has one job for all changes
//! that have come meanwhile. A session that sends what cannot be read is closed,
//! and what it brought before stays.
//!
//! [`admission`] says who may connect ([`owner`]: whose socket it is), [`sessions`] reads
//! what they send, [`report`] tells what there is.

mod admission;
mod owner;
mod report;
mod sessions;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use self::admission::Users;
pub(super) use self::report::in_words;
use super::{
    core::Core,
    database::Database,
    journal::By,
    log::Repeated,
    owner::Owner as CoreOwner,
    state::{Prepared, StateDir},
};
use crate::{
    asn::AsnDb,
    bmp::{
        feed::{Feed, Settings},
        overlay::{Change, Stakes},
        rib::Moment,
    },
    config,
    diagnostic::quoted,
};

/// What there is is kept on disk so often, if it has changed.
const KEEP: Duration = Duration::from_secs(30);
/// Changes that no rule asks about come into the kernel so often: only whose packets are
/// said to be depends on them, and a new table costs more than they are worth.
const LAZY: Duration = Duration::from_secs(5);
/// Changes of routes are a line of the history so often.
const NOTED: Duration = Duration::from_secs(24 * 3600);
/// Time brings something at most this much later.
const TICK: Duration = Duration::from_secs(1);

/// Changes that are not in the kernel yet.
#[derive(Debug, Default)]
struct Pending {
    changes: Vec<Change>,
    /// A verdict depends on one of them.
    urgent: bool,
    /// When others were brought there last.
    last: Option<Instant>,
}

/// What the daemon has of live BGP; shared.
#[derive(Clone, Debug)]
pub(super) struct Bgp {
    config: config::Bmp,
    feed: Arc<Mutex<Feed>>,
    start: Instant,
    pending: Arc<Mutex<Pending>>,
    /// Who may connect from this machine.
    users: Users,
    /// Connections that were turned away.
    refused: Arc<AtomicU64>,
    /// Something has come.
    news: Arc<Notify>,
    /// Changes have not come to the kernel.
    behind: Arc<AtomicBool>,
    failures: Arc<AtomicU64>,
    /// What had come when it was kept last.
    kept: Arc<AtomicU64>,
    /// Why it could not be.
    unkept: Arc<Mutex<Repeated>>,
    /// What an earlier daemon had is lost, and not known again: nothing is kept in its place,
    /// so that the next start finds it lost, too.
    lost: Arc<AtomicBool>,
    /// Microseconds of the last one; 0: there was none.
    took: Arc<AtomicU64>,
    /// Changes that came into the table in place.
    pub(super) in_place: Arc<AtomicU64>,
}

impl Bgp {
    pub(super) fn new(config: &config::Bmp, database: &Database) -> Self {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let settings = Settings {
            hold: seconds(config.hold),
            stale_after: seconds(config.stale_after),
            forget_after: seconds(config.forget_after),
        };
        let feed = Feed::new(settings, Stakes::default(), Arc::clone(&database.db));
        Self {
            config: config.clone(),
            feed: Arc::new(Mutex::new(feed)),
            start: Instant::now(),
            pending: Arc::default(),
            users: Users::default(),
            refused: Arc::default(),
            news: Arc::default(),
            behind: Arc::default(),
            failures: Arc::default(),
            kept: Arc::default(),
            unkept: Arc::default(),
            lost: Arc::default(),
            took: Arc::default(),
            in_place: Arc::default(),
        }
    }

    /// Takes over what an earlier daemon had; `expected`: it had something.
    ///
    /// # Errors
    /// When that is lost, in words.
    pub(super) fn restore(&self, state: &StateDir, expected: bool) -> Result<(), String> {
        let path = state.bgp();
        let lost = |why: &dyn std::fmt::Display| {
            self.lost.store(true, Ordering::Relaxed);
            let path = quoted(&path.display().to_string());
            format!(
                "what live BGP said is lost: {path}: {why}; it is known again when the routers \
                 have told all and been there for {} s",
                self.config.stale_after.as_secs()
            )
        };
        let bytes = match crate::regular::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !expected => return Ok(()),
            Err(e) => return Err(lost(&e)),
        };
        let now = self.now();
        let restored = self.feed().restore(&bytes, now);
        restored.map_err(|e| lost(&e))
    }

    /// Whether what is lost may be taken for known again: who was there before is not known,
    /// so all who come have to have told all, and nobody new for as long as makes others stale.
    pub(super) fn is_known_again(&self) -> bool {
        self.feed().is_complete(self.now())
    }

    /// What was lost is known again, or is none.
    pub(super) fn found(&self) {
        self.lost.store(false, Ordering::Relaxed);
    }

    /// Keeps it for the next daemon, unless nothing has come since, or this is less than
    /// what is lost.
    fn keep(&self, path: &Path) {
        if self.lost.load(Ordering::Relaxed) {
            return;
        }
        let (bytes, updates) = {
            let feed = self.feed();
            let updates = feed.counts().updates + feed.revision();
            if self.kept.load(Ordering::Relaxed) == updates {
                return;
            }
            (feed.to_bytes(), updates)
        };
        match Prepared::write(path, &bytes).and_then(Prepared::commit) {
            Ok(()) => {
                self.kept.store(updates, Ordering::Relaxed);
                self.unkept().end();
            }
            Err(e) => {
                let words = format!("what BGP says cannot be kept: {e}");
                if self.unkept().is_news(&words) {
                    tracing::error!("{words}");
                }
            }
        }
    }

    fn unkept(&self) -> MutexGuard<'_, Repeated> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever panicked with it: routes are replaced one by one.
    pub(super) fn feed(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the kernel lacks something that is in effect.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// What is in effect, over a database.
    pub(super) fn overlaid(&self, db: &AsnDb) -> AsnDb {
        self.feed().overlaid(db)
    }

    /// A database with what is in effect over it.
    pub(super) fn over(&self, database: Database) -> Database {
        database.under(&self.feed())
    }

    pub(super) fn now(&self) -> Moment {
        let wall = Timestamp::now().as_second();
        let steady = self.start.elapsed().as_secs();
        Moment {
            wall: u32::try_from(wall).unwrap_or_default(),
            steady: u32::try_from(steady).unwrap_or(u32::MAX),
        }
    }
}

/// Changes that are in effect and not in the history yet.
#[derive(Debug, Default)]
pub(super) struct Tally {
    changes: u64,
    /// Those that a verdict depends on.
    of_rules: u64,
    /// When the first of them took effect.
    since: Option<Timestamp>,
    /// When others came into the history last.
    noted: Option<Instant>,
}

impl Core {
    /// The policy or the database is another one.
    pub(super) fn tell_bgp(&self) {
        let (Some(bgp), Some(live)) = (&self.bgp, &self.live) else {
            return;
        };
        let stakes = Stakes::of(&live.policy, &self.database.db);
        if bgp.feed().ground(stakes, Arc::clone(&self.database.db)) {
            bgp.pending().urgent = true;
            bgp.news.notify_one();
        }
    }

    /// A database as it is with what is in effect over it.
    pub(super) fn with_bgp(&self, database: Database) -> Database {
        match &self.bgp {
            Some(bgp) => bgp.over(database),
            None => database,
        }
    }

    /// Keeps what live BGP has: the daemon ends.
    pub(super) fn keep_bgp(&mut self) {
        if let Some(bgp) = &self.bgp {
            bgp.keep(&self.state.bgp());
        }
        self.note_tally();
    }

    /// Takes down that changes of live BGP are in effect: the next start has to find them,
    /// and the history names them.
    fn note_bgp(&mut self, changes: &[Change], bgp: &Bgp) {
        if !self.current.routes && !bgp.feed().is_empty() {
            self.current.routes = true;
            self.save();
            bgp.keep(&self.state.bgp());
        }
        let tally = &mut self.tally;
        tally.changes += changes.len() as u64;
        tally.of_rules += changes.iter().filter(|change| change.urgent).count() as u64;
        tally.since = tally.since.or_else(|| Some(Timestamp::now()));
        if tally.noted.is_none_or(|noted| noted.elapsed() >= NOTED) {
            self.note_tally();
        }
    }

    /// Not each route: they are too many for a history.
    fn note_tally(&mut self) {
        let Tally {
            changes,
            of_rules,
            since: Some(since),
            ..
        } = std::mem::take(&mut self.tally)
        else {
            return;
        };
        self.tally.noted = Some(Instant::now());
        if changes > 0 {
            let what = format!(
                "live BGP: changes of routes in effect: {changes}, of what rules name: \
                 {of_rules}, since {since:.0}"
            );
            self.note(&By::daemon(&what), self.live_hash());
        }
    }

    /// Brings what has come into the kernel; `all`: also what does not hurry.
    pub(super) fn catch_up(&mut self, all: bool) {
        let Some(bgp) = self.bgp.clone() else { return };
        if self.detached || self.live.is_none() {
            return;
        }
        let start = Instant::now();
        let mut pending = bgp.pending();
        let new = bgp.feed().settle(bgp.now());
        pending.urgent |= new.iter().any(|change| change.urgent);
        pending.changes.extend(new);
        let behind = bgp.behind.load(Ordering::Relaxed);
        let waits =
            !all && !pending.urgent && pending.last.is_some_and(|last| last.elapsed() < LAZY);
        if !behind && (pending.changes.is_empty() || waits) {
            return;
        }
        let changes = std::mem::take(&mut pending.changes);
        pending.urgent = false;
        pending.last = Some(start);
        // The change asks for it as well.
        drop(pending);
        // A panic leaves the table behind as well.
        let unfinished = Unfinished(&bgp.behind);
        let followed = self.follow(&changes, &bgp);
        drop(unfinished);
        match followed {
            Ok(()) => {
                self.note_bgp(&changes, &bgp);
                bgp.behind.store(false, Ordering::Relaxed);
                let took = start.elapsed();
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                bgp.took.store(micros.max(1), Ordering::Relaxed);
                tracing::debug!(changes = changes.len(), ?took, "live BGP");
            }
            Err(e) => {
                bgp.failures.fetch_add(1, Ordering::Relaxed);
                if !bgp.behind.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        "what BGP says now is not enforced yet, and is tried again: {}",
                        e.in_words()
                    );
                }
            }
        }
    }
}

/// Says that changes have not come to the kernel where they were lost in a panic.
struct Unfinished<'a>(&'a AtomicBool);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Accepts sessions and follows what they say. It is kept at `path`.
pub(super) async fn serve(owner: CoreOwner, bgp: Bgp, path: PathBuf) {
    let users = bgp.clone();
    // Nobody is turned away because it is not known yet who may come.
    let _ = spawn_blocking(move || users.users.look_up(&users.config)).await;
    tokio::spawn(sessions::accept(bgp.clone()));
    tokio::spawn(keep(bgp.clone(), path));
    loop {
        let _ = timeout(TICK, bgp.news.notified()).await;
        let start = Instant::now();
        // One that panicked has been reported.
        let _ = owner.request("live BGP", |core| core.catch_up(false)).await;
        // What comes meanwhile is one change, and others have their turn.
        sleep((start.elapsed() / 4).min(TICK)).await;
    }
}

/// A daemon that is killed has it, too, but for the last moments.
async fn keep(bgp: Bgp, path: PathBuf) {
    loop {
        sleep(KEEP).await;
        let (bgp, path) = (bgp.clone(), path.clone());
        let job = move || {
            bgp.keep(&path);
            bgp.users.look_up(&bgp.config);
        };
        let _ = spawn_blocking(job).await;
    }
}
