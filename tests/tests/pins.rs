//! Pins that somebody removes while the daemon runs: enforcement goes on without a gap, they
//! come back, counters go on, and nobody waits.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use kordon_tests::{
    controller::{Controller, Place, binary},
    lab::raw::RawSender,
    router::Router,
    traffic::{BLOCKED, drops, under_traffic, until},
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};

/// Removes pins, whichever way a tree is removed.
fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
    .with_context(|| path.display().to_string())
}

/// All pins and folders.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path());
        if entry.path().is_dir() {
            found.extend(tree(&entry.path()));
        }
    }
    found.sort();
    found
}

/// No answer takes longer than somebody would wait for.
fn answers(controller: &Controller) -> Result<serde_json::Value> {
    let start = Instant::now();
    let status = controller.cli(&["status"])?;
    let took = start.elapsed();
    ensure!(took < Duration::from_secs(5), "`status` took {took:?}");
    Ok(status)
}

/// Another interface has the name of the one that is policed.
fn comes_back(router: &mut Router) -> Result<()> {
    let namespace = &router.wire.namespace;
    namespace
        .ip("link del in\nlink add in type veth peer name out\nlink set in up\nlink set out up")?;
    namespace.inline_tags("out")?;
    router.wire.sender = RawSender::open(namespace, "out")?;
    Ok(())
}

fn ends(controller: Controller) -> Result<()> {
    let start = Instant::now();
    controller.signal(Signal::SIGTERM)?;
    controller.ended()?;
    let took = start.elapsed();
    println!("it ended in {took:?}");
    ensure!(took < Duration::from_secs(6), "SIGTERM took {took:?}");
    Ok(())
}

#[test]
fn pins_that_are_removed_come_back_without_a_gap() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let mut router = Router::new("pins", binary)?;
    let top = router.place().bpffs.join("kordon");
    let place = Place {
        bpffs: &top,
        ..router.place()
    };
    let (controller, _) = Controller::start(&place)?;
    // What is still being loaded over pins that go is loaded again, a second later.
    until("guards judge", || {
        Ok(answers(&controller)?["interfaces"][0]["guard_judges"] == true)
    })?;
    let whole = tree(&top);
    let links = top.join("links");
    let inner: Vec<PathBuf> = whole.iter().filter(|pin| pin.is_file()).cloned().collect();
    let mut cases = vec![top.clone(), links.clone(), top.join("guards")];
    cases.extend(inner);
    for gone in &cases {
        let name = gone.display();
        under_traffic(&router, || {
            remove(gone)?;
            until("pins are back", || Ok(tree(&top) == whole))
        })
        .with_context(|| format!("{name} removed"))?;
        let status = answers(&controller)?;
        ensure!(
            status["enforcing"] == true && status["notices"] == serde_json::json!([]),
            "{name}: {status}"
        );
    }
    println!("{} removed, one after the other", cases.len());
    // What is there again is what is live: the next daemon takes it over, and changes work.
    let controller = under_traffic(&router, || {
        remove(&top)?;
        until("pins are back", || Ok(tree(&top) == whole))?;
        controller.kill()?;
        Ok(Controller::start(&place)?.0)
    })?;
    let status = answers(&controller)?;
    ensure!(
        status["state"]["repaired"] == serde_json::json!([]),
        "{status}"
    );
    remove(&top)?;
    controller.cli(&["block", "AS64502", "--zone", "cameras"])?;
    ensure!(drops(&router, "192.0.2.9")?);
    // An interface that comes back right after it is attached to what is live.
    remove(&top.join("counters"))?;
    comes_back(&mut router)?;
    until("it enforces", || {
        Ok(controller.cli(&["status"])?["enforcing"] == true)
    })?;
    ensure!(drops(&router, BLOCKED)?, "counted where nobody looks");
    remove(&top)?;
    let detached = controller.cli(&["detach", "--yes"])?;
    ensure!(detached["detached"] == true, "{detached}");
    controller.ended()?;
    let left = router.wire.namespace.run(|| {
        Ok(kordon::datapath::interface::query("in")?.and_then(|interface| interface.xdp))
    })?;
    ensure!(left.is_none(), "{left:?}");
    Ok(())
}

