//! What an administrator compares: the hash of `status` is that of `history`, and `history` has
//! what was changed and nothing else.

use std::{process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use kordon_tests::{
    controller::{Controller, binary},
    router::{Router, policy},
    traffic::until,
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// What a command prints for people.
fn text(controller: &Controller, router: &Router, command: &str) -> Result<String> {
    let mut words = Command::new(controller.binary());
    words.arg(command).arg("--socket");
    let output = words.arg(router.path("kordon.sock")).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The hash of what is live, which has to be the same wherever it is shown. And how many
/// changes there are.
fn live(controller: &Controller, router: &Router) -> Result<(String, usize)> {
    let status = controller.cli(&["status"])?;
    let hash = status["policy"]["hash"]
        .as_str()
        .context("a hash")?
        .to_owned();
    let history = controller.cli(&["history"])?;
    let kept = history["history"].as_array().context("policies")?;
    let kept = kept.iter().find(|kept| kept["live"] == true);
    ensure!(
        kept.context("one is live")?["hash"] == hash,
        "{hash}: {history}"
    );
    let changes = history["changes"].as_array().context("changes")?;
    ensure!(changes[0]["new"] == hash, "{hash}: {history}");
    // As they are printed.
    let status = text(controller, router, "status")?;
    let short = status
        .split("hash ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let short = short.context("a hash")?;
    let history = text(controller, router, "history")?;
    let shown = history.lines().filter(|line| line.contains(short)).count();
    ensure!(shown >= 2, "{short}:\n{history}");
    Ok((hash, changes.len()))
}

/// A command that changes nothing.
fn nothing(controller: &Controller, arguments: &[&str]) -> Result<()> {
    let said = controller.cli(arguments)?;
    ensure!(
        said["changed"] == false && said["recorded"] == false,
        "{said}"
    );
    Ok(())
}

#[test]
fn history_has_what_status_has_and_no_more() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("history", binary)?;
    let (controller, _) = Controller::start(&router.place())?;
    let (first, count) = live(&controller, &router)?;
    let file = router.path("policy.toml");
    let file = file.to_str().context("it is UTF-8")?;
    nothing(&controller, &["apply", file])?;

    let block = ["block", "AS64502", "--zone", "cameras"];
    controller.cli(&block)?;
    let (second, count) = (live(&controller, &router)?.0, count + 1);
    ensure!(second != first);
    nothing(&controller, &block)?;
    nothing(&controller, &["apply", file])?;
    controller.signal(Signal::SIGHUP)?;
    until("the reload", || {
        Ok(std::fs::read_to_string(router.path("kordon.log"))?.contains("reloaded"))
    })?;
    ensure!(live(&controller, &router)? == (second.clone(), count));

    // A note is kept, and nothing else is enforced; said again it is nothing new.
    let noted = [&block[..], &["--note", "ticket 7"]].concat();
    let said = controller.cli(&noted)?;
    ensure!(
        said["changed"] == false && said["recorded"] == true,
        "{said}"
    );
    nothing(&controller, &noted)?;
    nothing(&controller, &block)?;
    let count = count + 1;
    ensure!(live(&controller, &router)? == (second.clone(), count));
    // Below an exception it is one: the newest decides.
    let allow = ["allow", "192.0.2.9", "--zone", "cameras"];
    controller.cli(&allow)?;
    nothing(&controller, &allow)?;
    let said = controller.cli(&block)?;
    ensure!(
        said["changed"] == true && said["recorded"] == true,
        "{said}"
    );
    ensure!(live(&controller, &router)?.1 == count + 2);

    // What time takes away.
    let rule = "[[rule]]\nname = \"soon\"\nfrom = \"cameras\"\nto = \"any\"\nproto = \"udp\"\n\
                ports = [9]\naction = \"drop\"\nuntil = ";
    let end = jiff::Timestamp::now() + Duration::from_secs(4);
    router.write(
        "policy.toml",
        format!("{}{rule}{end:.0}\n", policy("64500")),
    )?;
    controller.cli(&["apply", file])?;
    let (with, _) = live(&controller, &router)?;
    // It may end between two questions: one is asked until it has.
    until("the rule has ended", || {
        Ok(controller.cli(&["status"])?["policy"]["hash"] != with)
    })?;
    let (third, count) = live(&controller, &router)?;

    // Whoever asks while no daemon runs, and the next daemon.
    controller.kill()?;
    let mut command = Command::new(router.place().binary);
    command
        .args(["status", "--json", "--config"])
        .arg(router.path("kordon.toml"));
    command.arg("--socket").arg(router.path("kordon.sock"));
    command.arg("--bpffs").arg(router.place().bpffs);
    command.arg("--state-dir").arg(router.path("state"));
    let status: Value = serde_json::from_slice(&command.output()?.stdout)?;
    ensure!(status["policy"]["hash"] == third, "{third}: {status}");
    thread::sleep(Duration::from_millis(10));
    let (controller, _) = Controller::start(&router.place())?;
    ensure!(live(&controller, &router)? == (third, count));
    Ok(())
}
