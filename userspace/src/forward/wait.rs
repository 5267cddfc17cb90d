//! Waiting that can be ended: nothing here takes longer than a moment once somebody has said that
//! it is over.

use std::{
    io,
    os::fd::AsFd,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long what is there may take to be sent when it is over.
const LAST: Duration = Duration::from_millis(700);
/// How often it is asked whether it is over.
const SLICE: Duration = Duration::from_millis(50);

/// Says that it is over.
#[derive(Debug, Default)]
pub(super) struct Stop {
    told: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Stop {
    pub(super) fn tell(&self) {
        self.told().get_or_insert_with(Instant::now);
        self.changed.notify_all();
    }

    fn told(&self) -> MutexGuard<'_, Option<Instant>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing new is begun.
    pub(super) fn is_told(&self) -> bool {
        self.told().is_some()
    }

    /// What has been begun is left as it is.
    pub(super) fn is_over(&self) -> bool {
        self.told().is_some_and(|told| told.elapsed() >= LAST)
    }

    /// Waits, but for no longer than until it is told.
    pub(super) fn wait(&self, time: Duration) {
        let told = self.told();
        let waited = self
            .changed
            .wait_timeout_while(told, time, |told| told.is_none());
        drop(waited);
    }
}

/// Whether a socket is ready by now, or soon.
pub(super) fn is_ready(socket: impl AsFd, flags: PollFlags, time: Duration) -> io::Result<bool> {
    let mut sockets = [PollFd::new(&socket, flags)];
    let time = Timespec::try_from(time).map_err(io::Error::other)?;
    match poll(&mut sockets, Some(&time)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Waits until a socket is ready, at most so long. `is_over`: whether to give up before.
pub(super) fn until_ready(
    socket: impl AsFd,
    flags: PollFlags,
    most: Duration,
    is_over: impl Fn() -> bool,
) -> io::Result<()> {
    let begun = Instant::now();
    while !is_ready(&socket, flags, SLICE)? {
        if is_over() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if begun.elapsed() >= most {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}
