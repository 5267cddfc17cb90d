//! The real package on a real Debian with systemd: installed, configured, started, upgraded while
//! cameras send, removed, purged. This is what an administrator types, in that order.
//!
//! Here the checks are a service of the guest, not its first process; see
//! `xtask/src/vm/systemd.rs` for what else is there, and [`super::power`] for what happens before:
//! it installs the package, and switches the machine off and on. Each check goes on where the one
//! before ended: of several that fail, look at the first.

use std::{
    cell::RefCell,
    fs,
    net::Ipv4Addr,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{
    checks::{Report, Said},
    daemon::{BLOCKED, SENT, dropped, frame},
    link, power,
};
use crate::lab::{listener::Listener, raw::RawSender};

/// Where packages lie.
const PACKAGES: &str = "/packages";
const PINS: &str = "/sys/fs/bpf/kordon";
const DEVICE: &str = "eth1";
const CONFIGURATION: &str = "policy = \"policy.toml\"\n\
    [asndb]\nsources = [\"asn.csv\"]\n\
    [[interface]]\ndevice = \"eth1\"\nname = \"trunk\"\nmode = \"native\"\n";
/// Emulated processors are slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs all of it.
pub(super) fn run(report: &Report) {
    let lab = RefCell::new(None);
    let check = |name: &str, what: &dyn Fn(&mut Lab) -> Result<String>| {
        report(name, &mut || match lab.borrow_mut().as_mut() {
            Some(lab) => what(lab).map(Said::Done),
            None => bail!("there is no lab"),
        });
    };
    report("package, another interface", &mut || {
        let (made, said) = Lab::new()?;
        *lab.borrow_mut() = Some(made);
        Ok(Said::Done(said))
    });
    check("package, enforces", &Lab::enforces);
    check("package, pins removed by somebody", &Lab::pins_again);
    check("package, upgraded under traffic", &|lab| lab.changes_to(2));
    check("package, downgraded under traffic", &|lab| {
        lab.changes_to(1)
    });
    check("package, removed", &Lab::is_removed);
    check("package, purged", &Lab::is_purged);
}

struct Lab {
    camera: RawSender,
    arrivals: Listener,
}

impl Lab {
    fn new() -> Result<(Self, String)> {
        let camera = link::pair(DEVICE, "camera")?;
        let arrivals = Listener::on(DEVICE)?;
        let lab = Self { camera, arrivals };
        let arrived = lab.send()?;
        ensure!(
            arrived == SENT,
            "{arrived} of {SENT} frames arrive without kordon"
        );
        fs::write("/etc/kordon/kordon.toml", CONFIGURATION)?;
        // The trunk of before is not policed any more, and would be a way around. Who makes the
        // network goes first: it may be on its way to bring that up, or to make it.
        power::wait_for_network()?;
        let networkd = ["systemd-networkd.socket", "systemd-networkd.service"];
        command("systemctl", &[&["stop"], &networkd[..]].concat())?;
        command("ip", &["link", "set", "cameras", "down"])?;
        command("systemctl", &["restart", "kordon"]).with_context(log)?;
        let status = until("it enforces", |status| status["enforcing"] == true)?;
        let trunk = &status["interfaces"][0];
        let said = format!(
            "without kordon all arrives; {} and {}",
            trunk["mode"], trunk["guard"]
        );
        Ok((lab, said))
    }

    /// Sends to the blocked network, and returns how many frames the stack got.
    fn send(&self) -> Result<u64> {
        for _ in 0..SENT {
            self.camera.send(&frame(BLOCKED))?;
        }
        thread::sleep(Duration::from_millis(500));
        self.arrived()
    }

    /// Frames to the blocked network that got past all that was to drop them, since the last
    /// time.
    fn arrived(&self) -> Result<u64> {
        let mut count = 0;
        let mut buffer = [0; 256];
        while let Some(frame) = self.arrivals.next(&mut buffer)? {
            count += u64::from(is_to(frame, BLOCKED));
        }
        Ok(count)
    }

    fn enforces(&mut self) -> Result<String> {
        let before = dropped(&status()?);
        let arrived = self.send()?;
        ensure!(arrived == 0, "{arrived} of {SENT} frames arrived");
        until("all is counted", |status| {
            dropped(status) == before + SENT && status["enforcing"] == true
        })?;
        Ok(format!("{SENT} of {SENT} dropped"))
    }

    /// The file system of pins is one that the daemon can write to, whatever is done to it.
    fn pins_again(&mut self) -> Result<String> {
        // The folder itself is busy.
        let _ = command("rm", &["-rf", PINS]);
        ensure!(!Path::new(PINS).join("links").exists(), "pins are there");
        let end = Instant::now() + PATIENCE;
        while !Path::new(PINS).join("links").exists() {
            ensure!(Instant::now() < end, "{PINS} does not come back");
            thread::sleep(Duration::from_millis(100));
        }
        until("it is content", |status| status["enforcing"] == true)?;
        self.enforces()?;
        Ok(format!("{PINS} came back"))
    }

    fn changes_to(&mut self, revision: u32) -> Result<String> {
        let before = (main_process()?, dropped(&status()?));
        let (upgraded, sent) = self.while_sending(|| dpkg(&["--install", &package(revision)?]))?;
        upgraded?;
        let version = command("dpkg-query", &["--show", "kordon"])?;
        let is_there = version.trim().ends_with(&format!("-{revision}"));
        ensure!(is_there, "it is {version}");
        let arrived = self.arrived()?;
        ensure!(arrived == 0, "{arrived} of {sent} frames arrived");
        let status = until("it enforces", |status| status["enforcing"] == true)?;
        ensure!(main_process()? != before.0, "the daemon is the old one");
        let counted = dropped(&status) - before.1;
        ensure!(counted == sent, "{counted} of {sent} frames counted");
        let kept = fs::read_to_string("/etc/kordon/kordon.toml")?;
        ensure!(kept == CONFIGURATION, "the configuration is another");
        Ok(format!("0 of {sent} arrived, each was counted"))
    }

    /// Sends without a break while something is done; and how many frames it were.
    fn while_sending<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<(T, u64)> {
        let ended = AtomicBool::new(false);
        let camera = &self.camera;
        let (done, sent) = thread::scope(|scope| {
            let sender = scope.spawn(|| -> Result<u64> {
                let mut sent = 0;
                while !ended.load(Ordering::Relaxed) {
                    camera.send(&frame(BLOCKED))?;
                    sent += 1;
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(sent)
            });
            let done = work();
            ended.store(true, Ordering::Relaxed);
            (done, sender.join())
        });
        let sent = match sent {
            Ok(sent) => sent?,
            Err(_) => bail!("the sender panicked"),
        };
        thread::sleep(Duration::from_millis(500));
        Ok((done, sent))
    }

    /// The daemon goes, and packets are judged as before.
    fn is_removed(&mut self) -> Result<String> {
        let (removed, sent) = self.while_sending(|| dpkg(&["--remove", "kordon"]))?;
        let said = removed?;
        ensure!(
            said.contains("until the next boot"),
            "it does not say that it goes on: {said}"
        );
        ensure!(!Path::new("/usr/sbin/kordon").exists(), "it is still there");
        let state = ask("systemctl", &["is-active", "kordon"]);
        ensure!(state == "inactive", "the unit is {state}");
        let arrived = self.arrived()? + self.send()?;
        ensure!(arrived == 0, "{arrived} frames arrived");
        Ok(format!("0 of {} arrived", sent + SENT))
    }

    /// Nothing is left, and what was blocked arrives.
    fn is_purged(&mut self) -> Result<String> {
        dpkg(&["--purge", "kordon"])?;
        for path in [
            PINS,
            "/var/lib/kordon",
            "/run/kordon",
            "/usr/sbin/kordon",
            "/usr/lib/systemd/system/kordon.service",
            "/usr/lib/systemd/system/sys-fs-bpf-kordon.mount",
            "/usr/lib/systemd/system/kordon-boot-guard.service",
            "/etc/systemd/system/sysinit.target.wants/kordon-boot-guard.service",
            "/etc/systemd/system/timers.target.wants/kordon-boot-guard-holds.timer",
            "/etc/systemd/system/multi-user.target.wants/kordon.service",
            "/etc/kordon/kordon.toml",
            "/etc/kordon/policy.toml",
        ] {
            let is_there = fs::symlink_metadata(path).is_ok();
            ensure!(!is_there, "{path} is left");
        }
        // Of the administrator, and of no package.
        let _ = fs::remove_dir_all("/etc/kordon");
        for group in ["kordon", "kordon-read"] {
            let left = ask("getent", &["group", group]);
            ensure!(left.is_empty(), "the group is left: {left}");
        }
        let link = command("ip", &["-details", "link", "show", DEVICE])?;
        ensure!(!link.contains("xdp"), "a program is left: {link}");
        let filters = command("tc", &["filter", "show", "dev", DEVICE, "ingress"])?;
        ensure!(filters.trim().is_empty(), "a filter is left: {filters}");
        let pins: Vec<_> = fs::read_dir("/sys/fs/bpf")?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        ensure!(
            !pins
                .iter()
                .any(|name| name.to_string_lossy().contains("kordon")),
            "pins are left: {pins:?}"
        );
        let arrived = self.send()?;
        ensure!(arrived == SENT, "{arrived} of {SENT} frames arrive");
        let queues = command("tc", &["qdisc", "show", "dev", DEVICE])?;
        let rest = match queues.contains("clsact") {
            true => "; an empty clsact is left",
            false => "",
        };
        Ok(format!("nothing is left, {SENT} of {SENT} arrive{rest}"))
    }
}

/// Whether a frame has an IPv4 packet to an address; the kernel may have put its tag aside.
fn is_to(frame: &[u8], address: Ipv4Addr) -> bool {
    [14, 18].iter().any(|start| {
        let to = frame.get(start + 16..start + 20);
        to == Some(&address.octets())
    })
}

pub(super) fn package(revision: u32) -> Result<String> {
    let end = format!("-{revision}_");
    for entry in fs::read_dir(PACKAGES)? {
        let path = entry?.path().display().to_string();
        if path.contains(&end) {
            return Ok(path);
        }
    }
    bail!("there is no revision {revision} in {PACKAGES}")
}

pub(super) fn dpkg(arguments: &[&str]) -> Result<String> {
    command("dpkg", arguments)
}

/// What a program prints on both outputs; it must succeed.
pub(super) fn command(program: &str, arguments: &[&str]) -> Result<String> {
    let output = start(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot start `{program}`"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(
        output.status.success(),
        "`{program} {}` ended with {}: {said}",
        arguments.join(" "),
        output.status
    );
    Ok(said)
}

/// What a program answers, whether it likes it or not.
pub(super) fn ask(program: &str, arguments: &[&str]) -> String {
    let output = start(program).args(arguments).output();
    let said = output.map_or_else(|_| Vec::new(), |output| output.stdout);
    String::from_utf8_lossy(&said).trim().to_owned()
}

fn start(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

pub(super) fn main_process() -> Result<String> {
    let said = command(
        "systemctl",
        &["show", "--property=MainPID", "--value", "kordon"],
    )?;
    Ok(said.trim().to_owned())
}

fn status() -> Result<Value> {
    until("it answers", |_| true)
}

/// What the daemon has logged, and systemd of it.
pub(super) fn log() -> String {
    ask("journalctl", &["--unit=kordon", "--output=cat"])
}

/// Asks for the status until it `holds`.
pub(super) fn until(what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let said = ask("kordon", &["status", "--json"]);
        match serde_json::from_str(&said) {
            Ok(status) if holds(&status) => return Ok(status),
            _ if Instant::now() < end => thread::sleep(Duration::from_millis(200)),
            _ => bail!(
                "not after {PATIENCE:?}: {what}: status {said}\nlog:\n{}",
                log()
            ),
        }
    }
}
