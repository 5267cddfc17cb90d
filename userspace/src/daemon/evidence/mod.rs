//! Writes the log of evidence (`[evidence]`): what flows were seen, who changed what, when kordon enforced and when
//! it did not. It is the ledger's [`Witness`], so that what leaves a line is in the log before it is anywhere else.
//!
//! - [`record`]: what records look like.
//! - [`tend`]: what time brings: flows that go on, heartbeats, checkpoints.
//!
//! Architecture invariant: nothing that is enforced ends because of the log, or waits for it to be signed. What cannot be
//! written is counted, and the log says so as soon as it can be written again.

mod record;
mod tend;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kordon_ebpf::layout::{Counter, FLOW_SLOT, FlowLine};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(super) use self::tend::{Done, TICK, end, tick};
use super::{
    state::{Prepared, journal::Entry},
    status::View,
};
use crate::{
    compile::directory::Identity,
    config,
    evidence::{accounts::Accounts, log::Log, read},
    ledger::{
        Keeper,
        witness::{Seen, Witness},
    },
};

/// Bytes of a file of records before the next one begins.
const FILE_SIZE: u64 = 64 << 20;
/// Where what was said of lines is kept, beside the log.
const ACCOUNTS: &str = "accounts";
/// Until when changes are in the log, beside it.
const CHANGES: &str = "changes";
/// Flows whose counters nobody knows yet: there are some while a change is under way.
const WAITING: usize = 1 << 16;
/// Room that is left to what is enforced, which is kept on the same disk.
const RESERVE: u64 = 128 << 20;
/// A clock that is set back by more is a record of its own.
const BACK: Duration = Duration::from_secs(1);

/// The log, which the ledger and the clock write.
#[derive(Clone)]
pub(crate) struct Evidence {
    recorder: Arc<Mutex<Recorder>>,
    troubles: Troubles,
    /// It is being signed: whoever writes would wait for the disk.
    signing: Arc<AtomicBool>,
    /// Somebody is being told of a checkpoint.
    telling: Arc<AtomicBool>,
}

impl Evidence {
    /// Opens the log, or begins one, and writes that the daemon starts. From now on the ledger writes to it.
    ///
    /// # Errors
    /// In words.
    pub(super) fn begin(
        config: &config::Evidence,
        state: &Path,
        view: View,
        keeper: &mut Keeper,
    ) -> Result<Self, String> {
        let folder = config.folder.clone();
        let folder = folder.unwrap_or_else(|| state.join(config::EVIDENCE));
        let troubles = Troubles::default();
        let recorder = Recorder::open(config, folder, view, keeper, troubles.clone())?;
        let evidence = Self {
            recorder: Arc::new(Mutex::new(recorder)),
            troubles,
            signing: Arc::default(),
            telling: Arc::default(),
        };
        keeper.be_witnessed(Box::new(Handle(evidence.clone())));
        Ok(evidence)
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        lock(&self.recorder)
    }

    /// What does not go as it should, now.
    pub(super) fn troubles(&self) -> Vec<String> {
        lock(&self.troubles.0).values().cloned().collect()
    }
}

/// What the ledger has of it.
struct Handle(Evidence);

impl Witness for Handle {
    fn is_ready(&self) -> bool {
        !self.0.signing.load(Ordering::Relaxed)
    }

    fn wants(&self, line: u32, held: &FlowLine, all: bool) -> bool {
        self.0.recorder().wants(line, held, all)
    }

    fn seen(&mut self, seen: Seen) {
        self.0.recorder().seen(seen);
    }
}

/// What does not go as it should, each until it does again.
#[derive(Clone, Default)]
struct Troubles(Arc<Mutex<BTreeMap<Part, String>>>);

/// What may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Writing,
    Signing,
    Telling,
}

impl Troubles {
    fn is(&self, part: Part, words: String) {
        let before = lock(&self.0).insert(part, words.clone());
        if before.as_ref() != Some(&words) {
            tracing::error!("{words}");
        }
    }

    fn is_over(&self, part: Part) {
        if let Some(words) = lock(&self.0).remove(&part) {
            tracing::info!("over: {words}");
        }
    }
}

/// Writes records.
struct Recorder {
    log: Log,
    folder: PathBuf,
    accounts: Accounts,
    view: Arc<View>,
    boot: String,
    /// Flows whose counters the view does not know yet.
    waiting: Vec<Seen>,
    /// What left its line and could not be written.
    missed: Counter,
    /// Of the last record.
    last: Timestamp,
    /// Changes until then are in the log.
    changes: Timestamp,
    /// What it said last of what is enforced.
    state: Value,
    /// The first record, where it could not be written yet.
    start: Option<Value>,
    /// There is too little room for flows.
    is_full: bool,
    /// Somebody has moved or removed it.
    is_gone: bool,
    /// Nothing comes any more.
    ends: bool,
    troubles: Troubles,
    began: Instant,
}

