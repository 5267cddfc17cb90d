//! Configuration, policy and database.

use serde_json::Value;

use crate::{
    diagnostic::Diagnostic,
    doctor::{
        facts::Facts,
        finding::{Check, Finding},
    },
    policy::model::Policy,
};

/// So many warnings of one file are shown.
const MOST: usize = 5;
const DAY: i64 = 86_400;

/// See the module.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let file = facts.places.config.display().to_string();
    let errors = &facts.config_found.errors;
    found.extend(errors.iter().map(|error| {
        let (words, cure) = said(error);
        Finding::problem(Check::Configuration, words, cure).about(&file)
    }));
    found.extend(facts.config_found.warnings.iter().map(|warning| {
        let (words, cure) = said(warning);
        Finding::warning(Check::Configuration, words, cure).about(&file)
    }));
    if errors.is_empty() {
        found.push(Finding::fine(
            Check::Configuration,
            format!("`{file}` is good"),
        ));
    }
    policy(facts, &mut found);
    database(facts, &mut found);
    found
}

/// What is wrong, with its place.
fn said(diagnostic: &Diagnostic) -> (String, String) {
    let words = match diagnostic.line {
        0 => diagnostic.message.clone(),
        line => format!(
            "{} (line {line} of {})",
            diagnostic.message, diagnostic.file
        ),
    };
    let cure = diagnostic.help.clone();
    (words, cure.unwrap_or_else(|| "mend the file".to_owned()))
}

fn policy(facts: &Facts, found: &mut Vec<Finding>) {
    let rules = match &facts.policy {
        Ok(rules) => rules,
        Err(why) => return found.push(Finding::unknown(Check::Policy, why)),
    };
    let file = facts
        .places
        .policy
        .as_ref()
        .map(|path| path.display().to_string());
    let file = file.unwrap_or_default();
    let is_live = facts
        .daemon
        .status()
        .is_some_and(|status| status["policy"].is_object());
    for error in &rules.found.errors {
        let (words, cure) = said(error);
        // What is live does not go by the file.
        let finding = match is_live {
            true => Finding::warning(
                Check::Policy,
                format!("the next `kordon apply` will be refused: {words}"),
                cure,
            ),
            false => Finding::problem(Check::Policy, words, cure),
        };
        found.push(finding);
    }
    let warnings = &rules.found.warnings;
    for warning in warnings.iter().take(MOST) {
        let (words, cure) = said(warning);
        found.push(Finding::note(Check::Policy, words).cured(cure));
    }
    if warnings.len() > MOST {
        let more = warnings.len() - MOST;
        found.push(
            Finding::note(Check::Policy, format!("`{file}` has {more} more warnings"))
                .cured(format!("`kordon check {file}` shows all")),
        );
    }
    if let Some(status) = facts.daemon.status()
        && status["policy"]["drift"] == true
    {
        found.push(Finding::warning(
            Check::Policy,
            format!("the configured policy `{file}` is not the one that is live"),
            "`kordon check`, then `kordon apply`, or restore the file",
        ));
    } else if rules.found.ok() {
        found.push(Finding::fine(Check::Policy, format!("`{file}` is good")));
    }
}

/// Whether rules ask for a database at all.
fn asks(policy: Option<&Policy>) -> bool {
    let sets = policy.map_or(&[][..], |policy| &policy.sets);
    sets.iter().any(|set| {
        !(set.asns.is_empty()
            && set.orgs.is_empty()
            && set.asn_countries.is_empty()
            && set.countries.is_empty())
    })
}

fn database(facts: &Facts, found: &mut Vec<Finding>) {
    let max = facts.config.as_ref().and_then(|config| config.max_age);
    let max = max.map_or(i64::MAX, |max| {
        i64::try_from(max.as_secs()).unwrap_or(i64::MAX)
    });
    let (prefixes, age) = match (facts.daemon.status(), &facts.database) {
        (Some(status), _) => {
            let db = &status["asndb"];
            updates(db, found);
            let count = |name: &str| db[name].as_u64().unwrap_or(0);
            (
                count("prefixes_v4") + count("prefixes_v6"),
                db["age_seconds"].as_i64(),
            )
        }
        (None, Ok(db)) => (db.prefixes, db.age),
        (None, Err(why)) => return found.push(Finding::unknown(Check::Database, why)),
    };
    let update =
        "`kordon asndb update` reads its sources again; `kordon status` says why updates fail";
    let Some(age) = age.filter(|_| prefixes > 0) else {
        found.push(empty(facts));
        return;
    };
    found.push(if age > max {
        Finding::warning(
            Check::Database,
            format!(
                "it is {} days old, more than the {} of `max_age_days`",
                age / DAY,
                max / DAY
            ),
            update,
        )
    } else {
        Finding::fine(
            Check::Database,
            format!("{prefixes} prefixes, {} days old", age / DAY),
        )
    });
}

/// There is no database.
fn empty(facts: &Facts) -> Finding {
    let words = "there is no ASN database";
    if !asks(facts.rules()) {
        return Finding::fine(
            Check::Database,
            format!("{words}, and the policy asks for none"),
        );
    }
    let words =
        format!("{words}, and sets of the policy name ASNs or countries: they match nothing");
    let config = facts.config.as_ref();
    let has_files = config.is_some_and(|c| !c.sources.is_empty() || !c.countries.is_empty());
    let is_fetched = config.is_some_and(|c| !c.updates.remotes.is_empty());
    let cure = match (is_fetched, has_files) {
        (true, _) => "`kordon asndb update` fetches it, also before the first start",
        (_, true) => {
            "`kordon asndb update` reads the sources of kordon.toml, and so does the first start; where \
             it has not, they cannot be read"
        }
        _ => {
            "add an `[[asndb.source]]` to kordon.toml and run `kordon asndb update`; or `kordon asndb \
             import FILE`"
        }
    };
    Finding::problem(Check::Database, words, cure)
}

/// What the daemon says of updates.
fn updates(db: &Value, found: &mut Vec<Finding>) {
    let update = &db["update"];
    if let Some(why) = update["failure"]["message"].as_str() {
        found.push(Finding::warning(
            Check::Database,
            format!("the last update failed: {why}"),
            "see to its source; it is tried again by itself, and `kordon asndb update` tries at once",
        ));
    }
    if !update["held"].is_null() {
        found.push(Finding::warning(
            Check::Database,
            "an update is held back, since it changes too much",
            "`kordon asndb diff` shows what, `kordon asndb update --accept` takes it, `kordon asndb discard` forgets it",
        ));
    }
    for refused in db["refused_snapshots"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        found.push(Finding::warning(
            Check::Database,
            refused,
            "`kordon asndb update` writes a new one",
        ));
    }
}
