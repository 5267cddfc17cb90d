//! How it stands with a destination, for `status` and metrics: how far it has got, and what does not go as it should.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long something is told that cannot be undone.
const TOLD: Duration = Duration::from_secs(24 * 3600);
/// At most so many of these.
const MOST: usize = 16;

/// Nobody has looked yet how far it has got.
const UNKNOWN: u64 = u64::MAX;

/// What may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Reading,
    Reaching,
    Keeping,
}

/// What does not, each until it does again.
#[derive(Debug)]
pub(super) struct Troubles {
    destination: String,
    known: Mutex<Known>,
    /// Number of the first record that may not have arrived.
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    now: BTreeMap<Part, String>,
    /// What cannot be undone, and when it was.
    notes: Vec<(Instant, String)>,
}

impl Troubles {
    pub(super) fn of(destination: String) -> Self {
        Self {
            destination,
            known: Mutex::default(),
            next: AtomicU64::new(UNKNOWN),
        }
    }

    /// All records before this one have arrived, or need not be sent.
    pub(super) fn has_reached(&self, next: u64) {
        self.next.store(next, Ordering::Relaxed);
    }

    /// As [`super::Forwarder::standing`].
    pub(super) fn standing(&self) -> (String, Option<u64>, bool) {
        let is_failing = !self.known().now.is_empty();
        let records = self.next.load(Ordering::Relaxed);
        let records = (records != UNKNOWN).then_some(records);
        (self.destination.clone(), records, is_failing)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is(&self, part: Part, words: String) {
        let words = format!("{}: {words}", self.destination);
        let before = self.known().now.insert(part, words.clone());
        if before.as_ref() != Some(&words) {
            tracing::warn!("{words}");
        }
    }

    pub(super) fn is_over(&self, part: Part) {
        if let Some(words) = self.known().now.remove(&part) {
            tracing::info!("over: {words}");
        }
    }

    /// What cannot be undone.
    pub(super) fn note(&self, words: String) {
        let words = format!("{}: {words}", self.destination);
        let notes = &mut self.known().notes;
        if notes.iter().any(|(_, known)| *known == words) {
            return;
        }
        tracing::warn!("{words}");
        if notes.len() >= MOST {
            notes.remove(0);
        }
        notes.push((Instant::now(), words));
    }

    pub(super) fn all(&self) -> Vec<String> {
        let mut known = self.known();
        known.notes.retain(|(at, _)| at.elapsed() < TOLD);
        let notes = known.notes.iter().map(|(_, words)| words);
        known.now.values().chain(notes).cloned().collect()
    }
}
