//! The bill of materials, in the format CycloneDX: each crate that the binary is made of, with
//! version, checksum and licence, those of the programs in the kernel among them.

use std::fs;
use std::path::{Path, PathBuf};

use super::{VERSION, read, write};
use crate::command::{Failed, run};
use crate::setup;
use crate::workspace::Workspace;

/// Writes it into the folder, and returns its path.
pub(super) fn write_bill(workspace: &Workspace, folder: &Path) -> Result<PathBuf, Failed> {
    let tool = setup::for_materials(workspace)?;
    let name = "kordon.cdx";
    let mut command = std::process::Command::new(tool);
    command.current_dir(workspace.root());
    command.args([
        "cyclonedx",
        "--quiet",
        "--format",
        "json",
        "--spec-version",
        "1.5",
    ]);
    command.args(["--no-build-deps", "--target", "x86_64-unknown-linux-musl"]);
    // Without features there are no programs for the kernel.
    command.args(["--all-features", "--override-filename", name]);
    let outcome = run(&mut command);
    // It writes one beside each manifest of the workspace.
    let mut bill = Err(Failed::new("cargo-cyclonedx wrote no bill of materials"));
    for member in ["userspace", "ebpf-programs", "tests", "xtask"] {
        let file = workspace.root().join(member).join(format!("{name}.json"));
        if member == "userspace" {
            bill = read(&file);
        }
        let _ = fs::remove_file(&file);
    }
    outcome?;
    // Whoever reads it has no use for the folder in which it was built.
    let here = format!("path+file://{}/", workspace.root().display());
    let bill = bill?.replace(&here, "path+file:///kordon/");
    let file = folder.join(format!("kordon-{VERSION}.cdx.json"));
    write(&file, &bill)?;
    Ok(file)
}
