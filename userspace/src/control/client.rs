//! The CLI's side of the control socket. It blocks: a command has nothing else
//! to do.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    path::Path,
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::Value;

use super::{
    OTHER_VERSION,
    peer::own_login,
    protocol::{Answer, Envelope, MAX_FILES, MAX_MESSAGE, PROTOCOL_VERSION, Request, Right},
    read_socket,
    refusal::Refusal,
};
use crate::{config::GROUP, diagnostic::quoted};

/// How long an answer may take. An import of the whole Internet on a slow machine takes less than the longest, and so does a
/// verdict that is asked for behind others; what is known is said at once.
const fn patience(request: &Request) -> Duration {
    Duration::from_secs(match request {
        Request::Status
        | Request::History
        | Request::Flows(_)
        | Request::Unwritten
        | Request::AsndbInfo
        | Request::AsndbProgress => 20,
        _ => 300,
    })
}

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
        "cannot use the daemon's socket {}: permission denied; be root{cure}",
        quoted(.socket)
    )]
    Denied {
        /// The socket.
        socket: String,
        /// What else helps.
        cure: String,
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
    #[error(transparent)]
    Refused(Refusal),
}

/// Sends one request and waits for its answer.
///
/// # Errors
/// When nobody answers, or the answer is no.
pub fn ask(socket: &Path, request: &Request) -> Result<Value, ClientError> {
    ask_with(socket, request, &[])
}

/// Sends one request with files, which the daemon reads as they were opened here.
///
/// # Errors
/// As [`ask`].
pub fn ask_with(socket: &Path, request: &Request, files: &[File]) -> Result<Value, ClientError> {
    let name = socket.display().to_string();
    let denied = |e: &io::Error| e.kind() == io::ErrorKind::PermissionDenied;
    let stream = match UnixStream::connect(socket) {
        // Who may not change things may still ask.
        Err(e) if denied(&e) => UnixStream::connect(read_socket(socket)).map_err(|_| e),
        result => result,
    };
    let stream = stream.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Denied {
            socket: name.clone(),
            cure: cure(socket),
        },
        _ => ClientError::NoDaemon {
            socket: name.clone(),
            source,
        },
    })?;
    let answer = exchange(&stream, request, files).map_err(|source| ClientError::Broken {
        socket: name,
        source: late(source, request),
    })?;
    match answer {
        Answer::Ok(value) => Ok(value),
        Answer::Error(refusal) if refusal.message.starts_with(OTHER_VERSION) => {
            Err(ClientError::OtherVersion(refusal.message))
        }
        Answer::Error(refusal) => Err(ClientError::Refused(refusal)),
    }
}

/// What helps who may not use a socket, besides being root.
fn cure(socket: &Path) -> String {
    let Ok(metadata) = socket.metadata() else {
        return " or a member of its group (the folder that it is in cannot be entered)".to_owned();
    };
    let gid = nix::unistd::Gid::from_raw(metadata.gid());
    if gid.as_raw() == 0 {
        // To be in the group of root is more than anybody should be told to be.
        return format!(
            "; it has no group, as that of `[control]` (`{GROUP}`) was not there when the daemon \
             started: `groupadd --system {GROUP}` makes it, its members may use the socket after \
             `systemctl restart kordon`"
        );
    }
    match nix::unistd::Group::from_gid(gid) {
        Ok(Some(group)) => format!(" or a member of its group {}", quoted(&group.name)),
        _ => format!(" or a member of its group {gid}"),
    }
}

/// Whether somebody listens there.
#[must_use]
pub fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

/// What the system says when time is up says nothing to anybody.
fn late(e: io::Error, request: &Request) -> io::Error {
    match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let seconds = patience(request).as_secs();
            let words = match request.needs() {
                Right::Change => {
                    format!("no answer within {seconds} s; it goes on: `kordon status`")
                }
                Right::Read => format!(
                    "no answer within {seconds} s: it has too much to do, or hangs; `systemctl restart kordon` changes \
                     nothing that is enforced"
                ),
            };
            io::Error::new(io::ErrorKind::TimedOut, words)
        }
        _ => e,
    }
}

fn exchange(mut stream: &UnixStream, request: &Request, files: &[File]) -> io::Result<Answer> {
    let patience = patience(request);
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let envelope = Envelope {
        version: PROTOCOL_VERSION,
        request: request.clone(),
        login: own_login(),
    };
    let mut line = serde_json::to_vec(&envelope)?;
    line.push(b'\n');
    if line.len() > MAX_MESSAGE {
        return Err(io::Error::other(format!(
            "the request is larger than {} MiB",
            MAX_MESSAGE >> 20
        )));
    }
    if files.len() > MAX_FILES {
        return Err(io::Error::other(format!(
            "{} files are more than {MAX_FILES}; join them",
            files.len()
        )));
    }
    // A daemon that refuses the connection answers before it has read anything;
    // its word is worth more than `broken pipe`.
    let sent = pass(stream, &line, files).and_then(|count| stream.write_all(&line[count..]));
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

/// Sends files with as much of the line as goes at once; returns how much that was.
fn pass(stream: &UnixStream, line: &[u8], files: &[File]) -> io::Result<usize> {
    if files.is_empty() {
        return Ok(0);
    }
    let files: Vec<BorrowedFd<'_>> = files.iter().map(File::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    beside.push(SendAncillaryMessage::ScmRights(&files));
    let sent = sendmsg(
        stream,
        &[IoSlice::new(line)],
        &mut beside,
        SendFlags::NOSIGNAL,
    )?;
    Ok(sent)
}
