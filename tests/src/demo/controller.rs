//! kordon in the lab's router: the daemon, its CLI, and its metrics as Prometheus
//! would read them.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::stage::Stage;
use crate::lab::Namespace;

/// Start to enforcing takes well under a second; a machine under load more.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running `kordon run`. Killed on drop unless [`Controller::keep`] was called.
#[derive(Debug)]
pub(crate) struct Controller {
    binary: PathBuf,
    socket: PathBuf,
    child: Option<Child>,
}

impl Controller {
    /// Starts it in the router's namespace and waits until it says that it
    /// enforces. Returns how long that took, too.
    pub(crate) fn start(stage: &Stage, binary: &Path) -> Result<(Self, Duration)> {
        let directory = stage.directory();
        let socket = directory.join("kordon.sock");
        let log_path = directory.join("kordon.log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("cannot write {}", log_path.display()))?;
        let mut command = Command::new(binary);
        command.arg("run");
        command.arg("--config").arg(directory.join("kordon.toml"));
        command.arg("--socket").arg(&socket);
        command.arg("--bpffs").arg(stage.bpffs.path());
        command.arg("--state-dir").arg(directory.join("state"));
        // It holds no directory of the user's busy.
        command.current_dir(directory).stdin(Stdio::null());
        command
            .stdout(log.try_clone().context("cannot copy a file handle")?)
            .stderr(log);
        // Ctrl-C in the terminal is not for it.
        command.process_group(0);
        let start = Instant::now();
        let child = stage.lab.router.spawn(&mut command)?;
        let mut controller = Self {
            binary: binary.to_owned(),
            socket,
            child: Some(child),
        };
        let ready = controller.wait_until_enforcing();
        ready.map_err(|error| anyhow!("{error:#}; its log ends with:\n{}", tail(&log_path)))?;
        Ok((controller, start.elapsed()))
    }

    fn wait_until_enforcing(&mut self) -> Result<()> {
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

    /// Runs a command of the CLI against it and returns its JSON.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(&self.binary)
            .args(arguments)
            .arg("--socket")
            .arg(&self.socket)
            .arg("--json")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let what = format!("`kordon {}`", arguments.join(" "));
        let printed = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("{what} failed: {} {}", error.trim(), printed.trim());
        }
        serde_json::from_str(&printed).with_context(|| format!("{what} did not print JSON"))
    }

    /// The binary that runs.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Its process number; 0 once it is gone.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// SIGKILL; returns when the process is gone.
    pub(crate) fn kill(mut self) -> Result<()> {
        let mut child = self.child.take().context("kordon is not running")?;
        child.kill().context("cannot kill kordon")?;
        child.wait().context("cannot wait for kordon").map(drop)
    }

    /// Leaves it running.
    pub(crate) fn keep(mut self) {
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
pub(crate) struct Metrics(String);

impl Metrics {
    /// Reads them over HTTP on the router's loopback.
    pub(crate) fn scrape(router: &Namespace) -> Result<Self> {
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
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let wanted: Vec<_> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let samples = self.0.lines().filter_map(|line| {
            let (labels, value) = line
                .strip_prefix(name)?
                .strip_prefix('{')?
                .split_once("} ")?;
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
