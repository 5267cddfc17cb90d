//! `cargo xtask package`: what an administrator installs. For each architecture a Debian package
//! and a tarball of the same static binary, debug symbols beside them, a bill of materials and
//! checksums, all in `target/package`.
//!
//! `dpkg-deb` packs a folder as it is, so there is no tool for packages to install, and a virtual
//! machine gets the real package in seconds. What goes into it are plain files of `deploy/`.
//!
//! - [`contents`]: which file goes where, and what is made of the binary on the way.
//! - [`debian`]: the Debian package; [`tarball`]: the tarball.
//! - [`materials`]: the bill of materials.

mod contents;
mod debian;
mod materials;
mod tarball;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::architecture::Architecture;
use crate::command::{Failed, answer, run};
use crate::setup;
use crate::workspace::{Profile, Workspace};
use contents::Contents;

/// Of the workspace, as this program is.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How often this version was packed: the part of a Debian version behind the dash.
const REVISION: u32 = 1;
/// Files of `deploy/systemd` that systemd reads.
const UNITS: [&str; 5] = [
    "kordon.service",
    "kordon-boot-guard.service",
    "kordon-boot-guard-holds.service",
    "kordon-boot-guard-holds.timer",
    "sys-fs-bpf-kordon.mount",
];
/// Bytes that a package may have.
const MOST: u64 = 20_000_000;

/// `cargo xtask package [--dev] [ARCH]…`.
pub(crate) fn task(arguments: &[OsString]) -> Result<(), Failed> {
    let mut profile = Profile::Release;
    let mut wanted = Vec::new();
    for argument in arguments {
        if argument == "--dev" {
            profile = Profile::Test;
        } else {
            wanted.push(Architecture::named_by_debian(argument)?);
        }
    }
    if wanted.is_empty() {
        wanted.extend(Architecture::ALL);
    }
    let workspace = Workspace::find()?;
    setup::for_building()?;
    setup::for_packages()?;
    let folder = empty(&workspace.target("package"))?;
    let mut made = vec![materials::write_bill(&workspace, &folder)?];
    for architecture in wanted {
        let contents = Contents::make(&workspace, architecture, profile)?;
        let package = debian::pack(&contents, REVISION, profile, &folder)?;
        debian::lint(&package)?;
        made.push(package);
        made.push(tarball::pack(&contents, &folder)?);
        made.push(contents.symbols(&folder)?);
    }
    for file in &made {
        let size = fs::metadata(file).map_or(0, |file| file.len());
        println!("{} ({:.1} MB)", file.display(), size as f64 / 1e6);
        let is_package = file.extension().is_some_and(|name| name == "deb");
        if is_package && matches!(profile, Profile::Release) && size > MOST {
            return Err(Failed::new(format!(
                "`{}` is larger than {} MB",
                file.display(),
                MOST / 1_000_000
            )));
        }
    }
    let sums = checksums(&folder, &made)?;
    println!("{}", sums.display());
    Ok(())
}

/// Debian packages of this machine's architecture, one for each revision: what a virtual machine
/// installs and upgrades to.
pub(crate) fn revisions(
    workspace: &Workspace,
    profile: Profile,
    revisions: &[u32],
    folder: &Path,
) -> Result<Vec<PathBuf>, Failed> {
    let contents = Contents::make(workspace, Architecture::HOST, profile)?;
    let pack = |revision: &u32| debian::pack(&contents, *revision, Profile::Test, folder);
    revisions.iter().map(pack).collect()
}

/// Checks by `sha256sum --check SHA256SUMS` in the folder.
fn checksums(folder: &Path, files: &[PathBuf]) -> Result<PathBuf, Failed> {
    let names = files.iter().filter_map(|file| file.file_name());
    let mut command = Command::new("sha256sum");
    let sums = answer(command.current_dir(folder).args(names))
        .ok_or_else(|| Failed::new("`sha256sum` failed on what was made"))?;
    let file = folder.join("SHA256SUMS");
    write(&file, &sums)?;
    Ok(file)
}

/// When the source was last changed, in seconds since 1970: files in packages are of this time,
/// so that the same source makes the same package.
fn epoch() -> String {
    std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .or_else(|| answer(Command::new("git").args(["log", "-1", "--format=%ct"])))
        .map_or_else(|| "0".to_owned(), |time| time.trim().to_owned())
}

/// Compresses files in place, without a name and a time in them.
fn gzip(files: &[PathBuf]) -> Result<(), Failed> {
    run(Command::new("gzip").args(["-9", "-n", "-f"]).args(files))
}

fn empty(folder: &Path) -> Result<PathBuf, Failed> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| {
            Failed::new(format!("cannot empty `{}`: {error}", folder.display()))
        })?;
    }
    make(folder)?;
    Ok(folder.to_owned())
}

fn make(folder: &Path) -> Result<(), Failed> {
    fs::create_dir_all(folder)
        .map_err(|error| Failed::new(format!("cannot make `{}`: {error}", folder.display())))
}

fn read(file: &Path) -> Result<String, Failed> {
    fs::read_to_string(file)
        .map_err(|error| Failed::new(format!("cannot read `{}`: {error}", file.display())))
}

fn write(file: &Path, text: &str) -> Result<(), Failed> {
    fs::write(file, text)
        .map_err(|error| Failed::new(format!("cannot write `{}`: {error}", file.display())))
}

/// Copies a file, and makes the folder that it goes to.
fn copy(from: &Path, to: &Path) -> Result<(), Failed> {
    if let Some(folder) = to.parent() {
        make(folder)?;
    }
    fs::copy(from, to).map(drop).map_err(|error| {
        Failed::new(format!(
            "cannot copy `{}` to `{}`: {error}",
            from.display(),
            to.display()
        ))
    })
}

/// Copies all that is below a folder.
fn copy_all(from: &Path, to: &Path) -> Result<(), Failed> {
    let entries = fs::read_dir(from)
        .map_err(|error| Failed::new(format!("cannot read `{}`: {error}", from.display())))?;
    for entry in entries.flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_all(&path, &to)?;
        } else {
            copy(&path, &to)?;
        }
    }
    Ok(())
}

/// Sets the rights of files, by number.
fn rights(file: &Path, mode: u32) -> Result<(), Failed> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(mode))
        .map_err(|error| Failed::new(format!("cannot change `{}`: {error}", file.display())))
}

/// Folders 755, files 644, but those that can be run.
fn plain_rights(folder: &Path) -> Result<(), Failed> {
    rights(folder, 0o755)?;
    let entries = fs::read_dir(folder)
        .map_err(|error| Failed::new(format!("cannot read `{}`: {error}", folder.display())))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            plain_rights(&path)?;
        } else {
            let runs = path.parent().is_some_and(|folder| folder.ends_with("sbin"))
                || path.extension().is_some_and(|name| name == "sh");
            rights(&path, if runs { 0o755 } else { 0o644 })?;
        }
    }
    Ok(())
}
