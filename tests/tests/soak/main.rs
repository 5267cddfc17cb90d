//! Long campaigns against a daemon. Here they are small; variables make long ones of them:
//!
//! - `KORDON_SOAK_FLAPS`: how often the link changes (`flaps`).
//! - `KORDON_SOAK_PACKETS`, and meanwhile `KORDON_SOAK_APPLIES`, `KORDON_SOAK_KILLS` and
//!   `KORDON_SOAK_CHANGES` of BGP (`everything`), in an order that `KORDON_SEED` decides.

mod everything;
mod flaps;

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, binary},
    router::Router,
    soak::{Health, Objects},
};

/// For what is no claim.
const PATIENCE: Duration = Duration::from_secs(60);
/// What memory may grow by after a tenth of a campaign, in KiB: a thread that works for the first time
/// takes some for itself.
const GROWTH: u64 = 32 << 10;

/// Waits for something to come true; returns how long that took.
fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let start = Instant::now();
    while !holds()? {
        ensure!(start.elapsed() < PATIENCE, "still not: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(start.elapsed())
}

/// A router on whose wire only the test sends, also once its devices are others.
fn router(name: &str) -> Result<Option<Router>> {
    let Some(binary) = binary() else {
        return Ok(None);
    };
    let router = Router::new(name, binary)?;
    for which in ["all", "default", "in", "out"] {
        let key = format!("ipv6/conf/{which}/disable_ipv6");
        router.wire.namespace.sysctl(&[(&key, "1")])?;
    }
    Ok(Some(router))
}

/// Healths in the order in which they were taken: neither memory nor files grow after the first
/// tenth.
fn does_not_grow(healths: &[Health]) -> Result<()> {
    let (first, rest) = healths.split_at(healths.len().div_ceil(10));
    let most = |of: &[Health]| of.iter().map(|health| health.resident).max().unwrap_or(0);
    let (first, last) = (most(first), most(&rest[rest.len() * 8 / 9..]));
    let step = healths.len().div_ceil(10);
    let course: Vec<u64> = healths.iter().step_by(step).map(|h| h.resident).collect();
    println!("resident memory: {first} KiB at first, {last} KiB at last; {course:?}");
    ensure!(last <= first + GROWTH, "more than {GROWTH} KiB more");
    Ok(())
}

/// Files, pins and BPF objects in the end are as many as in the beginning.
fn nothing_is_left(
    (at_first, begin): ([usize; 3], &Health),
    objects: &Objects,
    controller: &Controller,
    router: &Router,
) -> Result<()> {
    let now = || Health::of(controller.pid(), router.place().bpffs);
    let as_before = || {
        let now = now()?;
        Ok((now.files, &now.pins, objects.alive()) == (begin.files, &begin.pins, at_first))
    };
    let outcome = until(
        "files, pins and BPF objects are as many as before",
        as_before,
    );
    let (seen, alive) = (objects.seen(), objects.alive());
    let now = now()?;
    println!(
        "of {seen} BPF objects that were seen {alive:?} (maps, programs, links) are left, of {at_first:?} \
         at first; {} files, {} at first; {} pins",
        now.files,
        begin.files,
        now.pins.len()
    );
    outcome
        .with_context(|| format!("{begin:?} {now:?}"))
        .map(drop)
}

/// What the daemon warned about, and how often.
fn log_lines(router: &Router) -> Result<String> {
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for line in fs::read_to_string(router.path("kordon.log"))?.lines() {
        if line.contains("WARN") || line.contains("ERROR") {
            let line = line.split_once(' ').map_or(line, |(_, rest)| rest);
            let numbers = |c: char| c.is_ascii_digit();
            *lines.entry(line.replace(numbers, "#")).or_default() += 1;
        }
    }
    let lines = lines
        .iter()
        .map(|(line, count)| format!("{count} x {line}"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}
