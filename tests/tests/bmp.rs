//! Live BGP, from a router's session to the packets of a camera.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use kordon_tests::{
    bmp::{self, Speaker},
    controller::{Controller, Metrics},
    frr::{self, Frr},
    lab::flow::{passes, until_dropped},
    live::{
        BLOCKED, Times, beside, drops, live, prefix, router_frr, setting, speaker, start, until,
    },
};
use serde_json::Value;

#[test]
fn what_a_router_says_is_enforced() -> Result<()> {
    let Some((router, controller)) = start("bmp", "hold_time = \"3s\"")? else {
        return Ok(());
    };
    let wire = &router.wire;
    let mut speaker = speaker(&wire.namespace, &controller)?;
    let patience = Duration::from_secs(15);

    // What tightens: 192.0.2.0/24 is AS64502's in the files.
    let target: IpAddr = "192.0.2.9".parse()?;
    until_dropped(wire, target, patience, || {
        speaker.send(&bmp::announce(1, prefix("192.0.2.0/24"), &[64601, BLOCKED]))
    })?;
    let said = live(&controller, "192.0.2.9")?;
    ensure!(said["origins"] == serde_json::json!([BLOCKED]), "{said}");
    ensure!(said["peers"] == serde_json::json!(["192.0.2.1"]), "{said}");
    ensure!(
        said["since"].is_string() && said["stale"] == false,
        "{said}"
    );
    let explained = controller.cli(&[
        "explain",
        "--vlan",
        "20",
        "--src",
        "10.20.0.5",
        "--dst",
        "192.0.2.9",
    ])?;
    ensure!(explained["action"] == "drop", "{explained}");
    ensure!(
        explained["why"].to_string().contains("live since"),
        "{explained}"
    );

    // What loosens waits, and is shown.
    speaker.send(&bmp::announce(1, prefix("192.0.2.0/24"), &[64601, 65540]))?;
    until("it waits", || {
        let status = controller.cli(&["status"])?;
        Ok(status["bgp"]["waiting"] == 1)
    })?;
    let status = controller.cli(&["status"])?;
    let wait = &status["bgp"]["waits"][0];
    ensure!(wait["wanted"] == serde_json::json!([65540]), "{wait}");
    ensure!(
        wait["current"] == serde_json::json!([BLOCKED, 65540]),
        "{wait}"
    );
    let said = live(&controller, "192.0.2.9")?;
    ensure!(said["waiting"]["prefix"] == "192.0.2.0/24", "{said}");
    ensure!(drops(&router, target)?, "it passes while it waits");
    let metrics = Metrics::scrape(&wire.namespace)?;
    ensure!(metrics.0.contains("\nkordon_bmp_waiting 1\n"));
    until("the hold time is over", || Ok(!drops(&router, target)?))?;

    // IPv6.
    until_dropped(wire, "2001:db8:600d::9".parse()?, patience, || {
        let part = prefix("2001:db8:600d::/48");
        speaker.send(&bmp::announce(1, part, &[64601, BLOCKED]))
    })?;

    // The session is lost: what was said stays.
    drop(speaker);
    until("the session is gone", || {
        let status = controller.cli(&["status"])?;
        Ok(status["bgp"]["sessions"] == serde_json::json!([]))
    })?;
    ensure!(drops(&router, "2001:db8:600d::9".parse()?)?);
    ensure!(live(&controller, "2001:db8:600d::9")?["origins"][0] == BLOCKED);

    // So it does when the daemon ends, whoever is back first.
    controller.signal(nix::sys::signal::Signal::SIGTERM)?;
    controller.ended()?;
    let (controller, _) = Controller::start(&router.place())?;
    ensure!(drops(&router, "2001:db8:600d::9".parse()?)?);
    ensure!(live(&controller, "2001:db8:600d::9")?["origins"][0] == BLOCKED);
    Ok(())
}

