//! GoBGP's daemon in a namespace: BGP without a kernel to write routes to, and BMP.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::Namespace;

const GOBGPD: &str = "/usr/bin/gobgpd";

/// Whether there is a GoBGP; says that the test is skipped where there is none.
#[must_use]
pub fn is_there() -> bool {
    let there = Path::new(GOBGPD).exists();
    if !there {
        println!("SKIPPED: {GOBGPD} is not installed: `cargo xtask setup` brings it");
    }
    there
}

/// A running gobgpd; it ends when this is dropped.
#[derive(Debug)]
pub struct Gobgp<'a> {
    child: Child,
    namespace: &'a Namespace,
    folder: TempDir,
}

impl<'a> Gobgp<'a> {
    /// Starts one with a configuration, in a namespace.
    ///
    /// # Errors
    /// If it cannot be started, or does not take its configuration.
    pub fn start(namespace: &'a Namespace, configuration: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a directory")?;
        let file = folder.path().join("gobgpd.conf");
        fs::write(&file, configuration).context("cannot write gobgpd.conf")?;
        let log = fs::File::create(folder.path().join("gobgpd.log"));
        let log = log.context("cannot write gobgpd.log")?;
        let mut command = Command::new(GOBGPD);
        command.arg("-f").arg(file).stdin(Stdio::null());
        command
            .stdout(log.try_clone().context("cannot copy a file handle")?)
            .stderr(log);
        let child = namespace.spawn(&mut command)?;
        let gobgp = Self {
            child,
            namespace,
            folder,
        };
        let end = Instant::now() + Duration::from_secs(15);
        while gobgp.show(&["neighbor"]).is_err() {
            ensure!(
                Instant::now() < end,
                "gobgpd does not answer: {}",
                gobgp.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        Ok(gobgp)
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("gobgpd.log")).unwrap_or_default()
    }

    /// What its client prints as JSON.
    ///
    /// # Errors
    /// If it fails, or prints something else.
    pub fn show(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = Command::new("gobgp");
        command.args(arguments).arg("--json");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = self.namespace.spawn(command.stderr(Stdio::piped()))?;
        let output = child.wait_with_output().context("cannot run gobgp")?;
        ensure!(
            output.status.success(),
            "gobgp {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).with_context(|| format!("gobgp {arguments:?}"))
    }
}

impl Drop for Gobgp<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
