//! Cameras that send while something happens to the database: every packet has to get
//! the verdict that it had before.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    controller::{Controller, Metrics},
    lab::Wire,
    router::Router,
};

/// Of AS64500, which the policy drops.
pub const BLOCKED: &str = "198.51.100.9";
/// Of AS64502, which it does not name.
pub const OTHER: &str = "192.0.2.9";

/// Rows of AS64500.
pub const NAMED: &str = "198.51.100.0,198.51.100.255,64500,Bad\n\
                     2001:db8:bad::,2001:db8:bad:ffff:ffff:ffff:ffff:ffff,64500,Bad\n";
/// Rows of AS64502.
pub const UNNAMED: &str = "192.0.2.0,192.0.2.255,64502,Other\n";

/// `count` prefixes of two other ASNs in turn.
#[must_use]
pub fn filler(count: u32) -> String {
    use std::fmt::Write as _;
    (0..count).fold(String::new(), |mut text, i| {
        let at = std::net::Ipv4Addr::from(0x1000_0000 + i * 256);
        let end = std::net::Ipv4Addr::from(0x1000_0000 + i * 256 + 255);
        writeln!(text, "{at},{end},{},Filler", 64510 + i % 2)
            .expect("writing to a string cannot fail");
        text
    })
}

/// A source of all of them: `count` prefixes that nobody asks about, and those of both.
#[must_use]
pub fn whole(count: u32) -> String {
    format!("{}{NAMED}{UNNAMED}", filler(count))
}

/// Counters of drops and passes in the zone.
fn counts(router: &Router) -> Result<(u64, u64)> {
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    let of = |action| metrics.sum("kordon_packets_total", &[("action", action)]);
    Ok((of("drop"), of("pass")))
}

/// Does something while cameras send to both; every single packet has to get the
/// verdict that it had before.
///
/// # Errors
/// If a packet gets another verdict, or the job fails.
pub fn under_traffic<T>(router: &Router, job: impl FnOnce() -> Result<T>) -> Result<T> {
    let from: IpAddr = "10.20.0.5".parse()?;
    let bad = Wire::packet(20, from, BLOCKED.parse()?);
    let other = Wire::packet(20, from, OTHER.parse()?);
    let (end, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let enough = 50;
    let (drops, passes) = counts(router)?;
    let done = thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<()> {
            // On a busy machine a job may be over after a few packets.
            while !end.load(Ordering::Relaxed) || sent.load(Ordering::Relaxed) < enough {
                router.wire.send(&bad, 1)?;
                router.wire.send(&other, 1)?;
                sent.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_micros(200));
            }
            Ok(())
        });
        let result = job();
        end.store(true, Ordering::Relaxed);
        sender.join().expect("the sender does not panic")?;
        result
    })?;
    thread::sleep(Duration::from_millis(50));
    let sent = sent.into_inner();
    let (dropped, passed) = counts(router)?;
    ensure!(
        (dropped - drops, passed - passes) == (sent, sent),
        "of {sent} and {sent} packets {} were dropped and {} passed",
        dropped - drops,
        passed - passes
    );
    Ok(done)
}

/// Whether a packet to an address is dropped.
///
/// # Errors
/// If some of the packets are dropped and some are not.
pub fn drops(router: &Router, to: &str) -> Result<bool> {
    let (before, _) = counts(router)?;
    let from: IpAddr = "10.20.0.5".parse()?;
    router.wire.send(&Wire::packet(20, from, to.parse()?), 10)?;
    thread::sleep(Duration::from_millis(50));
    let (after, _) = counts(router)?;
    ensure!(after == before || after == before + 10);
    Ok(after > before)
}

/// A command that must be refused, and its words.
///
/// # Errors
/// If it is not refused.
pub fn refused(controller: &Controller, arguments: &[&str]) -> Result<String> {
    let output = controller.command(arguments).output()?;
    ensure!(
        output.status.code() == Some(1),
        "`{}`: {} {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Waits for something to come true.
///
/// # Errors
/// If it does not within 20 s.
pub fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds()? {
        ensure!(Instant::now() < end, "still not: {what}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What `kordon status` says of the database.
///
/// # Errors
/// If it does not answer.
pub fn status(controller: &Controller) -> Result<Value> {
    Ok(controller.cli(&["status"])?["asndb"].clone())
}
