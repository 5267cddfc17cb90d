//! What the programs may cost: instructions, and what the verifier has to follow. Nobody
//! notices a few more, so growth is a decision: it fails here first.

use anyhow::Result;
use kordon::compile::table::Tier;
use kordon_ebpf::layout::{mode, trace};
use kordon_tests::budget::{Cost, cost};

/// All tiers have the same code; only bounds and offsets differ.
const BUDGET: Cost = Cost {
    // Most of it is walks over rules, of each address that a destination stands for: five
    // at most, of the packet and of one inside. The kernel's limit is a million. Reports of
    // IGMP with as many groups as a packet of 1,500 bytes has take some 20,000.
    verified: 483_800,
    translated: 73_500,
    jitted: 39_900,
};

/// What compilers of another day may make of the same source, percent.
const SLACK: u32 = 4;
/// As `SLACK`, of machine code: kernels differ more.
const SLACK_JITTED: u32 = 30;

#[test]
fn programs_keep_to_their_budget() -> Result<()> {
    let mut over = Vec::new();
    for tier in Tier::ALL {
        let cost = cost(tier, mode::LIVE, trace::OFF)?;
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
