//! `kordon status` while no daemon runs: what it says of the kernel is what packets meet.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, binary},
    lab::{
        Namespace, Wire,
        programs::{Arrivals, Witness},
    },
    router::Router,
    traffic::BLOCKED,
};
use serde_json::{Value, json};

/// `kordon status` in a namespace, of the router's instance.
fn status(router: &Router, namespace: &Namespace, more: &[&str]) -> Result<Output> {
    let mut command = router.command("status", more);
    namespace.run(|| command.output().context("cannot start kordon"))
}

/// What it prints for scripts, and for people.
fn said(router: &Router, namespace: &Namespace) -> Result<(Value, String)> {
    let output = status(router, namespace, &["--json"])?;
    let value: Value = serde_json::from_slice(&output.stdout)?;
    let page = status(router, namespace, &[])?;
    let page_code = page.status.code();
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    println!("{page}{value}");
    ensure!(
        (output.status.code(), page_code) == (Some(3), Some(3)) && value["ok"] == false,
        "{output:?}"
    );
    Ok((value, page))
}

/// How many of ten packets to a blocked address go on to the router.
fn passes(router: &Router, arrivals: &Arrivals) -> Result<u64> {
    let before = arrivals.settled(BLOCKED.parse()?)?.packets;
    let packet = Wire::packet(20, "10.20.0.5".parse()?, BLOCKED.parse()?);
    router.wire.send(&packet, 10)?;
    Ok(arrivals.settled(BLOCKED.parse()?)?.packets - before)
}

