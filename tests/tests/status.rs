//! `kordon status` for people: what comes first, what is short, what counts, and `--watch`.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::IpAddr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, binary},
    lab::Wire,
    router::{Router, policy},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

fn command(router: &Router, arguments: &[&str]) -> Command {
    let mut command = router.command("status", arguments);
    // Not by what the terminal is of whoever runs this.
    command.env_remove("NO_COLOR").env("TERM", "xterm");
    command
}

/// What it prints, and its exit code.
fn page(router: &Router, arguments: &[&str]) -> Result<(String, Option<i32>)> {
    let namespace = &router.wire.namespace;
    let output = namespace.run(|| Ok(command(router, arguments).output()?))?;
    let page = String::from_utf8(output.stdout)?;
    println!("$ kordon status {}\n{page}", arguments.join(" "));
    Ok((page, output.status.code()))
}

fn has(page: &str, line: &str) -> Result<()> {
    let found = page.lines().any(|l| l.contains(line));
    ensure!(found, "no line has `{line}`:\n{page}");
    Ok(())
}

/// Ended when dropped.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines of `--watch` until one is found; so many pages are one a second.
fn until(lines: &mut impl Iterator<Item = std::io::Result<String>>, words: &str) -> Result<String> {
    let end = Instant::now() + Duration::from_secs(30);
    let mut seen = String::new();
    for line in lines {
        let line = line?;
        seen += &format!("{line}\n");
        if line.contains(words) {
            return Ok(line);
        }
        ensure!(Instant::now() < end, "no `{words}` in\n{seen}");
    }
    anyhow::bail!("it ended before `{words}`:\n{seen}")
}

fn three_networks() -> String {
    let more: String = (0..12)
        .map(|n| {
            format!(
                "[[rule]]\nname = \"more-{n}\"\nfrom = \"cameras\"\nto = \"some\"\n\
                 ports = [{}]\naction = \"drop\"\n",
                9000 + n
            )
        })
        .collect();
    policy("64500")
        + "[set.other]\nasns = [64502]\n[set.some]\nasns = [64501]\n\
           [[rule]]\nname = \"look\"\nfrom = \"cameras\"\nto = \"other\"\naction = \"audit\"\n"
        + &more
}

#[test]
fn status_says_first_what_matters_and_then_what_was_counted() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("status", binary)?;
    router.write("policy.toml", three_networks())?;
    let (controller, _) = Controller::start(&router.place())?;
    let from: IpAddr = "10.20.0.5".parse()?;
    for (to, times) in [("198.51.100.9", 7), ("192.0.2.9", 5), ("203.0.113.9", 11)] {
        let packet = Wire::packet(20, from, to.parse()?);
        router.wire.send(&packet, times)?;
    }
    let forged = Wire::packet(20, "172.16.0.1".parse()?, "203.0.113.9".parse()?);
    router.wire.send(&forged, 3)?;
    let stranger = Wire::packet(99, from, "203.0.113.9".parse()?);
    router.wire.send(&stranger, 2)?;
    controller.cli(&[
        "block",
        "AS64502",
        "--zone",
        "cameras",
        "--note",
        "ticket 4711",
    ])?;

    let (said, code) = page(&router, &[])?;
    ensure!(code == Some(0) && said.starts_with("enforcing   by a daemon since "));
    for line in [
        "interface   trunk (in), native, attached, 2 frames of no zone passed",
        "zone        cameras: drop 10 (",
        ", audit 5 (",
        "rule        hostile (cameras): drop 7 (",
        "rule        look (cameras): audit 5 (",
        "reason      spoofed-source (cameras): drop 3 (",
        "network     AS64500 Bad: drop 7 (",
        "network     AS64502 Other: audit 5 (",
        "changed     ",
        ": block AS64502 --zone cameras --note \"ticket 4711\"",
    ] {
        has(&said, line)?;
    }
    // A glance: twelve rules that decided nothing are no lines, and nothing has colours.
    ensure!(said.lines().count() < 25, "{said}");
    ensure!(!said.contains("more-0") && !said.contains('\x1b'));
    let (all, _) = page(&router, &["--all"])?;
    has(&all, "rule        more-11 (cameras): drop 0")?;
    has(&all, "reason      default (cameras): pass 11 (")?;

    let (brief, code) = page(&router, &["--brief"])?;
    ensure!(code == Some(0) && brief == "trunk  in  native  missed 0  enforcing\n");

    // The same numbers, for scripts; nothing that was there is gone.
    let value: Value = serde_json::from_str(&page(&router, &["--json"])?.0)?;
    for field in [
        "at",
        "enforcing",
        "reasons",
        "notices",
        "fail",
        "interfaces",
        "generation",
        "policy",
        "asndb",
        "bgp",
        "zones",
        "rules",
        "decided",
        "networks",
        "overlay",
        "changes",
        "state",
        "started_at",
        "version",
    ] {
        ensure!(value.get(field).is_some(), "{field} is gone: {value}");
    }
    ensure!(value["networks"]["top"][0]["asn"] == 64500, "{value}");
    ensure!(
        value["networks"]["top"][0]["packets"]["drop"] == 7,
        "{value}"
    );
    ensure!(value["networks"]["more"]["packets"]["drop"] == 0, "{value}");
    ensure!(value["interfaces"][0]["no_zone"]["pass"] == 2, "{value}");
    let sum = |list: &str| -> u64 {
        let entries = value[list].as_array().map_or(&[][..], Vec::as_slice);
        let packets = entries.iter().filter_map(|e| e["packets"]["drop"].as_u64());
        packets.sum()
    };
    ensure!(
        sum("zones") == 10 && sum("rules") + sum("decided") == 10,
        "{value}"
    );

    // Colours where they are asked for, and where they can be seen.
    ensure!(
        !page(&router, &["--color"])?.0.contains('\x1b'),
        "in a pipe"
    );
    let (coloured, _) = page(&router, &["--color=always"])?;
    ensure!(
        coloured.starts_with("\x1b[32menforcing\x1b[0m"),
        "{coloured:?}"
    );

    // What does not enforce says so first, on its line and by the exit code.
    router.wire.namespace.ip("link del in")?;
    let end = Instant::now() + Duration::from_secs(10);
    while controller.cli(&["status"])?["enforcing"] == true {
        ensure!(Instant::now() < end, "nobody notices");
        thread::sleep(Duration::from_millis(50));
    }
    let (said, code) = page(&router, &["--color=always"])?;
    ensure!(
        code == Some(1) && said.starts_with("\x1b[1;31mNOT ENFORCING\x1b[0m"),
        "{said:?}"
    );
    let (brief, code) = page(&router, &["--brief"])?;
    ensure!(
        code == Some(1) && brief.contains("missed 0  NOT ENFORCING: "),
        "{brief}"
    );
    has(&brief, "`in`")
}

