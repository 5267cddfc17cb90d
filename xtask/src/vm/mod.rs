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

mod initramfs;
mod kernels;
mod machine;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::command::{Failed, run, say};
use crate::setup;
use crate::test::required;
use crate::workspace::Workspace;
use initramfs::Archive;
pub(crate) use kernels::Architecture;
use kernels::{KERNELS, Series};
pub(crate) use machine::Outcome;

/// What was asked for.
struct Wanted {
    series: Vec<&'static Series>,
    architecture: Architecture,
    /// Binaries that were built elsewhere: kordon's, and `kordon-vm`.
    binaries: Option<(PathBuf, PathBuf)>,
    /// Built as tests are, which takes less time than a release.
    dev: bool,
    /// Of kernels with drivers of cards, no more than what is checked of those.
    cards: bool,
}

/// `cargo xtask vm [--dev] [--cards] [--arch ARCH --kordon FILE --guest FILE] [SERIES]…`.
pub(crate) fn task(arguments: &[OsString]) -> Result<(), Failed> {
    let wanted = parse(arguments)?;
    let workspace = Workspace::find()?;
    setup::for_building()?;
    setup::for_machines(wanted.architecture)?;
    let outcome = boot_all(&workspace, &wanted)?;
    println!(
        "{} passed, {} failed, {} skipped",
        outcome.passed,
        outcome.failed,
        outcome.skips.len()
    );
    if outcome.failed > 0 || required(outcome.skips.iter().map(String::as_str)) > 0 {
        return Err(Failed::new("not all that kernels must do was seen"));
    }
    Ok(())
}

/// All kernels, with the release binary. A kernel that cannot be had is a skip.
pub(crate) fn all(workspace: &Workspace) -> Result<Outcome, Failed> {
    setup::for_machines(Architecture::HOST)?;
    let wanted = Wanted {
        series: KERNELS.iter().collect(),
        architecture: Architecture::HOST,
        binaries: None,
        dev: false,
        cards: false,
    };
    boot_all(workspace, &wanted)
}

fn parse(arguments: &[OsString]) -> Result<Wanted, Failed> {
    let mut wanted = Wanted {
        series: Vec::new(),
        architecture: Architecture::HOST,
        binaries: None,
        dev: false,
        cards: false,
    };
    let (mut kordon, mut guest) = (None, None);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .cloned()
                .ok_or_else(|| Failed::usage(format!("`{}` wants a value", argument.display())))
        };
        match argument.to_str() {
            Some("--dev") => wanted.dev = true,
            Some("--cards") => wanted.cards = true,
            Some("--arch") => wanted.architecture = Architecture::named(&value()?)?,
            Some("--kordon") => kordon = Some(PathBuf::from(value()?)),
            Some("--guest") => guest = Some(PathBuf::from(value()?)),
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
    wanted.binaries = match (kordon, guest) {
        (Some(kordon), Some(guest)) => Some((kordon, guest)),
        (None, None) if wanted.architecture == Architecture::HOST => None,
        _ => {
            return Err(Failed::usage(
                "another architecture's binaries are built elsewhere: give both, \
                 `--kordon FILE` and `--guest FILE` (`kordon-vm` of package kordon-tests)",
            ));
        }
    };
    Ok(wanted)
}

fn boot_all(workspace: &Workspace, wanted: &Wanted) -> Result<Outcome, Failed> {
    let folder = workspace.target("vm");
    // What the host says is asked of a binary that runs here.
    let (host_kordon, host_guest) = if wanted.dev {
        (
            workspace.build_dev("kordon", "kordon")?,
            workspace.build_dev("kordon-tests", "kordon-vm")?,
        )
    } else {
        (
            workspace.build_kordon()?,
            workspace.build_tool("kordon-vm")?,
        )
    };
    let (kordon, guest) = wanted
        .binaries
        .clone()
        .unwrap_or_else(|| (host_kordon.clone(), host_guest.clone()));
    let data = folder.join("data");
    run(Command::new(&host_guest)
        .arg("prepare")
        .arg("--kordon")
        .arg(&host_kordon)
        .arg("--into")
        .arg(&data))?;
    let mut archive = Archive::default();
    archive.program("init", &guest)?;
    archive.program("kordon", &kordon)?;
    archive.folder("data", &data)?;
    let mut outcome = Outcome::default();
    for series in &wanted.series {
        let kernel = match kernels::fetch(series, wanted.architecture, &folder) {
            Ok(kernel) => kernel,
            Err(failed) => {
                let why = format!("Linux {}: {failed}", series.name);
                println!("SKIPPED: {why}");
                outcome.skips.push(why);
                continue;
            }
        };
        say(format_args!("booting Linux {}", kernel.version));
        let checks: &[&str] = match (kernel.cards, wanted.cards) {
            (false, _) => &["plain"],
            (true, false) => &["plain", "cards"],
            (true, true) => &["cards"],
        };
        outcome.add(machine::boot(&kernel, checks, &archive, &folder)?);
    }
    Ok(outcome)
}
