//! A Debian to be booted: packages that apt chooses and fetches, unpacked into a folder, with what
//! dpkg knows of them. None of their scripts runs, so that nothing of this is ever started on
//! this machine.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::kernels::{Apt, USERLAND};
use crate::architecture::Architecture;
use crate::command::{Failed, answer, display, run, say};

/// What an administrator's commands, the scripts of packages and the checks need.
const PACKAGES: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "dpkg",
    "findutils",
    "grep",
    "gzip",
    "init-system-helpers",
    "iproute2",
    "kmod",
    "libc-bin",
    "mount",
    "nftables",
    "passwd",
    "perl-base",
    "procps",
    "sed",
    "systemd",
    "systemd-sysv",
    "tar",
    "udev",
    "util-linux",
];

/// What nobody reads there.
const LEFT_OUT: &[&str] = &[
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./usr/share/i18n",
    "./usr/share/info",
    "./usr/share/zoneinfo",
    "./usr/lib/udev/hwdb.d",
    "./lib/udev/hwdb.d",
    "./usr/lib/x86_64-linux-gnu/gconv",
];

/// Returns the folder, which is that of the last time if the packages are the same.
pub(super) fn fetch(folder: &Path) -> Result<PathBuf, Failed> {
    let home = folder.join("debian");
    let root = home.join("root");
    let apt = Apt::new(&USERLAND, Architecture::HOST, &home.join("apt"))?;
    if let Err(failed) = apt.update() {
        if !root.is_dir() {
            return Err(failed);
        }
        say(format_args!("{failed}; going on with what is there"));
        return Ok(root);
    }
    run(apt
        .command("apt-get")
        .args(["install", "--yes", "--quiet=2", "--download-only"])
        .arg("--no-install-recommends")
        .args(PACKAGES))?;
    let archives = home.join("apt/cache/archives");
    let mut packages: Vec<_> = fs::read_dir(&archives)
        .map_err(|error| Failed::new(format!("cannot read `{}`: {error}", archives.display())))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension() == Some(OsStr::new("deb")))
        .collect();
    packages.sort();
    let names: Vec<_> = packages
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .collect();
    let names = names.join("\n");
    let stamp = home.join("unpacked");
    if fs::read_to_string(&stamp).is_ok_and(|last| last == names) {
        return Ok(root);
    }
    say(format_args!("unpacking {} packages", packages.len()));
    let _ = fs::remove_file(&stamp);
    let _ = fs::remove_dir_all(&root);
    // As debootstrap does: /bin and its like are links.
    for name in ["bin", "sbin", "lib", "lib64"] {
        make(&root.join("usr").join(name))?;
        link(&format!("usr/{name}"), &root.join(name))?;
    }
    for folder in ["dev", "proc", "run", "sys", "tmp", "var/lib/dpkg/info"] {
        make(&root.join(folder))?;
    }
    let mut known = String::new();
    for package in &packages {
        unpack(package, &root)?;
        let record = answer(Command::new("dpkg-deb").arg("-f").arg(package))
            .ok_or_else(|| Failed::new(format!("cannot read `{}`", package.display())))?;
        known += &record.replacen('\n', "\nStatus: install ok installed\n", 1);
        known += "\n";
    }
    // What their scripts would have made.
    write(&root.join("var/lib/dpkg/status"), &known)?;
    for name in ["passwd", "group"] {
        let from = root.join(format!("usr/share/base-passwd/{name}.master"));
        fs::copy(&from, root.join("etc").join(name))
            .map_err(|error| Failed::new(format!("cannot copy `{}`: {error}", from.display())))?;
    }
    write(&stamp, &names)?;
    Ok(root)
}

fn unpack(package: &Path, root: &Path) -> Result<(), Failed> {
    let mut read = Command::new("dpkg-deb");
    read.arg("--fsys-tarfile").arg(package);
    let mut reader = read
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failed::new(format!("cannot start `{}`: {error}", display(&read))))?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--keep-directory-symlink", "--no-same-owner"])
        .arg("--directory")
        .arg(root)
        .args(LEFT_OUT.iter().map(|path| format!("--exclude={path}")));
    if let Some(output) = reader.stdout.take() {
        tar.stdin(output);
    }
    let unpacked = tar
        .status()
        .map_err(|error| Failed::new(format!("cannot start `{}`: {error}", display(&tar))))?;
    let read = reader.wait().is_ok_and(|status| status.success());
    match read && unpacked.success() {
        true => Ok(()),
        false => Err(Failed::new(format!(
            "cannot unpack `{}`",
            package.display()
        ))),
    }
}

fn make(folder: &Path) -> Result<(), Failed> {
    fs::create_dir_all(folder)
        .map_err(|error| Failed::new(format!("cannot make `{}`: {error}", folder.display())))
}

fn link(to: &str, at: &Path) -> Result<(), Failed> {
    std::os::unix::fs::symlink(to, at)
        .map_err(|error| Failed::new(format!("cannot make `{}`: {error}", at.display())))
}

fn write(file: &Path, text: &str) -> Result<(), Failed> {
    fs::write(file, text)
        .map_err(|error| Failed::new(format!("cannot write `{}`: {error}", file.display())))
}
