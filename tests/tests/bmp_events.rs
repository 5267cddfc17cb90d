//! What happens to routes and sessions in the course of time, as packets meet it: who
//! may end a wait, several origins, parts of a prefix, paths that hide their origin, and
//! routers that go away.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Result, ensure};
use kordon_tests::{
    bmp::{self, CONFEDERATION, SEQUENCE, SET},
    controller::{Controller, Metrics, binary},
    live::{BLOCKED, configure, drops, live, prefix, speaker, until},
    router::Router,
    traffic::{self, OTHER, under_traffic},
};
use serde_json::json;

/// 192.0.2.0/24 is AS64502's in the files, who is not named.
const TARGET: &str = "192.0.2.9";

/// A router with RPKI payloads: AS65540 may announce 192.0.2.0/24 and its halves.
fn start(name: &str, bmp: &str) -> Result<Option<(Router, Controller)>> {
    let Some(binary) = binary() else {
        return Ok(None);
    };
    let router = Router::new(name, binary)?;
    router.write(
        "vrps.csv",
        "ASN,IP Prefix,Max Length,Trust Anchor\nAS65540,192.0.2.0/24,25,x\n",
    )?;
    configure(&router, "sources = [\"asn.csv\", \"vrps.csv\"]", bmp)?;
    let (controller, _) = Controller::start(&router.place())?;
    Ok(Some((router, controller)))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address of this file")
}

#[test]
fn what_may_end_a_wait_and_what_begins_one() -> Result<()> {
    let Some((router, controller)) = start("bmprpki", "hold_time = \"1h\"")? else {
        return Ok(());
    };
    let mut speaker = speaker(&router.wire.namespace, &controller)?;
    let blocked = |to: &str| drops(&router, address(to));
    let route = |net: &str, origin: u32| bmp::announce(1, prefix(net), &[64601, origin]);
    let waits = |count: u32| {
        until("so much waits", || {
            Ok(controller.cli(&["status"])?["bgp"]["waiting"] == count)
        })
    };

    speaker.send(&route("192.0.2.0/24", BLOCKED))?;
    until("it is blocked", || blocked(TARGET))?;
    // Somebody whom no payload names waits; whom one names need not.
    speaker.send(&route("192.0.2.0/24", 65541))?;
    waits(1)?;
    ensure!(blocked(TARGET)?, "a hijacker is free at once");
    speaker.send(&route("192.0.2.0/24", 65540))?;
    waits(0)?;
    until("the RPKI frees it", || Ok(!blocked(TARGET)?))?;
    ensure!(live(&controller, TARGET)?["origins"] == json!([65540]));

    // The same for a part of it, and a part that is longer than the payload allows.
    speaker.send(&route("192.0.2.0/24", BLOCKED))?;
    until("it is blocked again", || blocked(TARGET))?;
    speaker.send(&route("192.0.2.128/25", 65540))?;
    until("its half is free", || Ok(!blocked("192.0.2.200")?))?;
    ensure!(blocked(TARGET)?, "the other half is free as well");
    speaker.send(&route("192.0.2.0/26", 65540))?;
    waits(1)?;
    ensure!(blocked(TARGET)?, "a quarter is free at once");
    // A withdrawn part is whose the rest is, at once.
    speaker.send(&bmp::withdraw(1, prefix("192.0.2.128/25")))?;
    until("the half is blocked", || blocked("192.0.2.200"))?;
    speaker.send(&bmp::withdraw(1, prefix("192.0.2.0/26")))?;
    waits(0)?;

    // Several origins: blocked while one of them is, and longer.
    let other = "203.0.113.9";
    speaker.send(&bmp::peer_up(2))?;
    speaker.send(&bmp::ends(2))?;
    speaker.send(&route("203.0.113.0/24", 65541))?;
    speaker.send(&bmp::announce(
        2,
        prefix("203.0.113.0/24"),
        &[64602, BLOCKED],
    ))?;
    until("one of two is blocked", || blocked(other))?;
    ensure!(live(&controller, other)?["origins"] == json!([BLOCKED, 65541]));
    speaker.send(&bmp::withdraw(2, prefix("203.0.113.0/24")))?;
    waits(1)?;
    ensure!(blocked(other)?, "free when the other origin goes");
    // A flap back ends the wait.
    speaker.send(&bmp::announce(
        2,
        prefix("203.0.113.0/24"),
        &[64602, BLOCKED],
    ))?;
    waits(0)?;
    ensure!(blocked(other)?);
    Ok(())
}

