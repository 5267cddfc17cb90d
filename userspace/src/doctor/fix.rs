//! What `--fix` does: only what cannot take anything away that works, each by itself, and said
//! with what it did. All else is left to whoever reads the cure.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use crate::datapath::{interface, offload};

/// One cure that is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Mounts a BPF file system on a folder, which is made if need be.
    MountBpffs(PathBuf),
    /// Switches the JIT on, until the next boot.
    Jit,
    /// Switches off what hides VLAN tags of frames that a device receives.
    Offload(String),
    /// Settings of `ethtool -K`, which go on a device.
    Ethtool(String, &'static [&'static str]),
    /// Gives the owner of a folder all rights to it.
    Rights(PathBuf),
}

/// Where the JIT is switched.
pub const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";

impl Fix {
    /// Does it, and says what it did.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn apply(&self) -> Result<String, String> {
        match self {
            Self::MountBpffs(place) => {
                let name = place.display().to_string();
                fs::create_dir_all(place).map_err(|e| format!("cannot make `{name}`: {e}"))?;
                run("mount", &["-t", "bpf", "bpf", &name])?;
                Ok(format!("mounted a BPF file system on `{name}`"))
            }
            Self::Jit => {
                fs::write(JIT, "1").map_err(|e| format!("cannot write to {JIT}: {e}"))?;
                Ok("switched the BPF JIT on, until the next boot".to_owned())
            }
            Self::Offload(device) => {
                let found = interface::query(device).map_err(|e| e.to_string())?;
                let found = found.ok_or_else(|| format!("`{device}` is gone"))?;
                offload::keep_tags(&found, true).map_err(|e| e.to_string())?;
                Ok(format!(
                    "switched off what takes VLAN tags out of frames on `{device}`, until it is \
                     switched on again or the next boot"
                ))
            }
            Self::Ethtool(device, settings) => {
                run("ethtool", &[&["-K", device], *settings].concat())?;
                Ok(format!(
                    "ran `ethtool -K {device} {}`, which lasts until the next boot",
                    settings.join(" ")
                ))
            }
            Self::Rights(folder) => {
                let name = folder.display();
                let set = || {
                    let mut rights = fs::metadata(folder)?.permissions();
                    rights.set_mode(rights.mode() | 0o700);
                    fs::set_permissions(folder, rights)
                };
                set().map_err(|e| format!("cannot change the rights of `{name}`: {e}"))?;
                Ok(format!("gave the owner of `{name}` all rights to it"))
            }
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let words = format!("`{program} {}`", arguments.join(" "));
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|e| format!("cannot run {words}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{words} failed: {}", said.trim()))
}
