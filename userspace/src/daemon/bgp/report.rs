//! What live BGP is doing, for `status`, `lookup`, `explain` and the metrics.

use std::{
    net::IpAddr,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Bgp, Busy, lock};
use crate::{
    bmp::{found::Wait, message::LOC_RIB, rib::PeerTable},
    metrics,
};

/// Waits that `status` lists, of each family.
const SHOWN: usize = 50;

impl Bgp {
    /// What there is around an address.
    pub(crate) fn at(&self, address: IpAddr) -> Result<Value, Busy> {
        let now = self.now();
        let feed = self.glance()?;
        let (found, wait) = feed.at(address, now);
        let tightened = feed.tightened(address);
        drop(feed);
        let before_filters = tightened.map(|said| {
            json!({
                "prefix": said.prefix,
                "origins": said.origins,
                "since": moment(said.since),
                "peers": said.peers,
            })
        });
        Ok(json!({
            "prefix": found.as_ref().map(|found| found.prefix),
            "origins": found.as_ref().map(|found| &found.origins),
            "since": found.as_ref().map(|found| moment(found.since)),
            "peers": found.as_ref().map(|found| &found.peers),
            "stale": found.as_ref().is_some_and(|found| found.stale),
            "waiting": wait.map(|wait| waiting(&wait)),
            "pre_policy": before_filters,
        }))
    }

    /// For `status`; while the feed is busy, what it was some seconds ago.
    pub(crate) fn status(&self) -> Value {
        let now = self.now();
        let feed = match self.glance_or(|told| told.status.as_ref()) {
            Ok(feed) => feed,
            Err(told) => return told,
        };
        let sessions: Vec<Value> = feed
            .sessions()
            .iter()
            .map(|session| {
                json!({
                    "router": session.router,
                    "name": session.name,
                    "since": moment(session.since.wall),
                })
            })
            .collect();
        let peers: Vec<Value> = feed
            .tables()
            .filter(|(table, v4, v6)| table.up || v4 + v6 > 0)
            .map(|(table, v4, v6)| {
                json!({
                    "router": table.router,
                    "address": table.peer.address,
                    "asn": table.asn,
                    "table": table_word(table),
                    "only_tightens": !table.is_accepted(),
                    "state": state(table),
                    "since": moment(table.since.wall),
                    "routes_v4": v4,
                    "routes_v6": v6,
                })
            })
            .collect();
        let (v4, v6) = feed.prefixes();
        let waits: Vec<Value> = feed.waits(now, SHOWN).iter().map(waiting).collect();
        let status = json!({
            "listen": self.config.listen,
            "sessions": sessions,
            "peers": peers,
            "prefixes_v4": v4,
            "prefixes_v6": v6,
            "waiting": feed.waiting(),
            "waits": waits,
            "behind": self.is_behind(),
            "in_place": self.in_place.load(Ordering::Relaxed),
        });
        lock(&self.told).status = Some((Instant::now(), status.clone()));
        status
    }

    /// For the metrics, likewise.
    pub(crate) fn snapshot(&self) -> metrics::Bgp {
        let feed = match self.glance_or(|told| told.metrics.as_ref()) {
            Ok(feed) => feed,
            Err(told) => return told,
        };
        let (mut peers, mut routes) = ([("up", 0), ("down", 0), ("stale", 0)], (0, 0));
        for (table, v4, v6) in feed.tables() {
            routes = (routes.0 + v4, routes.1 + v6);
            let state = state(table);
            if let Some(found) = peers.iter_mut().find(|(name, _)| *name == state) {
                found.1 += 1;
            }
        }
        let took = self.took.load(Ordering::Relaxed);
        let snapshot = metrics::Bgp {
            sessions: feed.sessions().len(),
            peers,
            routes,
            prefixes: feed.prefixes(),
            waiting: feed.waiting(),
            counts: feed.counts(),
            refused: self.refused.load(Ordering::Relaxed),
            apply: (took > 0).then(|| Duration::from_micros(took)),
            failures: self.failures.load(Ordering::Relaxed),
            in_place: self.in_place.load(Ordering::Relaxed),
        };
        lock(&self.told).metrics = Some((Instant::now(), snapshot.clone()));
        snapshot
    }
}

fn moment(second: u32) -> Option<Timestamp> {
    Timestamp::from_second(second.into()).ok()
}

fn state(table: &PeerTable) -> &'static str {
    match (table.up, table.stale) {
        (true, _) => "up",
        (false, false) => "down",
        (false, true) => "stale",
    }
}

fn table_word(table: &PeerTable) -> &'static str {
    match (table.peer.kind, table.post_policy) {
        (LOC_RIB, _) => "loc-rib",
        (_, false) => "pre-policy",
        (_, true) => "post-policy",
    }
}

fn waiting(wait: &Wait) -> Value {
    json!({
        "prefix": wait.prefix,
        "current": wait.current,
        "wanted": wait.wanted,
        "since": moment(wait.since),
        "seconds_left": wait.left,
    })
}

/// What [`Bgp::at`] found, as sentences.
pub(crate) fn in_words(live: &Value) -> impl Iterator<Item = String> {
    let names = |asns: &Value| {
        let asns: Vec<String> = asns
            .as_array()
            .into_iter()
            .flatten()
            .map(|asn| format!("AS{asn}"))
            .collect();
        if asns.is_empty() {
            "nobody".to_owned()
        } else {
            asns.join(", ")
        }
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = (!live["prefix"].is_null()).then(|| {
        format!(
            "live BGP: {} is announced by {}, live since {}{}",
            text(&live["prefix"]),
            names(&live["origins"]),
            text(&live["since"]),
            if live["stale"] == true {
                "; its peers are gone, and this is what they said last"
            } else {
                ""
            }
        )
    });
    let wait = &live["waiting"];
    let wait = (!wait.is_null()).then(|| {
        format!(
            "live BGP: {} is with {} since {}; that loosens, and waits for another {} s",
            text(&wait["prefix"]),
            names(&wait["wanted"]),
            text(&wait["since"]),
            wait["seconds_left"]
        )
    });
    let said = &live["pre_policy"];
    let said = (!said.is_null()).then(|| {
        format!(
            "live BGP: before the router's filters {} is announced by {} since {}; that only tightens",
            text(&said["prefix"]),
            names(&said["origins"]),
            text(&said["since"])
        )
    });
    found.into_iter().chain(said).chain(wait)
}
