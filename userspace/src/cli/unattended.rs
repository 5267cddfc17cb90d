//! `status` where no daemon answers: what the kernel goes on doing, as far as the pins and the
//! state folder say. Nobody watches then what programs do not see, so that `enforcing` is
//! `false` where an interface has no program, and otherwise not known.

use serde_json::{Value, json};

use super::{
    arguments::Resolved,
    failure::Failure,
    view::{Page, counted, list, moment, text, trial},
};
use crate::{
    daemon,
    datapath::{
        Attached,
        left::{self, Left, On},
    },
};

/// What helps who names a socket alone.
pub(super) const WHOSE: &str = "`--bpffs` or `--config` says whose pins are meant: with one of \
                                them `status` shows what the kernel goes on doing";

/// What the kernel goes on doing, with why there is no answer; `None`: nobody knows whose pins are
/// meant.
pub(super) fn look(instance: &Resolved, failure: &Failure) -> Option<Value> {
    if !instance.names_pins {
        return None;
    }
    let mut value = failure.json();
    if let (Value::Object(all), Value::Object(more)) = (&mut value, look_at_pins(instance)) {
        all.extend(more);
    }
    Some(value)
}

fn look_at_pins(instance: &Resolved) -> Value {
    let bpffs = &instance.bpffs;
    let mut value = json!({
        "bpffs": bpffs,
        "held_by": daemon::holder(bpffs),
        "problem": null,
        "enforcing": null,
        "interfaces": [],
        "policy": null,
        "unused": [],
    });
    let left = match left::look(bpffs) {
        Ok(left) => left,
        Err(e) => {
            value["problem"] = e.to_string().into();
            return value;
        }
    };
    let interfaces = interfaces(instance, &left);
    let lacks = |found: &Value| found["attached"] == false || found["rules"] == false;
    if interfaces.is_empty() || interfaces.iter().any(lacks) {
        value["enforcing"] = false.into();
    }
    if instance.names_state && interfaces.iter().any(|found| found["attached"] != false) {
        value["policy"] = daemon::recorded(&instance.state_dir).unwrap_or_default();
    }
    value["interfaces"] = interfaces.into();
    value["unused"] = left.unused.into();
    value
}

/// Those with a pinned link, and those that are configured and have none.
fn interfaces(instance: &Resolved, left: &Left) -> Vec<Value> {
    let configured = &instance.interfaces;
    let name = |device: &str| {
        let found = configured.iter().find(|found| found.device == device);
        found.map(|found| found.name.clone())
    };
    let with_link = left.links.iter().map(|link| {
        let problem = match &link.on {
            Ok(Some(on)) if on.rules.as_ref().is_some_and(|rules| !rules.has_slow) => Some(
                "its slow path is gone, so that ARP, fragments and all else that the fast path does \
                 not decide is dropped; a start of `kordon run` brings it back"
                    .to_owned(),
            ),
            Ok(Some(on)) if on.is_ours => None,
            Ok(Some(_)) => Some(format!(
                "the program there is not kordon's; {}",
                match left::foreign(&link.device) {
                    Ok(Some(words)) => words,
                    Ok(None) => "it is gone by now".to_owned(),
                    Err(e) => e.to_string(),
                }
            )),
            Ok(None) => Some("the interface is gone, or somebody took the program off".to_owned()),
            Err(why) => Some(why.clone()),
        };
        let on = link.on.as_ref().ok().and_then(Option::as_ref);
        let is_on = link
            .on
            .as_ref()
            .ok()
            .map(|on| on.as_ref().is_some_and(|on| on.is_ours));
        entry(name(&link.device), &link.device, on, is_on, problem)
    });
    let has_link = |device: &str| left.links.iter().any(|link| link.device == device);
    let without = configured.iter().filter(|found| !has_link(&found.device));
    let without = without.map(|found| {
        let alone = left
            .alone
            .iter()
            .find(|(device, _)| *device == found.device);
        if let Some((_, true)) = alone {
            let mut entry = entry(
                Some(found.name.clone()),
                &found.device,
                None,
                Some(true),
                None,
            );
            entry["mode"] = "tc".into();
            entry["now"] = found.device.clone().into();
            return entry;
        }
        let problem = match left::foreign(&found.device) {
            Ok(Some(words)) => words,
            Ok(None) => "no program of kordon's is pinned for it".to_owned(),
            Err(e) => e.to_string(),
        };
        let name = Some(found.name.clone());
        entry(name, &found.device, None, Some(false), Some(problem))
    });
    with_link.chain(without).collect()
}

/// An interface. `attached`: whether a program of kordon's is on it; `None`: that is not known.
fn entry(
    name: Option<String>,
    device: &str,
    on: Option<&On>,
    attached: Option<bool>,
    problem: Option<String>,
) -> Value {
    let rules = on.and_then(|on| on.rules.as_ref());
    json!({
        "name": name,
        "device": device,
        "now": on.map(|on| &on.interface),
        "mode": on.map(|on| Attached::as_str(on.mode)),
        "attached": attached,
        "maps": rules.map(|rules| &rules.folder),
        "adoptable": rules.map(|rules| rules.is_current),
        "rules": rules.map(|rules| rules.is_live),
        "generation": rules.and_then(|rules| rules.generation),
        "problem": problem,
    })
}

