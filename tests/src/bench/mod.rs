//! What a packet costs, what a change costs, and what the tables weigh; beside what an
//! administrator would use otherwise.
//!
//! Everything is measured in one run of one process, in rounds in which all cases
//! take turns, so that a slow minute of the machine hits all of them alike.
//!
//! - [`table`]: which table; [`synthetic`] draws one of the [`shape`] of the Internet's.
//! - [`internet`]: a policy over it, and destinations.
//! - [`subject`]: programs in the kernel that are given packets.
//! - [`packet`], [`scale`]: test runs of them, as the table is and as it grows.
//! - [`touched`]: what a packet takes without any noise, in a [`machine`] of our own.
//! - [`wire`]: packets that arrive on an interface, and firewalls.
//! - [`update`]: how long a list takes until it is live, and what leaks meanwhile.
//! - [`build`]: from ranges to a live generation; [`daemon`]: what an administrator
//!   waits for.
//! - [`evidence`]: what the log takes, and answers over ninety days.
//! - [`memory`]: what the kernel holds for the maps.
//! - [`measured`], [`chart`]: how it is told.
//! - [`processors`]: which processor does what.

mod build;
mod chart;
mod daemon;
mod evidence;
mod internet;
mod machine;
mod measured;
mod memory;
mod packet;
mod processors;
mod scale;
mod shape;
mod subject;
mod synthetic;
mod table;
mod touched;
mod update;
mod wire;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use kordon_ebpf::layout::FLOW_LINES_USUAL;

use crate::lab::namespace;
use internet::{Internet, Plan};
use measured::Measured;
use processors::Processors;
use subject::Subjects;
use table::Table;

/// Measures kordon beside what would be used otherwise.
///
/// The table is drawn: like the real Internet's in its prefix lengths and in who has how
/// many of them, and the same in every run. `--asn-db` takes a real one.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// What to measure; everything if not said.
    #[arg(value_name = "GROUP")]
    groups: Vec<Group>,
    /// As GROUP.
    #[arg(long = "group", value_name = "GROUP")]
    more_groups: Vec<Group>,
    /// One JSON object per line instead of tables and charts.
    #[arg(long)]
    json: bool,
    /// How often all cases are measured, one after the other; if not said 21, and less
    /// where a round takes seconds.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: Option<u32>,
    /// A small table and one short round: whether everything can be measured, not how
    /// fast it is.
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Only cases whose names contain this.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    case: String,
    /// ASN sources, or a folder of them, to take the table from.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    asn_db: Vec<PathBuf>,
    /// Prefixes of a drawn table, both families; as many as the Internet has if not said.
    #[arg(long, value_name = "COUNT", conflicts_with = "asn_db", value_parser = clap::value_parser!(u32).range(2000..=4_000_000))]
    prefixes: Option<u32>,
    /// Lines of the ledger for each processor.
    #[arg(long, value_name = "COUNT", default_value_t = FLOW_LINES_USUAL, value_parser = clap::value_parser!(u32).range(1024..=262_144))]
    lines: u32,
    /// What goes into it.
    #[arg(long, default_value = "summary", value_parser = ["drops", "summary"])]
    record: String,
    /// Where the chart goes; with several groups, their names come before the extension.
    /// `target/bench/GROUP.svg` if not said.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Nanoseconds per packet, in test runs.
    Packet,
    /// Nanoseconds of the receiving processor per packet on a wire, firewalls beside it.
    Wire,
    /// A list made live, one ASN more, another list: how long it takes, and what leaks
    /// meanwhile; firewalls beside it.
    Update,
    /// From ranges to a live generation, step by step.
    Build,
    /// Nanoseconds per packet with tables, zones and lists of all sizes.
    Scale,
    /// What the kernel and the daemon hold.
    Memory,
    /// Starts, applies and imports of a running daemon.
    Daemon,
    /// What the log of evidence takes, and how long reports over ninety days take.
    Evidence,
    /// Instructions and cache lines per packet, counted.
    Touched,
}

impl Group {
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// How often, where that was not said.
    fn rounds(self) -> u32 {
        match self {
            Self::Daemon | Self::Update | Self::Evidence => 5,
            Self::Touched => 8,
            Self::Scale => 9,
            _ => 21,
        }
    }
}

/// What is wanted of a group.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    /// How often all cases take their turn.
    rounds: u32,
    /// Only cases whose names contain this.
    part: &'a str,
    /// Only whether it can be measured.
    quick: bool,
    processors: Processors,
}

impl Wanted<'_> {
    fn case(&self, name: &str) -> bool {
        name.contains(self.part)
    }
}

