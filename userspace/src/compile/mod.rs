//! Policy and ASN database in, the image of a generation out.

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
