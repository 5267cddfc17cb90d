//! Who wants a change: a user of this machine, or the daemon itself, because time has passed or
//! something outside has changed. It goes into the history, and decides how a change is treated
//! that cannot be kept on disk: a user is refused and can ask again, the clock cannot.

use super::trouble::Cause;
use crate::control::peer::Peer;

/// Who wants a change.
#[derive(Clone, Debug)]
pub(super) struct By {
    /// `None`: the daemon itself.
    pub(super) peer: Option<Peer>,
    /// The command, or what happened.
    pub(super) command: String,
    /// It was asked about, and is meant.
    pub(super) yes: bool,
}

impl By {
    /// SIGHUP.
    pub(super) const RELOAD: &str = "reload";
    /// A trial has ended.
    pub(super) const UNCONFIRMED: &str = "not confirmed in time";

    pub(super) fn user(peer: &Peer, command: String, yes: bool) -> Self {
        Self {
            peer: Some(peer.clone()),
            command,
            yes,
        }
    }

    pub(super) fn daemon(what: &str) -> Self {
        Self {
            peer: None,
            command: what.to_owned(),
            yes: false,
        }
    }

    /// Doubts that it is the answer to: all, where it is meant whatever is lost.
    pub(super) fn replaces(&self, otherwise: &'static [Cause]) -> &'static [Cause] {
        const ALL: &[Cause] = &[
            Cause::Policy,
            Cause::Overlay,
            Cause::Database,
            Cause::Routes,
        ];
        if self.yes { ALL } else { otherwise }
    }

    /// Whether somebody asks for it, who can do so again. What time brings does not wait for
    /// a disk.
    pub(super) fn is_asked_for(&self) -> bool {
        self.peer.is_some() || self.command == Self::RELOAD
    }
}
