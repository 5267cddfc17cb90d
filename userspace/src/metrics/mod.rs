//! What an administrator's Prometheus sees: a [`Snapshot`] of plain data, the page
//! that it is written as ([`render`]), and the server of that page ([`serve`]).
//!
//! The three are apart so that a page can be tested without a kernel, and the
//! server without a page that means something.
//!
//! Architecture invariant: nothing here touches a map or a lock. Who builds a
//! snapshot does.

mod render;
mod serve;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use kordon_ebpf::layout::Counter;

pub use render::render;
pub use serve::serve;

use crate::compile::directory::Identity;

/// Everything that one scrape tells, taken at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Of this program.
    pub version: String,
    /// Everything that the policy asks for is enforced.
    pub enforcing: bool,
    /// What is live, if anything is.
    pub policy: Option<LivePolicy>,
    /// Successful and refused applies.
    pub applies: Applies,
    /// The ASN database.
    pub database: Database,
    /// Configured interfaces.
    pub interfaces: Vec<Interface>,
    /// Zones of the live policy: each is shown with every action, also before its
    /// first packet.
    pub zones: Vec<String>,
    /// Counters. An identity may be there more than once, or with zeros: it is
    /// shown with the sum.
    pub counts: Vec<(Identity, Counter)>,
    /// Where the ASNs among `counts` are registered, as far as it is known.
    pub countries: BTreeMap<u32, String>,
}

/// The policy that is live.
#[derive(Clone, Debug, Default)]
pub struct LivePolicy {
    /// Hexadecimal.
    pub hash: String,
    /// Seconds since 1970.
    pub applied_at: Option<f64>,
}

/// Applies since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Applies {
    /// Successful ones.
    pub ok: u64,
    /// Refused ones.
    pub failed: u64,
    /// How long the last successful one took.
    pub last: Option<Duration>,
}

/// The ASN database.
#[derive(Clone, Copy, Debug, Default)]
pub struct Database {
    /// Prefixes that the announced IPv4 space splits into.
    pub prefixes_v4: u64,
    /// As `prefixes_v4`, of IPv6.
    pub prefixes_v6: u64,
    /// Seconds since the import; `None`: there is no database.
    pub age: Option<i64>,
    /// It is older than the configuration allows; `None`: any age is allowed.
    pub old: Option<bool>,
}

/// A configured interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// As policies call it.
    pub name: String,
    /// How the program is attached, or else how it should be.
    pub mode: String,
    /// It is attached now.
    pub attached: bool,
}
