//! Which processor does what. On a machine with one, everything shares it.

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// First and last processor that this process may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processors {
    /// Takes what disturbs: senders, and most interrupts.
    pub(super) first: usize,
    /// Does what is measured.
    pub(super) last: usize,
    all: CpuSet,
}

impl Processors {
    /// As they are when the process starts, before any thread is bound to one.
    pub(super) fn find() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))
            .context("cannot ask for this process's processors")?;
        let mut all = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        let first = all.next().unwrap_or(0);
        Ok(Self {
            first,
            last: all.next_back().unwrap_or(first),
            all: allowed,
        })
    }

    /// Lets the calling thread, and what it starts from now on, run on all of them again.
    pub(super) fn free(self) -> Result<()> {
        sched_setaffinity(Pid::from_raw(0), &self.all)
            .context("cannot take a thread off its processor")
    }
}

/// Binds a thread to a processor; 0 is the calling one.
pub(super) fn bind(thread: i32, processor: usize) -> Result<()> {
    let mut one = CpuSet::new();
    one.set(processor).context("cannot name a processor")?;
    sched_setaffinity(Pid::from_raw(thread), &one)
        .with_context(|| format!("cannot keep thread {thread} on processor {processor}"))
}
