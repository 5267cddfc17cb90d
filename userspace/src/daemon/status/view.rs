//! What readers get of the core: copies of its parts, taken after each job, so that nobody who
//! only asks waits for a change, for a file or for the verifier. What the kernel can say is asked
//! when the question comes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
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
    policy::Policy,
};

/// See the module.
pub(crate) struct View {
    pub(crate) config: Arc<Config>,
    pub(crate) reader: Reader,
    /// The ledger; or why it is not read.
    pub(crate) ledger: Ledger,
    /// The log of evidence, where one is written.
    pub(crate) evidence: Option<Arc<dyn Unwritten>>,
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
pub(crate) trait Unwritten: Send + Sync {
    /// The answer to `unwritten`: each packet that was counted is in it, or in the log so far.
    fn unwritten(&self, view: &View) -> Result<Value, Refusal>;
}

/// The ledger, which readers and who keeps its ring empty share; or why it cannot be read.
pub(crate) type Ledger = Result<Arc<Mutex<Keeper>>, String>;

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
