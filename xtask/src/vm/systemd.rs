//! `cargo xtask vm systemd`: the real package, on a real Debian with systemd, in a virtual machine
//! that is switched off and on: what was installed and configured in one boot is on its disk in the
//! next. The checks (`tests/src/vm/power.rs`, `package.rs`) are a service that systemd starts; what
//! arrives where cameras may not send to is counted here, from before the kernel starts.

use std::ffi::OsString;
use std::fs;

use super::cable::{Cables, GATEWAY, LAN, Seen, WAN, in_words};
use super::disk::Root;
use super::initramfs::Archive;
use super::kernels::{KERNELS, Kernel, Series};
use super::machine::{self, Machine, Outcome};
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
/// What a disk takes, and the network of a router.
const MODULES: [&str; 6] = [
    "8021q",
    "nf_tables",
    "nft_meta_bridge",
    "virtio_blk",
    "virtio_net",
    "virtio_pci",
];
/// Seconds that a boot goes on once kordon enforces.
const LINGER: (u32, u32) = (60, 10);

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
    boot(&workspace, series, profile, LINGER.0)
}

/// As a part of all tests: with the kernel that Debian 12 comes with.
pub(super) fn shortly(workspace: &Workspace) -> Result<Outcome, Failed> {
    boot(workspace, &KERNELS[0], Profile::Test, LINGER.1)
}

/// All phases, each a boot. What cannot be fetched is a skip.
fn boot(
    workspace: &Workspace,
    series: &Series,
    profile: Profile,
    linger: u32,
) -> Result<Outcome, Failed> {
    let architecture = Architecture::HOST;
    setup::for_machines(architecture)?;
    // Other guests keep kernels and logs of the same names.
    let folder = workspace.target("vm/systemd");
    fs::create_dir_all(&folder)
        .map_err(|error| Failed::new(format!("cannot make `{}`: {error}", folder.display())))?;
    let fetched = kernels::fetch(series, architecture, &folder, &MODULES)
        .and_then(|kernel| Ok((kernel, debian::fetch(&folder)?)));
    let (kernel, debian) = match fetched {
        Ok(fetched) => fetched,
        Err(failed) => {
            let why = format!("Linux {} with systemd: {failed}", series.name);
            println!("SKIPPED: {why}");
            return Ok(Outcome::skipped(why));
        }
    };
    let checks = musl::build(
        workspace,
        architecture,
        "kordon-tests",
        "kordon-vm",
        profile,
    )?;
    let mut archive = Archive::default();
    archive.program("init", &checks, architecture)?;
    // Another run may be at it.
    let id = std::process::id();
    let root = Root::copy_of(&debian, folder.join(format!("root-{id}")))?;
    for file in package::revisions(workspace, profile, &REVISIONS, &folder)? {
        let name = file.file_name().unwrap_or_default().display().to_string();
        root.file(&format!("packages/{name}"), &file)?;
    }
    root.file("kordon-vm", &checks)?;
    // Where modprobe looks for them, since the kernel loads them as they are needed.
    let release = release(&kernel)?;
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default().display();
        root.file(&format!("usr/lib/modules/{release}/kernel/{name}"), module)?;
    }
    furnish(&root)?;
    let image = folder.join(format!("disk-{id}.img"));
    root.disk(&image)?;
    say(format_args!(
        "booting Linux {} with systemd",
        kernel.version
    ));
    let disk = [
        "-drive".to_owned(),
        format!("file={},if=virtio,format=raw", image.display()),
    ];
    let mut outcome = Outcome::default();
    for phase in ["install", "power-on", "broken", "open"] {
        let cables = Cables::plug()?;
        let more = [&disk[..], &cables.options()].concat();
        let machine = Machine {
            kernel: &kernel,
            archive: &archive,
            folder: &folder,
            wanted: &format!("disk {phase} {linger}"),
            more: &more,
        };
        let mut at_last = None;
        let came = machine::attempt(&machine, &mut |line| {
            // From here on nobody polices what comes over the cable.
            if line.contains("ok open, enforces") {
                at_last = Some(cables.seen());
            }
        })?;
        let is_over = came.failed > 0;
        outcome.add(came);
        let seen = at_last.unwrap_or_else(|| cables.seen());
        let (said, is_good) = judge(phase, seen);
        outcome.count(is_good);
        let verdict = if is_good { "ok" } else { "FAILED" };
        println!("Linux {} {phase}: {verdict} {said}", kernel.version);
        // The next would fail for the same reason.
        if is_over {
            break;
        }
    }
    let _ = fs::remove_file(&image);
    Ok(outcome)
}

