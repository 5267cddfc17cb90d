//! What time brings: trials and rules end, interfaces come back, what could not be done is tried
//! again; and what comes without being asked for: a reload, another address of the router.

use std::{sync::Arc, time::Instant};

use jiff::{SignedDuration, Timestamp};

use super::Core;
use crate::{
    daemon::{
        by::By,
        links::router::{Facts, Look},
        refusal::Refusal,
        status,
        trouble::Cause,
    },
    policy::{Bundle, Overlay},
};

impl Core {
    /// Reads the configured policy again and applies it.
    pub(in crate::daemon) fn reload(&mut self) {
        let path = self.config.policy.clone();
        let result = Bundle::read(&path)
            .map_err(Refusal::from_error)
            .and_then(|bundle| self.apply(bundle, None, &By::daemon(By::RELOAD)));
        match self.count(result) {
            Ok(answer) => {
                tracing::info!(changed = %answer["changed"], "reloaded {}", path.display());
            }
            Err(e) => {
                tracing::error!("the policy stays as it was: {}", e.in_words());
                self.reload_refused = Some(format!(
                    "the reload at {:.0} was refused, and the policy stays as it was: {}",
                    Timestamp::now(),
                    e.in_words()
                ));
            }
        }
    }

    /// Attaches what is configured and not attached.
    pub(in crate::daemon) fn tend_interfaces(&mut self) {
        if !self.detached {
            let ports = self.enforced.live.as_ref().map(|live| &*live.ports);
            self.links.tend(&mut self.enforced.datapath, ports);
        }
    }

    /// A little before a tick: what was on its way then has arrived with it.
    pub(in crate::daemon) fn look_ahead(&mut self) {
        self.links.look_ahead(&self.enforced.datapath);
    }

    /// Looks after interfaces, and whether programs see what arrives there.
    pub(super) fn look_after_links(&mut self) {
        self.tend_interfaces();
        if let Some(live) = self.enforced.live.as_ref().filter(|_| !self.detached) {
            let datapath = &mut self.enforced.datapath;
            let reader = datapath.reader();
            let packets = || status::packets(&reader, Some(live));
            let after = self.config.silent_after;
            self.links.watch(datapath, &live.ports, packets, after);
        }
        self.links.looked = Instant::now();
        self.tend_boot_guard();
    }

    /// Lifts the boot guard where that is due, and writes down what the next boot holds.
    pub(super) fn tend_boot_guard(&mut self) {
        self.boot.look(&self.config);
        if self.boot.holds_any() {
            let enforcing = self.view().enforcing_devices();
            self.boot.lift(&self.config, &enforcing);
        }
        let facts = self.links.unseen.as_ref().or(self.links.facts.as_ref());
        let live = self.enforced.live.as_ref();
        self.boot.keep(&self.kept.state, &self.config, live, facts);
    }

    /// What time brings: trials and rules end, interfaces come back.
    pub(in crate::daemon) fn tick(&mut self) {
        if self.detached {
            return;
        }
        self.look_after_links();
        if let Some(traces) = &mut self.traces {
            traces.tend(&self.enforced.datapath.programs());
        }
        let now = Timestamp::now();
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        if self.begin_again() {
            self.retry_at = soon(now);
            return;
        }
        self.review();
        if self.kept.unsaved.is_some() {
            self.kept.save();
        }
        if let Err(e) = self.kept.state.take() {
            self.kept.state.tell(&e.to_string());
        }
        if let Some(facts) = self.links.unseen.take() {
            self.network_changed(facts);
        }
        let ended = self.expire(now);
        match &ended {
            Ok(()) => self.troubles.clear(Cause::Expiry),
            Err(e) => {
                let words = format!("what has ended is still in force: {}", e.in_words());
                self.troubles.set(Cause::Expiry, words);
            }
        }
        let whole = self.finish();
        match &whole {
            Ok(()) => self.unfinished.end(),
            Err(e) => {
                let words = format!("what is live is not whole: {}", e.in_words());
                if self.unfinished.is_news(&words) {
                    tracing::error!("{words}");
                }
            }
        }
        if ended.is_err() || whole.is_err() {
            self.retry_at = soon(now);
        }
    }

