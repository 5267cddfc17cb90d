//! A log whose disk is full, and one whose disk does not answer: what is enforced and said goes on, and the books say what the
//! log lacks.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    live::{configure, until},
    router::Router,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Count, Sent, count, past, round, written::verify};

const EVIDENCE: &str = "[evidence]\nfolder = \"evidence\"\ninterval = \"1s\"\ncheckpoint = \"1s\"";
/// How long a disk does not answer.
const HANGS: u64 = 24;

/// A file system of the test's own, unmounted when it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, arguments: &[&str]) -> Result<Self> {
        fs::create_dir_all(&at)?;
        run(Command::new("mount").args(arguments).arg(&at))?;
        Ok(Self(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

fn all(sent: &Sent) -> Count {
    let sums = sent.cameras.values();
    sums.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

/// Which parts of the log fail, by `status`.
fn failing(controller: &Controller) -> Result<Vec<String>> {
    let status = controller.cli(&["status"])?;
    ensure!(status["enforcing"] == true, "{}", status["reasons"]);
    Ok(serde_json::from_value(
        status["evidence"]["failing"].clone(),
    )?)
}

/// A daemon that has seen something.
fn begin(router: &Router) -> Result<(Controller, fastrand::Rng, Sent)> {
    configure(router, "sources = [\"asn.csv\"]", EVIDENCE)?;
    let (mut controller, _) = Controller::start(&router.place())?;
    controller.wait_until_enforcing()?;
    let mut random = fastrand::Rng::with_seed(161);
    let mut sent = Sent::default();
    round(router, &mut random, &mut sent)?;
    Ok((controller, random, sent))
}

/// All is well again, and goes on until the daemon ends; then the log, its books and its history are what they should be.
fn ends(
    router: &Router,
    controller: Controller,
    mut random: fastrand::Rng,
    mut sent: Sent,
) -> Result<()> {
    until("all is well", || {
        failing(&controller).map(|failing| failing.is_empty())
    })?;
    round(router, &mut random, &mut sent)?;
    controller.signal(Signal::SIGTERM)?;
    drop(controller.ended());
    let unrecorded = books(router, &sent)?;
    println!("{} sent, {unrecorded} of them not recorded", all(&sent).0);
    past::is_rebuilt(&router.path("evidence"))
}

/// Without a daemon: what was counted is what was sent, and either recorded or said not to be. How much that is.
fn books(router: &Router, sent: &Sent) -> Result<u64> {
    let (said, code) = verify(router, &[])?;
    ensure!(code == Some(4) && said["ok"] == true, "{said}");
    let mut command = router.command("report", &["--since", "1h", "--json"]);
    let output = router.wire.namespace.run(move || Ok(command.output()?))?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let books = report["books"]["cameras"].as_object().context("books")?;
    let mut counted = (0, 0);
    let mut unrecorded = 0;
    for book in books.values() {
        let of = |which: &str| count(&book[which]);
        let sum = (
            of("recorded").0 + of("unrecorded").0,
            of("recorded").1 + of("unrecorded").1,
        );
        ensure!(of("counted") == sum, "{book}");
        counted = (counted.0 + sum.0, counted.1 + sum.1);
        unrecorded += of("unrecorded").0;
    }
    ensure!(counted == all(sent), "{counted:?}, sent {:?}", all(sent));
    Ok(unrecorded)
}

/// Until nothing is free any more.
fn fill(file: &Path) -> Result<()> {
    let mut file = File::create(file)?;
    for size in [1 << 20, 4096, 1] {
        let zeros = vec![0; size];
        while file.write_all(&zeros).is_ok() {}
    }
    Ok(())
}

#[test]
fn a_full_disk() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("full", binary)?;
    let folder = router.path("evidence");
    let size = ["-t", "tmpfs", "-o", "size=160m", "kordon-test"];
    let disk = Disk::mount(folder.clone(), &size)?;
    let (mut controller, mut random, mut sent) = begin(&router)?;
    let filler = folder.join("filler");
    fill(&filler)?;
    let is_writing = |failing: &Vec<String>| failing.iter().any(|part| part == "writing");
    until("it is said to be full", || {
        failing(&controller).map(|failing| is_writing(&failing))
    })?;
    round(&router, &mut random, &mut sent)?;
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    let part = [("part", "writing")];
    ensure!(metrics.sum("kordon_evidence_failing", &part) == 1);
    // Another one starts on the full disk, and enforces.
    controller.signal(Signal::SIGKILL)?;
    drop(controller.ended());
    round(&router, &mut random, &mut sent)?;
    (controller, _) = Controller::start(&router.place())?;
    controller.wait_until_enforcing()?;
    round(&router, &mut random, &mut sent)?;
    until("it is said to be full again", || {
        failing(&controller).map(|failing| !failing.is_empty())
    })?;
    fs::remove_file(filler)?;
    ends(&router, controller, random, sent)?;
    drop(disk);
    Ok(())
}

/// `status` is answered, a change is made and counters are read while whoever writes the log waits for its disk.
#[test]
fn a_disk_that_does_not_answer() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("hangs", binary)?;
    let image = router.path("disk");
    File::create(&image)?.set_len(400 << 20)?;
    run(Command::new("mke2fs")
        .args(["-q", "-t", "ext4"])
        .arg(&image))?;
    let folder = router.path("evidence");
    let image = image.to_str().context("UTF-8")?.to_owned();
    let disk = match Disk::mount(folder.clone(), &["-o", "loop", &image]) {
        Ok(disk) => disk,
        Err(why) => {
            println!("SKIPPED: no loop device for a file system of its own: {why}");
            return Ok(());
        }
    };
    let (controller, mut random, mut sent) = begin(&router)?;
    // It thaws, whatever becomes of this test.
    let script = "fsfreeze --freeze \"$0\" && sleep \"$1\"; fsfreeze --unfreeze \"$0\"";
    let mut frozen = Command::new("sh")
        .args(["-c", script])
        .arg(&folder)
        .arg(HANGS.to_string())
        .spawn()?;
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut timed = |what: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let start = Instant::now();
        what()?;
        println!("{:?} for an answer", start.elapsed());
        slowest = slowest.max(start.elapsed());
        Ok(())
    };
    let mut is_said = false;
    while begun.elapsed() < Duration::from_secs(HANGS - 6) && !is_said {
        round(&router, &mut random, &mut sent)?;
        timed(&mut || {
            let status = controller.cli(&["status"])?;
            ensure!(status["enforcing"] == true, "{}", status["reasons"]);
            let [drop, pass] = ["drop", "pass"].map(|action| {
                let packets = &status["zones"][0]["packets"][action];
                packets.as_u64().unwrap_or_default()
            });
            is_said = status["evidence"]["failing"] == json!(["writing"]);
            ensure!(
                drop + pass == all(&sent).0,
                "{drop} and {pass}, of {:?}",
                all(&sent)
            );
            Ok(())
        })?;
        timed(&mut || Metrics::scrape(&router.wire.namespace).map(drop))?;
        for change in ["block", "unblock"] {
            timed(&mut || {
                controller
                    .cli(&[change, "AS64501", "--zone", "cameras"])
                    .map(drop)
            })?;
        }
    }
    ensure!(frozen.try_wait()?.is_none(), "it was not frozen");
    ensure!(is_said, "it is not said that the disk does not answer");
    ensure!(
        slowest < Duration::from_secs(10),
        "{slowest:?} for an answer"
    );
    ensure!(frozen.wait()?.success(), "it did not thaw");
    println!("{slowest:?} for an answer");
    ends(&router, controller, random, sent)?;
    drop(disk);
    Ok(())
}
