//! What an administrator waits for: from the command to the answer, with the whole
//! Internet's table and the release binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Wanted;
use super::internet;
use super::measured::{Measured, Values};
use super::table::Table;
use crate::controller::{BINARY, Controller};
use crate::router::{Router, policy};

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Resident memory in MB: now (`VmRSS:`) or its peak so far (`VmHWM:`).
pub(super) fn held(pid: u32, key: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix(key));
    let kib = kib.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: f64 = kib.with_context(|| format!("no {key}"))?.trim().parse()?;
    Ok(kib * 1024.0 / 1e6)
}

fn timed(controller: &Controller, arguments: &[&str]) -> Result<(f64, Value)> {
    let start = Instant::now();
    let said = controller.cli(arguments)?;
    Ok((ms(start.elapsed()), said))
}

/// The release binary.
pub(super) fn binary() -> Result<PathBuf> {
    std::env::var_os(BINARY)
        .map(PathBuf::from)
        .with_context(|| {
            format!("{BINARY} does not name the release binary; `cargo xtask bench` builds it")
        })
}

/// Files of the table as a list in `kordon.toml` has them.
pub(super) fn sources(table: &Table) -> Result<String> {
    let sources: Vec<String> = table
        .files
        .iter()
        .map(|file| Ok(format!("{:?}", file.canonicalize()?.to_string_lossy())))
        .collect::<Result<_>>()?;
    Ok(sources.join(", "))
}

/// A router whose sources are the table, not yet started.
fn router(table: &Table) -> Result<Router> {
    let router = Router::new("bench", binary()?)?;
    let configuration = fs::read_to_string(router.path("kordon.toml"))?;
    let configuration = configuration.replace("\"asn.csv\"", &sources(table)?);
    router.write("kordon.toml", configuration)?;
    Ok(router)
}

/// What the daemon holds after a start from the snapshot, for group `memory`.
pub(super) fn memory(table: &Table, wanted: Wanted<'_>) -> Result<Vec<Measured>> {
    let names = ["daemon/after-start", "daemon/peak-of-start"];
    if !names.iter().any(|name| wanted.case(name)) {
        return Ok(Vec::new());
    }
    let router = router(table)?;
    router.write(
        "policy.toml",
        policy(&internet::some_asns(table)?[0].to_string()),
    )?;
    let mut values = Values::default();
    // The first one makes the snapshot.
    Controller::start(&router.place())?.0.kill()?;
    for _ in 0..wanted.rounds.min(3) {
        let (controller, _) = Controller::start(&router.place())?;
        for (name, key) in names.into_iter().zip(["VmRSS:", "VmHWM:"]) {
            values.note(name, "MB", held(controller.pid(), key)?);
        }
        // Nothing is adopted by the next.
        controller.cli(&["detach", "--yes"])?;
        controller.ended()?;
    }
    Ok(values.measured("memory"))
}

/// Starts with several interfaces: nothing in the kernel, and what was live there.
fn starts(table: &Table, wanted: Wanted<'_>, asn: u32, values: &mut Values) -> Result<()> {
    for count in [1, 4, 16] {
        let names =
            ["from-snapshot", "adopting"].map(|how| format!("start/{count}-interfaces/{how}"));
        if !names.iter().any(|name| wanted.case(name)) {
            continue;
        }
        let router = router(table)?;
        router.write("policy.toml", policy(&asn.to_string()))?;
        let mut configuration = fs::read_to_string(router.path("kordon.toml"))?;
        for number in 1..count {
            let (device, peer) = (format!("in{number}"), format!("out{number}"));
            router.wire.namespace.ip(&format!(
                "link add {device} up type veth peer name {peer}\nlink set {peer} up\n"
            ))?;
            configuration += &format!(
                "[[interface]]\nname = \"trunk{number}\"\ndevice = \"{device}\"\nmode = \"native\"\n"
            );
        }
        router.write("kordon.toml", configuration)?;
        let (mut controller, _) = Controller::start(&router.place())?;
        for _ in 0..wanted.rounds {
            controller.cli(&["detach", "--yes"])?;
            controller.ended()?;
            let mut start = |name: &str| -> Result<Controller> {
                let (controller, took) = Controller::start(&router.place())?;
                values.note(name, "ms", ms(took));
                Ok(controller)
            };
            start(&names[0])?.kill()?;
            // It finds all in place.
            controller = start(&names[1])?;
        }
        controller.kill()?;
    }
    Ok(())
}

/// Measures starts, applies and imports.
pub(super) fn measure(table: &Table, wanted: Wanted<'_>) -> Result<Vec<Measured>> {
    let asns = internet::some_asns(table)?;
    let mut values = Values::default();
    starts(table, wanted, asns[0], &mut values)?;
    let router = router(table)?;
    router.write("one.toml", policy(&asns[0].to_string()))?;
    router.write("two.toml", policy(&format!("{}, {}", asns[0], asns[1])))?;
    // A table of the same size that is another one: somebody announces one network more.
    router.write("more.csv", "198.18.0.0,198.18.0.255,64500,More\n")?;

    let mut note = |case: &str, unit, value| values.note(case, unit, value);
    let blocked = format!("AS{}", asns[2]);
    let (mut controller, took) = Controller::start(&router.place())?;
    note("start/from-sources", "ms", ms(took));
    for round in 0..wanted.rounds {
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
        note(
            "memory/after-start",
            "MB",
            held(controller.pid(), "VmHWM:")?,
        );

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
        let (took, _) = timed(&controller, &["block", &blocked, "--zone", "cameras"])?;
        note("block/command", "ms", took);
        let (took, _) = timed(&controller, &["unblock", &blocked, "--zone", "cameras"])?;
        note("unblock/command", "ms", took);

        let mut files: Vec<String> = Vec::new();
        for file in &table.files {
            files.push(file.canonicalize()?.to_string_lossy().into_owned());
        }
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
        note(
            "memory/after-import",
            "MB",
            held(controller.pid(), "VmHWM:")?,
        );
    }
    note(
        "snapshot",
        "MB",
        size(&router.path("state/asndb.snapshot"))?,
    );
    Ok(values.measured("daemon"))
}

fn size(path: &Path) -> Result<f64> {
    Ok(fs::metadata(path)?.len() as f64 / 1e6)
}
