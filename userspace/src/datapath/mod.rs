//! What is in the kernel: programs, maps, links, generations.
//!
//! [`memory`] writes maps, [`probe`] runs the program over candidate maps,
//! [`kernel`] keeps what is live. Only images enter here: nothing in this module
//! knows what a policy or a database is.

pub mod kernel;
pub mod memory;
pub mod probe;
pub mod programs;

/// What was tried, and what the kernel said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}: {source}")]
pub struct DatapathError {
    operation: String,
    source: Box<dyn std::error::Error + Send + Sync>,
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
        }
    }
}
