//! The tarball, for routers without dpkg: the same files, with a script that puts them in place.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::contents::Contents;
use super::{UNITS, VERSION, copy, copy_all, epoch, plain_rights, rights};
use crate::command::{Failed, run};

/// Packs it into the folder, and returns its path.
pub(super) fn pack(contents: &Contents, folder: &Path) -> Result<PathBuf, Failed> {
    let name = format!("kordon-{VERSION}-{}", contents.architecture.debian());
    let layout = contents.layout("tarball")?;
    let root = layout.join(&name);
    copy(&contents.binary(), &root.join("kordon"))?;
    for (from, to) in [
        ("tarball/install.sh", "install.sh"),
        ("systemd/boot-guard-holds", "boot-guard-holds"),
    ] {
        copy(&contents.deploy(from), &root.join(to))?;
    }
    for unit in UNITS {
        let to = root.join("units").join(unit);
        copy(&contents.deploy("systemd").join(unit), &to)?;
    }
    copy_all(&contents.deploy("etc"), &root.join("etc"))?;
    contents.manual(&root.join("man"), false)?;
    for completion in ["kordon.bash", "_kordon", "kordon.fish"] {
        contents.completion(completion, &root.join("completions").join(completion))?;
    }
    contents.documents(&root.join("doc"))?;
    for name in ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        copy(&contents.file(name), &root.join(name))?;
    }
    plain_rights(&root)?;
    for program in ["kordon", "boot-guard-holds"] {
        rights(&root.join(program), 0o755)?;
    }
    let tarball = folder.join(format!("{name}.tar.gz"));
    run(Command::new("tar")
        .args([
            "--create",
            "--gzip",
            "--sort=name",
            "--owner=0",
            "--group=0",
        ])
        .args(["--numeric-owner", &format!("--mtime=@{}", epoch())])
        .arg("--file")
        .arg(&tarball)
        .arg("--directory")
        .args([&layout, Path::new(&name)]))?;
    Ok(tarball)
}
