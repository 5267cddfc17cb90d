//! What happens to the ASN database on disk: snapshots that are damaged, a disk that is
//! full, a controller that is killed while it fetches or imports. Cameras meet the same
//! verdicts as before, and the reason is shown.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    router::Router,
    server::{Mood, Server},
    traffic::{
        BLOCKED, NAMED, OTHER, UNNAMED, drops, refused, status, under_traffic, until, whole,
    },
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

fn snapshot(router: &Router) -> PathBuf {
    router.path("state/asndb.snapshot")
}

fn shows_refused(router: &Router, count: u32) -> Result<()> {
    let page = Metrics::scrape(&router.wire.namespace)?;
    let line = format!("kordon_asndb_snapshots_refused {count}");
    ensure!(page.0.lines().any(|l| l == line), "no {line:?}");
    Ok(())
}

/// Each way in which a snapshot can be wrong, and what is said of it.
fn damages(good: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let flipped = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 4;
        bytes
    };
    let mut other_version = good.to_vec();
    other_version[8] = 77;
    let mut longer = good.to_vec();
    longer.push(0);
    vec![
        (good[..good.len() / 2].to_vec(), "bytes instead of"),
        (good[..good.len() - 1].to_vec(), "bytes instead of"),
        (good[..10].to_vec(), "bytes instead of"),
        (longer, "bytes instead of"),
        (flipped(good.len() / 2), "its checksum is wrong"),
        (flipped(good.len() - 1), "its checksum is wrong"),
        (flipped(12), "its checksum is wrong"),
        (other_version, "has version 77"),
        (Vec::new(), "is not a snapshot"),
        (b"<!DOCTYPE html>\n".to_vec(), "is not a snapshot"),
        (vec![0; good.len()], "is not a snapshot"),
    ]
}

#[test]
fn a_damaged_snapshot_is_refused_and_the_one_before_is_taken() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("damaged", binary)?;
    router.write("asn.csv", whole(1000))?;
    let (controller, _) = Controller::start(&router.place())?;
    let before = status(&controller)?["prefixes_v4"].clone();
    router.write("asn.csv", whole(1010))?;
    controller.cli(&["asndb", "update"])?;
    let after = status(&controller)?["prefixes_v4"].clone();
    assert_ne!(before, after);
    let good = fs::read(snapshot(&router))?;
    // Nothing but snapshots is left to begin with.
    fs::remove_file(router.path("asn.csv"))?;

    let mut controller = controller;
    let cases = damages(&good);
    for (bytes, words) in &cases {
        controller = under_traffic(&router, || {
            controller.kill()?;
            fs::write(snapshot(&router), bytes)?;
            fs::write(router.path("kordon.log"), "")?;
            let started = Controller::spawn(&router.place())?;
            until("it answers", || Ok(status(&started).is_ok()))?;
            // What is in the kernel is newer, and stays.
            let asndb = status(&started)?;
            let all = started.cli(&["status"])?;
            ensure!(all["enforcing"] == false, "{all}");
            ensure!(
                all["reasons"].to_string().contains("is an older one"),
                "{all}"
            );
            let said = asndb["refused_snapshots"][0].to_string();
            ensure!(said.contains(words), "no {words:?} in {asndb}");
            ensure!(asndb["prefixes_v4"] == before, "{asndb}");
            shows_refused(&router, 1)?;
            let log = fs::read_to_string(router.path("kordon.log"))?;
            ensure!(log.contains(words), "no {words:?} in the log");
            Ok(started)
        })?;
        assert!(drops(&router, BLOCKED)? && !drops(&router, OTHER)?);
    }
    println!("{} damaged snapshots refused", cases.len());

    // The next good one clears it, and what was damaged takes the place of none.
    router.write("asn.csv", whole(1010))?;
    under_traffic(&router, || controller.cli(&["asndb", "update"]).map(drop))?;
    let asndb = status(&controller)?;
    assert_eq!(asndb["prefixes_v4"], after);
    assert_eq!(asndb["refused_snapshots"], serde_json::json!([]));
    shows_refused(&router, 0)?;
    controller.kill()?;
    fs::remove_file(router.path("asn.csv"))?;
    fs::write(snapshot(&router), b"kordonDB")?;
    let controller = Controller::spawn(&router.place())?;
    until("it answers", || Ok(status(&controller).is_ok()))?;
    assert_eq!(status(&controller)?["prefixes_v4"], before);
    assert!(drops(&router, BLOCKED)? && !drops(&router, OTHER)?);
    Ok(())
}

