//! Frames that pass while nobody judges them are counted, if the guard has seen them.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use kordon::datapath::system::detach_link;
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    lab::Wire,
    router::Router,
    traffic::{BLOCKED, drops, until},
};
use nix::sys::signal::Signal;

#[test]
fn what_passes_while_the_program_is_off() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("off", binary)?;
    let namespace = &router.wire.namespace;
    // Neither end says anything by itself.
    namespace.sysctl(&[
        ("ipv6/conf/in/disable_ipv6", "1"),
        ("ipv6/conf/out/disable_ipv6", "1"),
    ])?;
    let (controller, _) = Controller::start(&router.place())?;
    let missed = || -> Result<[u64; 2]> {
        let metrics = Metrics::scrape(namespace)?;
        let of = |how| metrics.sum("kordon_interface_missed_packets_total", &[("how", how)]);
        Ok([of("not-called"), of("hidden-tag")])
    };
    let frame = Wire::packet(20, "10.20.0.5".parse()?, BLOCKED.parse()?);
    let mut all = 0;
    for frames in [40, 3] {
        thread::sleep(Duration::from_secs(3));
        ensure!(missed()? == [all, 0], "{:?}", missed()?);
        // It cannot put the program back before they are all sent.
        controller.signal(Signal::SIGSTOP)?;
        detach_link(&router.place().bpffs.join("links").join("0-in"))?;
        router.wire.send(&frame, frames)?;
        thread::sleep(Duration::from_millis(50));
        controller.signal(Signal::SIGCONT)?;
        all += frames as u64;
        until("they are counted", || Ok(missed()? == [all, 0]))?;
        until("it enforces", || {
            Ok(controller.cli(&["status"])?["enforcing"] == true)
        })?;
        ensure!(drops(&router, BLOCKED)?);
    }
    // What has been cured is no reason, and nothing is counted twice.
    thread::sleep(Duration::from_secs(3));
    ensure!(missed()? == [all, 0], "{:?}", missed()?);
    let status = controller.cli(&["status"])?;
    ensure!(status["enforcing"] == true, "{status}");
    ensure!(status["interfaces"][0]["missed"] == all, "{status}");
    Ok(())
}
