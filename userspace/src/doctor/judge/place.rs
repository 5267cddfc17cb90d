//! The machine around kordon: disk, clock, groups, the unit that starts it, and what is held until
//! it has.

use crate::{
    bootguard,
    config::Fail,
    doctor::{
        facts::{Facts, Service},
        finding::{Check, Finding},
        fix::Fix,
    },
};

/// So much has to be free: what is live and the last policies are small.
const ROOM: u64 = 16 << 20;

/// See the module.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = state(facts);
    found.extend(clock(facts));
    found.extend(groups(facts));
    found.push(service(facts));
    found.extend(boot_guard(facts));
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

fn boot_guard(facts: &Facts) -> Vec<Finding> {
    const CHECK: Check = Check::BootGuard;
    let guard = &facts.boot_guard;
    let mut found = Vec::new();
    match &guard.held {
        Err(why) => found.push(Finding::unknown(CHECK, why)),
        Ok(held) => found.extend(held.iter().map(|device| {
            Finding::problem(
                CHECK,
                format!("what comes from `{device}` is held until kordon enforces there"),
                "cure why it does not enforce; or `kordon release-guard`, and nothing is held",
            )
            .about(device)
        })),
    }
    if facts.config.as_ref().is_some_and(|c| c.fail == Fail::Open) {
        let words = "kordon.toml says `fail = \"open\"`: at boot everything is forwarded until the \
                     daemon has started";
        found.push(Finding::note(CHECK, words));
        return found;
    }
    let enabled = guard.enabled.as_deref();
    let lacks = match (&guard.rules, enabled) {
        (Err(why), _) => return [found, vec![Finding::unknown(CHECK, why)]].concat(),
        (_, Ok("" | "disabled" | "masked")) => Some((
            "the unit `kordon-boot-guard.service` is not enabled: at boot everything is forwarded \
             until the daemon has started",
            "`systemctl enable kordon-boot-guard`",
        )),
        _ if guard.active == "failed" => Some((
            "the unit `kordon-boot-guard.service` failed at this boot: everything was forwarded until \
             the daemon had started",
            "`journalctl -b -u kordon-boot-guard` says why",
        )),
        _ if !guard.has_nft => Some((
            "there is no `nft`, which loads what is held at boot",
            "`apt-get install nftables`, or the like",
        )),
        (Ok(None), _) => Some((
            "what is held at boot is not written down yet",
            "start the daemon",
        )),
        (Ok(Some(_)), _) => None,
    };
    if let Some((words, cure)) = lacks {
        found.push(Finding::warning(CHECK, words, cure));
        return found;
    }
    // Daemons write it anew, and only they see names that are not usual.
    let rules = guard.rules.as_ref().ok().and_then(Option::as_ref);
    let names = rules.map(|rules| bootguard::learned(rules));
    let names = names
        .iter()
        .flat_map(|learned| learned.values().flat_map(|over| &over.policed));
    let names: Vec<&str> = names.map(String::as_str).collect();
    let what = match names.len() {
        0 => "the usual names of policed VLANs".to_owned(),
        _ => names.join(", "),
    };
    match enabled {
        Ok(_) => found.push(Finding::fine(CHECK, format!("holds {what} at boot"))),
        Err(why) => found.push(Finding::unknown(CHECK, why)),
    }
    found
}
