//! What the log of evidence takes of the daemon while cameras send, and how long an answer over
//! ninety days takes.
//!
//! Ninety days cannot be waited for: cameras send for a minute, the daemon writes its log and its
//! history, and then the history's only hour is there 2,160 times. What is read is what would be
//! read; only who sent what does not change from hour to hour.

use std::{
    fs,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{sys::signal::Signal, time::clock_getcpuclockid, unistd::Pid};
use rusqlite::Connection;

use super::{
    Wanted,
    daemon::{binary, held},
    measured::{Measured, Values},
};
use crate::{
    controller::Controller,
    lab::frame::{Ethernet, udp},
    router::Router,
};

/// Cameras of a history, the flows of each, and its hours.
const CAMERAS: u16 = 500;
const FLOWS: u16 = 10;
const HOURS: u32 = 90 * 24;
/// Packets of a flow in an hour.
const PACKETS: usize = 3;
/// How long cameras send.
const SENDING: Duration = Duration::from_secs(60);

/// The answers that are waited for.
const ANSWERS: [(&str, &[&str]); 5] = [
    ("report/html", &["report", "--since", "90d", "--html"]),
    ("report/json", &["report", "--since", "90d", "--json"]),
    (
        "flows/by-camera",
        &["flows", "--since", "90d", "--sum", "camera", "--json"],
    ),
    (
        "flows/by-network",
        &["flows", "--since", "90d", "--sum", "network", "--json"],
    ),
    (
        "flows/one-camera",
        &["flows", "--since", "90d", "--camera", "10.20.1.7", "--json"],
    ),
];

pub(super) fn measure(wanted: Wanted<'_>) -> Result<Vec<Measured>> {
    let mut values = Values::default();
    let (minutes, hours) = match wanted.quick {
        true => (Duration::from_secs(2), 48),
        false => (SENDING, HOURS),
    };
    for (name, flows) in [("10k-a-minute", 10_000), ("100k-a-minute", 100_000)] {
        if wanted.case(&format!("writing/{name}")) {
            writing(name, flows, minutes, &mut values)?;
        }
    }
    if ANSWERS.iter().any(|(name, _)| wanted.case(name)) {
        answers(wanted.rounds, hours, &mut values)?;
    }
    Ok(values.measured("evidence"))
}

/// A router whose daemon writes a log.
fn router() -> Result<Router> {
    let router = Router::new("evidence", binary()?)?;
    let configuration = fs::read_to_string(router.path("kordon.toml"))?;
    let evidence = "[evidence]\ninterval = \"60s\"\ncheckpoint = \"5s\"\n";
    router.write("kordon.toml", configuration + evidence)?;
    Ok(router)
}

/// One packet of a flow, of many that a camera has: no two have the same destination and port.
fn frame(camera: u16, flow: u32) -> Vec<u8> {
    let [high, low] = camera.to_be_bytes();
    // Every fifth network is one that cameras may not reach.
    let to = match flow % 5 {
        0 => [198, 51, 100, 1 + (flow % 200) as u8],
        _ => [203, 0, 113, 1 + (flow % 200) as u8],
    };
    let source = [10, 20, 1 + high, low].into();
    let port = 1024 + (flow / 200 % 60_000) as u16;
    let packet = udp(source, to.into(), (40_000, port), &[0; 400]);
    Ethernet::new([2, 0, 0, 1, high, low], [4; 6])
        .tag(0x8100, 20)
        .packet(&packet)
}

/// New flows at this rate, each of one packet, for a time: what the daemon takes.
fn writing(name: &str, a_minute: u32, time: Duration, values: &mut Values) -> Result<()> {
    let router = router()?;
    let (controller, _) = Controller::start(&router.place())?;
    let before = used(controller.pid())?;
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < time {
        let due = (begun.elapsed().as_secs_f64() / 60.0 * f64::from(a_minute)) as u32;
        for number in sent..due {
            let camera = (number % u32::from(CAMERAS)) as u16;
            router
                .wire
                .send(&frame(camera, number / u32::from(CAMERAS)), 1)?;
        }
        sent = sent.max(due);
        thread::sleep(Duration::from_millis(5));
    }
    let took = begun.elapsed().as_secs_f64();
    let share = (used(controller.pid())? - before) / took * 100.0;
    values.note(format!("writing/{name}/processor"), "%", share);
    let memory = held(controller.pid(), "VmHWM:")?;
    values.note(format!("writing/{name}/memory"), "MB", memory);
    controller.signal(Signal::SIGTERM)?;
    controller.ended()?;
    let mut report = router.command("report", &["--since", "1h", "--json"]);
    let output = router.wire.namespace.run(move || Ok(report.output()?))?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let books = report["books"]["cameras"].as_object().context("books")?;
    let packets = |which: &str| -> u64 {
        let all = books
            .values()
            .filter_map(|book| book[which]["packets"].as_u64());
        all.sum()
    };
    let (counted, recorded) = (packets("counted"), packets("recorded"));
    ensure!(
        counted == u64::from(sent) && recorded == counted,
        "{sent} were sent, {counted} counted, {recorded} recorded"
    );
    let folder = router.path("state/evidence");
    let log = bytes(&folder, ".jsonl")? / 1e6;
    values.note(
        format!("writing/{name}/recorded"),
        "packets",
        recorded as f64,
    );
    values.note(format!("writing/{name}/log"), "MB", log);
    Ok(())
}

/// Questions over the whole history.
fn answers(rounds: u32, hours: u32, values: &mut Values) -> Result<()> {
    let router = router()?;
    let (controller, _) = Controller::start(&router.place())?;
    for camera in 0..CAMERAS {
        for flow in 0..u32::from(FLOWS) {
            router.wire.send(&frame(camera, flow), PACKETS)?;
        }
    }
    thread::sleep(Duration::from_secs(2));
    controller.signal(Signal::SIGTERM)?;
    controller.ended()?;
    // What the last seconds brought is taken by the next daemon.
    let (controller, _) = Controller::start(&router.place())?;
    let file = router.path("state/evidence/history.db");
    let end = Instant::now() + Duration::from_secs(60);
    while flows(&file)? < u64::from(CAMERAS) * u64::from(FLOWS) {
        ensure!(
            Instant::now() < end,
            "the history has {} flows",
            flows(&file)?
        );
        thread::sleep(Duration::from_millis(200));
    }
    controller.kill()?;
    let folder = router.path("state/evidence");
    for (name, hours) in [("history/an-hour", 1), ("history/90-days", hours)] {
        repeat(&file, hours)?;
        values.note(name, "MB", bytes(&folder, "history.db")? / 1e6);
    }
    for _ in 0..rounds {
        for (name, arguments) in ANSWERS {
            let mut command = router.command(arguments[0], &arguments[1..]);
            command.stdout(Stdio::piped());
            let start = Instant::now();
            let output = router.wire.namespace.run(move || Ok(command.output()?))?;
            let took = start.elapsed();
            ensure!(
                output.status.success() && !output.stdout.is_empty(),
                "{name}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            if name == "flows/by-camera" {
                let packets = sum(&output.stdout)?;
                let least = u64::from(hours - 2) * u64::from(CAMERAS * FLOWS) * PACKETS as u64;
                ensure!(packets >= least, "{packets} packets in all, not {least}");
            }
            values.note(name, "s", took.as_secs_f64());
        }
    }
    Ok(())
}

/// Packets of all lines of an answer.
fn sum(answer: &[u8]) -> Result<u64> {
    let lines = std::str::from_utf8(answer)?.lines();
    let packets = lines.map(|line| {
        let row: serde_json::Value = serde_json::from_str(line)?;
        row["packets"].as_u64().context("packets")
    });
    packets.sum()
}

/// How many flows a history has, by now.
fn flows(file: &Path) -> Result<u64> {
    if !file.exists() {
        return Ok(0);
    }
    let database = Connection::open(file)?;
    Ok(
        database.query_row("SELECT count(DISTINCT flow) FROM sums", [], |row| {
            row.get(0)
        })?,
    )
}

/// The hour with the most flows as often as this, each an hour before the other.
fn repeat(file: &Path, hours: u32) -> Result<()> {
    let mut database = Connection::open(file)?;
    let transaction = database.transaction()?;
    let newest: i64 = transaction.query_row(
        "SELECT hour FROM sums GROUP BY hour ORDER BY count(*) DESC",
        [],
        |row| row.get(0),
    )?;
    for back in 1..i64::from(hours) {
        let micros = back * 3_600_000_000;
        transaction.execute(
            "INSERT INTO sums SELECT hour - ?1, flow, packets, bytes, first - ?2, last - ?2 \
             FROM sums WHERE hour = ?3 ON CONFLICT DO NOTHING",
            (back, micros, newest),
        )?;
        // Their records are those of that hour.
        transaction.execute(
            "INSERT INTO hours SELECT hour - ?1, first, last FROM hours WHERE hour = ?2 \
             ON CONFLICT DO NOTHING",
            (back, newest),
        )?;
    }
    let micros = i64::from(hours - 1) * 3_600_000_000;
    transaction.execute(
        "UPDATE meta SET value = value - ?1 WHERE key = 'begins'",
        [micros],
    )?;
    Ok(transaction.commit()?)
}

/// Seconds of processors that a process has used.
fn used(pid: u32) -> Result<f64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?;
    Ok(Duration::from(clock.now()?).as_secs_f64())
}

/// Bytes of the files in a folder whose names end so.
fn bytes(folder: &Path, end: &str) -> Result<f64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(end) {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum as f64)
}
