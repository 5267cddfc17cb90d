//! The control sockets: bound as soon as they can be, and each command answered.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::Notify, task::spawn_blocking, time::sleep};

use crate::{
    control::{
        protocol::{Answer, Request},
        server::{Call, Handler, Server},
    },
    daemon::{
        owner::Owner,
        requests::{self, turns::Turns},
    },
};

/// The control sockets, and whose they are.
#[derive(Clone)]
pub(super) struct Sockets {
    pub(super) path: PathBuf,
    pub(super) group: String,
    pub(super) read_group: String,
}

/// Binds the control sockets and answers there; `tried` hears of the first attempt. What is in
/// the way is waited for: enforcement does not depend on who can ask.
pub(super) async fn serve(sockets: Sockets, tried: &Notify, handler: Handler) {
    let mut said = String::new();
    loop {
        let Sockets {
            path,
            group,
            read_group,
        } = sockets.clone();
        let bound = spawn_blocking(move || Server::bind(&path, &group, &read_group)).await;
        tried.notify_one();
        let words = match bound {
            Ok(Ok(server)) => {
                if !said.is_empty() {
                    tracing::info!("commands are answered");
                }
                return server.serve(handler).await;
            }
            Ok(Err(e)) => e.to_string(),
            Err(e) => format!("the control socket failed inside the daemon: {e}"),
        };
        if words != said {
            tracing::error!(
                "{words}; no command is answered until then, enforcement goes on, and it is tried \
                 again"
            );
            said = words;
        }
        sleep(Duration::from_secs(2)).await;
    }
}

pub(in crate::daemon) async fn answer(
    owner: Owner,
    done: Arc<Notify>,
    turns: Arc<Turns>,
    call: Call,
) -> Answer {
    let detach = matches!(call.request, Request::Detach { .. });
    let asked = format!("`{}` of {}", call.request.command(), call.peer);
    match requests::answer(owner, &turns, call).await {
        Ok(value) => {
            if detach {
                tokio::spawn(async move {
                    // The answer first.
                    sleep(Duration::from_millis(100)).await;
                    done.notify_one();
                });
            }
            Answer::Ok(value)
        }
        Err(refusal) => {
            tracing::warn!("{asked} is refused: {}", refusal.in_words());
            Answer::Error(refusal)
        }
    }
}
