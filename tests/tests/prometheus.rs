//! A real Prometheus scrapes a real kordon, and what it stores is what was sent.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use kordon_tests::{
    controller::{Controller, binary},
    lab::Wire,
    prometheus::Prometheus,
    router::Router,
};

const PACKETS: usize = 1234;

#[test]
fn prometheus_stores_what_was_sent() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("prometheus", binary)?;
    let (_controller, _) = Controller::start(&router.place())?;
    let Some(prometheus) = Prometheus::start(&router)? else {
        return Ok(());
    };

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
            // As the documentation joins names.
            "sum by (name) (kordon_asn_packets_total{action=\"drop\"} \
             * on (job, instance, asn) group_left (name) kordon_asn_info{name=\"Bad\"})",
            PACKETS as f64,
        ),
        (
            "kordon_interface_attached{interface=\"trunk\",mode=\"native\"}",
            1.0,
        ),
    ] {
        loop {
            let value = |samples: Vec<_>| samples.first().map(|(_, value): &(_, f64)| *value);
            match prometheus.query(promql).map(value) {
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
