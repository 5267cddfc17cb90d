//! What can be asked of the core: policies come and go, and enforcement ends. Each either
//! happens whole or is refused with nothing changed.

use std::{fs, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Core, change::Outcome};
use crate::{
    control::{
        peer::Peer,
        protocol::{PolicyFile, Request},
    },
    daemon::{
        by::By,
        refusal::Refusal,
        state::{Current, Pending, Record, commit},
        trouble::Cause,
    },
    datapath::kernel::Datapath,
    diagnostic::{Diagnostic, Diagnostics, quoted},
    policy::{Bundle, Context, ListFile, Overlay, OverlayAction, Policy, parse},
};

/// A policy on trial is confirmed within a day, or it was forgotten.
const LONGEST_TRIAL: u64 = 24 * 3600;

impl Core {
    /// Does what was asked, for whoever asked.
    pub(in crate::daemon) fn perform(
        &mut self,
        request: Request,
        by: &Peer,
    ) -> Result<Value, Refusal> {
        tracing::debug!("`{}` of {by}", request.command());
        // What is proven is compared with all that is in effect.
        self.catch_up(true);
        match request {
            Request::Apply {
                path,
                files,
                confirm_seconds,
                yes,
            } => {
                let mut command = format!("apply {}", path.escape_debug());
                if let Some(seconds) = confirm_seconds {
                    command.push_str(&format!(" --confirm {seconds}s"));
                }
                if yes {
                    command.push_str(" --yes");
                }
                let bundle = bundle(path, files)?;
                let by = By::user(by, command, yes);
                let result = self.apply(bundle, confirm_seconds, &by);
                self.count(result)
            }
            Request::Confirm => self.confirm(&By::user(by, "confirm".into(), false)),
            Request::Rollback => {
                let result = self.rollback(&By::user(by, "rollback".into(), false));
                self.count(result)
            }
            Request::Block(change) => {
                let by = By::user(by, change.command("block"), change.yes);
                self.add(OverlayAction::Block, &change, &by)
            }
            Request::Allow(change) => {
                let by = By::user(by, change.command("allow"), change.yes);
                self.add(OverlayAction::Allow, &change, &by)
            }
            Request::Unblock(change) => {
                let by = By::user(by, change.command("unblock"), change.yes);
                self.unblock(&change, &by)
            }
            Request::AsndbDiscard => self.discard(&By::user(by, "asndb discard".into(), false)),
            Request::AsndbAcknowledge => {
                self.acknowledge(&By::user(by, "asndb acknowledge".into(), false))
            }
            Request::Detach { bpffs } => {
                let by = By::user(by, "detach".into(), true);
                self.detach(bpffs.as_deref(), &by)
            }
            // The rest is answered beside the core, from what is live.
            _ => Err(Refusal::new("this is not for the core", "report it")),
        }
    }

    pub(in crate::daemon) fn count(
        &mut self,
        result: Result<Value, Refusal>,
    ) -> Result<Value, Refusal> {
        match &result {
            Ok(_) => {
                self.applies.ok += 1;
                self.reload_refused = None;
            }
            Err(_) => self.applies.failed += 1,
        }
        result
    }

    pub(in crate::daemon) fn parse(
        &self,
        bundle: &Bundle,
        overlay: &Overlay,
    ) -> Result<(Policy, Diagnostics), Refusal> {
        let (policy, found) = parse(
            bundle,
            overlay,
            &Context::now(Some(&self.updates.database.db)),
        );
        match policy {
            Some(policy) => Ok((policy, found)),
            None => Err(Refusal::found("the policy", found)),
        }
    }

