//! What is forwarded between a boot and the moment at which kordon enforces: nothing that is
//! policed, and afterwards what the policy lets pass. Whole boots are in `tests/src/vm/power.rs`.

use std::{
    net::IpAddr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    lab::{frame, programs::Arrivals},
    router::{Router, policy},
};
use serde_json::Value;

const BLOCKED: &str = "198.51.100.9";
const ALLOWED: &str = "203.0.113.9";
const SENT: u64 = 20;

/// A router that forwards from `in` to `wan`, whose other end is `net`.
fn forwarding(name: &str, binary: std::path::PathBuf) -> Result<(Router, Arrivals)> {
    let router = Router::new(name, binary)?;
    let untagged = policy("64500").replace("vlans = [20]", "vlans = [\"untagged\"]");
    router.write("policy.toml", untagged)?;
    let namespace = &router.wire.namespace;
    namespace.ip("link set in address 04:04:04:04:04:04\n\
                  address add 10.20.0.1/16 dev in\n\
                  link add wan type veth peer name net\n\
                  link set net addrgenmode none\n\
                  link set net up\nlink set wan up\n\
                  address add 10.9.0.1/24 dev wan\n\
                  neighbour add 10.9.0.2 lladdr 02:00:00:00:00:09 dev wan nud permanent\n\
                  route add default via 10.9.0.2 dev wan")?;
    namespace.sysctl(&[("ipv4/ip_forward", "1")])?;
    let mut arrivals = Arrivals::new()?;
    arrivals.watch(namespace, "net")?;
    Ok((router, arrivals))
}

/// How many frames of cameras reach the next router: blocked, allowed.
fn arrive(router: &Router, arrivals: &Arrivals) -> Result<(u64, u64)> {
    let camera: IpAddr = "10.20.0.5".parse()?;
    let both: [IpAddr; 2] = [BLOCKED.parse()?, ALLOWED.parse()?];
    let before = [arrivals.to(both[0])?.packets, arrivals.to(both[1])?.packets];
    for to in both {
        let packet = frame::udp(camera, to, (4000, 4000), b"x");
        let frame = frame::Ethernet::new([2; 6], [4; 6]).packet(&packet);
        router.wire.send(&frame, SENT as usize)?;
    }
    let after = [
        arrivals.settled(both[0])?.packets,
        arrivals.settled(both[1])?.packets,
    ];
    Ok((after[0] - before[0], after[1] - before[1]))
}

fn nft(router: &Router, arguments: &[&str]) -> Result<String> {
    let namespace = &router.wire.namespace;
    namespace.output(Command::new("nft").args(arguments))
}

/// As the unit does.
fn boot(router: &Router) -> Result<String> {
    let namespace = &router.wire.namespace;
    namespace.output(&mut router.command("boot-guard", &[]))?;
    for file in ["boot-guard.nft", "boot-guard-bridge.nft"] {
        let path = router.path("state").join(file);
        nft(router, &["--file", path.to_str().context("a path")?])?;
    }
    nft(router, &["list", "tables"])
}

fn until(controller: &Controller, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let status = controller.cli(&["status"])?;
        if holds(&status) {
            return Ok(status);
        }
        ensure!(Instant::now() < end, "not {what}: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nothing_is_forwarded_before_it_is_judged() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let (router, arrivals) = forwarding("boot", binary)?;
    let all = arrive(&router, &arrivals)?;
    ensure!(all == (SENT, SENT), "without kordon {all:?} arrive");
    std::fs::create_dir(router.path("state"))?;
    let tables = boot(&router)?;
    ensure!(tables.contains("table inet kordon-boot-in"), "{tables}");
    let held = arrive(&router, &arrivals)?;
    ensure!(held == (0, 0), "{held:?} are forwarded in spite of it");

    let (controller, took) = Controller::start(&router.place())?;
    until(&controller, "lifted", |status| {
        status["interfaces"][0]["held"] == false
    })?;
    println!("enforcing after {took:?}");
    let tables = nft(&router, &["list", "tables"])?;
    ensure!(!tables.contains("kordon-boot"), "left: {tables}");
    let judged = arrive(&router, &arrivals)?;
    ensure!(judged == (0, SENT), "{judged:?} arrive");

    // A daemon that comes later finds it, and lifts it again; it is not written down twice.
    controller.kill()?;
    let before = boot(&router)?;
    ensure!(boot(&router)? == before, "each table is there once");
    let (controller, _) = Controller::start(&router.place())?;
    until(&controller, "lifted", |status| {
        status["interfaces"][0]["held"] == false
    })?;
    let judged = arrive(&router, &arrivals)?;
    ensure!(judged == (0, SENT), "{judged:?} arrive");
    Ok(())
}

#[test]
fn who_does_not_enforce_is_held_until_somebody_says_otherwise() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let (router, arrivals) = forwarding("held", binary)?;
    let text = std::fs::read_to_string(router.path("kordon.toml"))?;
    let more = "[[interface]]\nname = \"gone\"\ndevice = \"gone0\"\n";
    router.write("kordon.toml", format!("{text}{more}"))?;
    std::fs::create_dir(router.path("state"))?;
    boot(&router)?;
    let controller = Controller::spawn(&router.place())?;
    let end = Instant::now() + Duration::from_secs(15);
    while controller.cli(&["status"]).is_err() {
        ensure!(Instant::now() < end, "it does not answer");
        std::thread::sleep(Duration::from_millis(100));
    }
    let status = until(&controller, "one held", |status| {
        let held = |index: usize| status["interfaces"][index]["held"].as_bool();
        (held(0), held(1)) == (Some(false), Some(true))
    })?;
    let notices = status["notices"].to_string();
    ensure!(
        notices
            .contains("the boot guard holds what comes from `gone0` until kordon enforces there"),
        "{notices}"
    );
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    for (name, held) in [("trunk", 0), ("gone", 1)] {
        let found = metrics.sum("kordon_boot_guard_holding", &[("interface", name)]);
        ensure!(found == held, "{name}: {found}");
    }
    let judged = arrive(&router, &arrivals)?;
    ensure!(judged == (0, SENT), "{judged:?} arrive");

    let namespace = &router.wire.namespace;
    let mut release = Command::new(router.place().binary);
    let released = namespace.output(release.args(["release-guard", "--json"]))?;
    ensure!(released.trim() == r#"{"released":["gone0"]}"#, "{released}");
    until(&controller, "released", |status| {
        status["interfaces"][1]["held"] == false
    })?;

    // Nothing is held where that is not wanted.
    let open = std::fs::read_to_string(router.path("kordon.toml"))?;
    router.write("kordon.toml", format!("fail = \"open\"\n{open}"))?;
    let tables = boot(&router)?;
    ensure!(!tables.contains("kordon-boot"), "{tables}");
    Ok(())
}
