//! The log of evidence against the senders' own counts: every frame is in it once, with its bytes, also where the
//! controller is killed at any moment; and what somebody does to the log afterwards is found and named.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use kordon_tests::{
    controller::{Controller, binary},
    lab::frame::{Ethernet, udp},
    live::{configure, setting, until},
    router::{Router, policy},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    Count, Sent, add, mac,
    outside::{self, Holder},
    past, round,
    sent_on::Server,
};

/// All records, each with its file and line.
fn records(folder: &Path) -> Result<Vec<(PathBuf, usize, Value)>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        for (number, line) in fs::read_to_string(&file)?.lines().enumerate() {
            all.push((file.clone(), number, serde_json::from_str(line)?));
        }
    }
    Ok(all)
}

fn count(of: &Value) -> Count {
    let number = |name: &str| of[name].as_u64().unwrap_or(0);
    (number("packets"), number("bytes"))
}

/// What `report --verify` says, and its exit code.
pub(super) fn verify(router: &Router, more: &[&str]) -> Result<(Value, Option<i32>)> {
    let mut command = router.command("report", &[&["--verify", "--json"], more].concat());
    let output = router.wire.namespace.run(move || Ok(command.output()?))?;
    let said = serde_json::from_slice(&output.stdout).with_context(|| {
        let error = String::from_utf8_lossy(&output.stderr);
        format!("`report --verify` said no JSON: {error}")
    })?;
    Ok((said, output.status.code()))
}

