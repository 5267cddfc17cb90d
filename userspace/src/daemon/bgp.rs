//! Live BGP: routers connect, what they tell goes into the feed, and what takes effect
//! goes into the kernel's table.
//!
//! Sessions only ever hold the feed's lock, and shortly; the core's is taken once for all
//! changes that have come meanwhile. A session that sends what cannot be read is closed,
//! and what it brought before stays.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    Shared,
    core::Core,
    database::Database,
    lock,
    state::{Prepared, StateDir},
};
use crate::{
    asn::AsnDb,
    bmp::{
        feed::{Feed, FeedError, Settings, Wait},
        message::{LOC_RIB, MAX_MESSAGE, Message},
        overlay::{Change, Stakes},
        rib::{Moment, Table},
    },
    config, metrics,
};

/// Sessions at a time.
const MAX_SESSIONS: usize = 16;
/// Read at a time; between two reads others have their turn.
const CHUNK: usize = 64 << 10;
/// Waits that `status` lists, of each family.
const SHOWN: usize = 50;
/// What there is is kept on disk so often, if it has changed.
const KEEP: Duration = Duration::from_secs(30);
/// Changes that no rule asks about come into the kernel so often: only whose packets are
/// said to be depends on them, and a new table costs more than they are worth.
const LAZY: Duration = Duration::from_secs(5);
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
    /// Something has come.
    news: Arc<Notify>,
    /// Changes have not come to the kernel.
    behind: Arc<AtomicBool>,
    failures: Arc<AtomicU64>,
    /// What had come when it was kept last.
    kept: Arc<AtomicU64>,
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
        };
        let feed = Feed::new(settings, Stakes::default(), Arc::clone(&database.db));
        Self {
            config: config.clone(),
            feed: Arc::new(Mutex::new(feed)),
            start: Instant::now(),
            pending: Arc::default(),
            news: Arc::default(),
            behind: Arc::default(),
            failures: Arc::default(),
            kept: Arc::default(),
            took: Arc::default(),
            in_place: Arc::default(),
        }
    }

    /// Takes over what an earlier daemon had.
    pub(super) fn restore(&self, state: &StateDir) {
        let path = state.bgp();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(e) => {
                tracing::error!("cannot read {}: {e}", path.display());
                return;
            }
        };
        let now = self.now();
        if let Err(e) = self.feed().restore(&bytes, now) {
            tracing::error!(
                "{} cannot be used: {e}; live BGP begins when a router connects",
                path.display()
            );
        }
    }

    /// Keeps it for the next daemon, unless nothing has come since.
    fn keep(&self, path: &Path) {
        let (bytes, updates) = {
            let feed = self.feed();
            let updates = feed.counts().updates + feed.revision();
            if self.kept.load(Ordering::Relaxed) == updates {
                return;
            }
            (feed.to_bytes(), updates)
        };
        match Prepared::write(path, &bytes).and_then(Prepared::commit) {
            Ok(()) => self.kept.store(updates, Ordering::Relaxed),
            Err(e) => tracing::error!("what BGP says cannot be kept: {e}"),
        }
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

    fn now(&self) -> Moment {
        let wall = Timestamp::now().as_second();
        let steady = self.start.elapsed().as_secs();
        Moment {
            wall: u32::try_from(wall).unwrap_or_default(),
            steady: u32::try_from(steady).unwrap_or(u32::MAX),
        }
    }

    /// What there is around an address.
    pub(super) fn at(&self, address: IpAddr) -> Value {
        let now = self.now();
        let (found, wait) = self.feed().at(address, now);
        json!({
            "prefix": found.as_ref().map(|found| found.prefix),
            "origins": found.as_ref().map(|found| &found.origins),
            "since": found.as_ref().map(|found| moment(found.since)),
            "peers": found.as_ref().map(|found| &found.peers),
            "stale": found.as_ref().is_some_and(|found| found.stale),
            "waiting": wait.map(|wait| waiting(&wait)),
        })
    }

    /// For `status`.
    pub(super) fn status(&self) -> Value {
        let now = self.now();
        let feed = self.feed();
        let sessions: Vec<Value> = feed
            .sessions()
            .iter()
            .map(|session| {
                json!({
                    "router": session.router,
                    "name": session.name,
                    "since": moment(session.since.wall),
                })
            })
            .collect();
        let peers: Vec<Value> = feed
            .tables()
            .filter(|(table, v4, v6)| table.up || v4 + v6 > 0)
            .map(|(table, v4, v6)| {
                json!({
                    "router": table.router,
                    "address": table.peer.address,
                    "asn": table.asn,
                    "table": table_word(table),
                    "state": state(table),
                    "since": moment(table.since.wall),
                    "routes_v4": v4,
                    "routes_v6": v6,
                })
            })
            .collect();
        let (v4, v6) = feed.prefixes();
        let waits: Vec<Value> = feed.waits(now, SHOWN).iter().map(waiting).collect();
        json!({
            "listen": self.config.listen,
            "sessions": sessions,
            "peers": peers,
            "prefixes_v4": v4,
            "prefixes_v6": v6,
            "waiting": feed.waiting(),
            "waits": waits,
            "behind": self.is_behind(),
            "in_place": self.in_place.load(Ordering::Relaxed),
        })
    }

    /// For the metrics.
    pub(super) fn snapshot(&self) -> metrics::Bgp {
        let feed = self.feed();
        let (mut peers, mut routes) = ([("up", 0), ("down", 0), ("stale", 0)], (0, 0));
        for (table, v4, v6) in feed.tables() {
            routes = (routes.0 + v4, routes.1 + v6);
            let state = state(table);
            if let Some(found) = peers.iter_mut().find(|(name, _)| *name == state) {
                found.1 += 1;
            }
        }
        let took = self.took.load(Ordering::Relaxed);
        metrics::Bgp {
            sessions: feed.sessions().len(),
            peers,
            routes,
            prefixes: feed.prefixes(),
            waiting: feed.waiting(),
            counts: feed.counts(),
            apply: (took > 0).then(|| Duration::from_micros(took)),
            failures: self.failures.load(Ordering::Relaxed),
            in_place: self.in_place.load(Ordering::Relaxed),
        }
    }
}

