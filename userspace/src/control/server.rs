//! The daemon's side of the control socket: who may ask, how much, how long, and
//! in which version. What is asked goes to a handler, one request after the other
//! for each connection.

use std::{
    ffi::CString,
    future::Future,
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::unistd::{Gid, Group, Uid, User, chown, getgrouplist};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream, unix::UCred},
    sync::Semaphore,
    time::timeout,
};

use super::{
    OTHER_VERSION,
    peer::Peer,
    protocol::{Answer, Envelope, MAX_MESSAGE, PROTOCOL_VERSION, Request},
};
use crate::diagnostic::{Diagnostics, quoted};

/// Connections at a time; each may hold a message of [`MAX_MESSAGE`].
const CONNECTIONS: usize = 8;
/// For a whole request to arrive, or an answer to be taken.
const IDLE: Duration = Duration::from_secs(30);

/// A socket could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another daemon answers there.
    #[error("another daemon listens on {}; stop it, or give this one another socket", quoted(.0))]
    Taken(String),
    /// There is something that is no socket.
    #[error("{} is not a socket; remove it, or name another path", quoted(.0))]
    NoSocket(String),
    /// The system said no.
    #[error("cannot listen on {}: {source}", quoted(.path))]
    Io {
        /// The socket.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A request, and who asks.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// By whom.
    pub peer: Peer,
}

/// A socket that is removed when dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    group: Option<Gid>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Server {
    /// Binds the socket; one that a dead daemon left is replaced. Needs a runtime.
    ///
    /// # Errors
    /// When somebody listens there, or the system says no.
    pub fn bind(path: &Path, group: &str) -> Result<Self, ServerError> {
        let name = path.display().to_string();
        let failed = |source| ServerError::Io {
            path: name.clone(),
            source,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(ServerError::NoSocket(name));
            }
            Ok(_) => {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(ServerError::Taken(name));
                }
                std::fs::remove_file(path).map_err(failed)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
        let group = match Group::from_name(group) {
            Ok(Some(group)) => Some(group.gid),
            _ => {
                tracing::info!("there is no group `{group}`: only root may use the socket");
                None
            }
        };
        // Bound under a name nobody knows, so that it is never there with other rights.
        let fresh = path.with_extension("new");
        let _ = std::fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(0o660);
        let placed = std::fs::set_permissions(&fresh, mode)
            .and_then(|()| match group {
                Some(group) => Ok(chown(&fresh, None, Some(group))?),
                None => Ok(()),
            })
            .and_then(|()| std::fs::rename(&fresh, path));
        if let Err(e) = placed {
            let _ = std::fs::remove_file(&fresh);
            return Err(failed(e));
        }
        Ok(Self {
            listener,
            path: path.into(),
            group,
        })
    }

    /// Answers until dropped.
    pub async fn serve<H, F>(&self, handler: H)
    where
        H: Fn(Call) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!("cannot accept a control connection: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let handler = handler.clone();
            let group = self.group;
            tokio::spawn(async move {
                let _permit = permit;
                if let Err(e) = converse(stream, group, handler).await {
                    tracing::debug!("control connection: {e}");
                }
            });
        }
    }
}

async fn converse<H, F>(stream: UnixStream, group: Option<Gid>, handler: H) -> io::Result<()>
where
    H: Fn(Call) -> F,
    F: Future<Output = Answer>,
{
    let credentials = stream.peer_cred()?;
    let allowed = may_ask(&credentials, group);
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    if !allowed {
        let answer = error(
            "permission denied",
            Some("be root or a member of the group"),
        );
        return say(&mut write, &answer).await;
    }
    let peer = Peer::of(&credentials).await;
    let mut line = Vec::new();
    loop {
        line.clear();
        match timeout(IDLE, read_line(&mut read, &mut line, MAX_MESSAGE)).await {
            Err(_) => return Ok(()),
            Ok(Err(e)) if e.kind() == io::ErrorKind::InvalidData => {
                return say(&mut write, &error(e.to_string(), None)).await;
            }
            Ok(Err(e)) => return Err(e),
            Ok(Ok(false)) => return Ok(()),
            Ok(Ok(true)) => {}
        }
        let answer = match request(&line) {
            Ok(request) => {
                // Files of a policy are not kept twice while they are worked on.
                line = Vec::new();
                let peer = peer.clone();
                handler(Call { request, peer }).await
            }
            Err(answer) => answer,
        };
        say(&mut write, &answer).await?;
    }
}

/// Reads a line of at most `longest` bytes; `false` at the end.
async fn read_line(
    read: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    longest: usize,
) -> io::Result<bool> {
    loop {
        let chunk = read.fill_buf().await?;
        if chunk.is_empty() {
            return if line.is_empty() {
                Ok(false)
            } else {
                Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the request ends in the middle",
                ))
            };
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(chunk.len(), |end| end + 1);
        if line.len() + taken > longest {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the request is longer than {longest} bytes"),
            ));
        }
        line.extend_from_slice(&chunk[..taken]);
        read.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

