//! The boot guard, as the daemon sees it: lifted for each interface once that enforces, and
//! written down for the next boot by what is known of links now.

use std::{path::Path, sync::Arc};

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
const LOOKS: u32 = 60;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Boot {
    /// Devices from which nothing is forwarded until they enforce.
    pub(super) held: Vec<String>,
    /// Why that is not known, or why it cannot be lifted.
    pub(super) problem: Option<String>,
    /// Why the next boot will not hold what it should.
    pub(super) unwritten: Option<String>,
    looks: u32,
    said: Repeated,
    /// By what the rules were written last: links, and the policy's hash.
    written_by: Option<(Option<Arc<Facts>>, String)>,
}

impl Boot {
    /// Looks what is held, now and then, and at each tick as long as something is.
    pub(super) fn look(&mut self) {
        // What fails may take its time, too.
        let is_due = self.looks == 0 || !self.held.is_empty() && self.problem.is_none();
        self.looks = (self.looks + 1) % LOOKS;
        if !is_due {
            return;
        }
        match bootguard::held() {
            Ok(held) => {
                for device in held.iter().filter(|device| !self.held.contains(device)) {
                    tracing::warn!(
                        "the boot guard holds what comes from `{device}` until that enforces"
                    );
                }
                (self.held, self.problem) = (held, None);
                self.said.end();
            }
            Err(problem) => self.note(problem.message),
        }
    }

    /// Lifts what need not be held: whoever enforces, is not policed, or may fail open.
    pub(super) fn lift(&mut self, config: &Config, enforces: impl Fn(&str) -> bool) {
        let mut held = std::mem::take(&mut self.held);
        held.retain(|device| {
            let mut interfaces = config.interfaces.iter();
            let is_policed = interfaces.any(|interface| interface.device == *device);
            if is_policed && config.fail == Fail::Closed && !enforces(device) {
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
                if self.said.is_news(&why) {
                    tracing::error!("{why}");
                }
                Some(why)
            }
        };
    }

    /// What somebody should know.
    pub(super) fn notices(&self) -> Vec<String> {
        let held = self.held.iter().map(|device| {
            format!(
                "the boot guard holds what comes from `{device}` until that enforces: nothing of it \
                 is forwarded; `kordon release-guard` lifts it now"
            )
        });
        held.chain(self.problem.clone())
            .chain(self.unwritten.clone())
            .collect()
    }
}

/// Writes it down where nothing is known of links.
pub(crate) fn hold(folder: &Path, config: &Config, policy: Option<&Policy>) -> Result<(), String> {
    write(folder, config, policy, None)
}

/// Writes both files, each if it is not what it should be.
fn write(
    folder: &Path,
    config: &Config,
    policy: Option<&Policy>,
    facts: Option<&Facts>,
) -> Result<(), String> {
    let read = |name: &str| regular::read_text(&folder.join(name)).ok();
    let before = read(FILE);
    let mut learned = bootguard::learned(before.as_deref().unwrap_or_default());
    if let Some(facts) = facts {
        facts.learn(config, policy, &mut learned);
    }
    let rules = Rules::new(config, policy, &learned);
    let files = [
        (FILE, before, rules.forwarded),
        (FILE_OF_BRIDGES, read(FILE_OF_BRIDGES), rules.bridged),
    ];
    for (name, before, text) in files {
        if before.as_ref() == Some(&text) {
            continue;
        }
        Prepared::write(&folder.join(name), text.as_bytes())
            .and_then(Prepared::commit)
            .map_err(|e| format!("the next boot holds what it should have held before: {e}"))?;
    }
    Ok(())
}