/// A line for each interface, or that nothing is known of any.
pub(super) fn brief(value: &Value) -> String {
    let why = match value["held_by"].is_null() {
        true => "NO DAEMON",
        false => "NO ANSWER",
    };
    let lines = list(&value["interfaces"])
        .iter()
        .map(|found| format!("{}; {why}\n", interface(found)));
    let lines: String = lines.collect();
    match lines.is_empty() {
        true => opening(value).0,
        false => lines,
    }
}

/// What is known without a daemon.
pub(super) fn page(value: &Value) -> String {
    let mut page = opening(value);
    for found in list(&value["interfaces"]) {
        page.line("interface", interface(found));
    }
    let policy = &value["policy"];
    if policy.is_object() {
        let hash = text(&policy["hash"]);
        page.line(
            "policy",
            format!("{}, by the state folder", text(&policy["path"])),
        );
        page.line(
            "",
            format!(
                "hash {}, applied at {}",
                hash.get(..16).unwrap_or(&hash),
                moment(&policy["applied_at"])
            ),
        );
        if let Some(words) = trial(&policy["pending_confirm"]) {
            page.line("", format!("{words}, and only a daemon ends it"));
        }
    }
    let unused = list(&value["unused"]);
    if !unused.is_empty() {
        let names: Vec<String> = unused.iter().map(text).collect();
        page.line(
            "unused",
            format!(
                "{} of maps that no program here uses: {}",
                counted(unused.len() as u64, "folder"),
                names.join(", ")
            ),
        );
    }
    page.0
}

/// Whether anything is enforced, as far as that is known.
fn opening(value: &Value) -> Page {
    let mut page = Page(String::new());
    let bpffs = text(&value["bpffs"]);
    if let Some(process) = value["held_by"].as_u64() {
        page.line(
            "NO ANSWER",
            format!(
                "process {process} holds the pins at {bpffs}: a daemon that starts or ends, or \
                 that has another socket"
            ),
        );
    } else if let Some(problem) = value["problem"].as_str() {
        page.line(
            "NOT KNOWN",
            format!("whether anything is enforced: {problem}"),
        );
    } else {
        headline(&mut page, value);
    }
    page
}

/// That no daemon runs, and what that means.
fn headline(page: &mut Page, value: &Value) {
    const GOES_ON: &str = "go on with what was live last; nobody watches over them, nothing that \
                           ends by time ends, and no counters are exported";
    let mut found = list(&value["interfaces"]).iter();
    let some = found.clone().any(|found| found["attached"] == true);
    if value["enforcing"] != false {
        let words = match some {
            true => format!("programs in the kernel {GOES_ON}"),
            false => "what programs in the kernel do is not known".to_owned(),
        };
        return page.line("NO DAEMON", words);
    }
    page.line("NOT ENFORCING", "");
    let bpffs = text(&value["bpffs"]);
    let words = match some {
        true => format!("not every interface has its program; those that are there {GOES_ON}"),
        false if found.any(|found| found["attached"].is_null()) => {
            "not every interface has its program, and of the others nothing is known".to_owned()
        }
        false => format!("no program that is pinned at {bpffs} is on an interface"),
    };
    page.line("because", format!("no daemon runs, and {words}"));
}

fn interface(found: &Value) -> String {
    let (device, now) = (text(&found["device"]), text(&found["now"]));
    let mut words = match found["name"].as_str() {
        Some(name) => format!("{name} ({device})"),
        None => format!("{device}, which is not configured"),
    };
    if found["attached"] == true && now != device {
        words += &format!(", called {now} now");
    }
    let problem = found["problem"].as_str();
    if let Some(problem) = problem.filter(|_| found["attached"] != true) {
        let attached = match found["attached"].as_bool() {
            Some(_) => "NOT ATTACHED",
            None => "not known",
        };
        return format!("{words}, {attached}: {problem}");
    }
    words += &format!(", {}, attached", text(&found["mode"]));
    match (found["rules"].as_bool(), found["generation"].as_u64()) {
        (Some(false), _) => words += ", WITHOUT RULES: everything passes",
        (_, Some(generation)) => words += &format!(": drops by generation {generation}"),
        // Guards ask whatever is in their array.
        _ if found["mode"] == "tc" => words += ": drops by what was live last",
        _ => words += ": drops by a generation whose pins are gone",
    }
    if found["adoptable"] == false {
        words += &format!(
            ", of another version of kordon or set aside ({})",
            text(&found["maps"])
        );
    }
    if let Some(problem) = problem {
        words += &format!("; {problem}");
    }
    words
}