async fn say(write: &mut (impl tokio::io::AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(answer)?;
    if bytes.len() >= MAX_MESSAGE {
        let short = error("the answer is too long", Some("ask for less"));
        bytes = serde_json::to_vec(&short)?;
    }
    bytes.push(b'\n');
    timeout(IDLE, write.write_all(&bytes))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// The version is looked at first: what else another version says may not be
/// understood.
fn request(line: &[u8]) -> Result<Request, Answer> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let malformed = |e: serde_json::Error| {
        error(
            format!("the request is not understood: {e}"),
            Some("use the `kordon` command of the daemon's version"),
        )
    };
    let Version { version } = serde_json::from_slice(line).map_err(malformed)?;
    if version != PROTOCOL_VERSION {
        return Err(error(
            format!(
                "{OTHER_VERSION}{PROTOCOL_VERSION} of the control protocol, this command version {version}"
            ),
            Some("restart the daemon so that both are of one version"),
        ));
    }
    let envelope: Envelope = serde_json::from_slice(line).map_err(malformed)?;
    Ok(envelope.request)
}

fn error(message: impl Into<String>, help: Option<&str>) -> Answer {
    Answer::Error {
        message: message.into(),
        help: help.map(str::to_owned),
        diagnostics: Diagnostics::default(),
    }
}

/// Root, whoever the daemon runs as, and members of the group. The file's mode
/// says the same; this holds where the file was opened up by mistake.
fn may_ask(peer: &UCred, group: Option<Gid>) -> bool {
    let uid = Uid::from_raw(peer.uid());
    if uid.is_root() || uid == nix::unistd::geteuid() {
        return true;
    }
    let Some(group) = group else { return false };
    let primary = Gid::from_raw(peer.gid());
    if primary == group {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(uid) else {
        return false;
    };
    CString::new(user.name)
        .ok()
        .and_then(|name| getgrouplist(&name, user.gid).ok())
        .is_some_and(|groups| groups.contains(&group))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader as StdReader, Read as _, Write as _};

    use super::*;
    use crate::control::client::{ClientError, ask};

    async fn read(text: &[u8], longest: usize) -> io::Result<(bool, Vec<u8>)> {
        let mut line = Vec::new();
        let more = read_line(&mut BufReader::new(text), &mut line, longest).await?;
        Ok((more, line))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn lines_are_bounded() {
        assert_eq!(read(b"ab\nc", 3).await.unwrap(), (true, b"ab\n".to_vec()));
        assert!(!read(b"", 3).await.unwrap().0);
        let error = read(b"abc\n", 3).await.unwrap_err().to_string();
        assert_eq!(error, "the request is longer than 3 bytes");
        let error = read(b"abc", 9).await.unwrap_err().to_string();
        assert_eq!(error, "the request ends in the middle");
    }

    #[test]
    fn versions_are_checked_before_requests() {
        let answer = request(br#"{"version":99,"request":{"do":"dance"}}"#).unwrap_err();
        let Answer::Error { message, .. } = answer else {
            panic!("{answer:?}")
        };
        assert!(message.starts_with(OTHER_VERSION), "{message}");
        assert!(request(br#"{"version":1,"request":{"do":"dance"}}"#).is_err());
        assert!(request(b"\xff").is_err());
        assert!(request(b"{}").is_err());
        let good = request(br#"{"version":1,"request":{"do":"status"}}"#).unwrap();
        assert_eq!(good, Request::Status);
    }

    fn serve(test: impl FnOnce(&Path) + Send + 'static) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        // What a killed daemon leaves behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let server = Server::bind(&path, "no-such-group").unwrap();
            let second = Server::bind(&path, "no-such-group").unwrap_err();
            assert!(matches!(second, ServerError::Taken(_)), "{second}");
            let handler = |call: Call| async move {
                match call.request {
                    Request::Status => Answer::Ok(serde_json::json!({"enforcing": true})),
                    _ => error("no", Some("ask something else")),
                }
            };
            let client = path.clone();
            let client = tokio::task::spawn_blocking(move || test(&client));
            tokio::select! {
                () = server.serve(handler) => {}
                result = client => result.unwrap(),
            }
        });
        assert!(!path.exists());
    }

    #[test]
    fn questions_are_answered() {
        serve(|path| {
            assert_eq!(ask(path, &Request::Status).unwrap()["enforcing"], true);
            let refused = ask(path, &Request::Confirm).unwrap_err();
            assert!(matches!(refused, ClientError::Refused { .. }), "{refused}");
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o660);
        });
    }

    #[test]
    fn nonsense_is_answered_and_the_connection_goes_on() {
        serve(|path| {
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            let mut read = StdReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            for question in ["nonsense\n", "{\"version\":2}\n"] {
                stream.write_all(question.as_bytes()).unwrap();
                line.clear();
                read.read_line(&mut line).unwrap();
                assert!(line.starts_with("{\"error\""), "{line}");
            }
            let question = b"{\"version\":1,\"request\":{\"do\":\"status\"}}\n";
            stream.write_all(question).unwrap();
            line.clear();
            read.read_line(&mut line).unwrap();
            assert_eq!(line, "{\"ok\":{\"enforcing\":true}}\n");
            stream.write_all(b"half").unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            line.clear();
            read.read_to_string(&mut line).unwrap();
            assert!(line.contains("ends in the middle"), "{line}");
        });
    }

    #[test]
    fn nobody_there() {
        let folder = tempfile::tempdir().unwrap();
        let error = ask(&folder.path().join("s"), &Request::Status).unwrap_err();
        assert!(matches!(error, ClientError::NoDaemon { .. }), "{error}");
        assert!(error.to_string().contains("systemctl start"), "{error}");
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(async { Server::bind(&file, "g").unwrap_err() });
        assert!(matches!(error, ServerError::NoSocket(_)), "{error}");
    }
}
