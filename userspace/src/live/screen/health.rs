//! What may be said about enforcement.
//!
//! An answer is good for [`FRESH`]. After that, or if the last question had none, nobody knows whether
//! anything is enforced, and nothing here says that it is.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// How long an answer is good for.
pub const FRESH: Duration = Duration::from_secs(5);

/// A moment, by both clocks: one for people, one that does not jump.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For people.
    pub time: Timestamp,
    /// For ages.
    pub instant: Instant,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self {
            time: Timestamp::now(),
            instant: Instant::now(),
        }
    }
}

/// What an answer said of enforcement.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    /// As in [`super::Poll`].
    pub enforcing: Option<bool>,
    /// The same.
    pub reasons: Option<Vec<String>>,
    /// The same.
    pub policy: Option<String>,
    /// The same.
    pub unrecorded: Vec<String>,
}

/// What is known of enforcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There was no answer yet, and no reason to worry.
    Waiting,
    /// No answer since then, and why.
    Silent(Timestamp, Option<String>),
    /// All is enforced.
    Enforcing,
    /// Not all is, and why.
    NotEnforcing(Vec<String>),
    /// The daemon does not say.
    Unknown(Vec<String>),
}

/// The answers so far.
#[derive(Debug)]
pub struct Health {
    began: Moment,
    /// When the last answer was asked for, and what it said.
    answer: Option<(Moment, Claim)>,
    /// Why the last question had no answer.
    error: Option<String>,
}

impl Health {
    /// Nothing is known.
    pub fn new(began: Moment) -> Self {
        Self {
            began,
            answer: None,
            error: None,
        }
    }

    /// There is an answer to what was asked at this moment.
    pub fn answered(&mut self, asked: Moment, claim: Claim) {
        self.answer = Some((asked, claim));
        self.error = None;
    }

    /// There is none.
    pub fn failed(&mut self, error: String) {
        self.error = Some(error);
    }

    /// The live policy, by the last answer.
    pub fn policy(&self) -> Option<&str> {
        self.answer.as_ref()?.1.policy.as_deref()
    }

    /// What no flow has, by the last answer.
    pub fn unrecorded(&self) -> &[String] {
        (self.answer.as_ref()).map_or(&[], |(_, claim)| &claim.unrecorded)
    }

    /// What may be said at this moment.
    pub fn state(&self, now: Instant) -> State {
        let age = |moment: &Moment| now.saturating_duration_since(moment.instant);
        let since = |moment: &Moment| State::Silent(moment.time, self.error.clone());
        let Some((asked, claim)) = &self.answer else {
            return match self.error.is_some() || age(&self.began) >= FRESH {
                true => since(&self.began),
                false => State::Waiting,
            };
        };
        if self.error.is_some() || age(asked) >= FRESH {
            return since(asked);
        }
        let reasons = claim.reasons.clone().unwrap_or_default();
        match claim.enforcing {
            // An answer that contradicts itself is believed for the worse.
            Some(true) if reasons.is_empty() => State::Enforcing,
            Some(_) => State::NotEnforcing(reasons),
            None => State::Unknown(reasons),
        }
    }
}

impl State {
    /// Whether what is shown is of now.
    pub fn is_fresh(&self) -> bool {
        !matches!(self, Self::Waiting | Self::Silent(..))
    }

    /// In words.
    pub fn words(&self) -> String {
        let because = |what: &str, reasons: &[String]| match reasons.is_empty() {
            true => what.to_owned(),
            false => format!("{what}: {}", reasons.join("; ")),
        };
        match self {
            Self::Waiting => "waiting for the daemon".to_owned(),
            Self::Silent(since, error) => {
                let since = since.strftime("%H:%M:%SZ");
                let error: Vec<String> = error.iter().cloned().collect();
                because(&format!("NO ANSWER from the daemon since {since}"), &error)
            }
            Self::Enforcing => "enforcing".to_owned(),
            Self::NotEnforcing(reasons) => because("NOT ENFORCING", reasons),
            Self::Unknown(reasons) => because("NOT KNOWN whether it enforces", reasons),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(moment: Moment, seconds: u64) -> Moment {
        let length = Duration::from_secs(seconds);
        Moment {
            time: moment.time + length,
            instant: moment.instant + length,
        }
    }

    fn claim(enforcing: Option<bool>, reasons: Option<&[&str]>) -> Claim {
        let reasons = reasons.map(|all| all.iter().map(|&reason| reason.to_owned()).collect());
        Claim {
            enforcing,
            reasons,
            policy: None,
            unrecorded: Vec::new(),
        }
    }

    #[test]
    fn an_answer_is_good_for_five_seconds() {
        let start = Moment::now();
        let mut health = Health::new(start);
        let state = |health: &Health, seconds| health.state(later(start, seconds).instant);
        assert_eq!(state(&health, 1), State::Waiting);
        assert_eq!(state(&health, 5), State::Silent(start.time, None));
        health.answered(later(start, 6), claim(Some(true), Some(&[])));
        assert_eq!(state(&health, 10), State::Enforcing);
        let silent =
            |error: Option<&str>| State::Silent(later(start, 6).time, error.map(str::to_owned));
        assert_eq!(state(&health, 11), silent(None));
        health.failed("gone".to_owned());
        assert_eq!(
            state(&health, 7),
            silent(Some("gone")),
            "not even while it is young"
        );
        assert!(!state(&health, 7).is_fresh());
        health.answered(later(start, 20), claim(Some(true), None));
        assert_eq!(state(&health, 21), State::Enforcing);
    }

    #[test]
    fn the_worse_is_believed() {
        let start = Moment::now();
        let state = |claim: Claim| {
            let mut health = Health::new(start);
            health.answered(start, claim);
            health.state(start.instant).words()
        };
        assert_eq!(
            state(claim(Some(true), Some(&["a", "b"]))),
            "NOT ENFORCING: a; b"
        );
        assert_eq!(state(claim(Some(false), None)), "NOT ENFORCING");
        assert_eq!(
            state(claim(None, Some(&[]))),
            "NOT KNOWN whether it enforces"
        );
    }
}
