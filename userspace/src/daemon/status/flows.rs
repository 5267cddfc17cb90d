//! The answer to `flows`: who sent what to whom, flow by flow or added up.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use kordon_ebpf::layout::{
    Action, FLOW_GUARD, FLOW_HIDDEN, FLOW_INTERFACE_SHIFT, FLOW_OTHERS, FLOW_PORT, FLOW_PORT_SHIFT,
    FLOW_PROTO_SHIFT, FLOW_READABLE, FLOW_SLOT, Flow, Reason,
};
use serde_json::{Value, json};

use super::{View, view::at_ledger};
use crate::{
    asn::AsnDb,
    compile::directory::Identity,
    control::protocol::{FlowsQuery, SumBy},
    daemon::{named, refusal::Refusal},
    datapath::DatapathError,
    ledger::{
        Keeper, Sum,
        camera::{Camera, addresses, mac},
        network::Network,
    },
};

/// Flows or sums of one answer, the largest.
const MOST: usize = 100_000;

/// One after the other, as text: so many objects would take the memory of a router.
fn lines(rows: impl Iterator<Item = Value>) -> String {
    let mut text = String::new();
    for row in rows {
        text += &row.to_string();
        text.push('\n');
    }
    text
}

/// A flow in words.
pub(in crate::daemon) struct Told<'a> {
    pub(in crate::daemon) zone: String,
    pub(in crate::daemon) interface: Option<&'a str>,
    /// `None`: more senders than are told apart.
    pub(in crate::daemon) mac: Option<String>,
    pub(in crate::daemon) src: Option<IpAddr>,
    pub(in crate::daemon) dst: Option<IpAddr>,
    pub(in crate::daemon) judged: Option<IpAddr>,
    pub(in crate::daemon) asn: Option<u32>,
    pub(in crate::daemon) country: Option<String>,
    pub(in crate::daemon) name: Option<String>,
    pub(in crate::daemon) proto: Option<String>,
    pub(in crate::daemon) dport: Option<u16>,
    pub(in crate::daemon) action: Action,
    pub(in crate::daemon) reason: Reason,
    pub(in crate::daemon) rule: Option<String>,
    pub(in crate::daemon) is_others: bool,
    pub(in crate::daemon) is_by_guard: bool,
}

impl View {
    fn has_ledger(&self) -> Result<&Arc<Mutex<Keeper>>, Refusal> {
        self.ledger.as_ref().map_err(|why| {
            Refusal::new(
                format!("who sent what to whom is not known: {why}"),
                "restarting the daemon tries again, and changes nothing that is enforced",
            )
        })
    }

