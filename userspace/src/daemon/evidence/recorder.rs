//! Writes the records: what is new of each line, what was changed, what is enforced; and knows what could not be written.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kordon_ebpf::layout::{Counter, FLOW_SLOT, FlowLine};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    archive::Named,
    record,
    troubles::{Part, Troubles},
};
use crate::{
    compile::directory::Identity,
    config::{self, RESERVE},
    daemon::{
        state::{Prepared, journal::Entry},
        status::View,
    },
    evidence::{accounts::Accounts, log::Log, read},
    ledger::{Keeper, witness::Seen},
};

/// Bytes of a file of records before the next one begins.
const FILE_SIZE: u64 = 64 << 20;
/// Where what was said of lines is kept, beside the log.
const ACCOUNTS: &str = "accounts";
/// Until when changes are in the log, beside it.
const CHANGES: &str = "changes";
/// Flows whose counters nobody knows yet: there are some while a change is under way.
const WAITING: usize = 1 << 16;
/// A clock that is set back by more is a record of its own.
const BACK: Duration = Duration::from_secs(1);

/// What left its line before anybody knew whose its counter is, and what is new of it.
pub(super) struct Late {
    pub(super) seen: Seen,
    pub(super) new: Counter,
}

/// Writes records.
pub(super) struct Recorder {
    pub(super) log: Log,
    pub(super) folder: PathBuf,
    pub(super) accounts: Accounts,
    pub(super) view: Arc<View>,
    pub(super) boot: String,
    /// Flows whose counters the view does not know yet.
    pub(super) waiting: Vec<Late>,
    /// What had left its line when the log was begun, by counter slot, until that is in the log.
    pub(super) opening: Option<HashMap<u32, Counter>>,
    /// What left its line and could not be written.
    pub(super) missed: Counter,
    /// Of the last record.
    pub(super) last: Timestamp,
    /// Changes until then are in the log.
    pub(super) changes: Timestamp,
    /// What it said last of what is enforced.
    pub(super) state: Value,
    /// The mode in which each interface is judged, as it was said last; `None`: it is not.
    pub(super) attached: HashMap<String, Option<&'static str>>,
    /// The first record, where it could not be written yet.
    pub(super) start: Option<Value>,
    /// There is too little room for flows.
    pub(super) is_full: bool,
    /// Somebody has moved or removed it.
    pub(super) is_gone: bool,
    /// Nothing comes any more.
    pub(super) ends: bool,
    pub(super) troubles: Troubles,
    pub(super) began: Instant,
}

impl Recorder {
    pub(super) fn open(
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
        let opening = (log.size() == 0).then(|| booked(&view, keeper));
        let mut recorder = Self {
            log,
            folder,
            accounts,
            view: Arc::new(view),
            boot,
            waiting: Vec::new(),
            opening,
            missed: Counter::ZERO,
            last,
            changes: changes.unwrap_or(now),
            state: Value::Null,
            attached: HashMap::new(),
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
                "counters": recorder.counters(&recorder.view),
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
    pub(super) fn keep_accounts(&self) {
        let bytes = self.accounts.to_bytes(self.log.size());
        let kept = Prepared::write(&self.folder.join(ACCOUNTS), &bytes);
        let _ = kept.and_then(Prepared::commit);
    }

    fn keep_changes(&self) {
        let text = format!("{}\n", self.changes);
        let kept = Prepared::write(&self.folder.join(CHANGES), text.as_bytes());
        let _ = kept.and_then(Prepared::commit);
    }

    pub(super) fn wants(&self, line: u32, held: &FlowLine, all: bool) -> bool {
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

    pub(super) fn seen(&mut self, seen: Seen) {
        let (line, sequence) = (seen.line, seen.sequence);
        let Some(new) = self.accounts.due(line, sequence, seen.sum.counter) else {
            return;
        };
        let place = self.accounts.place(line, sequence);
        let Some(record) = record::flow(&self.view, &seen, &place, new) else {
            // Nobody knows yet whose its counter is. What is still in its line is told of again.
            match seen.is_last {
                true if self.waiting.len() < WAITING => self.waiting.push(Late { seen, new }),
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
        for Late { seen, new } in std::mem::take(&mut self.waiting) {
            let place = self.accounts.place(seen.line, seen.sequence);
            let record = record::flow(&self.view, &seen, &place, new);
            if self.is_full || !record.is_some_and(|record| self.write(record)) {
                self.missed += new;
            }
        }
    }

    /// What is known by now.
    pub(super) fn look(&mut self, view: Arc<View>) {
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
                "the log of evidence in {} was moved or removed, in part or as a whole, while it is written; put it back, or \
                 move away what is left of it, and restart the daemon",
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

    /// What tells the kernel's counters from those of another boot, or made anew.
    pub(super) fn counters(&self, view: &View) -> Option<String> {
        (view.reader.counters_id()).map(|id| format!("{}-{id}", self.boot))
    }

    /// Says what is enforced, where that is another than before.
    pub(super) fn note_state(&mut self, reasons: &[String], in_force: Option<&Named>) {
        let interfaces = self.view.config.interfaces.iter();
        let interfaces: Vec<&str> = interfaces.map(|interface| &*interface.device).collect();
        let state = json!({
            "enforcing": reasons.is_empty(),
            "reasons": reasons,
            "interfaces": interfaces,
            "policy_hash": self.view.live.as_ref().map(|live| hex::encode(live.hash)),
            "database": in_force.and_then(|named| named.database.as_ref()),
            "edition": in_force.map(|named| &named.edition),
            "live_bgp": self.view.bgp.is_some(),
        });
        if state == self.state {
            return;
        }
        let record = record::event("state", "configuration", "state", state.clone());
        if self.write(record) {
            self.state = state;
        }
    }

    /// Says where programs judge since now, and where no longer. `now`: interface, mode, whether one is there.
    pub(super) fn note_attached(&mut self, now: Vec<(String, &'static str, bool)>) {
        for (interface, mode, is_there) in now {
            let mode = is_there.then_some(mode);
            let before = self.attached.get(&interface).copied().flatten();
            if before == mode {
                continue;
            }
            let action = if is_there { "attach" } else { "detach" };
            let fields = json!({ "interface": interface, "mode": mode.or(before) });
            if self.write(record::event("event", "configuration", action, fields)) {
                self.attached.insert(interface, mode);
            }
        }
    }

    /// Removes what is too old to be kept: whole files, and the log says which.
    pub(super) fn forget(&mut self, most: u64) {
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
    pub(super) fn write(&mut self, record: Value) -> bool {
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

/// What came out of lines by now, where a log begins over a ledger that has seen something.
fn booked(view: &View, keeper: &Keeper) -> HashMap<u32, Counter> {
    (0..view.reader.slots())
        .map(|slot| (slot, keeper.booked(slot)))
        .filter(|(_, booked)| booked.packets > 0)
        .collect()
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
    for (_, record) in read::records(folder, until) {
        accounts.replay(&record);
    }
    accounts
}
