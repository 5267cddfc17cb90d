//! Programs that a start will need, loaded by threads of their own: the verifier
//! takes longer with one than everything else takes together.

use std::{
    collections::BTreeMap,
    path::Path,
    thread::{self, JoinHandle},
};

use aya::{Ebpf, EbpfLoader};
use kordon_ebpf::layout::{mode, trace};

use super::{
    DatapathError, chain,
    pins::Pins,
    probe::{Prober, program},
    programs, refused,
};
use crate::compile::table::Tier;

/// Loads the program of a port, over the pinned maps in `folder`.
pub(super) fn live_program(
    pins: &Pins,
    folder: &Path,
    tier: Tier,
    port: u32,
    log: bool,
) -> Result<Ebpf, DatapathError> {
    let what = "load the program";
    let which = (
        tier.as_str(),
        mode::LIVE,
        if log { trace::ON } else { trace::OFF },
    );
    refused::check(what, which)?;
    let mut loader = EbpfLoader::new();
    if log {
        loader.override_global("TRACE", &trace::ON, true);
    } else {
        loader.map_max_entries("AYA_LOGS", programs::NO_LOG);
    }
    let mut ebpf = loader
        .override_global("MODE", &mode::LIVE, true)
        .override_global("PORT", &port, true)
        .map_pin_path("COUNTERS", pins.shared("counters"))
        .map_pin_path("GENERATIONS", folder.join("generations"))
        .map_pin_path("TABLES", folder.join("tables"))
        .map_pin_path("PLANES", folder.join("planes"))
        .load(programs::object(tier))
        .map_err(|e| DatapathError::new("load the maps", chain(&e)))?;
    let program = program(&mut ebpf)?;
    refused::loaded(what, which, || program.load())?;
    Ok(ebpf)
}

/// What is being loaded for one tier. What failed is loaded again where it is
/// needed, and then says why.
pub(super) struct Preload {
    tier: Tier,
    prober: Option<JoinHandle<Option<Prober>>>,
    programs: Programs,
}

enum Programs {
    Loading(JoinHandle<BTreeMap<u32, Ebpf>>),
    Loaded(BTreeMap<u32, Ebpf>),
}

impl Preload {
    /// Starts loading. The maps in `folder` exist. `prober`: whether one is needed.
    pub(super) fn start(
        pins: &Pins,
        folder: &Path,
        tier: Tier,
        ports: &[u32],
        log: bool,
        prober: bool,
    ) -> Self {
        let (pins, folder, ports) = (pins.clone(), folder.to_owned(), ports.to_vec());
        Self {
            tier,
            prober: prober.then(|| thread::spawn(move || Prober::load(tier).ok())),
            programs: Programs::Loading(thread::spawn(move || {
                let load = |port| live_program(&pins, &folder, tier, port, log);
                let loaded = ports.iter().map(|port| (*port, load(*port)));
                loaded
                    .filter_map(|(port, ebpf)| Some((port, ebpf.ok()?)))
                    .collect()
            })),
        }
    }

    /// Programs that are loaded.
    pub(super) fn loaded(tier: Tier, programs: BTreeMap<u32, Ebpf>) -> Self {
        Self {
            tier,
            prober: None,
            programs: Programs::Loaded(programs),
        }
    }

    /// The prober, once; `None`: there is none of that tier.
    pub(super) fn prober(&mut self, tier: Tier) -> Option<Prober> {
        if self.tier != tier {
            return None;
        }
        self.prober.take()?.join().ok()?
    }

    /// The program of a port, once.
    pub(super) fn program(&mut self, tier: Tier, port: u32) -> Option<Ebpf> {
        if self.tier != tier {
            return None;
        }
        let empty = Programs::Loaded(BTreeMap::new());
        let mut loaded = match std::mem::replace(&mut self.programs, empty) {
            Programs::Loading(thread) => thread.join().unwrap_or_default(),
            Programs::Loaded(loaded) => loaded,
        };
        let found = loaded.remove(&port);
        self.programs = Programs::Loaded(loaded);
        found
    }
}
