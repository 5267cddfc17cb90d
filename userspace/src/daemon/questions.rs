//! Questions that are answered from what is live, without holding up changes.

use std::{net::IpAddr, sync::Arc};

use serde_json::{Value, json};

use super::{Core, Shared, core::Live, lock, refusal::Refusal};
use crate::{
    asn::AsnDb,
    control::protocol::Request,
    diagnostic::quoted,
    judge::{ExplainQuery, Router, explain},
    policy::{
        OverlayTarget, Policy, TargetError,
        model::{Country, Sources},
    },
};

/// Does what was asked, with the core or beside it.
pub(super) fn perform(core: &Shared, request: Request) -> Result<Value, Refusal> {
    match request {
        Request::Lookup { query } => {
            let db = Arc::clone(&lock(core).database.db);
            lookup(&db, &query)
        }
        Request::Explain {
            interface,
            vlan,
            src,
            dst,
            proto,
            dport,
        } => {
            let query = ExplainQuery {
                interface,
                vlan,
                src,
                dst,
                proto,
                dport,
            };
            Asked::of(&lock(core))?.explain(&query)
        }
        request => lock(core).perform(request),
    }
}

/// What a verdict depends on, taken at one moment.
struct Asked {
    policy: Arc<Policy>,
    db: Arc<AsnDb>,
    addresses: Vec<IpAddr>,
    connected: std::collections::BTreeMap<String, Vec<ipnet::IpNet>>,
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
            db: Arc::clone(&core.database.db),
            addresses: environment.router.clone(),
            connected: environment.connected.clone(),
        })
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Value, Refusal> {
        let mut router = Router {
            interface: query.interface.clone(),
            addresses: self.addresses.clone(),
            connected: Vec::new(),
        };
        let ask = |router: &Router| {
            explain(&self.policy, &self.db, router, query)
                .map_err(|e| Refusal::from_error(format!("{e:#}")))
        };
        let answer = ask(&router)?;
        // Which prefixes are connected depends on the zone, which is known now.
        let zone = answer["zone"].as_str().and_then(|name| {
            let mut zones = self.policy.zones.iter();
            zones.find(|zone| zone.name == name && zone.sources == Sources::Connected)
        });
        match zone.and_then(|zone| self.connected.get(&zone.name)) {
            Some(connected) if !connected.is_empty() => {
                router.connected.clone_from(connected);
                ask(&router)
            }
            _ => Ok(answer),
        }
    }
}

/// An address, `AS…`, a country, or text.
fn lookup(db: &AsnDb, query: &str) -> Result<Value, Refusal> {
    if let Ok(address) = query.parse::<IpAddr>() {
        return serde_json::to_value(db.lookup(address)).map_err(Refusal::from_error);
    }
    let country = |country: Option<Country>| country.map(|country| country.to_string());
    match query.parse::<OverlayTarget>() {
        Ok(OverlayTarget::Asn(asn)) => {
            let info = db.asn_info(asn);
            Ok(json!({
                "asn": asn,
                "name": info.map(|info| info.name.as_str()).filter(|name| !name.is_empty()),
                "country": country(info.and_then(|info| info.country)),
                "prefixes": db.prefixes_of(asn),
            }))
        }
        Ok(OverlayTarget::Country(code)) => Ok(json!({
            "country": code.to_string(),
            "asns": db.asns_in(code),
            "prefixes": db.prefixes_in(code),
        })),
        Ok(OverlayTarget::Prefix(prefix)) => {
            serde_json::to_value(db.lookup(prefix.addr())).map_err(Refusal::from_error)
        }
        Err(TargetError { message, help }) if query.trim().is_empty() => {
            Err(Refusal::new(message, help))
        }
        Err(_) => {
            let found: Vec<Value> = db
                .search(query)
                .into_iter()
                .map(|(asn, info)| {
                    json!({"asn": asn, "name": info.name, "country": country(info.country)})
                })
                .collect();
            if found.is_empty() {
                return Err(Refusal::new(
                    format!("nothing in the database is called {}", quoted(query)),
                    "give an address, `AS64500`, a country code or a part of a name",
                ));
            }
            Ok(json!({ "matches": found }))
        }
    }
}
