//! From the package's installation to the next boots of the router: what is forwarded between
//! power-on and the moment at which kordon enforces.
//!
//! The camera is outside of the machine (`xtask/src/vm/cable.rs`): it sends from before the kernel
//! starts, and who counts what arrives at the blocked network is there, too. Here is what the
//! router does meanwhile. Each phase is a boot of the same disk.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{
    checks::{Report, Said},
    daemon::dropped,
    package::{self, ask, command, dpkg, log, main_process, package, until},
};
use crate::hostile;

const PINS: &str = "/sys/fs/bpf/kordon";
const KORDON: &str = "/usr/sbin/kordon";
/// Where the binary is while it is broken.
const ASIDE: &str = "/usr/sbin/kordon.good";
const CONFIG: &str = "/etc/kordon/kordon.toml";
const PROOF: &str = "/run/proof";
/// `lan0` and `cameras`, VLAN 20 on it, are made by what the disk says.
const CONFIGURATION: &str = "policy = \"policy.toml\"\n\
    [asndb]\nsources = [\"asn.csv\"]\n\
    [[interface]]\ndevice = \"lan0\"\nname = \"trunk\"\n\
    [evidence]\ninterval = \"1s\"\ncheckpoint = \"2s\"\n\
    [[evidence.forward]]\nto = \"journald\"\n";
/// Of the unit: `CAP_NET_ADMIN`, `CAP_PERFMON` and `CAP_BPF`, by their bits.
const CAPABILITIES: u64 = 1 << 12 | 1 << 38 | 1 << 39;
/// What the boot guard says on the console is said after a minute.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs the checks of a phase, which has lasted since the kernel started.
pub(super) fn run(report: &Report, phase: &str) {
    let check = |name: &str, what: &dyn Fn() -> Result<String>| {
        report(name, &mut || what().map(Said::Done));
    };
    match phase {
        "install" => {
            check("package, a Debian with systemd", &is_debian);
            check("package, installed", &installs);
            check("package, configured and started", &starts);
            check("package, confined", &is_confined);
            check("package, evidence", &records);
        }
        "power-on" => {
            check("power-on, enforces", &enforces);
            check("power-on, goes on", &|| {
                thread::sleep(Duration::from_secs(linger()?));
                enforces()
            });
            check("power-on, remembers", &remembers);
            check("power-on, next time it is broken", &breaks);
        }
        "broken" => {
            check("broken, holds", &holds);
            check("broken, next time it is mended and may fail open", &mends);
        }
        "open" => {
            check("open, enforces", &enforces);
            package::run(report);
        }
        other => check("boot", &|| bail!("there is no phase `{other}`")),
    }
}

/// Seconds that a boot goes on when all is said and done, as the kernel's command line says.
fn linger() -> Result<u64> {
    let line = fs::read_to_string("/proc/cmdline")?;
    let word = line.split_whitespace().last().unwrap_or_default();
    word.parse()
        .with_context(|| format!("`{word}` of `{line}`"))
}

fn is_debian() -> Result<String> {
    // Modules lie where the kernel's release says, and nobody has listed them yet.
    command("depmod", &["-a"])?;
    let systemd = command("systemctl", &["--version"])?;
    wait_for_network()?;
    thread::sleep(Duration::from_secs(5));
    Ok(systemd.lines().next().unwrap_or_default().to_owned())
}

