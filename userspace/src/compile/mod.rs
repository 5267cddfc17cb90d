//! Policy and ASN database in, what the kernel holds out.
//!
//! - [`partition`]: address → class; [`table`]: the same as nodes and lines, the class plane.
//! - [`generation`]: class → kind → group → a verdict word for each zone.
//! - [`plane`]: the most frequent verdict words by /24 and /60, the verdict planes.
//! - [`amend`]: table and planes changed while they are live.
//! - [`directory`]: whose each counter is.

pub mod amend;
pub mod directory;
pub mod generation;
pub mod partition;
pub mod plane;
pub mod table;

/// What a thread came to, or its panic.
pub(crate) fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    let result = thread.join();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
