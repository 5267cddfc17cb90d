//! What changed: the answers to `apply`, `block` and the like, and `history`.

use std::fmt::Write as _;

use serde_json::Value;

use super::{list, moment, text};

pub(in crate::cli) fn changed(value: &Value) -> String {
    let hash = text(&value["hash"]);
    let hash = hash.get(..16).unwrap_or(&hash);
    if value["changed"] != true {
        if value["hash"].is_null() {
            return "nothing to change\n".to_owned();
        }
        return match value["recorded"] == true {
            true => format!("kept; what is enforced stays the same: policy {hash}\n"),
            false => format!("nothing to change: policy {hash} is live already\n"),
        };
    }
    let mut out = format!(
        "live: policy {hash}, generation {}, after {} ms{}\n",
        value["generation"],
        value["apply_ms"],
        if value["table_written"] == true {
            ", with a new table"
        } else {
            ""
        }
    );
    if value["returned_to"].is_object() {
        out += &returned(&value["returned_to"]);
    }
    out
}

/// What a rollback led to, and what it left.
fn returned(to: &Value) -> String {
    let mut out = format!(
        "back to policy {} ({}) of {}\n",
        to["number"],
        text(&to["path"]),
        moment(&to["applied_at"])
    );
    if let Some(entries @ 1..) = to["entries"].as_u64() {
        let entries = match entries {
            1 => "an entry".to_owned(),
            count => format!("{count} entries"),
        };
        let _ = writeln!(
            out,
            "{entries} of `block` and `allow` stayed: `kordon status` has them, `kordon unblock` ends them"
        );
    }
    if let Some(command) = to["last_change"].as_str() {
        let _ = writeln!(
            out,
            "the last change was `kordon {command}`, which is still live: `kordon unblock` undoes that"
        );
    }
    out
}

pub(in crate::cli) fn detached(value: &Value) -> String {
    let mut out = format!(
        "detached: nothing is enforced any more by what was pinned at {}\n",
        text(&value["bpffs"])
    );
    for path in list(&value["left"]) {
        let _ = writeln!(out, "left, because kordon did not make it: {}", text(path));
    }
    out
}

/// Who changed something.
pub(super) fn who(change: &Value) -> String {
    match (change["user"].as_str(), change["login"].as_str()) {
        (Some(user), Some(login)) => format!("{user} ({login})"),
        (Some(user), None) => user.to_owned(),
        (None, _) => "the daemon".to_owned(),
    }
}

/// Changes, and the policies that are kept, both newest first.
pub(in crate::cli) fn history(value: &Value) -> String {
    let short = |hash: &Value| match hash.as_str() {
        // As in `status`.
        Some(hash) => hash.get(..16).unwrap_or(hash).to_owned(),
        None => "-".to_owned(),
    };
    let mut out = String::new();
    for change in list(&value["changes"]) {
        let user = who(change);
        let policy = change["policy"].as_u64().map(|number| number.to_string());
        let _ = writeln!(
            out,
            "{}  {user:<12} {:>4}  {} > {}  {}",
            moment(&change["at"]),
            policy.as_deref().unwrap_or("-"),
            short(&change["old"]),
            short(&change["new"]),
            text(&change["command"]),
        );
    }
    out.push_str("policies that are kept:\n");
    for entry in list(&value["history"]) {
        let live = if entry["live"] == true { "live" } else { "" };
        let _ = writeln!(
            out,
            "{:>5} {live:<4} {}  {}  {}",
            entry["number"],
            moment(&entry["applied_at"]),
            short(&entry["hash"]),
            text(&entry["path"]),
        );
    }
    out
}
