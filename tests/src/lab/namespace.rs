//! One network namespace: made by `ip netns`, so that an administrator can walk
//! into it, and deleted with the value that owns it.
//!
//! Code enters with `setns` in a thread of its own. `ip netns exec` would also
//! mount a new /sys, which hides whatever is pinned below /sys/fs/bpf.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Where `ip netns` keeps the names.
const RUN_NETNS: &str = "/run/netns";
/// First part of the name of everything that belongs to a process and dies with it.
pub const OWNED: &str = "kordon-lab";

/// A network namespace. Deleted on drop unless [`Namespace::keep`] was called.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
    owned: bool,
}

impl Namespace {
    /// Makes a namespace with its loopback up.
    ///
    /// # Errors
    ///
    /// If the name is taken, or the process may not make namespaces (it needs root).
    pub fn create(name: &str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))
            .with_context(|| format!("cannot make namespace `{name}`"))?;
        let file =
            File::open(path(name)).with_context(|| format!("cannot open namespace `{name}`"))?;
        let namespace = Self {
            name: name.to_owned(),
            file,
            owned: true,
        };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, for `ip netns exec NAME …`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Leaves the namespace behind when the value is dropped.
    pub fn keep(&mut self) {
        self.owned = false;
    }

    /// Runs `work` in a thread inside the namespace. Sockets that it opens stay
    /// there and can be returned.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered, or `work` fails.
    ///
    /// # Panics
    ///
    /// If `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.file, CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("cannot enter namespace `{}`", self.name))?;
                    work()
                })
                .join()
        });
        inside.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts a command inside the namespace, with the caller's view of the file system.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<std::process::Child> {
        self.run(|| {
            command
                .spawn()
                .with_context(|| format!("cannot start {:?}", command.get_program()))
        })
    }

    /// Runs a command inside the namespace to its end and returns what it printed.
    ///
    /// # Errors
    ///
    /// If it cannot be started or does not exit with 0.
    pub fn output(&self, command: &mut Command) -> Result<String> {
        self.run(|| run(command))
            .with_context(|| format!("in namespace `{}`", self.name))
    }

    /// Configures the namespace: lines as one would write them after `ip`.
    ///
    /// # Errors
    ///
    /// If any of them fails; those after it are not run.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start `ip` (Debian package iproute2)")?;
        let mut stdin = child.stdin.take().context("`ip` has no standard input")?;
        let written = stdin.write_all(lines.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().context("cannot wait for `ip`")?;
        ensure!(
            output.status.success(),
            "`ip -n {} -batch` failed: {} in\n{lines}",
            self.name,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        written.context("cannot write to `ip`")
    }

    /// Writes sysctls below `net`: pairs of a path such as `ipv4/ip_forward` and a value.
    ///
    /// # Errors
    ///
    /// If one does not exist or cannot be written.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in settings {
                let path = Path::new("/proc/sys/net").join(key);
                fs::write(&path, value)
                    .with_context(|| format!("cannot write `{value}` to {}", path.display()))?;
            }
            Ok(())
        })
    }

    /// The index of a network device.
    ///
    /// # Errors
    ///
    /// If there is none of that name.
    pub fn ifindex(&self, device: &str) -> Result<u32> {
        self.run(|| {
            nix::net::if_::if_nametoindex(device)
                .with_context(|| format!("no device `{device}` in namespace `{}`", self.name))
        })
    }

    /// Makes a device write VLAN tags into its frames, where it would else leave
    /// them beside the frame for the receiver's hardware.
    ///
    /// # Errors
    ///
    /// If the device cannot.
    pub fn inline_tags(&self, device: &str) -> Result<()> {
        // Two switches: 0x8100 and 0x88a8.
        let settings = ["txvlan", "off", "tx-vlan-stag-hw-insert", "off"];
        self.output(Command::new("ethtool").args(["-K", device]).args(settings))
            .map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.owned {
            delete(&self.name);
        }
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(RUN_NETNS).join(name)
}

