//! What readers get of the core: copies of its parts, taken after each job, so that nobody who
//! only asks waits for a change, for a file or for the verifier. What the kernel can say is asked
//! when the question comes.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    config::Config,
    daemon::{
        bgp::Bgp,
        boot::Boot,
        links::Links,
        live::Live,
        refusal::Refusal,
        state::{journal::Entry, kept::Kept},
        trouble::Troubles,
        updates::Updates,
    },
    datapath::reader::Reader,
    ledger::Keeper,
    metrics,
    policy::Policy,
};

/// See the module.
pub(crate) struct View {
    pub(crate) config: Arc<Config>,
    pub(crate) reader: Reader,
    /// The ledger; or why it is not read.
    pub(crate) ledger: Ledger,
    /// The log of evidence, where one is written.
    pub(crate) evidence: Option<Arc<dyn EvidenceLog>>,
    /// Number of the live generation.
    pub(crate) generation: Option<u64>,
    pub(crate) live: Option<Live>,
    /// Why it does not judge as it should.
    pub(crate) wrong: Option<String>,
    pub(crate) kept: Kept,
    pub(crate) updates: Updates,
    pub(crate) bgp: Option<Bgp>,
    pub(crate) links: Links,
    pub(crate) boot: Boot,
    pub(crate) troubles: Troubles,
    /// What to look at, of what does not follow from the rest of this.
    pub(crate) notices: Vec<String>,
    /// Oldest first.
    pub(crate) changes: Arc<VecDeque<Entry>>,
    pub(crate) applies: Applies,
    pub(crate) started_at: Timestamp,
}

/// Whoever writes the log of evidence, and knows what is not in it yet.
pub(crate) trait EvidenceLog: Send + Sync {
    /// How it stands with it. Waits for no disk.
    fn standing(&self) -> metrics::Evidence;

    /// What is done with it each second has not been done for longer: its disk may not answer.
    fn is_late(&self) -> bool;

    /// What does not go as it should, now, in words. Waits for no disk.
    fn troubles(&self) -> Vec<String>;

    /// The answer to `unwritten`: each packet that was counted is in it, or in the log so far.
    fn unwritten(&self, view: &View) -> Result<Value, Refusal>;
}

/// The ledger, which readers and who keeps its ring empty share; or why it cannot be read.
pub(crate) type Ledger = Result<Arc<Mutex<Keeper>>, String>;

/// How long somebody waits for the ledger, and how often he looks; and how long where it is known that nobody will let it go.
const PATIENCE: Duration = Duration::from_secs(3);
const NO_PATIENCE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(2);

/// Asks the ledger beside whoever asks: who has it may have to wait for the disk of the log of evidence. `None`: there is no
/// answer in time.
pub(super) fn at_ledger<T: Send + 'static>(
    ledger: &Arc<Mutex<Keeper>>,
    is_late: bool,
    work: impl FnOnce(&mut Keeper) -> T + Send + 'static,
) -> Option<T> {
    let end = Instant::now() + if is_late { NO_PATIENCE } else { PATIENCE };
    // Nobody gets into a row that does not move.
    while matches!(ledger.try_lock(), Err(TryLockError::WouldBlock)) {
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(PAUSE);
    }
    let told = beside(ledger, work).ok()?;
    told.recv_timeout(end.saturating_duration_since(Instant::now()))
        .ok()
}

/// Does something with the ledger in a thread of its own, as long as that takes, and tells what came of it.
///
/// # Errors
/// When the system has no more threads.
pub(in crate::daemon) fn beside<T: Send + 'static>(
    ledger: &Arc<Mutex<Keeper>>,
    work: impl FnOnce(&mut Keeper) -> T + Send + 'static,
) -> io::Result<Receiver<T>> {
    let (tell, told) = sync_channel(1);
    let ledger = Arc::clone(ledger);
    let work = move || {
        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = tell.send(work(&mut ledger));
    };
    let thread = thread::Builder::new().name("kordon-ledger".into());
    thread.spawn(work).map(|_| told)
}

/// Successful and refused applies since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Applies {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) last: Option<Duration>,
}

/// What keeps the core.
#[derive(Clone, Debug)]
pub(crate) struct Busy {
    pub(crate) what: String,
    pub(crate) since: Instant,
}

impl View {
    /// The policy that is live.
    pub(crate) fn policy(&self) -> Option<&Policy> {
        self.live.as_ref().map(|live| &*live.policy)
    }
}
