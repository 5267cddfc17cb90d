//! `kordon run` in the guest, over the small database, and what it is shown and says.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{bmp, generate::build};

pub(super) const KORDON: &str = "/kordon";
pub(super) const DATA: &str = "/data";
/// How many frames are sent where each must be dropped.
pub(super) const SENT: u64 = 10;

/// Emulated processors are slow.
const PATIENCE: Duration = Duration::from_secs(240);

/// Where cameras may not send to.
pub(super) const BLOCKED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// Where they may.
pub(super) const ALLOWED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// A frame of a camera.
pub(super) fn frame(to: Ipv4Addr) -> Vec<u8> {
    let camera = Ipv4Addr::new(10, 20, 0, 5);
    let packet = build::ipv4(camera, to, 17, &build::udp(9, 9, b"data"));
    build::ip_frame(&[(0x8100, 20)], &packet)
}

/// How many packets of cameras were dropped so far.
pub(super) fn dropped(status: &Value) -> u64 {
    counted(status, "drop")
}

/// What became of how many packets of cameras.
pub(super) fn counted(status: &Value, action: &str) -> u64 {
    let mut zones = status["zones"].as_array().into_iter().flatten();
    let cameras = zones.find(|zone| zone["name"] == "cameras");
    cameras
        .and_then(|zone| zone["packets"][action].as_u64())
        .unwrap_or(0)
}

/// `kordon run`, killed with the value.
pub(super) struct Daemon<'a> {
    place: &'a Path,
    child: Child,
}

impl<'a> Daemon<'a> {
    /// `interfaces`: what is in the `[[interface]]` of each.
    pub(super) fn start(
        place: &'a Path,
        policy: &str,
        interfaces: &[String],
        log: bool,
    ) -> Result<Self> {
        fs::create_dir_all(place)?;
        fs::write(place.join("policy.toml"), policy)?;
        let name = place.file_name().context("a folder has a name")?.display();
        let mut config = format!(
            "policy = \"policy.toml\"\nbpffs = \"/sys/fs/bpf/{name}\"\nstate_dir = \"state\"\n\
             [asndb]\nsources = [\"{DATA}/small.db\"]\n\
             [bmp]\nlisten = \"127.0.0.1:{}\"\nusers = [\"0\"]\n\
             [metrics]\nlisten = \"off\"\n[control]\nsocket = \"kordon.sock\"\n\
             [evidence]\ninterval = \"1s\"\n",
            bmp::PORT
        );
        for interface in interfaces {
            config += &format!("[[interface]]\n{interface}");
        }
        fs::write(place.join("kordon.toml"), config)?;
        let child = spawn(place, log)?;
        Ok(Self { place, child })
    }

    /// As `kill -9`.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts another one in the place of one that is no more.
    pub(super) fn again(&mut self) -> Result<()> {
        self.child = spawn(self.place, false)?;
        Ok(())
    }

    /// What is said now, be there a daemon or not.
    pub(super) fn status(&self) -> Result<Value> {
        let output = self.command(&["status"]).output()?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            let errors = String::from_utf8_lossy(&output.stderr);
            format!("`kordon status` says nothing, but: {errors}")
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(KORDON);
        command.args(arguments).arg("--json").arg("--config");
        command.arg(self.place.join("kordon.toml"));
        command
    }

    /// Asks for the status until it `holds`.
    pub(super) fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait()?;
            match self.status() {
                Ok(status) if holds(&status) => return Ok(status),
                said if ended.is_some() || Instant::now() > end => bail!(
                    "not after {PATIENCE:?}: {what}, or it ended ({ended:?}): status {said:?}\n\
                     log:\n{}",
                    self.log()?
                ),
                _ => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// All that it has logged.
    pub(super) fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.place.join("log"))?)
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Result<()> {
        self.answer(arguments, 0).map(drop)
    }

    /// What a command prints; it must end with `code`.
    pub(super) fn answer(&self, arguments: &[&str], code: i32) -> Result<String> {
        let output = self.command(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.code() == Some(code),
            "`kordon {}` ended with {}: {said}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said.into_owned())
    }
}

fn spawn(place: &Path, log: bool) -> Result<Child> {
    let mut output = File::options();
    let output = output.create(true).append(true).open(place.join("log"))?;
    let mut command = Command::new(KORDON);
    command.arg("run").arg("--config");
    command.arg(place.join("kordon.toml"));
    if log {
        command.arg("--debug-log");
    }
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("cannot start kordon")
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
