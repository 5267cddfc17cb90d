//! What every kernel must do: take all programs, attach them, and judge as others do.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use kordon::compile::table::Tier;
use kordon_ebpf::layout::{mode, trace};
use serde_json::Value;

use super::{DATABASES, capture::FRAMES, prepare::replay};
use crate::{budget::cost, generate::build, hostile};

/// What became of a check.
pub(super) enum Said {
    /// It was done; what was seen.
    Done(String),
    /// It could not be done, and need not be.
    Skipped(String),
}

/// Takes a check's name and the check.
pub(super) type Report = dyn Fn(&str, &mut dyn FnMut() -> Result<Said>);

const KORDON: &str = "/kordon";
const DATA: &str = "/data";

/// Kernels count differently: what this machine's may count is in `tests/budget.rs`. Most
/// was counted by 6.1 of programs with a log, 495,363 instructions; the verifier gives up at a
/// million.
const MOST_VERIFIED: u32 = 560_000;

/// Emulated processors are slow.
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs all checks.
pub(super) fn run(report: &Report) {
    for tier in Tier::ALL {
        for (name, mode, trace) in [
            ("live", mode::LIVE, trace::OFF),
            ("live with a log", mode::LIVE, trace::ON),
            ("probe", mode::PROBE, trace::OFF),
        ] {
            report(&format!("{} program, {name}", tier.as_str()), &mut || {
                loads(tier, mode, trace)
            });
        }
    }
    for name in DATABASES {
        report(&format!("replay, {name} database"), &mut || replays(name));
    }
    for (mode, log) in [("native", false), ("generic", true)] {
        let with = if log { " with a log" } else { "" };
        report(&format!("daemon, {mode}{with}"), &mut || {
            enforces(mode, log)
        });
    }
}

fn loads(tier: Tier, mode: u32, trace: u32) -> Result<Said> {
    let cost = cost(tier, mode, trace)?;
    ensure!(
        cost.verified <= MOST_VERIFIED,
        "{} instructions verified, {MOST_VERIFIED} planned",
        cost.verified
    );
    Ok(Said::Done(format!(
        "{} instructions verified",
        cost.verified
    )))
}

/// The answers are those that another kernel gave, byte for byte.
fn replays(name: &str) -> Result<Said> {
    let expected = Path::new(DATA).join(format!("{name}.expected"));
    if !expected.exists() {
        return Ok(Said::Skipped(
            "no table of the whole Internet; set KORDON_TEST_DATA".to_owned(),
        ));
    }
    let expected = fs::read(expected)?;
    let output = replay(Path::new(KORDON), Path::new(DATA), name)
        .output()
        .context("cannot start kordon")?;
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    if output.stdout != expected {
        let [here, there] = [&output.stdout, &expected].map(|said| String::from_utf8_lossy(said));
        let mut pairs = here.lines().zip(there.lines());
        let differs = pairs.find(|(here, there)| here != there);
        bail!(
            "it says {} lines, the host {}; first difference: {differs:?}",
            here.lines().count(),
            there.lines().count()
        );
    }
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    ensure!(lines == FRAMES, "{lines} lines for {FRAMES} frames");
    Ok(Said::Done(format!("{lines} frames as on the host")))
}

/// A daemon attaches, enforces, drops what it is to drop and counts it, and goes.
fn enforces(mode: &str, log: bool) -> Result<Said> {
    let place = Path::new("/tmp").join(mode);
    fs::create_dir_all(&place)?;
    let (device, peer) = (format!("{mode}0"), format!("{mode}1"));
    let sender = super::link::pair(&device, &peer)?;
    fs::write(place.join("policy.toml"), hostile::POLICY)?;
    fs::write(
        place.join("kordon.toml"),
        format!(
            "policy = \"policy.toml\"\nbpffs = \"/sys/fs/bpf/{mode}\"\nstate_dir = \"state\"\n\
             [[interface]]\nname = \"trunk\"\ndevice = \"{device}\"\nmode = \"{mode}\"\n\
             [asndb]\nsources = [\"{DATA}/small.db\"]\n\
             [metrics]\nlisten = \"off\"\n[control]\nsocket = \"kordon.sock\"\n"
        ),
    )?;
    let mut daemon = Daemon::start(&place, log)?;
    let status = daemon.until(|status| status["enforcing"] == Value::Bool(true))?;
    let attached = &status["interfaces"][0]["mode"];
    ensure!(attached == mode, "it is attached in mode {attached}");
    let guard = status["interfaces"][0]["guard"].as_str();
    let guard = guard.context("it has no guard")?.to_owned();
    let blocked = "198.51.100.9".parse()?;
    let packet = build::ipv4(
        "10.20.0.5".parse()?,
        blocked,
        17,
        &build::udp(9, 9, b"data"),
    );
    const SENT: u64 = 10;
    for _ in 0..SENT {
        sender.send(&build::ip_frame(&[(0x8100, 20)], &packet))?;
    }
    let dropped = |status: &Value| {
        let mut zones = status["zones"].as_array().into_iter().flatten();
        let cameras = zones.find(|zone| zone["name"] == "cameras");
        cameras.and_then(|zone| zone["packets"]["drop"].as_u64()) == Some(SENT)
    };
    daemon.until(dropped)?;
    daemon.detach()?;
    Ok(Said::Done(format!(
        "attached, guard by {guard}, {SENT} of {SENT} dropped"
    )))
}

/// `kordon run`, killed with the value.
struct Daemon<'a> {
    place: &'a Path,
    child: Child,
}

impl<'a> Daemon<'a> {
    fn start(place: &'a Path, log: bool) -> Result<Self> {
        let output = File::create(place.join("log"))?;
        let mut command = Command::new(KORDON);
        command.arg("run").arg("--config");
        command.arg(place.join("kordon.toml"));
        if log {
            command.arg("--debug-log");
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start kordon")?;
        Ok(Self { place, child })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(KORDON);
        command.args(arguments).arg("--json").arg("--config");
        command.arg(self.place.join("kordon.toml"));
        command
    }

    fn until(&mut self, holds: impl Fn(&Value) -> bool) -> Result<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.command(&["status"]).output()?;
            let ended = self.child.try_wait()?;
            match serde_json::from_slice(&output.stdout) {
                Ok(status) if holds(&status) => return Ok(status),
                said if ended.is_some() || Instant::now() > end => bail!(
                    "not after {PATIENCE:?}, or it ended ({ended:?}): status {said:?}\nlog:\n{}",
                    fs::read_to_string(self.place.join("log"))?
                ),
                _ => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn detach(&self) -> Result<()> {
        let output = self.command(&["detach", "--yes"]).output()?;
        ensure!(
            output.status.success(),
            "`kordon detach`: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