/// Prefixes of the table where it matters little.
const QUICK: usize = 20_000;

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
    namespace::on_signals(|| namespace::remove_own().map(drop))?;
    // What one left that was killed would be in this one's way.
    namespace::cleanup()?;
    let processors = Processors::find()?;
    let (groups, files) = arguments.groups_and_files();
    let prefixes = match arguments.prefixes {
        Some(count) => count as usize,
        None if arguments.quick => QUICK,
        None => synthetic::WHOLE,
    };
    let table = Table::choose(&files, prefixes)?;
    ensure!(
        arguments.lines.is_power_of_two(),
        "`--lines` is a power of two"
    );
    let plan = Plan {
        record: match &*arguments.record {
            "drops" => "drops",
            _ => Plan::USUAL.record,
        },
        lines: arguments.lines,
        ..Plan::USUAL
    };
    let internet = Internet::load(&table, plan)?;
    let (mut cases, mut failed) = (0, Vec::new());
    for group in &groups {
        let wanted = Wanted {
            rounds: match arguments.rounds {
                Some(rounds) => rounds,
                None if arguments.quick => 1,
                None => group.rounds(),
            },
            part: &arguments.case,
            quick: arguments.quick,
            processors,
        };
        match measure(*group, &table, &internet, prefixes, wanted) {
            Ok((what, mut rows)) => {
                rows.retain(|row| wanted.case(&row.case));
                cases += rows.len();
                show(arguments, *group, groups.len() > 1, &what, &rows)?;
            }
            // The others may still be measured.
            Err(error) => {
                eprintln!("error: {}: {error:#}", group.name());
                failed.push(group.name());
            }
        }
    }
    ensure!(
        failed.is_empty(),
        "not measured: {}; why, is told above",
        failed.join(", ")
    );
    ensure!(cases > 0, "no case has `{}` in its name", arguments.case);
    Ok(())
}

/// On what, and what came out.
fn measure(
    group: Group,
    table: &Table,
    internet: &Internet,
    prefixes: usize,
    wanted: Wanted<'_>,
) -> Result<(String, Vec<Measured>)> {
    // The group before may have bound this thread to one.
    wanted.processors.free()?;
    let rows = match group {
        Group::Packet => packet::measure(internet, &mut Subjects::load(internet)?, wanted)?,
        Group::Wire => wire::measure(internet, wanted)?,
        Group::Update => update::measure(table, internet, wanted)?,
        Group::Build => build::measure(table, internet, wanted)?,
        Group::Scale => {
            let rows = scale::measure(prefixes, wanted)?;
            return Ok((
                "generated tables, of the size that is named or of the Internet's".to_owned(),
                rows,
            ));
        }
        Group::Memory => {
            let mut rows = memory::measure(&Subjects::load(internet)?)?;
            rows.extend(daemon::memory(table, wanted)?);
            rows
        }
        Group::Daemon => daemon::measure(table, wanted)?,
        Group::Evidence => evidence::measure(wanted)?,
        Group::Touched => touched::measure(internet, wanted)?,
    };
    Ok((internet.summary(), rows))
}

impl Arguments {
    /// All groups if none is named. A name behind `--asn-db` that is no file's is a
    /// group's, too.
    fn groups_and_files(&self) -> (Vec<Group>, Vec<PathBuf>) {
        let mut groups = [&self.groups[..], &self.more_groups[..]].concat();
        let mut files = Vec::new();
        for file in &self.asn_db {
            let name = file.to_string_lossy();
            match Group::from_str(&name, false) {
                Ok(group) if !file.exists() => groups.push(group),
                _ => files.push(file.clone()),
            }
        }
        if groups.is_empty() {
            groups = Group::value_variants().to_vec();
        }
        (groups, files)
    }
}

fn show(
    arguments: &Arguments,
    group: Group,
    several: bool,
    table: &str,
    rows: &[Measured],
) -> Result<()> {
    let name = group.name();
    if arguments.json {
        eprintln!("{name}: {table}");
        let mut stdout = std::io::stdout().lock();
        for row in rows {
            writeln!(stdout, "{}", serde_json::to_string(row)?)?;
        }
        // What fails later does not take it away.
        return Ok(stdout.flush()?);
    }
    if rows.is_empty() {
        return Ok(());
    }
    measured::print(&name, table, rows);
    let path = match &arguments.svg {
        Some(path) if several => {
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            path.with_extension(format!("{name}.{extension}"))
        }
        Some(path) => path.clone(),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../target/bench")
            .join(format!("{name}.svg")),
    };
    chart::write(&path, &format!("kordon, {name}: {table}"), rows)?;
    eprintln!("chart: {}", path.display());
    Ok(())
}
