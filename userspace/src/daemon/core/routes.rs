//! What live BGP changes: taken out of the feed, brought into the kernel (`in_place`, and where that
//! cannot be, a new table by `refresh`), and named in the history.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{Core, in_place::NotInPlace};
use crate::{
    bmp::overlay::{Change, Stakes},
    daemon::{bgp::Bgp, by::By, refusal::Refusal, updates::database::Database},
};

/// Changes of routes are a line of the history so often.
const NOTED: Duration = Duration::from_secs(24 * 3600);
/// More changes than this are a new table to the proof.
const MANY: usize = 4096;

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
        if let (Some(bgp), Some(live)) = (&self.bgp, &self.enforced.live) {
            let db = &self.updates.database.db;
            bgp.ground(Stakes::of(&live.policy, db), db);
        }
    }

    /// A database as it is with what is in effect over it.
    pub(super) fn with_bgp(&self, database: Database) -> Database {
        match &self.bgp {
            Some(bgp) => database.under(bgp),
            None => database,
        }
    }

    /// Keeps what live BGP has: the daemon ends.
    pub(in crate::daemon) fn keep_bgp(&mut self) {
        if let Some(bgp) = &self.bgp {
            bgp.keep(&self.kept.state.bgp());
        }
        self.note_tally();
    }

    /// Brings what has come into the kernel; `all`: also what does not hurry.
    pub(in crate::daemon) fn catch_up(&mut self, all: bool) {
        let Some(bgp) = self.bgp.clone() else { return };
        if self.detached || self.enforced.live.is_none() {
            return;
        }
        let start = Instant::now();
        let Some(changes) = bgp.due(all) else { return };
        let unfinished = Unfinished(&bgp);
        let followed = self.follow(&changes, &bgp);
        drop(unfinished);
        match followed {
            Ok(()) => {
                self.note_bgp(&changes, &bgp);
                bgp.caught_up(start.elapsed());
                tracing::debug!(changes = changes.len(), took = ?start.elapsed(), "live BGP");
                if changes.iter().any(|change| change.urgent) {
                    bgp.keep_now(&self.kept.state.bgp());
                }
            }
            Err(e) => {
                if bgp.fell_behind() {
                    tracing::error!(
                        "what BGP says now is not enforced yet, and is tried again: {}",
                        e.in_words()
                    );
                }
            }
        }
    }

    /// Makes changes live that are in effect over the imported database.
    ///
    /// # Errors
    /// When they are not; then all of them are, with the next that are.
    pub(super) fn follow(&mut self, changes: &[Change], bgp: &Bgp) -> Result<(), Refusal> {
        // What is missing from before is only known to a new table.
        if !bgp.is_behind() {
            let start = Instant::now();
            let database = &mut self.updates.database;
            match self.enforced.in_place(changes, database, bgp) {
                Ok(parts) => {
                    tracing::debug!(changes = changes.len(), parts, took = ?start.elapsed(), "in place");
                    bgp.in_place
                        .fetch_add(changes.len() as u64, Ordering::Relaxed);
                    return Ok(());
                }
                Err(NotInPlace::Wrong(why)) => {
                    tracing::error!("the table is replaced: {why}");
                    self.enforced.wrong = Some(why);
                }
                Err(why) => tracing::debug!("not in place: {why}"),
            }
        }
        let database = self.updates.database.clone().under(bgp);
        // The proof is about these, unless there are many or others are missing.
        if changes.len() <= MANY && !bgp.is_behind() {
            self.enforced.changed = changes.iter().map(|change| change.prefix).collect();
        }
        let result = self.refresh(|next| next.database = database);
        self.enforced.changed.clear();
        result.map(drop)
    }

    /// Takes down that changes of live BGP are in effect: the next start has to find them,
    /// and the history names them.
    fn note_bgp(&mut self, changes: &[Change], bgp: &Bgp) {
        if !self.kept.current.routes && !bgp.feed().is_empty() {
            self.kept.current.routes = true;
            self.kept.save();
            bgp.keep(&self.kept.state.bgp());
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
            self.note(&By::daemon(&what), self.enforced.hash());
        }
    }
}

/// Says that changes have not come to the kernel where they were lost in a panic.
pub(super) struct Unfinished<'a>(pub(super) &'a Bgp);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fell_behind();
        }
    }
}
