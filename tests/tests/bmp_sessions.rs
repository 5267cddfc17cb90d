//! Who may have a BMP session, how long one that is silent lasts, and what a bad attribute
//! does to one.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    bmp::{self, Speaker},
    controller::{Controller, Metrics},
    lab::Namespace,
    live::{BLOCKED, drops, live, prefix, speaker, start, until},
    traffic,
};
use nix::unistd::User;
use serde_json::json;

/// Of nobody here.
const STRANGER: u32 = 23_456;

fn sessions(namespace: &Namespace, result: &str) -> Result<u64> {
    let metrics = Metrics::scrape(namespace)?;
    Ok(metrics.sum("kordon_bmp_sessions_total", &[("result", result)]))
}

fn names(controller: &Controller) -> Result<usize> {
    let status = controller.cli(&["status"])?;
    let sessions = status["bgp"]["sessions"].as_array().context("sessions")?;
    Ok(sessions.iter().filter(|s| s["name"] == "speaker").count())
}

/// A user of the router announces what would free a blocked network, and is not heard.
#[test]
fn whose_socket_it_is_decides_who_is_heard() -> Result<()> {
    let Some((router, controller)) = start("bmpwho", "hold_time = \"1s\"")? else {
        return Ok(());
    };
    let namespace = &router.wire.namespace;
    let mut stranger = Speaker::connect_as(namespace, STRANGER)?;
    let route = bmp::announce(1, prefix("198.51.100.0/25"), &[64601, 65540]);
    let all = [bmp::peer_up(1), route, bmp::ends(1)].concat();
    let _ = stranger.send(&all);
    ensure!(stranger.is_closed()?, "a stranger is heard");
    // One that is gone before anybody looks is not root's.
    for _ in 0..20 {
        let mut stranger = Speaker::connect_as(namespace, STRANGER)?;
        let _ = stranger.send(&all);
    }
    until("all are refused", || {
        Ok(sessions(namespace, "refused")? == 21)
    })?;
    ensure!(sessions(namespace, "accepted")? == 0);
    thread::sleep(Duration::from_secs(4));
    ensure!(drops(&router, traffic::BLOCKED.parse()?)?);
    ensure!(live(&controller, traffic::BLOCKED)?["prefix"].is_null());
    // Root, and the user of a BGP daemon.
    let mut heard = vec![0];
    match User::from_name("frr").context("users")? {
        Some(frr) => heard.push(frr.uid.as_raw()),
        None => println!("SKIPPED in part: there is no user `frr`"),
    }
    for user in heard {
        let _own = Speaker::connect_as(namespace, user)?;
        until("it is heard", || Ok(names(&controller)? == 1))?;
    }
    Ok(())
}

#[test]
fn users_are_who_the_file_names() -> Result<()> {
    let more = format!("users = [\"{STRANGER}\"]\npeers = [\"127.0.0.0/8\"]");
    let Some((router, controller)) = start("bmpusers", &more)? else {
        return Ok(());
    };
    let namespace = &router.wire.namespace;
    let mut root = Speaker::connect(namespace)?;
    ensure!(root.is_closed()?, "root is heard, and not named");
    let _named = Speaker::connect_as(namespace, STRANGER)?;
    until("it is heard", || Ok(names(&controller)? == 1))
}

/// Ten times as many as there are places are refused, and the next one is heard at once.
#[test]
fn who_is_refused_delays_nobody() -> Result<()> {
    let Some((router, controller)) = start("bmpcrowd", "")? else {
        return Ok(());
    };
    let namespace = &router.wire.namespace;
    let strangers: Vec<Speaker> = (0..160)
        .map(|_| Speaker::connect_as(namespace, STRANGER))
        .collect::<Result<_>>()?;
    let start = Instant::now();
    let _own = Speaker::connect(namespace)?;
    until("it is heard", || Ok(names(&controller)? == 1))?;
    let took = start.elapsed();
    println!("heard {took:?} after 160 that were refused");
    ensure!(took < Duration::from_secs(5), "{took:?}");
    ensure!(sessions(namespace, "refused")? == 160);
    drop(strangers);
    // Of one address there are so many; the others are turned away, and may come later.
    let mut more: Vec<Speaker> = (0..3)
        .map(|_| Speaker::connect(namespace))
        .collect::<Result<_>>()?;
    until("they are heard", || Ok(names(&controller)? == 4))?;
    ensure!(
        Speaker::connect(namespace)?.is_closed()?,
        "a fifth is heard"
    );
    more.pop();
    until("one is gone", || Ok(names(&controller)? == 3))?;
    let _again = Speaker::connect(namespace)?;
    until("another is heard", || Ok(names(&controller)? == 4))
}

#[test]
fn silent_sessions_end() -> Result<()> {
    let Some((router, controller)) = start("bmpidle", "idle_timeout = \"2s\"")? else {
        return Ok(());
    };
    let namespace = &router.wire.namespace;
    let mut quiet = speaker(namespace, &controller)?;
    quiet.send(&bmp::announce(1, prefix("192.0.2.0/24"), &[64601, BLOCKED]))?;
    // One that never ends a message, however often it sends.
    let mut slow = Speaker::connect(namespace)?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(6) && slow.send(&[3]).is_ok() {
        slow.send(&[0, 0, 16, 0, 0])?;
        for _ in 0..60 {
            thread::sleep(Duration::from_millis(100));
            if slow.send(&[0]).is_err() {
                break;
            }
        }
    }
    ensure!(begin.elapsed() < Duration::from_secs(6), "it is borne");
    ensure!(quiet.is_closed()?, "it is silent, and still there");
    until("both are counted", || {
        Ok(sessions(namespace, "silent")? == 2)
    })?;
    // What it said is in force.
    ensure!(drops(&router, "192.0.2.9".parse()?)?);
    let status = controller.cli(&["status"])?;
    ensure!(status["bgp"]["sessions"] == json!([]), "{status}");
    // Who goes on is not ended.
    let mut lively = speaker(namespace, &controller)?;
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(500));
        lively.send(&bmp::ends(1))?;
    }
    ensure!(names(&controller)? == 1);
    Ok(())
}

/// A path with a segment of no kind: its prefix goes, after the hold time, and nothing else.
#[test]
fn a_bad_attribute_is_a_withdrawal() -> Result<()> {
    let Some((router, controller)) = start("bmpattr", "hold_time = \"1s\"")? else {
        return Ok(());
    };
    let namespace = &router.wire.namespace;
    let mut speaker = speaker(namespace, &controller)?;
    let route = |net: &str| bmp::announce(1, prefix(net), &[64601, BLOCKED]);
    speaker.send(&route("192.0.2.0/24"))?;
    speaker.send(&route("203.0.113.0/24"))?;
    until("both are blocked", || {
        Ok(drops(&router, "192.0.2.9".parse()?)? && drops(&router, "203.0.113.9".parse()?)?)
    })?;
    let bad = bmp::announce_path(1, prefix("192.0.2.0/24"), &[(9, &[64601, BLOCKED])]);
    speaker.send(&bad)?;
    until("it is withdrawn", || {
        Ok(!drops(&router, "192.0.2.9".parse()?)?)
    })?;
    ensure!(drops(&router, "203.0.113.9".parse()?)?);
    // The session goes on.
    speaker.send(&route("192.0.2.0/24"))?;
    until("it is there again", || drops(&router, "192.0.2.9".parse()?))?;
    let metrics = Metrics::scrape(namespace)?;
    ensure!(metrics.sum("kordon_bmp_treated_as_withdraw_total", &[]) == 1);
    ensure!(sessions(namespace, "malformed")? == 0);
    Ok(())
}
