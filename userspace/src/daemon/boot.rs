//! The boot guard, as the daemon sees it: lifted for each interface once that enforces, and
//! written down for the next boot by what is known of links now.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    links::router::Facts,
    live::Live,
    log::Repeated,
    state::{Prepared, StateDir},
};
use crate::{
    bootguard::{self, FILE, FILE_OF_BRIDGES, Rules},
    config::{Config, Fail},
    policy::Policy,
    regular,
};

/// Ticks between looks whether something is held that was not: somebody may load the rules.
const LOOKS: u32 = 10;
/// So often in a row an interface must be seen to enforce: what is hidden from its program shows when
/// frames come, and those that are held come there, too.
const SURE: u32 = 3;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Boot {
    /// Configured devices from which nothing is forwarded until they enforce, and how often in a
    /// row they were seen to.
    held: BTreeMap<String, u32>,
    /// Why that is not known, or why it cannot be lifted.
    problem: Option<String>,
    /// Why the next boot will not hold what it should.
    unwritten: Option<String>,
    looks: u32,
    said: Repeated,
    /// By what the rules were written last: links, and the policy's hash.
    written_by: Option<(Option<Arc<Facts>>, String)>,
}

impl Boot {
    /// Looks what is held, now and then, and at each tick as long as something is.
    pub(super) fn look(&mut self, config: &Config) {
        // What fails may take its time, too.
        let is_due = self.looks == 0 || !self.held.is_empty() && self.problem.is_none();
        self.looks = (self.looks + 1) % LOOKS;
        if !is_due {
            return;
        }
        match bootguard::held() {
            Ok(held) => {
                let mut held = held.unwrap_or_default();
                // Others are another instance's.
                held.retain(|device| config.interfaces.iter().any(|i| i.device == *device));
                self.held.retain(|device, _| held.contains(device));
                for device in held {
                    self.held.entry(device).or_insert_with_key(|device| {
                        tracing::warn!(
                            "the boot guard holds what comes from `{device}` until kordon enforces there"
                        );
                        0
                    });
                }
                self.problem = None;
                self.said.end();
            }
            Err(problem) => self.note(problem.message),
        }
    }

    /// Whether something is held.
    pub(super) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether a device is held; `None`: nobody knows.
    pub(super) fn holds(&self, device: &str) -> Option<bool> {
        self.problem
            .is_none()
            .then(|| self.held.contains_key(device))
    }

    /// Lifts what need not be held: whoever is sure to enforce, or may fail open.
    pub(super) fn lift(&mut self, config: &Config, enforcing: &[String]) {
        let mut held = std::mem::take(&mut self.held);
        held.retain(|device, seen| {
            *seen = match enforcing.contains(device) {
                true => *seen + 1,
                false => 0,
            };
            if config.fail == Fail::Closed && *seen < SURE {
                return true;
            }
            match bootguard::release(device) {
                Ok(()) => {
                    tracing::info!("the boot guard holds `{device}` no longer");
                    false
                }
                Err(problem) => {
                    self.note(problem.message);
                    true
                }
            }
        });
        self.held = held;
    }

    fn note(&mut self, why: String) {
        if self.said.is_news(&why) {
            tracing::error!("{why}");
        }
        self.problem = Some(why);
    }

    /// Writes down what the next boot is to hold, if that is something else than before.
    pub(super) fn keep(
        &mut self,
        state: &StateDir,
        config: &Config,
        live: Option<&Live>,
        facts: Option<&Arc<Facts>>,
    ) {
        let by = (
            facts.cloned(),
            live.map(Live::hash_in_words).unwrap_or_default(),
        );
        let is_tried = self.unwritten.is_some() && self.looks != 1;
        if self.written_by.as_ref() == Some(&by) || is_tried {
            return;
        }
        let policy = live.map(|live| &*live.policy);
        self.unwritten = match write(state.root(), config, policy, facts.map(|f| &**f)) {
            Ok(()) => {
                self.written_by = Some(by);
                None
            }
            Err(why) => {
                // What is wrong with the folder has been said.
                if state.trouble().is_none() && self.said.is_news(&why) {
                    tracing::error!("{why}");
                }
                Some(why)
            }
        };
    }

    /// What somebody should know.
    pub(super) fn notices(&self) -> Vec<String> {
        let held = self.held.keys().map(|device| {
            format!(
                "the boot guard holds what comes from `{device}` until kordon enforces there: nothing \
                 of it is forwarded; `kordon release-guard` lifts it now"
            )
        });
        held.chain(self.problem.clone())
            .chain(self.unwritten.clone())
            .collect()
    }
}

/// Writes both files, each if it is not what it should be. `facts`: links, as far as they are known.
pub(crate) fn write(
    folder: &Path,
    config: &Config,
    policy: Option<&Policy>,
    facts: Option<&Facts>,
) -> Result<(), String> {
    let read = |name: &str| regular::read_text(&folder.join(name)).ok();
    let before = read(FILE);
    // What was held by a policy is better than all there is by none.
    if policy.is_none()
        && before
            .as_ref()
            .is_some_and(|rules| rules.contains(" drop\n"))
    {
        return Ok(());
    }
    let mut learned = bootguard::learned(before.as_deref().unwrap_or_default());
    if let Some(facts) = facts {
        facts.learn(config, policy, &mut learned);
    }
    let rules = Rules::new(config, policy, &learned);
    let files = [
        (FILE, before, rules.forwarded),
        (FILE_OF_BRIDGES, read(FILE_OF_BRIDGES), rules.bridged),
    ];
    let failed = |why: String| format!("the next boot does not hold what it should: {why}");
    for (name, before, text) in files {
        let path = folder.join(name);
        if before.as_ref() != Some(&text) {
            Prepared::write(&path, text.as_bytes())
                .and_then(Prepared::commit)
                .map_err(|e| failed(e.to_string()))?;
        }
        bootguard::check(&path).map_err(|problem| failed(problem.message))?;
    }
    let unsayable = |device: &&String| !bootguard::is_sayable(device);
    let mut devices = config.interfaces.iter().map(|interface| &interface.device);
    match devices.find(unsayable) {
        Some(device) => Err(failed(format!(
            "nftables cannot be told the name `{device}`"
        ))),
        None => Ok(()),
    }
}
