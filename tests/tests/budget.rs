//! What the programs may cost: instructions, and what the verifier has to follow. Nobody
//! notices a few more, so growth is a decision: it fails here first.

use anyhow::{Context as _, Result};
use aya::{EbpfLoader, programs::Xdp};
use kordon::{compile::table::Tier, datapath::programs};
use kordon_ebpf::layout::mode;

/// What the program of an interface takes, as the kernel tells it.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Instructions that the verifier followed, on all ways together.
    verified: u32,
    /// Bytes of what is left after it; eight for each instruction.
    translated: u32,
    /// Bytes of machine code. Differs from kernel to kernel and by mitigations.
    jitted: u32,
}

/// All tiers have the same code; only bounds and offsets differ.
const BUDGET: Cost = Cost {
    verified: 244_500,
    translated: 59_700,
    jitted: 34_200,
};

/// What compilers of another day may make of the same source, percent.
const SLACK: u32 = 4;
/// As `SLACK`, of machine code: kernels differ more.
const SLACK_JITTED: u32 = 30;

fn cost(tier: Tier) -> Result<Cost> {
    let mut ebpf = EbpfLoader::new()
        .override_global("MODE", &mode::LIVE, true)
        .override_global("PORT", &0u32, true)
        // Of counters there is one page: what is measured is the program.
        .map_max_entries("COUNTERS", 1)
        .load(programs::object(tier))?;
    let program = ebpf.program_mut("kordon").context("no program `kordon`")?;
    let program: &mut Xdp = program.try_into()?;
    program.load()?;
    let info = program.info()?;
    Ok(Cost {
        verified: info.verified_instruction_count().unwrap_or(0),
        translated: info.size_translated().unwrap_or(0),
        jitted: info.size_jitted(),
    })
}

#[test]
fn programs_keep_to_their_budget() -> Result<()> {
    let mut over = Vec::new();
    for tier in Tier::ALL {
        let cost = cost(tier)?;
        println!("{}: {cost:?}", tier.as_str());
        for (what, is, budget, slack) in [
            (
                "verified instructions",
                cost.verified,
                BUDGET.verified,
                SLACK,
            ),
            (
                "translated bytes",
                cost.translated,
                BUDGET.translated,
                SLACK,
            ),
            ("jitted bytes", cost.jitted, BUDGET.jitted, SLACK_JITTED),
        ] {
            if is > budget + budget * slack / 100 {
                over.push(format!("{}: {is} {what}, {budget} planned", tier.as_str()));
            }
        }
    }
    assert!(
        over.is_empty(),
        "the program has grown:\n{}\nLook at the hot path first (`llvm-objdump -d` of the object, \
         `cargo xtask bench packet`); if it is worth it, raise the budget in this file and say why",
        over.join("\n")
    );
    Ok(())
}
