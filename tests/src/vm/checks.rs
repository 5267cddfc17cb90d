//! What every kernel must do: take all programs, attach them, and judge as others do.

use std::{fs, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use kordon::{compile::table::Tier, datapath::programs};
use kordon_ebpf::layout::{mode, trace};
use serde_json::Value;

use super::{
    DATABASES,
    capture::FRAMES,
    daemon::{ALLOWED, BLOCKED, DATA, Daemon, KORDON, SENT, counted, dropped, frame},
    prepare::replay,
};
use crate::{bmp, budget::cost, hostile};

/// What became of a check.
pub(super) enum Said {
    /// It was done; what was seen.
    Done(String),
    /// It could not be done, and need not be.
    Skipped(String),
}

/// Takes a check's name and the check.
pub(super) type Report = dyn Fn(&str, &mut dyn FnMut() -> Result<Said>);

/// Kernels count differently: what this machine's may count is in `tests/budget.rs`. Most
/// was counted by 6.1 of programs with a log, 576,226 instructions; the verifier gives up at a
/// million.
const MOST_VERIFIED: u32 = 600_000;

/// Runs all checks that need no hardware.
pub(super) fn run(report: &Report) {
    for tier in Tier::ALL {
        for (name, mode, trace) in [
            ("live", mode::LIVE, trace::OFF),
            ("live with a log", mode::LIVE, trace::ON),
            ("probe", mode::PROBE, trace::OFF),
        ] {
            report(&format!("{} programs, {name}", tier.as_str()), &mut || {
                loads(tier, mode, trace)
            });
        }
    }
    for name in DATABASES {
        report(&format!("replay, {name} database"), &mut || replays(name));
    }
    for (mode, log) in [("native", false), ("generic", true), ("tc", false)] {
        let with = if log { " with a log" } else { "" };
        report(&format!("daemon, {mode}{with}"), &mut || {
            enforces(mode, log)
        });
    }
}

fn loads(tier: Tier, mode: u32, trace: u32) -> Result<Said> {
    let mut verified = Vec::new();
    let guard = [programs::GUARD_FAST, programs::GUARD_SLOW];
    let guard = guard.into_iter().filter(|_| mode == mode::LIVE);
    for name in [programs::FAST, programs::SLOW].into_iter().chain(guard) {
        let cost = cost(tier, name, mode, trace)?.verified;
        ensure!(
            cost <= MOST_VERIFIED,
            "{cost} instructions verified of `{name}`, {MOST_VERIFIED} planned"
        );
        verified.push(cost.to_string());
    }
    let verified = verified.join(", ");
    Ok(Said::Done(format!("{verified} instructions verified")))
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

/// A daemon attaches, enforces, drops what it is to drop and counts it, follows commands and
/// live BGP, and goes.
fn enforces(mode: &str, log: bool) -> Result<Said> {
    let place = Path::new("/tmp").join(mode);
    let (device, peer) = (format!("{mode}0"), format!("{mode}1"));
    let sender = super::link::pair(&device, &peer)?;
    let interface = format!("name = \"trunk\"\ndevice = \"{device}\"\nmode = \"{mode}\"\n");
    let mut daemon = Daemon::start(&place, hostile::POLICY, &[interface], log)?;
    let status = daemon.until("it enforces", |status| {
        status["enforcing"] == Value::Bool(true)
    })?;
    let attached = &status["interfaces"][0]["mode"];
    ensure!(attached == mode, "it is attached in mode {attached}");
    let guard = status["interfaces"][0]["guard"].as_str();
    let guard = guard.context("it has no guard")?.to_owned();
    let (mut drops, mut passes) = (0, 0);
    let mut judged = |daemon: &mut Daemon<'_>, to: Ipv4Addr, drop: bool| {
        for _ in 0..SENT {
            sender.send(&frame(to))?;
        }
        *(if drop { &mut drops } else { &mut passes }) += SENT;
        let expected = (drops, passes);
        daemon.until(&format!("(drops, passes) are {expected:?}"), |status| {
            (dropped(status), counted(status, "pass")) == expected
        })
    };
    judged(&mut daemon, BLOCKED, true)?;
    judged(&mut daemon, ALLOWED, false)?;
    // Each is a generation of its own: planes go off and on again.
    daemon.run(&["block", "AS64501", "--zone", "cameras", "--note", "vm"])?;
    judged(&mut daemon, ALLOWED, true)?;
    daemon.run(&["unblock", "AS64501", "--zone", "cameras"])?;
    judged(&mut daemon, ALLOWED, false)?;
    // The live table is changed in place.
    let mut router = bmp::Speaker::here()?;
    router.send(&bmp::peer_up(1))?;
    let announced = IpNet::new(ALLOWED.into(), 28)?.trunc();
    router.send(&bmp::announce(1, announced, &[64601, 64500]))?;
    router.send(&bmp::ends(1))?;
    daemon.until("BGP came in place", |status| {
        status["bgp"]["in_place"].as_u64() > Some(0)
    })?;
    judged(&mut daemon, ALLOWED, true)?;
    judged(&mut daemon, Ipv4Addr::new(203, 0, 113, 16), false)?;
    recorded(&daemon, drops, passes)?;
    daemon.run(&["detach", "--yes"])?;
    // Planes that did not come back are only slower, and seen nowhere else.
    let log = daemon.log()?;
    let bad = log.lines().find(|line| line.contains("planes stay off"));
    ensure!(bad.is_none(), "it says {bad:?}");
    Ok(Said::Done(format!(
        "attached, guard by {guard}, {drops} dropped, {passes} passed, all as they should be and recorded"
    )))
}

/// What was counted of cameras is in flows, in the report's books, and in a log that is sound.
fn recorded(daemon: &Daemon<'_>, drops: u64, passes: u64) -> Result<()> {
    let report: Value = serde_json::from_str(&daemon.answer(&["report", "--since", "1h"], 0)?)?;
    let flows = daemon.answer(&["flows", "--since", "1h"], 0)?;
    let flows = flows.lines().map(serde_json::from_str::<Value>);
    let flows = flows.collect::<Result<Vec<_>, _>>()?;
    for (action, sent) in [("drop", drops), ("pass", passes)] {
        let book = &report["books"]["cameras"][action];
        let packets = ["counted", "recorded", "unrecorded"].map(|name| &book[name]["packets"]);
        ensure!(
            packets.map(Value::as_u64) == [Some(sent), Some(sent), Some(0)],
            "{sent} were sent to {action}: {book}"
        );
        let is_it = |flow: &&Value| flow["zone"] == "cameras" && flow["action"] == action;
        let of_flows = flows.iter().filter(is_it);
        let of_flows: u64 = of_flows.filter_map(|flow| flow["packets"].as_u64()).sum();
        ensure!(of_flows == sent, "{sent} were sent to {action}: {flows:?}");
    }
    // Nobody outside was told how long it was.
    daemon.answer(&["report", "--verify"], 4).map(drop)
}