#[test]
fn what_cannot_be_read_ends_the_session_and_nothing_else() -> Result<()> {
    let Some((router, controller)) = start("bmpbad", "")? else {
        return Ok(());
    };
    let namespace = &router.wire.namespace;
    let mut good = speaker(namespace, &controller)?;
    good.send(&bmp::announce(1, prefix("192.0.2.0/24"), &[64601, BLOCKED]))?;
    until("it is live", || drops(&router, "192.0.2.9".parse()?))?;
    let announcement = bmp::announce(1, prefix("203.0.113.0/24"), &[64601, BLOCKED]);
    let mut cut = announcement.clone();
    let length = cut.len() - 3;
    cut.truncate(length);
    cut[1..5].copy_from_slice(&(length as u32).to_be_bytes());
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![3, 0xff, 0xff, 0xff, 0xff, 0],
        vec![3, 0, 0, 0, 0, 0],
        vec![3, 0, 0, 0, 7, 0, 0],
        cut,
    ] {
        let mut bad = Speaker::connect(namespace)?;
        bad.send(&bytes)?;
        ensure!(bad.is_closed()?, "{bytes:?} is taken");
    }
    let metrics = Metrics::scrape(namespace)?;
    let malformed = [("result", "malformed")];
    ensure!(metrics.sum("kordon_bmp_sessions_total", &malformed) == 5);
    ensure!(drops(&router, "192.0.2.9".parse()?)?);
    ensure!(!drops(&router, "203.0.113.9".parse()?)?);
    // The good one goes on.
    good.send(&announcement)?;
    until("it is live", || drops(&router, "203.0.113.9".parse()?))
}

/// How often times are taken.
fn rounds() -> Result<u8> {
    let rounds = setting("KORDON_ROUNDS", 20);
    ensure!(rounds <= 200, "there are 200 prefixes at most");
    Ok(rounds as u8)
}

/// From a message of BMP to the first dropped packet: kordon's own share.
#[test]
fn how_long_an_update_takes() -> Result<()> {
    let Some((router, controller)) = start("bmptime", "")? else {
        return Ok(());
    };
    let mut speaker = speaker(&router.wire.namespace, &controller)?;
    let rounds = rounds()?;
    let mut times = Times::default();
    for n in 0..rounds {
        let to: IpAddr = format!("198.18.{n}.9").parse()?;
        let part = prefix(&format!("198.18.{n}.0/24"));
        let time = until_dropped(&router.wire, to, Duration::from_secs(15), || {
            speaker.send(&bmp::announce(1, part, &[64601, BLOCKED]))
        })?;
        times.0.push(time);
    }
    println!(
        "from a BMP message to the first dropped packet, {rounds} times: median {:?}, worst {:?}",
        times.median(),
        times.worst()
    );
    ensure!(
        times.worst() < Duration::from_secs(1),
        "{:?}",
        times.worst()
    );
    Ok(())
}

/// Ten thousand UPDATEs a second for `KORDON_STORM_SECONDS` seconds, and then what packets say of each
/// prefix; two that nothing changes are asked for all the time.
#[test]
fn a_storm_of_updates() -> Result<()> {
    const PREFIXES: u32 = 20_000;
    const RATE: u32 = 10_000;
    let seconds = setting("KORDON_STORM_SECONDS", 3);
    let Some((router, controller)) = start("bmpstorm", "hold_time = \"1s\"")? else {
        return Ok(());
    };
    let net = |n: u32| {
        let address = std::net::Ipv4Addr::from_bits(0x2d00_0000 + (n << 8));
        IpNet::new(address.into(), 24).expect("24 is a length")
    };
    let mut speaker = speaker(&router.wire.namespace, &controller)?;
    let mut random = fastrand::Rng::with_seed(1);
    // Who has each prefix in the end.
    let mut table: Vec<Option<u32>> = vec![None; PREFIXES as usize];
    let still: [IpAddr; 2] = ["198.51.100.9".parse()?, "203.0.113.9".parse()?];
    let begin = Instant::now();
    let (mut rounds, mut late) = (0_u32, Duration::ZERO);
    while rounds < seconds * 100 {
        let mut bytes = Vec::new();
        for _ in 0..RATE / 100 {
            let n = random.u32(..PREFIXES);
            let origin = [None, Some(BLOCKED), Some(65540), Some(65541)][random.usize(..4)];
            table[n as usize] = origin;
            bytes.extend(match origin {
                Some(origin) => bmp::announce(1, net(n), &[64601, origin]),
                None => bmp::withdraw(1, net(n)),
            });
        }
        speaker.send(&bytes)?;
        rounds += 1;
        if rounds.is_multiple_of(20) {
            let passed = passes(&router.wire, &still)?;
            ensure!(
                passed == [false, true],
                "{passed:?} while the table changes"
            );
        }
        let due = Duration::from_millis(10) * rounds;
        late = late.max(begin.elapsed().saturating_sub(due));
        thread::sleep(due.saturating_sub(begin.elapsed()));
    }
    let took = begin.elapsed();
    let sent = Instant::now();
    let everywhere: Vec<IpAddr> = (0..PREFIXES).map(|n| net(n).addr()).collect();
    let expected: Vec<bool> = table
        .iter()
        .map(|origin| *origin != Some(BLOCKED))
        .collect();
    until("the table is what was said", || {
        Ok(passes(&router.wire, &everywhere)? == expected)
    })?;
    println!(
        "{} UPDATEs in {took:?}, {late:?} late at most; the table was right for all {PREFIXES} \
         prefixes {:?} after the last (hold time 1 s)",
        seconds * RATE,
        sent.elapsed()
    );
    ensure!(
        took < Duration::from_secs(u64::from(seconds) + 3),
        "{took:?}"
    );
    let status = controller.cli(&["status"])?;
    let announced = table.iter().flatten().count();
    ensure!(status["bgp"]["prefixes_v4"] == announced, "{status}");
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    ensure!(metrics.0.contains("\nkordon_bmp_apply_failures_total 0\n"));
    ensure!(
        metrics.sum("kordon_bmp_in_place_total", &[]) >= 100,
        "by new tables"
    );
    Ok(())
}

