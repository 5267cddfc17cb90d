//! What the daemon says: reasons for not enforcing, notices, and whether there is one.

use serde_json::Value;

use crate::doctor::{
    facts::{Daemon, Facts, Link},
    finding::{Check, Finding},
};

/// See the module.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    match &facts.daemon {
        Daemon::Answers(status) => answers(facts, status),
        Daemon::Unknown(why) => vec![
            Finding::unknown(Check::Daemon, why),
            Finding::unknown(Check::Enforcing, "the daemon could not be asked"),
        ],
        Daemon::Silent(why) => silent(facts, why),
    }
}

fn answers(facts: &Facts, status: &Value) -> Vec<Finding> {
    let version = status["version"].as_str().unwrap_or("unknown");
    let mut found = vec![Finding::fine(
        Check::Daemon,
        format!("version {version} answers"),
    )];
    let list = |name: &str| status[name].as_array().cloned().unwrap_or_default();
    let reasons = list("reasons");
    for reason in reasons.iter().filter_map(Value::as_str) {
        found.push(told(facts, reason, Finding::problem));
    }
    for notice in list("notices").iter().filter_map(Value::as_str) {
        found.push(told(facts, notice, Finding::warning));
    }
    if status["enforcing"] == true {
        found.push(Finding::fine(
            Check::Enforcing,
            "all that the policy asks for is enforced",
        ));
    } else if reasons.is_empty() {
        found.push(Finding::problem(
            Check::Enforcing,
            "the daemon says that it does not enforce, and not why",
            "`kordon status`, and the log: `journalctl -u kordon`",
        ));
    }
    let is_told_of = found.iter().any(|finding| finding.check == Check::Ledger);
    found.extend(recorded(status, &list("zones"), is_told_of));
    if let Some(trouble) = status["state"]["problem"].as_str() {
        found.push(Finding::problem(
            Check::State,
            trouble,
            "see to the room and the rights of the state folder; until then changes are refused",
        ));
    }
    found
}

/// Of which zones it is known who sent what to whom. `is_told_of`: the daemon says something of the ledger.
fn recorded(status: &Value, zones: &[Value], is_told_of: bool) -> Vec<Finding> {
    if status["books"].is_null() {
        return Vec::new();
    }
    let less = zones.iter().filter_map(|zone| {
        let words = match zone["record"].as_str()? {
            "off" => "nothing that is sent in it is recorded",
            "drops" => "what passes is counted, and not recorded",
            _ => return None,
        };
        let name = zone["name"].as_str().unwrap_or_default();
        let words = format!("zone `{name}`: {words}");
        Some(Finding::note(Check::Ledger, words).about(name))
    });
    let found: Vec<Finding> = less.collect();
    match found.is_empty() && !is_told_of {
        true => vec![Finding::fine(
            Check::Ledger,
            "every packet of a zone is recorded now",
        )],
        false => found,
    }
}

/// A sentence of the daemon's, under the check that it belongs to.
fn told(
    facts: &Facts,
    words: &str,
    finding: impl FnOnce(Check, String, String) -> Finding,
) -> Finding {
    let gap = gap_of(facts, words);
    let check = match gap {
        Some((check, _)) => check,
        None if is_of_destination(facts, words) => Check::Evidence,
        None => check_of(words),
    };
    let (what, cure) = words.split_once("; ").unwrap_or((
        words,
        "docs/operations.md has the cure of each, under `Not enforcing: reasons and cures`",
    ));
    let finding = finding(check, what.to_owned(), cure.to_owned());
    if let Some((_, device)) = gap {
        return finding.about(device);
    }
    let quoted = |name: &str| words.contains(&format!("`{name}`"));
    let names = facts.devices().map(|(interface, _)| &interface.device);
    let zones = facts.rules().map_or(&[][..], |policy| &policy.zones);
    let names = names.chain(zones.iter().map(|zone| &zone.name));
    match names.into_iter().find(|name| quoted(name)) {
        Some(name) => finding.about(name),
        None => finding,
    }
}

/// Whether words are about one that records of the log of evidence are sent on to.
fn is_of_destination(facts: &Facts, words: &str) -> bool {
    let standing = facts.daemon.status().map(|status| &status["evidence"]);
    let destinations = standing.and_then(|standing| standing["forward"].as_array());
    let mut names = destinations
        .into_iter()
        .flatten()
        .filter_map(|to| to["to"].as_str());
    names.any(|name| words.starts_with(name))
}