impl Recorder {
    fn open(
        config: &config::Evidence,
        folder: PathBuf,
        view: View,
        keeper: &Keeper,
        troubles: Troubles,
    ) -> Result<Self, String> {
        let origin = origin(&folder);
        let mut builder = fs::DirBuilder::new();
        (builder.recursive(true).mode(0o750).create(&folder))
            .map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        let (log, opened) = Log::open(&folder, &origin, FILE_SIZE, 1).map_err(|e| e.to_string())?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot = boot.map(|id| id.trim().to_owned()).unwrap_or_default();
        let previous: Option<Value> =
            (opened.tail.last()).and_then(|record| serde_json::from_slice(record).ok());
        // Of another boot there is nothing in the kernel.
        let is_this_boot =
            (previous.as_ref()).is_some_and(|record| record["kordon"]["boot"] == boot.as_str());
        let accounts = accounts(&folder, &boot, keeper, is_this_boot.then(|| log.size()));
        let now = Timestamp::now();
        let changes = crate::regular::read_text(&folder.join(CHANGES)).ok();
        let changes = changes.and_then(|at| at.trim().parse().ok());
        let last = (previous.as_ref())
            .and_then(|record| record["@timestamp"].as_str()?.parse().ok())
            .unwrap_or(now);
        let mut recorder = Self {
            log,
            folder,
            accounts,
            view: Arc::new(view),
            boot,
            waiting: Vec::new(),
            missed: Counter::ZERO,
            last,
            changes: changes.unwrap_or(now),
            state: Value::Null,
            start: None,
            is_full: false,
            is_gone: false,
            ends: false,
            troubles,
            began: Instant::now(),
        };
        let before = previous.map(|record| {
            json!({
                "at": record["@timestamp"],
                "action": record["event"]["action"],
                "is_this_boot": is_this_boot,
            })
        });
        let start = record::event(
            "event",
            "process",
            "start",
            json!({
                "before": before,
                "torn": opened.torn,
                "set_aside": opened.lost,
                "policy_hash": recorder.view.live.as_ref().map(|live| hex::encode(live.hash)),
                "database": recorder.view.updates.database.name(),
                "interval": config.interval.as_secs(),
            }),
        );
        if !recorder.write(start.clone()) {
            recorder.start = Some(start);
        }
        // Else the next start has more to read, or writes a change twice.
        recorder.keep_accounts();
        recorder.keep_changes();
        Ok(recorder)
    }

    /// Only that the next start has less to read.
    fn keep_accounts(&self) {
        let bytes = self.accounts.to_bytes(self.log.size());
        let kept = Prepared::write(&self.folder.join(ACCOUNTS), &bytes);
        let _ = kept.and_then(Prepared::commit);
    }

    fn keep_changes(&self) {
        let text = format!("{}\n", self.changes);
        let kept = Prepared::write(&self.folder.join(CHANGES), text.as_bytes());
        let _ = kept.and_then(Prepared::commit);
    }

    fn wants(&self, line: u32, held: &FlowLine, all: bool) -> bool {
        let total = total(held);
        if all || !self.accounts.is_unsaid(line, held.sequence) {
            return all && self.accounts.due(line, held.sequence, total).is_some();
        }
        // What is dropped is written at once.
        let identity = self
            .view
            .reader
            .identity((held.flow.identity & FLOW_SLOT) as u32);
        let is_drop = |action| action == kordon_ebpf::layout::Action::Drop;
        identity.is_some_and(|identity| match identity {
            Identity::Zone(_, _, action) | Identity::Rule(_, _, action) => is_drop(action),
            _ => false,
        })
    }

    fn seen(&mut self, seen: Seen) {
        let (line, sequence) = (seen.line, seen.sequence);
        let Some(new) = self.accounts.due(line, sequence, seen.sum.counter) else {
            return;
        };
        let place = self.accounts.place(line, sequence);
        let Some(record) = record::flow(&self.view, &seen, &place, new) else {
            // Nobody knows yet whose its counter is. What is still in its line is told of again.
            match seen.is_last {
                true if self.waiting.len() < WAITING => self.waiting.push(seen),
                true => self.missed += new,
                false => {}
            }
            return;
        };
        if !self.is_full && self.write(record) {
            self.accounts.say(line, sequence, seen.sum.counter);
        } else if seen.is_last {
            self.missed += new;
        }
    }

    /// What left its line before anybody knew whose its counter is. The line may have another flow by now, whose
    /// account stays.
    fn late(&mut self) {
        for seen in std::mem::take(&mut self.waiting) {
            let new = seen.sum.counter;
            let place = self.accounts.place(seen.line, seen.sequence);
            let record = record::flow(&self.view, &seen, &place, new);
            if self.is_full || !record.is_some_and(|record| self.write(record)) {
                self.missed += new;
            }
        }
    }

