//! The log of evidence: whether there is one, whether it has room, and whether somebody outside would notice that it was
//! written anew. What goes wrong with it now is among the daemon's notices.

use serde_json::Value;

use crate::{
    config::RESERVE,
    doctor::{
        facts::Facts,
        finding::{Check, Finding},
    },
};

const CHECK: Check = Check::Evidence;

/// See the module.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(config) = &facts.config else {
        return Vec::new();
    };
    let (Some(evidence), Some(room)) = (&config.evidence, &facts.evidence) else {
        let words = "no log is written of who sent what to whom: the next boot forgets it";
        let cure = "nothing, or `[evidence]` in kordon.toml (docs/evidence.md)";
        return vec![Finding::note(CHECK, words).cured(cure)];
    };
    let mut found = Vec::new();
    if evidence.witness.is_empty() && evidence.post.is_none() {
        let words = "nobody outside is told how long the log is: who is root here can write it anew, and nobody can tell";
        let cure =
            "`[evidence.post]` or `witness` in kordon.toml, to a machine that others look after";
        found.push(Finding::note(CHECK, words).cured(cure));
    }
    let name = room.folder.display();
    let most = u64::from(evidence.max_size)
        + u64::from(evidence.history_max_size)
        + u64::from(evidence.archive_max_size);
    match room
        .used
        .as_ref()
        .and_then(|used| Ok((used, room.free.as_ref()?)))
    {
        Err(why) => found.push(Finding::unknown(CHECK, why)),
        Ok((used, free)) => {
            let left = (most << 20).saturating_sub(*used);
            if *free < left + RESERVE {
                let words = format!(
                    "the log in `{name}` may take {} MB more, and {} are free, of which {} are left to others: what comes when \
                     there is no more is not recorded",
                    left >> 20,
                    free >> 20,
                    RESERVE >> 20
                );
                let cure = "smaller `max_size`, `history_max_size` and `archive_max_size` in kordon.toml, or `folder` on another disk";
                found.push(Finding::warning(CHECK, words, cure));
            }
        }
    }
    let standing = facts.daemon.status().map(|status| &status["evidence"]);
    let is_fine = |failing: &Vec<Value>| failing.is_empty() && found.is_empty();
    let forwards = standing.and_then(|standing| standing["forward"].as_array());
    let fails = forwards.is_some_and(|all| all.iter().any(|to| to["failing"] == true));
    if let Some(standing) = standing
        && standing["failing"].as_array().is_some_and(is_fine)
        && !fails
    {
        let words = format!(
            "{} records are written in `{name}`, and {} of them are signed",
            standing["records"], standing["signed"]
        );
        found.push(Finding::fine(CHECK, words));
    }
    found
}
