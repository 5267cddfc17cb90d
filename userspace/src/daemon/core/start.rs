//! From nothing to enforcing. What was live last comes back first
//! ([`restore`](super::restore)); sources and the configured policy are looked at only where
//! there is nothing to come back.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use jiff::Timestamp;

use super::{Core, enforced::Enforced, routes::Tally, trace::Traces};
use crate::{
    compile::table::Tier,
    config::Config,
    daemon::{
        bgp::Bgp,
        boot::Boot,
        links::{Links, router::Look},
        log::Repeated,
        state::{StateDir, journal::Journal, kept::Kept},
        status::Applies,
        trouble::{Cause, Troubles},
        updates::{
            Updates,
            find::{Found, find},
        },
    },
    datapath::{attach::Mode, kernel::Datapath},
    ledger::Keeper,
};

/// What is left to do once enforcement has begun.
pub(in crate::daemon) struct Later {
    /// The database came from the sources: keep it.
    pub(in crate::daemon) save: bool,
    /// The sources are newer than the snapshot: import them.
    pub(in crate::daemon) import: bool,
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

/// The ports of interfaces that will have a program, most likely.
fn ports_before(datapath: &Datapath, config: &Config) -> Vec<u32> {
    let devices: Vec<_> = config.interfaces.iter().map(|i| i.device.clone()).collect();
    let ports = datapath.ports(&devices).unwrap_or_default();
    let all = ports.into_iter().zip(&config.interfaces);
    all.filter(|(_, interface)| interface.mode != Mode::Tc)
        .map(|(port, _)| port)
        .collect()
}

impl Core {
    /// Makes live what was live last, and attaches.
    pub(in crate::daemon) fn start(
        config: Config,
        state: StateDir,
        look: Option<Look>,
        debug_log: bool,
    ) -> anyhow::Result<(Self, Later)> {
        let mut datapath = Datapath::open(&config.bpffs, config.lines)?;
        if debug_log {
            datapath.trace();
        }
        for interface in &config.interfaces {
            // What another name had is taken over, not taken off.
            if let Err(e) = datapath.rename(&interface.device, None) {
                tracing::error!("{e}");
            }
        }
        // While the database is read and compiled. It only saves time: what is wrong shows when
        // it is needed.
        if let Some(guess) = tier_before(&state)
            && let Err(e) = datapath.preload(guess, &ports_before(&datapath, &config))
        {
            tracing::warn!("nothing is loaded ahead: {e}");
        }
        let loaded = state.load();
        let Found {
            database,
            outdated,
            imported,
            refused,
            is_newest,
        } = find(&state, &config);
        let bgp = config.bmp.as_ref().map(|bmp| Bgp::new(bmp, &database.db));
        let mut troubles = Troubles::default();
        if let Some(bgp) = &bgp
            && let Err(words) = bgp.restore(&state, loaded.current.routes)
        {
            troubles.set(Cause::Routes, words);
        }
        let database = match &bgp {
            Some(bgp) => database.under(bgp),
            None => database,
        };
        let journal = Journal::open(state.changes());
        let mut core = Self {
            updates: Updates::load(&state, &config, database, refused),
            bgp,
            links: Links::new(&config, look),
            config: Arc::new(config),
            boot: Boot::default(),
            kept: Kept::new(state),
            ledger: datapath
                .ledger()
                .and_then(Keeper::new)
                .map(|keeper| Arc::new(Mutex::new(keeper)))
                .map_err(|e| e.to_string()),
            evidence: None,
            names: None,
            naming: None,
            enforced: Enforced::new(datapath),
            tally: Tally::default(),
            troubles,
            journal,
            applies: Applies::default(),
            unfinished: Repeated::default(),
            reload_refused: None,
            started_at: Timestamp::now(),
            detached: false,
            traces: debug_log.then(Traces::default),
            retry_at: None,
        };
        core.restore(loaded, is_newest)?;
        core.links.release_others(&mut core.enforced.datapath);
        core.tend_interfaces();
        // A start may take longer than what is seen of them stays true.
        core.links.looked = Instant::now();
        core.enforced.datapath.end_preload();
        core.tend_boot_guard();
        core.judge_cover();
        core.begin_evidence();
        core.name_flows();
        core.note_missing();
        let later = Later {
            save: imported,
            // What is kept is not for files to replace that may be older.
            import: outdated && !core.troubles.is_kept(),
        };
        Ok((core, later))
    }
}
