//! What was seen over a long time: an index over the log of evidence, in a database (SQLite) beside it.
//!
//! The log is the truth, this is fast. Sums by flow and hour stay when the log's oldest records have been removed.
//!
//! - [`flow`]: a flow and its sums. `record`: what is read of the log. [`books`]: what counters have and no record has.
//! - [`total`]: flows added up.
//! - [`store`]: the database. [`fill`] brings it up to the log, [`retain`] removes what is old, [`query`] reads.
//!
//! Architecture invariant: nothing is in the database that is not in the log, or was. So it may be removed, and whoever
//! doubts it makes it anew.

pub mod books;
pub mod fill;
pub mod flow;
pub mod query;
mod record;
pub mod retain;
pub mod store;
#[cfg(test)]
mod tests;
pub mod total;

use jiff::Timestamp;

pub use self::record::{Beat, Counts};

/// Microseconds of an hour.
const HOUR: i64 = 3_600_000_000;

pub use crate::evidence::gaps::SILENCE;

/// The beginning of a minute.
fn minute_of(at: Timestamp) -> Timestamp {
    let seconds = at.as_second().div_euclid(60) * 60;
    Timestamp::from_second(seconds).unwrap_or(at)
}

/// Since 1970.
fn hour_of(at: Timestamp) -> i64 {
    at.as_microsecond().div_euclid(HOUR)
}
