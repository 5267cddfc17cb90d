//! How far downloads are: written by what fetches, read by whoever shows it.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// What updates that are under way do, for whoever looks.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Vec<Transfer>>);

/// One file on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// From where.
    pub url: String,
    /// Bytes that have come.
    pub received: u64,
    /// Bytes that are to come, where the server said.
    pub total: Option<u64>,
    /// Nothing more comes.
    pub done: bool,
}

impl Progress {
    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Transfer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new update begins.
    pub fn clear(&self) {
        self.all().clear();
    }

    /// What there is to show.
    #[must_use]
    pub fn transfers(&self) -> Vec<Transfer> {
        self.all().clone()
    }

    pub(super) fn begin(&self, url: &str) {
        self.all().push(Transfer {
            url: url.to_owned(),
            ..Transfer::default()
        });
    }

    pub(super) fn last(&self, change: impl FnOnce(&mut Transfer)) {
        if let Some(last) = self.all().last_mut() {
            change(last);
        }
    }
}
