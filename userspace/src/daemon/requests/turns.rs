//! How much of what takes memory and time is worked on at once: questions that go through
//! the database or load a program, and files that are read. Root's and those of all others
//! are apart, so that nobody makes root wait.

use std::sync::Arc;

use crate::control::{peer::Peer, protocol::Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Questions at a time.
const QUESTIONS: usize = 2;
/// Requests whose files are read, at a time: each may take as much memory as an import.
const FILES: usize = 1;

/// Of root, and of all others.
#[derive(Debug)]
pub(crate) struct Turns([Queues; 2]);

#[derive(Debug)]
struct Queues {
    questions: Arc<Semaphore>,
    files: Arc<Semaphore>,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self([(); 2].map(|()| Queues {
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            files: Arc::new(Semaphore::new(FILES)),
        }))
    }

    /// Waits until it is this request's turn; it ends with what is returned.
    pub(crate) async fn of(&self, request: &Request, by: &Peer) -> Option<OwnedSemaphorePermit> {
        let queues = &self.0[usize::from(!by.is_root())];
        let queue = match request {
            Request::Lookup { .. } | Request::Explain(_) => &queues.questions,
            // They take a thread each, meanwhile.
            Request::Status | Request::History | Request::Flows(_) | Request::Unwritten
                if !by.is_root() =>
            {
                &queues.questions
            }
            Request::AsndbImport { .. } | Request::AsndbDiff { .. } => &queues.files,
            // Others wait for each other here; then for the update that is under way.
            Request::AsndbUpdate { .. } if !by.is_root() => &queues.files,
            _ => return None,
        };
        Arc::clone(queue).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn nobody_makes_root_wait() {
        let turns = Turns::new();
        let peer = |uid: u32| Peer {
            uid,
            gid: 0,
            pid: None,
            name: uid.to_string(),
            login: None,
        };
        let (root, other) = (peer(0), peer(4_000_000_001));
        let lookup = Request::Lookup {
            query: "x".into(),
            limit: None,
        };
        let import = Request::AsndbDiff {
            asn: vec!["x".into()],
            countries: Vec::new(),
        };
        let all = [
            (&lookup, QUESTIONS),
            (&Request::Status, QUESTIONS),
            (&import, FILES),
        ];
        for (request, at_once) in all {
            let turn = |by: &Peer| turns.of(request, by).now_or_never();
            let mut held: Vec<_> = (0..at_once).map(|_| turn(&other).unwrap()).collect();
            assert!(turn(&other).is_none());
            assert!(turn(&root).is_some());
            held.pop();
            assert!(turn(&other).unwrap().is_some());
        }
        // Root's wait for nothing.
        for _ in 0..100 {
            let status = turns.of(&Request::Status, &root).now_or_never();
            assert!(status.unwrap().is_none());
        }
    }
}