fn moment(second: u32) -> Option<Timestamp> {
    Timestamp::from_second(second.into()).ok()
}

fn state(table: &Table) -> &'static str {
    match (table.up, table.stale) {
        (true, _) => "up",
        (false, false) => "down",
        (false, true) => "stale",
    }
}

fn table_word(table: &Table) -> &'static str {
    match (table.peer.kind, table.post_policy) {
        (LOC_RIB, _) => "loc-rib",
        (_, false) => "pre-policy",
        (_, true) => "post-policy",
    }
}

fn waiting(wait: &Wait) -> Value {
    json!({
        "prefix": wait.prefix,
        "current": wait.current,
        "wanted": wait.wanted,
        "since": moment(wait.since),
        "seconds_left": wait.left,
    })
}

/// What [`Bgp::at`] found, as sentences.
pub(super) fn in_words(live: &Value) -> impl Iterator<Item = String> {
    let names = |asns: &Value| {
        let asns: Vec<String> = asns
            .as_array()
            .into_iter()
            .flatten()
            .map(|asn| format!("AS{asn}"))
            .collect();
        if asns.is_empty() {
            "nobody".to_owned()
        } else {
            asns.join(", ")
        }
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = (!live["prefix"].is_null()).then(|| {
        format!(
            "live BGP: {} is announced by {}, live since {}{}",
            text(&live["prefix"]),
            names(&live["origins"]),
            text(&live["since"]),
            if live["stale"] == true {
                "; its peers are gone, and this is what they said last"
            } else {
                ""
            }
        )
    });
    let wait = &live["waiting"];
    let wait = (!wait.is_null()).then(|| {
        format!(
            "live BGP: {} is with {} since {}; that loosens, and waits for another {} s",
            text(&wait["prefix"]),
            names(&wait["wanted"]),
            text(&wait["since"]),
            wait["seconds_left"]
        )
    });
    found.into_iter().chain(wait)
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
    pub(super) fn keep_bgp(&self) {
        if let Some(bgp) = &self.bgp {
            bgp.keep(&self.state.bgp());
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
        match self.follow(&changes, &bgp) {
            Ok(()) => {
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

/// Accepts sessions and follows what they say, where that is configured.
pub(super) async fn serve(core: Shared) {
    let (bgp, path) = {
        let core = lock(&core);
        (core.bgp.clone(), core.state.bgp())
    };
    let Some(bgp) = bgp else { return };
    tokio::spawn(accept(bgp.clone()));
    tokio::spawn(keep(bgp.clone(), path));
    loop {
        let _ = timeout(TICK, bgp.news.notified()).await;
        let start = Instant::now();
        let core = Arc::clone(&core);
        if let Err(e) = spawn_blocking(move || lock(&core).catch_up(false)).await {
            tracing::error!("following BGP failed inside the daemon: {e}");
        }
        // What comes meanwhile is one change, and others have their turn.
        sleep((start.elapsed() / 4).min(TICK)).await;
    }
}

/// A daemon that is killed has it, too, but for the last moments.
async fn keep(bgp: Bgp, path: PathBuf) {
    loop {
        sleep(KEEP).await;
        let (bgp, path) = (bgp.clone(), path.clone());
        let _ = spawn_blocking(move || bgp.keep(&path)).await;
    }
}

async fn accept(bgp: Bgp) {
    let address = bgp.config.listen;
    let listener = listen(address).await;
    tracing::info!("BMP sessions are accepted on {address}");
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!("cannot accept a BMP session: {e}");
                sleep(TICK).await;
                continue;
            }
        };
        let router = from.ip().to_canonical();
        let why = if !bgp.config.allows(router) {
            "`peers` in `[bmp]` does not name it"
        } else if bgp.feed().sessions().len() >= MAX_SESSIONS {
            "there are too many sessions"
        } else {
            let number = bgp.feed().open(router, bgp.now());
            tokio::spawn(session(stream, from, number, bgp.clone()));
            continue;
        };
        bgp.feed().refuse();
        tracing::warn!("BMP session from {from} refused: {why}");
        // Who asks again and again does not fill the log.
        sleep(Duration::from_millis(100)).await;
    }
}

/// An address that is not there yet is waited for.
async fn listen(address: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(e) if said => tracing::debug!("BMP on {address}: {e}"),
            Err(e) => {
                tracing::error!(
                    "cannot accept BMP sessions on {address}: {e}; trying again until it works, \
                     or change `listen` in `[bmp]`"
                );
                said = true;
            }
        }
        sleep(Duration::from_secs(2)).await;
    }
}

async fn session(stream: TcpStream, from: SocketAddr, number: u64, bgp: Bgp) {
    // BMP has no keepalives of its own: a router that vanished would never be missed.
    let keep = [
        setsockopt(&stream, sockopt::KeepAlive, &true),
        setsockopt(&stream, sockopt::TcpKeepIdle, &30),
        setsockopt(&stream, sockopt::TcpKeepInterval, &10),
        setsockopt(&stream, sockopt::TcpKeepCount, &3),
    ];
    if let Some(e) = keep.into_iter().find_map(Result::err) {
        tracing::warn!("BMP session from {from} goes without keepalives: {e}");
    }
    tracing::info!("BMP session from {from}");
    match read(stream, number, &bgp).await {
        Ok(()) => {
            tracing::warn!("BMP session from {from} is lost; what it said last stays");
            bgp.feed().lost(number, bgp.now());
        }
        Err(why) => {
            tracing::error!("BMP session from {from} closed: {why}; what it said before stays");
            bgp.feed().close(number, &why, bgp.now());
        }
    }
    bgp.news.notify_one();
}

/// Until the other side ends it, or sends what cannot be read.
async fn read(mut stream: TcpStream, session: u64, bgp: &Bgp) -> Result<(), FeedError> {
    let mut buffer: Vec<u8> = Vec::with_capacity(CHUNK);
    loop {
        // Never more than one message that is not whole, and one read.
        debug_assert!(buffer.len() < MAX_MESSAGE);
        buffer.reserve(CHUNK);
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(e) => {
                tracing::debug!("BMP session: {e}");
                return Ok(());
            }
        }
        let now = bgp.now();
        let mut left = &buffer[..];
        let news = {
            let mut feed = bgp.feed();
            while let Some((length, message)) = Message::first(left)? {
                feed.message(session, &message, now)?;
                left = &left[length..];
            }
            feed.is_dirty()
        };
        let done = buffer.len() - left.len();
        buffer.drain(..done);
        if news {
            bgp.news.notify_one();
        }
        // Another's turn, however fast this one is.
        tokio::task::yield_now().await;
    }
}
