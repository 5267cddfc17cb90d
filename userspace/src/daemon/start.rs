//! From nothing to enforcing: what was live last comes back first, sources and
//! the configured policy are looked at only where there is nothing to come back.

use std::{fs::File, path::Path, time::Instant};

use anyhow::{Context as _, bail};
use jiff::Timestamp;

use super::{
    bgp::Bgp,
    core::{Applies, Core},
    database::{self, Found},
    interfaces::Device,
    network::Facts,
    refusal::Refusal,
    silence::Silence,
    state::{Current, StateDir, lock},
    trace::Traces,
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
        if let Some(guess) = tier_before(&state) {
            let ports = datapath.ports(&names)?;
            datapath.preload(guess, &ports)?;
        }
        let Found {
            database,
            outdated,
            imported,
            refused,
        } = database::find(&state, &config);
        let bgp = config.bmp.as_ref().map(|bmp| Bgp::new(bmp, &database));
        let database = match &bgp {
            Some(bgp) => {
                bgp.restore(&state);
                bgp.over(database)
            }
            None => database,
        };
        let mut problems = Vec::new();
        let overlay = Overlay::load(&state.overlay()).unwrap_or_else(|e| {
            // The next `block` writes the file anew; what it held is not lost with it.
            let aside = state.overlay().with_extension("damaged");
            let _ = std::fs::copy(state.overlay(), &aside);
            let problem = format!(
                "{e}; its entries are not in force; give them again, {} has them",
                aside.display()
            );
            tracing::error!("{problem}");
            problems.push(problem);
            Overlay::default()
        });
        let devices = config.interfaces.iter().cloned().map(Device::new).collect();
        let mut core = Self {
            updates: Updates::load(&state),
            bgp,
            config,
            state,
            datapath,
            database,
            refused,
            changed: Vec::new(),
            overlay,
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
            problems,
            applies: Applies::default(),
            started_at: Timestamp::now(),
            detached: false,
            traces: debug_log.then(Traces::default),
            retry_at: None,
        };
        core.note_confirmed();
        core.restore()?;
        core.release_others()?;
        core.tend_interfaces();
        core.datapath.end_preload();
        let later = Later {
            save: imported,
            import: outdated,
        };
        Ok((core, later))
    }

    fn restore(&mut self) -> anyhow::Result<()> {
        let (loaded, damaged) = self.state.load();
        for e in damaged {
            tracing::error!("{e}");
        }
        let Some((current, record)) = loaded else {
            return self.first();
        };
        self.current = current;
        self.record = Some(record);
        if self.database.is_lost() && self.datapath.live().is_some() {
            tracing::error!("what is in the kernel stays as it is: the ASN database is lost");
            return Ok(());
        }
        if let Some(pending) = &self.current.pending
            && pending.until <= Timestamp::now()
        {
            tracing::warn!("the policy on trial was not confirmed in time: rolling back");
            match self.rollback() {
                Ok(_) => return Ok(()),
                Err(e) => self.problem(format!("cannot roll back: {}", e.in_words())),
            }
        }
        let start = Instant::now();
        match self.refresh(|_| {}) {
            Ok(published) => {
                tracing::info!(published, took = ?start.elapsed(), "the last policy is live");
                return Ok(());
            }
            Err(e) => self.problem(format!("the last policy cannot be used: {}", e.in_words())),
        }
        // Less than was asked for is better than nothing, and is not hidden.
        let record = self.record.take();
        for older in self.state.history() {
            if Some(older.number) == record.as_ref().map(|r| r.number) {
                continue;
            }
            let number = older.number;
            self.record = Some(older);
            if self.refresh(|_| {}).is_ok() {
                self.problem(format!("policy {number} of the history is live instead"));
                return Ok(());
            }
        }
        self.record = record;
        if self.datapath.live().is_some() {
            self.problem("what is in the kernel was left as it is".to_owned());
            return Ok(());
        }
        bail!(
            "there is no policy that could be made live: {}",
            self.problems.join("; ")
        )
    }

    /// Nothing was applied yet: the configured policy is the first.
    fn first(&mut self) -> anyhow::Result<()> {
        let path = self.config.policy.clone();
        let bundle = Bundle::read(&path)
            .context("there is no applied policy, and the configured one cannot be used")?;
        let source = bundle.clone();
        match self.apply(bundle, "start", None) {
            Ok(_) => Ok(()),
            Err(e) if !e.diagnostics.ok() => {
                let found = e.diagnostics.render(|file| source.source(file), false);
                bail!("{} cannot be used:\n{found}", path.display())
            }
            Err(e) => bail!("{}", e.in_words()),
        }
    }

    /// Reads the configured policy again and applies it.
    pub(super) fn reload(&mut self) {
        let path = self.config.policy.clone();
        let result = Bundle::read(&path)
            .map_err(Refusal::from_error)
            .and_then(|bundle| self.apply(bundle, "reload", None));
        match self.count(result) {
            Ok(answer) => {
                tracing::info!(changed = %answer["changed"], "reloaded {}", path.display());
            }
            Err(e) => {
                tracing::error!("the policy stays as it was: {}", e.in_words());
            }
        }
    }

    fn problem(&mut self, problem: String) {
        tracing::error!("{problem}");
        self.problems.push(problem);
    }

    /// What time brings: trials and rules end, interfaces come back.
    pub(super) fn tick(&mut self) {
        if self.detached {
            return;
        }
        self.tend_interfaces();
        self.watch();
        if let Some(traces) = &mut self.traces {
            traces.tend(&self.datapath.programs());
        }
        let now = Timestamp::now();
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        let ended = self.expire(now);
        if let Err(e) = &ended {
            tracing::error!("what has ended is still in force: {}", e.in_words());
        }
        let whole = self.finish();
        if let Err(e) = &whole {
            tracing::error!("what is live is not whole: {}", e.in_words());
        }
        if ended.is_err() || whole.is_err() {
            self.retry_at = now.checked_add(jiff::SignedDuration::from_secs(30)).ok();
        }
    }

    /// Planes that could not be switched on, and what was found to be wrong, are made anew.
    fn finish(&mut self) -> Result<(), Refusal> {
        let is_unfinished = self.datapath.live().is_some_and(|live| !live.planes);
        if is_unfinished && self.live.is_some() {
            self.refresh(|_| {})?;
        }
        Ok(())
    }

    fn expire(&mut self, now: Timestamp) -> Result<(), Refusal> {
        if let Some(pending) = &self.current.pending
            && pending.until <= now
        {
            tracing::warn!("the policy was not confirmed in time: rolling back");
            self.rollback()?;
        }
        let mut overlay = self.overlay.clone();
        if overlay.prune(now) {
            tracing::info!("an entry of the overlay has ended");
            self.set_overlay(overlay)?;
        }
        let rules = self.live.iter().flat_map(|live| &live.policy.rules);
        let ended = rules
            .into_iter()
            .any(|rule| rule.until.is_some_and(|until| until <= now));
        if ended {
            tracing::info!("a rule has ended");
            self.catch_up(true);
            self.refresh(|_| {})?;
        }
        Ok(())
    }

    /// The router's links or addresses are others than before.
    pub(super) fn network_changed(&mut self, facts: Facts) {
        if self.detached || self.facts.as_ref() == Some(&facts) {
            return;
        }
        self.catch_up(true);
        match self.refresh(|next| next.facts = Some(facts)) {
            Ok(true) => tracing::info!("the router's addresses changed: rules are renewed"),
            Ok(false) => {}
            Err(e) => tracing::error!("the router's addresses changed: {}", e.in_words()),
        }
    }
}
