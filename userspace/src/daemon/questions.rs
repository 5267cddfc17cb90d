//! What is asked of the daemon: questions are answered from the [`View`], beside the core, and
//! the rest is for it.

use std::net::IpAddr;

use serde_json::Value;

use super::{
    core::Live, journal::By, owner::Owner, received::Received, refusal::Refusal, updates,
    view::View,
};
use crate::{
    control::{protocol::Request, server::Call},
    diagnostic::Problem,
    judge::{Engine, ExplainQuery, Router, explain, ports},
    lookup::{LIMIT, MAX_LIMIT, lookup},
};

/// Does what was asked, with the core or beside it.
pub(super) fn perform(owner: &Owner, call: Call) -> Result<Value, Refusal> {
    let Call {
        request,
        peer,
        files,
    } = call;
    match request {
        Request::Status => owner.view().status(owner.busy().as_ref()),
        Request::History => Ok(owner.view().history()),
        Request::AsndbInfo => {
            serde_json::to_value(owner.view().database.info()).map_err(Refusal::from_error)
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
            let db = view.database.effective();
            let mut answer =
                lookup(db, &query, limit).map_err(|e| Refusal::new(e.message, e.help))?;
            if let (Some(bgp), Some(address)) = (&view.bgp, address(&query)) {
                answer["live"] = bgp.at(address);
            }
            Ok(answer)
        }
        Request::AsndbImport {
            asn,
            countries,
            accept,
            unsigned,
        } => {
            let files = Received::copy(&owner.view().state.sources(), &asn, &countries, files)?;
            let by = By::user(
                &peer,
                accepted(
                    format!("asndb import {}", asn.join(" ").escape_debug()),
                    accept,
                ),
                false,
            );
            updates::import(owner, &files, accept, unsigned, &by)
        }
        Request::AsndbUpdate { accept, id } => {
            let command = accepted("asndb update".to_owned(), accept);
            let by = By::user(&peer, command, false);
            updates::update(owner, accept, id.as_deref(), &by)
        }
        Request::AsndbProgress => Ok(updates::progress(owner)),
        Request::AsndbDiff { asn, countries } => {
            let files = Received::copy(&owner.view().state.sources(), &asn, &countries, files)?;
            updates::diff(owner, &files)
        }
        Request::Explain(query) => {
            let view = owner.view();
            explained(&view, &query)
        }
        request => {
            let what = format!("`{}` of {peer}", request.command());
            owner.ask(&what, move |core| core.perform(request, &peer))?
        }
    }
}

fn accepted(mut command: String, accept: bool) -> String {
    if accept {
        command.push_str(" --accept");
    }
    command
}

/// The address that a question is about.
fn address(query: &str) -> Option<IpAddr> {
    Some(crate::policy::network(query)?.addr())
}

/// A verdict, and why it is that.
fn explained(view: &View, query: &ExplainQuery) -> Result<Value, Refusal> {
    let Some(Live {
        policy,
        environment,
        ..
    }) = &view.live
    else {
        return Err(Refusal::new(
            "no policy is live",
            "`kordon apply` one first",
        ));
    };
    let ports = ports(&view.config.interfaces, None, query.interface.as_deref())
        .map_err(|e| Refusal::new(e.message, e.help))?;
    let router = Router {
        ports,
        addresses: environment.router.clone(),
        connected: environment.connected.clone(),
    };
    let db = view.database.effective();
    let mut answer = explain(policy, db, &router, query, Engine::Kernel).map_err(|e| match e
        .downcast::<Problem>()
    {
        Ok(error) => Refusal::new(error.message, error.help),
        Err(e) => Refusal::from_error(format!("{e:#}")),
    })?;
    let judged = answer["judged"].as_str().and_then(|a| a.parse().ok());
    if let Some(bgp) = &view.bgp {
        let live = bgp.at(judged.unwrap_or(query.dst));
        if let Value::Array(why) = &mut answer["why"] {
            why.extend(super::bgp::in_words(&live).map(Value::from));
        }
        answer["live"] = live;
    }
    if view.kept
        && let Value::Array(why) = &mut answer["why"]
    {
        let words = "what is in the kernel was left as it is and may judge otherwise: \
                     `kordon status`";
        why.insert(0, words.into());
    }
    Ok(answer)
}
