//! The machine around kordon: disk, clock, groups, and the unit that starts it.

use crate::doctor::{
    facts::{Facts, Service},
    finding::{Check, Finding},
    fix::Fix,
};

/// So much has to be free: what is live and the last policies are small.
const ROOM: u64 = 16 << 20;

/// See the module.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = state(facts);
    found.extend(clock(facts));
    found.extend(groups(facts));
    found.push(service(facts));
    found
}

fn state(facts: &Facts) -> Vec<Finding> {
    let state = &facts.state;
    let folder = &facts.places.state_dir;
    let name = folder.display();
    match &state.there {
        None => {
            return vec![Finding::note(
                Check::State,
                format!("`{name}` is not there yet: the first start makes it"),
            )];
        }
        Some(Err(why)) => return vec![Finding::unknown(Check::State, why)],
        Some(Ok(false)) => {
            return vec![Finding::problem(
                Check::State,
                format!("`{name}` is not a folder"),
                "move it away: the daemon makes the folder",
            )];
        }
        Some(Ok(true)) => {}
    }
    let mut found = Vec::new();
    if state.is_read_only {
        found.push(Finding::problem(
            Check::State,
            format!("the file system of `{name}` is read-only"),
            format!("`mount -o remount,rw` for it, or `state_dir` in kordon.toml on another; `dmesg` says whether the disk failed (`findmnt -T {name}` shows it)"),
        ));
    }
    if let Some((owner, mode)) = state.rights {
        if mode & 0o700 != 0o700 {
            found.push(
                Finding::problem(
                    Check::State,
                    format!(
                        "the owner of `{name}` may not read, write and enter it (mode {:04o})",
                        mode & 0o7777
                    ),
                    format!("`chmod u+rwx {name}`"),
                )
                .fixed_by(Fix::Rights(folder.clone())),
            );
        }
        if mode & 0o002 != 0 {
            found.push(Finding::problem(
                Check::State,
                format!("anybody may write to `{name}` (mode {:04o}), and so decide what the next start enforces", mode & 0o7777),
                format!("`chmod o-w {name}`, and look at what is in it"),
            ));
        }
        if let Some(user) = state.user.filter(|user| *user != 0 && *user != owner) {
            found.push(Finding::problem(
                Check::State,
                format!("`{name}` belongs to user {owner}, and the daemon runs as user {user}"),
                format!("`chown -R {user} {name}`"),
            ));
        }
    }
    if let Some((free, largest)) = state.room {
        // A new database is written beside the one that is in use.
        let needed = ROOM + 2 * largest;
        if free < ROOM {
            found.push(Finding::problem(
                Check::State,
                format!(
                    "{} MB are free for `{name}`: changes will be refused",
                    free >> 20
                ),
                format!("make room (`df -h {name}`)"),
            ));
        } else if free < needed {
            found.push(Finding::warning(
                Check::State,
                format!(
                    "{} MB are free for `{name}`, and the next database needs {}",
                    free >> 20,
                    needed >> 20
                ),
                format!("make room (`df -h {name}`)"),
            ));
        }
    }
    if found.is_empty() {
        found.push(Finding::fine(
            Check::State,
            format!("`{name}` can be written to and has room"),
        ));
    }
    found
}

fn clock(facts: &Facts) -> Vec<Finding> {
    let now = facts.now.strftime("%Y-%m-%d %H:%M UTC");
    let set =
        "`timedatectl set-ntp true`, and a server of your own where the router has no way out";
    if let Some(made) = facts.made.filter(|made| facts.now < *made) {
        return vec![Finding::problem(
            Check::Clock,
            format!(
                "it is {now} here, before this kordon was made ({})",
                made.strftime("%Y-%m-%d")
            ),
            format!("set the clock (`date -s`, `hwclock -w`), then {set}"),
        )];
    }
    vec![match &facts.synchronised {
        Ok(true) => Finding::fine(Check::Clock, format!("it is {now}, and synchronised")),
        Ok(false) => Finding::warning(
            Check::Clock,
            format!("it is {now} here, and nobody sets the clock"),
            set,
        ),
        Err(why) => Finding::unknown(Check::Clock, format!("whether it is synchronised: {why}")),
    }]
}

fn groups(facts: &Facts) -> Vec<Finding> {
    let one = |(name, exists): &(String, Result<bool, String>)| match exists {
        Ok(true) => Finding::fine(Check::Groups, format!("the group `{name}` exists")),
        Ok(false) => Finding::note(
            Check::Groups,
            format!("there is no group `{name}`: only root may use its socket"),
        )
        .cured(format!(
            "nothing, or `groupadd --system {name}` and a restart of the daemon"
        )),
        Err(why) => Finding::unknown(Check::Groups, why),
    };
    facts.groups.iter().map(one).collect()
}

fn service(facts: &Facts) -> Finding {
    let Service {
        load,
        enabled,
        active,
        restarts,
    } = match &facts.service {
        Ok(service) => service,
        Err(why) => return Finding::unknown(Check::Service, why),
    };
    match (load.as_str(), enabled.as_str()) {
        ("not-found", _) => Finding::problem(
            Check::Service,
            "the unit `kordon.service` is not installed: nothing starts the daemon after a boot",
            "install the package, or deploy/systemd/kordon.service as docs/operations.md says",
        ),
        ("masked", _) => Finding::problem(
            Check::Service,
            "the unit `kordon.service` is masked: it cannot start",
            "`systemctl unmask kordon`, `systemctl enable --now kordon`",
        ),
        (_, "enabled" | "enabled-runtime" | "static" | "indirect" | "alias") => match restarts {
            0..3 => Finding::fine(
                Check::Service,
                format!("the unit is {enabled} and {active}"),
            ),
            _ => Finding::warning(
                Check::Service,
                format!("the unit has been restarted {restarts} times: the daemon ends by itself"),
                "`journalctl -u kordon` says why",
            ),
        },
        _ => Finding::problem(
            Check::Service,
            format!("the unit is {enabled}: nothing starts the daemon after a boot"),
            "`systemctl enable --now kordon`",
        ),
    }
}
