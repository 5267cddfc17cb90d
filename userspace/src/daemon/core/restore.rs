//! What was live last, again.
//!
//! Where all of it is known it becomes live: adopted, if just that is in the kernel. Where
//! some of it is lost, what is in the kernel stays. If only older policies are readable, each is
//! hashed with all else that a generation is made of; the one whose hash is that of the live
//! generation is the live one (`search`). Only where nothing is in the kernel, after a boot, the
//! best of what is left is made live, and `status` says what it lacks.
//!
//! Where the kernel takes nothing at all, the daemon stays, says so, and tries again: a start
//! that ends would be repeated every other second, with all that it costs.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, bail};
use jiff::Timestamp;

use super::Core;
use crate::{
    daemon::{
        by::By,
        state::{Damage, Loaded, Record},
        trouble::Cause,
    },
    diagnostic::quoted,
    policy::Bundle,
};

const LOST: &str = "which policy was live is not known since the state was damaged";

/// The policy is good, and does not get into the kernel.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotTaken(String);

impl Core {
    /// See the module. `loaded`: what the state folder has; `is_newest`: the database is that
    /// of the newest snapshot.
    ///
    /// # Errors
    /// When nothing is in the kernel, and nothing can be brought there.
    pub(super) fn restore(&mut self, loaded: Loaded, is_newest: bool) -> anyhow::Result<()> {
        let Loaded {
            current,
            record,
            overlay,
            policy_lost,
            overlay_lost,
            repaired,
        } = loaded;
        for damage in repaired {
            tracing::error!("{damage}; there is a copy of it, which is in use");
            self.kept.repaired.push(damage.to_string());
        }
        for damage in self.enforced.datapath.damaged() {
            tracing::error!("{damage}; what is in its place is made anew");
            self.kept.repaired.push(damage.clone());
        }
        if !is_newest && (current.database.is_some() || !self.updates.refused.is_empty()) {
            self.doubt_database(current.database.as_deref());
        }
        let overlay_was_lost = overlay_lost.is_some();
        let policy_was_lost = policy_lost.is_some();
        if let Some(damage) = overlay_lost {
            self.doubt_overlay(&damage);
        } else if self.kept.state.overlay_aside().exists() {
            let aside = quoted(&self.kept.state.overlay_aside().display().to_string());
            let words = format!(
                "entries of `block` and `allow` were lost: {aside} has what is left of them; give them again and remove it"
            );
            self.troubles.set(Cause::Overlay, words);
            self.kept.aside = true;
        }
        if !policy_was_lost && self.kept.state.policy_aside().exists() {
            let words = format!("{LOST}; `kordon apply` makes the right one live");
            self.troubles.set(Cause::Policy, words);
        }
        (self.kept.current, self.kept.overlay) = (current, Arc::new(overlay));
        let begun = match (policy_lost, record) {
            (Some(damage), _) => self.search(&damage),
            (None, Some(record)) => self.again(Arc::new(record)),
            (None, None) => self.first(),
        };
        self.or_later(begun)?;
        if overlay_was_lost && self.troubles.has(Cause::Overlay) {
            match self.kept.state.set_overlay_aside() {
                Ok(()) => self.kept.aside = true,
                Err(e) => self.kept.state.tell(&e.to_string()),
            }
        }
        if self.troubles.is_kept() {
            return Ok(());
        }
        // It says so until somebody applies one, over any number of starts.
        if policy_was_lost
            && self.troubles.has(Cause::Policy)
            && let Err(e) = self.kept.state.set_policy_aside()
        {
            self.kept.state.tell(&e.to_string());
        }
        if policy_was_lost || !self.kept.repaired.is_empty() {
            self.kept.save();
        }
        Ok(())
    }

    /// What the kernel did not take is said, and tried again.
    fn or_later(&mut self, begun: anyhow::Result<()>) -> anyhow::Result<()> {
        match begun {
            Err(e) if e.is::<NotTaken>() => {
                self.troubles.set(Cause::Policy, format!("{e:#}"));
                Ok(())
            }
            begun => begun,
        }
    }