/// Until the device is there in which the camera's packets arrive.
pub(super) fn wait_for_network() -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !Path::new("/sys/class/net/cameras").exists() {
        ensure!(
            Instant::now() < end,
            "there is no `cameras`: {}",
            ask("ip", &["address"])
        );
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn installs() -> Result<String> {
    let said = dpkg(&["--install", &package(1)?])?;
    ensure!(
        said.contains("not started"),
        "it does not say what is next: {said}"
    );
    let state = ask("systemctl", &["is-active", "kordon"]);
    ensure!(state == "inactive", "the unit is {state}");
    let state = ask("systemctl", &["is-enabled", "kordon"]);
    ensure!(state == "disabled", "the unit is {state}");
    for group in ["kordon", "kordon-read"] {
        command("getent", &["group", group])?;
    }
    ensure!(!Path::new(PINS).exists(), "something is pinned");
    command("kordon", &["check"]).context("the policy that it brings")?;
    Ok("not started, not enabled, groups are there".to_owned())
}

fn starts() -> Result<String> {
    fs::write(CONFIG, CONFIGURATION)?;
    fs::write("/etc/kordon/policy.toml", hostile::POLICY)?;
    fs::write("/etc/kordon/asn.csv", hostile::DATABASE)?;
    let start = Instant::now();
    command("systemctl", &["enable", "--now", "kordon"]).with_context(log)?;
    let took = start.elapsed().as_secs_f64();
    let status = until("it enforces", |status| status["enforcing"] == true)?;
    for unit in ["kordon-boot-guard.service", "kordon-boot-guard-holds.timer"] {
        let state = ask("systemctl", &["is-enabled", unit]);
        ensure!(state == "enabled", "`{unit}` is {state}");
        let state = ask("systemctl", &["is-active", unit]);
        ensure!(
            state == "inactive",
            "`{unit}` is {state} although nothing boots"
        );
    }
    let trunk = &status["interfaces"][0];
    Ok(format!(
        "active after {took:.1} s; {} and {}",
        trunk["mode"], trunk["guard"]
    ))
}

/// The unit is as strict as it says, and nothing was refused because of that.
fn is_confined() -> Result<String> {
    let process = fs::read_to_string(format!("/proc/{}/status", main_process()?))?;
    let field = |name: &str| {
        let line = process.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
            .with_context(|| format!("a process has `{name}`"))
    };
    for name in ["CapEff:", "CapPrm:", "CapBnd:"] {
        let has = u64::from_str_radix(field(name)?, 16)?;
        ensure!(has == CAPABILITIES, "{name} {has:x}");
    }
    ensure!(field("NoNewPrivs:")? == "1", "NoNewPrivileges");
    ensure!(field("Seccomp:")? == "2", "SystemCallFilter");
    for (socket, group) in [("kordon", "kordon"), ("kordon-read", "kordon-read")] {
        let path = format!("/run/kordon/{socket}.sock");
        let said = command("stat", &["--format=%U:%G %a", &path])?;
        ensure!(said.trim() == format!("root:{group} 660"), "{path}: {said}");
    }
    // Without an entry in /etc/group: as a service manager starts a process.
    let reader = ["--reuid=nobody", "--regid=nogroup", "--groups=kordon-read"];
    let reader = [&reader[..], &["kordon", "status", "--json"]].concat();
    let said = command("setpriv", &reader).context("a process of kordon-read")?;
    ensure!(said.contains("\"enforcing\":true"), "{said}");
    let log = command("journalctl", &["--unit=kordon", "--output=cat"])?;
    // What else it may have to say is for other tests.
    let bad = ["denied", "not permitted", "Read-only"];
    if let Some(line) = log
        .lines()
        .find(|line| bad.iter().any(|word| line.contains(word)))
    {
        bail!("its log says: {line}");
    }
    let exposure = ask("systemd-analyze", &["security", "--no-pager", "kordon"]);
    let exposure = exposure.lines().last().unwrap_or_default();
    let exposure = exposure.trim_start_matches(|c: char| !c.is_ascii());
    Ok(format!("three capabilities, {}", exposure.trim()))
}

/// What is dropped is in a log that is sound, in the report's books, and with journald.
fn records() -> Result<String> {
    until("a record is with journald", |_| {
        !journal("KORDON_ACTION=flow").is_empty()
    })?;
    let (counted, recorded) = books()?;
    ensure!(recorded > 0, "{recorded} of {counted} packets are recorded");
    // Each is the record that the log has under that number, and can prove.
    for action in ["start", "flow"] {
        let messages = journal(&format!("KORDON_ACTION={action}"));
        let first = messages.lines().next().unwrap_or_default();
        let message: Value = serde_json::from_str(first).context("a message of journald")?;
        let sequence = message["KORDON_SEQUENCE"].as_str().unwrap_or_default();
        let number: u64 = sequence.parse()?;
        until("it is signed", |status| {
            status["evidence"]["signed"].as_u64() > Some(number)
        })?;
        fs::write(PROOF, command("kordon", &["evidence", "prove", sequence])?)?;
        let key = ["--key", "/var/lib/kordon/evidence/key.pub"];
        let arguments = [&["evidence", "check", PROOF, "--json"][..], &key].concat();
        let checked: Value = serde_json::from_str(&command("kordon", &arguments)?)?;
        let record = message["KORDON_RECORD"].as_str().unwrap_or_default();
        let record: Value = serde_json::from_str(record).context("a record")?;
        ensure!(checked["record"] == record, "{checked} and {message}");
    }
    Ok(format!(
        "{recorded} of {counted} packets dropped are recorded"
    ))
}

/// The power was cut: what was written before is whole, and counted together with what came since.
fn remembers() -> Result<String> {
    let now = dropped(&until("it answers", |_| true)?);
    let (counted, recorded) = books()?;
    ensure!(
        recorded > 0 && counted > now,
        "{recorded} of {counted} packets are recorded, and {now} are of this boot"
    );
    let messages = journal("KORDON_ACTION=start");
    let last = messages.lines().last().unwrap_or_default();
    let last: Value = serde_json::from_str(last).context("a start in this boot")?;
    let record = last["KORDON_RECORD"].as_str().unwrap_or_default();
    let record: Value = serde_json::from_str(record)?;
    ensure!(
        record["kordon"]["before"]["is_this_boot"] == false,
        "the newest start: {record}"
    );
    Ok(format!(
        "{recorded} of {counted} packets dropped are recorded, {now} counted in this boot"
    ))
}

/// Packets of cameras that were counted as dropped, and those of them that are in records; the log
/// is sound.
fn books() -> Result<(u64, u64)> {
    let mut verified = Command::new(KORDON);
    let verified = verified.args(["report", "--verify", "--json"]).output()?;
    let said = String::from_utf8_lossy(&verified.stdout);
    // Nobody outside was told how long it was.
    ensure!(
        verified.status.code() == Some(4),
        "{}: {said}",
        verified.status
    );
    let report = command("kordon", &["report", "--since", "1d", "--json"])?;
    let report: Value = serde_json::from_str(&report)?;
    let book = &report["books"]["cameras"]["drop"];
    let [counted, recorded, unrecorded] = ["counted", "recorded", "unrecorded"]
        .map(|name| book[name]["packets"].as_u64().unwrap_or_default());
    ensure!(counted == recorded + unrecorded, "the books: {book}");
    Ok((counted, recorded))
}

/// Messages of this boot in journald, an object each.
fn journal(of: &str) -> String {
    ask(
        "journalctl",
        &["--boot", "--output=json", "SYSLOG_IDENTIFIER=kordon", of],
    )
}

/// The boot guard has done its work, and is gone where kordon enforces.
fn enforces() -> Result<String> {
    until("it enforces, and nothing is held", |status| {
        status["enforcing"] == true && status["interfaces"][0]["held"] == false
    })?;
    let tables = command("nft", &["list", "tables"])?;
    ensure!(
        !tables.contains("kordon-boot"),
        "something is held: {tables}"
    );
    let uptime = fs::read_to_string("/proc/uptime")?;
    let uptime = uptime.split('.').next().unwrap_or_default();
    let guard = ask(
        "systemctl",
        &["show", "--property=Result", "kordon-boot-guard.service"],
    );
    ensure!(guard == "Result=success", "the boot guard: {guard}");
    Ok(format!("{uptime} s after the kernel started"))
}

/// The next kordon is one that only fails.
fn breaks() -> Result<String> {
    fs::rename(KORDON, ASIDE)?;
    fs::write(
        KORDON,
        "#!/bin/sh\necho 'this kordon is broken' >&2\nexit 1\n",
    )?;
    fs::set_permissions(KORDON, fs::Permissions::from_mode(0o755))?;
    Ok("it only fails".to_owned())
}

/// Nothing is forwarded, and the console says why.
fn holds() -> Result<String> {
    // The network comes up behind it.
    wait_for_network()?;
    held()?;
    let end = Instant::now() + PATIENCE;
    loop {
        let said = command("dmesg", &[])?;
        let line = said.lines().find(|line| line.contains("is not forwarded"));
        if let Some(line) = line {
            ensure!(said.contains("this kordon is broken"), "not why: {said}");
            return Ok(format!("{} packets so far; {line}", held()?));
        }
        ensure!(Instant::now() < end, "the console says nothing: {said}");
        thread::sleep(Duration::from_secs(1));
    }
}

/// How many packets it has held.
fn held() -> Result<u64> {
    let held = command("nft", &["list", "table", "inet", "kordon-boot-lan0"])?;
    ensure!(
        held.contains("\"cameras\""),
        "its name is not known: {held}"
    );
    let counted = held.split("counter packets ").nth(1);
    let counted = counted.and_then(|rest| rest.split(' ').next());
    Ok(counted.context("a counter")?.parse()?)
}

fn mends() -> Result<String> {
    fs::rename(ASIDE, KORDON)?;
    // So that nothing is forwarded in this boot.
    command("ip", &["link", "set", "cameras", "down"])?;
    let released = command("kordon", &["release-guard"])?;
    ensure!(released.contains("lan0"), "{released}");
    let tables = command("nft", &["list", "tables"])?;
    ensure!(
        !tables.contains("kordon-boot"),
        "something is held: {tables}"
    );
    fs::write(CONFIG, format!("fail = \"open\"\n{CONFIGURATION}"))?;
    Ok(released.trim().to_owned())
}