/// Nothing can be read: what is in the kernel must not become a table without ASNs.
#[test]
fn a_lost_database_empties_no_set() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("lost", binary)?;
    router.write("asn.csv", whole(1000))?;
    let (controller, _) = Controller::start(&router.place())?;
    router.write("asn.csv", whole(1001))?;
    controller.cli(&["asndb", "update"])?;
    let generation = controller.cli(&["status"])?["generation"].clone();
    fs::remove_file(router.path("asn.csv"))?;
    let controller = under_traffic(&router, || {
        controller.kill()?;
        let previous = router.path("state/asndb.snapshot.previous");
        ensure!(previous.exists(), "no snapshot before");
        for path in [&snapshot(&router), &previous] {
            fs::write(path, b"kordonDB and then nothing of use")?;
        }
        let controller = Controller::spawn(&router.place())?;
        until("it answers", || Ok(controller.cli(&["status"]).is_ok()))?;
        let said = controller.cli(&["status"])?;
        ensure!(said["enforcing"] == false, "{said}");
        let reasons = said["reasons"].to_string();
        ensure!(reasons.contains("the ASN database is lost"), "{said}");
        ensure!(said["generation"] == generation, "{said}");
        shows_refused(&router, 2)?;
        let policy = router.path("policy.toml");
        for arguments in [
            &["block", "AS64777", "--zone", "cameras"][..],
            &["apply", &policy.to_string_lossy()],
            &["asndb", "update"],
        ] {
            refused(&controller, arguments)?;
        }
        let log = fs::read_to_string(router.path("kordon.log"))?;
        ensure!(log.contains("what is in the kernel stays"), "{log}");
        Ok(controller)
    })?;
    router.write("asn.csv", whole(1001))?;
    under_traffic(&router, || controller.cli(&["asndb", "update"]).map(drop))?;
    until("it enforces", || {
        Ok(controller.cli(&["status"])?["enforcing"] == true)
    })?;
    shows_refused(&router, 0)?;
    assert!(drops(&router, BLOCKED)? && !drops(&router, OTHER)?);
    Ok(())
}

/// A small file system of its own under a folder, which nobody else sees.
fn small_disk(at: &Path, size: &str) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot leave the mount namespace")?;
    let nothing: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing).context("cannot make mounts private")?;
    fs::create_dir_all(at)?;
    let options = format!("size={size}");
    let flags = MsFlags::empty();
    mount(Some("none"), at, Some("tmpfs"), flags, Some(&*options)).context("cannot mount a tmpfs")
}

#[test]
fn a_full_disk_changes_nothing() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("full", binary)?;
    small_disk(&router.path("state"), "2M")?;
    let server = Server::start(
        &router.wire.namespace,
        Mood::Serve(whole(2000).into_bytes()),
    )?;
    let text = fs::read_to_string(router.path("kordon.toml"))?;
    let (head, _) = text.split_once("[asndb]").context("there is an [asndb]")?;
    let url = server.url("asn.csv");
    router.write(
        "kordon.toml",
        format!(
            "{head}[asndb]\nretries = 0\n[[asndb.source]]\nurl = \"{url}\"\n\
             [metrics]\nlisten = \"127.0.0.1:9754\"\n"
        ),
    )?;
    let controller = Controller::spawn(&router.place())?;
    until("the first download", || {
        Ok(status(&controller).is_ok_and(|asndb| asndb["prefixes_v4"] != 0))
    })?;
    until("it enforces", || drops(&router, BLOCKED))?;
    let before = status(&controller)?["prefixes_v4"].clone();

    // Room for a download and not for a snapshot; room for neither.
    for (room, words) in [
        (100 << 10, "the change cannot be kept"),
        (0, "cannot store"),
    ] {
        server.set(Mood::Serve(whole(2050 + room / 1024).into_bytes()));
        let filler = router.path("state/filler");
        let mut size = free(&router.path("state"))?.saturating_sub(u64::from(room));
        while fs::write(&filler, vec![1; usize::try_from(size)?]).is_err() {
            size -= 4096;
        }
        under_traffic(&router, || {
            let said = refused(&controller, &["asndb", "update"])?;
            ensure!(said.contains(words), "no {words:?} in {said}");
            let asndb = status(&controller)?;
            let failure = asndb["update"]["failure"].to_string();
            ensure!(failure.contains(words), "no {words:?} in {failure}");
            ensure!(asndb["prefixes_v4"] == before, "{asndb}");
            Ok(())
        })?;
        fs::remove_file(&filler)?;
    }
    // What is on the disk is whole.
    let said = std::process::Command::new(router.place().binary)
        .args(["asndb", "info", "--json", "--asn-db"])
        .arg(snapshot(&router))
        .output()?;
    assert!(said.status.success(), "{said:?}");
    under_traffic(&router, || controller.cli(&["asndb", "update"]).map(drop))?;
    assert_ne!(status(&controller)?["prefixes_v4"], before);
    Ok(())
}