    /// Makes a policy live, and keeps it.
    pub(in crate::daemon) fn apply(
        &mut self,
        bundle: Bundle,
        confirm_seconds: Option<u64>,
        by: &By,
    ) -> Result<Value, Refusal> {
        if let Some(seconds) = confirm_seconds
            && !(1..=LONGEST_TRIAL).contains(&seconds)
        {
            return Err(Refusal::new(
                format!("`--confirm` cannot be {seconds} seconds"),
                "give it between a second and a day",
            ));
        }
        let (policy, found) = self.parse(&bundle, &self.kept.overlay)?;
        self.ask_about_policy(&policy, &bundle, by)?;
        let policy = Arc::new(policy);
        let until = confirm_seconds.map(after).transpose()?;
        let before = self.kept.number();
        let is_live = self
            .kept
            .record
            .as_ref()
            .is_some_and(|r| r.bundle == bundle);
        let pending = match (until, &self.kept.current.pending) {
            (None, _) => None,
            // A trial over a trial leads back to what was confirmed; of the same policy,
            // it lasts longer.
            (Some(until), Some(pending)) => Some(Pending {
                until,
                back_to: pending.back_to,
            }),
            // It was not on trial, and nothing changes.
            (Some(_), None) if is_live => None,
            (Some(until), None) => Some(Pending {
                until,
                back_to: before.ok_or_else(|| {
                    Refusal::new(
                        "there is no policy to return to",
                        "apply this one without `--confirm`",
                    )
                })?,
            }),
        };
        let mut current = Current {
            pending,
            ..self.kept.current.clone()
        };
        let record = match self.kept.record.clone().filter(|_| is_live) {
            Some(record) => record,
            None => {
                current.last += 1;
                current.live = current.last;
                Arc::new(Record {
                    number: current.live,
                    before,
                    applied_at: Timestamp::now(),
                    by: by.command.clone(),
                    // Said when it is kept.
                    hash: String::new(),
                    bundle,
                })
            }
        };
        let outcome = self.switch(policy, record, current, by)?;
        Ok(self.answer(&outcome, &found))
    }

    /// A change of the policy, and of what is said of it.
    fn switch(
        &mut self,
        policy: Arc<Policy>,
        record: Arc<Record>,
        current: Current,
        by: &By,
    ) -> Result<Outcome, Refusal> {
        let mut next = self.next(policy);
        next.replaces = by.replaces(&[Cause::Policy]);
        let overlay = self.kept.overlay.clone();
        let outcome = self.change_and_keep(next, current, record, overlay, by)?;
        self.applies.last = Some(outcome.took);
        self.troubles.clear(Cause::Policy);
        if by.is_asked_for() {
            let _ = fs::remove_file(self.kept.state.policy_aside());
        }
        self.kept.state.prune(&self.kept.current);
        Ok(outcome)
    }

    pub(super) fn answer(&self, outcome: &Outcome, found: &Diagnostics) -> Value {
        let published = outcome.published.as_ref();
        json!({
            "changed": published.is_some(),
            "recorded": outcome.recorded,
            "hash": self.enforced.hash(),
            "generation": self.enforced.datapath.live().map(|live| live.number),
            "table_written": published.is_some_and(|p| p.table_written),
            "swap_us": published.map_or(0, |p| p.swap.as_micros() as u64),
            "apply_ms": outcome.took.as_millis() as u64,
            "pending_confirm": self.kept.current.pending.as_ref().map(|pending| pending.until),
            "warnings": found.warnings,
        })
    }

    fn confirm(&mut self, by: &By) -> Result<Value, Refusal> {
        let (Some(record), Some(_)) = (&self.kept.record, &self.kept.current.pending) else {
            let mut since = self
                .journal
                .entries()
                .take_while(|e| !e.command.starts_with("apply"));
            let late = since.find(|e| e.command == By::UNCONFIRMED);
            let message = match late {
                Some(entry) => format!(
                    "it was not confirmed in time: the policy before came back at {:.0}",
                    entry.at
                ),
                None => "there is nothing to confirm".to_owned(),
            };
            let help = "`kordon apply --confirm 5m` puts a policy on trial";
            return Err(Refusal::new(message, help));
        };
        let current = Current {
            pending: None,
            ..self.kept.current.clone()
        };
        let files = self
            .kept
            .state
            .prepare(&current, record, &self.kept.overlay)?;
        commit(files).map_err(|e| self.kept.torn.refusal(e))?;
        self.kept.torn.mended();
        self.kept.current = current;
        self.note(by, self.enforced.hash());
        Ok(json!({
            "confirmed": true,
            "hash": self.enforced.hash(),
        }))
    }

