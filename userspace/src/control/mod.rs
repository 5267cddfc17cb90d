//! The control socket: what the CLI and the daemon say to each other.
//!
//! [`protocol`] are the messages; [`server`] bounds and checks what comes in (`receive`
//! reads it) and knows nothing of what it means; [`peer`] is who asks; [`client`] asks one
//! question, and [`refusal`] is the answer that is none.

use std::path::{Path, PathBuf};

pub mod client;
pub mod peer;
pub mod protocol;
mod receive;
pub mod refusal;
pub mod server;

/// How the answer to a client of another version begins.
const OTHER_VERSION: &str = "the daemon speaks version ";

/// The socket for those who may only ask, beside the one for all: `kordon-read.sock`
/// beside `kordon.sock`.
#[must_use]
pub fn read_socket(socket: &Path) -> PathBuf {
    let mut name = socket.file_stem().unwrap_or_default().to_owned();
    name.push("-read");
    if let Some(extension) = socket.extension() {
        name.push(".");
        name.push(extension);
    }
    socket.with_file_name(name)
}
