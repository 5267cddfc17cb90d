//! From nothing to enforcing, and what time brings. What was live last comes back first
//! ([`restore`](super::restore)); sources and the configured policy are looked at only where
//! there is nothing to come back.

use std::{fs::File, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use nix::sys::stat;

use super::{
    bgp::{Bgp, Tally},
    core::{Applies, Core},
    database::{self, Found},
    interfaces::Device,
    journal::{By, Journal},
    log::Repeated,
    network::Facts,
    refusal::Refusal,
    silence::Silence,
    state::{Current, StateDir, lock},
    trace::Traces,
    trouble::{Cause, Troubles},
    updates::Updates,
};
use crate::{
    compile::table::Tier,
    config::Config,
    datapath::{kernel::Datapath, pins::Pins},
    policy::{Bundle, Overlay},
};

/// What is left to do once enforcement has begun.
pub(super) struct Later {
    /// The database came from the sources: keep it.
    pub(super) save: bool,
    /// The sources are newer than the snapshot: import them.
    pub(super) import: bool,
}

/// Keeps a second daemon off the pins. A BPF file system has no files to lock, but
/// its folders can be.
pub(crate) fn lock_pins(bpffs: &Path) -> anyhow::Result<File> {
    Pins::open(bpffs)?;
    let folder = File::open(bpffs).with_context(|| format!("cannot open {}", bpffs.display()))?;
    Ok(lock(folder, bpffs, "`--bpffs`")?)
}

/// The process that keeps others off the pins. Asked without a lock of its own, which would
/// keep a daemon from starting just then.
pub(crate) fn holder(bpffs: &Path) -> Option<u32> {
    let folder = std::fs::metadata(bpffs).ok()?;
    // proc_locks(5), as `FLOCK ADVISORY WRITE 3161 fe:00:5613327 0 EOF`.
    let (major, minor) = (stat::major(folder.dev()), stat::minor(folder.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", folder.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let at = fields.iter().position(|field| *field == place)?;
        fields.get(at.checked_sub(1)?)?.parse().ok()
    })
}

/// The same again where somebody removed the folder, and there is another one: a lock stays with
/// the folder that it was of.
pub(super) fn lock_again(pins: &mut File, bpffs: &Path) {
    let is_same = match (pins.metadata(), std::fs::metadata(bpffs)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    };
    if !is_same {
        match lock_pins(bpffs) {
            Ok(locked) => *pins = locked,
            // With the next tick it is tried again.
            Err(e) => tracing::debug!("cannot lock {}: {e:#}", bpffs.display()),
        }
    }
}

/// The size of the tables that the snapshot will need, most likely; `None`: there is
/// no snapshot.
fn tier_before(state: &StateDir) -> Option<Tier> {
    let snapshot = std::fs::metadata(state.snapshot()).ok()?;
    // What fits into the small tier has some thousand prefixes.
    Some(if snapshot.len() > 1 << 20 {
        Tier::Internet
    } else {
        Tier::Small
    })
}

impl Core {
    /// Makes live what was live last, and attaches.
    pub(super) fn start(
        config: Config,
        state: StateDir,
        facts: Option<Facts>,
        debug_log: bool,
    ) -> anyhow::Result<(Self, Later)> {
        let mut datapath = Datapath::open(&config.bpffs)?;
        if debug_log {
            datapath.trace();
        }
        // While the database is read and compiled.
        let names: Vec<String> = config.interfaces.iter().map(|i| i.device.clone()).collect();
        for name in &names {
            // What another name had is taken over, not taken off.
            if let Err(e) = datapath.rename(name, None) {
                tracing::error!("{e}");
            }
        }
        if let Some(guess) = tier_before(&state) {
            // It only saves time: what is wrong shows when it is needed.
            let preloaded = match datapath.ports(&names) {
                Ok(ports) => datapath.preload(guess, &ports),
                Err(e) => Err(e),
            };
            if let Err(e) = preloaded {
                tracing::warn!("nothing is loaded ahead: {e}");
            }
        }
        let loaded = state.load();
        let Found {
            database,
            outdated,
            imported,
            refused,
            is_newest,
        } = database::find(&state, &config);
        let bgp = config.bmp.as_ref().map(|bmp| Bgp::new(bmp, &database));
        let mut troubles = Troubles::default();
        let database = match &bgp {
            Some(bgp) => {
                if let Err(words) = bgp.restore(&state, loaded.current.routes) {
                    troubles.set(Cause::Routes, words);
                }
                bgp.over(database)
            }
            None => database,
        };
        let devices = config.interfaces.iter().cloned().map(Device::new).collect();
        let journal = Journal::open(state.changes());
        let mut core = Self {
            updates: Updates::load(&state),
            bgp,
            config: Arc::new(config),
            state: Arc::new(state),
            datapath,
            database,
            refused,
            tally: Tally::default(),
            changed: Vec::new(),
            overlay: Arc::default(),
            current: Current::default(),
            record: None,
            live: None,
            facts,
            devices,
            silence: Silence::default(),
            table: None,
            grouping: None,
            places: Vec::new(),
            wrong: None,
            torn: None,
            troubles,
            repaired: Vec::new(),
            aside: false,
            journal,
            unsaved: None,
            unpinned: None,
            unseen: None,
            unfinished: Repeated::default(),
            applies: Applies::default(),
            reload_refused: None,
            started_at: Timestamp::now(),
            looked: Instant::now(),
            detached: false,
            traces: debug_log.then(Traces::default),
            retry_at: None,
        };
        core.note_confirmed();
        core.restore(loaded, is_newest)?;
        core.release_others();
        core.tend_interfaces();
        core.datapath.end_preload();
        let later = Later {
            save: imported,
            // What is kept is not for files to replace that may be older.
            import: outdated && !core.troubles.is_kept(),
        };
        Ok((core, later))
    }

    /// Reads the configured policy again and applies it.
    pub(super) fn reload(&mut self) {
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

    /// What time brings: trials and rules end, interfaces come back.
    pub(super) fn tick(&mut self) {
        if self.detached {
            return;
        }
        self.tend_interfaces();
        self.watch();
        self.looked = Instant::now();
        if let Some(traces) = &mut self.traces {
            traces.tend(&self.datapath.programs());
        }
        let now = Timestamp::now();
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        if self.begin_again() {
            self.retry_at = now.checked_add(jiff::SignedDuration::from_secs(30)).ok();
            return;
        }
        self.review();
        if self.unsaved.is_some() {
            self.save();
        }
        if let Some(facts) = self.unseen.take() {
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
            self.retry_at = now.checked_add(jiff::SignedDuration::from_secs(30)).ok();
        }
    }

    /// Planes that could not be switched on, and what was found to be wrong, are made anew.
    fn finish(&mut self) -> Result<(), Refusal> {
        let is_unfinished = self.datapath.live().is_some_and(|live| !live.planes)
            || self.troubles.has(Cause::Panic);
        if is_unfinished && self.live.is_some() {
            self.refresh(|_| {})?;
        }
        Ok(())
    }

    fn expire(&mut self, now: Timestamp) -> Result<(), Refusal> {
        // What failed is tried again, which is no news.
        let is_news = !self.troubles.has(Cause::Expiry);
        if let Some(pending) = &self.current.pending
            && pending.until <= now
        {
            if is_news {
                tracing::warn!("the policy was not confirmed in time: rolling back");
            }
            self.rollback(&By::daemon(By::UNCONFIRMED))?;
        }
        let mut overlay = Overlay::clone(&self.overlay);
        if overlay.prune(now) {
            if is_news {
                tracing::info!("an entry of the overlay has ended");
            }
            self.set_overlay(overlay, &By::daemon("an entry has ended"))?;
        }
        let rules = self.live.iter().flat_map(|live| &live.policy.rules);
        let ended = rules
            .into_iter()
            .any(|rule| rule.until.is_some_and(|until| until <= now));
        if ended {
            if is_news {
                tracing::info!("a rule has ended");
            }
            self.catch_up(true);
            let old = self.live_hash();
            self.refresh(|_| {})?;
            self.note(&By::daemon("a rule has ended"), old);
        }
        Ok(())
    }

    /// The router's links or addresses are others than before.
    pub(super) fn network_changed(&mut self, facts: Facts) {
        if self.detached || self.facts.as_ref() == Some(&facts) {
            self.unseen = None;
            self.troubles.clear(Cause::Addresses);
            return;
        }
        self.catch_up(true);
        let next = facts.clone();
        match self.refresh(|next_| next_.facts = Some(next)) {
            Ok(published) => {
                if published {
                    tracing::info!("the router's addresses changed: rules are renewed");
                }
                self.unseen = None;
                self.troubles.clear(Cause::Addresses);
            }
            Err(e) => {
                let words = format!(
                    "the rules do not know the router's addresses of now: {}",
                    e.in_words()
                );
                self.troubles.set(Cause::Addresses, words);
                // With the next tick that tries again.
                self.unseen = Some(facts);
                let later = jiff::SignedDuration::from_secs(30);
                self.retry_at = Timestamp::now().checked_add(later).ok();
            }
        }
    }
}
