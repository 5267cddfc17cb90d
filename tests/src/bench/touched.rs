//! What a packet takes whoever else uses the machine: instructions of the program and
//! cache lines of its maps, counted in a [`Machine`]. Nothing is timed, so there is no
//! noise: the same program, table and destinations give the same numbers, always.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result, ensure};
use kordon::datapath::programs;
use kordon_ebpf::layout::{Action, PROBE_BATCH, mode};

use super::Wanted;
use super::internet::{Input, Internet};
use super::machine::{LINE, Machine};
use super::measured::Measured;
use super::packet::{CAMERAS, Family, OFFICE, SECOND_TAG, XDP_PASS, frame, stacked, verdict};
use super::subject::{Kordon, Recorded};

/// Where behind one tag the first octet of a packet is.
const IP: usize = 18;

struct Case {
    name: String,
    frame: Vec<u8>,
    family: Family,
    /// Whether the verdict planes are on.
    planes: bool,
    inputs: Vec<Input>,
    said: u32,
}

/// Counts all cases that are wanted. A round is a batch of random destinations.
pub(super) fn measure(internet: &Internet, wanted: Wanted<'_>) -> Result<Vec<Measured>> {
    let mut kordon = Kordon::load(internet, mode::LIVE, Recorded::Nothing)?;
    let globals = HashMap::from([("PORT", (&[0u8; 4][..], true))]);
    let object = programs::object(internet.image.tier);
    let mut machine = Machine::load(
        object,
        [programs::FAST, programs::SLOW],
        globals,
        &["PLANES", "COUNTERS"],
    )?;
    machine.put("GENERATIONS", 0, kordon.generation.bytes())?;
    let slot = internet.image.rules.fixed.table_slot;
    machine.put("TABLES", slot, kordon.table.bytes())?;
    let mut rows = Vec::new();
    for case in cases(internet, wanted.rounds as usize) {
        if wanted.case(&case.name) {
            kordon.use_planes(case.planes);
            machine.write("PLANES", kordon.planes.bytes())?;
            let counted = case.count(&mut machine);
            rows.extend(counted.with_context(|| format!("case `{}`", case.name))?);
        }
    }
    Ok(rows)
}

/// Names are those of group `packet`; `other-protocol/` and `options/` are packets that the
/// fast path leaves to the slow one.
fn cases(internet: &Internet, batches: usize) -> Vec<Case> {
    let mut cases = vec![Case {
        name: "no-zone".to_owned(),
        frame: frame(Family::V4, Some(OFFICE)),
        family: Family::V4,
        planes: true,
        inputs: vec![Input::default()],
        said: XDP_PASS,
    }];
    type Change = fn(Vec<u8>, Family) -> Vec<u8>;
    let kinds: [(&str, bool, Change); 5] = [
        ("", true, |frame, _| frame),
        ("stacked/", true, |frame, _| stacked(frame)),
        ("class/", false, |frame, _| frame),
        ("other-protocol/", true, with_sctp),
        ("options/", true, with_options),
    ];
    for (before, planes, change) in kinds {
        for family in Family::ALL {
            for action in [Action::Pass, Action::Drop] {
                let pool = internet.pool(family, action);
                let random = pool.len().min(PROBE_BATCH.saturating_mul(batches));
                for (traffic, count) in [("hot", 1.min(random)), ("random", random)] {
                    cases.push(Case {
                        name: format!("{before}{}/{}/{traffic}", family.word(), action.as_str()),
                        frame: change(frame(family, Some(CAMERAS)), family),
                        family,
                        planes,
                        inputs: pool[..count].to_vec(),
                        said: verdict(action),
                    });
                }
            }
        }
    }
    // A policy may drop all there is of a family.
    cases.retain(|case| !case.inputs.is_empty());
    cases
}

/// The frame with a protocol that has no way of its own.
fn with_sctp(mut frame: Vec<u8>, family: Family) -> Vec<u8> {
    frame[IP + if family == Family::V4 { 9 } else { 6 }] = 132;
    frame
}

/// The frame with options that do nothing: of IPv4, or for the destination.
fn with_options(mut frame: Vec<u8>, family: Family) -> Vec<u8> {
    if family == Family::V4 {
        let end = IP + 20;
        frame.splice(end..end, [1, 1, 1, 0]);
        frame[IP] += 1;
        frame[IP + 3] += 4;
    } else {
        let end = IP + 40;
        let next = std::mem::replace(&mut frame[IP + 6], 60);
        frame.splice(end..end, [next, 0, 1, 4, 0, 0, 0, 0]);
        frame[IP + 5] += 8;
    }
    frame
}

impl Case {
    fn count(&self, machine: &mut Machine) -> Result<Vec<Measured>> {
        let mut frame = self.frame.clone();
        let mut at = self.family.destination() as usize;
        if self.frame[16..].starts_with(&[0x81, 0]) {
            at += SECOND_TAG as usize;
        }
        let size = if self.family == Family::V4 { 4 } else { 16 };
        let (mut instructions, mut lines) = (Vec::new(), Vec::new());
        let mut together = HashSet::new();
        for input in &self.inputs {
            frame[at..][..size].copy_from_slice(&input[..size]);
            let run = machine.run(&frame)?;
            ensure!(
                run.said as u32 == self.said,
                "the program says {} where {} is right: what it takes means nothing",
                run.said,
                self.said
            );
            instructions.push(run.instructions as f64);
            lines.push(run.lines.len() as f64);
            together.extend(run.lines.iter().copied());
        }
        let row = |what: &str, unit, values| {
            Measured::of("touched", format!("{}{what}", self.name), unit, values)
        };
        let mut rows = vec![
            row("", "instructions", instructions),
            row("/lines", "lines", lines),
        ];
        if self.inputs.len() > 1 {
            let bytes = LINE * together.len() as u64;
            rows.push(row("/together", "MB", vec![bytes as f64 / 1e6]));
        }
        Ok(rows)
    }
}
