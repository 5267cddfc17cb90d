//! The daemon's side of the control socket: who may ask, how much, how long, and
//! in which version. What is asked goes to a handler, one request after the other
//! for each connection.
//!
//! There are two sockets: one for root and those who may change things, one beside it
//! for those who may only ask. The kernel lets in by the group of the file; credentials
//! are looked at besides. Nobody waits to be let in: whoever holds his share of
//! connections and is silent makes way, and root has a room of its own. What one client says,
//! once it is let in, is for its [`guest`].

mod guest;

use std::{
    fs::File,
    io,
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use nix::unistd::{Gid, Group, chown};
use tokio::{net::UnixListener, sync::Semaphore};

use self::guest::{Guest, encode, error};
use super::{
    peer::{Peer, is_root},
    protocol::{Answer, Request, Right},
    read_socket,
    receive::Connection,
};
use crate::{
    datapath::system,
    diagnostic::quoted,
    room::{Room, Size},
};

/// Of root, and of whoever the daemon runs as.
const ROOT: Size = Size {
    each: 64,
    all: 64,
    stretches: true,
};
/// Of all other users.
const OTHERS: Size = Size {
    each: 8,
    all: 32,
    stretches: false,
};
/// Requests that are large and worked on at a time, of root and of all others.
const LARGE: usize = 2;

/// Before what is in the way of a socket is looked at again.
const AGAIN: Duration = Duration::from_secs(2);

/// How long things may take.
#[derive(Clone, Copy)]
struct Times {
    /// For a whole request to arrive, and for an answer to be taken.
    client: Duration,
    /// For the system to say which groups a user is in: it may ask a directory on the
    /// network.
    groups: Duration,
}

const TIMES: Times = Times {
    client: Duration::from_secs(10),
    groups: Duration::from_secs(5),
};

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
    /// What the client opened and sent with it.
    pub files: Vec<File>,
}

/// Who answers.
pub type Handler = Arc<dyn Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync>;

/// The sockets; removed when dropped.
#[derive(Debug)]
pub struct Server {
    main: Door,
    read: Option<Door>,
    /// What is in the way of the other is waited for.
    wanted: Option<Wanted>,
}

/// A socket of those who may only ask, which is not there yet.
#[derive(Debug)]
struct Wanted {
    path: PathBuf,
    gid: Gid,
    groups: Vec<Gid>,
    group: String,
}

impl Wanted {
    fn bind(&self) -> Result<Door, ServerError> {
        let groups = self.groups.clone();
        Door::bind(&self.path, Some(self.gid), groups, Right::Read, &self.group)
    }
}

