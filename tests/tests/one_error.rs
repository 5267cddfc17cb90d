//! One cause, one error, with its cure.

use std::{fs, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Result, ensure};
use kordon_tests::{
    controller::{Controller, binary},
    router::Router,
    traffic::until,
};

#[test]
fn a_daemon_without_rights_says_that_and_nothing_else() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let mut command = Command::new(binary);
    command.arg("run").uid(65534).gid(65534);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("{said}");
    ensure!(output.status.code() == Some(1) && said.lines().count() == 1);
    ensure!(said.contains("CAP_BPF") && said.contains("systemctl start kordon"));
    Ok(())
}

#[test]
fn a_state_folder_that_is_a_file_is_one_error() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let router = Router::new("one-error", binary)?;
    router.write("state", "")?;
    let controller = Controller::spawn(&router.place())?;
    until("it is attached", || {
        let status = controller.cli(&["status"]);
        Ok(status.is_ok_and(|status| status["interfaces"][0]["attached"] == true))
    })?;
    // The next ticks say nothing new.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let status = controller.cli(&["status"])?;
    let reasons = &status["reasons"];
    ensure!(status["enforcing"] == false && reasons.as_array().map(Vec::len) == Some(1));
    let is_told = |words: &str| words.contains("is not a folder; move it away");
    ensure!(
        status["state"]["problem"].as_str().is_some_and(is_told),
        "{status}"
    );
    let log = fs::read_to_string(router.path("kordon.log"))?;
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    println!("{errors:#?}");
    ensure!(
        errors.len() == 1 && errors[0].contains("not a folder"),
        "{log}"
    );
    // The cure works.
    controller.kill()?;
    fs::remove_file(router.path("state"))?;
    Controller::start(&router.place())?;
    Ok(())
}
