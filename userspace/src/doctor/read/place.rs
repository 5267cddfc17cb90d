//! The state folder, the clock, groups, and the systemd units.

use std::{
    collections::HashMap, fs, io, os::unix::fs::MetadataExt as _, path::Path, process::Command,
};

use jiff::Timestamp;
use nix::{
    sys::statvfs::{FsFlags, statvfs},
    unistd::Group,
};

use crate::{
    bootguard,
    config::{self, Config},
    doctor::facts::{BootGuard, Known, Room, Service, State},
};

/// The state folder. `user`: who the daemon runs as.
pub(super) fn state(folder: &Path, user: Option<u32>) -> State {
    let mut state = State {
        user,
        ..State::default()
    };
    let fail = |e: io::Error| format!("`{}` cannot be looked at: {e}", folder.display());
    let metadata = match fs::metadata(folder) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return state,
        Err(e) => {
            state.there = Some(Err(fail(e)));
            return state;
        }
    };
    state.there = Some(Ok(metadata.is_dir()));
    state.rights = Some((metadata.uid(), metadata.mode()));
    if let Ok(found) = statvfs(folder) {
        state.is_read_only = found.flags().contains(FsFlags::ST_RDONLY);
        let free = found
            .blocks_available()
            .saturating_mul(found.fragment_size());
        let sizes = fs::read_dir(folder).into_iter().flatten();
        let sizes = sizes.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
        state.room = Some((free, sizes.max().unwrap_or(0)));
    }
    state
}

/// The folder of the log of evidence, or what it would be made in.
pub(super) fn evidence(config: Option<&Config>, state_dir: &Path) -> Option<Room> {
    let configured = config?.evidence.as_ref()?.folder.clone();
    let folder = configured.unwrap_or_else(|| state_dir.join(config::EVIDENCE));
    let there = folder.ancestors().find(|at| at.exists());
    let free = there.map_or(Ok(0), |there| {
        let found = statvfs(there).map_err(|e| format!("`{}`: {e}", there.display()))?;
        let blocks = found.blocks_available();
        Ok(blocks.saturating_mul(found.fragment_size()))
    });
    let used = size(&folder).or_else(|e| match e.kind() {
        io::ErrorKind::NotFound => Ok(0),
        _ => Err(format!("`{}` cannot be looked at: {e}", folder.display())),
    });
    Some(Room { folder, used, free })
}

/// Bytes of all files in a folder.
fn size(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sum += match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path())?,
            // One that was replaced meanwhile.
            found => found.map_or(0, |found| found.len()),
        };
    }
    Ok(sum)
}

/// When this binary was made: packages and builds give the file that time.
pub(super) fn made() -> Option<Timestamp> {
    let changed = fs::metadata("/proc/self/exe").ok()?.mtime();
    Timestamp::from_second(changed).ok()
}

/// Configured groups, and whether they exist.
pub(super) fn groups(config: Option<&Config>) -> Vec<(String, Known<bool>)> {
    let names = config.map_or([config::GROUP, config::READ_GROUP], |config| {
        [config.group.as_str(), config.read_group.as_str()]
    });
    let look = |name: &str| {
        let found = Group::from_name(name).map(|group| group.is_some());
        let found = found.map_err(|e| format!("the group `{name}` cannot be looked up: {e}"));
        (name.to_owned(), found)
    };
    names.map(look).to_vec()
}

/// Whether the clock is synchronised, as systemd says.
pub(super) fn synchronised() -> Known<bool> {
    under_systemd()?;
    let found = properties("timedatectl", &["show"])?;
    match found.get("NTPSynchronized").map(String::as_str) {
        Some("yes") => Ok(true),
        Some("no") => Ok(false),
        _ => Err("`timedatectl show` does not say".to_owned()),
    }
}

/// The unit. `is_named`: the configuration was typed, so that it may not be the unit's.
pub(super) fn service(is_named: bool) -> Known<Service> {
    under_systemd()?;
    if is_named {
        return Err(
            "the configuration was named, and `kordon.service` may be another instance's"
                .to_owned(),
        );
    }
    let found = properties(
        "systemctl",
        &[
            "show",
            "kordon.service",
            "--property=LoadState,UnitFileState,ActiveState,NRestarts",
        ],
    )?;
    let word = |name: &str| found.get(name).cloned().unwrap_or_default();
    Ok(Service {
        load: word("LoadState"),
        enabled: word("UnitFileState"),
        active: word("ActiveState"),
        restarts: word("NRestarts").parse().unwrap_or(0),
    })
}

/// What is held at boot; of the unit as in [`service`].
pub(super) fn boot_guard(is_named: bool, state_dir: &Path) -> BootGuard {
    let enabled = || {
        under_systemd()?;
        if is_named {
            return Err("the configuration was named".to_owned());
        }
        let show = [
            "show",
            "kordon-boot-guard.service",
            "--property=UnitFileState,ActiveState",
        ];
        let found = properties("systemctl", &show)?;
        let word = |name: &str| found.get(name).cloned().unwrap_or_default();
        Ok((word("UnitFileState"), word("ActiveState")))
    };
    let unit = enabled();
    let held = bootguard::held().map_err(|problem| problem.message);
    let path = state_dir.join(bootguard::FILE);
    BootGuard {
        active: unit
            .as_ref()
            .map_or_else(|_| String::new(), |(_, active)| active.clone()),
        enabled: unit.map(|(enabled, _)| enabled),
        has_nft: Command::new("nft").arg("--version").output().is_ok(),
        rules: match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(format!("`{}` cannot be read: {e}", path.display())),
        },
        held: held.map(Option::unwrap_or_default),
    }
}

fn under_systemd() -> Known<()> {
    match Path::new("/run/systemd/system").exists() {
        true => Ok(()),
        false => Err("this machine was not started by systemd".to_owned()),
    }
}

/// What a program prints as `Name=value`.
fn properties(program: &str, arguments: &[&str]) -> Known<HashMap<String, String>> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|e| format!("cannot run `{program}`: {e}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{program}` failed: {}", said.trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}
