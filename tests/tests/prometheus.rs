//! A real Prometheus scrapes a real kordon, and what it stores is what was sent.

use std::{
    net::IpAddr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use kordon_tests::{
    controller::{Controller, binary},
    lab::{Namespace, Wire},
    router::Router,
};
use serde_json::Value;

const PACKETS: usize = 1234;

/// Killed when dropped.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The value of an instant query; `None`: no such series yet.
fn query(namespace: &Namespace, promql: &str) -> Result<Option<f64>> {
    let answer = namespace.output(
        Command::new("curl")
            .args([
                "-sS",
                "--max-time",
                "5",
                "-G",
                "http://127.0.0.1:9090/api/v1/query",
            ])
            .args(["--data-urlencode", &format!("query={promql}")]),
    )?;
    let answer: Value = serde_json::from_str(&answer)?;
    ensure!(answer["status"] == "success", "{promql}: {answer}");
    let value = &answer["data"]["result"][0]["value"][1];
    value
        .as_str()
        .map(|text| text.parse().context("a number"))
        .transpose()
}

#[test]
fn prometheus_stores_what_was_sent() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    if Command::new("prometheus")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("SKIPPED: `prometheus` is not installed: `apt install prometheus`");
        return Ok(());
    }
    let router = Router::new("prometheus", binary)?;
    let namespace = &router.wire.namespace;
    let (_controller, _) = Controller::start(&router.place())?;
    // The example that is shipped, at a rate for a test.
    let scrape = include_str!("../../deploy/prometheus/scrape.yml");
    router.write("prometheus.yml", scrape.replace("15s", "1s"))?;
    let mut command = Command::new("prometheus");
    command
        .arg(format!(
            "--config.file={}",
            router.path("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            router.path("tsdb").display()
        ))
        .arg("--web.listen-address=127.0.0.1:9090")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _prometheus = Prometheus(namespace.spawn(&mut command)?);

    let from: IpAddr = "10.20.0.5".parse()?;
    for (to, times) in [("198.51.100.9", PACKETS), ("203.0.113.9", 2 * PACKETS)] {
        router
            .wire
            .send(&Wire::packet(20, from, to.parse()?), times)?;
    }
    let end = Instant::now() + Duration::from_secs(40);
    for (promql, expected) in [
        ("up{job=\"kordon\"}", 1.0),
        ("kordon_enforcing", 1.0),
        (
            "kordon_packets_total{zone=\"cameras\",action=\"drop\"}",
            PACKETS as f64,
        ),
        (
            "kordon_packets_total{zone=\"cameras\",action=\"pass\"}",
            2.0 * PACKETS as f64,
        ),
        (
            "kordon_asn_packets_total{asn=\"64500\",action=\"drop\"}",
            PACKETS as f64,
        ),
        (
            "kordon_rule_packets_total{rule=\"hostile\",action=\"drop\"}",
            PACKETS as f64,
        ),
        (
            "kordon_interface_attached{interface=\"trunk\",mode=\"native\"}",
            1.0,
        ),
    ] {
        loop {
            match query(namespace, promql) {
                Ok(Some(value)) if value == expected => break,
                other if Instant::now() > end => {
                    bail!("{promql}: {other:?}, and {expected} was sent")
                }
                _ => thread::sleep(Duration::from_millis(200)),
            }
        }
    }
    Ok(())
}