    /// What is known by now.
    fn look(&mut self, view: Arc<View>) {
        self.view = view;
        let free = rustix::fs::statvfs(&self.folder).map(|fs| fs.f_bavail * fs.f_frsize);
        self.is_full = free.is_ok_and(|free| free < RESERVE);
        if self.is_full {
            let words = format!(
                "flows are not written to the log of evidence: less than {} MiB are free, which are left to what is enforced",
                RESERVE >> 20
            );
            self.troubles.is(Part::Writing, words);
        }
        self.is_gone = !self.log.is_in_place();
        if self.is_gone {
            let words = format!(
                "the log of evidence in {} was moved or removed while it is written; restart the daemon, which goes on \
                 or begins another one",
                self.folder.display()
            );
            self.troubles.is(Part::Writing, words);
        }
        if let Some(start) = self.start.take()
            && !self.write(start.clone())
        {
            self.start = Some(start);
        }
        self.late();
        let view = Arc::clone(&self.view);
        // The clock may have been set back since.
        let known = view
            .changes
            .iter()
            .position(|entry| entry.at == self.changes);
        let until = self.changes;
        let is_new = |(place, entry): &(usize, &Entry)| match known {
            Some(known) => *place > known,
            None => entry.at > until,
        };
        for (_, entry) in view.changes.iter().enumerate().filter(is_new) {
            if !self.write(record::change(entry)) {
                break;
            }
            self.changes = entry.at;
            self.keep_changes();
        }
    }

    /// Says what is enforced, where that is another than before.
    fn note_state(&mut self, reasons: &[String]) {
        let interfaces = self.view.config.interfaces.iter();
        let interfaces: Vec<&str> = interfaces.map(|interface| &*interface.device).collect();
        let state = json!({
            "enforcing": reasons.is_empty(),
            "reasons": reasons,
            "interfaces": interfaces,
            "policy_hash": self.view.live.as_ref().map(|live| hex::encode(live.hash)),
            "database": self.view.updates.database.name(),
        });
        if state == self.state {
            return;
        }
        let record = record::event("state", "configuration", "state", state.clone());
        if self.write(record) {
            self.state = state;
        }
    }

    /// Removes what is too old to be kept: whole files, and the log says which.
    fn forget(&mut self, most: u64) {
        let files = usize::try_from(most / FILE_SIZE).unwrap_or(usize::MAX);
        let firsts = read::firsts(&self.folder);
        let Some(kept) = firsts
            .len()
            .checked_sub(files)
            .and_then(|at| firsts.get(at))
        else {
            return;
        };
        let (now, boot) = (Timestamp::now(), self.boot.clone());
        let statement = |index: u64, kept: u64| {
            let fields = json!({ "forgot_before": kept });
            let record = record::event("event", "configuration", "forget", fields);
            record::whole(record, index, now, &boot)
                .to_string()
                .into_bytes()
        };
        if let Err(e) = self.log.forget_before(*kept, statement) {
            self.troubles.is(
                Part::Signing,
                format!("the log of evidence is not shortened: {e}"),
            );
        }
    }

    /// Adds what every record has, and writes it. Whether it is in the log.
    fn write(&mut self, record: Value) -> bool {
        let now = Timestamp::now();
        if self.ends {
            return false;
        }
        if now < self.last && self.last.duration_since(now).unsigned_abs() > BACK {
            let fields = json!({ "from": record::moment(self.last) });
            if !self.append(record::event("event", "host", "clock", fields), now) {
                return false;
            }
        }
        self.append(record, now)
    }

    fn append(&mut self, record: Value, now: Timestamp) -> bool {
        let whole = record::whole(record, self.log.size(), now, &self.boot);
        match self.log.append(whole.to_string().as_bytes()) {
            Ok(_) => {
                self.last = now;
                if !self.is_full && !self.is_gone {
                    self.troubles.is_over(Part::Writing);
                }
                true
            }
            Err(e) => {
                let words = format!("the log of evidence is not written: {e}");
                self.troubles.is(Part::Writing, words);
                false
            }
        }
    }
}

/// What the log is called: as its key is, however the machine is called by now.
fn origin(folder: &Path) -> String {
    let key = crate::regular::read_text(&folder.join("key.pub")).unwrap_or_default();
    match key.split_once('+') {
        Some((name, _)) => name.to_owned(),
        None => {
            let host = rustix::system::uname();
            format!("kordon/{}", host.nodename().to_string_lossy())
        }
    }
}

fn total(held: &FlowLine) -> Counter {
    Counter {
        packets: held.packets.into(),
        bytes: held.bytes.into(),
    }
}

/// What the log has of the kernel's lines. `records`: how many the log has, if some of them may be about these.
fn accounts(folder: &Path, boot: &str, keeper: &Keeper, records: Option<u64>) -> Accounts {
    let mut hash = Sha256::new();
    hash.update(boot);
    hash.update(keeper.id().unwrap_or_default().to_le_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    let ledger = hash.first_chunk().copied().unwrap_or_default();
    let empty = Accounts::new(ledger, keeper.size());
    let Some(records) = records else {
        return empty;
    };
    let kept = crate::regular::read(&folder.join(ACCOUNTS)).ok();
    let kept = kept.and_then(|bytes| empty.read(&bytes));
    let kept = kept.filter(|(_, until)| *until <= records);
    let (mut accounts, until) = kept.unwrap_or((empty, 0));
    for record in read::records(folder, until) {
        accounts.replay(&record);
    }
    accounts
}

/// Nothing panics while one of these is held, but where the daemon has a bug.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
