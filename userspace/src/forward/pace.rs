//! How long things may take.

use std::time::Duration;

/// Tests are in more of a hurry.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Until a connection is there, for each address.
    pub(super) connect: Duration,
    /// How long a destination may take nothing.
    pub(super) patience: Duration,
    /// How long after it was taken a record counts as arrived: what is taken is with the other side's kernel, and its
    /// program may hang, and die with it unread.
    pub(super) margin: Duration,
    /// How long nothing may go wrong until a connection is one.
    pub(super) proven: Duration,
    /// How often it is looked for new records.
    pub(super) idle: Duration,
    /// How often the position is kept.
    pub(super) keep: Duration,
    /// Until it is tried again: at first, and at most.
    pub(super) first: Duration,
    /// See [`Self::first`].
    pub(super) most: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            patience: Duration::from_secs(30),
            margin: Duration::from_secs(60),
            proven: Duration::from_secs(5),
            idle: Duration::from_millis(500),
            keep: Duration::from_secs(10),
            first: Duration::from_secs(1),
            most: Duration::from_secs(60),
        }
    }
}
