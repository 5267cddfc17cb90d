//! `cargo xtask vm`: the outermost ring. Kernels other than this machine's load every
//! program, attach it, and say of the same packets what this machine says.
//!
//! A virtual machine is a kernel of the distribution, an initramfs whose `/init` is
//! `kordon-vm` of the test package, and an emulated processor: no root, no KVM, no disk.
//! What is checked is in `tests/src/vm`; here is what it takes to get there.
//!
//! - [`kernels`]: which kernels, and where they come from.
//! - [`initramfs`]: the archive that the kernel unpacks.
//! - [`machine`]: QEMU, and what the guest reports.
//! - [`matrix`]: network cards for it, and devices on them.
//! - [`systemd`]: the real package on a real [`debian`], with a [`disk`], from power-on to purge; what its
//!   cameras send comes over a [`cable`].

mod cable;
mod debian;
mod disk;
mod initramfs;
mod kernels;
mod machine;
mod matrix;
mod systemd;

use std::ffi::OsString;
use std::process::Command;

use crate::architecture::Architecture;
use crate::command::{Failed, run, say};
use crate::test::required;
use crate::workspace::{Profile, Workspace};
use crate::{musl, setup};
use initramfs::Archive;
use kernels::{KERNELS, Series};
use machine::Machine;
pub(crate) use machine::Outcome;

/// What was asked for.
struct Wanted {
    series: Vec<&'static Series>,
    architecture: Architecture,
    profile: Profile,
    /// All tests have been built.
    after_tests: bool,
    /// The whole matrix, and nothing else.
    matrix: bool,
    /// An object for each of its lines, and nothing else, on standard output.
    json: bool,
}

/// `cargo xtask vm [--dev] [--matrix] [--json] [--arch ARCH] [SERIES]…`.
pub(crate) fn task(arguments: &[OsString]) -> Result<(), Failed> {
    let mut json = false;
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == "systemd" => systemd::task(rest)?,
        _ => {
            let wanted = parse(arguments)?;
            json = wanted.json;
            let workspace = Workspace::find()?;
            setup::for_building()?;
            boot(&workspace, &wanted)?
        }
    };
    let tally = format!(
        "{} passed, {} failed, {} skipped",
        outcome.passed,
        outcome.failed,
        outcome.skips.len()
    );
    match json {
        true => say(tally),
        false => println!("{tally}"),
    }
    if outcome.failed > 0 || required(outcome.skips.iter().map(String::as_str)) > 0 {
        return Err(Failed::new("not all that kernels must do was seen"));
    }
    Ok(())
}

/// All kernels on this machine's processor, and the oldest on others, with static binaries
/// that are built as tests are. A kernel that cannot be had is a skip.
pub(crate) fn all(workspace: &Workspace) -> Result<Outcome, Failed> {
    let mut outcome = Outcome::default();
    for architecture in Architecture::ALL {
        let all = architecture == Architecture::HOST;
        let series = KERNELS.iter().take(if all { KERNELS.len() } else { 1 });
        let wanted = Wanted {
            series: series.collect(),
            architecture,
            profile: Profile::Test,
            after_tests: true,
            matrix: false,
            json: false,
        };
        outcome.add(boot(workspace, &wanted)?);
    }
    outcome.add(systemd::shortly(workspace)?);
    Ok(outcome)
}

fn parse(arguments: &[OsString]) -> Result<Wanted, Failed> {
    let mut wanted = Wanted {
        series: Vec::new(),
        architecture: Architecture::HOST,
        profile: Profile::Release,
        after_tests: false,
        matrix: false,
        json: false,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--dev") => wanted.profile = Profile::Test,
            Some("--matrix") => wanted.matrix = true,
            Some("--json") => (wanted.matrix, wanted.json) = (true, true),
            Some("--arch") => {
                let name = arguments
                    .next()
                    .ok_or_else(|| Failed::usage("`--arch` wants a value"))?;
                wanted.architecture = Architecture::named(name)?;
            }
            name => {
                let series = KERNELS.iter().find(|series| Some(series.name) == name);
                wanted.series.push(series.ok_or_else(|| {
                    let names: Vec<_> = KERNELS.iter().map(|series| series.name).collect();
                    Failed::usage(format!(
                        "there is no kernel `{}` here, but {}",
                        argument.display(),
                        names.join(", ")
                    ))
                })?);
            }
        }
    }
    if wanted.series.is_empty() {
        wanted.series = KERNELS.iter().collect();
    }
    if wanted.matrix && wanted.architecture != Architecture::X86_64 {
        return Err(Failed::usage(
            "the cards of the matrix are those of PCs: no `--arch` with it",
        ));
    }
    Ok(wanted)
}

fn boot(workspace: &Workspace, wanted: &Wanted) -> Result<Outcome, Failed> {
    let Wanted {
        series,
        architecture,
        profile,
        after_tests,
        matrix,
        json,
    } = wanted;
    setup::for_machines(*architecture)?;
    let folder = workspace.target("vm");
    // What the host says is asked of binaries of its own.
    let data = folder.join("data");
    let [kordon, prepare] = match after_tests {
        true => ["kordon", "kordon-vm"].map(|name| workspace.left_by_tests(name)),
        false => workspace.build_with("kordon-vm", *profile)?,
    };
    let mut prepare = Command::new(prepare);
    prepare.arg("prepare").arg("--kordon").arg(kordon);
    run(prepare.arg("--into").arg(&data))?;
    let mut archive = Archive::default();
    for (name, package, binary) in [
        ("kordon", "kordon", "kordon"),
        ("init", "kordon-tests", "kordon-vm"),
    ] {
        let program = musl::build(workspace, *architecture, package, binary, *profile)?;
        archive.program(name, &program, *architecture)?;
    }
    archive.folder("data", &data)?;
    let mut outcome = Outcome::default();
    let skip = |why: String, outcome: &mut Outcome| {
        match json {
            true => say(format_args!("SKIPPED: {why}")),
            false => println!("SKIPPED: {why}"),
        }
        outcome.skips.push(why);
    };
    for why in matrix::lacking().filter(|_| *matrix) {
        skip(why, &mut outcome);
    }
    for series in series {
        let cards = match (matrix, architecture) {
            (true, _) => Some(matrix::whole(series.name, *json)),
            (false, Architecture::X86_64) => matrix::everyday(series.name),
            (false, Architecture::Aarch64) => None,
        };
        let fetched = match cards {
            Some(_) => kernels::fetch(
                &series.with_drivers(),
                *architecture,
                &folder,
                matrix::MODULES,
            ),
            None => kernels::fetch(series, *architecture, &folder, &[]),
        };
        let kernel = match fetched {
            Ok(kernel) => kernel,
            Err(failed) => {
                let why = format!("Linux {} {}: {failed}", series.name, architecture.name());
                skip(why, &mut outcome);
                continue;
            }
        };
        say(format_args!(
            "booting Linux {} {}",
            kernel.version,
            architecture.name()
        ));
        let plain = (!matrix).then_some("plain");
        let checks: Vec<&str> = plain.into_iter().chain(cards.as_deref()).collect();
        let wanted = checks.join(" ");
        outcome.add(machine::boot(&Machine {
            kernel: &kernel,
            archive: &archive,
            folder: &folder,
            wanted: &wanted,
            more: &matrix::cards(&wanted),
        })?);
    }
    Ok(outcome)
}
