//! What the programs may cost: instructions, what the verifier has to follow, and what a
//! packet takes. Nobody notices a few more, so growth is a decision: it fails here first.

use std::collections::{HashMap, HashSet};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aya_obj::generated::bpf_insn;
use kordon::{compile::table::Tier, datapath::programs};
use kordon_ebpf::layout::{mode, trace};
use kordon_tests::budget::{Cost, cost};
use kordon_tests::data;
use serde_json::Value;

/// All tiers have the same code; only bounds and offsets differ. The program of an interface is
/// loaded for each of them, the slow path once.
const BUDGETS: [(&str, Cost); 4] = [
    (
        programs::FAST,
        Cost {
            // With the ledger. Without global functions for what is rare there it was 50,500, and 188,900 on Linux
            // 6.1. That lines keep verdicts is 13,000 of the bytes: they are asked where a packet is judged.
            verified: 35_400,
            translated: 45_500,
            jitted: 25_000,
        },
    ),
    (
        programs::SLOW,
        Cost {
            // Without `repeat` it was 456,900. The kernel's limit is a million, and Linux 6.1
            // takes half as much again.
            verified: 76_100,
            translated: 57_300,
            jitted: 32_900,
        },
    ),
    (
        programs::GUARD_FAST,
        Cost {
            verified: 17_300,
            translated: 27_400,
            jitted: 14_700,
        },
    ),
    (
        programs::GUARD_SLOW,
        Cost {
            verified: 79_400,
            translated: 60_200,
            jitted: 34_700,
        },
    ),
];

/// What compilers of another day may make of the same source, percent.
const SLACK: u32 = 4;
/// As `SLACK`, of machine code: kernels differ more.
const SLACK_JITTED: u32 = 30;

