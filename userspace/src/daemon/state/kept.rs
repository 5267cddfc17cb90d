//! What is on disk of what is live, and what is wrong with it: the policy and where it came from, a
//! trial, what `block` and `allow` added. The files change first, then the kernel, then this; if one
//! fails, `unsaved` or `torn` says so until they agree.

use std::sync::Arc;

use super::{Current, Record, StateDir, StateError, commit};
use crate::{daemon::refusal::Refusal, policy::Overlay};

/// What the disk has that is not live, until the next change: said as long as it is so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Torn(Option<String>);

impl Torn {
    pub(crate) fn words(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Files have a part of a change that is not live.
    pub(crate) fn note(&mut self, e: &StateError) {
        let problem = format!(
            "the state directory has a part of a change that is not live, and a start would make \
             it live; the next change mends it: {e}"
        );
        tracing::error!("{problem}");
        self.0 = Some(problem);
    }

    /// All files are what is live.
    pub(crate) fn mended(&mut self) {
        self.0 = None;
    }

    /// Why something was not done that cannot be kept.
    pub(crate) fn refusal(&mut self, e: StateError) -> Refusal {
        if matches!(e, StateError::Torn { .. }) {
            self.note(&e);
        }
        cannot_be_kept(&e)
    }
}

/// Why something was not done.
pub(crate) fn cannot_be_kept(why: &impl std::fmt::Display) -> Refusal {
    Refusal::new(
        format!("the change cannot be kept: {why}"),
        "what was live is live; see to the state directory",
    )
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) state: Arc<StateDir>,
    pub(crate) current: Current,
    pub(crate) record: Option<Arc<Record>>,
    pub(crate) overlay: Arc<Overlay>,
    pub(crate) torn: Torn,
    /// Files that had to be written anew.
    pub(crate) repaired: Vec<String>,
    /// An overlay that could not be read waits for somebody who looks at it.
    pub(crate) aside: bool,
    /// Why what is live is not on disk, since time brought it.
    pub(crate) unsaved: Option<String>,
}

impl Kept {
    /// Nothing is live yet.
    pub(crate) fn new(state: StateDir) -> Self {
        Self {
            state: Arc::new(state),
            current: Current::default(),
            record: None,
            overlay: Arc::default(),
            torn: Torn::default(),
            repaired: Vec::new(),
            aside: false,
            unsaved: None,
        }
    }

    /// The number of the policy that is live.
    pub(crate) fn number(&self) -> Option<u64> {
        self.record.as_ref().map(|record| record.number)
    }

    /// This is live now, and on disk, unless it is `unsaved`. Whether it is another than before.
    pub(crate) fn becomes(
        &mut self,
        current: Current,
        record: Arc<Record>,
        overlay: Arc<Overlay>,
        unsaved: Option<String>,
    ) -> bool {
        let is_new = self.current != current
            || self.record.as_ref() != Some(&record)
            || self.overlay.entries != overlay.entries;
        self.current = current;
        self.record = Some(record);
        self.overlay = overlay;
        self.repaired.clear();
        self.written(unsaved);
        is_new
    }

    /// The live policy has this name; whether that is another than its record has.
    pub(crate) fn is_called(&mut self, hash: Option<String>) -> bool {
        let (Some(hash), Some(record)) = (hash, &mut self.record) else {
            return false;
        };
        let is_new = record.hash != hash;
        if is_new {
            Arc::make_mut(record).hash = hash;
        }
        is_new
    }

    /// Writes down what is live.
    pub(crate) fn save(&mut self) {
        let Some(record) = &self.record else { return };
        let files = self.state.prepare(&self.current, record, &self.overlay);
        let why = |e: StateError| self.state.trouble().unwrap_or_else(|| e.to_string());
        let unsaved = files.and_then(commit).map_err(why).err();
        self.written(unsaved);
    }

    fn written(&mut self, unsaved: Option<String>) {
        match &unsaved {
            Some(why) => self
                .state
                .tell(&format!("what is live is not on disk: {why}")),
            None => {
                self.state.is_in_order();
                if self.unsaved.is_some() {
                    tracing::info!("what is live is on disk again");
                }
            }
        }
        self.unsaved = unsaved;
    }
}
