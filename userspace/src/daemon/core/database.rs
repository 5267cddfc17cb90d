//! Another ASN database for the one in use. What takes long is done ahead, beside the core
//! ([`Ready`]): the core has only to prove the table and to swap it in.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Core, change::Next, enforced::Cut, routes::Unfinished};
use crate::{
    asn::snapshot::Unnamed,
    bmp::overlay::Change,
    daemon::{
        bgp::Bgp,
        by::By,
        refusal::Refusal,
        state::{Before, StateError, journal::Entry, kept::cannot_be_kept},
        status::View,
        trouble::Cause,
        updates::{database::Database, held::Held},
    },
    diagnostic::Diagnostics,
    policy::{Context, parse},
};

/// A database with all that can be made of it before the core has it.
pub(in crate::daemon) struct Ready {
    /// With live BGP over it, as it was when this was made.
    database: Database,
    /// Its table under the policy of then; `None`: there is none, or it cannot be made.
    cut: Option<Cut>,
    /// Its snapshot.
    file: Unnamed,
}

impl Ready {
    pub(in crate::daemon) fn new(view: &View, database: Database) -> Result<Self, Refusal> {
        let snapshot = view.kept.state.snapshot();
        let file = Unnamed::write(&database.db, &snapshot).map_err(|e| cannot_be_kept(&e))?;
        let database = match &view.bgp {
            Some(bgp) => {
                bgp.note_missed();
                database.under(bgp)
            }
            None => database,
        };
        let context = Context::now(Some(&database.db));
        let overlay = &view.kept.overlay;
        let record = view.kept.record.as_ref().zip(view.live.as_ref());
        let cut = record.and_then(|(record, live)| {
            // What is wrong with it, the core says.
            let policy = parse(&record.bundle, overlay, &context).0?;
            Cut::new(&policy, &database, &live.environment).ok()
        });
        Ok(Self {
            database,
            cut,
            file,
        })
    }
}

impl Core {
    /// Changes of live BGP that came while the table was made ahead.
    fn follow_missed(&mut self, missed: Vec<Change>) {
        let Some(bgp) = self.bgp.clone().filter(|_| !missed.is_empty()) else {
            return;
        };
        if let Err(e) = self.follow(&missed, &bgp) {
            bgp.fell_behind();
            tracing::warn!(
                "routes that came meanwhile are brought in later: {}",
                e.in_words()
            );
        }
    }

    /// Makes another database live, and keeps it.
    pub(in crate::daemon) fn replace_database(
        &mut self,
        ready: Ready,
        found: &Diagnostics,
        by: &By,
    ) -> Result<Value, Refusal> {
        let Ready {
            mut database,
            mut cut,
            file,
        } = ready;
        let (old, before) = (self.enforced.hash(), self.updates.database.name());
        let mut answer = serde_json::to_value(database.info()).map_err(Refusal::from_error)?;
        let bgp = self.bgp.clone();
        let missed = bgp.as_ref().and_then(Bgp::missed).unwrap_or_default();
        // A panic from here on loses them.
        let lost = bgp.as_ref().filter(|_| !missed.is_empty());
        let _unfinished = lost.map(Unfinished);
        if bgp.as_ref().is_some_and(Bgp::is_behind) {
            // What is missing from before is only known to a new table.
            (database, cut) = (self.with_bgp(database), None);
        }
        let snapshot = self.kept.state.snapshot();
        let save = move || {
            // The old one has to come back where the new one does not go live.
            let before = Before::of([&*snapshot])?;
            match file.commit() {
                Ok(()) => Ok(before),
                // It may have its name already.
                Err(e) => Err(before.undo(StateError::other("write", &snapshot, e))),
            }
        };
        let outcome = match &self.kept.record {
            Some(record) => {
                let context = Context::now(Some(&database.db));
                let (policy, wrong) = parse(&record.bundle, &self.kept.overlay, &context);
                let policy = policy.ok_or_else(|| Refusal::found("the policy", wrong))?;
                let next = Next {
                    database,
                    // Nobody has seen what the clock brings: routes that are lost are not given up.
                    replaces: match by.is_asked_for() {
                        true => &[Cause::Database, Cause::Routes],
                        false => &[Cause::Database],
                    },
                    cut,
                    ..self.next(Arc::new(policy))
                };
                let outcome = self.change(next, Box::new(save))?;
                self.troubles.clear(Cause::Database);
                // Only which one it is; where that cannot be written, the next start is
                // careful for nothing.
                self.kept.current.database = self.updates.database.name();
                self.kept.save();
                self.follow_missed(missed);
                Some(outcome)
            }
            None => {
                save()?;
                self.updates.database = database;
                self.troubles.clear(Cause::Database);
                None
            }
        };
        self.updates.refused.clear();
        let name = |name: Option<String>| name.unwrap_or_else(|| "nothing".to_owned());
        let after = self.updates.database.name();
        if before != after || outcome.as_ref().is_some_and(|outcome| outcome.recorded) {
            self.journal.note(Entry {
                old,
                new: self.enforced.hash(),
                policy: self.kept.number(),
                database: (before != after).then(|| (name(before), name(after))),
                ..Entry::new(by)
            });
        }
        if let Value::Object(fields) = &mut answer
            && let Some(outcome) = outcome
            && let Value::Object(more) = self.answer(&outcome, found)
        {
            fields.extend(more);
        }
        Ok(answer)
    }

    /// Throws away what is held back.
    pub(super) fn discard(&mut self, by: &By) -> Result<Value, Refusal> {
        let answer = self.updates.discard(&self.kept.state)?;
        self.note(by, self.enforced.hash());
        Ok(answer)
    }

    /// Somebody has seen what the last update warned of.
    pub(super) fn acknowledge(&mut self, by: &By) -> Result<Value, Refusal> {
        let answer = self.updates.acknowledge(&self.kept.state)?;
        self.note(by, self.enforced.hash());
        Ok(answer)
    }

    /// Makes live what is held back.
    pub(in crate::daemon) fn accept(
        &mut self,
        held: Held,
        ready: Ready,
        by: &By,
    ) -> Result<Value, Refusal> {
        if self.updates.held.as_ref() != Some(&held) {
            // Nobody waits for them any more.
            self.bgp.as_ref().and_then(Bgp::missed);
            return Err(Refusal::new(
                "what is held back is another update by now",
                "look at it first: `kordon asndb diff`",
            ));
        }
        let mut answer = self.replace_database(ready, &Diagnostics::default(), by)?;
        held.log();
        answer["accepted"] = json!(held);
        self.updates.end_hold(true);
        self.updates.taken(&self.kept.state);
        self.updates.warn(&self.kept.state, Vec::new());
        Ok(answer)
    }
}
