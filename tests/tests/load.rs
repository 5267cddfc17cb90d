//! Policies are swapped and controllers killed under full load: nothing that is
//! blocked gets through, nothing that is allowed is lost, and every packet is
//! counted once.

use std::{
    net::IpAddr,
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use fastrand::Rng;
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    lab::{Wire, programs::Arrivals},
    router::{Router, policy},
};

const APPLIES: usize = 200;
const KILLS: usize = 10;

/// Applies one policy after the other, and kills the controller in between.
/// Returns the last one and the time of the slowest apply.
fn change(router: &Router, mut controller: Controller) -> Result<(Controller, Duration)> {
    let mut rng = Rng::with_seed(3);
    let mut slowest = Duration::ZERO;
    for round in 0..APPLIES {
        let file = router.path(if round % 2 == 0 {
            "two.toml"
        } else {
            "one.toml"
        });
        let file = file.to_string_lossy();
        if round % (APPLIES / KILLS) == APPLIES / KILLS - 1 {
            // In the middle of it, at some point or other.
            let mut apply = controller
                .command(&["apply", &file])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            thread::sleep(Duration::from_micros(rng.u64(..12_000)));
            controller.kill()?;
            apply.wait()?;
            (controller, _) = Controller::start(&router.place())?;
        } else {
            let start = Instant::now();
            let said = controller.cli(&["apply", &file])?;
            slowest = slowest.max(start.elapsed());
            ensure!(said["table_written"] == false, "{said}");
        }
    }
    Ok((controller, slowest))
}

#[test]
fn swaps_and_kills_under_load() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("load", binary)?;
    router.write("one.toml", policy("64500"))?;
    router.write("two.toml", policy("64500, 64502"))?;
    let address = |text: &str| -> Result<IpAddr> { Ok(text.parse()?) };
    let blocked = [address("198.51.100.9")?, address("2001:db8:bad::9")?];
    let allowed = [address("203.0.113.9")?, address("2001:db8:600d::9")?];
    let frames: Vec<Vec<u8>> = blocked
        .iter()
        .chain(&allowed)
        .map(|to| {
            let from = if to.is_ipv4() {
                "10.20.0.5"
            } else {
                "fd00:20::5"
            };
            Ok(Wire::packet(20, address(from)?, *to))
        })
        .collect::<Result<_>>()?;
    let mut arrivals = Arrivals::new()?;
    arrivals.watch(&router.wire.namespace, "in")?;

    let (controller, _) = Controller::start(&router.place())?;
    let stop = AtomicBool::new(false);
    // Of each of the four frames.
    let sent = AtomicU64::new(0);
    let start = Instant::now();
    let outcome = thread::scope(|scope| -> Result<(Controller, Duration)> {
        let sender = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                for frame in &frames {
                    router.wire.send(frame, 1)?;
                }
                sent.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let changed = change(&router, controller);
        stop.store(true, Ordering::Relaxed);
        let sent = sender
            .join()
            .map_err(|_| anyhow::anyhow!("the sender panicked"))?;
        sent.and(changed)
    });
    let (_controller, slowest) = outcome?;
    let sent = sent.into_inner();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} packets in {seconds:.1} s, {APPLIES} applies (the slowest took {slowest:?}), {KILLS} kills",
        4 * sent
    );
    for to in blocked {
        assert_eq!(arrivals.settled(to)?.packets, 0, "{to}");
    }
    for to in allowed {
        assert_eq!(arrivals.settled(to)?.packets, sent, "{to}");
    }
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    let count = |action| metrics.sum("kordon_packets_total", &[("action", action)]);
    assert_eq!((count("drop"), count("pass")), (2 * sent, 2 * sent));
    let asn = [("asn", "64500"), ("action", "drop")];
    assert_eq!(metrics.sum("kordon_asn_packets_total", &asn), 2 * sent);
    Ok(())
}
