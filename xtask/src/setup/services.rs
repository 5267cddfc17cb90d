//! Services that packages bring are neither started nor left enabled: the demo and the
//! tests start what they need, where they need it, and a machine must not come up with a
//! routing daemon at its next boot because somebody looked at a demo.
//!
//! Two mechanisms of Debian are at work: `policy-rc.d` says whether a maintainer script may
//! start a service, and links in `/etc/systemd/system` and `/etc/rc?.d` say what a boot
//! starts. The first is answered while packages are installed, the second is compared
//! before and after, so that what was enabled before stays so.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Failed, answer, say};

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Says in the file that it is not the administrator's.
const MARK: &str = "# by kordon's cargo xtask, while it installs packages";

/// What a boot starts.
const ENABLED: &[&str] = &[
    "/etc/systemd/system",
    "/etc/rc2.d",
    "/etc/rc3.d",
    "/etc/rc5.d",
];

/// While it lives, packages that are being installed may not start services; when it
/// ends, those that they enabled are disabled.
pub(super) struct NoServices {
    /// The policy file is ours to remove.
    ours: bool,
    /// Names of units and scripts that were enabled before.
    enabled: BTreeSet<String>,
    /// Packages whose services are not wanted. Those of what they depend on are left
    /// alone: `systemd` may come along, and what it enables belongs to a bootable system.
    packages: Vec<String>,
}

impl NoServices {
    pub(super) fn new(packages: &[&str]) -> Result<Self, Failed> {
        let quiet = Self {
            ours: Self::forbid()?,
            enabled: enabled(),
            packages: packages.iter().map(|name| (*name).to_owned()).collect(),
        };
        Ok(quiet)
    }

    /// Whether the policy file is ours.
    fn forbid() -> Result<bool, Failed> {
        // One that an interrupted run left behind may be replaced.
        if Path::new(POLICY).exists()
            && !fs::read_to_string(POLICY).is_ok_and(|text| text.contains(MARK))
        {
            return Ok(false);
        }
        // It forbids (101) only as long as this process lives: killed at the wrong
        // moment, it must not keep the machine's services down for good.
        let script = format!(
            "#!/bin/sh\n{MARK}\nif kill -0 {} 2>/dev/null; then exit 101; fi\nexit 0\n",
            std::process::id()
        );
        fs::write(POLICY, script)
            .and_then(|()| fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)))
            .map_err(|error| Failed::new(format!("cannot write `{POLICY}`: {error}")))?;
        Ok(true)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            say(format_args!("cannot remove `{POLICY}`: {error}"));
        }
        let files = answer(
            Command::new("dpkg-query")
                .arg("--listfiles")
                .args(&self.packages),
        );
        let brought = units(&files.unwrap_or_default());
        for unit in enabled().difference(&self.enabled) {
            if brought.contains(unit) {
                disable(unit);
            }
        }
    }
}

/// Without systemd the links go by hand.
fn disable(unit: &str) {
    say(format_args!(
        "`{unit}` was enabled by its package: disabling it again"
    ));
    let by_systemd = answer(Command::new("systemctl").args(["--quiet", "disable", unit]));
    if by_systemd.is_some() {
        return;
    }
    for link in links()
        .into_iter()
        .filter(|link| name(link) == Some(unit.to_owned()))
    {
        if let Err(error) = fs::remove_file(&link) {
            say(format_args!("cannot remove `{}`: {error}", link.display()));
        }
    }
}

/// Names of what a boot starts.
fn enabled() -> BTreeSet<String> {
    links().iter().filter_map(|link| name(link)).collect()
}

/// Links that make a boot start something.
fn links() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ENABLED {
        let in_it = entries(Path::new(folder));
        let wanted = in_it.iter().filter(|path| {
            let extension = path.extension().and_then(|text| text.to_str());
            matches!(extension, Some("wants" | "requires"))
        });
        found.extend(wanted.flat_map(|path| entries(path)));
        found.extend(in_it);
    }
    found.retain(|path| path.is_symlink());
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// `frr.service` of `…/multi-user.target.wants/frr.service` and of `/etc/rc3.d/S01frr`;
/// nothing of a script that a boot stops.
fn name(link: &Path) -> Option<String> {
    let name = link.file_name()?.to_str()?;
    if !link.parent()?.starts_with("/etc/systemd") {
        let script = name.strip_prefix('S')?.get(2..)?;
        return Some(format!("{script}.service"));
    }
    Some(name.to_owned())
}

/// Units and scripts in a list of files.
fn units(files: &str) -> BTreeSet<String> {
    let unit = |file: &str| {
        let (folder, name) = file.rsplit_once('/')?;
        match folder {
            "/lib/systemd/system" | "/usr/lib/systemd/system" => Some(name.to_owned()),
            "/etc/init.d" => Some(format!("{name}.service")),
            _ => None,
        }
    };
    files.lines().filter_map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_both_kinds_of_link() {
        let of = |link: &str| name(Path::new(link));
        let frr = Some("frr.service".to_owned());
        assert_eq!(
            of("/etc/systemd/system/multi-user.target.wants/frr.service"),
            frr
        );
        assert_eq!(of("/etc/rc3.d/S01frr"), frr);
        assert_eq!(of("/etc/rc3.d/K01frr"), None);
    }

    #[test]
    fn units_of_a_package() {
        let files = "/.\n/etc/init.d/frr\n/lib/systemd/system/frr@.service\n/usr/bin/vtysh\n";
        let expected = ["frr.service", "frr@.service"].map(str::to_owned);
        assert_eq!(units(files), BTreeSet::from(expected));
    }
}