    /// Tries again what the kernel did not take at the start. Whether that is to be tried once
    /// more.
    pub(super) fn begin_again(&mut self) -> bool {
        if self.enforced.live.is_some() || self.detached || self.troubles.is_kept() {
            return false;
        }
        let begun = match self.kept.record.clone() {
            Some(record) => self.again(record),
            None if self.kept.state.policy_aside().exists() => self.newest_that_works(LOST),
            None => self.first(),
        };
        let begun = self.or_later(begun);
        if let Err(e) = &begun {
            self.troubles.set(Cause::Policy, format!("{e:#}"));
        }
        self.enforced.live.is_none()
    }

    fn doubt_overlay(&mut self, damage: &Damage) {
        let aside = quoted(&self.kept.state.overlay_aside().display().to_string());
        self.troubles.set(
            Cause::Overlay,
            format!(
                "what `block` and `allow` added is lost: {damage}; give it again ({aside} has \
                 what is left of it), and remove that file"
            ),
        );
    }

    fn doubt_database(&mut self, was: Option<&str>) {
        if self.updates.database.is_lost()
            || was.is_some_and(|was| self.updates.database.name().as_deref() == Some(was))
        {
            // Has a reason of its own, or is the same.
            return;
        }
        let why = match self.updates.refused.is_empty() {
            true => {
                let snapshot = quoted(&self.kept.state.snapshot().display().to_string());
                format!("snapshot {snapshot} is missing")
            }
            false => self.updates.refused.join("; "),
        };
        self.troubles.set(
            Cause::Database,
            format!(
                "the ASN database is an older one, or another: {why}; `kordon asndb update` or \
                 `kordon asndb import` brings it up to date"
            ),
        );
    }

    /// What is in the kernel stays.
    fn keep(&mut self) {
        self.troubles.keep();
        tracing::info!("what is in the kernel stays as it is");
    }

    /// The policy that was live.
    fn again(&mut self, record: Arc<Record>) -> anyhow::Result<()> {
        let enforces = self.enforced.datapath.enforces();
        let bundle = record.bundle.clone();
        self.kept.record = Some(record);
        if self.updates.database.is_lost() && enforces {
            self.keep();
            return Ok(());
        }
        let in_doubt = [Cause::Database, Cause::Routes];
        if enforces && in_doubt.iter().any(|cause| self.troubles.has(*cause)) {
            match self.parse(&bundle, &self.kept.overlay) {
                Ok((policy, _)) if self.would_be_adopted(policy.clone()) => {
                    // Just this is what was made of it. Another database is still another,
                    // where somebody went on without the one that is lost.
                    self.troubles.clear(Cause::Routes);
                    if self.kept.current.database.is_none() {
                        self.troubles.clear(Cause::Database);
                    }
                }
                Ok((policy, _)) => {
                    self.keep();
                    self.known_but_kept(policy);
                    return Ok(());
                }
                Err(e) => {
                    let words = format!("the last policy cannot be used: {}", e.in_words());
                    self.troubles.set(Cause::Policy, words);
                    self.keep();
                    return Ok(());
                }
            }
        }
        if let Some(pending) = &self.kept.current.pending
            && pending.until <= Timestamp::now()
        {
            tracing::warn!("the policy on trial was not confirmed in time: rolling back");
            match self.rollback(&By::daemon(By::UNCONFIRMED)) {
                Ok(_) => return Ok(()),
                Err(e) => {
                    let words = format!("cannot roll back: {}", e.in_words());
                    self.troubles.set(Cause::Return, words);
                }
            }
        }
        let start = Instant::now();
        match self.refresh(|_| {}) {
            Ok(published) => {
                tracing::info!(published, took = ?start.elapsed(), "the last policy is live");
                if published {
                    self.note(&By::daemon("start"), None);
                }
                // It was not taken at first.
                if !self.kept.state.policy_aside().exists() {
                    self.troubles.clear(Cause::Policy);
                }
                Ok(())
            }
            Err(e) => {
                let words = format!("the last policy cannot be used: {}", e.in_words());
                if enforces {
                    self.troubles.set(Cause::Policy, words);
                    self.keep();
                    return Ok(());
                }
                let record = self.kept.record.clone();
                let result = self.newest_that_works(&words);
                // It is not the policy's fault: it is what is tried again.
                if result.is_err()
                    && e.diagnostics.ok()
                    && let Some(record) = record
                {
                    self.kept.current.live = record.number;
                    self.kept.record = Some(record);
                    return Err(NotTaken(words).into());
                }
                result
            }
        }
    }