    /// Planes that could not be switched on, and what was found to be wrong, are made anew.
    fn finish(&mut self) -> Result<(), Refusal> {
        let is_unfinished = self
            .enforced
            .datapath
            .live()
            .is_some_and(|live| !live.planes)
            || self.troubles.has(Cause::Panic);
        if is_unfinished && self.enforced.live.is_some() {
            self.refresh(|_| {})?;
        }
        Ok(())
    }

    fn expire(&mut self, now: Timestamp) -> Result<(), Refusal> {
        // What failed is tried again, which is no news.
        let is_news = !self.troubles.has(Cause::Expiry);
        if let Some(pending) = &self.kept.current.pending
            && pending.until <= now
        {
            if is_news {
                tracing::warn!("the policy was not confirmed in time: rolling back");
            }
            self.rollback(&By::daemon(By::UNCONFIRMED))?;
        }
        let mut overlay = Overlay::clone(&self.kept.overlay);
        if overlay.prune(now) {
            if is_news {
                tracing::info!("an entry of the overlay has ended");
            }
            self.set_overlay(overlay, &By::daemon("an entry has ended"))?;
        }
        let rules = self
            .enforced
            .live
            .iter()
            .flat_map(|live| &live.policy.rules);
        let ended = rules
            .into_iter()
            .any(|rule| rule.until.is_some_and(|until| until <= now));
        if ended {
            if is_news {
                tracing::info!("a rule has ended");
            }
            self.catch_up(true);
            let old = self.enforced.hash();
            self.refresh(|_| {})?;
            self.note(&By::daemon("a rule has ended"), old);
        }
        Ok(())
    }

    /// Somebody has looked at the router.
    pub(in crate::daemon) fn network_seen(&mut self, look: Look) {
        self.links.see(look.seen);
        self.network_changed(Arc::new(look.facts));
    }

    /// Whether what is policed is all that there is to police: after whatever may have changed that.
    pub(in crate::daemon) fn judge_cover(&mut self) {
        if let Some(live) = &self.enforced.live {
            self.links.judge_cover(&live.policy);
        }
    }

    /// The router's links or addresses may be others than before.
    fn network_changed(&mut self, facts: Arc<Facts>) {
        if self.detached || self.links.facts.as_ref() == Some(&facts) {
            self.links.unseen = None;
            self.troubles.clear(Cause::Addresses);
            return;
        }
        self.catch_up(true);
        let next = Arc::clone(&facts);
        match self.refresh(|next_| next_.facts = Some(next)) {
            Ok(published) => {
                if published {
                    tracing::info!("the router's addresses changed: rules are renewed");
                }
                self.links.unseen = None;
                self.troubles.clear(Cause::Addresses);
            }
            Err(e) => {
                let words = format!(
                    "the rules do not know the router's addresses of now: {}",
                    e.in_words()
                );
                self.troubles.set(Cause::Addresses, words);
                // With the next tick that tries again.
                self.links.unseen = Some(facts);
                self.retry_at = soon(Timestamp::now());
            }
        }
    }

    /// What goes by itself: looks whether it has.
    pub(in crate::daemon) fn review(&mut self) {
        if self.troubles.has(Cause::Overlay)
            && !self.troubles.is_kept()
            && self.kept.aside
            && !self.kept.state.overlay_aside().exists()
        {
            self.troubles.clear(Cause::Overlay);
        }
        let Some(bgp) = &self.bgp else { return };
        if self.troubles.has(Cause::Routes) && !self.troubles.is_kept() && bgp.is_known_again() {
            self.troubles.clear(Cause::Routes);
        }
        if !self.troubles.has(Cause::Routes) {
            bgp.found();
        }
    }
}

/// When what failed is tried again.
fn soon(now: Timestamp) -> Option<Timestamp> {
    now.checked_add(SignedDuration::from_secs(30)).ok()
}
