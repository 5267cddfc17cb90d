//! What a packet costs, and what the tables weigh.
//!
//! Everything is measured in one run of one process, in rounds in which all cases
//! take turns, so that a slow minute of the machine hits all of them alike.
//!
//! - [`internet`]: the whole Internet's table, a policy over it, and destinations.
//! - [`subject`]: programs in the kernel that are given packets.
//! - [`packet`]: the cases.
//! - [`memory`]: what the kernel holds for the maps.
//! - [`daemon`]: what an administrator waits for.

mod daemon;
mod internet;
mod memory;
mod packet;
mod subject;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::Serialize;

use internet::Internet;
use subject::Subjects;

/// Measures kordon's program in the kernel, on the whole Internet's table.
///
/// The table is read from the folder that `KORDON_TEST_DATA` names, by default
/// `../shared/data` beside the repository.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything if not said.
    group: Option<Group>,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
    /// How often all cases are measured, one after the other.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Only cases of `packet` whose names contain this, to look at one with a profiler.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    case: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Nanoseconds per packet.
    Packet,
    /// Bytes that the kernel holds.
    Memory,
    /// Starts, applies and imports of a running daemon.
    Daemon,
}

/// One measured case. The fields are those of `--json`.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    group: &'static str,
    case: String,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    runs: usize,
}

impl Measured {
    /// From what the rounds gave; there is at least one.
    fn of(
        group: &'static str,
        case: impl Into<String>,
        unit: &'static str,
        mut values: Vec<f64>,
    ) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            at(middle)
        } else {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        };
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        Self {
            group,
            case: case.into(),
            unit,
            median: tenth(median),
            min: tenth(at(0)),
            max: tenth(at(values.len().saturating_sub(1))),
            runs: values.len(),
        }
    }
}

/// The whole program. 0: measured. 1: something could not be.
#[must_use]
pub fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let wanted = |group| arguments.group.is_none_or(|asked| asked == group);
    if wanted(Group::Daemon) {
        show(arguments, &daemon::measure()?, daemon::print)?;
    }
    if arguments.group == Some(Group::Daemon) {
        return Ok(());
    }
    let internet = Internet::load()?;
    eprintln!("{}", internet.summary());
    let mut subjects = Subjects::load(&internet)?;
    if wanted(Group::Packet) {
        let rows = packet::measure(&internet, &mut subjects, arguments.rounds, &arguments.case)?;
        show(arguments, &rows, packet::print)?;
    }
    if wanted(Group::Memory) {
        let rows = memory::measure(&subjects)?;
        show(arguments, &rows, memory::print)?;
    }
    Ok(())
}

fn show(arguments: &Arguments, rows: &[Measured], print: fn(&[Measured])) -> Result<()> {
    if !arguments.json {
        print(rows);
        return Ok(());
    }
    for row in rows {
        println!("{}", serde_json::to_string(row)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Measured;

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |values: &[f64]| Measured::of("packet", "x", "ns", values.to_vec());
        let odd = of(&[9.0, 1.0, 2.04]);
        assert_eq!((odd.median, odd.min, odd.max, odd.runs), (2.0, 1.0, 9.0, 3));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }
}
