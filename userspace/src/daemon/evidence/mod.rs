//! Writes the log of evidence (`[evidence]`): what flows were seen, who changed what, when kordon enforced and when
//! it did not. It is the ledger's [`Witness`], so that what leaves a line is in the log before it is anywhere else.
//!
//! - [`archive`]: what was in force, by its hash.
//! - [`history`]: the index over the log.
//! - [`moment`]: what was counted, and what of it is not in the log yet.
//! - [`recorder`]: who writes it, and [`record`]: what records look like; [`troubles`]: what does not go as it should.
//! - [`tend`]: what time brings: flows that go on, heartbeats, checkpoints; [`outside`]: who is told of these.
//! - [`standing`]: how it stands with all of that.
//!
//! Architecture invariant: nothing that is enforced ends because of the log, or waits for it to be signed. What cannot be
//! written is counted, and the log says so as soon as it can be written again.

mod archive;
mod history;
mod moment;
mod outside;
mod record;
mod recorder;
mod standing;
mod tend;
mod troubles;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use kordon_ebpf::layout::FlowLine;

use self::{
    archive::Archive,
    recorder::Recorder,
    standing::Figures,
    troubles::{Part, Troubles, lock},
};
pub(super) use self::{
    history::{Keeping, STEP, keep},
    tend::{Done, TICK, end, tick},
};
use super::status::View;
use crate::{
    config,
    forward::Forwarder,
    ledger::{
        Keeper,
        witness::{Seen, Witness},
    },
};

/// The log, which the ledger and the clock write.
#[derive(Clone)]
pub(crate) struct Evidence {
    recorder: Arc<Mutex<Recorder>>,
    troubles: Troubles,
    figures: Arc<Mutex<Figures>>,
    /// It is being signed: whoever writes would wait for the disk.
    signing: Arc<AtomicBool>,
    /// Somebody is being told of a checkpoint.
    telling: Arc<AtomicBool>,
    archive: Arc<Mutex<Archive>>,
    /// Sends records on, until the end.
    forwarder: Arc<Mutex<Option<Forwarder>>>,
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
        let folder = folder_of(config, state);
        let troubles = Troubles::default();
        let archive = Archive::new(&folder, config.archive_max_size);
        let recorder = Recorder::open(config, folder, view, keeper, troubles.clone())?;
        let forwarder = Forwarder::spawn(&folder_of(config, state), &config.forward);
        if let Err(e) = &forwarder {
            let words = format!("the log of evidence is not sent on: {e}; restart the daemon");
            troubles.is(Part::Forwarding, words);
        }
        let evidence = Self {
            recorder: Arc::new(Mutex::new(recorder)),
            troubles,
            figures: Arc::default(),
            signing: Arc::default(),
            telling: Arc::default(),
            archive: Arc::new(Mutex::new(archive)),
            forwarder: Arc::new(Mutex::new(forwarder.ok())),
        };
        evidence.note();
        keeper.be_witnessed(Box::new(Handle(evidence.clone())));
        Ok(evidence)
    }

    /// What writes it, or its history, has panicked: it begins again.
    pub(super) fn broke(&self, is_history: bool, e: &dyn std::fmt::Display) {
        let (part, what) = match is_history {
            true => (Part::Keeping, "the history of flows is not kept"),
            // Until it has been signed.
            false => (Part::Signing, "the log of evidence is not written"),
        };
        self.signing.store(false, Ordering::Relaxed);
        let words = format!("{what} as it should be, because of a bug: {e}");
        self.troubles.is(part, words);
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        lock(&self.recorder)
    }
}

/// What the ledger has of it.
struct Handle(Evidence);

impl Witness for Handle {
    fn is_ready(&self) -> bool {
        // Nobody else is to find out that the disk does not answer.
        !self.0.signing.load(Ordering::Relaxed) && !self.0.is_behind()
    }

    fn wants(&self, line: u32, held: &FlowLine, all: bool) -> bool {
        self.0.recorder().wants(line, held, all)
    }

    fn seen(&mut self, seen: Seen) {
        self.0.recorder().seen(seen);
    }
}

fn folder_of(config: &config::Evidence, state: &Path) -> PathBuf {
    let folder = config.folder.clone();
    folder.unwrap_or_else(|| state.join(config::EVIDENCE))
}
