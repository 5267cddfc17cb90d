//! The control socket: what the CLI and the daemon say to each other.
pub mod protocol;