/// Deletes a namespace by name. What fails here is found by the next [`cleanup`].
pub(crate) fn delete(name: &str) {
    if let Err(error) = run(Command::new("ip").args(["netns", "delete", name])) {
        eprintln!("cannot delete namespace `{name}`: {error:#}");
    }
}

/// Names of all namespaces that begin with `prefix` and a hyphen.
///
/// # Errors
///
/// If the directory of names exists and cannot be read.
pub fn names(prefix: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(RUN_NETNS) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot read {RUN_NETNS}"))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('-'))
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// A prefix for names that this process owns: it says whose they are even after
/// the process number was given to another.
pub(crate) fn owned_prefix() -> Result<String> {
    let pid = std::process::id();
    let started = started(pid).context("cannot read the start time of this process")?;
    Ok(format!("{OWNED}-{pid}-{started}"))
}

/// A directory that this process owns.
///
/// # Errors
///
/// If it cannot be made.
pub fn folder() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("{}-", owned_prefix()?))
        .tempdir()
        .context("cannot make a temporary directory")
}

/// When a process started, in clock ticks since boot, or nothing if it does not run.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold anything; of the
    // fields after it the first is the state, the 20th the start time.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    let time = fields.nth(18)?.parse().ok()?;
    (state != "Z").then_some(time)
}

/// Whether the name says that it belongs to a process that is gone.
fn is_orphan(name: &str) -> bool {
    let Some(rest) = name
        .strip_prefix(OWNED)
        .and_then(|rest| rest.strip_prefix('-'))
    else {
        return false;
    };
    let mut parts = rest.split('-');
    let (Some(pid), Some(time)) = (parts.next(), parts.next()) else {
        return false;
    };
    match (pid.parse(), time.parse::<u64>()) {
        (Ok(pid), Ok(time)) => started(pid) != Some(time),
        _ => false,
    }
}

/// Removes what processes left that are gone (killed before they could clean up):
/// namespaces with the processes in them, BPF file systems and directories.
/// Returns the names of what was removed.
///
/// # Errors
///
/// If the lists of namespaces or mounts cannot be read.
pub fn cleanup() -> Result<Vec<String>> {
    remove(is_orphan)
}

/// As [`cleanup`], for what this process owns: before an exit that runs no destructors.
///
/// # Errors
///
/// As [`cleanup`].
pub fn remove_own() -> Result<Vec<String>> {
    let own = owned_prefix()? + "-";
    remove(|name| name.starts_with(&own))
}

/// On Ctrl-C and SIGTERM runs `clean`, which must not leave namespaces and controllers
/// behind, and ends the process. To be called before other threads are started.
///
/// # Errors
///
/// If signals cannot be blocked.
pub fn on_signals(clean: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Blocked here and so in every thread; children start with none blocked.
    signals.thread_block().context("cannot block signals")?;
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            if let Err(error) = clean() {
                eprintln!("error: {error:#}");
            }
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}

fn remove(goes: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for name in names(OWNED)? {
        if goes(&name) {
            for pid in run(Command::new("ip").args(["netns", "pids", &name]))?.lines() {
                kill(pid.trim());
            }
            delete(&name);
            removed.push(name);
        }
    }
    for directory in super::bpffs::leftovers(&goes)? {
        super::bpffs::unmount(&directory);
        removed.push(directory.display().to_string());
    }
    for entry in fs::read_dir(env::temp_dir()).context("cannot read the temporary directory")? {
        let entry = entry?;
        if goes(&entry.file_name().to_string_lossy()) {
            // Another cleanup may be at it.
            let _ = fs::remove_dir_all(entry.path());
            removed.push(entry.path().display().to_string());
        }
    }
    Ok(removed)
}

fn kill(pid: &str) {
    if let Ok(pid) = pid.parse() {
        // It may have ended by itself.
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Runs a command to its end and returns its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