/// Paths whose last ASN is not who is behind them.
#[test]
fn a_path_hides_nobody() -> Result<()> {
    let Some((router, controller)) = start("bmppath", "hold_time = \"1s\"")? else {
        return Ok(());
    };
    let mut speaker = speaker(&router.wire.namespace, &controller)?;
    let blocked: &[u32] = &[64601, BLOCKED];
    let paths: [(&str, &[bmp::Segment<'_>], bool); 10] = [
        ("by itself", &[(SEQUENCE, blocked)], true),
        (
            "a private ASN behind",
            &[(SEQUENCE, &[64601, BLOCKED, 65001])],
            true,
        ),
        (
            "private ones of 32 bits",
            &[(SEQUENCE, &[BLOCKED, 4_200_000_001, 4_200_000_002])],
            true,
        ),
        (
            "reserved ones behind",
            &[(SEQUENCE, &[BLOCKED, 65535, 0])],
            true,
        ),
        ("AS_TRANS behind", &[(SEQUENCE, &[BLOCKED, 23456])], true),
        (
            "in a set",
            &[(SEQUENCE, &[64601]), (SET, &[65540, BLOCKED, 65541])],
            true,
        ),
        (
            "before a confederation",
            &[(SEQUENCE, blocked), (CONFEDERATION, &[65001, 65002])],
            true,
        ),
        (
            "behind a confederation",
            &[(CONFEDERATION, &[65001]), (SEQUENCE, blocked)],
            true,
        ),
        (
            "only on the way",
            &[(SEQUENCE, &[64601, BLOCKED, 65540])],
            false,
        ),
        (
            "only in a confederation",
            &[(CONFEDERATION, &[BLOCKED]), (SEQUENCE, &[64601, 65540])],
            false,
        ),
    ];
    for (n, (_, path, _)) in paths.iter().enumerate() {
        let net = prefix(&format!("198.18.{n}.0/24"));
        speaker.send(&bmp::announce_path(1, net, path))?;
    }
    until("the last is there", || {
        Ok(!live(&controller, "198.18.9.1")?["prefix"].is_null())
    })?;
    for (n, (what, _, dropped)) in paths.iter().enumerate() {
        let to = address(&format!("198.18.{n}.1"));
        until(what, || Ok(drops(&router, to)? == *dropped))?;
    }
    Ok(())
}

/// A router goes away, for long, and comes back with a part of what it had: every packet
/// meanwhile gets the verdict that it had before.
#[test]
fn a_lost_session_leaves_no_gap() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("bmpgone", binary)?;
    // What is blocked is so by BGP alone: the files have it as somebody else's.
    router.write(
        "asn.csv",
        "198.51.100.0,198.51.100.255,64777,X\n192.0.2.0,192.0.2.255,64502,Other\n",
    )?;
    let sources = "sources = [\"asn.csv\"]";
    configure(
        &router,
        sources,
        "hold_time = \"1s\"\nstale_after = \"2s\"\n",
    )?;
    let (controller, _) = Controller::start(&router.place())?;
    let mut first = speaker(&router.wire.namespace, &controller)?;
    let route = |net: &str, origin: u32| bmp::announce(1, prefix(net), &[64601, origin]);
    first.send(&route("198.51.100.0/24", BLOCKED))?;
    first.send(&route("203.0.113.0/24", BLOCKED))?;
    until("both are blocked", || {
        Ok(drops(&router, address("198.51.100.9"))? && drops(&router, address("203.0.113.9"))?)
    })?;
    let stale = |state: &str| -> Result<bool> {
        let metrics = Metrics::scrape(&router.wire.namespace)?;
        Ok(metrics.sum("kordon_bmp_peers", &[("state", state)]) == 1)
    };
    under_traffic(&router, || {
        drop(first);
        until("it is gone", || stale("down"))?;
        ensure!(live(&controller, "198.51.100.9")?["stale"] == false);
        until("it is stale", || stale("stale"))?;
        ensure!(live(&controller, "198.51.100.9")?["stale"] == true);
        let status = controller.cli(&["status"])?;
        ensure!(status["bgp"]["peers"][0]["state"] == "stale", "{status}");
        let mut again = speaker_that_sends(&router, &route("198.51.100.0/24", BLOCKED))?;
        until("it is back", || stale("up"))?;
        ensure!(live(&controller, "198.51.100.9")?["stale"] == false);
        // What it has not announced again is not gone before it says that this is all.
        thread::sleep(Duration::from_millis(300));
        ensure!(explained(&controller, "203.0.113.9")? == "drop");
        again.send(&bmp::ends(1))?;
        until("the rest goes after the hold time", || {
            Ok(explained(&controller, "203.0.113.9")? == "pass")
        })
    })?;
    ensure!(!drops(&router, address("203.0.113.9"))?);
    ensure!(drops(&router, address("198.51.100.9"))?);
    ensure!(!drops(&router, address(OTHER))?);
    Ok(())
}

/// Yesterday's announcement is not in today's list: who has it by BGP stays blocked.
#[test]
fn what_todays_list_lacks_is_still_blocked() -> Result<()> {
    let Some((router, controller)) = start("bmplist", "")? else {
        return Ok(());
    };
    let mut speaker = speaker(&router.wire.namespace, &controller)?;
    let net = prefix("198.51.100.0/24");
    speaker.send(&bmp::announce(1, net, &[64601, BLOCKED]))?;
    until("it is live", || {
        Ok(live(&controller, traffic::BLOCKED)?["origins"] == json!([BLOCKED]))
    })?;
    let rest = "2001:db8:bad::,2001:db8:bad:ffff:ffff:ffff:ffff:ffff,64500,Bad\n\
                192.0.2.0,192.0.2.255,64502,Other\n";
    router.write("asn.csv", rest)?;
    under_traffic(&router, || {
        // The gate would not let it pass by itself.
        controller.cli(&["asndb", "update", "--accept"])?;
        let said = controller.cli(&["lookup", traffic::BLOCKED])?;
        ensure!(said["evidence"] == json!([]), "{said}");
        Ok(())
    })
}

/// What becomes of a packet, without one that would be counted.
fn explained(controller: &Controller, to: &str) -> Result<String> {
    let packet = ["--vlan", "20", "--src", "10.20.0.5", "--dst", to];
    let said = controller.cli(&[&["explain"], &packet[..]].concat())?;
    Ok(said["action"].as_str().unwrap_or_default().to_owned())
}

/// A session whose peer begins to send what it has.
fn speaker_that_sends(router: &Router, routes: &[u8]) -> Result<bmp::Speaker> {
    let mut speaker = bmp::Speaker::connect(&router.wire.namespace)?;
    speaker.send(&bmp::peer_up(1))?;
    speaker.send(routes)?;
    Ok(speaker)
}