/// What came over the cables in a phase, in words, and whether it is what should have come.
fn judge(phase: &str, seen: Seen) -> (String, bool) {
    let (blocked, allowed) = (seen.blocked, seen.allowed);
    let first = seen.first.map_or_else(String::new, |first| {
        format!(", the first of all after {:.0} s", first.as_secs_f64())
    });
    let said = format!(
        "{} of {} frames to the blocked network arrived, {} of {} to another one{first}",
        blocked.1, blocked.0, allowed.1, allowed.0
    );
    // The last phase ends as soon as it can.
    let is_sent = phase == "open" || blocked.0 > 1000 && allowed.0 > 1000;
    let is_good = match phase {
        // Without kordon all arrives, and then not.
        "install" => blocked.1 > 0 && allowed.1 > blocked.1,
        "power-on" => blocked.1 == 0 && allowed.1 > 0,
        "broken" => blocked.1 == 0 && allowed.1 == 0,
        // How much it is is what is measured: nothing, where kordon is there before the network.
        _ => true,
    };
    (said, is_sent && is_good)
}

/// What makes a router of a Debian.
fn furnish(root: &Root) -> Result<(), Failed> {
    let units = "etc/systemd/system";
    root.link(
        &format!("{units}/default.target"),
        "/usr/lib/systemd/system/multi-user.target",
    )?;
    root.text(&format!("{units}/kordon-vm.service"), SERVICE)?;
    let wants = format!("{units}/multi-user.target.wants");
    root.link(
        &format!("{wants}/kordon-vm.service"),
        "../kordon-vm.service",
    )?;
    root.link(
        &format!("{wants}/systemd-networkd.service"),
        "/usr/lib/systemd/system/systemd-networkd.service",
    )?;
    root.text(&format!("{units}/kordon.service.d/slow.conf"), PATIENCE)?;
    for unit in MASKED {
        root.link(&format!("{units}/{unit}"), "/dev/null")?;
    }
    // One that has one is not asked whether it boots for the first time.
    root.text("etc/machine-id", "6b6f72646f6e6b6f72646f6e6b6f7264\n")?;
    root.text("etc/hostname", "router\n")?;
    // It forwards as soon as it can.
    root.text("etc/sysctl.d/router.conf", "net.ipv4.ip_forward = 1\n")?;
    let networks = "etc/systemd/network";
    // Before the one of systemd itself, which begins with 99.
    for (name, address) in [("lan0", LAN), ("wan0", WAN)] {
        let text = format!(
            "[Match]\nMACAddress={}\n[Link]\nName={name}\n",
            in_words(address)
        );
        // Sub-interfaces have the same address.
        let text = text.replace("[Link]", "Type=ether\n[Link]");
        root.text(&format!("{networks}/10-{name}.link"), &text)?;
    }
    let gateway = in_words(GATEWAY);
    for (file, text) in [
        (
            "lan0.network",
            "[Match]\nName=lan0\n[Network]\nVLAN=cameras\nLinkLocalAddressing=no\n".to_owned(),
        ),
        (
            "cameras.netdev",
            "[NetDev]\nName=cameras\nKind=vlan\n[VLAN]\nId=20\n".to_owned(),
        ),
        (
            "cameras.network",
            "[Match]\nName=cameras\n[Network]\nAddress=10.20.0.1/16\nIPForward=yes\n".to_owned(),
        ),
        (
            "wan0.network",
            format!(
                "[Match]\nName=wan0\n[Network]\nAddress=192.0.2.2/24\nGateway=192.0.2.1\n\
                 IPForward=yes\n[Neighbor]\nAddress=192.0.2.1\nLinkLayerAddress={gateway}\n"
            ),
        ),
    ] {
        root.text(&format!("{networks}/{file}"), &text)?;
    }
    Ok(())
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
