//! State on disk that is damaged, in every way and file by file: after a start nothing is
//! judged more mildly than before, and `status` says what is wrong.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    router::{Router, policy},
    traffic::{drops, refused, until},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::stat::Mode,
    unistd::mkfifo,
};
use serde_json::Value;

/// In the first policy and in the second; in the second; by `kordon block`.
const ALL: [&str; 3] = ["198.51.100.9", "203.0.113.9", "192.0.2.9"];

/// What can happen to a file.
const DAMAGES: [&str; 6] = ["missing", "empty", "cut", "flipped", "a folder", "a FIFO"];

fn damage(path: &Path, how: &str) -> Result<()> {
    let mut bytes = fs::read(path).with_context(|| path.display().to_string())?;
    fs::remove_file(path)?;
    let middle = bytes.len() / 2;
    match how {
        "missing" => return Ok(()),
        "a folder" => return Ok(fs::create_dir(path)?),
        "a FIFO" => return Ok(mkfifo(path, Mode::S_IRWXU)?),
        "empty" => bytes.clear(),
        "cut" => bytes.truncate(middle),
        "flipped" if bytes.is_empty() => bytes.push(1),
        "flipped" => bytes[middle] ^= 1,
        other => bail!("{other}?"),
    }
    Ok(fs::write(path, bytes)?)
}

/// A router with two policies, the second of which is live, and a block.
struct Bench {
    router: Router,
    /// Its state, whole.
    good: PathBuf,
    /// All of it is in the kernel.
    in_kernel: Cell<bool>,
}

impl Bench {
    fn new(name: &str, binary: PathBuf) -> Result<Self> {
        let router = Router::new(name, binary)?;
        let (controller, _) = Controller::start(&router.place())?;
        router.write("two.toml", policy("64500, 64501"))?;
        controller.cli(&["apply", &router.path("two.toml").to_string_lossy()])?;
        controller.cli(&["block", "AS64502", "--zone", "cameras"])?;
        // A newer database than the snapshot before it: of more rows, and with the same
        // verdicts.
        let asn = fs::read_to_string(router.path("asn.csv"))?;
        router.write("more.csv", asn + "192.0.3.0,192.0.3.255,64510,More\n")?;
        controller.cli(&[
            "asndb",
            "import",
            "--accept",
            &router.path("more.csv").to_string_lossy(),
        ])?;
        controller.kill()?;
        // Nothing but snapshots is left to begin with.
        let text = fs::read_to_string(router.path("kordon.toml"))?;
        router.write("kordon.toml", text.replace("sources = [\"asn.csv\"]", ""))?;
        let good = router.path("good");
        copy(&router.path("state"), &good)?;
        Ok(Self {
            router,
            good,
            in_kernel: Cell::new(true),
        })
    }

    fn state(&self) -> PathBuf {
        self.router.path("state")
    }

    /// Damages one file after the other; `pins`: with all of it in the kernel.
    fn run(&self, files: &[(&str, &str)], pins: bool) -> Result<Value> {
        let case = format!("{files:?}, pins: {pins}");
        self.whole_again(pins)?;
        for (name, how) in files {
            damage(&self.state().join(name), how).context(case.clone())?;
        }
        let controller = Controller::spawn(&self.router.place())?;
        until("it answers", || Ok(controller.cli(&["status"]).is_ok())).context(case.clone())?;
        let status = controller.cli(&["status"])?;
        if pins {
            for address in ALL {
                ensure!(
                    drops(&self.router, address)?,
                    "{case}: {address} passes: {status}"
                );
            }
        }
        controller.kill()?;
        Ok(status)
    }