#[test]
fn programs_keep_to_their_budget() -> Result<()> {
    let mut over = Vec::new();
    for (tier, (name, budget)) in Tier::ALL
        .into_iter()
        .flat_map(|tier| BUDGETS.map(|row| (tier, row)))
    {
        let cost = cost(tier, name, mode::LIVE, trace::OFF)?;
        println!("{} {name}: {cost:?}", tier.as_str());
        for (what, is, budget, slack) in [
            (
                "verified instructions",
                cost.verified,
                budget.verified,
                SLACK,
            ),
            (
                "translated bytes",
                cost.translated,
                budget.translated,
                SLACK,
            ),
            ("jitted bytes", cost.jitted, budget.jitted, SLACK_JITTED),
        ] {
            if is > budget + budget * slack / 100 {
                let tier = tier.as_str();
                over.push(format!("{tier} {name}: {is} {what}, {budget} planned"));
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

/// What a packet may take in the mean, over random destinations: instructions of the
/// program, and cache lines of tables and counters; with the Internet's real table, and with
/// the one that is drawn like it. See group `touched` in docs/benchmarks.md.
///
/// Of lines: number and port, VID, zone and two counters are five (of a drop four, of no zone
/// three), the leaf of a plane two or more. Each one more is a miss that a packet waits for. The ledger is not in it: what it adds is its line, and what
/// group `packet` measures; that a packet is recorded is decided here. Nor is a
/// flow that its line knows: that lines can be asked costs what is not recorded 10 to 25 instructions, for want of registers. A round of `repeat` is a
/// call: options are 70 to 130 instructions dearer for that, which is what loading a program in a fifth of the time costs.
const PACKETS: [(&str, [(f64, f64); 2]); 11] = [
    ("no-zone", [(85.0, 3.0), (85.0, 3.0)]),
    ("ipv4/pass/random", [(232.0, 7.0), (232.1, 7.01)]),
    ("ipv4/drop/random", [(222.2, 6.01), (223.8, 6.07)]),
    ("ipv6/pass/random", [(311.4, 8.33), (298.6, 7.79)]),
    ("ipv6/drop/random", [(367.6, 8.82), (338.5, 7.8)]),
    ("stacked/ipv4/pass/random", [(382.0, 11.0), (382.1, 11.0)]),
    ("stacked/ipv6/pass/random", [(454.9, 12.2), (441.8, 11.8)]),
    ("class/ipv4/pass/random", [(428.3, 13.0), (428.2, 13.0)]),
    ("class/ipv6/pass/random", [(569.2, 16.1), (565.4, 16.1)]),
    ("options/ipv4/pass/random", [(1581.2, 14.0), (1581.2, 14.0)]),
    ("options/ipv6/pass/random", [(1824.2, 18.1), (1820.4, 18.1)]),
];

#[test]
fn packets_keep_to_their_budget() -> Result<()> {
    let folder = data::folder();
    let real = folder.join("asn-ipv4.csv.zst").is_file();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kordon-bench"));
    command.args(["--json", "touched", "--rounds", "1"]);
    if real {
        command.arg("--asn-db").arg(folder);
    }
    let output = command.output().context("cannot run the benchmark")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let mut means = HashMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let row: Value = serde_json::from_str(line)?;
        let case = row["case"].as_str().context("a case")?.to_owned();
        means.insert(case, row["mean"].as_f64().context("a mean")?);
    }
    let mut over = Vec::new();
    for (case, budgets) in PACKETS {
        let (instructions, lines) = budgets[usize::from(!real)];
        for (case, budget, slack) in [
            (
                case.to_owned(),
                instructions,
                instructions * f64::from(SLACK) / 100.0,
            ),
            // No compiler changes what is looked up.
            (format!("{case}/lines"), lines, 0.05),
        ] {
            let is = *means
                .get(&case)
                .with_context(|| format!("no case `{case}`"))?;
            println!("{case}: {is}, {budget} planned");
            if is > budget + slack {
                over.push(format!("{case}: {is}, {budget} planned"));
            }
        }
    }
    assert!(
        over.is_empty(),
        "packets take more than they did:\n{}\nIf it is worth it, raise the budget in this file \
         and say why",
        over.join("\n")
    );
    Ok(())
}

/// Linux 6.1 refuses a loop that ends by falling through into its head (`check_cfg` of its
/// verifier), which is a matter of how the compiler lays out blocks. What a virtual machine would say
/// much later is found here by the same walk.
#[test]
fn loops_end_with_a_jump() -> Result<()> {
    let mut wrong = Vec::new();
    for tier in Tier::ALL {
        let mut object = aya_obj::Object::parse(programs::object(tier))?;
        let text: HashSet<usize> = object
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        object.relocate_calls(&text)?;
        for (name, program) in &object.programs {
            let function = object.functions.get(&program.function_key());
            let function = function.context("a program is a function")?;
            let parts = function.func_info.func_info.iter();
            let parts = std::iter::once(0).chain(parts.map(|part| part.insn_off as usize));
            let code = &function.instructions;
            let found = falls_back(code, parts);
            println!("{} {name}: {} instructions", tier.as_str(), code.len());
            wrong.extend(found.map(|at| format!("{} {name}: instruction {at}", tier.as_str())));
        }
    }
    ensure!(wrong.is_empty(), "loops that end without a jump: {wrong:?}");
    // The walk finds one: `1: r0 = 0; 2: r0 += 1; if r0 < 9 goto 1`, entered at 2.
    let instruction = |code, off| bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0),
        off,
        imm: 0,
    };
    let falls = [
        instruction(0x05, 1),
        instruction(0xb7, 0),
        instruction(0x07, 0),
        instruction(0xa5, -3),
        instruction(0x95, 0),
    ];
    ensure!(falls_back(&falls, std::iter::once(0)) == Some(1));
    Ok(())
}

/// The first instruction that falls through into one that the walk has come from. `parts`: where
/// functions begin.
fn falls_back(code: &[bpf_insn], parts: impl Iterator<Item = usize>) -> Option<usize> {
    // Where control goes from an instruction, and whether by a jump.
    let next = |at: usize| -> Vec<(usize, bool)> {
        let instruction = &code[at];
        let target = at.wrapping_add_signed(isize::from(instruction.off) + 1);
        match (
            instruction.code,
            instruction.code & 7,
            instruction.code & 0xf0,
        ) {
            // Two instructions are one.
            (0x18, ..) => vec![(at + 2, false)],
            (_, 5 | 6, 0x90) => vec![],
            (_, 5 | 6, 0x80) => vec![(at + 1, false)],
            (_, 5 | 6, 0x00) => vec![(target, true)],
            (_, 5 | 6, _) => vec![(at + 1, true), (target, true)],
            _ => vec![(at + 1, false)],
        }
    };
    let (mut entered, mut left) = (vec![false; code.len()], vec![false; code.len()]);
    for part in parts.filter(|part| *part < code.len()) {
        let mut way = match entered[part] {
            true => Vec::new(),
            false => vec![(part, next(part))],
        };
        entered[part] = true;
        while let Some((at, to)) = way.last_mut() {
            let at = *at;
            // The kernel takes the way straight on first.
            if to.is_empty() {
                left[at] = true;
                way.pop();
                continue;
            }
            let (target, by_jump) = to.remove(0);
            match (entered.get(target), left.get(target)) {
                (Some(false), _) => {
                    entered[target] = true;
                    way.push((target, next(target)));
                }
                (Some(true), Some(false)) if !by_jump => return Some(at),
                _ => {}
            }
        }
    }
    None
}
