//! Rust toolchains and components, by rustup.

use std::process::Command;

use super::NIGHTLY;
use crate::command::{Failed, answer, run, say};
use crate::workspace::Workspace;

/// rustup is what all else here is installed with.
pub(super) fn compiler_present() -> Result<(), Failed> {
    match answer(Command::new("rustup").arg("--version")) {
        Some(_) => Ok(()),
        None => Err(Failed::new(
            "rustup is not there, and the BPF programs need its nightly toolchain; \
             install it as https://rustup.rs says",
        )),
    }
}

/// A nightly compiler and the sources of `core`.
pub(super) fn nightly() -> Result<(), Failed> {
    let installed = answer(Command::new("rustup").args(["toolchain", "list"]))
        .ok_or_else(|| Failed::new("`rustup toolchain list` failed; is rustup's home readable?"))?;
    if !lists_nightly(&installed) {
        say("the nightly toolchain is missing: installing it for the BPF programs");
        return run(Command::new("rustup").args([
            "toolchain",
            "install",
            NIGHTLY,
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]));
    }
    let components = answer(Command::new("rustup").args([
        "component",
        "list",
        "--installed",
        "--toolchain",
        NIGHTLY,
    ]));
    if components.is_some_and(|list| list.lines().any(|line| line.trim() == "rust-src")) {
        return Ok(());
    }
    say("the sources of `core` are missing: adding rust-src to the nightly toolchain");
    run(Command::new("rustup").args(["component", "add", "rust-src", "--toolchain", NIGHTLY]))
}

/// `nightly-2026-05-01-x86_64-…` is another toolchain than `nightly-x86_64-…`.
fn lists_nightly(list: &str) -> bool {
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter_map(|name| name.strip_prefix(NIGHTLY))
        .any(|rest| {
            rest.is_empty()
                || rest
                    .strip_prefix('-')
                    .is_some_and(|rest| !rest.starts_with(|first: char| first.is_ascii_digit()))
        })
}

/// rustfmt and clippy of the toolchain that builds the workspace.
pub(super) fn checkers(workspace: &Workspace) -> Result<(), Failed> {
    for component in ["fmt", "clippy"] {
        if answer(workspace.cargo().args([component, "--version"])).is_some() {
            continue;
        }
        let component = if component == "fmt" {
            "rustfmt"
        } else {
            component
        };
        say(format_args!("{component} is missing: adding it"));
        run(&mut of_this_toolchain(["component", "add", component]))?;
    }
    Ok(())
}

/// The libraries of a target.
pub(super) fn target(target: &str) -> Result<(), Failed> {
    let installed = answer(&mut of_this_toolchain(["target", "list", "--installed"]));
    if installed.is_some_and(|list| list.lines().any(|line| line.trim() == target)) {
        return Ok(());
    }
    say(format_args!(
        "the libraries of {target} are missing: adding them"
    ));
    run(&mut of_this_toolchain(["target", "add", target]))
}

/// rustup, about the toolchain that runs this program, as `cargo +NAME xtask` chose it.
fn of_this_toolchain(arguments: [&str; 3]) -> Command {
    let mut command = Command::new("rustup");
    command.args(arguments);
    if let Some(toolchain) = std::env::var_os("RUSTUP_TOOLCHAIN") {
        command.arg("--toolchain").arg(toolchain);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::lists_nightly;

    #[test]
    fn a_dated_nightly_is_not_the_nightly() {
        assert!(lists_nightly(
            "stable-x86_64-unknown-linux-gnu (default)\nnightly-x86_64-unknown-linux-gnu\n"
        ));
        assert!(lists_nightly("nightly (active)\n"));
        assert!(!lists_nightly(
            "stable-x86_64-unknown-linux-gnu\nnightly-2026-05-01-x86_64-unknown-linux-gnu\n"
        ));
        assert!(!lists_nightly("no installed toolchains\n"));
    }
}