    /// The whole state on disk, and in the kernel or not.
    fn whole_again(&self, pins: bool) -> Result<()> {
        if self.state().exists() {
            fs::remove_dir_all(self.state()).or_else(|_| fs::remove_file(self.state()))?;
        }
        copy(&self.good, &self.state())?;
        if pins && !self.in_kernel.get() {
            let (controller, _) = Controller::start(&self.router.place())?;
            controller.kill()?;
            self.in_kernel.set(true);
        }
        if !pins {
            self.in_kernel.set(false);
            let detached = Command::new(self.router.place().binary)
                .args(["detach", "--yes", "--bpffs"])
                .arg(self.router.place().bpffs)
                .arg("--socket")
                .arg(self.router.path("kordon.sock"))
                .arg("--config")
                .arg(self.router.path("kordon.toml"))
                .output()?;
            ensure!(
                detached.status.success()
                    || String::from_utf8_lossy(&detached.stderr).contains("anything pinned"),
                "{detached:?}"
            );
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(done.success());
    Ok(())
}

fn says(status: &Value, name: &str) -> Result<()> {
    let (reasons, state) = (status["reasons"].to_string(), status["state"].to_string());
    ensure!(
        reasons.contains(name) || state.contains(name),
        "{name} is not named: {reasons} {state}"
    );
    Ok(())
}

#[test]
fn one_damaged_file_loosens_nothing() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let bench = Bench::new("onefile", binary)?;
    let mut count = 0;
    for name in [
        "current.json",
        "history/2.json",
        "overlay.toml",
        "asndb.snapshot",
    ] {
        for pins in [true, false] {
            for how in if pins { &DAMAGES[..] } else { &DAMAGES[..2] } {
                let status = bench.run(&[(name, how)], pins)?;
                says(&status, name).with_context(|| format!("{how}, pins: {pins}"))?;
                // All of it is there twice, but for the database; and after a boot nobody
                // knows which policy was live.
                let mended = match name {
                    "history/2.json" | "overlay.toml" => true,
                    "current.json" => pins,
                    _ => false,
                };
                ensure!(
                    status["enforcing"] == mended,
                    "{name} {how}, pins: {pins}: {status}"
                );
                count += 1;
            }
        }
    }
    // What costs nothing but itself.
    for name in [
        "history/1.json",
        "changes.jsonl",
        "lock",
        "asndb.snapshot.previous",
    ] {
        for how in ["cut", "a folder", "a FIFO"] {
            let status = bench.run(&[(name, how)], true)?;
            ensure!(status["enforcing"] == true, "{name} {how}: {status}");
            count += 1;
        }
    }
    println!("{count} cases");
    Ok(())
}

#[test]
fn what_both_copies_have_lost_stays_in_the_kernel() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let bench = Bench::new("twofiles", binary)?;
    for how in ["missing", "empty", "flipped", "a FIFO"] {
        let files = [("current.json", how), ("overlay.toml", how)];
        let status = bench.run(&files, true)?;
        ensure!(status["enforcing"] == false, "{how}: {status}");
        says(&status, "current.json")?;
        says(&status, "overlay.toml")?;
        let policies = [("current.json", how), ("history/2.json", how)];
        let status = bench.run(&policies, true)?;
        ensure!(status["enforcing"] == false, "{how}: {status}");
    }
    // After a boot the entries are gone, and it is said until somebody sees to it.
    let status = bench.run(&[("current.json", "cut"), ("overlay.toml", "cut")], false)?;
    ensure!(status["enforcing"] == false, "{status}");
    says(&status, "overlay.toml")?;

    // Nobody loosens it by accident; who means it does, and reasons go with their cause.
    bench.run(&[("current.json", "cut"), ("overlay.toml", "empty")], true)?;
    let router = &bench.router;
    let controller = Controller::spawn(&router.place())?;
    until("it answers", || Ok(controller.cli(&["status"]).is_ok()))?;
    let page = Metrics::scrape(&router.wire.namespace)?;
    ensure!(page.sum("kordon_state_lost", &[("part", "overlay")]) == 1);
    ensure!(page.sum("kordon_enforcing", &[]) == 0);
    let two = router.path("two.toml").to_string_lossy().into_owned();
    let said = refused(&controller, &["apply", &two])?;
    ensure!(
        said.contains("overlay.toml") && said.contains("--yes"),
        "{said}"
    );
    ensure!(drops(router, ALL[2])?);
    controller.cli(&["apply", &two, "--yes"])?;
    ensure!(drops(router, ALL[1])? && !drops(router, ALL[2])?);
    let status = controller.cli(&["status"])?;
    let reasons = status["reasons"].to_string();
    ensure!(
        reasons.contains("overlay.damaged") && !reasons.contains("current.json"),
        "{status}"
    );
    controller.cli(&["block", "AS64502", "--zone", "cameras"])?;
    ensure!(drops(router, ALL[2])?);
    fs::remove_file(bench.state().join("overlay.damaged"))?;
    until("the reason is gone", || {
        Ok(controller.cli(&["status"])?["enforcing"] == true)
    })?;
    Ok(())
}