/// The check and the device that words belong to which say what leads around kordon.
fn gap_of<'f>(facts: &'f Facts, words: &str) -> Option<(Check, &'f str)> {
    let gaps = facts.daemon.status()?["gaps"].as_array()?;
    let is_it = |gap: &&Value| {
        let found = gap["found"].as_str();
        found.is_some_and(|found| words.starts_with(found))
    };
    let gap = gaps.iter().find(is_it)?;
    let check = match gap["interface"].is_null() {
        true => Check::Coverage,
        false => Check::Flowtable,
    };
    Some((check, gap["device"].as_str()?))
}

/// What the daemon's words are about.
fn check_of(words: &str) -> Check {
    const BY_WORDS: [(&str, Check); 22] = [
        ("log of evidence", Check::Evidence),
        ("history of flows", Check::Evidence),
        ("the ledger", Check::Ledger),
        ("who sent what to whom", Check::Ledger),
        ("where no frame has its tag", Check::Device),
        ("see the VLAN tags", Check::Tags),
        ("hidden from the program", Check::Tags),
        ("switch rx-vlan-offload off", Check::Tags),
        ("another XDP program", Check::ForeignXdp),
        ("another kordon is there", Check::ForeignXdp),
        ("there is no such interface", Check::Interface),
        (" is called `", Check::Interface),
        ("which the configuration does not have", Check::Policy),
        ("policed in tc alone", Check::Mode),
        ("the boot guard", Check::BootGuard),
        ("guard", Check::Guard),
        ("mode, another was asked for", Check::Mode),
        ("in native mode", Check::Mode),
        ("ASN database", Check::Database),
        ("has had none for", Check::Zone),
        ("no policy is live", Check::Policy),
        ("the policy has no zone", Check::Policy),
    ];
    let found = BY_WORDS.iter().find(|(part, _)| words.contains(part));
    found.map_or(Check::Enforcing, |(_, check)| *check)
}

/// Nobody answers: what the kernel goes on doing is in the pins.
fn silent(facts: &Facts, why: &str) -> Vec<Finding> {
    let (words, cure) = match facts.holder {
        None => (
            format!("no daemon answers ({why})"),
            "`systemctl start kordon`; `journalctl -u kordon` says why it ended",
        ),
        Some(process) => (
            format!("process {process} has the pins and does not answer ({why})"),
            "it is starting or ending: look again in a minute; or it has another socket, which \
             `--socket` or `--config` names",
        ),
    };
    let problem = |words: String| Finding::problem(Check::Daemon, words, cure);
    let pinned = match &facts.pinned {
        Ok(pinned) => pinned,
        Err(unseen) => {
            let unseen = format!("what programs in the kernel do cannot be seen: {unseen}");
            return vec![problem(words), Finding::unknown(Check::Enforcing, unseen)];
        }
    };
    let devices: Vec<&str> = facts.devices().map(|(i, _)| i.device.as_str()).collect();
    let works = |device: &str| {
        let mut pinned = pinned.iter().filter(|pinned| pinned.device == device);
        pinned.any(|pinned| pinned.mode.is_some() && pinned.has_rules)
    };
    let (guarded, bare): (Vec<&str>, Vec<&str>) = devices
        .iter()
        .copied()
        .filter(|device| !works(device))
        .partition(|device| facts.link(device).and_then(Link::has_guard) == Some(true));
    // What is not there is said of the interface.
    let is_there = |device: &&&str| facts.links.is_err() || facts.link(device).is_some();
    let mut found: Vec<Finding> = bare
        .iter()
        .filter(is_there)
        .map(|device| {
            let words = format!("everything passes on `{device}`: no program with rules is there");
            let cure = "start the daemon, which attaches one";
            Finding::problem(Check::Enforcing, words, cure).about(*device)
        })
        .collect();
    found.extend(guarded.iter().map(|device| {
        let words = format!(
            "no program is on `{device}` but the guard, and whether that polices it alone only a \
             daemon can tell"
        );
        Finding::unknown(Check::Enforcing, words).about(*device)
    }));
    if devices.is_empty() || !bare.is_empty() {
        found.push(problem(words));
        return found;
    }
    if guarded.is_empty() {
        let watched = "programs are on all interfaces, and nobody watches what they see";
        found.push(Finding::unknown(Check::Enforcing, watched));
    }
    let words = format!("{words}; programs in the kernel go on with what was live last");
    found.push(Finding::warning(Check::Daemon, words, cure));
    found
}
