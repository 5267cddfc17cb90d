//! The control socket: what the CLI and the daemon say to each other.
//!
//! [`protocol`] are the messages; [`server`] bounds and checks what comes in and
//! knows nothing of what it means; [`peer`] is who asks; [`client`] asks one question.

pub mod client;
pub mod peer;
pub mod protocol;
pub mod server;

/// How the answer to a client of another version begins.
const OTHER_VERSION: &str = "the daemon speaks version ";