/// A peer's FRR, the router's FRR, BMP, and the camera's packets.
#[test]
fn from_a_peers_announcement_to_the_first_dropped_packet() -> Result<()> {
    if !frr::is_there() {
        return Ok(());
    }
    let Some((router, controller)) = start("frr", "")? else {
        return Ok(());
    };
    let peer = beside(&router)?;
    let away = Frr::start(
        &peer,
        "router bgp 64601\n bgp router-id 172.31.0.2\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n neighbor 172.31.0.1 remote-as 64496\n \
         neighbor 172.31.0.1 timers connect 1\nexit\n\
         route-map blocked permit 10\n set as-path prepend 64500\nexit\n",
    )?;
    let own = router_frr(&router, &controller)?;
    until("the peers talk", || {
        Ok(own
            .show(&["show bgp summary json"])?
            .contains("\"Established\""))
    })?;
    let announce = |network: &str| {
        let line = format!("network {network} route-map blocked");
        let family = "address-family ipv4 unicast";
        away.show(&["configure terminal", "router bgp 64601", family, &line])?;
        Ok(())
    };
    // The first routes of a peer wait until they are all there.
    announce("198.51.101.0/24")?;
    until("the first route is live", || {
        drops(&router, "198.51.101.9".parse()?)
    })?;
    let rounds = rounds()?;
    let mut times = Times::default();
    for n in 0..rounds {
        let to: IpAddr = format!("198.18.{n}.9").parse()?;
        let time = until_dropped(&router.wire, to, Duration::from_secs(20), || {
            announce(&format!("198.18.{n}.0/24"))
        })?;
        times.0.push(time);
    }
    println!(
        "from the announcement at the peer to the first dropped packet, {rounds} times: median {:?}, \
         worst {:?}",
        times.median(),
        times.worst()
    );
    // What FRR has is what kordon has.
    let table: Value = serde_json::from_str(&own.show(&["show bgp ipv4 unicast json"])?)?;
    let routes = table["routes"].as_object().context("routes of FRR")?;
    ensure!(
        routes.len() == usize::from(rounds) + 1,
        "{} routes",
        routes.len()
    );
    for (network, paths) in routes {
        let path = paths[0]["path"].as_str().context("a path")?;
        let origin: u32 = path.rsplit(' ').next().context("an origin")?.parse()?;
        let address = prefix(network).addr().to_string();
        let said = live(&controller, &address)?;
        ensure!(said["prefix"] == *network, "{network}: {said}");
        ensure!(
            said["origins"] == serde_json::json!([origin]),
            "{network}: {said}"
        );
    }
    ensure!(
        times.worst() < Duration::from_secs(1),
        "{:?}",
        times.worst()
    );
    Ok(())
}
