//! The way of every change of rules: a policy, a database and what is known of the router become
//! what is enforced, and what is on disk. It happens whole or not at all.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Core,
    enforced::{Cut, Keep, Wanted},
};
use crate::{
    compile::generation::{Environment, PortSpec},
    daemon::{
        by::By,
        links::router::Facts,
        live::{Live, Names},
        refusal::Refusal,
        state::{Before, Current, Record, commit},
        trouble::Cause,
        updates::database::Database,
    },
    datapath::publish::Published,
    policy::{Overlay, Policy, policy_hash},
};

/// What is to become live.
pub(super) struct Next {
    pub(super) policy: Arc<Policy>,
    pub(super) database: Database,
    pub(super) facts: Option<Arc<Facts>>,
    /// Doubts that this is the answer to: an administrator gives it anew.
    pub(super) replaces: &'static [Cause],
    /// Its table, where that was made ahead.
    pub(super) cut: Option<Cut>,
}

/// What a change came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) published: Option<Published>,
    /// Something is another than before, if only a note or the end of a trial.
    pub(super) recorded: bool,
    pub(super) took: Duration,
}

impl Core {
    /// What is live, to be changed in part.
    pub(super) fn next(&self, policy: Arc<Policy>) -> Next {
        let database = self.updates.database.clone();
        Next {
            policy,
            database: match &self.bgp {
                // The table has to come from all that is in effect.
                Some(bgp) if bgp.is_behind() => database.under(bgp),
                _ => database,
            },
            facts: self.links.facts.clone(),
            replaces: &[],
            cut: None,
        }
    }

    /// Makes it live. `keep` says on disk what is going to be: where it fails nothing has
    /// changed, and where the kernel then refuses the last step, files are what they were.
    pub(super) fn change(&mut self, next: Next, keep: Keep<'_>) -> Result<Outcome, Refusal> {
        let start = Instant::now();
        if self.detached {
            return Err(Refusal::new(
                "nothing is enforced any more: the programs were taken off, and the daemon ends",
                "start it again first",
            ));
        }
        if next.database.is_lost() && self.enforced.datapath.enforces() {
            return Err(Refusal::new(
                "the ASN database is lost: its snapshots cannot be read, and no source took their \
                 place",
                "what is in the kernel stays; `kordon asndb update` or `kordon asndb import` brings \
                 another database",
            ));
        }
        let (environment, ports) = self.environment(&next)?;
        let names = Names::of(&next.policy, &next.database, &environment);
        let is_in_kernel = self.enforced.has(names);
        if !is_in_kernel && let Some(refusal) = self.troubles.refuses(next.replaces) {
            return Err(refusal);
        }
        let wanted = Wanted {
            names,
            policy: &next.policy,
            database: &next.database,
            environment: &environment,
            // After a panic it is proven again.
            doubted: self.troubles.has(Cause::Panic),
            cut: next.cut,
        };
        let published = self.enforced.publish(wanted, keep, &mut self.kept.torn)?;
        self.kept.torn.mended();
        if published.is_some() {
            self.troubles.clear(Cause::Panic);
        }
        match self.troubles.is_kept() && is_in_kernel {
            true => {
                self.troubles.known();
                self.forget_overlay_aside();
            }
            false => self.troubles.replaced(next.replaces),
        }
        self.enforced.live = Some(Live::new(next.policy, environment, ports));
        self.updates.database = next.database;
        self.links.facts = next.facts;
        self.tell_bgp();
        for (device, why) in published.iter().flat_map(|published| &published.behind) {
            self.links.note_behind(device, why);
        }
        Ok(Outcome {
            recorded: published.is_some(),
            published,
            took: start.elapsed(),
        })
    }

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
        let old = self.enforced.hash();
        // Where it is not the one that was in use, the next start has to say so as well.
        if !self.troubles.has(Cause::Database) {
            current.database = next.database.name();
        }
        Arc::make_mut(&mut record).hash = hex::encode(policy_hash(&next.policy));
        let mut unsaved = None;
        let files = match self.kept.state.prepare(&current, &record, &overlay) {
            Ok(files) => files,
            Err(e) if by.is_asked_for() => return Err(e.into()),
            Err(e) => {
                unsaved = Some(self.kept.state.trouble().unwrap_or_else(|| e.to_string()));
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
        outcome.recorded |= self.kept.becomes(current, record, overlay, unsaved);
        self.troubles.clear(Cause::Return);
        if outcome.recorded {
            self.note(by, old);
        }
        Ok(outcome)
    }

    /// The live policy again: time has passed, or the router has changed.
    pub(super) fn refresh(&mut self, next: impl FnOnce(&mut Next)) -> Result<bool, Refusal> {
        let Some(record) = &self.kept.record else {
            return Ok(false);
        };
        let (policy, _) = self.parse(&record.bundle, &self.kept.overlay)?;
        let mut wanted = self.next(Arc::new(policy));
        next(&mut wanted);
        let outcome = self.change(wanted, Box::new(|| Ok(Before::default())))?;
        Ok(outcome.published.is_some())
    }

    /// Whether a policy over all that is known is what is in the kernel.
    pub(super) fn would_be_adopted(&self, policy: Policy) -> bool {
        let next = self.next(Arc::new(policy));
        let names = |(environment, _)| Names::of(&next.policy, &next.database, &environment);
        let names = self.environment(&next).map(names);
        names.is_ok_and(|names| self.enforced.has(names))
    }

    /// A policy that is known, while what was made of it stays in the kernel as it is.
    pub(super) fn known_but_kept(&mut self, policy: Policy) {
        let next = self.next(Arc::new(policy));
        if let Ok((environment, ports)) = self.environment(&next) {
            self.enforced.live = Some(Live::new(next.policy, environment, ports));
        }
    }

    /// What a policy meets on this router, and the port numbers of its interfaces.
    fn environment(&self, next: &Next) -> Result<(Environment, Vec<u32>), Refusal> {
        let datapath = &self.enforced.datapath;
        let interfaces = &self.config.interfaces;
        let numbers = datapath
            .ports(&self.links.names())
            .map_err(Refusal::from_error)?;
        let mut ports = Vec::new();
        for (number, interface) in numbers.iter().zip(interfaces) {
            let number = *number as usize;
            if ports.len() <= number {
                ports.resize(number + 1, PortSpec::default());
            }
            ports[number] = PortSpec {
                logical: interface.name.clone(),
                drop_unknown: interface.drop_unknown,
            };
        }
        let facts = next.facts.as_deref();
        // It is policed under any name.
        let elsewhere = |device: &str| Some(datapath.find(device).ok()??.index);
        let environment = Environment {
            router: facts.map(Facts::router).unwrap_or_default(),
            // Where the kernel did not say, sources stay unchecked: a guess would
            // cut off every camera.
            connected: facts
                .map(|facts| facts.connected(&next.policy, interfaces, elsewhere))
                .unwrap_or_default(),
            ports,
        };
        Ok((environment, numbers))
    }

    /// Nothing was lost with an overlay that could not be read.
    pub(super) fn forget_overlay_aside(&mut self) {
        self.troubles.clear(Cause::Overlay);
        let _ = std::fs::remove_file(self.kept.state.overlay_aside());
    }
}
