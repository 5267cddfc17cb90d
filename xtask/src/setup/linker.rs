//! bpf-linker, which reads the bitcode that the nightly compiler writes. An LLVM
//! reads bitcode of its own and older versions only, so the two must fit: which
//! release of bpf-linker to install follows from the compiler's LLVM, and whether the
//! one that is there fits is found out by giving it a program to link.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::NIGHTLY;
use crate::command::{Failed, answer, run, say};

/// The last release that can borrow the LLVM of a Rust toolchain, as its
/// features `rust-llvm-20` to `rust-llvm-22` do; later ones need an LLVM installed.
const BORROWING: &str = "0.10.3";

/// Smallest program that goes through the linker.
const PROBE: &str =
    "#![no_std]\n#[unsafe(no_mangle)]\npub extern \"C\" fn probe() -> u64 {\n    7\n}\n";

/// Installs the fitting release unless one that fits is there.
pub(super) fn install() -> Result<(), Failed> {
    if fits()? {
        return Ok(());
    }
    let version = answer(nightly("rustc").arg("-Vv")).ok_or_else(|| {
        Failed::new("the nightly compiler does not start; try `rustup update nightly`")
    })?;
    let llvm = llvm_major(&version).ok_or_else(|| {
        Failed::new(
            "`rustc -Vv` of the nightly toolchain names no LLVM; try `rustup update nightly`",
        )
    })?;
    say(format_args!(
        "no bpf-linker that fits the nightly compiler (LLVM {llvm}): installing one, which takes about a minute"
    ));
    let mut command = Command::new("cargo");
    command
        // Unoptimised takes half as long, and what works is LLVM's library.
        .args(["install", "bpf-linker", "--locked", "--force", "--debug"])
        .args(arguments_for(llvm)?);
    run(&mut command).map_err(|failed| match llvm {
        ..=22 => failed,
        _ => Failed::new(format!(
            "{failed}; bpf-linker for LLVM {llvm} needs that LLVM's development files \
             (https://apt.llvm.org), or install a prebuilt one: `cargo binstall bpf-linker`"
        )),
    })?;
    if fits()? {
        return Ok(());
    }
    Err(Failed::new(
        "the bpf-linker that was installed cannot link what the nightly compiler writes; \
         is another one before it in PATH? (`rustup run nightly which bpf-linker`)",
    ))
}

/// A program of the nightly toolchain, found and with libraries as the build has them.
fn nightly(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", NIGHTLY, program]);
    command
}

/// The major version of the LLVM inside a compiler.
fn llvm_major(version: &str) -> Option<u32> {
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    llvm.split('.').next()?.trim().parse().ok()
}

/// What `cargo install bpf-linker` is to be told.
fn arguments_for(llvm: u32) -> Result<Vec<String>, Failed> {
    let borrowing = ["--version", BORROWING].map(str::to_owned);
    match llvm {
        22 => Ok(borrowing.into()),
        20 | 21 => {
            let mut arguments = Vec::from(borrowing);
            arguments.push("--no-default-features".into());
            arguments.push("--features".into());
            arguments.push(format!("llvm-{llvm},rust-llvm-{llvm}"));
            Ok(arguments)
        }
        // The newest release is for it by default.
        23 => Ok(Vec::new()),
        ..20 => Err(Failed::new(format!(
            "the nightly compiler has LLVM {llvm}, which no bpf-linker that kordon knows \
             goes with; `rustup update nightly` brings a newer one"
        ))),
        24.. => Err(Failed::new(format!(
            "the nightly compiler has LLVM {llvm}, for which it is not known here which \
             bpf-linker fits; install one by hand (`cargo install bpf-linker --locked`, or \
             `cargo binstall bpf-linker`), or add it to xtask/src/setup/linker.rs"
        ))),
    }
}

/// Whether there is a bpf-linker that links what the compiler writes.
fn fits() -> Result<bool, Failed> {
    let folder = Scratch::new()?;
    let (source, bitcode, object) = (
        folder.0.join("probe.rs"),
        folder.0.join("probe.bc"),
        folder.0.join("probe.o"),
    );
    fs::write(&source, PROBE).map_err(|error| cannot_write(&source, &error))?;
    let compiled = answer(
        nightly("rustc")
            .args(["--crate-type=lib", "--emit=llvm-bc", "-Cpanic=abort", "-o"])
            .args([&bitcode, &source]),
    );
    if compiled.is_none() {
        return Err(Failed::new(
            "the nightly compiler cannot compile an empty program; try `rustup update nightly`",
        ));
    }
    let linked = answer(
        nightly("bpf-linker")
            .args(["--target=bpfel", "--export=probe", "-o"])
            .args([&object, &bitcode]),
    );
    Ok(linked.is_some() && object.is_file())
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failed {
    Failed::new(format!("cannot write `{}`: {error}", path.display()))
}

/// A folder that goes away.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failed> {
        let name = format!("kordon-xtask-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).map_err(|error| cannot_write(&path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind in the temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{arguments_for, llvm_major};

    #[test]
    fn llvm_version_of_a_compiler() {
        let version = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(llvm_major(version), Some(22));
        assert_eq!(llvm_major("rustc 1.97.0-nightly\n"), None);
    }

    #[test]
    fn every_llvm_has_a_release_or_a_cure() {
        let plain = arguments_for(22).expect("22 is known");
        assert_eq!(plain, ["--version", "0.10.3"]);
        let older = arguments_for(21).expect("21 is known");
        assert_eq!(
            older.last().map(String::as_str),
            Some("llvm-21,rust-llvm-21")
        );
        assert!(arguments_for(23).expect("23 is known").is_empty());
        for (llvm, cure) in [
            (19, "rustup update nightly"),
            (24, "cargo install bpf-linker"),
        ] {
            let failed = arguments_for(llvm).expect_err("not known");
            assert!(failed.to_string().contains(cure), "{failed}");
        }
    }
}
