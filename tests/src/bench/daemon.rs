//! What an administrator waits for: from the command to the answer, with the whole
//! Internet's table and the release binary.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Measured;
use super::internet::folder;
use crate::controller::{Controller, binary};
use crate::router::{Router, policy};

/// How often everything is done; a start takes a second.
const ROUNDS: u32 = 9;

/// The sources, uncompressed: reading them is kordon's work, unpacking is zstd's.
const SOURCES: [&str; 2] = ["asn-ipv4.csv.zst", "asn-ipv6.csv.zst"];

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Peak of resident memory so far, in MB.
fn peak(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: f64 = kib.context("no VmHWM")?.trim().parse()?;
    Ok(kib / 1e3)
}

fn timed(controller: &Controller, arguments: &[&str]) -> Result<(f64, Value)> {
    let start = Instant::now();
    let said = controller.cli(arguments)?;
    Ok((ms(start.elapsed()), said))
}

/// Measures starts, applies and imports.
pub(super) fn measure() -> Result<Vec<Measured>> {
    let binary = binary().context("KORDON_BINARY does not name the binary to measure")?;
    let router = Router::new("bench", binary)?;
    let data = folder()?;
    let sources: Vec<String> = SOURCES
        .iter()
        .map(|name| format!("{:?}", data.join(name).to_string_lossy()))
        .collect();
    let configuration = fs::read_to_string(router.path("kordon.toml"))?;
    let configuration = configuration.replace("\"asn.csv\"", &sources.join(", "));
    router.write("kordon.toml", configuration)?;
    router.write("one.toml", policy("12695"))?;
    router.write("two.toml", policy("12695, 12389"))?;
    // A table of the same size that is another one: somebody announces one network more.
    router.write("more.csv", "198.18.0.0,198.18.0.255,64500,More\n")?;

    let mut cases: Vec<(&str, &str, Vec<f64>)> = Vec::new();
    let mut note = |case: &'static str, unit: &'static str, value: f64| match cases
        .iter_mut()
        .find(|(name, ..)| *name == case)
    {
        Some((_, _, values)) => values.push(value),
        None => cases.push((case, unit, vec![value])),
    };
    let (mut controller, took) = Controller::start(&router.place())?;
    note("start/from-sources", "ms", ms(took));
    for round in 0..ROUNDS {
        // What was live is in the kernel: adopted.
        controller.kill()?;
        let took;
        (controller, took) = Controller::start(&router.place())?;
        note("start/adopting", "ms", ms(took));
        // Nothing is in the kernel.
        controller.cli(&["detach", "--yes"])?;
        controller.ended()?;
        let took;
        (controller, took) = Controller::start(&router.place())?;
        note("start/from-snapshot", "ms", ms(took));
        note("memory/after-start", "MB", peak(controller.pid())?);

        for name in ["two.toml", "one.toml"] {
            let path = router.path(name);
            let (took, said) = timed(&controller, &["apply", &path.to_string_lossy()])?;
            ensure!(
                said["changed"] == true && said["table_written"] == false,
                "{said}"
            );
            note("apply/command", "ms", took);
            note(
                "apply/daemon",
                "ms",
                said["apply_ms"].as_f64().unwrap_or(f64::NAN),
            );
            note(
                "apply/swap",
                "ms",
                said["swap_us"].as_f64().unwrap_or(f64::NAN) / 1e3,
            );
        }
        let (took, _) = timed(&controller, &["block", "AS15169", "--zone", "cameras"])?;
        note("block/command", "ms", took);
        let (took, _) = timed(&controller, &["unblock", "AS15169", "--zone", "cameras"])?;
        note("unblock/command", "ms", took);

        let mut files: Vec<String> = SOURCES
            .iter()
            .map(|name| data.join(name).to_string_lossy().into_owned())
            .collect();
        if round % 2 == 0 {
            files.push(router.path("more.csv").to_string_lossy().into_owned());
        }
        let mut arguments = vec!["asndb", "import", "--accept"];
        arguments.extend(files.iter().map(String::as_str));
        let (took, said) = timed(&controller, &arguments)?;
        ensure!(
            said["changed"] == true && said["table_written"] == true,
            "{said}"
        );
        note("import/command", "ms", took);
        note(
            "import/prove-and-swap",
            "ms",
            said["apply_ms"].as_f64().unwrap_or(f64::NAN),
        );
        note("memory/after-import", "MB", peak(controller.pid())?);
    }
    note(
        "snapshot",
        "MB",
        size(&router.path("state/asndb.snapshot"))?,
    );
    Ok(cases
        .into_iter()
        .map(|(case, unit, values)| Measured::of("daemon", case, unit, values))
        .collect())
}

fn size(path: &Path) -> Result<f64> {
    Ok(fs::metadata(path)?.len() as f64 / 1e6)
}

/// For people.
pub(super) fn print(rows: &[Measured]) {
    println!(
        "{:<24} {:>10} {:>10} {:>10}",
        "daemon", "median", "min", "max"
    );
    for row in rows {
        println!(
            "{:<24} {:>10.1} {:>10.1} {:>10.1} {}",
            row.case, row.median, row.min, row.max, row.unit
        );
    }
}
