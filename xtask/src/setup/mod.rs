//! What building and testing need, installed where it is missing.
//!
//! Each step asks first and does nothing when all is there, so that every task can
//! run its set-up every time; each says what it is about to change.
//!
//! - [`toolchain`]: the nightly compiler with the sources of `core`, rustfmt, clippy.
//! - [`linker`]: a bpf-linker that understands what that compiler emits.
//! - [`tool`]: programs that cargo installs, for one task.
//! - [`packages`]: Debian packages; [`services`]: theirs stay down.

mod linker;
mod packages;
mod services;
mod tool;
mod toolchain;

use std::path::PathBuf;

use crate::architecture::Architecture;
use crate::command::{Failed, say};
use crate::workspace::Workspace;

/// The toolchain that compiles the BPF programs: `core` is built for the BPF
/// target, which stable cargo cannot. aya-build asks rustup for it by this name.
const NIGHTLY: &str = "nightly";

/// For `cargo build`.
pub(crate) fn for_building() -> Result<(), Failed> {
    toolchain::compiler_present()?;
    packages::install(packages::BUILD)?;
    toolchain::nightly()?;
    linker::install()
}

/// For the checks of the source.
pub(crate) fn for_testing(workspace: &Workspace) -> Result<(), Failed> {
    toolchain::checkers(workspace)
}

/// For networks in namespaces, and for the tools that tests compare with.
pub(crate) fn for_the_lab() -> Result<(), Failed> {
    packages::install(packages::LAB)
}

/// For benchmarks: firewalls to compare with. They go on without those that cannot be had.
pub(crate) fn for_the_bench() -> Result<(), Failed> {
    for_the_lab()?;
    if let Err(failed) = packages::install(packages::PEERS) {
        say(format_args!("going on without: {failed}"));
    }
    Ok(())
}

/// For static binaries.
pub(crate) fn for_static(architecture: Architecture) -> Result<(), Failed> {
    if architecture != Architecture::HOST {
        let [compiler, headers] = packages::cross(architecture);
        packages::install(&[&compiler, &headers])?;
    }
    toolchain::target(&architecture.musl())
}

/// For packages.
pub(crate) fn for_packages() -> Result<(), Failed> {
    packages::install(packages::PACKING)
}

/// For bills of materials; where the program is.
pub(crate) fn for_materials(workspace: &Workspace) -> Result<PathBuf, Failed> {
    tool::install(workspace, "cargo-cyclonedx", "0.5.9")
}

/// For virtual machines.
pub(crate) fn for_machines(architecture: Architecture) -> Result<(), Failed> {
    packages::install(match architecture {
        Architecture::X86_64 => packages::MACHINES,
        Architecture::Aarch64 => packages::MACHINES_ARM,
    })?;
    for_static(architecture)
}
