//! The Debian package: a folder that looks as the router's root will, `DEBIAN/` in it with what
//! dpkg reads, and `dpkg-deb`. lintian, Debian's own critic, has the last word.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contents::Contents;
use super::{UNITS, VERSION, copy, copy_all, epoch, gzip, plain_rights, read, rights, write};
use crate::command::{Failed, answer, run};
use crate::workspace::Profile;

/// Packs it into the folder, and returns its path.
pub(super) fn pack(
    contents: &Contents,
    revision: u32,
    profile: Profile,
    folder: &Path,
) -> Result<PathBuf, Failed> {
    let version = format!("{VERSION}-{revision}");
    let root = contents.layout("root")?;
    lay_out(contents, &version, &root)?;
    plain_rights(&root)?;
    rights(&root.join("usr/lib/kordon/boot-guard-holds"), 0o755)?;
    control(contents, &version, &root)?;
    let architecture = contents.architecture.debian();
    let package = folder.join(format!("kordon_{version}_{architecture}.deb"));
    let mut command = Command::new("dpkg-deb");
    command.env("SOURCE_DATE_EPOCH", epoch());
    command.arg("--root-owner-group").args(match profile {
        Profile::Release => &["-Zxz"][..],
        // Soon done, and soon undone by an emulated processor.
        Profile::Test => &["-Zgzip", "-z1"],
    });
    run(command.arg("--build").args([&root, &package]))?;
    Ok(package)
}

/// All that lands on the router.
fn lay_out(contents: &Contents, version: &str, root: &Path) -> Result<(), Failed> {
    let at = |path: &str| root.join(path);
    copy(&contents.binary(), &at("usr/sbin/kordon"))?;
    for unit in UNITS {
        let to = at("usr/lib/systemd/system").join(unit);
        copy(&contents.deploy("systemd").join(unit), &to)?;
    }
    for (from, to) in [
        (
            "systemd/boot-guard-holds",
            "usr/lib/kordon/boot-guard-holds",
        ),
        ("systemd/kordon.sysusers", "usr/lib/sysusers.d/kordon.conf"),
        ("deb/overrides", "usr/share/lintian/overrides/kordon"),
        ("deb/copyright", "usr/share/doc/kordon/copyright"),
    ] {
        copy(&contents.deploy(from), &at(to))?;
    }
    copy_all(&contents.deploy("etc"), &at("etc/kordon"))?;
    contents.manual(&at("usr/share/man/man8"), true)?;
    for (name, to) in [
        ("kordon.bash", "bash-completion/completions/kordon"),
        ("_kordon", "zsh/vendor-completions/_kordon"),
        ("kordon.fish", "fish/vendor_completions.d/kordon.fish"),
    ] {
        contents.completion(name, &at("usr/share").join(to))?;
    }
    let documents = at("usr/share/doc/kordon");
    contents.documents(&documents)?;
    let changes = documents.join("changelog");
    copy(&contents.file("CHANGELOG.md"), &changes)?;
    let of_the_package = documents.join("changelog.Debian");
    let date = answer(
        Command::new("date")
            .args(["--utc", "--rfc-email", "--date"])
            .arg(format!("@{}", epoch())),
    )
    .unwrap_or_default();
    let text = read(&contents.deploy("deb/changelog"))?
        .replace("@VERSION@", version)
        .replace("@DATE@", date.trim());
    write(&of_the_package, &text)?;
    gzip(&[changes, of_the_package])
}

/// What dpkg reads.
fn control(contents: &Contents, version: &str, root: &Path) -> Result<(), Failed> {
    let sums = answer(
        Command::new("find")
            .current_dir(root)
            .args(["usr", "-type", "f", "-exec", "md5sum", "{}", "+"]),
    )
    .ok_or_else(|| Failed::new(format!("cannot sum up `{}`", root.display())))?;
    let mut sums: Vec<&str> = sums.lines().collect();
    sums.sort_by_key(|line| line.split_once("  ").map(|(_, name)| name));
    let size = answer(
        Command::new("du")
            .args(["-k", "-s", "--apparent-size"])
            .arg(root),
    )
    .and_then(|text| text.split_whitespace().next().map(str::to_owned))
    .ok_or_else(|| Failed::new(format!("cannot measure `{}`", root.display())))?;
    let folder = root.join("DEBIAN");
    fs::create_dir(&folder)
        .map_err(|error| Failed::new(format!("cannot make `{}`: {error}", folder.display())))?;
    rights(&folder, 0o755)?;
    let text = read(&contents.deploy("deb/control"))?
        .replace("@VERSION@", version)
        .replace("@ARCHITECTURE@", contents.architecture.debian())
        .replace("@SIZE@", &size);
    for (name, text) in [
        ("control", text),
        ("conffiles", read(&contents.deploy("deb/conffiles"))?),
        ("md5sums", sums.join("\n") + "\n"),
    ] {
        write(&folder.join(name), &text)?;
        rights(&folder.join(name), 0o644)?;
    }
    for script in ["postinst", "prerm", "postrm"] {
        let to = folder.join(script);
        copy(&contents.deploy("deb").join(script), &to)?;
        rights(&to, 0o755)?;
    }
    Ok(())
}

/// Fails on whatever Debian would call an error or a warning.
pub(super) fn lint(package: &Path) -> Result<(), Failed> {
    run(Command::new("lintian")
        .args(["--fail-on", "error,warning", "--tag-display-limit", "0"])
        .args(["--info", "--allow-root"])
        .arg(package))
}
