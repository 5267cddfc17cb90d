//! Programs that cargo installs, for one task, below the build output: the administrator of this
//! machine finds nothing new in the folder of his own.

use std::path::PathBuf;
use std::process::Command;

use crate::command::{Failed, answer, run, say};
use crate::workspace::Workspace;

/// Installs one version of a program unless it is there, and returns its path.
pub(super) fn install(workspace: &Workspace, name: &str, version: &str) -> Result<PathBuf, Failed> {
    let root = workspace.target("tools");
    let program = root.join("bin").join(name);
    let listed = answer(
        Command::new("cargo")
            .args(["install", "--list", "--root"])
            .arg(&root),
    );
    let line = format!("{name} v{version}:");
    if program.is_file() && listed.is_some_and(|list| list.lines().any(|its| its == line)) {
        return Ok(program);
    }
    say(format_args!(
        "{name} {version} is missing: installing it, which takes some minutes"
    ));
    run(workspace
        .cargo()
        // Unoptimised takes half as long, and it is run once.
        .args(["install", name, "--version", version, "--locked", "--debug"])
        .arg("--root")
        .arg(&root))?;
    Ok(program)
}