    /// The ledger, as long as that takes.
    pub(in crate::daemon) fn ledger(&self) -> Result<MutexGuard<'_, Keeper>, Refusal> {
        let ledger = self.has_ledger()?;
        Ok(ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the ledger says, within a time.
    pub(in crate::daemon) fn at_ledger<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Keeper) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let is_late = self.evidence.as_ref().is_some_and(|log| log.is_late());
        at_ledger(self.has_ledger()?, is_late, work).ok_or_else(|| {
            Refusal::new(
                "who sent what to whom cannot be said now: somebody else has the ledger for long",
                "try again; `kordon status` says whether the disk of the log of evidence does not answer",
            )
        })
    }

    /// The answer to `flows`.
    pub(in crate::daemon) fn flows(&self, query: &FlowsQuery) -> Result<Value, Refusal> {
        // What is counted after it is not missing in the ledger.
        let counters = self.reader.counters().map_err(Refusal::from_error)?;
        if let Some(zone) = &query.zone {
            self.knows_zone(zone, &counters)?;
        }
        let slots = self.reader.slots();
        let read = self.at_ledger(move |ledger| {
            let (flows, reading) = ledger.flows(slots)?;
            Ok((flows, reading, ledger.lost()?, ledger.before().clone()))
        })?;
        let (flows, reading, lost, before) =
            read.map_err(|e: DatapathError| Refusal::from_error(e))?;
        let lost = lost.into_iter().collect();
        let unshown = self.unshown(query, &counters, (&flows, &reading), &lost, &before);
        let db = &self.updates.database.db;
        let mut told: Vec<(Told<'_>, Sum)> = (flows.iter())
            .filter_map(|((flow, network), sum)| Some((self.told(flow, *network, db)?, *sum)))
            .collect();
        let known = flows.len();
        // Those that may be what is asked for, and of which nobody knows.
        let (mut others, mut unread) = (0, 0);
        told.retain(|(told, sum)| {
            let asked = told.is_asked(query);
            match asked {
                Some(_) if told.is_others => others += sum.counter.packets,
                None | Some(true) => {}
                Some(false) => unread += sum.counter.packets,
            }
            asked == Some(true)
        });
        let limit = query.limit.unwrap_or(MOST).min(MOST);
        let (found, rows) = match query.sum {
            None => {
                told.sort_unstable_by_key(|(_, sum)| Reverse(sum.counter.packets));
                let rows = told.iter().take(limit).map(|(told, sum)| told.row(sum));
                (told.len(), lines(rows))
            }
            Some(by) => {
                let sums = sums(&told, by);
                (sums.len(), lines(sums.into_iter().take(limit)))
            }
        };
        Ok(json!({
            "rows": rows,
            "found": found,
            "known": known,
            "others": others,
            "unread": unread,
            "since": self.started_at,
            "unshown": unshown,
            "lines": { "used": reading.lines.len(), "all": reading.all, "oldest": reading.oldest.map(moment) },
        }))
    }

    /// `None`: nobody knows yet whose its counter is.
    pub(in crate::daemon) fn told(
        &self,
        flow: &Flow,
        network: Network,
        db: &AsnDb,
    ) -> Option<Told<'_>> {
        let identity = flow.identity;
        let bits = |shift: u32, mask: u64| identity >> shift & mask;
        let is = |flag: u64| identity & flag != 0;
        let (zone, reason, rule, action) =
            match self.reader.identity((identity & FLOW_SLOT) as u32)? {
                Identity::Zone(zone, reason, action) => (zone, reason, None, action),
                Identity::Rule(zone, rule, action) => (zone, Reason::Rule, Some(rule), action),
                _ => return None,
            };
        let environment = self.live.as_ref().map(|live| &live.environment);
        let port = bits(FLOW_INTERFACE_SHIFT, 0xff) as usize;
        let interface = environment.and_then(|e| e.ports.get(port));
        let nat64 = self.policy().map_or(&[][..], |policy| &policy.nat64);
        let [src, dst, inner] = addresses(flow);
        let judged = named::judged(flow, dst, inner, nat64);
        let asn = network.asn();
        let info = asn.and_then(|asn| super::named_network(db, asn));
        let proto = (is(FLOW_READABLE) && !is(FLOW_OTHERS | FLOW_HIDDEN))
            .then(|| bits(FLOW_PROTO_SHIFT, 0xff) as u8);
        Some(Told {
            zone,
            interface: interface.map(|port| &*port.logical),
            mac: (flow.sender != 0).then(|| Camera::Mac(mac(flow.sender)).to_string()),
            src,
            dst,
            judged,
            asn,
            // As `lookup` has it: of the address, else of the network.
            country: (judged.and_then(|judged| db.lookup(judged).country))
                .or_else(|| info.as_ref()?.country)
                .map(|country| country.to_string()),
            name: info.map(|info| info.name),
            proto: proto.map(protocol),
            dport: is(FLOW_PORT).then_some((flow.sender >> FLOW_PORT_SHIFT) as u16),
            action,
            reason,
            rule,
            is_others: is(FLOW_OTHERS),
            is_by_guard: is(FLOW_GUARD),
        })
    }
}