#[test]
fn watch_goes_on_with_rates_and_without_a_daemon() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("watch", binary)?;
    let (controller, _) = Controller::start(&router.place())?;
    let watch = |arguments: &[&str]| -> Result<(Watch, BufReader<_>)> {
        let mut command = command(&router, arguments);
        command.arg("--watch").stdout(Stdio::piped());
        let mut child = router.wire.namespace.spawn(&mut command)?;
        let out = child.stdout.take().context("its output")?;
        Ok((Watch(child), BufReader::new(out)))
    };
    let (mut people, out) = watch(&[])?;
    let (mut scripts, script_out) = watch(&["--json"])?;
    let mut lines = out.lines();
    let first = lines.next().context("a first line")??;
    ensure!(first.ends_with(" UTC, each second until Ctrl-C"), "{first}");
    let blocked = Wire::packet(20, "10.20.0.5".parse()?, "198.51.100.9".parse()?);
    let mut last = String::new();
    thread::scope(|scope| {
        let send = scope.spawn(|| {
            for _ in 0..60 {
                router.wire.send(&blocked, 20)?;
                thread::sleep(Duration::from_millis(50));
            }
            anyhow::Ok(())
        });
        until(&mut lines, "zone        cameras: drop 0, ")?;
        last = until(&mut lines, "kbit/s")?;
        println!("{last}");
        send.join().map_err(|_| anyhow::anyhow!("sending"))?
    })?;
    // Some 400 a second, on a machine that does other things as well.
    let rate = last
        .split("; ")
        .nth(1)
        .and_then(|rest| rest.split("/s").next());
    let rate: f64 = rate.context("a rate")?.parse()?;
    ensure!(rate > 10.0 && rate < 2000.0, "{last}");
    let mut objects = script_out.lines();
    for _ in 0..2 {
        let value: Value = serde_json::from_str(&objects.next().context("an object")??)?;
        ensure!(value["enforcing"] == true, "{value}");
    }

    // The daemon goes and comes: whoever watches learns of it.
    controller.kill()?;
    until(&mut lines, "NO DAEMON   programs in the kernel go on")?;
    let (again, _) = Controller::start(&router.place())?;
    until(&mut lines, "enforcing   by a daemon since ")?;
    drop(again);

    // Ctrl-C ends it, and so does a reader that has enough.
    let pid = Pid::from_raw(i32::try_from(people.0.id())?);
    kill(pid, Signal::SIGINT)?;
    let mut rest = String::new();
    for line in lines {
        rest += &line?;
    }
    ensure!(people.0.wait()?.code().is_none(), "{rest}");
    drop(objects);
    let end = Instant::now() + Duration::from_secs(10);
    let code = loop {
        if let Some(status) = scripts.0.try_wait()? {
            break status.code();
        }
        ensure!(Instant::now() < end, "it goes on without a reader");
        thread::sleep(Duration::from_millis(50));
    };
    let mut said = String::new();
    if let Some(mut errors) = scripts.0.stderr.take() {
        errors.read_to_string(&mut said)?;
    }
    ensure!(said.is_empty(), "{code:?} {said}");
    Ok(())
}
