//! The two programs with which the verifier takes longer than all else at a start together, loaded by
//! threads beside the rest.

use std::thread::{self, JoinHandle};

use aya::Ebpf;

use super::{loaded::Source, probe::Prober};
use crate::compile::table::Tier;

/// What is being loaded for one tier. What failed is loaded again where it is
/// needed, and then says why.
pub(super) struct Preload {
    tier: Tier,
    prober: Option<JoinHandle<Option<Prober>>>,
    slow: Option<JoinHandle<Option<Ebpf>>>,
}

impl Preload {
    /// Starts loading. The maps of the source exist. `prober`: whether one is needed.
    pub(super) fn start(source: Source<'_>, prober: bool) -> Self {
        let tier = source.tier;
        Self {
            tier,
            prober: prober.then(|| thread::spawn(move || Prober::load(tier).ok())),
            slow: Some(source.beside(|source| source.slow().ok())),
        }
    }

    /// The prober, once; `None`: there is none of that tier.
    pub(super) fn prober(&mut self, tier: Tier) -> Option<Prober> {
        self.prober.take_if(|_| self.tier == tier)?.join().ok()?
    }

    /// The slow path, likewise.
    pub(super) fn slow(&mut self, tier: Tier) -> Option<Ebpf> {
        self.slow.take_if(|_| self.tier == tier)?.join().ok()?
    }
}
