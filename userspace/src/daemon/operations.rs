//! What can be asked for, one thing at a time. Each either happens whole or is
//! refused with nothing changed.

use std::{fs, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    core::{Core, Next, Outcome, not_kept},
    database::Database,
    journal::{By, Entry},
    refusal::Refusal,
    state::{Before, Current, Pending, Record, StateError, commit},
    trouble::Cause,
};
use crate::{
    asn,
    control::{
        peer::Peer,
        protocol::{Change, PolicyFile, Request},
    },
    datapath::kernel::Datapath,
    diagnostic::{Diagnostic, Diagnostics, Problem, did_you_mean, quoted},
    policy::{Bundle, Context, Overlay, OverlayAction, OverlayEntry, OverlayTarget, Policy, parse},
};

/// A policy on trial is confirmed within a day, or it was forgotten.
const LONGEST_TRIAL: u64 = 24 * 3600;

/// `abcd…`
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("writing to a string cannot fail");
        out
    })
}

impl Core {
    /// Does what was asked, for whoever asked.
    pub(super) fn perform(&mut self, request: Request, by: &Peer) -> Result<Value, Refusal> {
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
            // These are answered beside the core, from what is live.
            Request::Status
            | Request::History
            | Request::AsndbInfo
            | Request::Explain(_)
            | Request::Lookup { .. }
            | Request::AsndbImport { .. }
            | Request::AsndbUpdate { .. }
            | Request::AsndbProgress
            | Request::AsndbDiff { .. } => Err(Refusal::new(
                "this question is not for the core",
                "report it",
            )),
        }
    }

    pub(super) fn count(&mut self, result: Result<Value, Refusal>) -> Result<Value, Refusal> {
        match &result {
            Ok(_) => {
                self.applies.ok += 1;
                self.reload_refused = None;
            }
            Err(_) => self.applies.failed += 1,
        }
        result
    }

    pub(super) fn parse(
        &self,
        bundle: &Bundle,
        overlay: &Overlay,
    ) -> Result<(Policy, Diagnostics), Refusal> {
        let (policy, found) = parse(bundle, overlay, &Context::now(Some(&self.database.db)));
        match policy {
            Some(policy) => Ok((policy, found)),
            None => Err(Refusal::found("the policy", found)),
        }
    }

    /// Makes a policy live, and keeps it.
    pub(super) fn apply(
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
        let (policy, found) = self.parse(&bundle, &self.overlay)?;
        self.ask_about_policy(&policy, &bundle, by)?;
        let policy = Arc::new(policy);
        let until = confirm_seconds.map(after).transpose()?;
        let before = self.record.as_ref().map(|record| record.number);
        let is_live = self.record.as_ref().is_some_and(|r| r.bundle == bundle);
        let pending = match (until, &self.current.pending) {
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
            ..self.current.clone()
        };
        let record = match self.record.clone().filter(|_| is_live) {
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
        let overlay = self.overlay.clone();
        let outcome = self.change_and_keep(next, current, record, overlay, by)?;
        self.applies.last = Some(outcome.took);
        self.troubles.clear(Cause::Policy);
        if by.is_asked_for() {
            let _ = fs::remove_file(self.state.policy_aside());
        }
        self.state.prune(&self.current);
        Ok(outcome)
    }

    fn answer(&self, outcome: &Outcome, found: &Diagnostics) -> Value {
        let published = outcome.published.as_ref();
        json!({
            "changed": published.is_some(),
            "recorded": outcome.recorded,
            "hash": self.live.as_ref().map(|live| hex(&live.hash)),
            "generation": self.datapath.live().map(|live| live.number),
            "table_written": published.is_some_and(|p| p.table_written),
            "swap_us": published.map_or(0, |p| p.swap.as_micros() as u64),
            "apply_ms": outcome.took.as_millis() as u64,
            "pending_confirm": self.current.pending.as_ref().map(|pending| pending.until),
            "warnings": found.warnings,
        })
    }

    fn confirm(&mut self, by: &By) -> Result<Value, Refusal> {
        let (Some(record), Some(_)) = (&self.record, &self.current.pending) else {
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
            ..self.current.clone()
        };
        let files = self.state.prepare(&current, record, &self.overlay)?;
        commit(files).map_err(|e| not_kept(e, &mut self.torn))?;
        self.torn = None;
        self.current = current;
        self.note(by, self.live_hash());
        Ok(json!({
            "confirmed": true,
            "hash": self.live_hash(),
        }))
    }

    /// Back to what a trial came from, else to the policy before.
    pub(super) fn rollback(&mut self, by: &By) -> Result<Value, Refusal> {
        let to = match &self.current.pending {
            Some(pending) => Some(pending.back_to),
            None => self.record.as_ref().and_then(|record| record.before),
        };
        let number = to.ok_or_else(|| {
            Refusal::new(
                "there is no policy to roll back to",
                "`kordon history` shows what there is",
            )
        })?;
        let record = self.state.record(number).map_err(|damage| {
            Refusal::new(
                format!("policy {number} is lost: {damage}"),
                "`kordon apply` makes another one live",
            )
        })?;
        let (policy, found) = self.parse(&record.bundle, &self.overlay)?;
        let current = Current {
            live: record.number,
            pending: None,
            ..self.current.clone()
        };
        let last = self.journal.entries().next();
        let entry = |command: &&str| command.starts_with("block ") || command.starts_with("allow ");
        let returned = json!({
            "number": record.number,
            "path": record.bundle.file,
            "applied_at": record.applied_at,
            "entries": self.overlay.entries.len(),
            // What somebody who wants to undo it has just done, and this does not undo.
            "last_change": last.map(|last| last.command.as_str()).filter(entry),
        });
        let outcome = self.switch(Arc::new(policy), Arc::new(record), current, by)?;
        let mut answer = self.answer(&outcome, &found);
        answer["returned_to"] = returned;
        Ok(answer)
    }

    fn add(&mut self, action: OverlayAction, change: &Change, by: &By) -> Result<Value, Refusal> {
        let target = self.target(change)?;
        let mut overlay = Overlay::clone(&self.overlay);
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

    fn unblock(&mut self, change: &Change, by: &By) -> Result<Value, Refusal> {
        let target: OverlayTarget = change.target.parse().map_err(wrong_target)?;
        let mut overlay = Overlay::clone(&self.overlay);
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
        let target = change.target.parse().map_err(wrong_target)?;
        let zones = self.live.iter().flat_map(|live| &live.policy.zones);
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
    pub(super) fn set_overlay(&mut self, overlay: Overlay, by: &By) -> Result<Value, Refusal> {
        let Some(record) = self.record.clone() else {
            return Err(Refusal::new(
                "no policy is live",
                "`kordon apply` one first",
            ));
        };
        let (policy, found) = self.parse(&record.bundle, &overlay)?;
        let mut next = self.next(Arc::new(policy));
        next.replaces = by.replaces(&[]);
        let current = self.current.clone();
        let outcome = self.change_and_keep(next, current, record, Arc::new(overlay), by)?;
        Ok(self.answer(&outcome, &found))
    }

    /// The live policy again: time has passed, or the router has changed.
    pub(super) fn refresh(&mut self, next: impl FnOnce(&mut Next)) -> Result<bool, Refusal> {
        let Some(record) = &self.record else {
            return Ok(false);
        };
        let (policy, _) = self.parse(&record.bundle, &self.overlay)?;
        let mut wanted = self.next(Arc::new(policy));
        next(&mut wanted);
        let outcome = self.change(wanted, Box::new(|| Ok(Before::default())))?;
        Ok(outcome.published.is_some())
    }

    /// Makes another database live, and keeps it.
    pub(super) fn replace_database(
        &mut self,
        database: Database,
        found: &Diagnostics,
        by: &By,
    ) -> Result<Value, Refusal> {
        let (old, before) = (self.live_hash(), self.database.name());
        let database = self.with_bgp(database);
        let mut answer = serde_json::to_value(database.info()).map_err(Refusal::from_error)?;
        let snapshot = self.state.snapshot();
        let db = Arc::clone(&database.db);
        let save = move || {
            // The old one has to come back where the new one does not go live.
            let before = Before::of([&*snapshot])?;
            asn::save(&db, &snapshot).map_err(|e| StateError::other("write", &snapshot, e))?;
            Ok(before)
        };
        let outcome = match &self.record {
            Some(record) => {
                let bundle = record.bundle.clone();
                let context = Context::now(Some(&database.db));
                let (policy, wrong) = parse(&bundle, &self.overlay, &context);
                let policy = policy.ok_or_else(|| Refusal::found("the policy", wrong))?;
                let mut next = self.next(Arc::new(policy));
                next.database = database;
                // Nobody has seen what the clock brings: routes that are lost are not given up.
                next.replaces = match by.is_asked_for() {
                    true => &[Cause::Database, Cause::Routes],
                    false => &[Cause::Database],
                };
                let outcome = self.change(next, Box::new(save))?;
                self.troubles.clear(Cause::Database);
                // Only which one it is; where that cannot be written, the next start is
                // careful for nothing.
                self.current.database = self.database.name();
                self.save();
                Some(outcome)
            }
            None => {
                save()?;
                self.database = database;
                self.troubles.clear(Cause::Database);
                None
            }
        };
        self.refused.clear();
        let name = |name: Option<String>| name.unwrap_or_else(|| "nothing".to_owned());
        let after = self.database.name();
        if before != after || outcome.as_ref().is_some_and(|outcome| outcome.recorded) {
            self.journal.note(Entry {
                old,
                new: self.live_hash(),
                policy: self.record.as_ref().map(|record| record.number),
                database: (before != after).then(|| (name(before), name(after))),
                ..Entry::new(by)
            });
        }
        if let Value::Object(fields) = &mut answer
            && let Some(outcome) = outcome
            && let Value::Object(more) = self.answer(&outcome, found)
        {
            fields.extend(more);
        }
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
        let old = self.live_hash();
        // What lost its pin is taken off as well.
        if let Err(e) = self.datapath.pin_again() {
            tracing::warn!("{e}");
        }
        let left = Datapath::detach(bpffs).map_err(Refusal::from_error)?;
        self.live = None;
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
    let lists = files.map(|file| crate::policy::ListFile {
        name: file.name,
        content: Ok(file.text),
    });
    Ok(Bundle {
        file: path,
        text: policy.text,
        lists: lists.collect(),
    })
}

impl From<Diagnostic> for Refusal {
    fn from(error: Diagnostic) -> Self {
        Self::found("the request", error.into())
    }
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        Self::new(
            error.to_string(),
            "nothing changed; see to the room and the rights of the state directory",
        )
    }
}

fn wrong_target(Problem { message, help }: Problem) -> Refusal {
    Refusal::new(message, help)
}

fn after(seconds: u64) -> Result<Timestamp, Refusal> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::now()
        .checked_add(SignedDuration::from_secs(seconds))
        .map_err(|_| Refusal::new("the time given is too long", "give it in days or less"))
}