/// Every frame of a camera is in the log.
fn agrees(folder: &Path, sent: &Sent) -> Result<Vec<(PathBuf, usize, Value)>> {
    let records = records(folder)?;
    let mut cameras: BTreeMap<String, Count> = BTreeMap::new();
    let mut books: BTreeMap<(String, String), Count> = BTreeMap::new();
    let mut lines: BTreeMap<String, Count> = BTreeMap::new();
    for (index, (_, _, record)) in records.iter().enumerate() {
        ensure!(record["event"]["sequence"] == index, "{index}: {record}");
        if record["event"]["action"] != "flow" {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let new = count(&record["network"]);
        let name = text(&record["source"]["mac"])
            .replace('-', ":")
            .to_lowercase();
        let of = &record["kordon"];
        let book = (text(&of["zone"]), text(&of["action"]));
        for sum in [
            cameras.entry(name).or_default(),
            books.entry(book).or_default(),
            lines.entry(text(&of["line"])).or_default(),
        ] {
            *sum = (sum.0 + new.0, sum.1 + new.1);
        }
        // What is new adds up to the total.
        ensure!(lines[&text(&of["line"])] == count(&of["total"]), "{record}");
        ensure!(
            record["event"]["start"].as_str() <= record["event"]["end"].as_str(),
            "{record}"
        );
    }
    for (camera, of) in &sent.cameras {
        let found = cameras.get(camera).copied().unwrap_or_default();
        ensure!(found == *of, "{camera}: {found:?} in the log, sent {of:?}");
    }
    ensure!(cameras.len() == sent.cameras.len(), "{:?}", cameras.keys());
    let mut beats = records.iter().rev().map(|(.., record)| record);
    let beat = beats.find(|record| record["event"]["action"] == "heartbeat");
    let beat = beat.context("it beats")?;
    for counted in beat["kordon"]["counted"].as_array().context("a list")? {
        let of = |name: &str| counted[name].as_str().unwrap_or_default().to_owned();
        let written = books.get(&(of("zone"), of("action"))).copied();
        ensure!(
            written.unwrap_or_default() == count(counted),
            "{counted}, and {written:?} in the log"
        );
    }
    ensure!(count(&beat["kordon"]["missed"]) == (0, 0), "{beat}");
    Ok(records)
}

#[test]
fn what_is_written_is_what_was_sent() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("written", binary)?;
    let certificate = outside::certificate(&router)?;
    let server = Server::start(&router, &certificate)?;
    let holder = Holder::start(&router, &certificate)?;
    router.write("token", format!("{}\n", outside::TOKEN))?;
    let section = format!(
        "[evidence]\ninterval = \"1s\"\ncheckpoint = \"1s\"\n\
         [evidence.post]\nurl = \"https://127.0.0.1:{}/log\"\nca = \"ca.pem\"\ntoken_file = \"token\"\n\
         [[evidence.forward]]\nto = \"tls://127.0.0.1:{}\"\nca = \"ca.pem\"",
        holder.listening.port, server.listening.port
    );
    configure(&router, "sources = [\"asn.csv\"]", &section)?;
    let folder = router.path("state").join("evidence");
    let (mut controller, _) = Controller::start(&router.place())?;
    controller.wait_until_enforcing()?;
    let mut random = fastrand::Rng::with_seed(setting("KORDON_SEED", 16).into());
    let mut sent = Sent::default();

    // What is dropped is in the log within a second, and no reader need ask.
    let frame = Ethernet::new(mac(1), [4; 6]).tag(0x8100, 20).packet(&udp(
        [10, 20, 0, 1].into(),
        [198, 51, 100, 77].into(),
        (40_000, 443),
        b"first",
    ));
    router.wire.send(&frame, 1)?;
    let camera = "02:00:00:00:01:01".to_owned();
    add(sent.cameras.entry(camera).or_default(), frame.len());
    let is_it = |record: &Value| record["destination"]["ip"] == "198.51.100.77";
    until("the drop is in the log", || {
        Ok(records(&folder)?.iter().any(|(.., record)| is_it(record)))
    })?;
    let all = records(&folder)?;
    let (.., dropped) = all.iter().find(|(.., r)| is_it(r)).context("it is there")?;
    ensure!(
        dropped["destination"]["as"]["number"] == 64500
            && dropped["rule"]["name"] == "hostile"
            && dropped["event"]["type"][1] == "denied"
            && dropped["network"]["transport"] == "udp"
            && dropped["source"]["mac"] == "02-00-00-00-01-01",
        "{dropped}"
    );
    let time = |value: &Value| {
        Ok::<_, anyhow::Error>(value.as_str().context("a time")?.parse::<Timestamp>()?)
    };
    let late = time(&dropped["@timestamp"])?.duration_since(time(&dropped["event"]["start"])?);
    ensure!(late.as_millis() < 2500, "it was there after {late:?}");

    let mut before = String::new();
    let kills = setting("KORDON_EVIDENCE_KILLS", 6);
    for number in 0..kills {
        round(&router, &mut random, &mut sent)?;
        if number == 2 {
            before = Timestamp::now().to_string();
            router.write("policy.toml", policy("64500, 64501"))?;
            let file = router.path("policy.toml");
            controller.cli(&["apply", file.to_str().context("UTF-8")?, "--yes"])?;
        }
        let moment = Duration::from_millis(random.u64(0..1500));
        thread::scope(|scope| {
            let killed = scope.spawn(|| {
                thread::sleep(moment);
                controller.signal(Signal::SIGKILL)
            });
            while !killed.is_finished() {
                round(&router, &mut random, &mut sent)?;
            }
            killed.join().map_err(|_| anyhow::anyhow!("it panicked"))?
        })?;
        drop(controller.ended());
        round(&router, &mut random, &mut sent)?;
        (controller, _) = Controller::start(&router.place())?;
        controller.wait_until_enforcing()?;
    }
    round(&router, &mut random, &mut sent)?;
    // One that verifies while the daemon writes.
    let (said, code) = verify(&router, &[])?;
    ensure!(code == Some(4) && said["ok"] == true, "{said}");
    // Whoever is killed every other second sends a lot of it again.
    until("the server has what there was by now", || {
        Ok(server.count() + 100 > records(&folder)?.len())
    })?;
    controller.signal(Signal::SIGTERM)?;
    drop(controller.ended());

    let all = agrees(&folder, &sent)?;
    let mut files: Vec<&PathBuf> = all.iter().map(|(file, ..)| file).collect();
    files.dedup();
    let mut lines = Vec::new();
    for file in files {
        lines.extend(fs::read_to_string(file)?.lines().map(str::to_owned));
    }
    server.has_all(&lines)?;
    past::agrees_without_a_daemon(&router, &sent)?;
    past::is_rebuilt(&folder)?;
    past::is_explained(&router, &before, "pass")?;
    past::is_explained(&router, &Timestamp::now().to_string(), "drop")?;
    let is = |action: &str| {
        let is = |(.., record): &&(PathBuf, usize, Value)| record["event"]["action"] == action;
        all.iter().filter(is).count()
    };
    ensure!(is("start") == kills as usize + 1 && is("stop") == 1);
    ensure!(
        is("attach") > kills as usize && is("change") > 0 && is("state") > 0 && is("heartbeat") > 0
    );
    println!(
        "{} records, {} of flows, {kills} kills",
        all.len(),
        is("flow")
    );

    let (said, code) = verify(&router, &[])?;
    ensure!(code == Some(4) && said["witnessed"] == false, "{said}");
    ensure!(said["records"] == all.len(), "{said}");
    let gaps = said["gaps"].as_array().context("a list")?;
    ensure!(gaps.len() == kills as usize, "{said}");
    let (first, newest) = holder.held()?;
    let held = router.path("outside");
    let outside = held.to_str().context("UTF-8")?;
    // One that was held outside since the beginning speaks of the first records.
    fs::write(&held, first)?;
    let (said, code) = verify(&router, &["--checkpoint", outside])?;
    let few = said["witnessed_records"].as_u64().context("a number")?;
    ensure!(code == Some(0) && few < all.len() as u64, "{said}");
    fs::write(&held, newest)?;
    let (said, code) = verify(&router, &["--checkpoint", outside])?;
    ensure!(code == Some(0) && said["witnessed"] == true, "{said}");
    // The last one is of all there is: it was posted when the daemon ended.
    ensure!(said["witnessed_records"] == all.len(), "{said}");

    // Somebody makes a drop a pass.
    let one = all.iter().find(|(.., r)| r["kordon"]["action"] == "drop");
    let (file, line, _) = one.context("something was dropped")?;
    let text = fs::read_to_string(file)?;
    let changed: Vec<String> = (text.lines().enumerate())
        .map(|(number, text)| match number == *line {
            true => text.replace("\"drop\"", "\"pass\""),
            false => text.to_owned(),
        })
        .collect();
    fs::write(file, changed.join("\n") + "\n")?;
    let (said, code) = verify(&router, &["--checkpoint", outside])?;
    ensure!(code == Some(1) && said["ok"] == false, "{said}");
    let found = &said["findings"][0];
    ensure!(
        found["line"] == line + 1
            && found["file"]
                .as_str()
                .is_some_and(|name| file.ends_with(name)),
        "{said}"
    );
    Ok(())
}