impl Told<'_> {
    /// Whether it is one of those that are asked for; `Some(false)`: nobody knows, since what is asked for
    /// is not in it.
    fn is_asked(&self, query: &FlowsQuery) -> Option<bool> {
        let is = |asked: &Option<String>, it: &str| asked.as_deref().is_none_or(|a| a == it);
        if !is(&query.zone, &self.zone) || !is(&query.action, self.action.as_str()) {
            return None;
        }
        let mut is_sure = true;
        if let Some(camera) = &query.camera {
            let address: Option<IpAddr> = camera.parse().ok();
            let (held, is_it) = match address {
                Some(_) => (self.src.is_some(), address == self.src),
                None => {
                    let mac = self.mac.as_ref();
                    let is_it = mac.is_some_and(|mac| camera.eq_ignore_ascii_case(mac));
                    (mac.is_some(), is_it)
                }
            };
            if held && !is_it {
                return None;
            }
            is_sure &= is_it;
        }
        if let Some(asn) = query.asn
            && self.asn != Some(asn)
        {
            if self.judged.is_some() {
                return None;
            }
            is_sure = false;
        }
        if let Some(country) = &query.country
            && self.country.as_ref() != Some(country)
        {
            if self.judged.is_some() {
                return None;
            }
            is_sure = false;
        }
        Some(is_sure)
    }

    pub(in crate::daemon) fn row(&self, sum: &Sum) -> Value {
        json!({
            "zone": self.zone,
            "interface": self.interface,
            "mac": self.mac,
            "src": self.src,
            "dst": self.dst,
            "judged": self.judged,
            "asn": self.asn,
            "country": self.country,
            "name": self.name,
            "proto": self.proto,
            "dport": self.dport,
            "action": self.action.as_str(),
            "reason": self.reason.as_str(),
            "rule": self.rule,
            "packets": sum.counter.packets,
            "bytes": sum.counter.bytes,
            "first": moment(sum.first),
            "last": moment(sum.last),
            "by": if self.is_by_guard { "tc" } else { "xdp" },
            "others": self.is_others,
        })
    }
}

/// To the millisecond, always as long, so that they can be compared as text.
fn moment(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// As in policies.
fn protocol(number: u8) -> String {
    match number {
        1 | 58 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        number => number.to_string(),
    }
}

/// Added up, the largest first.
fn sums(flows: &[(Told<'_>, Sum)], by: SumBy) -> Vec<Value> {
    type Key = (
        String,
        Option<String>,
        Option<IpAddr>,
        Option<u32>,
        Action,
        bool,
    );
    let mut all: BTreeMap<Key, (Sum, usize)> = BTreeMap::new();
    let mut networks: HashMap<u32, &Told<'_>> = HashMap::new();
    for (told, sum) in flows {
        let (mac, src, asn) = match by {
            SumBy::Camera => (told.mac.clone(), told.src, None),
            SumBy::Network => (None, None, told.asn),
        };
        if let Some(asn) = told.asn {
            networks.insert(asn, told);
        }
        all.entry((
            told.zone.clone(),
            mac,
            src,
            asn,
            told.action,
            told.is_others,
        ))
        .and_modify(|(known, flows)| {
            known.add(sum);
            *flows += 1;
        })
        .or_insert((*sum, 1));
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(_, (sum, _))| Reverse(sum.counter.packets));
    let row = |((zone, mac, src, asn, action, others), (sum, flows)): (Key, (Sum, usize))| {
        let mut row = json!({ "zone": zone });
        match by {
            SumBy::Camera => {
                row["mac"] = json!(mac);
                row["src"] = json!(src);
            }
            SumBy::Network => {
                let network = asn.and_then(|asn| networks.get(&asn));
                row["asn"] = json!(asn);
                row["country"] = json!(network.and_then(|told| told.country.as_ref()));
                row["name"] = json!(network.and_then(|told| told.name.as_ref()));
            }
        }
        row["action"] = json!(action.as_str());
        row["flows"] = json!(flows);
        row["packets"] = json!(sum.counter.packets);
        row["bytes"] = json!(sum.counter.bytes);
        row["first"] = json!(moment(sum.first));
        row["last"] = json!(moment(sum.last));
        row["others"] = json!(others);
        row
    };
    all.into_iter().map(row).collect()
}
