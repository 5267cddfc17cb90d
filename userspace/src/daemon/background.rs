//! What the event loop lets threads do with the core. Each kind of job waits at most once: jobs
//! that take longer than what asks for them must not become a queue before commands and the end.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use tokio::task::spawn_blocking;

use super::{Shared, core::Core, lock, network::Facts, watch::SETTLING};

/// The jobs of one event loop.
pub(super) struct Background {
    core: Shared,
    tick: Arc<AtomicBool>,
    tend: Arc<AtomicBool>,
    facts: Arc<Mutex<Option<Facts>>>,
}

impl Background {
    pub(super) fn new(core: &Shared) -> Self {
        Self {
            core: Arc::clone(core),
            tick: Arc::default(),
            tend: Arc::default(),
            facts: Arc::default(),
        }
    }

    /// What time brings.
    pub(super) fn tick(&self) {
        self.once(&self.tick, Some(Core::look_ahead), Core::tick);
    }

    /// Interfaces came or went.
    pub(super) fn tend(&self) {
        self.once(&self.tend, None, Core::tend_interfaces);
    }

    /// The router is this now; what waits from before is out of date.
    pub(super) fn network_changed(&self, facts: Facts) {
        let slot = Arc::clone(&self.facts);
        let newest = move || slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut waiting = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.replace(facts).is_some() {
            return;
        }
        let core = Arc::clone(&self.core);
        spawn_blocking(move || {
            let mut core = lock(&core);
            if let Some(facts) = newest() {
                core.network_changed(facts);
            }
        });
    }

    /// Does it once the core is free, unless it is about to be done. What comes [`SETTLING`]
    /// ahead leaves the core free until then.
    fn once(&self, waiting: &Arc<AtomicBool>, ahead: Option<fn(&mut Core)>, job: fn(&mut Core)) {
        if waiting.swap(true, SeqCst) {
            return;
        }
        let (core, waiting) = (Arc::clone(&self.core), Arc::clone(waiting));
        spawn_blocking(move || {
            if let Some(ahead) = ahead {
                ahead(&mut lock(&core));
                thread::sleep(SETTLING);
            }
            let mut core = lock(&core);
            // What is asked for from now on may be about what comes after.
            waiting.store(false, SeqCst);
            job(&mut core);
        });
    }
}
