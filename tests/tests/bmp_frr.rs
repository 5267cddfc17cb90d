//! What the router's FRR has in its table in the end is what is enforced, prefix by prefix,
//! however fast it changes meanwhile.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use kordon::control::{client, protocol::Request};
use kordon_tests::{
    bgp::Peer,
    controller::{Controller, Metrics},
    frr::{self, Frr},
    lab::flow::passes,
    live::{BLOCKED, beside, router_frr, setting, start, until},
    router::Router,
};
use serde_json::Value;

/// Prefixes that change.
const PREFIXES: u32 = 5_000;

fn net(n: u32) -> IpNet {
    let address = Ipv4Addr::from_bits(0x2d00_0000 + (n << 8));
    IpNet::new(address.into(), 24).expect("24 is a length")
}

/// Every prefix of FRR's own table, with its origin.
fn table(frr: &Frr) -> Result<BTreeMap<IpNet, u32>> {
    let dump: Value = serde_json::from_str(&frr.show(&["show bgp ipv4 unicast json"])?)?;
    let routes = dump["routes"].as_object().context("routes of FRR")?;
    let one = |(network, paths): (&String, &Value)| -> Result<(IpNet, u32)> {
        let path = paths[0]["path"].as_str().context("a path")?;
        let origin = path.rsplit(' ').next().context("an origin")?;
        Ok((network.parse()?, origin.parse()?))
    };
    routes.iter().map(one).collect()
}

/// What the daemon says of each prefix that may be there.
fn followed(router: &Router) -> Result<BTreeMap<IpNet, u32>> {
    let socket = router.path("kordon.sock");
    let mut found = BTreeMap::new();
    for n in 0..PREFIXES {
        let query = net(n).addr().to_string();
        let said = client::ask(&socket, &Request::Lookup { query, limit: None })?;
        let live = &said["live"];
        if live["prefix"].is_null() {
            continue;
        }
        ensure!(live["waiting"].is_null(), "{live}");
        ensure!(live["prefix"] == net(n).to_string(), "{live}");
        let [origin] = live["origins"].as_array().context("origins")?.as_slice() else {
            anyhow::bail!("not one origin: {live}");
        };
        // What is said to be live is what the table says, too.
        ensure!(said["origins"] == live["origins"], "{said}");
        let origin = u32::try_from(origin.as_u64().context("a number")?)?;
        found.insert(net(n), origin);
    }
    Ok(found)
}

/// A neighbor's UPDATEs, through the router's FRR and BMP, for `KORDON_STORM_SECONDS`
/// seconds, while cameras send; `KORDON_STORM_RATE` a second.
#[test]
fn a_storm_through_frr() -> Result<()> {
    if !frr::is_there() {
        return Ok(());
    }
    let Some((router, controller)) = start("frrstorm", "hold_time = \"1s\"")? else {
        return Ok(());
    };
    let neighbor = beside(&router)?;
    let frr = router_frr(&router, &controller)?;
    let addresses = [2, 1].map(|last| Ipv4Addr::new(172, 31, 0, last));
    let mut peer = Peer::connect(&neighbor, addresses[0], 64601, addresses[1])?;
    let outcome = storm(&router, &mut peer)?;

    // FRR has taken all of it when its table is what was said last.
    let begin = Instant::now();
    until_patient("FRR has what was said", || Ok(table(&frr)? == outcome.last))?;
    let behind = begin.elapsed();
    let begin = Instant::now();
    let dump = table(&frr)?;
    until_patient("the daemon has it", || {
        Ok(followed(&router).is_ok_and(|followed| followed == dump))
    })?;
    // And the kernel, by what becomes of packets.
    let everywhere: Vec<IpAddr> = (0..PREFIXES).map(|n| net(n).addr()).collect();
    let expected: Vec<bool> = (0..PREFIXES)
        .map(|n| dump.get(&net(n)) != Some(&BLOCKED))
        .collect();
    until("the kernel has it", || {
        Ok(passes(&router.wire, &everywhere)? == expected)
    })?;
    let blocked = expected.iter().filter(|passes| !**passes).count();
    println!(
        "{} UPDATEs in {:?}, {:.0} a second; FRR had all {behind:?} later, and the kernel \
         {:?} after that (hold time 1 s): {} prefixes in FRR, {blocked} of them dropped, all \
         {PREFIXES} as FRR says; {} of BMP",
        outcome.sent,
        outcome.took,
        f64::from(outcome.sent) / outcome.took.as_secs_f64(),
        begin.elapsed(),
        dump.len(),
        updates_heard(&router)?,
    );
    healthy(&router, &controller)
}

/// As [`until`], for FRR on a busy machine.
fn until_patient(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds()? {
        ensure!(Instant::now() < end, "still not: {what}");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

struct Outcome {
    sent: u32,
    took: Duration,
    /// Who has what was announced last and not withdrawn.
    last: BTreeMap<IpNet, u32>,
}

fn storm(router: &Router, peer: &mut Peer) -> Result<Outcome> {
    let seconds = setting("KORDON_STORM_SECONDS", 3);
    let rate = setting("KORDON_STORM_RATE", 10_000);
    let still: [IpAddr; 2] = ["198.51.100.9".parse()?, "203.0.113.9".parse()?];
    let mut random = fastrand::Rng::with_seed(7);
    let mut last = BTreeMap::new();
    let begin = Instant::now();
    let mut sent = 0;
    for round in 1..=seconds * 100 {
        let mut bytes = Vec::new();
        for _ in 0..rate / 100 {
            let prefix = net(random.u32(..PREFIXES));
            let origin = [None, Some(BLOCKED), Some(65540), Some(65541)][random.usize(..4)];
            match origin {
                Some(origin) => {
                    bytes.extend(peer.announce(prefix, &[64601, origin]));
                    last.insert(prefix, origin);
                }
                None => {
                    bytes.extend(peer.withdraw(prefix));
                    last.remove(&prefix);
                }
            }
            sent += 1;
        }
        peer.send(&bytes)?;
        if round % 20 == 0 {
            let passed = passes(&router.wire, &still)?;
            ensure!(passed == [false, true], "{passed:?} while it changes");
        }
        let due = Duration::from_millis(10) * round;
        thread::sleep(due.saturating_sub(begin.elapsed()));
    }
    Ok(Outcome {
        sent,
        took: begin.elapsed(),
        last,
    })
}

fn updates_heard(router: &Router) -> Result<String> {
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    let line = metrics
        .0
        .lines()
        .find(|line| line.starts_with("kordon_bmp_updates_total"));
    Ok(line.context("updates are counted")?.to_owned())
}

fn healthy(router: &Router, controller: &Controller) -> Result<()> {
    let status = controller.cli(&["status"])?;
    ensure!(status["enforcing"] == true, "{status}");
    ensure!(status["bgp"]["behind"] == false, "{status}");
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    ensure!(metrics.0.contains("\nkordon_bmp_apply_failures_total 0\n"));
    Ok(())
}
