//! What can be asked for, one thing at a time. Each either happens whole or is
//! refused with nothing changed.

use std::{fs, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    core::{Core, Next, Outcome},
    database::Database,
    refusal::Refusal,
    state::{Before, Current, Pending, Prepared, Record, StateError, commit},
};
use crate::{
    asn,
    control::{
        peer::Peer,
        protocol::{Change, PolicyFile, Request},
    },
    datapath::kernel::Datapath,
    diagnostic::{Diagnostic, Diagnostics, did_you_mean, quoted},
    policy::{
        Bundle, Context, Overlay, OverlayAction, OverlayEntry, OverlayTarget, Policy, TargetError,
        parse, policy_hash,
    },
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
        if !matches!(
            request,
            Request::Status | Request::History | Request::AsndbInfo
        ) {
            // What is proven is compared with all that is in effect.
            self.catch_up(true);
        }
        match request {
            Request::Status => self.status(),
            Request::Apply {
                path,
                files,
                confirm_seconds,
            } => {
                let bundle = bundle(path, files)?;
                let result = self.apply(bundle, "apply", confirm_seconds);
                self.count(result)
            }
            Request::Confirm => self.confirm(),
            Request::Rollback => {
                let result = self.rollback();
                self.count(result)
            }
            Request::History => Ok(self.history()),
            Request::Block(change) => self.add(OverlayAction::Block, &change),
            Request::Allow(change) => self.add(OverlayAction::Allow, &change),
            Request::Unblock(change) => self.unblock(&change),
            Request::AsndbInfo => self.asndb_info(),
            Request::AsndbDiscard => self.discard(),
            Request::AsndbAcknowledge => self.acknowledge(),
            Request::Detach { bpffs } => self.detach(bpffs.as_deref()),
            // These are answered beside the core, from what is live.
            Request::Explain(_)
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
            Ok(_) => self.applies.ok += 1,
            Err(_) => self.applies.failed += 1,
        }
        result
    }

    fn parse(&self, bundle: &Bundle, overlay: &Overlay) -> Result<(Policy, Diagnostics), Refusal> {
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
        by: &str,
        confirm_seconds: Option<u64>,
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
        let policy = Arc::new(policy);
        let before = self.record.as_ref().map(|record| record.number);
        // A trial over a trial leads back to what was confirmed.
        let back_to = match &self.current.pending {
            Some(pending) => Some(pending.back_to),
            None => before,
        };
        let pending = match confirm_seconds {
            None => None,
            Some(seconds) => Some(Pending {
                until: after(seconds)?,
                back_to: back_to.ok_or_else(|| {
                    Refusal::new(
                        "there is no policy to return to",
                        "apply this one without `--confirm`",
                    )
                })?,
            }),
        };
        let same = self.record.as_ref().is_some_and(|r| r.bundle == bundle);
        let (record, current) = if same {
            let current = Current {
                pending: None,
                ..self.current.clone()
            };
            (None, current)
        } else {
            let number = self.current.last + 1;
            let record = Record {
                number,
                before,
                applied_at: Timestamp::now(),
                by: by.to_owned(),
                hash: hex(&policy_hash(&policy)),
                bundle,
            };
            let current = Current {
                live: number,
                last: number,
                pending,
            };
            (Some(record), current)
        };
        let outcome = self.switch(Arc::clone(&policy), record, current)?;
        Ok(self.answer(&outcome, &found))
    }

    /// A change of the policy, and of what `current.json` says.
    fn switch(
        &mut self,
        policy: Arc<Policy>,
        record: Option<Record>,
        current: Current,
    ) -> Result<Outcome, Refusal> {
        let mut files: Vec<Prepared> = Vec::new();
        if let Some(record) = &record {
            files.push(self.state.prepare_record(record)?);
        }
        files.push(self.state.prepare_current(&current)?);
        let next = self.next(policy);
        let outcome = self.change(next, Box::new(|| commit(files)))?;
        self.applies.last = Some(outcome.took);
        self.current = current;
        if let Some(record) = record {
            self.record = Some(record);
        }
        self.state.prune(&self.current);
        Ok(outcome)
    }

    fn answer(&self, outcome: &Outcome, found: &Diagnostics) -> Value {
        let published = outcome.published.as_ref();
        json!({
            "changed": published.is_some(),
            "hash": self.live.as_ref().map(|live| hex(&live.hash)),
            "generation": self.datapath.live().map(|live| live.number),
            "table_written": published.is_some_and(|p| p.table_written),
            "swap_us": published.map_or(0, |p| p.swap.as_micros() as u64),
            "apply_ms": outcome.took.as_millis() as u64,
            "warnings": found.warnings,
        })
    }

    fn confirm(&mut self) -> Result<Value, Refusal> {
        if self.current.pending.is_none() {
            return Err(Refusal::new(
                "there is nothing to confirm",
                "`kordon apply --confirm 5m` puts a policy on trial",
            ));
        }
        let current = Current {
            pending: None,
            ..self.current.clone()
        };
        self.state.prepare_current(&current)?.commit()?;
        self.current = current;
        Ok(json!({
            "confirmed": true,
            "hash": self.live.as_ref().map(|live| hex(&live.hash)),
        }))
    }

    /// Back to what a trial came from, else to the policy before.
    pub(super) fn rollback(&mut self) -> Result<Value, Refusal> {
        let nothing = || {
            Refusal::new(
                "there is no policy to roll back to",
                "`kordon history` shows what there is",
            )
        };
        let to = match &self.current.pending {
            Some(pending) => Some(pending.back_to),
            None => self.record.as_ref().and_then(|record| record.before),
        };
        let number = to.ok_or_else(nothing)?;
        let record = self.state.record(number)?.ok_or_else(nothing)?;
        let (policy, found) = self.parse(&record.bundle, &self.overlay)?;
        let current = Current {
            live: record.number,
            last: self.current.last,
            pending: None,
        };
        let outcome = self.switch(Arc::new(policy), None, current)?;
        self.record = Some(record);
        Ok(self.answer(&outcome, &found))
    }

    fn history(&self) -> Value {
        let live = self.record.as_ref().map(|record| record.number);
        let entries: Vec<Value> = self
            .state
            .history()
            .into_iter()
            .map(|record| {
                json!({
                    "number": record.number,
                    "live": Some(record.number) == live,
                    "applied_at": record.applied_at,
                    "by": record.by,
                    "path": record.bundle.file,
                    "hash": record.hash,
                })
            })
            .collect();
        json!({ "history": entries })
    }

    fn add(&mut self, action: OverlayAction, change: &Change) -> Result<Value, Refusal> {
        let target = self.target(change)?;
        let mut overlay = self.overlay.clone();
        let now = Timestamp::now();
        overlay.prune(now);
        overlay.add(OverlayEntry {
            action,
            target,
            zone: change.zone.clone(),
            until: change.for_seconds.map(after).transpose()?,
            note: change.note.clone(),
            added: now,
        });
        self.set_overlay(overlay)
    }

    fn unblock(&mut self, change: &Change) -> Result<Value, Refusal> {
        let target: OverlayTarget = change.target.parse().map_err(wrong_target)?;
        let mut overlay = self.overlay.clone();
        overlay.prune(Timestamp::now());
        if overlay.remove(target, &change.zone).is_none() {
            return Err(Refusal::new(
                format!(
                    "there is no entry for {target} in zone {}",
                    quoted(&change.zone)
                ),
                "`kordon status` lists the entries; rules of the policy are changed in its file",
            ));
        }
        self.set_overlay(overlay)
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
    pub(super) fn set_overlay(&mut self, overlay: Overlay) -> Result<Value, Refusal> {
        let Some(record) = &self.record else {
            return Err(Refusal::new(
                "no policy is live",
                "`kordon apply` one first",
            ));
        };
        let (policy, found) = self.parse(&record.bundle, &overlay)?;
        let path = self.state.overlay();
        let file = Prepared::write(&path, overlay.to_toml().as_bytes())?;
        let next = self.next(Arc::new(policy));
        let outcome = self.change(next, Box::new(|| commit(vec![file])))?;
        self.overlay = overlay;
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
    ) -> Result<Value, Refusal> {
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
                Some(self.change(next, Box::new(save))?)
            }
            None => {
                save()?;
                self.database = database;
                None
            }
        };
        self.refused.clear();
        if let Value::Object(fields) = &mut answer
            && let Some(outcome) = outcome
            && let Value::Object(more) = self.answer(&outcome, found)
        {
            fields.extend(more);
        }
        Ok(answer)
    }

    fn asndb_info(&self) -> Result<Value, Refusal> {
        serde_json::to_value(self.database.info()).map_err(Refusal::from_error)
    }

    fn detach(&mut self, meant: Option<&str>) -> Result<Value, Refusal> {
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
        let left = Datapath::detach(bpffs).map_err(Refusal::from_error)?;
        self.detached = true;
        tracing::warn!("detached: nothing is enforced any more");
        Ok(json!({ "detached": true, "left": left }))
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

fn wrong_target(TargetError { message, help }: TargetError) -> Refusal {
    Refusal::new(message, help)
}

fn after(seconds: u64) -> Result<Timestamp, Refusal> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::now()
        .checked_add(SignedDuration::from_secs(seconds))
        .map_err(|_| Refusal::new("the time given is too long", "give it in days or less"))
}