#[test]
fn status_without_a_daemon_says_what_the_kernel_does() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("unattended", binary)?;
    let namespace = &router.wire.namespace;
    let pins = router.place().bpffs.to_owned();
    let mut arrivals = Arrivals::new()?;
    arrivals.watch(namespace, "in")?;
    ensure!(passes(&router, &arrivals)? == 10);

    // Before the first start there is nothing.
    let (value, page) = said(&router, namespace)?;
    ensure!(value["enforcing"] == false && page.starts_with("NOT ENFORCING"));
    ensure!(value["interfaces"][0]["attached"] == false);

    let (controller, _) = Controller::start(&router.place())?;
    let live = controller.cli(&["status"])?;
    // A socket that is not the daemon's: it is not said that none runs.
    let elsewhere = router.path("other.sock");
    let elsewhere = [
        "--json",
        "--socket",
        elsewhere.to_str().context("it is UTF-8")?,
    ];
    let mut command = Command::new(router.place().binary);
    command
        .arg("status")
        .args(elsewhere)
        .arg("--bpffs")
        .arg(&pins);
    let output = namespace.run(|| Ok(command.output()?))?;
    let value: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(value["held_by"] == controller.pid(), "{value}");

    controller.kill()?;
    let (value, page) = said(&router, namespace)?;
    ensure!(passes(&router, &arrivals)? == 0);
    ensure!(value["enforcing"].is_null() && value["held_by"].is_null());
    let expected = json!({
        "name": "trunk", "device": "in", "now": "in", "mode": "native", "attached": true,
        "maps": value["interfaces"][0]["maps"], "adoptable": true, "rules": true,
        "generation": live["generation"], "problem": null,
    });
    ensure!(value["interfaces"] == json!([expected]), "{value}");
    for field in ["path", "hash", "applied_at", "pending_confirm"] {
        ensure!(value["policy"][field] == live["policy"][field], "{field}");
    }
    ensure!(page.starts_with("NO DAEMON") && page.contains("trunk (in), native, attached: drops"));
    // One more is configured, and was never attached.
    let configuration = fs::read_to_string(router.path("kordon.toml"))?;
    let second = "[[interface]]\nname = \"second\"\ndevice = \"in2\"\n";
    router.write("kordon.toml", format!("{configuration}{second}"))?;
    let (value, page) = said(&router, namespace)?;
    ensure!(value["enforcing"] == false && value["interfaces"][0]["attached"] == true);
    ensure!(page.starts_with("NOT ENFORCING") && page.contains("second (in2), NOT ATTACHED"));
    router.write("kordon.toml", configuration)?;

    // Numbers of interfaces are by namespace, and another one may have the same.
    let other = Namespace::create("unattended-b")?;
    let (value, _) = said(&router, &other)?;
    ensure!(value["interfaces"][0]["attached"].is_null() && value["enforcing"].is_null());
    // Who may not look is not told that there is nothing.
    let mut command = Command::new(router.place().binary);
    command
        .arg("status")
        .args(elsewhere)
        .arg("--bpffs")
        .arg(&pins);
    command.uid(65534).gid(65534);
    let output = namespace.run(|| Ok(command.output()?))?;
    let value: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(3) && value["enforcing"].is_null());
    ensure!(
        value["problem"]
            .as_str()
            .is_some_and(|why| why.contains("ermission denied")),
        "{value}"
    );
    // A place that is on no BPF file system says nothing of what is pinned.
    let hidden = [
        "--json",
        "--bpffs",
        "/nowhere/kordon",
        elsewhere[1],
        elsewhere[2],
    ];
    let mut command = Command::new(router.place().binary);
    let output = command.arg("status").args(hidden).output()?;
    let value: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(
        value["enforcing"].is_null() && value["problem"].is_string(),
        "{value}"
    );

    // Somebody gave the link another program: it drops nothing.
    let aside = status(&router, namespace, &[])?;
    Witness::replace(&pins.join("links/0-in"))?;
    let (value, page) = said(&router, namespace)?;
    ensure!(passes(&router, &arrivals)? == 10, "the other one drops");
    ensure!(value["enforcing"] == false && value["interfaces"][0]["attached"] == false);
    ensure!(page.contains("NOT ATTACHED: the program there is not kordon's; another XDP program"));
    // A start puts its own there again.
    let (controller, _) = Controller::start(&router.place())?;
    ensure!(passes(&router, &arrivals)? == 0);
    controller.kill()?;
    let again = status(&router, namespace, &[])?;
    ensure!(again.stdout == aside.stdout, "{again:?}");

    // Maps of another layout version, of which another program is left.
    let folder = pins.join(expected["maps"].as_str().context("a folder")?);
    // The array of the slow path is emptied with its only pin; the fast path goes on.
    fs::remove_file(folder.join("slow"))?;
    let (value, page) = said(&router, namespace)?;
    let problem = value["interfaces"][0]["problem"].to_string();
    ensure!(problem.contains("slow path is gone") && page.contains("slow path is gone"));
    ensure!(page.contains("trunk (in), native, attached: drops by generation"));
    ensure!(passes(&router, &arrivals)? == 0);
    let old = pins.join("v1-small");
    fs::rename(&folder, &old)?;
    fs::create_dir(&folder)?;
    let (value, page) = said(&router, namespace)?;
    ensure!(value["interfaces"][0]["adoptable"] == false && page.contains("(v1-small)"));
    fs::remove_file(old.join("generations"))?;
    let (value, page) = said(&router, namespace)?;
    ensure!(value["interfaces"][0]["attached"] == true && page.contains("pins are gone"));
    ensure!(passes(&router, &arrivals)? == 0);

    // Its pin is all that keeps the program there, and that of the guard behind it, where the daemon came to that.
    let links = fs::read_dir(pins.join("links"))?;
    for pin in links.chain(fs::read_dir(pins.join("guards"))?) {
        fs::remove_file(pin?.path())?;
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while passes(&router, &arrivals)? == 0 {
        ensure!(std::time::Instant::now() < end, "the program stays");
    }
    let (value, page) = said(&router, namespace)?;
    ensure!(value["enforcing"] == false && page.starts_with("NOT ENFORCING"));
    ensure!(page.contains("trunk (in), NOT ATTACHED"));
    Ok(())
}

#[test]
fn a_link_whose_interface_is_gone_judges_nothing() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("unattended-c", binary)?;
    let namespace = &router.wire.namespace;
    Controller::start(&router.place())?.0.kill()?;
    namespace.ip("link set in down\nlink set in name was\nlink set was up")?;
    let (value, page) = said(&router, namespace)?;
    ensure!(value["interfaces"][0]["now"] == "was" && page.contains("called was now"));
    namespace
        .ip("link del was\nlink add in type veth peer name out\nlink set in up\nlink set out up")?;
    let (value, page) = said(&router, namespace)?;
    ensure!(value["interfaces"][0]["attached"] == false && value["enforcing"] == false);
    ensure!(page.starts_with("NOT ENFORCING") && page.contains("the interface is gone"));
    Ok(())
}