/// One of them.
#[derive(Debug)]
struct Door {
    listener: UnixListener,
    path: PathBuf,
    /// Members may come in.
    groups: Vec<Gid>,
    /// To do this.
    right: Right,
    /// What it is called in messages.
    group: String,
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Server {
    /// Binds the sockets; those that a dead daemon left are replaced. Needs a runtime.
    ///
    /// Members of `group` may change things, members of `read_group` may only ask, on a
    /// socket beside `path` that is there if the group is. Where that one cannot be had,
    /// the log says so, and it is tried again while the other is served.
    ///
    /// It may take long: the system may ask a directory on the network for the groups.
    ///
    /// # Errors
    /// When somebody listens at `path`, or the system says no.
    pub fn bind(path: &Path, group: &str, read_group: &str) -> Result<Self, ServerError> {
        let find = |name: &str| Group::from_name(name).ok().flatten().map(|group| group.gid);
        let (change, read) = (find(group), find(read_group));
        let main = Door::bind(
            path,
            change,
            change.into_iter().collect(),
            Right::Change,
            group,
        )?;
        if change.is_none() {
            tracing::info!("there is no group `{group}`: only root may use the socket");
        }
        let beside = read_socket(path);
        let (read, wanted) = match read {
            Some(gid) => {
                let wanted = Wanted {
                    path: beside,
                    gid,
                    // Who may change things may ask on the other.
                    groups: change.into_iter().chain([gid]).collect(),
                    group: read_group.to_owned(),
                };
                match wanted.bind() {
                    Ok(door) => (Some(door), None),
                    Err(e) => {
                        tracing::error!(
                            "members of `{read_group}` cannot ask: {e}; it is tried again"
                        );
                        (None, Some(wanted))
                    }
                }
            }
            None => {
                // Of a daemon that had the group.
                if std::fs::symlink_metadata(&beside).is_ok_and(|f| f.file_type().is_socket()) {
                    let _ = std::fs::remove_file(&beside);
                }
                (None, None)
            }
        };
        Ok(Self { main, read, wanted })
    }

    /// Answers until dropped.
    pub async fn serve(&self, handler: Handler) {
        self.serve_within(TIMES, handler).await;
    }

    async fn serve_within(&self, times: Times, handler: Handler) {
        let hall = Arc::new(Hall {
            root: Quarter::new(ROOT),
            others: Quarter::new(OTHERS),
            times,
        });
        let read = async {
            if let Some(door) = &self.read {
                door.serve(&hall, &handler).await;
            }
            let Some(wanted) = &self.wanted else { return };
            loop {
                tokio::time::sleep(AGAIN).await;
                if let Ok(door) = wanted.bind() {
                    tracing::info!("members of `{}` can ask", wanted.group);
                    door.serve(&hall, &handler).await;
                }
            }
        };
        tokio::join!(self.main.serve(&hall, &handler), read);
    }
}

/// Where clients of both sockets are.
struct Hall {
    root: Quarter,
    others: Quarter,
    times: Times,
}

struct Quarter {
    room: Arc<Room<u32>>,
    large: Semaphore,
}

impl Quarter {
    fn new(size: Size) -> Self {
        Self {
            room: Room::new(size),
            large: Semaphore::new(LARGE),
        }
    }
}

impl Hall {
    fn of(&self, uid: u32) -> &Quarter {
        if is_root(uid) {
            &self.root
        } else {
            &self.others
        }
    }
}

impl Door {
    fn bind(
        path: &Path,
        owner: Option<Gid>,
        groups: Vec<Gid>,
        right: Right,
        group: &str,
    ) -> Result<Self, ServerError> {
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
        // Bound under a name nobody knows, so that it is never there with other rights.
        let fresh = path.with_extension("new");
        let _ = std::fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(0o660);
        let placed = std::fs::set_permissions(&fresh, mode)
            .and_then(|()| match owner {
                Some(owner) => Ok(chown(&fresh, None, Some(owner))?),
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
            groups,
            right,
            group: group.to_owned(),
        })
    }

    async fn serve(&self, hall: &Arc<Hall>, handler: &Handler) {
        let mut failed = false;
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(e) => {
                    if !failed {
                        tracing::warn!("cannot accept control connections: {e}");
                    }
                    failed = true;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            failed = false;
            let Ok(credentials) = stream.peer_cred() else {
                continue;
            };
            let Some(seat) = hall.of(credentials.uid()).room.enter(credentials.uid()) else {
                let busy = error(
                    "too many commands of yours, or of other users, are under way",
                    Some("try again when they have ended; root is always let in"),
                );
                // Nothing was ever written to it, so there is room for a line.
                let _ = stream.try_write(&encode(busy));
                continue;
            };
            let beside = system::peer_groups(stream.as_fd()).unwrap_or_default();
            let guest = Guest {
                beside: beside.into_iter().map(Gid::from_raw).collect(),
                connection: Connection::new(stream),
                seat,
                credentials,
                groups: self.groups.clone(),
                group: self.group.clone(),
                right: self.right,
            };
            let (hall, handler) = (Arc::clone(hall), Arc::clone(handler));
            tokio::spawn(async move {
                if let Err(e) = guest.converse(&hall, handler).await {
                    tracing::debug!("control connection: {e}");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
