//! `kordon run` in a router of the lab: the daemon, its CLI, and its metrics as
//! Prometheus would read them.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::Namespace;

/// Start to enforcing takes well under a second; a machine under load more.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where an instance of kordon lives: its directory has `kordon.toml`, and gets the
/// socket, the log and the state.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The router.
    pub namespace: &'a Namespace,
    /// Configuration and state.
    pub directory: &'a Path,
    /// Pins.
    pub bpffs: &'a Path,
    /// What to run.
    pub binary: &'a Path,
}

/// Names the binary.
pub const BINARY: &str = "KORDON_BINARY";

/// The binary under test; says that the test is skipped where there is none.
#[must_use]
pub fn binary() -> Option<PathBuf> {
    let binary = std::env::var_os(BINARY).map(PathBuf::from);
    if binary.is_none() {
        println!("SKIPPED: KORDON_BINARY does not name the binary; `cargo xtask test` builds it");
    }
    binary
}

/// A running `kordon run`. Killed on drop unless [`Controller::keep`] was called.
#[derive(Debug)]
pub struct Controller {
    binary: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Controller {
    /// Starts it and waits until it says that it enforces. Returns how long that
    /// took, too.
    ///
    /// # Errors
    /// If it ends, or does not enforce in time; with the end of its log.
    pub fn start(place: &Place<'_>) -> Result<(Self, Duration)> {
        let start = Instant::now();
        let mut controller = Self::spawn(place)?;
        controller.wait_until_enforcing()?;
        Ok((controller, start.elapsed()))
    }

    /// Starts it and waits for nothing.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn spawn(place: &Place<'_>) -> Result<Self> {
        let directory = place.directory;
        let socket = directory.join("kordon.sock");
        let log_path = directory.join("kordon.log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("cannot write {}", log_path.display()))?;
        let mut command = Command::new(place.binary);
        command.arg("run");
        command.arg("--config").arg(directory.join("kordon.toml"));
        command.arg("--socket").arg(&socket);
        command.arg("--bpffs").arg(place.bpffs);
        command.arg("--state-dir").arg(directory.join("state"));
        // It holds no directory of the user's busy.
        command.current_dir(directory).stdin(Stdio::null());
        command
            .stdout(log.try_clone().context("cannot copy a file handle")?)
            .stderr(log);
        // Ctrl-C in the terminal is not for it.
        command.process_group(0);
        let child = place.namespace.spawn(&mut command)?;
        Ok(Self {
            binary: place.binary.to_owned(),
            socket,
            log: log_path,
            child: Some(child),
        })
    }

    /// Waits until `kordon status` says that all is enforced.
    ///
    /// # Errors
    /// If that takes too long; with the end of the log.
    pub fn wait_until_enforcing(&mut self) -> Result<()> {
        let log = self.log.clone();
        self.enforces()
            .map_err(|error| anyhow!("{error:#}; its log ends with:\n{}", tail(&log)))
    }

    fn enforces(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok()?) {
                bail!("`kordon run` ended by itself: {status}");
            }
            match self.cli(&["status"]) {
                Ok(status) if status["enforcing"] == Value::Bool(true) => return Ok(()),
                outcome if Instant::now() > end => {
                    bail!(
                        "kordon does not enforce after {PATIENCE:?}; `kordon status`: {outcome:?}"
                    )
                }
                _ => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// A command of the CLI against it.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--socket").arg(&self.socket);
        command.arg("--json").stdin(Stdio::null());
        command
    }

    /// Runs a command of the CLI against it and returns its JSON.
    ///
    /// # Errors
    /// If it does not exit with 0; with what it said.
    pub fn cli(&self, arguments: &[&str]) -> Result<Value> {
        let output = self
            .command(arguments)
            .output()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let what = format!("`kordon {}`", arguments.join(" "));
        let printed = String::from_utf8_lossy(&output.stdout);
        // It exits with 1 while not all is enforced, and answers all the same.
        let is_status = arguments == ["status"] && output.status.code() == Some(1);
        if let Ok(status) = serde_json::from_str::<Value>(&printed)
            && is_status
            && status["enforcing"] == false
        {
            return Ok(status);
        }
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("{what} failed: {} {}", error.trim(), printed.trim());
        }
        serde_json::from_str(&printed).with_context(|| format!("{what} did not print JSON"))
    }

    /// A signal to it.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()).context("process numbers fit")?);
        kill(pid, signal).context("cannot signal kordon")
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// If it does not; with the end of its log.
    pub fn ended(mut self) -> Result<(ExitStatus, String)> {
        let mut child = self.child.take().context("kordon is not running")?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = child.try_wait().context("cannot wait for kordon")? {
                return Ok((status, tail(&self.log)));
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.child = Some(child);
        bail!(
            "kordon does not end; its log ends with:\n{}",
            tail(&self.log)
        )
    }

    /// The binary that runs.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Its process number; 0 once it is gone.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// SIGKILL; returns when the process is gone.
    ///
    /// # Errors
    /// If it is gone already.
    pub fn kill(mut self) -> Result<()> {
        let mut child = self.child.take().context("kordon is not running")?;
        child.kill().context("cannot kill kordon")?;
        child.wait().context("cannot wait for kordon").map(drop)
    }

    /// Leaves it running.
    pub fn keep(mut self) {
        // A child that is not waited for goes on.
        self.child = None;
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// One scrape.
#[derive(Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// Reads them over HTTP on the router's loopback.
    ///
    /// # Errors
    /// If nobody answers.
    pub fn scrape(router: &Namespace) -> Result<Self> {
        let text = router.run(|| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 9754))
                .context("cannot connect to the metrics on 127.0.0.1:9754")?;
            stream
                .set_read_timeout(Some(PATIENCE))
                .context("cannot set a timeout")?;
            let request = "GET /metrics HTTP/1.1\r\nHost: router\r\nConnection: close\r\n\r\n";
            stream
                .write_all(request.as_bytes())
                .context("cannot ask for metrics")?;
            let mut text = String::new();
            stream
                .read_to_string(&mut text)
                .context("cannot read metrics")?;
            Ok(text)
        })?;
        Ok(Self(text))
    }

    /// Sum over the samples of `name` that have all these labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let wanted: Vec<_> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let samples = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.split_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let has = |wanted: &String| labels.split(',').any(|label| label == wanted);
            wanted
                .iter()
                .all(has)
                .then(|| value.trim().parse::<f64>().ok())
                .flatten()
        });
        // Packet counts are far below where a double would round them.
        samples.sum::<f64>() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_what_has_the_labels() {
        let metrics = Metrics(
            "a{zone=\"cameras\",rule=\"x\"} 3\na{rule=\"x\",zone=\"cameras\"} 4\n\
             a{zone=\"cameras\",rule=\"y\"} 5\nab{zone=\"cameras\"} 6\n"
                .to_owned(),
        );
        assert_eq!(metrics.sum("a", &[("rule", "x")]), 7);
        assert_eq!(metrics.sum("a", &[("zone", "cameras")]), 12);
        assert_eq!(metrics.sum("b", &[]), 0);
    }
}
