//! One boot. The guest reports on its serial line, a line for each check; whatever else
//! it prints is kept in a log. It must come to its end: a kernel that panics, hangs or
//! never starts fails.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use super::initramfs::Archive;
use super::kernels::Kernel;
use super::matrix;
use crate::architecture::Architecture;
use crate::command::{Failed, display, say};

/// First word of what the guest reports, as in `tests/src/vm/guest.rs`.
const MARK: &str = "kordon-vm:";
/// Seconds that a boot may take, on a machine that has other things to do as well.
const PATIENCE: &str = "1200";
/// Lines of the log that are shown when it did not come to its end.
const SHOWN: usize = 40;

/// What the checks came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Why a check could not be done.
    pub(crate) skips: Vec<String>,
    ended: bool,
}

impl Outcome {
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skips.extend(other.skips);
    }

    /// One check more.
    pub(super) fn count(&mut self, is_good: bool) {
        match is_good {
            true => self.passed += 1,
            false => self.failed += 1,
        }
    }

    /// Nothing could be done.
    pub(super) fn skipped(why: String) -> Self {
        Self {
            skips: vec![why],
            ..Self::default()
        }
    }

    /// Takes one line of the guest; what is to be shown of it.
    fn line<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let (_, report) = line.split_once(MARK)?;
        let report = report.trim();
        match report.split_whitespace().next() {
            Some("ok") => self.passed += 1,
            Some("FAILED") => self.failed += 1,
            Some("SKIPPED") => {
                let why = report.trim_start_matches("SKIPPED").trim();
                self.skips.push(why.to_owned());
            }
            Some("done") => {
                self.ended = true;
                return None;
            }
            _ => {}
        }
        Some(report)
    }
}

/// What is booted.
pub(super) struct Machine<'m> {
    pub(super) kernel: &'m Kernel,
    /// Its first root.
    pub(super) archive: &'m Archive,
    /// For its log.
    pub(super) folder: &'m Path,
    /// What the first process is told: which checks, as in `tests/src/vm/guest.rs`.
    pub(super) wanted: &'m str,
    /// Options of QEMU.
    pub(super) more: &'m [String],
}

/// Boots a kernel over the archive, and reads what the guest reports. A kernel that crashes before
/// the first check is booted once more: an emulated processor now and then trips over code that the
/// kernel patches while it runs.
pub(super) fn boot(machine: &Machine<'_>) -> Result<Outcome, Failed> {
    let outcome = attempt(machine, &mut |_| {})?;
    if !outcome.ended && outcome.passed == 0 && outcome.failed == 1 {
        say("nothing was checked: booting it once more");
        return attempt(machine, &mut |_| {});
    }
    Ok(outcome)
}

/// Boots it once; `heard` is given each line of its console.
pub(super) fn attempt(
    machine: &Machine<'_>,
    heard: &mut dyn FnMut(&str),
) -> Result<Outcome, Failed> {
    let Machine {
        kernel,
        folder,
        wanted,
        more,
        ..
    } = machine;
    let mut archive = machine.archive.clone();
    for module in &kernel.modules {
        archive.file("modules", module)?;
    }
    let name = format!("{}-{}", kernel.architecture.name(), kernel.version);
    // Another run may be at it.
    let initramfs = folder.join(format!("{name}-{}.cpio", std::process::id()));
    write(&initramfs, &archive.bytes())?;
    let log_path = folder.join(format!("{name}.log"));
    let mut log = File::create(&log_path)
        .map_err(|error| Failed::new(format!("cannot write `{}`: {error}", log_path.display())))?;

    let mut command = Command::new("timeout");
    command.args(["--foreground", PATIENCE]);
    let console = match kernel.architecture {
        Architecture::X86_64 => {
            command.args(["qemu-system-x86_64", "-cpu", "max"]);
            "ttyS0"
        }
        Architecture::Aarch64 => {
            // With all that there is, most of the time goes into signatures of pointers.
            command.args(["qemu-system-aarch64", "-cpu", "neoverse-n1"]);
            command.args(["-machine", "virt"]);
            "ttyAMA0"
        }
    };
    command
        .args(["-accel", "tcg", "-smp", "2", "-m", "2048"])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
        .args(["-no-reboot", "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initramfs)
        .arg("-append")
        // Behind the dashes is what the first process gets.
        .arg(format!("console={console} panic=-1 loglevel=4 -- {wanted}"))
        .args(*more);
    // What QEMU itself says is for the log, too.
    let (output, said) = io::pipe()
        .and_then(|(output, said)| Ok((output, [said.try_clone()?, said])))
        .map_err(|error| Failed::new(format!("cannot make a pipe: {error}")))?;
    let [stdout, stderr] = said;
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut child = command
        .spawn()
        .map_err(|error| Failed::new(format!("cannot start `{}`: {error}", display(&command))))?;
    // It holds the other end, which must close.
    drop(command);
    let mut outcome = Outcome::default();
    let mut last: Vec<String> = Vec::new();
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        let _ = writeln!(log, "{text}");
        heard(text);
        if let Some(report) = outcome.line(text) {
            matrix::show(kernel, wanted, report);
        }
        if last.len() == SHOWN {
            last.remove(0);
        }
        last.push(text.to_owned());
        line.clear();
    }
    let status = child
        .wait()
        .map_err(|error| Failed::new(format!("cannot wait for QEMU: {error}")))?;
    let _ = fs::remove_file(&initramfs);
    if !outcome.ended {
        outcome.failed += 1;
        let ends = format!(
            "FAILED the machine did not come to its end ({status}); {} ends with:\n{}",
            log_path.display(),
            last.join("\n")
        );
        matrix::show(kernel, wanted, &ends);
    }
    Ok(outcome)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failed> {
    fs::write(path, bytes)
        .map_err(|error| Failed::new(format!("cannot write `{}`: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn reports_are_counted() {
        let mut outcome = Outcome::default();
        let shown: Vec<_> = [
            "[    0.1] Linux version 6.1",
            "kordon-vm: ok small: load",
            "[    2.0] noise kordon-vm: FAILED large: load: no",
            "kordon-vm: SKIPPED whole: KORDON_TEST_DATA",
            "kordon-vm: done",
        ]
        .into_iter()
        .filter_map(|line| outcome.line(line))
        .collect();
        assert_eq!(shown.len(), 3);
        assert_eq!((outcome.passed, outcome.failed), (1, 1));
        assert_eq!(outcome.skips, ["whole: KORDON_TEST_DATA"]);
        assert!(outcome.ended);
    }
}
