//! `cargo xtask vm systemd`: the real package, on a real Debian with systemd, in a virtual
//! machine. The root is an archive in memory, like that of the other guests; the first process is
//! systemd, and the checks (`tests/src/vm/package.rs`) are a service that it starts.

use std::ffi::OsString;
use std::fs;

use super::initramfs::Archive;
use super::kernels::{KERNELS, Kernel, Series};
use super::machine::{self, Outcome};
use super::{debian, kernels};
use crate::architecture::Architecture;
use crate::command::{Failed, say};
use crate::workspace::{Profile, Workspace};
use crate::{musl, package, setup};

/// The checks: they report on the console, as those of the other guests do.
const SERVICE: &str = "\
[Unit]
Description=Checks of the package
[Service]
Type=oneshot
ExecStart=/kordon-vm package
StandardOutput=file:/dev/console
StandardError=file:/dev/console
";
/// An emulated processor takes most of the minute that the unit has for its start.
const PATIENCE: &str = "[Service]\nTimeoutStartSec=300\n";
/// Revisions of the package that it is given: one to install, one to upgrade to.
const REVISIONS: [u32; 2] = [1, 2];
/// What would only wait for hardware or people that are not there.
const MASKED: [&str; 3] = [
    "getty.target",
    "systemd-networkd-wait-online.service",
    "systemd-firstboot.service",
];

/// `cargo xtask vm systemd [--dev] [SERIES]`.
pub(super) fn task(arguments: &[OsString]) -> Result<Outcome, Failed> {
    let mut profile = Profile::Release;
    // Debian 12 comes with it, and it is the oldest that is supported.
    let mut series = &KERNELS[0];
    for argument in arguments {
        if argument == "--dev" {
            profile = Profile::Test;
        } else {
            let known = KERNELS.iter().find(|series| argument == series.name);
            series = known.ok_or_else(|| {
                Failed::usage(format!(
                    "`vm systemd` takes a kernel and `--dev`, not `{}`",
                    argument.display()
                ))
            })?;
        }
    }
    let workspace = Workspace::find()?;
    setup::for_building()?;
    boot(&workspace, series, profile)
}

/// With the kernel that Debian 12 comes with. What cannot be fetched is a skip.
pub(super) fn boot(
    workspace: &Workspace,
    series: &Series,
    profile: Profile,
) -> Result<Outcome, Failed> {
    let architecture = Architecture::HOST;
    setup::for_machines(architecture)?;
    // Other guests keep a log of the same name.
    let all = workspace.target("vm");
    let folder = all.join("systemd");
    fs::create_dir_all(&folder)
        .map_err(|error| Failed::new(format!("cannot make `{}`: {error}", folder.display())))?;
    let fetched = kernels::fetch(series, architecture, &all)
        .and_then(|kernel| Ok((kernel, debian::fetch(&folder)?)));
    let (mut kernel, root) = match fetched {
        Ok(fetched) => fetched,
        Err(failed) => {
            let why = format!("Linux {} with systemd: {failed}", series.name);
            println!("SKIPPED: {why}");
            return Ok(Outcome::skipped(why));
        }
    };
    let mut archive = Archive::default();
    archive.tree(&root)?;
    let checks = musl::build(
        workspace,
        architecture,
        "kordon-tests",
        "kordon-vm",
        profile,
    )?;
    archive.program("kordon-vm", &checks, architecture)?;
    for file in package::revisions(workspace, profile, &REVISIONS, &folder)? {
        archive.file("packages", &file)?;
    }
    // Where modprobe looks for them, since the kernel loads them as they are needed.
    let release = release(&kernel)?;
    for module in std::mem::take(&mut kernel.modules) {
        archive.file(&format!("usr/lib/modules/{release}/kernel"), &module)?;
    }
    kernel.cards = false;
    let units = "etc/systemd/system";
    archive.link("init", "usr/lib/systemd/systemd");
    archive.link(
        &format!("{units}/default.target"),
        "/usr/lib/systemd/system/multi-user.target",
    );
    archive.text(&format!("{units}/kordon-vm.service"), SERVICE);
    archive.link(
        &format!("{units}/multi-user.target.wants/kordon-vm.service"),
        "../kordon-vm.service",
    );
    archive.text(&format!("{units}/kordon.service.d/slow.conf"), PATIENCE);
    for unit in MASKED {
        archive.link(&format!("{units}/{unit}"), "/dev/null");
    }
    // One that has one is not asked whether it boots for the first time.
    archive.text("etc/machine-id", "6b6f72646f6e6b6f72646f6e6b6f7264\n");
    archive.text("etc/hostname", "router\n");
    say(format_args!(
        "booting Linux {} with systemd",
        kernel.version
    ));
    machine::boot(&kernel, &[], &archive, &folder)
}

/// What `uname --kernel-release` says, as modules know it.
fn release(kernel: &Kernel) -> Result<String, Failed> {
    const KEY: &[u8] = b"\0vermagic=";
    let module = kernel.modules.first();
    let bytes = module.and_then(|module| fs::read(module).ok());
    let found = bytes.and_then(|bytes| {
        let at = bytes.windows(KEY.len()).position(|part| part == KEY)? + KEY.len();
        let rest = bytes[at..].split(|byte| *byte == b' ').next()?;
        String::from_utf8(rest.to_vec()).ok()
    });
    found.ok_or_else(|| {
        Failed::new(format!(
            "no module says which release Linux {} is",
            kernel.version
        ))
    })
}
