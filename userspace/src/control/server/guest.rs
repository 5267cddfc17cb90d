//! A client that was let in: what it asks, one request after the other, and what it is told.

use std::io;

use nix::unistd::Gid;
use serde::Deserialize;
use tokio::{net::unix::UCred, task::spawn_blocking, time::timeout};

use super::{Call, Hall, Handler, Times};
use crate::{
    control::{
        OTHER_VERSION,
        peer::{Peer, is_member, is_root},
        protocol::{Answer, Envelope, MAX_MESSAGE, MAX_QUESTION, PROTOCOL_VERSION, Request, Right},
        receive::{Allowance, Connection},
        refusal::Refusal,
    },
    room::Seat,
};

/// A client that was let in.
pub(super) struct Guest {
    pub(super) connection: Connection,
    pub(super) seat: Seat<u32>,
    pub(super) credentials: UCred,
    /// Groups of the process, beside its own.
    pub(super) beside: Vec<Gid>,
    /// Members may come in.
    pub(super) groups: Vec<Gid>,
    pub(super) group: String,
    pub(super) right: Right,
}

impl Guest {
    pub(super) async fn converse(mut self, hall: &Hall, handler: Handler) -> io::Result<()> {
        let times = hall.times;
        if !self.may_ask(times).await {
            let help = format!("be root or a member of the group `{}`", self.group);
            return self
                .say(error("permission denied", Some(&help)), times)
                .await;
        }
        let mut peer = Peer::of(&self.credentials).await;
        let allowance = Allowance {
            longest: match self.right {
                Right::Change => MAX_MESSAGE,
                Right::Read => MAX_QUESTION,
            },
            files: self.right == Right::Change,
            large: &hall.of(peer.uid).large,
        };
        loop {
            self.seat.set_idle(true);
            let received = tokio::select! {
                received = timeout(times.client, self.connection.receive(&allowance)) => received,
                () = self.seat.lost() => return Ok(()),
            };
            self.seat.set_idle(false);
            let mut received = match received {
                Err(_) | Ok(Ok(None)) => return Ok(()),
                Ok(Err(e)) if e.kind() == io::ErrorKind::InvalidData => {
                    return self.say(error(e.to_string(), None), times).await;
                }
                Ok(Err(e)) => return Err(e),
                Ok(Ok(Some(received))) => received,
            };
            let asked = request(&received.line)
                .and_then(|asked| Ok((asked.login, self.allowed(asked.request)?)));
            let answer = match asked {
                Ok((login, request)) => {
                    peer.for_login(login).await;
                    // Files of a policy are not kept twice while they are worked on.
                    received.line = Vec::new();
                    let call = Call {
                        request,
                        peer: peer.clone(),
                        files: std::mem::take(&mut received.files),
                    };
                    handler(call).await
                }
                Err(answer) => answer,
            };
            drop(received);
            self.say(answer, times).await?;
        }
    }

    /// Whether this socket's clients may ask this.
    fn allowed(&self, request: Request) -> Result<Request, Answer> {
        if request.needs() <= self.right {
            return Ok(request);
        }
        Err(error(
            format!(
                "members of the group `{}` may ask, and `{}` is more than a question",
                self.group,
                request.command()
            ),
            Some(
                "be root, or a member of the group that may change things: `group` in `[control]`",
            ),
        ))
    }

    /// Root, whoever the daemon runs as, and members of the groups. The file's mode
    /// says the same; this holds where the file was opened up by mistake.
    async fn may_ask(&self, times: Times) -> bool {
        let uid = self.credentials.uid();
        let primary = Gid::from_raw(self.credentials.gid());
        if is_root(uid) || self.groups.contains(&primary) {
            return true;
        }
        let groups = self.groups.clone();
        let beside = self.beside.clone();
        let found = spawn_blocking(move || is_member(uid, &beside, &groups));
        matches!(timeout(times.groups, found).await, Ok(Ok(true)))
    }

    async fn say(&mut self, answer: Answer, times: Times) -> io::Result<()> {
        let line = encode(answer);
        self.seat.set_idle(true);
        tokio::select! {
            said = timeout(times.client, self.connection.say(&line)) => {
                said.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            }
            () = self.seat.lost() => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
        }
    }
}

/// An answer as a line.
pub(super) fn encode(answer: Answer) -> Vec<u8> {
    let bytes = |answer: &Answer| {
        serde_json::to_vec(answer).unwrap_or_else(|_| br#"{"error":{"message":""}}"#.to_vec())
    };
    let mut line = bytes(&answer);
    if line.len() >= MAX_MESSAGE {
        line = bytes(&error("the answer is too long", Some("ask for less")));
    }
    line.push(b'\n');
    line
}

/// The version is looked at first: what else another version says may not be
/// understood.
pub(super) fn request(line: &[u8]) -> Result<Envelope, Answer> {
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
    serde_json::from_slice(line).map_err(malformed)
}

pub(super) fn error(message: impl Into<String>, help: Option<&str>) -> Answer {
    Answer::Error(Refusal {
        message: message.into(),
        help: help.map(str::to_owned),
        ..Refusal::default()
    })
}
