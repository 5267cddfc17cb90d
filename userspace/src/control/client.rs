//! The CLI's side of the control socket. It blocks: a command has nothing else
//! to do.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use super::{
    OTHER_VERSION,
    protocol::{Answer, Envelope, MAX_MESSAGE, PROTOCOL_VERSION, Request},
};
use crate::diagnostic::{Diagnostics, quoted};

/// An import of the whole Internet on a slow machine takes less.
const PATIENCE: Duration = Duration::from_secs(300);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "cannot reach the daemon at {}: {source}; `systemctl start kordon` starts it, `--socket` names another socket",
        quoted(.socket)
    )]
    NoDaemon {
        /// The socket.
        socket: String,
        /// What the system said.
        source: io::Error,
    },
    /// The user is not allowed to ask.
    #[error(
        "cannot use the daemon's socket {}: permission denied; be root or a member of its group",
        quoted(.socket)
    )]
    Denied {
        /// The socket.
        socket: String,
    },
    /// It went away, or says something that is no answer.
    #[error("cannot talk to the daemon at {}: {source}", quoted(.socket))]
    Broken {
        /// The socket.
        socket: String,
        /// What happened.
        source: io::Error,
    },
    /// The daemon is older or newer.
    #[error("{0}; restart the daemon so that both are of one version")]
    OtherVersion(String),
    /// It was not done, and nothing changed.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
        /// What would cure it.
        help: Option<String>,
        /// Findings in files.
        diagnostics: Diagnostics,
    },
}

/// Sends one request and waits for its answer.
///
/// # Errors
/// When nobody answers, or the answer is no.
pub fn ask(socket: &Path, request: &Request) -> Result<Value, ClientError> {
    let name = socket.display().to_string();
    let stream = UnixStream::connect(socket).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Denied {
            socket: name.clone(),
        },
        _ => ClientError::NoDaemon {
            socket: name.clone(),
            source,
        },
    })?;
    let answer = exchange(&stream, request).map_err(|source| ClientError::Broken {
        socket: name,
        source,
    })?;
    match answer {
        Answer::Ok(value) => Ok(value),
        Answer::Error { message, .. } if message.starts_with(OTHER_VERSION) => {
            Err(ClientError::OtherVersion(message))
        }
        Answer::Error {
            message,
            help,
            diagnostics,
        } => Err(ClientError::Refused {
            message,
            help,
            diagnostics,
        }),
    }
}

fn exchange(mut stream: &UnixStream, request: &Request) -> io::Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let envelope = Envelope {
        version: PROTOCOL_VERSION,
        request: request.clone(),
    };
    let mut line = serde_json::to_vec(&envelope)?;
    line.push(b'\n');
    if line.len() > MAX_MESSAGE {
        return Err(io::Error::other(format!(
            "the request is larger than {} MiB",
            MAX_MESSAGE >> 20
        )));
    }
    // A daemon that refuses the connection answers before it has read anything;
    // its word is worth more than `broken pipe`.
    let sent = stream.write_all(&line);
    let mut answer = Vec::new();
    BufReader::new(stream)
        .take(MAX_MESSAGE as u64)
        .read_until(b'\n', &mut answer)?;
    if answer.is_empty() {
        sent?;
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it closed the connection without an answer",
        ));
    }
    serde_json::from_slice(&answer).map_err(|e| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it says something that is no answer: {e}"),
        )
    })
}
