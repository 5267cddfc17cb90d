//! The daemon under an administrator's hands and in bad days: what is refused
//! changes nothing, what goes wrong is said, and enforcement goes on.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, Metrics, binary},
    lab::{Bpffs, Wire, programs::Witness},
    router::{Router, policy},
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{SigSet, Signal},
};
use serde_json::Value;

const BLOCKED: &str = "198.51.100.9";
const OTHER: &str = "192.0.2.9";

/// Whether a camera's packet to an address is dropped, by the counters.
fn drops(router: &Router, to: &str) -> Result<bool> {
    let count = || -> Result<u64> {
        let metrics = Metrics::scrape(&router.wire.namespace)?;
        Ok(metrics.sum("kordon_packets_total", &[("action", "drop")]))
    };
    let before = count()?;
    let from: IpAddr = "10.20.0.5".parse()?;
    router.wire.send(&Wire::packet(20, from, to.parse()?), 10)?;
    thread::sleep(Duration::from_millis(50));
    let dropped = count()? - before;
    ensure!(dropped == 0 || dropped == 10, "{dropped} of 10 dropped");
    Ok(dropped == 10)
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds()? {
        ensure!(Instant::now() < end, "still not: {what}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn is_enforcing(controller: &Controller) -> Result<bool> {
    Ok(controller.cli(&["status"])?["enforcing"] == true)
}

/// A command that must be refused, and its words.
fn refused(controller: &Controller, arguments: &[&str]) -> Result<String> {
    let output = controller.command(arguments).output()?;
    ensure!(
        output.status.code() == Some(1),
        "`{}`: {}",
        arguments.join(" "),
        output.status
    );
    let said: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(said["ok"] == false, "{said}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_is_refused_changes_nothing() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("refused", binary)?;
    let (controller, _) = Controller::start(&router.place())?;
    router.write("typo.toml", policy("64500").replace("vlans", "vlan"))?;
    router.write(
        "list.toml",
        format!("{}[set.l]\nfiles = [\"no.txt\"]\n", policy("64500")),
    )?;
    router.write("nozone.toml", "[set.x]\nasns = [1]\n")?;
    let uplink = policy("64500").replace("vlans", "interfaces = [\"uplink\"]\nvlans");
    router.write("uplink.toml", uplink)?;
    let many: String = (0..300)
        .map(|n| format!("[zone.z{n}]\nvlans = [{}]\n", n + 100))
        .collect();
    router.write("many.toml", many)?;
    router.write("country.csv", "192.0.2.0,192.0.2.255,SE\n")?;
    router.write("short.csv", "198.51.100.0\n")?;
    router.write(
        "cut.csv.gz",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x33",
    )?;
    router.write("empty.csv", "")?;
    let path = |name: &str| router.path(name).to_string_lossy().into_owned();
    let live = |status: Value| (status["generation"].clone(), status["policy"].clone());
    let before = live(controller.cli(&["status"])?);
    let explain = ["explain", "--src", "10.20.0.1", "--dst", "192.0.2.1"];
    let mut count = 0;
    for (arguments, message) in [
        (vec!["apply", &path("typo.toml")], "did you mean `vlans`"),
        (vec!["apply", &path("nozone.toml")], "--yes"),
        (vec!["apply", &path("uplink.toml")], "`uplink`"),
        (
            vec!["allow", "0.0.0.0/0", "--zone", "*"],
            "a large part of the Internet",
        ),
        (vec!["allow", "::/0", "--zone", "cameras"], "--yes"),
        (
            vec!["block", "AS64999", "--zone", "cameras"],
            "announces nothing",
        ),
        (
            vec!["block", "SE", "--zone", "cameras"],
            "no source of the ASN database has address blocks of countries: `SE`",
        ),
        (
            vec!["block", "SE", "--zone", "cameras"],
            "add `countries` to `[asndb]`",
        ),
        (
            vec!["asndb", "import", "--country-db", &path("country.csv")],
            "name every file in one command",
        ),
        (vec!["apply", &path("list.toml")], "no.txt"),
        (vec!["apply", &path("many.toml")], "256"),
        (vec!["apply", &path("none.toml")], "cannot be read"),
        (
            vec!["apply", &path("policy.toml"), "--confirm", "7d"],
            "between a second and a day",
        ),
        (vec!["confirm"], "nothing to confirm"),
        (vec!["rollback"], "no policy to roll back to"),
        (
            vec!["block", "AS1", "--zone", "camera"],
            "did you mean `cameras`",
        ),
        (
            vec!["block", "AS1-5", "--zone", "cameras"],
            "more than one ASN",
        ),
        (
            vec!["block", "Russia", "--zone", "cameras"],
            "is not a target",
        ),
        (
            vec!["block", "AS99999999999", "--zone", "cameras"],
            "AS99999999999",
        ),
        (
            vec!["allow", "10.0.0.0/40", "--zone", "cameras"],
            "10.0.0.0/40",
        ),
        (
            vec!["unblock", "AS1", "--zone", "cameras"],
            "no entry for AS1",
        ),
        (vec!["lookup", "nobody at all"], "nothing in the database"),
        (vec!["asndb", "import", &path("none.csv")], "none.csv"),
        (vec!["asndb", "import", &path("short.csv")], "short.csv"),
        (
            vec!["asndb", "import", &path("cut.csv.gz")],
            "ends too early",
        ),
        (vec!["asndb", "import", &path("empty.csv")], "empty"),
        (
            [
                &explain[..],
                &[
                    "--interface",
                    "nowhere",
                    "--vlan",
                    "20",
                    "--policy",
                    &path("typo.toml"),
                ],
            ]
            .concat(),
            "did you mean",
        ),
        (
            vec!["status", "--expect-policy", "0123456789"],
            "0123456789",
        ),
    ] {
        let words = arguments.join(" ");
        let said = if arguments[0] == "status" {
            let output = controller.command(&arguments).output()?;
            ensure!(output.status.code() == Some(1));
            String::from_utf8_lossy(&output.stderr).into_owned()
        } else {
            refused(&controller, &arguments)?
        };
        ensure!(
            said.contains(message),
            "`{words}`: no {message:?} in\n{said}"
        );
        ensure!(
            live(controller.cli(&["status"])?) == before,
            "`{words}` changed something"
        );
        count += 1;
    }
    println!("{count} refused");
    assert!(drops(&router, BLOCKED)?);
    // A policy without zones is asked about, and is not taken for enforcement.
    let said = controller.cli(&["apply", &path("nozone.toml"), "--yes"])?;
    assert!(
        said["warnings"].to_string().contains("nothing is enforced"),
        "{said}"
    );
    let status = controller.cli(&["status"])?;
    assert!(status["enforcing"] == false && status["reasons"].to_string().contains("no zone"));
    let output = controller.command(&["status"]).output()?;
    assert_eq!(output.status.code(), Some(1));
    controller.cli(&["rollback"])?;
    assert!(is_enforcing(&controller)? && drops(&router, BLOCKED)?);
    Ok(())
}

#[test]
fn changes_come_and_go() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("changes", binary)?;
    // As a supervisor may leave it to what it starts.
    SigSet::from(Signal::SIGTERM).thread_block()?;
    let (controller, _) = Controller::start(&router.place())?;
    assert!(drops(&router, BLOCKED)? && !drops(&router, OTHER)?);

    // The overlay, for a time and for good.
    controller.cli(&[
        "block", "AS64502", "--zone", "cameras", "--note", "ticket 7",
    ])?;
    assert!(drops(&router, OTHER)?);
    let status = controller.cli(&["status"])?;
    assert_eq!(status["overlay"][0]["note"], "ticket 7");
    let said = controller.cli(&[
        "explain",
        "--vlan",
        "20",
        "--interface",
        "trunk",
        "--src",
        "10.20.0.1",
        "--dst",
        OTHER,
    ])?;
    assert_eq!(said["rule"], "block AS64502 cameras", "{said}");
    controller.cli(&["unblock", "AS64502", "--zone", "cameras"])?;
    assert!(!drops(&router, OTHER)?);
    controller.cli(&["block", "192.0.2.0/24", "--zone", "*", "--for", "3s"])?;
    let said = refused(&controller, &["unblock", OTHER, "--zone", "*"])?;
    assert!(
        said.contains("it is in `block 192.0.2.0/24 --zone '*'`"),
        "{said}"
    );
    assert!(drops(&router, OTHER)?);
    until("the block has ended", || Ok(!drops(&router, OTHER)?))?;
    controller.cli(&["allow", BLOCKED, "--zone", "cameras"])?;
    assert!(!drops(&router, BLOCKED)?);

    // What is meant is done, and shown for what it is.
    let entry = ["0.0.0.0/0", "--zone", "*"];
    controller.cli(&[&["allow"], &entry[..], &["--yes"]].concat())?;
    let status = controller.cli(&["status"])?;
    assert_eq!(status["enforcing"], false);
    assert!(
        status["reasons"].to_string().contains("unblock 0.0.0.0/0"),
        "{status}"
    );
    controller.cli(&[&["unblock"], &entry[..]].concat())?;
    assert!(is_enforcing(&controller)?);
    let nobody = ["AS64999", "--zone", "cameras"];
    controller.cli(&[&["block"], &nobody[..], &["--yes"]].concat())?;
    let status = controller.cli(&["status"])?;
    assert_eq!(status["overlay"][0]["matches"], false, "{status}");
    controller.cli(&[&["unblock"], &nobody[..]].concat())?;

    // A policy on trial that nobody confirms, then one that is.
    let file = router.path("two.toml");
    let file = file.to_string_lossy();
    router.write("two.toml", policy("64500, 64502"))?;
    let said = controller.cli(&["apply", &file, "--confirm", "3s"])?;
    assert_eq!(said["changed"], true);
    assert!(drops(&router, OTHER)?);
    until("it was rolled back", || Ok(!drops(&router, OTHER)?))?;
    until("who is late is told", || {
        Ok(
            refused(&controller, &["confirm"])?
                .contains("it was not confirmed in time: the policy"),
        )
    })?;
    // Given twice, it lasts longer, and is a trial all the same.
    controller.cli(&["apply", &file, "--confirm", "5s"])?;
    let said = controller.cli(&["apply", &file, "--confirm", "5m"])?;
    assert!(
        said["changed"] == false && said["pending_confirm"].is_string(),
        "{said}"
    );
    thread::sleep(Duration::from_secs(6));
    assert!(drops(&router, OTHER)?);
    let status = controller.cli(&["status"])?;
    assert_eq!(status["policy"]["pending_confirm"], said["pending_confirm"]);
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    assert_eq!(metrics.sum("kordon_policy_trial", &[]), 1);
    controller.cli(&["confirm"])?;
    assert!(drops(&router, OTHER)?);
    let again = controller.cli(&["apply", &file])?;
    assert_eq!(again["changed"], false);
    let again = controller.cli(&["apply", &file, "--confirm", "1s"])?;
    assert!(again["pending_confirm"].is_null(), "{again}");
    controller.cli(&["rollback"])?;
    assert!(!drops(&router, OTHER)?);
    let history = controller.cli(&["history"])?;
    assert!(
        history["history"]
            .as_array()
            .is_some_and(|all| all.len() >= 2),
        "{history}"
    );
    tells_who_changed_what(&history, &router)?;

    // SIGHUP reads the configured policy; a broken one changes nothing.
    router.write("policy.toml", policy("64502"))?;
    controller.signal(Signal::SIGHUP)?;
    until("the reload", || drops(&router, OTHER))?;
    router.write("policy.toml", "[zone")?;
    controller.signal(Signal::SIGHUP)?;
    thread::sleep(Duration::from_millis(300));
    assert!(drops(&router, OTHER)?);
    let metrics = Metrics::scrape(&router.wire.namespace)?;
    let failed = metrics.sum("kordon_policy_applies_total", &[("result", "failed")]);
    assert_eq!(failed, 1);
    let status = controller.cli(&["status"])?;
    assert_eq!(status["policy"]["drift"], true);
    let notices = status["notices"].to_string();
    assert!(
        notices.contains("was refused") && notices.contains("policy.toml line 1"),
        "{notices}"
    );

    // The next daemon has what this one had, whatever the file says.
    controller.signal(Signal::SIGTERM)?;
    let (status, _) = controller.ended()?;
    assert!(status.success());
    let (controller, _) = Controller::start(&router.place())?;
    assert!(drops(&router, OTHER)? && !drops(&router, BLOCKED)?);

    // A new database: the address is somebody else's now.
    router.write("new.csv", "192.0.2.0,192.0.2.255,64777,New\n")?;
    let new = router.path("new.csv");
    let said = controller.cli(&["asndb", "import", "--accept", &new.to_string_lossy()])?;
    assert_eq!(
        (&said["changed"], &said["table_written"]),
        (&true.into(), &true.into()),
        "{said}"
    );
    assert!(!drops(&router, OTHER)?);

    controller.cli(&["detach", "--yes"])?;
    let (status, _) = controller.ended()?;
    assert!(status.success());
    let left = fs::read_dir(router.place().bpffs)?.count();
    let kernels_own = ["maps.debug", "progs.debug"]
        .iter()
        .filter(|n| router.place().bpffs.join(n).exists());
    assert_eq!(left, kernels_own.count());
    Ok(())
}

/// What [`changes_come_and_go`] did until it rolled back.
fn tells_who_changed_what(history: &Value, router: &Router) -> Result<()> {
    let changes = history["changes"].as_array().context("changes")?;
    let two = router.path("two.toml");
    let two = two.display();
    let expected = [
        "rollback",
        "confirm",
        &format!("apply {two} --confirm 300s"),
        &format!("apply {two} --confirm 5s"),
        "not confirmed in time",
        &format!("apply {two} --confirm 3s"),
        "unblock AS64999 --zone cameras",
        "block AS64999 --zone cameras --yes",
        "unblock 0.0.0.0/0 --zone *",
        "allow 0.0.0.0/0 --zone * --yes",
        "allow 198.51.100.9 --zone cameras",
        "an entry has ended",
        "block 192.0.2.0/24 --zone * --for 3s",
        "unblock AS64502 --zone cameras",
        "block AS64502 --zone cameras --note \"ticket 7\"",
        "start",
    ];
    let commands: Vec<&str> = changes
        .iter()
        .filter_map(|c| c["command"].as_str())
        .collect();
    ensure!(commands == expected, "{commands:#?}");
    for (newer, older) in changes.iter().zip(&changes[1..]) {
        ensure!(newer["old"] == older["new"], "{older} {newer}");
    }
    for change in changes {
        let by_itself = ["start", "an entry has ended", "not confirmed in time"];
        let command = change["command"].as_str().unwrap_or_default();
        match by_itself.contains(&command) {
            true => ensure!(change["user"].is_null(), "{change}"),
            false => ensure!(change["user"] == "root" && change["uid"] == 0, "{change}"),
        }
    }
    let log = fs::read_to_string(router.path("kordon.log"))?;
    ensure!(
        log.contains("changed: block AS64502") && log.contains("user=\"root\""),
        "{log}"
    );
    Ok(())
}

#[test]
fn one_daemon_for_one_place() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("second", binary)?;
    let (controller, _) = Controller::start(&router.place())?;
    let place = router.place();
    let run = |state: &str, socket: &str, bpffs: &Path| -> Result<String> {
        let output = place.namespace.run(|| {
            Command::new(place.binary)
                .arg("run")
                .arg("--config")
                .arg(place.directory.join("kordon.toml"))
                .arg("--state-dir")
                .arg(place.directory.join(state))
                .arg("--socket")
                .arg(place.directory.join(socket))
                .arg("--bpffs")
                .arg(bpffs)
                .output()
                .context("cannot run")
        })?;
        ensure!(output.status.code() == Some(1), "{:?}", output.status);
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let other = Bpffs::new()?;
    for (said, part) in [
        (run("state", "other.sock", place.bpffs)?, "--state-dir"),
        (run("other", "other.sock", place.bpffs)?, "--bpffs"),
        (run("other", "kordon.sock", other.path())?, "kordon.sock"),
    ] {
        assert!(said.contains(part), "no {part} in\n{said}");
    }
    assert!(is_enforcing(&controller)? && drops(&router, BLOCKED)?);
    Ok(())
}

/// What is in the way of the control socket keeps nothing from being enforced.
#[test]
fn enforces_before_anybody_can_ask() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("nosocket", binary)?;
    fs::create_dir(router.path("kordon.sock"))?;
    let mut controller = Controller::spawn(&router.place())?;
    until("it drops", || Ok(drops(&router, BLOCKED).unwrap_or(false)))?;
    ensure!(controller.cli(&["status"]).is_err());
    fs::remove_dir(router.path("kordon.sock"))?;
    controller.wait_until_enforcing()
}

#[test]
fn interfaces_come_and_go() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("devices", binary)?;
    let namespace = &router.wire.namespace;
    // Somebody else's program is not replaced, and is named.
    let foreign = Witness::attach(namespace, "in")?;
    let mut controller = Controller::spawn(&router.place())?;
    let reasons = || -> Result<String> { Ok(controller.cli(&["status"])?["reasons"].to_string()) };
    until("the reason is shown", || {
        Ok(reasons().is_ok_and(|r| r.contains("another XDP program")))
    })?;
    drop(foreign);
    controller.wait_until_enforcing()?;
    assert!(drops(&router, BLOCKED)?);

    namespace.ip("link del in")?;
    until("the interface is missed", || {
        Ok(!is_enforcing(&controller)?)
    })?;
    let metrics = Metrics::scrape(namespace)?;
    assert_eq!(metrics.sum("kordon_interface_attached", &[]), 0);
    namespace.ip("link add in type veth peer name out\nlink set in up\nlink set out up")?;
    until("it is attached again", || is_enforcing(&controller))?;

    // While no daemon runs the device is another one; the next finds that out.
    controller.kill()?;
    namespace
        .ip("link del in\nlink add in type veth peer name out\nlink set in up\nlink set out up")?;
    let (controller, _) = Controller::start(&router.place())?;
    assert!(is_enforcing(&controller)?);
    Ok(())
}

