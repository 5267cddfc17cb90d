//! FRR's bgpd in namespaces: BGP without a kernel to write routes to, and BMP.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::lab::Namespace;

const BGPD: &str = "/usr/lib/frr/bgpd";

/// Whether there is an FRR; says that the test is skipped where there is none.
#[must_use]
pub fn is_there() -> bool {
    let there = Path::new(BGPD).exists();
    if !there {
        println!("SKIPPED: {BGPD} is not installed: `cargo xtask setup` brings it");
    }
    there
}

/// A running bgpd; it ends when this is dropped.
#[derive(Debug)]
pub struct Frr {
    child: Child,
    folder: TempDir,
}

impl Frr {
    /// Starts one with a configuration, in a namespace.
    ///
    /// # Errors
    /// If it cannot be started, or does not take its configuration.
    pub fn start(namespace: &Namespace, configuration: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a directory")?;
        // It gives up its rights.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))
            .context("cannot open the directory for bgpd")?;
        let path = |name: &str| folder.path().join(name);
        fs::write(path("bgpd.conf"), configuration).context("cannot write bgpd.conf")?;
        let mut command = Command::new(BGPD);
        command.arg("-f").arg(path("bgpd.conf"));
        command.arg("-i").arg(path("bgpd.pid"));
        command.arg("--vty_socket").arg(folder.path());
        command
            .arg("--log")
            .arg(format!("file:{}", path("bgpd.log").display()));
        command.args(["-Z", "-u", "frr", "-g", "frr", "-M", "bmp", "-P", "0"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = namespace.spawn(&mut command)?;
        let frr = Self { child, folder };
        let end = Instant::now() + Duration::from_secs(15);
        while frr.show(&["show version"]).is_err() {
            ensure!(Instant::now() < end, "bgpd does not answer: {}", frr.log());
            thread::sleep(Duration::from_millis(50));
        }
        Ok(frr)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("bgpd.log")).unwrap_or_default()
    }

    /// Runs commands of its shell and returns what they printed.
    ///
    /// # Errors
    /// If one is not understood.
    pub fn show(&self, commands: &[&str]) -> Result<String> {
        let mut shell = Command::new("vtysh");
        shell.arg("--vty_socket").arg(self.folder.path());
        shell.args(["-d", "bgpd"]);
        for command in commands {
            shell.args(["-c", command]);
        }
        let output = shell.output().context("cannot start vtysh")?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success() && !printed.contains("% Unknown command"),
            "vtysh {commands:?}: {printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(printed)
    }
}

impl Drop for Frr {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
