//! A device beside the policed one that lets the same VLAN in: what gets past kordon there is said,
//! with its cure, for as long as it is so. Here by a bridge, which any kernel has; by a second trunk
//! in the virtual machines (`tests/src/vm/matrix/second.rs`).

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    lab::{Wire, programs::Witness, raw::RawSender},
    router::{Router, policy},
    traffic::{BLOCKED, until},
};
use serde_json::Value;

/// A change of the router is in `status` after that.
const SOON: Duration = Duration::from_secs(2);

/// Waits until `status` names the port, or does not.
fn named(controller: &Controller, expected: bool) -> Result<Value> {
    let start = Instant::now();
    let mut status = Value::Null;
    until("it is said", || {
        status = controller.cli(&["status"])?;
        Ok(status["gaps"]
            .as_array()
            .is_some_and(|gaps| gaps.is_empty() != expected))
    })?;
    let took = start.elapsed();
    println!("said: {expected}, after {took:?}: {}", status["notices"]);
    ensure!(took < SOON, "it took {took:?}");
    ensure!(status["enforcing"] == true, "{status}");
    Ok(status)
}

#[test]
fn a_port_beside_the_policed_one_is_said() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("cover", binary)?;
    let namespace = &router.wire.namespace;
    namespace.ip("link add second type veth peer name far\n\
         link set second addrgenmode none\nlink set far addrgenmode none\n\
         link add br0 type bridge forward_delay 0\nlink set br0 addrgenmode none\n\
         link set in master br0\nlink set second up\nlink set far up\nlink set br0 up")?;
    // A bridge sends what it was given with its tag beside it.
    for device in ["far", "second", "in"] {
        namespace.inline_tags(device)?;
    }
    let (controller, _) = Controller::start(&router.place())?;
    named(&controller, false)?;

    namespace.ip("link set second master br0")?;
    let status = named(&controller, true)?;
    let gap = &status["gaps"][0];
    ensure!(
        gap["device"] == "second" && gap["certain"] == false,
        "{gap}"
    );
    let notice = status["notices"].to_string();
    for words in [
        "`second` is a port of the bridge `br0`",
        "device = \\\"second\\\"",
        "interfaces = [\\\"trunk\\\"]",
    ] {
        ensure!(notice.contains(words), "{words}: {notice}");
    }

    // So it is: what is dropped of the policed port is let in there.
    let blocked = Wire::packet(20, "10.20.0.5".parse()?, BLOCKED.parse()?);
    let there = Witness::attach(namespace, "out")?;
    let far = RawSender::open(namespace, "far")?;
    until("frames that come in by the other port arrive", || {
        far.send(&blocked)?;
        thread::sleep(Duration::from_millis(20));
        Ok(there.tagged(20)? > 0)
    })?;
    drop(there);
    let here = Witness::attach(namespace, "far")?;
    router.wire.send(&blocked, 10)?;
    thread::sleep(Duration::from_millis(100));
    ensure!(here.tagged(20)? == 0, "{} arrived", here.tagged(20)?);
    let metrics = Metrics::scrape(namespace)?;
    ensure!(metrics.sum("kordon_packets_total", &[("action", "drop")]) == 10);
    drop(here);

    // A zone that says where it is has nothing to do with that port.
    let elsewhere = policy("64500").replace("vlans", "interfaces = [\"trunk\"]\nvlans");
    router.write("policy.toml", &elsewhere)?;
    let path = router.path("policy.toml");
    controller.cli(&["apply", &path.display().to_string()])?;
    named(&controller, false)?;
    router.write("policy.toml", policy("64500"))?;
    controller.cli(&["apply", &path.display().to_string()])?;
    named(&controller, true)?;
    namespace.ip("link del second")?;
    named(&controller, false)?;
    Ok(())
}