#[test]
fn without_any_state_the_kernel_stays() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let bench = Bench::new("nostate", binary)?;
    let router = &bench.router;
    for how in ["gone", "a file", "a FIFO"] {
        bench.whole_again(true)?;
        fs::remove_dir_all(bench.state())?;
        match how {
            "a file" => fs::write(bench.state(), "")?,
            "a FIFO" => mkfifo(&bench.state(), Mode::S_IRWXU)?,
            _ => {}
        }
        let controller = Controller::spawn(&router.place())?;
        until("it answers", || Ok(controller.cli(&["status"]).is_ok())).context(how)?;
        let status = controller.cli(&["status"])?;
        ensure!(status["enforcing"] == false, "{how}: {status}");
        for address in ALL {
            ensure!(drops(router, address)?, "{how}: {address} passes: {status}");
        }
        controller.kill()?;
    }
    Ok(())
}

/// A pin by the beginning of its name.
fn pin(router: &Router, name: &str) -> Result<PathBuf> {
    let bpffs = router.place().bpffs;
    let mut folders = vec![bpffs.to_owned()];
    for entry in fs::read_dir(bpffs)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && name.starts_with('v') && !name.ends_with("damaged") {
            folders.push(path);
        }
    }
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let found = entry.file_name().to_string_lossy().into_owned();
            if found == name || found.starts_with(&format!("{name}-")) {
                return Ok(entry.path());
            }
        }
    }
    bail!("no pin {name}")
}

#[test]
fn damaged_pins_are_made_anew_behind_programs_that_go_on() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let bench = Bench::new("badpins", binary)?;
    let router = &bench.router;
    let mut count = 0;
    for name in [
        "generations",
        "tables",
        "planes",
        "slow",
        "work",
        "generation",
        "table",
        "counters",
        "directory",
    ] {
        let all = ["missing", "a folder", "another map"];
        for how in if name == "tables" {
            &all[..]
        } else {
            &all[..1]
        } {
            bench.whole_again(true)?;
            let path = pin(router, name)?;
            let other = pin(
                router,
                if name == "counters" {
                    "directory"
                } else {
                    "counters"
                },
            )?;
            fs::remove_file(&path)?;
            match *how {
                "a folder" => fs::create_dir(&path)?,
                "another map" => fs::hard_link(other, &path)?,
                _ => {}
            }
            let controller = Controller::spawn(&router.place())?;
            until("it enforces", || {
                Ok(controller
                    .cli(&["status"])
                    .is_ok_and(|s| s["enforcing"] == true))
            })
            .with_context(|| format!("{name} {how}"))?;
            let status = controller.cli(&["status"])?;
            for address in ALL {
                ensure!(
                    drops(router, address)?,
                    "{name} {how}: {address} passes: {status}"
                );
            }
            let said = status["state"]["repaired"].to_string();
            ensure!(said.contains(name), "{name} {how}: {said}");
            // It can be changed, and adopted by the next.
            controller.cli(&["unblock", "AS64502", "--zone", "cameras"])?;
            ensure!(!drops(router, ALL[2])?, "{name} {how}");
            controller.cli(&["block", "AS64502", "--zone", "cameras"])?;
            controller.kill()?;
            let (controller, _) = Controller::start(&router.place())?;
            let said = controller.cli(&["status"])?["state"]["repaired"].to_string();
            ensure!(said == "[]", "{name} {how}: {said}");
            ensure!(drops(router, ALL[2])?, "{name} {how}");
            controller.kill()?;
            count += 1;
        }
    }
    println!("{count} cases");
    Ok(())
}

