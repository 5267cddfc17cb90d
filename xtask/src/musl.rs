//! Static binaries, with musl as their C library: they run on any distribution, and where
//! there is nothing but a kernel, as in virtual machines.
//!
//! How they are compiled and linked is in `.cargo/config.toml`, for whoever calls cargo
//! without this program. Here they are shown to be static.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::architecture::Architecture;
use crate::command::{Failed, answer};
use crate::setup;
use crate::workspace::{Profile, Workspace};

/// `cargo xtask static [ARCH]…`: binaries to be copied to routers.
pub(crate) fn task(arguments: &[OsString]) -> Result<(), Failed> {
    let mut wanted = arguments
        .iter()
        .map(|name| Architecture::named(name))
        .collect::<Result<Vec<_>, _>>()?;
    if wanted.is_empty() {
        wanted.extend(Architecture::ALL);
    }
    let workspace = Workspace::find()?;
    setup::for_building()?;
    for architecture in wanted {
        setup::for_static(architecture)?;
        let binary = build(
            &workspace,
            architecture,
            "kordon",
            "kordon",
            Profile::Release,
        )?;
        println!("{}", binary.display());
    }
    Ok(())
}

/// Builds a binary, and returns its path.
pub(crate) fn build(
    workspace: &Workspace,
    architecture: Architecture,
    package: &str,
    name: &str,
    profile: Profile,
) -> Result<PathBuf, Failed> {
    let binary = workspace.build_static(architecture, package, name, profile)?;
    let segments = answer(
        Command::new("readelf")
            .args(["--wide", "--segments"])
            .arg(&binary),
    );
    match segments.is_some_and(|segments| is_static(&segments)) {
        true => Ok(binary),
        false => Err(not_static(&binary)),
    }
}

fn not_static(binary: &Path) -> Failed {
    Failed::new(format!(
        "`{}` is not static: `readelf --segments` shows what loads it",
        binary.display()
    ))
}

/// Whether a program with these segments is loaded by the kernel alone.
fn is_static(segments: &str) -> bool {
    segments.contains(" LOAD ") && !segments.contains(" INTERP ")
}

#[cfg(test)]
mod tests {
    use super::is_static;

    #[test]
    fn what_has_an_interpreter_is_not_static() {
        let load = "  LOAD           0x000000 0x0000000000400000 0x0000000000400000 R   0x10000\n";
        let interpreter =
            "  INTERP         0x000318 0x0000000000000318 0x0000000000000318 R   0x1\n";
        assert!(is_static(load));
        assert!(!is_static(&format!("{interpreter}{load}")));
        assert!(!is_static(""));
    }
}
