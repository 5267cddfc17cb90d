//! The first process of the machine: mounts what kordon needs, loads modules, runs the
//! checks, reports each on the console, and switches the machine off.

use std::{
    ffi::CString,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
};

use super::{checks, matrix, power};

/// What begins a line that `cargo xtask vm` reads.
const MARK: &str = "kordon-vm:";

/// Never returns: the first process must not end.
pub(super) fn main() -> ! {
    // A panic would end the process, and with it the machine; the host then sees
    // that the last line is missing.
    match boot() {
        Ok(()) => {
            // What the kernel's command line says behind ` -- `.
            for wanted in std::env::args().skip(1) {
                match (wanted.as_str(), wanted.strip_prefix("matrix=")) {
                    ("disk", _) => {
                        println!("{MARK} FAILED boot: {:#}", switch_root());
                        break;
                    }
                    ("plain", _) => checks::run(&report),
                    (_, Some(series)) => matrix::run(series, MARK, &report),
                    (other, None) => {
                        println!("{MARK} FAILED boot: there are no checks `{other}`");
                    }
                }
            }
            println!("{MARK} done");
        }
        Err(error) => println!("{MARK} FAILED boot: {error:#}"),
    }
    end();
}

/// Goes on with what is on the disk, and returns only why that cannot be.
fn switch_root() -> anyhow::Error {
    const ROOT: &str = "/disk";
    let switch = || -> Result<()> {
        fs::create_dir_all(ROOT)?;
        mount(
            Some("/dev/vda"),
            ROOT,
            Some("ext4"),
            MsFlags::empty(),
            None::<&str>,
        )
        .context("cannot mount the disk")?;
        std::env::set_current_dir(ROOT)?;
        mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .context("cannot move the disk to /")?;
        std::os::unix::fs::chroot(".")?;
        std::env::set_current_dir("/")?;
        Ok(())
    };
    match switch() {
        Err(error) => error,
        Ok(()) => Command::new("/usr/lib/systemd/systemd").exec().into(),
    }
}

/// What `cargo xtask vm systemd` wants: another process is the first one, and has done what
/// [`boot`] does. The kernel's command line ends with ` -- disk PHASE SECONDS`.
pub(super) fn service() -> ! {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let phase = line.split_once(" -- disk ");
    let phase = phase.and_then(|(_, rest)| rest.split(' ').next());
    power::run(&report, phase.unwrap_or_default());
    // The power is cut, not switched off: what is on the disk is there.
    nix::unistd::sync();
    println!("{MARK} done");
    end();
}

/// Switches the machine off.
fn end() -> ! {
    // The console's last line needs a moment to get out.
    std::thread::sleep(Duration::from_millis(200));
    // With `-no-reboot` this ends the virtual machine, whatever its power supply.
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Runs one check, and says what came of it. `Ok(None)`: it could not be done, and `why`
/// says why.
fn report(name: &str, check: &mut dyn FnMut() -> Result<checks::Said>) {
    let start = Instant::now();
    let said = check();
    let took = start.elapsed().as_secs_f64();
    match said {
        Ok(checks::Said::Done(what)) => println!("{MARK} ok {name}: {what} ({took:.1} s)"),
        Ok(checks::Said::Skipped(why)) => println!("{MARK} SKIPPED {name}: {why}"),
        Err(error) => {
            let error = format!("{error:#}");
            let mut lines = error.lines();
            let first = lines.next().unwrap_or_default();
            println!("{MARK} FAILED {name}: {first} ({took:.1} s)");
            // What the verifier says comes in thousands of lines; the last ones count.
            let rest: Vec<_> = lines.collect();
            for line in &rest[rest.len().saturating_sub(60)..] {
                println!("    {line}");
            }
        }
    }
}

fn boot() -> Result<()> {
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("bpf", "/sys/fs/bpf"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
    ] {
        fs::create_dir_all(at).with_context(|| format!("cannot make {at}"))?;
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {at}"))?;
    }
    let mut modules: Vec<PathBuf> = fs::read_dir("/modules")
        .context("there are no modules")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    // One that needs another loads after it: as long as some load, others may.
    while !modules.is_empty() {
        let mut left = Vec::new();
        let mut why = None;
        for module in &modules {
            if let Err(error) = load(module) {
                left.push(module.clone());
                why = Some(error);
            }
        }
        if left.len() == modules.len()
            && let Some(why) = why
        {
            return Err(why);
        }
        modules = left;
    }
    Ok(())
}

fn load(module: &Path) -> Result<()> {
    let what = || format!("cannot load {}", module.display());
    let file = File::open(module).with_context(what)?;
    finit_module(file, &CString::default(), ModuleInitFlags::empty()).with_context(what)
}