fn free(at: &Path) -> Result<u64> {
    let stat = nix::sys::statvfs::statvfs(at)?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

/// Ends in the middle of an import, or of a download, come back with what was there.
#[test]
fn killed_in_the_middle() -> Result<()> {
    const ROUNDS: u64 = 12;
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("killed", binary)?;
    router.write("asn.csv", whole(60_000))?;
    let server = Server::start(&router.wire.namespace, Mood::Endless)?;
    let (mut controller, _) = Controller::start(&router.place())?;
    let good = status(&controller)?["prefixes_v4"].clone();
    router.write("one.csv", whole(60_000) + "1.2.3.0,1.2.3.255,64510,x\n")?;
    let one = router.path("one.csv");
    let one = one.to_string_lossy().into_owned();
    let start = Instant::now();
    controller.cli(&["asndb", "import", &one])?;
    let takes = start.elapsed();
    let more = status(&controller)?["prefixes_v4"].clone();
    ensure!(good != more);
    let mut seen = Vec::new();
    let mut controller = under_traffic(&router, || {
        for round in 0..ROUNDS {
            let file = if round % 2 == 0 { "asn.csv" } else { "one.csv" };
            let mut import = controller
                .command(&["asndb", "import", &router.path(file).to_string_lossy()])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            thread::sleep(takes.mul_f64((round + 1) as f64 / ROUNDS as f64));
            controller.kill()?;
            import.wait()?;
            (controller, _) = Controller::start(&router.place())?;
            let now = status(&controller)?["prefixes_v4"].clone();
            ensure!(now == good || now == more, "{now}, not {good} or {more}");
            ensure!(status(&controller)?["refused_snapshots"] == serde_json::json!([]));
            seen.push(now);
            until("nothing half written is left", || {
                Ok(leftovers(&router)? == 0)
            })?;
        }
        Ok(controller)
    })?;
    println!("an import takes {takes:?}; after each kill: {seen:?}");

    // A download that never ends.
    let now = status(&controller)?["prefixes_v4"].clone();
    let text = fs::read_to_string(router.path("kordon.toml"))?;
    router.write(
        "kordon.toml",
        text.replace(
            "[metrics]",
            &format!("[[asndb.source]]\nurl = \"{}\"\n[metrics]", server.url("x")),
        ),
    )?;
    let _controller = under_traffic(&router, || {
        for _ in 0..3 {
            controller.kill()?;
            (controller, _) = Controller::start(&router.place())?;
            until("it is on its way", || Ok(leftovers(&router)? > 0))?;
        }
        ensure!(status(&controller)?["prefixes_v4"] == now);
        controller.kill()?;
        server.set(Mood::Serve(format!("{NAMED}{UNNAMED}").into_bytes()));
        Ok(Controller::start(&router.place())?.0)
    })?;
    until("the rest is removed", || Ok(leftovers(&router)? == 0))?;
    Ok(())
}

/// While no daemon runs, the next start would make whatever is imported live over programs
/// that enforce what was there before.
#[test]
fn an_import_without_a_daemon_is_judged_too() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("offline", binary)?;
    router.write("asn.csv", whole(1000))?;
    let (controller, _) = Controller::start(&router.place())?;
    let before = status(&controller)?["prefixes_v4"].clone();
    router.write("less.csv", whole(800))?;
    router.write("without.csv", whole(1000).replace(",64500,", ",64777,"))?;
    let import = |name: &str, more: &[&str]| -> Result<std::process::Output> {
        let mut command = std::process::Command::new(router.place().binary);
        command.args(["asndb", "import"]).arg(router.path(name));
        command.arg("--config").arg(router.path("kordon.toml"));
        command.arg("--state-dir").arg(router.path("state"));
        Ok(command.args(more).output()?)
    };
    let controller = under_traffic(&router, || {
        controller.kill()?;
        for (name, words) in [
            ("less.csv", "shrinks from 1002"),
            ("without.csv", "AS64500 (Bad), which the policy names"),
        ] {
            let said = import(name, &[])?;
            let error = String::from_utf8_lossy(&said.stderr);
            ensure!(said.status.code() == Some(1), "{said:?}");
            ensure!(error.contains(words), "no {words:?} in {error}");
            ensure!(error.contains("--accept"), "{error}");
        }
        let (controller, _) = Controller::start(&router.place())?;
        ensure!(status(&controller)?["prefixes_v4"] == before);
        Ok(controller)
    })?;
    controller.kill()?;
    let said = import("without.csv", &["--accept"])?;
    ensure!(said.status.success(), "{said:?}");
    // It is newer than the source that is configured.
    let (_controller, _) = Controller::start(&router.place())?;
    ensure!(!drops(&router, BLOCKED)?);
    Ok(())
}

fn leftovers(router: &Router) -> Result<usize> {
    let unnamed = |folder: &str| -> Result<usize> {
        let entries = fs::read_dir(router.path(folder))?;
        let names = entries.flatten().map(|entry| entry.file_name());
        Ok(names
            .filter(|name| {
                let name = name.to_string_lossy();
                name.starts_with('.') || name.ends_with(".tmp")
            })
            .count())
    };
    Ok(unnamed("state")? + unnamed("state/sources")?)
}