/// A file system of its own under a folder, which nobody else sees.
fn own_disk(at: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot leave the mount namespace")?;
    let nothing: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing).context("cannot make mounts private")?;
    fs::create_dir_all(at)?;
    let flags = MsFlags::empty();
    mount(Some("none"), at, Some("tmpfs"), flags, Some("size=2m")).context("cannot mount a tmpfs")
}

fn remount(at: &Path, flags: MsFlags) -> Result<()> {
    let nothing: Option<&str> = None;
    mount(nothing, at, nothing, MsFlags::MS_REMOUNT | flags, nothing).context("cannot remount")
}

#[test]
fn a_disk_that_cannot_be_written_to_stops_nothing() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("readonly", binary)?;
    let state = router.path("state");
    own_disk(&state)?;
    let (controller, _) = Controller::start(&router.place())?;
    controller.cli(&["block", "AS64502", "--zone", "cameras"])?;
    router.write("two.toml", policy("64500, 64501"))?;
    let two = router.path("two.toml").to_string_lossy().into_owned();
    controller.cli(&["allow", ALL[0], "--zone", "cameras", "--for", "5s"])?;
    ensure!(!drops(&router, ALL[0])?);
    remount(&state, MsFlags::MS_RDONLY)?;

    // What time brings does not wait for it.
    until("the exception has ended", || drops(&router, ALL[0]))?;
    let said = refused(&controller, &["apply", &two])?;
    ensure!(said.contains("Read-only file system"), "{said}");
    controller.cli(&["detach", "--yes"])?;
    controller.ended()?;

    // As after a boot.
    let (controller, _) = Controller::start(&router.place())?;
    ensure!(drops(&router, ALL[0])? && drops(&router, ALL[2])?);
    let problem = controller.cli(&["status"])?["state"]["problem"].clone();
    ensure!(problem.to_string().contains("ead-only"), "{problem}");
    let page = Metrics::scrape(&router.wire.namespace)?;
    ensure!(page.0.lines().any(|line| line == "kordon_state_writable 0"));
    refused(&controller, &["unblock", "AS64502", "--zone", "cameras"])?;
    ensure!(drops(&router, ALL[2])?);

    remount(&state, MsFlags::empty())?;
    until("it is kept again", || {
        Ok(controller.cli(&["status"])?["state"]["problem"].is_null())
    })?;
    controller.cli(&["apply", &two])?;
    ensure!(drops(&router, ALL[1])?);
    controller.kill()?;
    let (_controller, _) = Controller::start(&router.place())?;
    ensure!(drops(&router, ALL[1])? && drops(&router, ALL[2])?);
    Ok(())
}

#[test]
fn a_full_disk_is_said_once() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("once", binary)?;
    let state = router.path("state");
    own_disk(&state)?;
    let (controller, _) = Controller::start(&router.place())?;
    router.write("two.toml", policy("64500, 64501"))?;
    let two = router.path("two.toml").to_string_lossy().into_owned();
    controller.cli(&["apply", &two, "--confirm", "3s"])?;
    ensure!(drops(&router, ALL[1])?);
    let full = state.join("full");
    ensure!(fs::write(&full, vec![0; 2 << 20]).is_err());
    until("the trial has ended", || Ok(!drops(&router, ALL[1])?))?;
    let problem =
        || Ok::<_, anyhow::Error>(controller.cli(&["status"])?["state"]["problem"].clone());
    thread::sleep(Duration::from_secs(6));
    ensure!(!problem()?.is_null());
    let log = fs::read_to_string(router.path("kordon.log"))?;
    let mut words: Vec<&str> = log
        .lines()
        .filter_map(|line| Some(line.split_once(' ')?.1))
        .collect();
    let all = words.len();
    words.sort_unstable();
    words.dedup();
    ensure!(words.len() == all, "something is said again:\n{log}");
    ensure!(
        log.matches("what is live is not on disk").count() == 1,
        "{log}"
    );
    fs::remove_file(full)?;
    until("it is kept again", || Ok(problem()?.is_null()))
}
