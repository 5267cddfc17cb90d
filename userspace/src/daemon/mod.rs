//! The daemon: ties policy, database, kernel and control socket together.
//!
//! One thread owns all that can change and does one job after the other; everybody else brings
//! jobs to it, or looks at a copy of what it has. So `block AS64500` goes through
//! [`run`] (the socket), [`requests`] (what is asked), [`owner`] (the queue), [`core`] (the change)
//! and back, and `status` only through [`requests`] and [`status`].
//!
//! From the bottom to the top; a module uses those above it in this list, and never one below:
//!
//! - [`log`]: what is told to people; [`trouble`]: why less is enforced than was
//!   asked for; [`by`]: who wants a change.
//! - [`state`]: what is on disk.
//! - [`bgp`]: live BGP, from the router's sessions to changes that are due.
//! - [`updates`]: the ASN database, and what may take its place.
//! - [`live`]: the live policy; [`meant`]: entries that are hardly meant.
//! - [`named`]: whom flows were for.
//! - [`links`]: interfaces with their programs, links and addresses.
//! - [`boot`]: what is held until interfaces enforce.
//! - [`status`]: what readers get.
//! - [`evidence`]: the log that can be proven.
//! - [`core`]: everything that can change; [`owner`]: the thread that has it.
//! - [`requests`]: what is asked; [`run`]: the event loop.
//!
//! Architecture invariant: ending the daemon, in whatever way (SIGTERM, `kill -9`, a panic),
//! changes nothing in the kernel. Only `detach` does.

mod bgp;
mod boot;
mod by;
mod core;
mod evidence;
mod links;
mod live;
mod log;
mod meant;
mod named;
mod owner;
mod requests;
mod run;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod trouble;
mod updates;

pub(crate) use self::boot::write as hold_at_boot;
pub use self::run::{Options, run};
pub(crate) use self::{
    links::router::{Facts as RouterFacts, Network as RouterNetwork},
    state::{StateDir, holder, lock_pins, recorded, snapshot_path},
    updates::unattended::{concerns, update},
};
use crate::control::refusal;
