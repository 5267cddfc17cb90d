//! Why less may be enforced than was asked for: what was found at the start, and what
//! failed since. Each has a cause, and goes with it.
//!
//! Some are *doubts*: what was live is not known, in part. Then what is in the kernel is
//! worth more than what could be made of the rest, and it is *kept*: nothing takes its
//! place but what an administrator asks for.

use super::refusal::Refusal;
use std::collections::BTreeMap;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// Which policy was live is not known, or it cannot be used.
    Policy,
    /// What `block` and `allow` added is lost.
    Overlay,
    /// The ASN database is not the one that was in use.
    Database,
    /// What live BGP said is lost.
    Routes,
    /// A change failed, and so did the way back.
    Return,
    /// What has ended is still in force.
    Expiry,
    /// The router has other addresses than the rules say.
    Addresses,
    /// The daemon itself failed.
    Panic,
}

impl Cause {
    /// Parts of what was live; the label in metrics.
    pub(super) const DOUBTS: [(Self, &str); 4] = [
        (Self::Policy, "policy"),
        (Self::Overlay, "overlay"),
        (Self::Database, "database"),
        (Self::Routes, "routes"),
    ];
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Troubles {
    all: BTreeMap<Cause, String>,
    /// What is in the kernel stays although something is in doubt.
    kept: bool,
}

impl Troubles {
    /// Says it, once.
    pub(super) fn set(&mut self, cause: Cause, words: impl Into<String>) {
        let words = words.into();
        if self.all.get(&cause) != Some(&words) {
            tracing::error!("{words}");
            self.all.insert(cause, words);
        }
    }

    pub(super) fn clear(&mut self, cause: Cause) {
        if let Some(words) = self.all.remove(&cause) {
            tracing::info!("no longer: {words}");
        }
    }

    pub(super) fn has(&self, cause: Cause) -> bool {
        self.all.contains_key(&cause)
    }

    /// Reasons for not enforcing.
    pub(super) fn reasons(&self) -> Vec<String> {
        let mut reasons: Vec<String> = self.all.values().cloned().collect();
        if self.kept {
            reasons.push(
                "what is in the kernel was left as it is, and packets are judged as before the start"
                    .to_owned(),
            );
        }
        reasons
    }

    /// Each part of what was live, and whether it is in doubt.
    pub(super) fn doubts(&self) -> Vec<(&'static str, bool)> {
        let one = |(cause, word): (Cause, &'static str)| (word, self.has(cause));
        Cause::DOUBTS.map(one).to_vec()
    }

    /// What is in the kernel stays.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Why something does not take the place of what is kept. `replaced` is what an
    /// administrator has just given anew.
    pub(super) fn refuses(&self, replaced: &[Cause]) -> Option<Refusal> {
        let left = |cause: &Cause| self.kept && !replaced.contains(cause);
        let left: Vec<&str> = self
            .all
            .iter()
            .filter(|(cause, _)| left(cause) && Cause::DOUBTS.iter().any(|(d, _)| d == *cause))
            .map(|(_, words)| words.as_str())
            .collect();
        (self.kept && (!left.is_empty() || replaced.is_empty())).then(|| {
            Refusal::new(
                format!(
                    "what is in the kernel would be lost, and is not known in all: {}",
                    left.join("; ")
                ),
                "see to that first, or `--yes` to go on without it",
            )
        })
    }

    /// All of what is in the kernel is known again.
    pub(super) fn known(&mut self) {
        self.kept = false;
        // Entries that are lost are so until somebody has looked at what is left of them.
        for (cause, _) in Cause::DOUBTS {
            if cause != Cause::Overlay {
                self.clear(cause);
            }
        }
    }

    /// Something took the place of what was kept, although `these` were in doubt. A policy
    /// is known by that; another database is still another, and routes are still lost.
    pub(super) fn replaced(&mut self, these: &[Cause]) {
        self.kept = false;
        if these.contains(&Cause::Policy) {
            self.clear(Cause::Policy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(causes: &[Cause]) -> Troubles {
        let mut troubles = Troubles::default();
        for cause in causes {
            troubles.set(*cause, format!("{cause:?} is in doubt"));
        }
        troubles.keep();
        troubles
    }

    #[test]
    fn what_takes_the_place_answers_for_the_policy_only() {
        let all = Cause::DOUBTS.map(|(cause, _)| cause);
        let mut troubles = kept(&all);
        assert!(troubles.refuses(&all).is_none());
        troubles.replaced(&all);
        assert!(!troubles.is_kept() && !troubles.has(Cause::Policy));
        // It is still the older database, with these routes and entries lost.
        for cause in [Cause::Database, Cause::Routes, Cause::Overlay] {
            assert!(troubles.has(cause), "{cause:?}");
        }
        let mut troubles = kept(&all);
        troubles.known();
        assert!(!troubles.is_kept() && troubles.has(Cause::Overlay));
        assert!(!troubles.has(Cause::Database) && !troubles.has(Cause::Routes));
        // Another database answers for itself, and not for routes.
        let troubles = kept(&[Cause::Database, Cause::Routes]);
        let said = troubles.refuses(&[Cause::Database]).unwrap().message;
        assert!(
            said.contains("Routes") && !said.contains("Database"),
            "{said}"
        );
    }
}
