//! Debian packages, by apt; their services stay down ([`NoServices`]).

use std::process::Command;

use super::services::NoServices;
use crate::architecture::Architecture;
use crate::command::{Failed, answer, run, say};

/// What building needs beside Rust: C libraries are compiled along.
pub(super) const BUILD: &[&str] = &["gcc", "libc6-dev"];

/// What the demo and the tests use. `prometheus` brings promtool, `systemd` brings
/// systemd-analyze.
pub(super) const LAB: &[&str] = &[
    "curl",
    "ethtool",
    "frr",
    "gobgpd",
    "iproute2",
    "ipset",
    "iputils-ping",
    "nftables",
    "openssl",
    "procps",
    "prometheus",
    "systemd",
    "tcpdump",
];

/// What `cargo xtask bench` compares with, beside those of [`LAB`]. `iptables` is the one
/// of nftables.
pub(super) const PEERS: &[&str] = &["iptables", "xdp-tools"];

/// What `cargo xtask package` packs with, and asks for its opinion.
pub(super) const PACKING: &[&str] = &["binutils", "dpkg", "lintian"];

/// What `cargo xtask vm` emulates a processor with, and unpacks kernels with.
pub(super) const MACHINES: &[&str] = &["binutils", "e2fsprogs", "qemu-system-x86", "xz-utils"];

/// As [`MACHINES`], for ARM.
pub(super) const MACHINES_ARM: &[&str] = &["binutils", "qemu-system-arm", "xz-utils"];

/// A C compiler for another processor: its binutils come along.
pub(super) fn cross(architecture: Architecture) -> [String; 2] {
    let processor = architecture.name().replace('_', "-");
    [
        format!("gcc-{processor}-linux-gnu"),
        format!("libc6-dev-{}-cross", architecture.debian()),
    ]
}

/// Installs those that are missing.
pub(super) fn install(packages: &[&str]) -> Result<(), Failed> {
    let mut question = Command::new("dpkg-query");
    question
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(packages);
    // It fails when one of them is unknown, and lists the others all the same.
    let Some(output) = crate::command::ask(&mut question) else {
        say(format_args!(
            "this is not Debian: that {} are installed is taken on trust",
            packages.join(", ")
        ));
        return Ok(());
    };
    let missing = missing(packages, &String::from_utf8_lossy(&output.stdout));
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() {
        return Err(Failed::new(format!(
            "Debian packages are missing, and only root can install them: \
             `apt-get install {list}`"
        )));
    }
    say(format_args!(
        "Debian packages are missing: installing {list}"
    ));
    let _quiet = NoServices::new(&missing)?;
    let apt_install = || {
        let mut command = apt();
        command
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&missing);
        run(&mut command)
    };
    // Package lists that are absent or old are the usual reason for a failure.
    if !can_be_had(&missing) || apt_install().is_err() {
        run(apt().arg("update"))?;
        apt_install()?;
    }
    Ok(())
}

/// Those that the list does not give as installed.
fn missing<'a>(packages: &[&'a str], installed: &str) -> Vec<&'a str> {
    packages
        .iter()
        .copied()
        .filter(|package| {
            !installed
                .lines()
                .any(|line| line.split_once(' ') == Some((package, "installed")))
        })
        .collect()
}

fn is_root() -> bool {
    answer(Command::new("id").arg("--user")).is_some_and(|id| id.trim() == "0")
}

/// Whether the package lists on this machine are there and know all of them.
fn can_be_had(packages: &[&str]) -> bool {
    answer(
        apt()
            .args(["install", "--simulate", "--quiet=2"])
            .args(packages),
    )
    .is_some()
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn only_installed_counts() {
        let list = "curl installed\nethtool config-files\niproute2 not-installed\n";
        assert_eq!(
            missing(&["curl", "ethtool", "iproute2", "ipset"], list),
            ["ethtool", "iproute2", "ipset"]
        );
    }
}