/// A mounted file system of a few pages, gone when dropped.
struct Small(std::path::PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn bad_days_on_disk() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("disk", binary)?;
    let state = router.path("state");
    fs::create_dir(&state)?;
    let size = "size=1m";
    mount(
        Some("tmpfs"),
        &state,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(size),
    )?;
    let _small = Small(state.clone());
    let (controller, _) = Controller::start(&router.place())?;

    // Full: what cannot be kept does not become live.
    fs::write(state.join("full"), vec![0; 1 << 20]).unwrap_err();
    for arguments in [
        &["block", "AS64502", "--zone", "cameras"][..],
        &["apply", &router.path("two.toml").to_string_lossy()],
        &["asndb", "import", &router.path("asn.csv").to_string_lossy()],
    ] {
        router.write("two.toml", policy("64500, 64502"))?;
        let said = refused(&controller, arguments)?;
        assert!(said.contains("No space left"), "{said}");
    }
    assert!(drops(&router, BLOCKED)? && !drops(&router, OTHER)?);
    fs::remove_file(state.join("full"))?;
    controller.cli(&["block", "AS64502", "--zone", "cameras"])?;
    controller.kill()?;

    // Truncated files, one after the other: enforcement goes on in the kernel, and
    // the daemon comes up with what is left and says what it lost.
    for name in ["current.json", "asndb.snapshot", "overlay.toml"] {
        let path = state.join(name);
        let whole = fs::read(&path)?;
        fs::write(&path, &whole[..whole.len() / 2])?;
        let controller = Controller::spawn(&router.place())?;
        until("it answers", || Ok(controller.cli(&["status"]).is_ok()))?;
        assert!(drops(&router, BLOCKED)?, "{name}");
        controller.kill()?;
        let log = fs::read_to_string(router.path("kordon.log"))?;
        assert!(log.contains(name), "{name} is not named in\n{log}");
        fs::write(&path, whole)?;
    }
    let (controller, _) = Controller::start(&router.place())?;
    assert!(drops(&router, BLOCKED)? && drops(&router, OTHER)?);
    drop(controller);
    Ok(())
}
