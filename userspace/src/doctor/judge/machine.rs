//! The kernel and what it allows.

use std::path::Path;

use crate::doctor::{
    facts::{Facts, Known},
    finding::{Check, Finding},
    fix::Fix,
};

/// The oldest kernel that the programs are made for.
const OLDEST: (u32, u32) = (6, 1);
/// Where BPF file systems are mounted by everybody.
const BPFFS: &str = "/sys/fs/bpf";

/// See the module.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let machine = &facts.machine;
    vec![
        kernel(&machine.release),
        if machine.btf {
            Finding::fine(Check::Btf, "the kernel describes its types")
        } else {
            Finding::problem(
                Check::Btf,
                "the kernel has no BTF: /sys/kernel/btf/vmlinux is not there",
                "a kernel with CONFIG_DEBUG_INFO_BTF=y, as those of Debian, Ubuntu, Fedora and VyOS have it",
            )
        },
        jit(&machine.jit, &machine.harden),
        lockdown(&machine.lockdown),
        bpffs(&facts.places.bpffs, &machine.bpffs),
        capabilities(&machine.lacks),
    ]
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    match (number(), number()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => {
            Finding::fine(Check::Kernel, format!("Linux {release}"))
        }
        (Some(_), Some(_)) => Finding::problem(
            Check::Kernel,
            format!("this is Linux {release}, and kordon needs 6.1 or later"),
            "a newer kernel: Debian 12 has 6.1, and newer ones in its backports",
        ),
        _ => Finding::unknown(
            Check::Kernel,
            format!("`{release}` is no version that can be read"),
        ),
    }
}

fn jit(jit: &Known<u8>, harden: &Known<u8>) -> Finding {
    let on = match jit {
        Ok(on) => *on,
        Err(why) => return Finding::unknown(Check::Jit, why),
    };
    if on == 0 {
        return Finding::problem(
            Check::Jit,
            "the BPF JIT is off",
            "`sysctl net.core.bpf_jit_enable=1`, and a line with that in /etc/sysctl.d/",
        )
        .fixed_by(Fix::Jit);
    }
    match harden {
        Ok(2) => Finding::note(
            Check::Jit,
            "the BPF JIT is on and hardened for root as well (`net.core.bpf_jit_harden = 2`), which \
             makes programs slower",
        )
        .cured("`sysctl net.core.bpf_jit_harden=1` hardens those of other users alone"),
        _ => Finding::fine(Check::Jit, "the BPF JIT is on"),
    }
}

fn lockdown(lockdown: &Known<String>) -> Finding {
    match lockdown.as_deref() {
        Err(why) => Finding::unknown(Check::Lockdown, why),
        Ok("none") => Finding::fine(Check::Lockdown, "the kernel is not locked down"),
        Ok(word) => Finding::fine(
            Check::Lockdown,
            format!("the kernel is locked down (`{word}`), which forbids nothing that kordon does"),
        ),
    }
}

fn bpffs(place: &Path, is_one: &Known<bool>) -> Finding {
    let name = place.display();
    match is_one {
        Ok(true) => Finding::fine(Check::Bpffs, format!("`{name}` is on a BPF file system")),
        Err(why) => Finding::unknown(Check::Bpffs, why),
        Ok(false) => {
            let at = if place.starts_with(BPFFS) {
                Path::new(BPFFS)
            } else {
                place
            };
            Finding::problem(
                Check::Bpffs,
                format!("`{name}` is on no BPF file system"),
                format!(
                    "`mount -t bpf bpf {}` (systemd does it at each boot; `ip netns exec` hides the \
                     router's: `nsenter --net=/run/netns/NAME` does not)",
                    at.display()
                ),
            )
            .fixed_by(Fix::MountBpffs(at.to_owned()))
        }
    }
}

fn capabilities(lacks: &Known<(String, Vec<&'static str>)>) -> Finding {
    match lacks {
        Err(why) => Finding::unknown(Check::Capabilities, why),
        Ok((who, missing)) if missing.is_empty() => Finding::fine(
            Check::Capabilities,
            format!("{who} has those that are needed"),
        ),
        Ok((who, missing)) => Finding::problem(
            Check::Capabilities,
            format!("{who} lacks {}", missing.join(", ")),
            "start the daemon as root or with these in `AmbientCapabilities=`; in a container, add \
             them to those that it is given",
        ),
    }
}
