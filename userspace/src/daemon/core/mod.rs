//! Everything that can change, in one place: what is enforced, what is on disk, the database and
//! the links. The parts are types of their own; here is what ties them together.
//!
//! It blocks, for files and for the verifier. Only the thread that owns it
//! ([`owner`](super::owner)) waits for it.
//!
//! - [`change`]: all changes of rules go through it: compile, prove, keep on disk, swap.
//! - [`operations`], [`entries`], [`database`]: what can be asked for: policies, `block` and
//!   `allow`, another database; [`asks`]: and what is asked back first.
//! - [`enforced`]: what is in the kernel; [`in_place`]: prefixes of the live table, changed where
//!   they are; [`routes`]: what live BGP changes.
//! - [`start`], [`restore`]: from nothing to enforcing; [`time`]: what time brings.
//! - [`trace`]: what programs log where they are asked to.

mod asks;
mod change;
mod database;
#[cfg(test)]
pub(super) mod delay;
pub(super) mod enforced;
mod entries;
mod in_place;
mod operations;
mod restore;
mod routes;
mod start;
mod time;
mod trace;

use std::{
    sync::{
        Arc, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

use jiff::Timestamp;

pub(super) use self::{database::Ready, start::Later};
use self::{enforced::Enforced, routes::Tally, trace::Traces};
use super::{
    bgp::Bgp,
    boot::Boot,
    by::By,
    evidence::Evidence,
    links::Links,
    log::Repeated,
    named::Names,
    state::{
        journal::{Entry, Journal},
        kept::Kept,
    },
    status::{Applies, Ledger, View, beside},
    trouble::Troubles,
    updates::Updates,
};
use crate::{config::Config, datapath::ledger::ANEW};

/// How long a change waits until flows are named by it. Those that come meanwhile are, too.
const NAMED: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Core {
    pub(super) config: Arc<Config>,
    /// What is in the kernel.
    pub(super) enforced: Enforced,
    /// Who sent what to whom.
    pub(super) ledger: Ledger,
    /// The log of evidence, or why there is none; `None`: not configured.
    pub(super) evidence: Option<Result<Evidence, String>>,
    /// What flows are named by.
    pub(super) names: Option<Arc<Names>>,
    /// Somebody is naming them, and has not said yet that it is done.
    naming: Option<Receiver<()>>,
    /// What is on disk of it.
    pub(super) kept: Kept,
    /// The ASN database, and how its updates went.
    pub(super) updates: Updates,
    /// Live BGP; `None`: not configured.
    pub(super) bgp: Option<Bgp>,
    /// What it has changed, for the history.
    tally: Tally,
    /// Interfaces, and what else there is of the router.
    pub(super) links: Links,
    /// What is held until they enforce.
    pub(super) boot: Boot,
    /// What is wrong, beside interfaces: reasons for not enforcing.
    pub(super) troubles: Troubles,
    /// Who changed what.
    pub(super) journal: Journal,
    applies: Applies,
    /// Why what is live cannot be made whole.
    unfinished: Repeated,
    /// Why the last reload changed nothing, until something is applied.
    reload_refused: Option<String>,
    started_at: Timestamp,
    pub(super) detached: bool,
    /// `None`: the programs log nothing.
    traces: Option<Traces>,
    /// Something that time brought failed: try again then.
    pub(super) retry_at: Option<Timestamp>,
}

impl Core {
    /// Flows are named by what is known now.
    pub(super) fn name_flows(&mut self) {
        let live = self.enforced.live.as_ref();
        let names = Names {
            db: Arc::clone(&self.updates.database.db),
            bgp: self.bgp.clone(),
            policy: live.map(|live| Arc::clone(&live.policy)),
            directory: self.enforced.datapath.shared_directory(),
            before: None,
        };
        if self.names.as_ref().is_some_and(|before| before.is(&names)) {
            return;
        }
        // One is under way, and with whatever happens next it is looked again.
        let is_late = |naming: &Receiver<()>| naming.try_recv() == Err(TryRecvError::Empty);
        if self.naming.as_ref().is_some_and(is_late) {
            return;
        }
        let names = Arc::new(names);
        let before = self.names.replace(Arc::clone(&names));
        let Ok(ledger) = self.ledger.clone() else {
            return;
        };
        let between = before.map(|before| Names {
            before: Some(before),
            ..(*names).clone()
        });
        // Who has the ledger may have to wait for the disk of the log of evidence.
        let done = beside(&ledger, move |ledger| {
            if let Err(e) = ledger.name_by(names, between.map(|names| Arc::new(names) as _)) {
                tracing::error!("flows under way are named by what is known now alone: {e}");
            }
        });
        let done = match done {
            Ok(done) => done,
            Err(e) => {
                tracing::error!("flows are named by what was known before: {e}");
                return;
            }
        };
        let is_done = done.recv_timeout(NAMED);
        self.naming = (is_done == Err(RecvTimeoutError::Timeout)).then_some(done);
    }

    /// Notes what the ledger lacks by now, for `flows` to say what it lacks since.
    fn note_missing(&self) {
        if let Ok(ledger) = &self.ledger {
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            let reader = self.enforced.datapath.reader();
            if let Err(e) = ledger.begin(|| reader.counters()) {
                tracing::warn!("what flows lack is counted from the last boot on: {e}");
            }
        }
    }

    /// Begins to write the log of evidence, before anything is taken out of the ledger.
    fn begin_evidence(&mut self) {
        let config = Arc::clone(&self.config);
        let Some(config) = &config.evidence else {
            return;
        };
        let (state, view) = (self.kept.state.root().to_owned(), self.view());
        let begun = self.ledger.clone().and_then(|ledger| {
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            Evidence::begin(config, &state, view, &mut ledger)
        });
        if let Err(why) = &begun {
            tracing::error!("no log of evidence is written: {why}");
        }
        self.evidence = Some(begun);
    }

    /// What readers get until the next job is done.
    pub(super) fn view(&self) -> View {
        let (links, datapath) = (&self.links, &self.enforced.datapath);
        let mut notices = links.notices(datapath, self.config.silent_after);
        notices.extend(self.reload_refused.clone());
        notices.extend(self.boot.notices());
        notices.extend(
            (self.ledger.as_ref().err())
                .map(|why| format!("who sent what to whom is not known: {why}; packets are judged and counted all the same")),
        );
        notices.extend(datapath.guards_failed().map(|why| {
            format!("guards only count what gets past the programs, and drop nothing: {why}")
        }));
        let unopened = self.evidence.as_ref().and_then(|log| log.as_ref().err());
        notices.extend(unopened.map(|why| {
            format!(
                "no log of evidence is written: {why}; see to that, or move its folder away, and restart the daemon"
            )
        }));
        let lines = datapath.lines();
        let wanted = self.config.lines.filter(|wanted| *wanted != lines);
        notices.extend(wanted.map(|wanted| {
            format!(
                "the ledger has {lines} lines for each processor, and not the {wanted} of `[ledger] lines`; \
                 that is for a ledger that is made anew: write {lines} there, or wait for the next boot (`kordon \
                 detach` and a start do it, too, and end enforcement and all that was recorded)"
            )
        }));
        let anew = datapath.damaged().iter();
        notices.extend(anew.filter(|words| words.ends_with(ANEW)).map(|words| {
            format!("{words}, with this daemon: flows, books and counters by network; nothing brings back what was recorded before, and counters of zones and rules are whole")
        }));
        View {
            config: Arc::clone(&self.config),
            reader: datapath.reader(),
            ledger: self.ledger.clone(),
            evidence: (self.evidence.clone().and_then(Result::ok))
                .map(|evidence| Arc::new(evidence) as _),
            generation: datapath.live().map(|live| live.number),
            live: self.enforced.live.clone(),
            wrong: self.enforced.wrong.clone(),
            kept: self.kept.clone(),
            updates: self.updates.clone(),
            bgp: self.bgp.clone(),
            links: links.clone(),
            boot: self.boot.clone(),
            troubles: self.troubles.clone(),
            notices,
            changes: self.journal.view(),
            applies: self.applies,
            started_at: self.started_at,
        }
    }

    /// Takes a change down that is live, also with the policy that it was made over.
    fn note(&mut self, by: &By, old: Option<String>) {
        if self.kept.is_called(self.enforced.hash()) {
            self.kept.save();
        }
        self.journal.note(Entry {
            old,
            new: self.enforced.hash(),
            policy: self.kept.number(),
            ..Entry::new(by)
        });
    }
}
