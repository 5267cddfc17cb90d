//! Counters as Prometheus reads them. What is measured and how it is served are
//! apart, and neither touches maps: the daemon hands over a [`Snapshot`].
//!
//! A page is made anew for each scrape from one reading of the counters, so that
//! its sums agree with each other. Names and labels are API: `docs/metrics.md`.

mod evidence;
mod ledger;
mod page;
mod render;
mod serve;
mod shown;
mod state;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use kordon_ebpf::layout::{Action, Counter};

pub use self::{
    render::render,
    serve::serve,
    shown::{Row, Shown},
};
use crate::{asn::AsnInfo, compile::directory::Identity};

/// Everything that a page is made of.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counters that have counted something.
    pub counters: Vec<(Identity, Counter)>,
    /// Zones of the live policy, which are shown before their first packet.
    pub zones: Vec<String>,
    /// Its rules: zone, rule, action; shown before their first packet, too.
    pub rules: Vec<(String, String, Action)>,
    /// What ASNs are called and where they are registered, for those in `counters` of which that
    /// is known.
    pub networks: HashMap<u32, AsnInfo>,
    /// Whether all that the policy asks for is enforced.
    pub enforcing: bool,
    /// Of the live policy, in hexadecimal.
    pub policy_hash: Option<String>,
    /// When it was applied, seconds since 1970.
    pub policy_applied: Option<i64>,
    /// How long the last successful apply took.
    pub apply: Option<Duration>,
    /// Applies since the start of the daemon: successful, failed or refused.
    pub applies: (u64, u64),
    /// Prefixes of the ASN database: IPv4, IPv6.
    pub prefixes: (u64, u64),
    /// Its age, seconds; `None`: it is empty.
    pub database_age: Option<i64>,
    /// Whether it is older than the configured maximum; `None`: there is none.
    pub database_old: Option<bool>,
    /// Why an update of the database is held back: each reason there is, and whether
    /// it is one.
    pub database_held: Vec<(&'static str, bool)>,
    /// What the last update of it failed of: each stage there is, and whether it is it.
    pub database_failing: Vec<(&'static str, bool)>,
    /// Snapshots of it that cannot be read.
    pub database_refused: u64,
    /// Updates since the start of the daemon, by what became of them.
    pub database_updates: [(&'static str, u64); 3],
    /// Configured interfaces: logical name, mode, whether the program is there and sees.
    pub interfaces: Vec<(String, &'static str, bool)>,
    /// Packets that programs on interfaces were not shown as they arrived: logical name,
    /// how, how many.
    pub missed: Vec<(String, &'static str, u64)>,
    /// How often an interface's offload was switched off: logical name.
    pub switched_off: Vec<(String, u64)>,
    /// Configured interfaces: logical name, and whether the boot guard holds what they receive.
    pub held: Vec<(String, bool)>,
    /// Zones of the live policy, and whether they had packets and have none any more.
    pub silent: Vec<(String, bool)>,
    /// Parts of what was live before the start: whether what was kept of each is lost.
    pub state_lost: Vec<(&'static str, bool)>,
    /// Files of the state that were damaged, and written anew from their copies.
    pub state_repaired: u64,
    /// Whether changes can be kept, and have been.
    pub state_writable: bool,
    /// Whether the live policy is on trial.
    pub trial: bool,
    /// Live BGP; `None`: not configured.
    pub bgp: Option<Bgp>,
    /// What cameras sent since the daemon started.
    pub cameras: Vec<Row<String>>,
    /// The ledger; `None`: it cannot be read.
    pub ledger: Option<Ledger>,
    /// The log of evidence; `None`: not configured.
    pub evidence: Option<Evidence>,
}

/// The ledger.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// What is in some record or line, by zone and action, since the pins were made.
    pub recorded: Vec<(String, Action, Counter)>,
    /// What found no room in the ring, likewise; without a zone: whose is not known.
    pub lost: Vec<(String, Action, Counter)>,
    /// Records since the daemon started.
    pub records: u64,
    /// Packets beyond the budgets of their sources, since then.
    pub others: u64,
    /// Lines in use.
    pub used: u64,
    /// Lines that there are.
    pub all: u64,
    /// Age of the oldest flow in a line, seconds.
    pub oldest: Option<f64>,
}

/// The log of evidence.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Each part, and whether it does not go as it should.
    pub failing: Vec<(&'static str, bool)>,
    /// Records that are written; `None`: not known.
    pub records: Option<u64>,
    /// Those of them that are signed.
    pub signed: Option<u64>,
    /// Those of these that are in the history; `None`: nobody has looked yet.
    pub history: Option<u64>,
    /// When the last one was written.
    pub last: Option<Timestamp>,
    /// What could not be written since the daemon started.
    pub missed: Option<Counter>,
    /// When a checkpoint was brought outside last, since the daemon started.
    pub witnessed: Option<Timestamp>,
    /// Where records are sent on to: what it is called, how many records have arrived there or need not be sent, and
    /// whether that does not go as it should.
    pub destinations: Vec<(String, Option<u64>, bool)>,
}

impl Evidence {
    /// The part that fails where there is no log although one is asked for.
    pub const OPENING: &str = "opening";

    /// There is none.
    #[must_use]
    pub fn unopened() -> Self {
        Self {
            failing: vec![(Self::OPENING, true)],
            ..Self::default()
        }
    }
}

/// Live BGP.
#[derive(Clone, Debug, Default)]
pub struct Bgp {
    /// Routers that are connected.
    pub sessions: usize,
    /// Tables of peers by state: up, down, stale.
    pub peers: [(&'static str, usize); 3],
    /// Routes of all peers: IPv4, IPv6.
    pub routes: (usize, usize),
    /// Prefixes in effect: IPv4, IPv6.
    pub prefixes: (usize, usize),
    /// Changes that wait.
    pub waiting: usize,
    /// Since the start of the daemon.
    pub counts: crate::bmp::feed::Counts,
    /// Connections that were turned away.
    pub refused: u64,
    /// How long the last change took from here to the kernel.
    pub apply: Option<Duration>,
    /// Changes that could not be brought to the kernel.
    pub failures: u64,
    /// Changes that came into the kernel's table in place.
    pub in_place: u64,
}
