//! What is in the kernel: programs, maps, links, generations. [`kernel`] has the type that holds all of it,
//! `Datapath`.
//!
//! - Maps: [`memory`] (mapped), `maps` (of a tier), `shared` (counters and directory), [`pins`] (where they are
//!   pinned), `held` (pinned again), [`system`] (`bpf(2)`).
//! - A change: [`publish`] (a generation made live), [`amend`] (the live table in place), [`probe`] (the program over
//!   candidate maps), `clock` (jiffies, which say when a change is over), `faults` (failures, in tests).
//! - Programs: [`programs`] (the object files), `loader` (what loads them), `loaded` and `preload` (over the live maps), `refused` (what the
//!   verifier said).
//! - Interfaces: [`attach`] (XDP), [`guard`], `filter`, `guard_paths` and `ingress` (tc), [`offload`] (hardware and tags),
//!   [`interface`] (what one is), `foreign` (programs of others).
//! - Reading: [`reader`] (beside a change), [`ledger`], [`left`] (without a controller). `detach`: all of it taken out.
//!
//! Only images enter here: nothing in this module knows what a policy or a database is.

pub mod amend;
pub mod attach;
mod clock;
mod detach;
pub(crate) mod faults;
mod filter;
mod foreign;
pub mod guard;
mod guard_paths;
mod held;
mod ingress;
pub mod interface;
pub mod kernel;
pub mod ledger;
pub mod left;
mod loaded;
mod loader;
mod maps;
pub mod memory;
pub mod offload;
pub mod pins;
mod preload;
pub mod probe;
pub mod programs;
pub mod publish;
pub mod reader;
mod refused;
mod shared;
pub mod system;

/// How a program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

impl Attached {
    /// The word in messages, metrics and `--json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// What was tried, and what the kernel said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}: {source}")]
pub struct DatapathError {
    operation: String,
    source: Box<dyn std::error::Error + Send + Sync>,
    costly: bool,
}

impl DatapathError {
    /// Names the operation that failed.
    pub fn new(
        operation: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            operation: operation.into(),
            source: source.into(),
            costly: false,
        }
    }

    /// Says that it took a program to find out.
    fn costly(mut self) -> Self {
        self.costly = true;
        self
    }

    /// Whether trying again at once is a waste: each time a program goes through the
    /// verifier, for which some processors take a second.
    #[must_use]
    pub fn is_costly(&self) -> bool {
        self.costly
    }
}

/// An error with all its causes; aya's first line alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
