//! Questions that are answered from what is live, without holding up changes.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use serde_json::Value;

use super::{
    Core, Shared, bgp::Bgp, core::Live, journal::By, lock, received::Received, refusal::Refusal,
    updates,
};
use crate::{
    asn::AsnDb,
    config::Interface,
    control::{protocol::Request, server::Call},
    judge::{Engine, ExplainQuery, QueryError, Router, explain, ports},
    lookup::{LIMIT, MAX_LIMIT, lookup},
    policy::Policy,
};

/// Does what was asked, with the core or beside it.
pub(super) fn perform(core: &Shared, call: Call) -> Result<Value, Refusal> {
    let Call {
        request,
        peer,
        files,
    } = call;
    match request {
        Request::Lookup { query, limit } => {
            let limit = limit.unwrap_or(LIMIT);
            if limit > MAX_LIMIT {
                return Err(Refusal::new(
                    format!("the daemon shows up to {MAX_LIMIT} entries of a list"),
                    "narrow the question; `--asn-db FILE` looks into a file, without a daemon",
                ));
            }
            let (db, bgp) = {
                let core = lock(core);
                (Arc::clone(core.database.effective()), core.bgp.clone())
            };
            let mut answer =
                lookup(&db, &query, limit).map_err(|e| Refusal::new(e.message, e.help))?;
            if let (Some(bgp), Some(address)) = (bgp, address(&query)) {
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
            let files = Received::copy(&sources(core), &asn, &countries, files)?;
            let by = By::user(
                &peer,
                accepted(
                    format!("asndb import {}", asn.join(" ").escape_debug()),
                    accept,
                ),
                false,
            );
            updates::import(core, &files, accept, unsigned, &by)
        }
        Request::AsndbUpdate { accept, id } => {
            let command = accepted("asndb update".to_owned(), accept);
            let by = By::user(&peer, command, false);
            updates::update(core, accept, id.as_deref(), &by)
        }
        Request::AsndbProgress => Ok(updates::progress(core)),
        Request::AsndbDiff { asn, countries } => {
            let files = Received::copy(&sources(core), &asn, &countries, files)?;
            updates::diff(core, &files)
        }
        Request::Explain(query) => {
            let asked = Asked::of(&lock(core))?;
            asked.explain(&query)
        }
        request => lock(core).perform(request, &peer),
    }
}

fn accepted(mut command: String, accept: bool) -> String {
    if accept {
        command.push_str(" --accept");
    }
    command
}

/// Where files from elsewhere are put.
fn sources(core: &Shared) -> PathBuf {
    lock(core).state.sources()
}

/// The address that a question is about.
fn address(query: &str) -> Option<IpAddr> {
    Some(crate::policy::network(query)?.addr())
}

/// What a verdict depends on, taken at one moment.
struct Asked {
    policy: Arc<Policy>,
    db: Arc<AsnDb>,
    bgp: Option<Bgp>,
    addresses: Vec<IpAddr>,
    connected: std::collections::BTreeMap<String, Vec<ipnet::IpNet>>,
    interfaces: Vec<Interface>,
    /// The kernel has what was there before, not what was made of these.
    kept: bool,
}

impl Asked {
    fn of(core: &Core) -> Result<Self, Refusal> {
        let Some(Live {
            policy,
            environment,
            ..
        }) = &core.live
        else {
            return Err(Refusal::new(
                "no policy is live",
                "`kordon apply` one first",
            ));
        };
        Ok(Self {
            policy: Arc::clone(policy),
            db: Arc::clone(core.database.effective()),
            bgp: core.bgp.clone(),
            addresses: environment.router.clone(),
            connected: environment.connected.clone(),
            interfaces: core.config.interfaces.clone(),
            kept: core.troubles.is_kept(),
        })
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Value, Refusal> {
        let ports = ports(&self.interfaces, None, query.interface.as_deref())
            .map_err(|e| Refusal::new(e.message, e.help))?;
        let router = Router {
            ports,
            addresses: self.addresses.clone(),
            connected: self.connected.clone(),
        };
        let answer = explain(&self.policy, &self.db, &router, query, Engine::Kernel);
        let answer = answer.map(|mut answer| {
            let judged = answer["judged"].as_str().and_then(|a| a.parse().ok());
            if let Some(bgp) = &self.bgp {
                let live = bgp.at(judged.unwrap_or(query.dst));
                if let Value::Array(why) = &mut answer["why"] {
                    why.extend(super::bgp::in_words(&live).map(Value::from));
                }
                answer["live"] = live;
            }
            if self.kept
                && let Value::Array(why) = &mut answer["why"]
            {
                let words = "what is in the kernel was left as it is and may judge otherwise: \
                             `kordon status`";
                why.insert(0, words.into());
            }
            answer
        });
        answer.map_err(|e| match e.downcast::<QueryError>() {
            Ok(error) => Refusal::new(error.message, error.help),
            Err(e) => Refusal::from_error(format!("{e:#}")),
        })
    }
}
