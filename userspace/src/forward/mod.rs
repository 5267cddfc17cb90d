//! Sends the records of the log of evidence on, in order, to syslog servers and to journald.
//!
//! The log is the truth, and what is sent are copies. So nothing is handed over by whoever writes:
//! each destination has a thread that reads the log's files behind the writer, and a small file
//! beside the log that says how far it has got. A destination that is down for days, hangs or is
//! slow costs nothing but its own progress, and what is in the log when the daemon starts is sent
//! like what comes later.
//!
//! Each record arrives at least once, and in order, as long as the log keeps it until then. UDP
//! cannot promise that. Of records that come twice `event.sequence` is the same. What the log has
//! removed before it was sent is said in a message of its own (`gap`).
//!
//! - [`config`]: where records go, and what can be said about that.
//! - [`source`]: reads the log; [`position`]: how far a destination has got in it.
//! - [`record`]: what a record says; [`syslog`], [`journal`]: how it is written for those.
//! - [`wire`]: a way to a destination; [`stream`], [`tls`]: a connection; [`wait`]: that it blocks
//!   nobody.
//! - [`post`]: checkpoints, which go by themselves.
//! - [`fault`]: why something does not get there; [`pace`]: how long it may take.
//! - [`unsent`]: what may have to be sent again; [`run`]: all of it together; [`troubles`]: what
//!   `status` says of it.
//!
//! Architecture invariant: nothing here writes to the log, and nobody who enforces or writes waits
//! for anything here.

pub mod config;
mod fault;
mod journal;
mod pace;
mod position;
pub mod post;
mod record;
mod run;
mod source;
mod stream;
mod syslog;
#[cfg(test)]
mod tests;
mod tls;
mod troubles;
mod unsent;
mod wait;
mod wire;

use std::{
    io,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
};

use self::{config::Destination, pace::Pace, run::Runner, troubles::Troubles, wait::Stop};

/// Sends records on until it is dropped.
#[derive(Debug)]
pub struct Forwarder {
    stop: Arc<Stop>,
    running: Vec<(JoinHandle<()>, Arc<Troubles>)>,
}

impl Forwarder {
    /// Begins, or goes on where it was left. `folder`: that of the log.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn spawn(folder: &Path, destinations: &[Destination]) -> io::Result<Self> {
        Self::spawn_at(folder, destinations, &Pace::default())
    }

    /// As [`Self::spawn`], at another pace.
    fn spawn_at(folder: &Path, destinations: &[Destination], pace: &Pace) -> io::Result<Self> {
        let mut forwarder = Self {
            stop: Arc::default(),
            running: Vec::new(),
        };
        for destination in destinations {
            let troubles = Arc::new(Troubles::of(destination.to.name()));
            let (stop, told) = (Arc::clone(&forwarder.stop), Arc::clone(&troubles));
            let runner = Runner::new(folder, destination.clone(), pace.clone(), stop, told);
            let thread = thread::Builder::new().name("kordon-forward".into());
            let thread = thread.spawn(move || runner.run())?;
            forwarder.running.push((thread, troubles));
        }
        Ok(forwarder)
    }

    /// What does not go as it should, now, in words.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let all = self.running.iter().map(|(thread, troubles)| {
            let mut all = troubles.all();
            if thread.is_finished() {
                let (to, ..) = troubles.standing();
                all.push(format!(
                    "{to}: records are forwarded no more, because of a bug"
                ));
            }
            all
        });
        all.flatten().collect()
    }

    /// Each destination, now: what it is called, how many records of the log have arrived there or need not be sent
    /// (`None` until that is known), and whether that does not go as it should.
    #[must_use]
    pub fn standing(&self) -> Vec<(String, Option<u64>, bool)> {
        let all = self.running.iter().map(|(thread, troubles)| {
            let (to, records, is_failing) = troubles.standing();
            (to, records, is_failing || thread.is_finished())
        });
        all.collect()
    }
}

impl Drop for Forwarder {
    /// Sends what is there, as far as that is done within a second.
    fn drop(&mut self) {
        self.stop.tell();
        for (thread, _) in self.running.drain(..) {
            // What it panicked about has been said.
            let _ = thread.join();
        }
    }
}
