//! `block`, `allow` and `unblock`: entries over the policy, in force at once. The policy's text is parsed
//! again with them, and goes the way of every change (`change_and_keep` in [`change`](super::change)).

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::{Core, operations::after};
use crate::{
    control::protocol::Change,
    daemon::{by::By, refusal::Refusal},
    diagnostic::{did_you_mean, quoted},
    policy::{Overlay, OverlayAction, OverlayEntry, OverlayTarget},
};

impl Core {
    pub(super) fn add(
        &mut self,
        action: OverlayAction,
        change: &Change,
        by: &By,
    ) -> Result<Value, Refusal> {
        let target = self.target(change)?;
        let mut overlay = Overlay::clone(&self.kept.overlay);
        let now = Timestamp::now();
        overlay.prune(now);
        let entry = OverlayEntry {
            action,
            target,
            zone: change.zone.clone(),
            until: change.for_seconds.map(after).transpose()?,
            note: change.note.clone(),
            added: now,
        };
        self.ask_about_entry(&entry, by)?;
        overlay.add(entry);
        self.set_overlay(overlay, by)
    }

    pub(super) fn unblock(&mut self, change: &Change, by: &By) -> Result<Value, Refusal> {
        let target: OverlayTarget = change.target.parse()?;
        let mut overlay = Overlay::clone(&self.kept.overlay);
        overlay.prune(Timestamp::now());
        if overlay.remove(target, &change.zone).is_none() {
            let zone = quoted(&change.zone);
            let help = match overlay.around(target) {
                Some(entry) => format!(
                    "it is in `{} {} --zone '{}'`, which `kordon unblock` takes back whole",
                    entry.action.as_str(),
                    entry.target,
                    entry.zone
                ),
                None => {
                    "`kordon status` lists the entries; rules of the policy are changed in its \
                         file"
                        .to_owned()
                }
            };
            let message = format!("there is no entry for {target} in zone {zone}");
            return Err(Refusal::new(message, help));
        }
        self.set_overlay(overlay, by)
    }

    fn target(&self, change: &Change) -> Result<OverlayTarget, Refusal> {
        let target = change.target.parse()?;
        let zones = self
            .enforced
            .live
            .iter()
            .flat_map(|live| &live.policy.zones);
        let names: Vec<&str> = zones.map(|zone| zone.name.as_str()).collect();
        if change.zone != "*" && !names.contains(&change.zone.as_str()) {
            let help = match did_you_mean(&change.zone, names.iter().copied()) {
                Some(name) => format!("did you mean `{name}`"),
                None => format!("zones are: {}", names.join(", ")),
            };
            let message = format!("unknown zone {}", quoted(&change.zone));
            return Err(Refusal::new(message, help));
        }
        Ok(target)
    }

    /// Makes another overlay live over the same policy.
    pub(in crate::daemon) fn set_overlay(
        &mut self,
        overlay: Overlay,
        by: &By,
    ) -> Result<Value, Refusal> {
        let Some(record) = self.kept.record.clone() else {
            return Err(Refusal::new(
                "no policy is live",
                "`kordon apply` one first",
            ));
        };
        let (policy, found) = self.parse(&record.bundle, &overlay)?;
        let mut next = self.next(Arc::new(policy));
        next.replaces = by.replaces(&[]);
        let current = self.kept.current.clone();
        let outcome = self.change_and_keep(next, current, record, Arc::new(overlay), by)?;
        Ok(self.answer(&outcome, &found))
    }
}