    /// Which policy was live is lost. One of the history may be what is in the kernel.
    fn search(&mut self, damage: &Damage) -> anyhow::Result<()> {
        let what = format!("which policy was live is not known: {damage}");
        if !self.enforced.datapath.enforces() {
            return self.newest_that_works(&what);
        }
        for record in self.kept.state.history() {
            let Ok((policy, _)) = self.parse(&record.bundle, &self.kept.overlay) else {
                continue;
            };
            if self.would_be_adopted(policy) {
                let number = record.number;
                tracing::error!(
                    "{damage}; policy {number} of the history is what is in the kernel"
                );
                self.kept.current.live = record.number;
                self.kept.repaired.push(match record.before {
                    Some(_) => format!(
                        "{damage}; whether policy {number} was on trial is not known, and it \
                         stays: `kordon rollback` returns to the one before"
                    ),
                    None => damage.to_string(),
                });
                self.kept.record = Some(Arc::new(record));
                // It is there with these entries and with no others, unless a start before
                // this one has lost them.
                if !self.kept.state.overlay_aside().exists() {
                    self.troubles.clear(Cause::Overlay);
                }
                return self.refresh(|_| {}).map(drop).or_else(|e| {
                    self.troubles.set(Cause::Policy, e.in_words());
                    self.keep();
                    Ok(())
                });
            }
        }
        let words = format!("{what}; `kordon apply` makes one live");
        self.troubles.set(Cause::Policy, words);
        self.keep();
        Ok(())
    }

    /// Nothing is in the kernel: less than was asked for is better than that, and is not
    /// hidden.
    fn newest_that_works(&mut self, what: &str) -> anyhow::Result<()> {
        let before = self.kept.record.take().map(|record| record.number);
        for older in self.kept.state.history() {
            let number = older.number;
            if Some(number) == before {
                continue;
            }
            self.kept.current.live = number;
            self.kept.record = Some(Arc::new(older));
            if self.refresh(|_| {}).is_ok() {
                let words = format!(
                    "{what}; policy {number} of the history is live instead, `kordon apply` makes \
                     another one live"
                );
                self.troubles.set(Cause::Policy, words);
                return Ok(());
            }
        }
        self.kept.record = None;
        self.first().with_context(|| what.to_owned())?;
        let words = format!("{what}; the configured policy is live instead");
        self.troubles.set(Cause::Policy, words);
        Ok(())
    }

    /// Nothing was applied here: the configured policy is the first.
    fn first(&mut self) -> anyhow::Result<()> {
        let path = self.config.policy.clone();
        let read = Bundle::read(&path)
            .context("there is no applied policy, and the configured one cannot be used");
        let by = By::daemon("start");
        if !self.enforced.datapath.enforces() {
            let bundle = read?;
            let source = bundle.clone();
            return match self.apply(bundle, None, &by) {
                Ok(_) => Ok(()),
                Err(e) if !e.diagnostics.ok() => {
                    let found = e.diagnostics.render(|file| source.source(file), false);
                    bail!("{} cannot be used:\n{found}", path.display())
                }
                Err(e) => Err(NotTaken(format!(
                    "the configured policy is not live: {}",
                    e.in_words()
                ))
                .into()),
            };
        }
        // Somebody removed the state, and not what it was about.
        if let Ok(bundle) = read
            && let Ok((policy, _)) = self.parse(&bundle, &self.kept.overlay)
            && self.would_be_adopted(policy)
            && self.apply(bundle, None, &by).is_ok()
        {
            return Ok(());
        }
        self.troubles.set(
            Cause::Policy,
            format!(
                "nothing in {} says which policy is in the kernel; `kordon apply` makes the \
                 configured one live",
                quoted(&self.config.state_dir.display().to_string())
            ),
        );
        self.keep();
        Ok(())
    }
}
