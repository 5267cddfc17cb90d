//! What the programs of an interface cost, as a kernel tells it: asked here for the
//! budget of this machine's kernel, and in virtual machines for those of others.

use anyhow::{Context as _, Result};
use aya::EbpfLoader;
use kordon::{compile::table::Tier, datapath::programs};
use kordon_ebpf::layout::{FLOW_BUDGET, FLOW_LINES_USUAL, NO_BUDGET, NO_LINES, mode};

/// What a program takes.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Instructions that the verifier followed, on all ways together.
    pub verified: u32,
    /// Bytes of what is left after it; eight for each instruction.
    pub translated: u32,
    /// Bytes of machine code. Differs from kernel to kernel and by mitigations.
    pub jitted: u32,
}

/// Loads a program of a tier, [`programs::FAST`], [`programs::SLOW`] or those of guards: `mode` is one of [`mode`], `trace`
/// one of [`kordon_ebpf::layout::trace`].
///
/// # Errors
/// When the kernel refuses it; with the end of what the verifier says.
pub fn cost(tier: Tier, name: &str, mode: u32, trace: u32) -> Result<Cost> {
    // As the controller tells them: without these there is no ledger, and the verifier removes all of it.
    let (lines, budget) = match mode {
        mode::LIVE => (FLOW_LINES_USUAL, FLOW_BUDGET),
        _ => (NO_LINES, NO_BUDGET),
    };
    let mut ebpf = EbpfLoader::new()
        .override_global("LINES", &lines, true)
        .override_global("BUDGET", &budget, true)
        .override_global("MODE", &mode, true)
        .override_global("TRACE", &trace, true)
        .override_global("PORT", &0u32, true)
        // Of counters there is one page: what is measured is the program.
        .map_max_entries("COUNTERS", 1)
        .map_max_entries("AYA_LOGS", programs::NO_LOG)
        .load(programs::object(tier))?;
    programs::load_one(&mut ebpf, name)?;
    let info = ebpf.program(name).context("it was loaded")?.info()?;
    Ok(Cost {
        verified: info.verified_instruction_count().unwrap_or(0),
        translated: info.size_translated().unwrap_or(0),
        jitted: info.size_jitted(),
    })
}
