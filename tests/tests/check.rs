//! `kordon check` as somebody types it who has a configuration.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use kordon_tests::{controller::binary, lab::namespace::folder, router::policy};

#[test]
fn without_a_file_it_is_the_configured_policy() -> Result<()> {
    let Some(binary) = binary() else {
        return Ok(());
    };
    let folder = folder()?;
    let check = || -> Result<_> {
        let mut command = Command::new(&binary);
        command
            .args(["check", "--config"])
            .arg(folder.path().join("kordon.toml"));
        let output = command.output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(said)?))
    };
    fs::write(
        folder.path().join("kordon.toml"),
        "policy = \"mine.toml\"\n",
    )?;
    fs::write(folder.path().join("mine.toml"), policy("64500"))?;
    let (code, said) = check()?;
    ensure!(
        code == Some(0) && said.contains("mine.toml is good: 1 zone, 1 rule"),
        "{said}"
    );
    fs::write(
        folder.path().join("mine.toml"),
        policy("64500").replace("vlans", "vlan"),
    )?;
    let (code, said) = check()?;
    ensure!(
        code == Some(1) && said.contains("did you mean `vlans`"),
        "{said}"
    );
    // Which one that is, is not guessed where the configuration cannot be read.
    fs::write(folder.path().join("kordon.toml"), "polcy = 1\n")?;
    let (code, said) = check()?;
    ensure!(
        code == Some(1) && said.contains("did you mean `policy`"),
        "{said}"
    );
    fs::remove_file(folder.path().join("kordon.toml"))?;
    let (code, said) = check()?;
    ensure!(code != Some(0) && said.contains("cannot be read"), "{said}");
    Ok(())
}
