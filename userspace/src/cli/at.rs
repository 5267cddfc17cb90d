//! `kordon explain --at`: the verdict on a packet as it was, by the policy and the database that the log says were in force,
//! out of the archive beside it.

use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{failure::Failure, past};
use crate::{
    asn::{self, AsnDb},
    evidence::archive,
    history::query::Event,
    judge::{self, Edition, Engine, ExplainQuery},
};

/// The fields of `explain --json`, and `at`, `edition`, `database`, `enforcing`.
pub(super) fn explain(
    folder: &Path,
    at: Timestamp,
    query: &ExplainQuery,
    engine: Engine,
) -> Result<Value, Failure> {
    if at > Timestamp::now() {
        let cure = "times are like 2026-11-30T08:00:00Z, or so long ago: 90s, 2h, 7d";
        return Err(Failure::usage("nobody knows what will be in force", cure));
    }
    let events = past::events(folder, Timestamp::MAX)?;
    let none = || {
        Failure::new(
            format!("the log does not say what was in force at {at}"),
            "`kordon report` says since when there is a log",
        )
    };
    let state = in_force(&events, at).ok_or_else(none)?;
    let events: Vec<&Event> = events.iter().filter(|event| event.at <= at).collect();
    let record: Value = serde_json::from_str(&state.record).unwrap_or_default();
    let of = &record["kordon"];
    let edition_name = of["edition"].as_str().ok_or_else(none)?;
    let bytes = archive::read_edition(folder, edition_name).map_err(|e| gone("policy", &e))?;
    let edition: Edition = serde_json::from_slice(&bytes).map_err(|e| gone("policy", &e))?;
    let db = match of["database"].as_str() {
        Some(name) => {
            let path = folder.join(archive::FOLDER).join(archive::database(name));
            asn::snapshot::load(&path).map_err(|e| gone("database", &e))?
        }
        None => AsnDb::default(),
    };
    let policy =
        (edition.policy(&db, at)).map_err(|found| Failure::found(found, Some(&edition.policy)))?;
    let router = edition.router(query.interface.as_deref()).ok_or_else(|| {
        let names: Vec<&str> = edition.interfaces.iter().map(|(name, _)| &**name).collect();
        Failure::usage(
            "there was no such interface then",
            format!("there were {}", names.join(", ")),
        )
    })?;
    let mut answer = judge::explain(&policy, &db, &router, query, engine)
        .map_err(|e| Failure::from_error(&e))?;
    if let Value::Array(why) = &mut answer["why"] {
        why.extend(beside(&events, of, at).into_iter().map(Value::from));
    }
    answer["at"] = json!(at);
    answer["edition"] = json!(edition_name);
    answer["database"] = of["database"].clone();
    answer["enforcing"] = of["enforcing"].clone();
    Ok(answer)
}

/// The state of then. It is written a moment after a change: what was changed by then is in the first one after it.
fn in_force(events: &[Event], at: Timestamp) -> Option<&Event> {
    let of = |event: &Event| serde_json::from_str::<Value>(&event.record).unwrap_or_default();
    let is_state = |event: &&Event| event.action == "state";
    let before = events
        .iter()
        .rev()
        .find(|event| is_state(event) && event.at <= at);
    let changes = events.iter().rev().filter(|event| event.action == "change");
    let changed = changes.map(of).find_map(|change| {
        let made: Timestamp = change["event"]["start"].as_str()?.parse().ok()?;
        (made <= at).then_some((made, change))
    });
    let Some((made, change)) = changed else {
        return before;
    };
    if before.is_some_and(|state| state.at >= made) {
        return before;
    }
    let hash = &change["kordon"]["policy_hash"];
    let after = events.iter().find(|event| {
        is_state(event) && event.at >= made && of(event)["kordon"]["policy_hash"] == *hash
    });
    after.or(before)
}

/// What the verdict does not say by itself.
fn beside(events: &[&Event], state: &Value, at: Timestamp) -> Vec<String> {
    let mut words = vec![format!(
        "by the policy and the database that were in force at {at:.0}"
    )];
    if state["enforcing"] == false {
        let reasons = state["reasons"].as_array().map_or(&[][..], Vec::as_slice);
        let reasons: Vec<&str> = reasons.iter().filter_map(Value::as_str).collect();
        words.push(format!(
            "kordon did not enforce all of it then: {}",
            reasons.join("; ")
        ));
    }
    if state["live_bgp"] == true {
        words.push("live BGP was configured: what it changed is not archived".to_owned());
    }
    if events.last().is_some_and(|event| event.action == "stop") {
        words.push("no daemon ran then: this is what was in force before".to_owned());
    }
    words
}

fn gone(what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        format!("the {what} of then cannot be read in the archive: {why}"),
        "what is beyond `archive_max_size` is removed; a copy of the log's folder may have it",
    )
}
