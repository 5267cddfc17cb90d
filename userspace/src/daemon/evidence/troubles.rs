//! What does not go as it should with the log, now.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What does not go as it should, each until it does again.
#[derive(Clone, Default)]
pub(super) struct Troubles(Arc<Mutex<BTreeMap<Part, String>>>);

/// What may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Writing,
    Signing,
    Telling,
    Keeping,
    Forwarding,
    Archiving,
}

impl Part {
    /// The word in `status` and metrics.
    pub(super) const ALL: [(Self, &str); 6] = [
        (Self::Writing, "writing"),
        (Self::Signing, "signing"),
        (Self::Telling, "telling"),
        (Self::Keeping, "history"),
        (Self::Forwarding, "forwarding"),
        (Self::Archiving, "archiving"),
    ];
}

impl Troubles {
    pub(super) fn all(&self) -> Vec<String> {
        lock(&self.0).values().cloned().collect()
    }

    /// Those for which what is known may not be in the log, or not be signed.
    pub(super) fn of_records(&self) -> Vec<String> {
        let all = lock(&self.0);
        let parts = [Part::Writing, Part::Signing];
        let words = parts.iter().filter_map(|part| all.get(part));
        words.cloned().collect()
    }

    /// Each part, and whether it does not go as it should.
    pub(super) fn failing(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let failing = lock(&self.0);
        let known = Part::ALL.map(|(part, word)| (word, failing.contains_key(&part)));
        known.into_iter()
    }

    pub(super) fn is(&self, part: Part, words: String) {
        let before = lock(&self.0).insert(part, words.clone());
        if before.as_ref() != Some(&words) {
            tracing::error!("{words}");
        }
    }

    pub(super) fn is_over(&self, part: Part) {
        if let Some(words) = lock(&self.0).remove(&part) {
            tracing::info!("over: {words}");
        }
    }
}

/// Nothing panics while one of these is held, but where the daemon has a bug.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
