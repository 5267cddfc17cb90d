//! How it stands with the log, for `status` and metrics. Nobody who asks waits for the disk that the log is on: what is
//! told is what was noted last, and for how long nothing was noted.

use std::{
    sync::TryLockError,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kordon_ebpf::layout::Counter;

use super::{Evidence, troubles::lock};
use crate::{forward::Forwarder, metrics};

/// The log is looked at each second: where that takes longer, somebody may be waiting for the disk, and nobody else is to.
const LATE: Duration = Duration::from_secs(3);
/// A disk that takes longer does not answer.
const STUCK: Duration = Duration::from_secs(10);

/// What was noted last.
pub(super) struct Figures {
    at: Instant,
    records: Option<u64>,
    signed: Option<u64>,
    /// How many records the history has.
    pub(super) history: Option<u64>,
    last: Option<Timestamp>,
    missed: Option<Counter>,
    /// When somebody outside was told last.
    pub(super) witnessed: Option<Timestamp>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            at: Instant::now(),
            records: None,
            signed: None,
            history: None,
            last: None,
            missed: None,
            witnessed: None,
        }
    }
}

impl Evidence {
    /// Notes how it stands with what is written.
    pub(super) fn note(&self) {
        let recorder = self.recorder();
        let mut figures = lock(&self.figures);
        figures.at = Instant::now();
        figures.records = Some(recorder.log.size());
        figures.signed = Some(recorder.log.signed().map_or(0, |signed| signed.size));
        figures.last = Some(recorder.last);
        figures.missed = Some(recorder.missed);
    }

    /// Whether what is done each second has not been done for longer, and somebody is writing: it may be the disk that he
    /// waits for. What else takes long, as a database that is archived, holds nobody up.
    pub(super) fn is_behind(&self) -> bool {
        let since = lock(&self.figures).at.elapsed();
        since > LATE && matches!(self.recorder.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// For how long nothing was done, where that is too long.
    fn stuck(&self) -> Option<Duration> {
        let since = lock(&self.figures).at.elapsed();
        (since > STUCK).then_some(since)
    }

    /// What does not go as it should, now.
    pub(super) fn all_troubles(&self) -> Vec<String> {
        let stuck = self.stuck().map(|time| {
            let seconds = time.as_secs();
            format!(
                "nothing has been written to the log of evidence for {seconds} s: its disk does not answer"
            )
        });
        let forwarder = lock(&self.forwarder);
        let forwarded = forwarder.as_ref().map(Forwarder::troubles);
        (stuck.into_iter())
            .chain(self.troubles.all())
            .chain(forwarded.unwrap_or_default())
            .collect()
    }

    /// For metrics, and `status`.
    pub(super) fn now(&self) -> metrics::Evidence {
        let is_stuck = self.stuck().is_some();
        let failing = self.troubles.failing();
        let failing = failing.map(|(part, fails)| (part, fails || part == "writing" && is_stuck));
        let failing = failing
            .chain([(metrics::Evidence::OPENING, false)])
            .collect();
        let forwarder = lock(&self.forwarder);
        let forwarded = forwarder.as_ref().map(Forwarder::standing);
        let figures = lock(&self.figures);
        metrics::Evidence {
            failing,
            records: figures.records,
            signed: figures.signed,
            history: figures.history,
            last: figures.last,
            missed: figures.missed,
            witnessed: figures.witnessed,
            destinations: forwarded.unwrap_or_default(),
        }
    }
}
