//! The ASN database on bad days: whatever a source or its server does, cameras meet
//! the same verdicts as before, and the reason is shown until somebody looks.

use std::{
    fs,
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    lab::Wire,
    router::Router,
};
use serde_json::Value;

/// Of AS64500, which the policy drops.
const BLOCKED: &str = "198.51.100.9";
/// Of AS64502, which it does not name.
const OTHER: &str = "192.0.2.9";

const NAMED: &str = "198.51.100.0,198.51.100.255,64500,Bad\n\
                     2001:db8:bad::,2001:db8:bad:ffff:ffff:ffff:ffff:ffff,64500,Bad\n";
const UNNAMED: &str = "192.0.2.0,192.0.2.255,64502,Other\n";

/// `count` prefixes of two ASNs in turn.
fn filler(count: u32) -> String {
    use std::fmt::Write as _;
    (0..count).fold(String::new(), |mut text, i| {
        let at = std::net::Ipv4Addr::from(0x1000_0000 + i * 256);
        let end = std::net::Ipv4Addr::from(0x1000_0000 + i * 256 + 255);
        writeln!(text, "{at},{end},{},Filler", 64510 + i % 2).expect("to memory");
        text
    })
}

fn whole(count: u32) -> String {
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
fn under_traffic(router: &Router, job: impl FnOnce() -> Result<()>) -> Result<()> {
    let from: IpAddr = "10.20.0.5".parse()?;
    let bad = Wire::packet(20, from, BLOCKED.parse()?);
    let other = Wire::packet(20, from, OTHER.parse()?);
    let (end, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let (drops, passes) = counts(router)?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<()> {
            while !end.load(Ordering::Relaxed) {
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
    ensure!(sent > 20, "only {sent} packets were sent");
    let (dropped, passed) = counts(router)?;
    ensure!(
        (dropped - drops, passed - passes) == (sent, sent),
        "of {sent} and {sent} packets {} were dropped and {} passed",
        dropped - drops,
        passed - passes
    );
    Ok(())
}

/// Whether a packet to an address is dropped.
fn drops(router: &Router, to: &str) -> Result<bool> {
    let (before, _) = counts(router)?;
    let from: IpAddr = "10.20.0.5".parse()?;
    router.wire.send(&Wire::packet(20, from, to.parse()?), 10)?;
    thread::sleep(Duration::from_millis(50));
    let (after, _) = counts(router)?;
    ensure!(after == before || after == before + 10);
    Ok(after > before)
}

/// A command that must be refused, and its words.
fn refused(controller: &Controller, arguments: &[&str]) -> Result<String> {
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

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds()? {
        ensure!(Instant::now() < end, "still not: {what}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn status(controller: &Controller) -> Result<Value> {
    Ok(controller.cli(&["status"])?["asndb"].clone())
}

/// Each disaster that users of other filters tell of.
#[test]
fn what_loses_too_much_is_held_back() -> Result<()> {
    const COUNT: u32 = 200_000;
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("gate", binary)?;
    let good = whole(COUNT);
    router.write("asn.csv", &good)?;
    let (controller, _) = Controller::start(&router.place())?;
    assert!(drops(&router, BLOCKED)? && !drops(&router, OTHER)?);
    let prefixes = status(&controller)?["prefixes_v4"].clone();

    let cases: [(&str, String, &str, &str); 7] = [
        ("over night", whole(17_500), "shrunk", "shrinks from 200002"),
        (
            "a block vanishes",
            format!("{}{UNNAMED}", filler(COUNT)),
            "vanished",
            "AS64500 (Bad), which the policy names, loses all of its 2 prefixes",
        ),
        (
            "half of it",
            good.replace("198.51.100.0,198.51.100.255", "198.51.100.0,198.51.100.63"),
            "halved",
            "loses 1 of its 2 prefixes",
        ),
        (
            "a default route",
            format!("{good}0.0.0.0,255.255.255.255,64500,Bad\n"),
            "wide",
            "it is a default route",
        ),
        (
            "another one",
            format!("{good}::/0,64500,Bad\n")
                .replace("::/0,", "::,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,"),
            "wide",
            "it is a default route",
        ),
        (
            "cut short",
            good[..good.len() - 3].to_owned(),
            "truncated",
            "no line end",
        ),
        ("too much", whole(COUNT * 3), "grown", "grows from 200002"),
    ];
    under_traffic(&router, || {
        for (what, content, reason, words) in &cases {
            router.write("asn.csv", content)?;
            let said = refused(&controller, &["asndb", "update"])?;
            ensure!(said.contains("held back"), "{what}: {said}");
            ensure!(said.contains("--accept"), "{what}: no cure in {said}");
            let asndb = status(&controller)?;
            let held = asndb["update"]["held"]["concerns"].to_string();
            ensure!(held.contains(words), "{what}: no {words:?} in {held}");
            ensure!(asndb["prefixes_v4"] == prefixes, "{what}: {asndb}");
            let metrics = Metrics::scrape(&router.wire.namespace)?;
            let shown = metrics.sum("kordon_asndb_update_held", &[("reason", reason)]);
            ensure!(shown == 1, "{what}: the metric says {shown}");
            let log = fs::read_to_string(router.path("kordon.log"))?;
            ensure!(log.contains(words), "{what}: no {words:?} in the log");
        }
        Ok(())
    })?;
    println!("{} held back", cases.len());

    // What cannot be read at all is a failure, and is shown as one.
    under_traffic(&router, || {
        for (content, words) in [
            (
                "<!DOCTYPE html><html><body>Log in</body></html>\n",
                "web page",
            ),
            ("", "holds no rows"),
            ("a,b,c\nd,e,f\ng,h,i\n", "cannot be read"),
        ] {
            router.write("asn.csv", content)?;
            refused(&controller, &["asndb", "update"])?;
            let failure = status(&controller)?["update"]["failure"]["message"].to_string();
            ensure!(failure.contains(words), "no {words:?} in {failure}");
        }
        Ok(())
    })?;

    // What was good before is good again, and clears what was held back.
    router.write("asn.csv", &good)?;
    under_traffic(&router, || controller.cli(&["asndb", "update"]).map(drop))?;
    let asndb = status(&controller)?;
    assert_eq!(asndb["update"]["held"], Value::Null, "{asndb}");
    assert_eq!(asndb["update"]["failure"], Value::Null, "{asndb}");
    Ok(())
}

#[test]
fn what_is_held_back_can_be_looked_at_and_taken() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("accept", binary)?;
    router.write("asn.csv", whole(1000))?;
    let (controller, _) = Controller::start(&router.place())?;
    let said = refused(&controller, &["asndb", "diff"])?;
    assert!(said.contains("no update is held back"), "{said}");

    let moved = whole(1000).replace(
        "198.51.100.0,198.51.100.255,64500,Bad",
        "198.51.100.0,198.51.100.255,64777,New",
    );
    router.write("new.csv", moved)?;
    let new = router.path("new.csv");
    let new = new.to_string_lossy();
    let change = |said: &Value| said["changes"][0].clone();
    let first = change(&controller.cli(&["asndb", "diff", &new])?);
    assert_eq!(first["subject"], "AS64500");
    assert_eq!(first["lost"][0]["prefix"], "198.51.100.0/24");
    assert_eq!(first["lost"][0]["others"][0], 64777);
    under_traffic(&router, || {
        let said = refused(&controller, &["asndb", "import", &new])?;
        ensure!(said.contains("AS64500"), "{said}");
        Ok(())
    })?;
    fs::remove_file(&*new)?;
    let held = change(&controller.cli(&["asndb", "diff"])?);
    assert_eq!(held, first);

    // The next daemon knows of it, and takes it without the file.
    controller.kill()?;
    let (controller, _) = Controller::start(&router.place())?;
    until("it is known", || {
        Ok(!status(&controller)?["update"]["held"].is_null())
    })?;
    assert!(drops(&router, BLOCKED)?);
    controller.cli(&["asndb", "update", "--accept"])?;
    assert!(!drops(&router, BLOCKED)?);
    assert_eq!(status(&controller)?["update"]["held"], Value::Null);
    assert!(!router.path("state/asndb.held.snapshot").exists());
    Ok(())
}
