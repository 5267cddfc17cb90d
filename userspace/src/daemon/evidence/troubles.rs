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

impl Troubles {
    pub(super) fn all(&self) -> Vec<String> {
        lock(&self.0).values().cloned().collect()
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
