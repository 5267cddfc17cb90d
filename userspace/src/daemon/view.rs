//! What readers get of the core: `status`, the metrics and questions about verdicts. It is
//! taken after each job, so that nobody who only asks waits for a change, for a file or for
//! the verifier. What the kernel can say is asked when the question comes.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    bgp::Bgp,
    core::{Applies, Core, Live},
    database::Database,
    interfaces::Device,
    journal::Entry,
    state::{Record, StateDir},
    updates::Updated,
};
use crate::{
    config::{Config, Interface, mode_word},
    datapath::{Attached, guard::Hook, reader::Reader},
    policy::{Overlay, Policy},
};

/// See the module.
pub(super) struct View {
    /// When interfaces were looked after last.
    pub(super) looked: Instant,
    pub(super) config: Arc<Config>,
    pub(super) state: Arc<StateDir>,
    pub(super) reader: Reader,
    /// Number of the live generation.
    pub(super) generation: Option<u64>,
    pub(super) live: Option<Live>,
    pub(super) record: Option<Arc<Record>>,
    pub(super) database: Database,
    pub(super) overlay: Arc<Overlay>,
    pub(super) bgp: Option<Bgp>,
    pub(super) devices: Vec<Port>,
    /// Whether links and addresses are known.
    pub(super) knows_router: bool,
    /// Whether what is in the kernel is not what was made of the policy.
    pub(super) kept: bool,
    /// Parts of what was live, and whether each is in doubt.
    pub(super) doubts: Vec<(&'static str, bool)>,
    /// What is wrong beside interfaces, and what does not follow from the rest of this.
    pub(super) troubles: Vec<String>,
    /// What to look at, likewise.
    pub(super) notices: Vec<String>,
    /// Why what is live is not on disk.
    pub(super) unsaved: Option<String>,
    pub(super) refused: Vec<String>,
    pub(super) repaired: Vec<String>,
    /// Zones, and for how long those that are silent have been.
    pub(super) silent: Vec<(String, Option<Duration>)>,
    /// When the trial of the live policy ends.
    pub(super) trial: Option<Timestamp>,
    pub(super) updates: Updated,
    /// Oldest first.
    pub(super) changes: Arc<VecDeque<Entry>>,
    pub(super) applies: Applies,
    pub(super) started_at: Timestamp,
}

/// A configured interface.
pub(super) struct Port {
    pub(super) config: Interface,
    pub(super) hook: Option<Hook>,
    pub(super) problem: Option<String>,
    pub(super) blind: Option<String>,
    /// Frames whose tags were hidden, and those that the program was not called for.
    pub(super) missed: [u64; 2],
    pub(super) switched_off: u64,
}

impl Core {
    /// What readers get until the next job is done.
    pub(super) fn view(&self) -> View {
        View {
            looked: self.looked,
            config: Arc::clone(&self.config),
            state: Arc::clone(&self.state),
            reader: self.datapath.reader(),
            generation: self.datapath.live().map(|live| live.number),
            live: self.live.clone(),
            record: self.record.clone(),
            database: self.database.clone(),
            overlay: Arc::clone(&self.overlay),
            bgp: self.bgp.clone(),
            devices: self.devices.iter().map(Port::of).collect(),
            knows_router: self.facts.is_some(),
            kept: self.troubles.is_kept(),
            doubts: self.troubles.doubts(),
            troubles: self.wrongs(),
            notices: self.notices(),
            unsaved: self.unsaved.clone(),
            refused: self.refused.clone(),
            repaired: self.repaired.clone(),
            silent: self.silent_zones(),
            trial: self.current.pending.as_ref().map(|pending| pending.until),
            updates: self.updates.view(),
            changes: self.journal.view(),
            applies: self.applies,
            started_at: self.started_at,
        }
    }
}

impl View {
    /// The policy that is live.
    pub(super) fn policy(&self) -> Option<&Policy> {
        self.live.as_ref().map(|live| &*live.policy)
    }
}

impl Port {
    fn of(device: &Device) -> Self {
        Self {
            config: device.config.clone(),
            hook: device.hook,
            problem: device.problem.clone(),
            blind: device.blind.clone(),
            missed: [device.watch.hidden, device.watch.uncalled],
            switched_off: device.switched_off,
        }
    }

    /// The mode that its program is attached in; else the one that is asked for.
    pub(super) fn mode(&self, attached: Option<Attached>) -> &'static str {
        attached.map_or(mode_word(self.config.mode), Attached::as_str)
    }

    /// Whether the program there is shown what arrives, as far as is known.
    pub(super) fn sees(&self) -> bool {
        self.problem.is_none() && self.blind.is_none()
    }
}
