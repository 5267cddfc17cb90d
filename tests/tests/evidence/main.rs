//! The log that can be proven, without a daemon: nothing that was answered is lost, and whatever somebody does to it is
//! found and named.
//!
//! - [`writing`]: torn lines, kills, a full disk; and the tree is the one of RFC 6962.
//! - [`tampering`]: lines, files and checkpoints that were changed, removed, moved or made up.
//! - [`records`]: tiles that differ, what records say of themselves, and records that the log forgets.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    reason = "a test that cannot go on fails"
)]

mod records;
mod support;
mod tampering;
mod writing;
