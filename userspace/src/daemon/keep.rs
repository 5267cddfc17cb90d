//! What is live is on disk, too, and who made it so is in the history.

use std::sync::Arc;

use super::{
    core::{Core, Next, Outcome},
    journal::{By, Entry},
    operations::hex,
    refusal::Refusal,
    state::{Before, Current, Record, StateError, commit},
    trouble::Cause,
};
use crate::policy::{Overlay, policy_hash};

impl Core {
    /// Makes it live and writes it down. What somebody asked for and cannot be written is
    /// not live; what time brought is, and is written later.
    pub(super) fn change_and_keep(
        &mut self,
        next: Next,
        mut current: Current,
        mut record: Arc<Record>,
        overlay: Arc<Overlay>,
        by: &By,
    ) -> Result<Outcome, Refusal> {
        let old = self.live_hash();
        // Where it is not the one that was in use, the next start has to say so as well.
        if !self.troubles.has(Cause::Database) {
            current.database = next.database.name();
        }
        Arc::make_mut(&mut record).hash = hex(&policy_hash(&next.policy));
        let mut unsaved = None;
        let files = match self.state.prepare(&current, &record, &overlay) {
            Ok(files) => files,
            Err(e) if by.is_asked_for() => return Err(e.into()),
            Err(e) => {
                unsaved = Some(self.state.trouble().unwrap_or_else(|| e.to_string()));
                Vec::new()
            }
        };
        let keep = || match commit(files) {
            Err(e) if !by.is_asked_for() => {
                unsaved = Some(e.to_string());
                Ok(Before::default())
            }
            result => result,
        };
        let mut outcome = self.change(next, Box::new(keep))?;
        outcome.recorded |= self.current != current
            || self.record.as_ref() != Some(&record)
            || self.overlay.entries != overlay.entries;
        self.current = current;
        self.record = Some(record);
        self.overlay = overlay;
        self.troubles.clear(Cause::Return);
        self.repaired.clear();
        match &unsaved {
            Some(why) if !self.state.is_said() => {
                tracing::error!("what is live is not on disk: {why}");
            }
            Some(_) => {}
            None => self.state.is_in_order(),
        }
        self.unsaved = unsaved;
        if outcome.recorded {
            self.note(by, old);
        }
        Ok(outcome)
    }

    /// Writes down what is live.
    pub(super) fn save(&mut self) {
        let Some(record) = &self.record else { return };
        let files = self.state.prepare(&self.current, record, &self.overlay);
        let why = |e: StateError| self.state.trouble().unwrap_or_else(|| e.to_string());
        match files.and_then(commit).map_err(why) {
            Ok(_) => {
                self.state.is_in_order();
                if self.unsaved.take().is_some() {
                    tracing::info!("what is live is on disk again");
                }
            }
            Err(e) => {
                if self.unsaved.as_ref() != Some(&e) && !self.state.is_said() {
                    tracing::error!("what is live is not on disk: {e}");
                }
                self.unsaved = Some(e);
            }
        }
    }

    /// Nothing was lost with an overlay that could not be read.
    pub(super) fn forget_overlay_aside(&mut self) {
        self.troubles.clear(Cause::Overlay);
        let _ = std::fs::remove_file(self.state.overlay_aside());
    }

    /// What `status` shows of the policy that is live.
    pub(super) fn live_hash(&self) -> Option<String> {
        self.live.as_ref().map(|live| hex(&live.hash))
    }

    /// Takes a change down that is live, also with the policy that it was made over.
    pub(super) fn note(&mut self, by: &By, old: Option<String>) {
        if let (Some(hash), Some(record)) = (self.live_hash(), &mut self.record)
            && record.hash != hash
        {
            Arc::make_mut(record).hash = hash;
            self.save();
        }
        self.journal.note(Entry {
            old,
            new: self.live_hash(),
            policy: self.record.as_ref().map(|record| record.number),
            ..Entry::new(by)
        });
    }
}
