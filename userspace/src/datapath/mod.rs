//! What is in the kernel: programs, maps, links, generations.
//!
//! [`memory`] writes maps, [`probe`] runs the program over candidate maps,
//! [`kernel`] keeps what is live, [`guard`] watches what comes behind a program. Only images enter here: nothing in this module
//! knows what a policy or a database is.

pub mod amend;
pub mod attach;
mod clock;
pub(crate) mod faults;
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
