//! Live BGP: routers connect, what they tell goes into the feed, and what takes effect
//! goes into the kernel's table.
//!
//! Sessions only ever hold the feed's lock, and shortly; the core has one job for all changes
//! that have come meanwhile (`core::routes`). A session that sends what cannot be read is closed,
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
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use self::admission::Users;
pub(super) use self::report::in_words;

use super::{
    log::Repeated,
    refusal::Refusal,
    state::{Prepared, StateDir},
};
use crate::{
    asn::AsnDb,
    bmp::{
        feed::{Feed, InEffect, Settings},
        overlay::{Change, Stakes},
        rib::Moment,
    },
    config,
    diagnostic::quoted,
    metrics,
};

/// What there is is kept on disk so often, if it has changed.
const KEEP: Duration = Duration::from_secs(30);
/// What takes no longer to keep is kept after each change that a verdict depends on.
const BRIEF: Duration = Duration::from_millis(50);
/// What takes longer is kept soon, in the background, and then not again for so many times as long.
const RESTS: u32 = 20;
/// Changes that no rule asks about come into the kernel so often: only whose packets are
/// said to be depends on them, and a new table costs more than they are worth.
const LAZY: Duration = Duration::from_secs(5);
/// Time brings something at most this much later.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Whoever only looks at the feed tries so often, and waits so long in between.
const LOOKS: u32 = 25;
const LOOK: Duration = Duration::from_millis(2);

/// Live BGP is being worked on, and nobody waits for that who only asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("routes of live BGP are being taken in just now")]
pub(super) struct Busy;

impl From<Busy> for Refusal {
    fn from(busy: Busy) -> Self {
        Self::new(busy.to_string(), "ask again in a moment")
    }
}

/// Changes that are not in the kernel yet.
#[derive(Debug, Default)]
struct Pending {
    changes: Vec<Change>,
    /// A verdict depends on one of them.
    urgent: bool,
    /// When others were brought there last.
    last: Option<Instant>,
}

/// What readers were told, and when.
#[derive(Debug, Default)]
struct Told {
    status: Option<(Instant, Value)>,
    metrics: Option<(Instant, metrics::Bgp)>,
}

/// Readers are told the same again for so long, while the feed is busy.
const TOLD: Duration = Duration::from_secs(5);

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
    pub(super) news: Arc<Notify>,
    /// Changes have not come to the kernel.
    behind: Arc<AtomicBool>,
    failures: Arc<AtomicU64>,
    /// What had come when it was kept last.
    kept: Arc<AtomicU64>,
    /// Microseconds that keeping it took last.
    keeping: Arc<AtomicU64>,
    /// It is to be kept as soon as that is reasonable.
    soon: Arc<Notify>,
    /// Why it could not be.
    unkept: Arc<Mutex<Repeated>>,
    /// What an earlier daemon had is lost, and not known again: nothing is kept in its place,
    /// so that the next start finds it lost, too.
    lost: Arc<AtomicBool>,
    /// Microseconds of the last one; 0: there was none.
    took: Arc<AtomicU64>,
    /// Changes that came into the table in place.
    pub(super) in_place: Arc<AtomicU64>,
    /// What came due since somebody began to make a table ahead; `None`: nobody does.
    missed: Arc<Mutex<Option<Vec<Change>>>>,
    /// What readers were told last.
    told: Arc<Mutex<Told>>,
}

impl Bgp {
    pub(super) fn new(config: &config::Bmp, imported: &Arc<AsnDb>) -> Self {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let settings = Settings {
            hold: seconds(config.hold),
            stale_after: seconds(config.stale_after),
            forget_after: seconds(config.forget_after),
        };
        let feed = Feed::new(settings, Stakes::default(), Arc::clone(imported));
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
            keeping: Arc::default(),
            soon: Arc::default(),
            unkept: Arc::default(),
            lost: Arc::default(),
            took: Arc::default(),
            in_place: Arc::default(),
            missed: Arc::default(),
            told: Arc::default(),
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
    pub(super) fn keep(&self, path: &Path) {
        if self.lost.load(Ordering::Relaxed) {
            return;
        }
        let start = Instant::now();
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
        self.keeping.store(micros(start), Ordering::Relaxed);
    }

    /// Keeps it after changes that a verdict depends on: the daemon that comes after one that is
    /// killed would else bring back what was before them. What takes too long for that is kept soon.
    pub(super) fn keep_now(&self, path: &Path) {
        let took = Duration::from_micros(self.keeping.load(Ordering::Relaxed));
        if took <= BRIEF {
            self.keep(path);
        } else {
            self.soon.notify_one();
        }
    }

    fn unkept(&self) -> MutexGuard<'_, Repeated> {
        lock(&self.unkept)
    }

