//! What the facts mean. Each part looks at one side of the router, is given all facts, and says
//! what it found; none asks anybody anything.
//!
//! - [`daemon`]: what the daemon says itself; [`machine`]: the kernel.
//! - [`interfaces`]: the configured devices, each by itself; [`behind`]: what else is on them;
//!   [`coverage`]: whether they are all.
//! - [`evidence`]: the log of who sent what to whom.
//! - [`traffic`]: what arrives; [`data`]: policy and database; [`place`]: disk, clock, groups, unit.

mod behind;
mod coverage;
mod daemon;
mod data;
mod evidence;
mod interfaces;
mod machine;
mod place;
#[cfg(test)]
mod tests;
mod traffic;

use super::{
    facts::Facts,
    finding::{Finding, Level},
};

/// All findings, the worst first.
#[must_use]
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let parts = [
        daemon::judge,
        machine::judge,
        interfaces::judge,
        behind::judge,
        coverage::judge,
        traffic::judge,
        data::judge,
        evidence::judge,
        place::judge,
    ];
    let mut all: Vec<Finding> = Vec::new();
    for finding in parts.iter().flat_map(|part| part(facts)) {
        // What the daemon has said is not said again by whoever sees the same.
        let same = |other: &Finding| {
            (other.check, &other.about) == (finding.check, &finding.about)
                && other.level <= Level::Warning
        };
        let is_bad = finding.level <= Level::Warning;
        let is_said = finding.about.is_some() && all.iter().any(same);
        if is_said && (!is_bad || finding.fix.is_none()) {
            continue;
        }
        if is_said {
            // It says less, and can be mended.
            let said = all.iter_mut().find(|other| same(other));
            if let Some(said) = said {
                said.fix = finding.fix;
            }
            continue;
        }
        all.push(finding);
    }
    all.sort_by_key(|finding| finding.level);
    all
}
