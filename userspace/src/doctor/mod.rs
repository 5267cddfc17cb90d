//! Everything that could keep enforcement from working on this router, with what was found, why it
//! matters and how to cure it. It works with the daemon, without one, and before the first start.
//!
//! - [`facts`]: what is known of a router, as plain data; [`read`] fills it: it asks the kernel, the
//!   daemon and the disk, and changes nothing.
//! - [`judge`]: what the facts mean; it asks nobody. What could not be looked at is said to be so,
//!   never to be in order.
//! - [`finding`]: what is said, and the words that are API; [`fix`]: the cures that are safe.

pub mod facts;
pub mod finding;
pub mod fix;
mod judge;
mod read;

use self::finding::Finding;
pub use self::read::Given;

/// What was found, and what was done about it.
#[derive(Debug, Default)]
pub struct Report {
    /// The worst first.
    pub findings: Vec<Finding>,
    /// Findings that are gone, and what was done; or why it could not be.
    pub fixed: Vec<(Finding, Result<String, String>)>,
}

/// Looks at everything, and with `fix` does what is safe and looks again.
#[must_use]
pub fn examine(given: &Given, fix: bool) -> Report {
    let findings = judge::judge(&read::facts(given));
    if !fix {
        return Report {
            findings,
            fixed: Vec::new(),
        };
    }
    let mut fixed = Vec::new();
    for finding in findings {
        if let Some(cure) = &finding.fix
            && !fixed
                .iter()
                .any(|(done, _): &(Finding, _)| done.fix == finding.fix)
        {
            let done = cure.apply();
            fixed.push((finding, done));
        }
    }
    Report {
        findings: judge::judge(&read::facts(given)),
        fixed,
    }
}
