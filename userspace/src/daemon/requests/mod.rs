//! What is asked of the daemon: questions are answered from the [`View`], beside the core, and
//! the rest is for it. So `block` goes to the core, and `status` is answered from the view.
//!
//! [`turns`]: how many at once; [`received`]: files from clients; [`update`]: another database, of
//! which most is made beside the core, too.

pub(super) mod received;
pub(super) mod turns;
pub(super) mod update;

use serde_json::Value;
use tokio::task::spawn_blocking;

use self::{received::Received, turns::Turns};
use super::{by::By, core::Core, owner::Owner, refusal::Refusal, status::View};
use crate::{
    control::{protocol::Request, server::Call},
    diagnostic::Problem,
    judge::{Engine, ExplainQuery, Router, explain, ports},
    lookup::{LIMIT, MAX_LIMIT, lookup},
    policy,
};

/// Does what was asked, with the core or beside it. What waits for the core takes no thread.
pub(super) async fn answer(owner: Owner, turns: &Turns, call: Call) -> Result<Value, Refusal> {
    if !is_beside(&call.request) {
        let Call { request, peer, .. } = call;
        let what = format!("`{}` of {peer}", request.command());
        let work = move |core: &mut Core| core.perform(request, &peer);
        return owner.request(&what, work).await?;
    }
    let turn = turns.of(&call.request, &call.peer).await;
    let job = spawn_blocking(move || {
        let _turn = turn;
        beside(&owner, call)
    });
    job.await.unwrap_or_else(|e| {
        Err(Refusal::new(
            format!("the operation failed inside the daemon: {e}"),
            "its log says more; restarting it changes nothing that is enforced",
        ))
    })
}

/// Whether it needs no core, or not all the time.
const fn is_beside(request: &Request) -> bool {
    matches!(
        request,
        Request::Status
            | Request::History
            | Request::AsndbInfo
            | Request::Explain(_)
            | Request::Flows(_)
            | Request::Unwritten
            | Request::Lookup { .. }
            | Request::AsndbImport { .. }
            | Request::AsndbUpdate { .. }
            | Request::AsndbProgress
            | Request::AsndbDiff { .. }
    )
}

/// Does what needs no core, or not all the time.
fn beside(owner: &Owner, call: Call) -> Result<Value, Refusal> {
    let Call {
        request,
        peer,
        files,
    } = call;
    match request {
        Request::Status => owner.view().status(owner.busy().as_ref()),
        Request::History => Ok(owner.view().history()),
        Request::AsndbInfo => {
            serde_json::to_value(owner.view().updates.database.info()).map_err(Refusal::from_error)
        }
        Request::Lookup { query, limit } => {
            let limit = limit.unwrap_or(LIMIT);
            if limit > MAX_LIMIT {
                return Err(Refusal::new(
                    format!("the daemon shows up to {MAX_LIMIT} entries of a list"),
                    "narrow the question; `--asn-db FILE` looks into a file, without a daemon",
                ));
            }
            let view = owner.view();
            let db = view.updates.database.glance()?;
            let mut answer = lookup(&db, &query, limit)?;
            if let (Some(bgp), Some(net)) = (&view.bgp, policy::network(&query)) {
                answer["live"] = bgp.at(net.addr())?;
            }
            Ok(answer)
        }
        Request::AsndbImport {
            asn,
            countries,
            accept,
            unsigned,
        } => {
            let files =
                Received::copy(&owner.view().kept.state.sources(), &asn, &countries, files)?;
            let by = By::user(
                &peer,
                accepted(
                    format!("asndb import {}", asn.join(" ").escape_debug()),
                    accept,
                ),
                false,
            );
            update::import(owner, &files, accept, unsigned, &by)
        }
        Request::AsndbUpdate { accept, id } => {
            let command = accepted("asndb update".to_owned(), accept);
            let by = By::user(&peer, command, false);
            update::update(owner, accept, id.as_deref(), &by)
        }
        Request::AsndbProgress => Ok(update::progress(owner)),
        Request::AsndbDiff { asn, countries } => {
            let files =
                Received::copy(&owner.view().kept.state.sources(), &asn, &countries, files)?;
            update::diff(owner, &files)
        }
        Request::Flows(query) => owner.view().flows(&query),
        Request::Unwritten => {
            let view = owner.view();
            match &view.evidence {
                Some(evidence) => evidence.unwritten(&view),
                None => Err(Refusal::new(
                    "no log of evidence is written",
                    "`[evidence]` in kordon.toml begins one; `kordon status` says why there is none",
                )),
            }
        }
        Request::Explain(query) => {
            let view = owner.view();
            explained(&view, &query)
        }
        // The rest is the core's.
        _ => Err(Refusal::new("this is for the core", "report it")),
    }
}

fn accepted(mut command: String, accept: bool) -> String {
    if accept {
        command.push_str(" --accept");
    }
    command
}

/// A verdict, and why it is that.
fn explained(view: &View, query: &ExplainQuery) -> Result<Value, Refusal> {
    let Some(live) = &view.live else {
        return Err(Refusal::new(
            "no policy is live",
            "`kordon apply` one first",
        ));
    };
    let ports = ports(&view.config.interfaces, None, query.interface.as_deref())?;
    let router = Router {
        ports,
        addresses: live.environment.router.clone(),
        connected: live.environment.connected.clone(),
    };
    let db = view.updates.database.glance()?;
    let mut answer =
        explain(&live.policy, &db, &router, query, Engine::Kernel).map_err(|e| {
            match e.downcast::<Problem>() {
                Ok(problem) => problem.into(),
                Err(e) => Refusal::from_error(format!("{e:#}")),
            }
        })?;
    let judged = answer["judged"].as_str().and_then(|a| a.parse().ok());
    if let Some(bgp) = &view.bgp {
        let live = bgp.at(judged.unwrap_or(query.dst))?;
        if let Value::Array(why) = &mut answer["why"] {
            why.extend(super::bgp::in_words(&live).map(Value::from));
        }
        answer["live"] = live;
    }
    if view.troubles.is_kept()
        && let Value::Array(why) = &mut answer["why"]
    {
        let words = "what is in the kernel was left as it is and may judge otherwise: \
                     `kordon status`";
        why.insert(0, words.into());
    }
    Ok(answer)
}