    /// Back to what a trial came from, else to the policy before.
    pub(in crate::daemon) fn rollback(&mut self, by: &By) -> Result<Value, Refusal> {
        let to = match &self.kept.current.pending {
            Some(pending) => Some(pending.back_to),
            None => self.kept.record.as_ref().and_then(|record| record.before),
        };
        let number = to.ok_or_else(|| {
            Refusal::new(
                "there is no policy to roll back to",
                "`kordon history` shows what there is",
            )
        })?;
        let record = self.kept.state.record(number).map_err(|damage| {
            Refusal::new(
                format!("policy {number} is lost: {damage}"),
                "`kordon apply` makes another one live",
            )
        })?;
        let (policy, found) = self.parse(&record.bundle, &self.kept.overlay)?;
        let current = Current {
            live: record.number,
            pending: None,
            ..self.kept.current.clone()
        };
        let last = self.journal.entries().next();
        let entry = |command: &&str| command.starts_with("block ") || command.starts_with("allow ");
        let returned = json!({
            "number": record.number,
            "path": record.bundle.file,
            "applied_at": record.applied_at,
            "entries": self.kept.overlay.entries.len(),
            // What somebody who wants to undo it has just done, and this does not undo.
            "last_change": last.map(|last| last.command.as_str()).filter(entry),
        });
        let outcome = self.switch(Arc::new(policy), Arc::new(record), current, by)?;
        let mut answer = self.answer(&outcome, &found);
        answer["returned_to"] = returned;
        Ok(answer)
    }

    fn detach(&mut self, meant: Option<&str>, by: &By) -> Result<Value, Refusal> {
        let bpffs = &self.config.bpffs;
        if let Some(meant) = meant
            && fs::canonicalize(meant).ok() != fs::canonicalize(bpffs).ok()
        {
            let here = quoted(&bpffs.display().to_string());
            return Err(Refusal::new(
                format!(
                    "this daemon has its pins at {here}, not at {}",
                    quoted(meant)
                ),
                "`--socket` names the daemon of an instance, `--bpffs` its pins: give what belongs \
                 together",
            ));
        }
        let old = self.enforced.hash();
        // What lost its pin is taken off as well.
        if let Err(e) = self.enforced.datapath.pin_again() {
            tracing::warn!("{e}");
        }
        let left = Datapath::detach(bpffs).map_err(Refusal::from_error)?;
        self.enforced.live = None;
        self.note(by, old);
        self.detached = true;
        tracing::warn!("detached: nothing is enforced any more");
        let bpffs = &self.config.bpffs;
        Ok(json!({ "detached": true, "bpffs": bpffs, "left": left }))
    }
}

/// What a client read with its own rights.
fn bundle(path: String, files: Vec<PolicyFile>) -> Result<Bundle, Refusal> {
    let mut files = files.into_iter();
    let Some(policy) = files.next() else {
        return Err(Refusal::from(Diagnostic::of_file(
            &path,
            "the request has no policy in it",
            "use the `kordon` command of the daemon's version",
        )));
    };
    let lists = files.map(|file| ListFile {
        name: file.name,
        content: Ok(file.text),
    });
    Ok(Bundle {
        file: path,
        text: policy.text,
        lists: lists.collect(),
    })
}

pub(super) fn after(seconds: u64) -> Result<Timestamp, Refusal> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::now()
        .checked_add(SignedDuration::from_secs(seconds))
        .map_err(|_| Refusal::new("the time given is too long", "give it in days or less"))
}
