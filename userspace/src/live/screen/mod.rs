//! `kordon top`: what cameras send, to whom, and what becomes of it, on a screen.
//!
//! - [`Source`] is what the caller gives: who asks the daemon, and who blocks.
//! - [`health`]: what may be claimed about enforcement, and for how long.
//! - [`model`]: what is shown; [`keys`] become [`keys::Action`]s of it; [`items`] are its lines;
//!   [`block`] is what `b` asks.
//! - [`draw`] puts it on a screen, [`columns`] and [`layout`] its table, [`overlay`] its boxes, with the colours of
//!   [`theme`]. [`cursor`] knows which line is selected.
//! - [`terminal`] has the threads and the terminal.
//!
//! Invariant: all but [`terminal`] is pure. What the screen shows is a function of answers, keys and
//! the time that it is given, so that a test sees what a person sees.

pub mod block;
pub mod columns;
pub mod cursor;
pub mod draw;
pub mod health;
pub mod items;
pub mod keys;
pub mod layout;
pub mod model;
pub mod overlay;
pub mod terminal;
#[cfg(test)]
mod tests;
pub mod theme;

pub use self::terminal::run;
use super::Row;

/// Where answers come from. Both calls may take a second, and may fail: the screen goes on.
pub trait Source {
    /// Asks the daemon.
    ///
    /// # Errors
    ///
    /// Why there is no answer, for people.
    fn poll(&mut self) -> Result<Poll, String>;

    /// Blocks a target (`AS64500`, `198.51.100.3/32`) in a zone. The answer is what to say.
    ///
    /// # Errors
    ///
    /// Why it is not blocked, for people.
    fn block(&mut self, target: &str, zone: &str) -> Result<String, String>;
}

/// An answer of the daemon.
#[derive(Clone, Debug, Default)]
pub struct Poll {
    /// All flows, with cumulative counters.
    pub rows: Vec<Row>,
    /// Why it does not enforce; empty: nothing is wrong. `None`: not known.
    pub reasons: Option<Vec<String>>,
    /// Whether it enforces. `None`: not known.
    pub enforcing: Option<bool>,
    /// The hash of the live policy.
    pub policy: Option<String>,
    /// What no flow has: zones, and what of them.
    pub unrecorded: Vec<String>,
}
