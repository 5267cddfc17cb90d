//! What cameras send at this moment: `kordon top` (a screen) and `kordon watch` (a line for each flow).
//!
//! Both ask the daemon for its flows each second. Its answer has cumulative counters; what is new in
//! them is found here, in one place ([`counts`]), so that both say the same.
//!
//! - [`Row`] is a flow as the daemon tells it, [`Key`] what makes it the same flow in the next answer.
//! - [`rates`] says how fast each flow grows, and all of them over the last minute.
//! - [`stream`] has the events of `watch`, and their lines.
//! - [`screen`] is `top`.
//! - [`clean`] makes words of others fit for a terminal, [`units`] numbers short.
//!
//! Invariant: nothing here talks to the daemon, reads a file or knows a socket. `watch` is given
//! answers, `top` is given a [`screen::Source`]. Only [`screen::run`] touches the terminal.

pub mod clean;
pub mod counts;
pub mod rates;
pub mod row;
pub mod screen;
pub mod stream;
#[cfg(test)]
mod testing;
pub mod units;

pub use self::row::{Action, Key, Row};

/// Flows that are followed at most. The daemon answers with no more than that.
pub const MAX_ROWS: usize = 100_000;