#[test]
fn where_nothing_can_be_pinned_it_is_enforced_and_nobody_waits() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let mut router = Router::new("nopins", binary)?;
    let (controller, _) = Controller::start(&router.place())?;
    let top = router.place().bpffs.to_owned();
    let links = top.join("links");
    // A pin in the place of the folder, which nobody can make then.
    remove(&links)?;
    if fs::hard_link(top.join("counters"), &links).is_err() {
        bail!("the daemon was faster");
    }
    until("it is said", || {
        Ok(answers(&controller)?["notices"]
            .to_string()
            .contains("links"))
    })?;
    ensure!(drops(&router, BLOCKED)?);
    // What has to be attached now is, and the daemon is not busy with it.
    comes_back(&mut router)?;
    until("it is attached", || {
        Ok(answers(&controller)?["enforcing"] == true)
    })?;
    for _ in 0..3 {
        ensure!(drops(&router, BLOCKED)?);
        let status = answers(&controller)?;
        ensure!(status["enforcing"] == true, "{status}");
        thread::sleep(Duration::from_secs(1));
    }
    remove(&links)?;
    until("it is pinned again", || {
        Ok(answers(&controller)?["notices"] == serde_json::json!([]))
    })?;
    ends(controller)?;
    let (controller, _) = Controller::start(&router.place())?;
    ensure!(drops(&router, BLOCKED)?);
    ends(controller)
}

/// With a guard and without one.
#[test]
fn another_file_system_over_the_pins() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    for guard in [true, false] {
        let router = Router::new("over", binary.clone())?;
        let text = fs::read_to_string(router.path("kordon.toml"))?;
        let line = format!("mode = \"native\"\nguard = {guard}");
        router.write("kordon.toml", text.replace("mode = \"native\"", &line))?;
        let top = router.place().bpffs.join("kordon");
        let place = Place {
            bpffs: &top,
            ..router.place()
        };
        let (controller, _) = Controller::start(&place)?;
        let whole = tree(&top);
        let is_whole = || whole.iter().all(|pin| pin.exists());
        for (kind, flags, may_pin) in [
            ("bpf", MsFlags::empty(), true),
            ("bpf", MsFlags::MS_RDONLY, false),
            ("tmpfs", MsFlags::empty(), false),
        ] {
            let says = |words: &str| -> Result<bool> {
                let status = answers(&controller)?;
                ensure!(status["enforcing"] == true, "{status}");
                Ok(status["notices"].to_string().contains(words))
            };
            under_traffic(&router, || {
                mount(Some("none"), &top, Some(kind), flags, None::<&str>)?;
                if may_pin {
                    until("pins are there, too", || Ok(is_whole()))?;
                    ensure!(says("[]")?);
                } else {
                    until("it is said", || says("ends with the daemon"))?;
                    thread::sleep(Duration::from_secs(3));
                    ensure!(says("ends with the daemon")?);
                }
                umount2(&top, MntFlags::MNT_DETACH)?;
                until("nothing is left of it", || says("[]"))?;
                ensure!(tree(&top) == whole);
                Ok(())
            })
            .with_context(|| format!("{kind} {flags:?}, guard: {guard}"))?;
        }
        let log = fs::read_to_string(router.path("kordon.log"))?;
        ensure!(!log.contains("took the guard off"), "{log}");
        // What is there is not made again, and said once a second.
        ensure!(log.matches("are made again").count() == 1, "{log}");
    }
    Ok(())
}

#[test]
fn detach_says_whose_pins_it_means() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("whose", binary)?;
    let (_controller, _) = Controller::start(&router.place())?;
    let top = router.place().bpffs;
    let detach = |bpffs: &Path| {
        let mut command = Command::new(router.place().binary);
        command
            .current_dir("/")
            .args(["detach", "--yes", "--socket", "/none"]);
        command.arg("--bpffs").arg(bpffs);
        command
    };
    // Another instance, which enforces nothing.
    let second = top.join("second");
    fs::create_dir(&second)?;
    let done = detach(&second).output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(
        done.status.success() && said.contains(&second.display().to_string()),
        "{done:?}"
    );
    ensure!(drops(&router, BLOCKED)?);
    // One that this user cannot see.
    let closed = top.join("closed");
    fs::create_dir(&closed)?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700))?;
    let done = detach(&closed.join("kordon"))
        .uid(65534)
        .gid(65534)
        .output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    println!("{said}");
    ensure!(
        !done.status.success() && said.contains("cannot be seen") && !said.contains("nothing"),
        "{done:?}"
    );
    Ok(())
}