    /// What is in effect.
    pub(super) fn in_effect(&self) -> InEffect {
        self.feed().in_effect()
    }

    /// The feed, for whoever only looks: where somebody works on it for longer than a moment,
    /// that is the answer.
    pub(super) fn glance(&self) -> Result<MutexGuard<'_, Feed>, Busy> {
        for _ in 0..LOOKS {
            match self.feed.try_lock() {
                Ok(feed) => return Ok(feed),
                Err(TryLockError::Poisoned(feed)) => return Ok(feed.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
            }
        }
        Err(Busy)
    }

    /// As [`Self::glance`], for whoever can be told again what was told last; that is the error,
    /// as long as it is young enough.
    fn glance_or<T: Clone>(
        &self,
        of: impl FnOnce(&Told) -> Option<&(Instant, T)>,
    ) -> Result<MutexGuard<'_, Feed>, T> {
        if let Ok(feed) = self.glance() {
            return Ok(feed);
        }
        // Its lock is not held while the feed is waited for, which is locked before it elsewhere.
        let told = of(&lock(&self.told))
            .filter(|(at, _)| at.elapsed() < TOLD)
            .map(|(_, told)| told.clone());
        told.map_or_else(|| Ok(self.feed()), Err)
    }

    /// Whatever panicked with it: routes are replaced one by one.
    pub(super) fn feed(&self) -> MutexGuard<'_, Feed> {
        lock(&self.feed)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }

    /// The policy or the database is another one.
    pub(super) fn ground(&self, stakes: Stakes, db: &Arc<AsnDb>) {
        if self.feed().ground(stakes, Arc::clone(db)) {
            self.pending().urgent = true;
            self.news.notify_one();
        }
    }

    /// What is to come into the kernel now; `all`: also what does not hurry. `None`: nothing.
    pub(super) fn due(&self, all: bool) -> Option<Vec<Change>> {
        let mut pending = self.pending();
        let new = self.feed().decide(self.now());
        pending.urgent |= new.iter().any(|change| change.urgent);
        pending.changes.extend(new);
        let waits =
            !all && !pending.urgent && pending.last.is_some_and(|last| last.elapsed() < LAZY);
        if !self.is_behind() && (pending.changes.is_empty() || waits) {
            return None;
        }
        pending.urgent = false;
        pending.last = Some(Instant::now());
        let changes = std::mem::take(&mut pending.changes);
        if let Some(missed) = &mut *lock(&self.missed) {
            missed.extend_from_slice(&changes);
        }
        Some(changes)
    }

    /// From now on what comes due is missed by a table that somebody makes ahead.
    pub(super) fn note_missed(&self) {
        *lock(&self.missed) = Some(Vec::new());
    }

    /// What was missed by it, until now.
    pub(super) fn missed(&self) -> Option<Vec<Change>> {
        lock(&self.missed).take()
    }

    /// What was due is in the kernel.
    pub(super) fn caught_up(&self, took: Duration) {
        self.behind.store(false, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.took.store(micros.max(1), Ordering::Relaxed);
    }

    /// What was due is not; whether that is news.
    pub(super) fn fell_behind(&self) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed);
        !self.behind.swap(true, Ordering::Relaxed)
    }

    /// Whether the kernel lacks something that is in effect.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
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

/// What is behind them is replaced whole, or as a number.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Accepts sessions, and keeps what they say at `path`.
pub(super) async fn serve(bgp: Bgp, path: PathBuf) {
    let users = bgp.clone();
    // Nobody is turned away because it is not known yet who may come.
    let _ = spawn_blocking(move || users.users.look_up(&users.config)).await;
    tokio::join!(sessions::accept(bgp.clone()), keep(bgp, path));
}

/// A daemon that is killed has it, too, but for the last moments.
async fn keep(bgp: Bgp, path: PathBuf) {
    let mut looked = Instant::now();
    loop {
        let _ = timeout(KEEP, bgp.soon.notified()).await;
        let start = Instant::now();
        let looks = looked.elapsed() >= KEEP;
        if looks {
            looked = start;
        }
        let (bgp, path) = (bgp.clone(), path.clone());
        let job = move || {
            bgp.keep(&path);
            if looks {
                bgp.users.look_up(&bgp.config);
            }
        };
        let _ = spawn_blocking(job).await;
        sleep(start.elapsed() * RESTS).await;
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
