//! Why a packet gets the verdict it gets, in sentences.
//!
//! The verdict is the program's; the sentences say what it was given: the zone,
//! the rows of the database and the entries of sets that the address is in.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use kordon_ebpf::layout::{Judged, Reason};
use serde_json::Value;

use super::{Engine, ExplainQuery, Judge, Router, Row, Trace, ip_addr};
use crate::{
    asn::model::AsnDb,
    diagnostic::quoted,
    policy::{
        Policy,
        model::{Rule, Sources, Target, Zone},
    },
    prove::{is_multicast, is_private, is_special},
};

/// The verdict for one packet and the whole reason: the fields of `explain --json`.
///
/// # Errors
/// When the query is no packet, the policy does not fit, or the kernel refuses the
/// program or says something else than the library.
pub fn explain(
    policy: &Policy,
    db: &AsnDb,
    router: &Router,
    query: &ExplainQuery,
    engine: Engine,
) -> anyhow::Result<Value> {
    let frame = query.frame()?;
    let mut judge = Judge::new(policy, db, router, engine)?;
    let (row, trace) = judge.row(&frame)?;
    let found = row.judged.map(|address| db.lookup(address));
    let why = Words {
        policy,
        db,
        router,
        query,
        row: &row,
        trace: &trace,
    }
    .all();
    let mut answer = serde_json::to_value(&row)?;
    answer["interface"] = match &router.ports[..] {
        [port] if !port.logical.is_empty() => port.logical.clone().into(),
        _ => Value::Null,
    };
    answer["prefix"] = serde_json::to_value(found.and_then(|found| found.prefix))?;
    let evidence = row.judged.map(|address| db.evidence(address));
    answer["evidence"] = serde_json::to_value(evidence.unwrap_or_default())?;
    answer["why"] = why.into();
    Ok(answer)
}

struct Words<'a> {
    policy: &'a Policy,
    db: &'a AsnDb,
    router: &'a Router,
    query: &'a ExplainQuery,
    row: &'a Row,
    trace: &'a Trace,
}

impl Words<'_> {
    fn all(&self) -> Vec<String> {
        let place = self.query.place(&self.router.ports);
        let Some(zone) = self.row.zone.as_deref() else {
            let action = match self.row.action {
                "drop" => {
                    "`unknown_vlans = \"drop\"` of the interface drops the packet; it is counted \
                     in `kordon_interface_packets_total`"
                }
                _ => {
                    "kordon lets the packet pass; it is counted in \
                     `kordon_interface_unpoliced_packets_total`"
                }
            };
            return vec![format!("no zone has {place}: {action}")];
        };
        let mut why = vec![format!("zone {} has {place}", quoted(zone))];
        let Some(zone) = self.policy.zones.iter().find(|z| z.name == zone) else {
            return why;
        };
        self.judged(&mut why);
        if let Some(address) = self.row.judged {
            self.announced(address, &mut why);
        }
        match (&self.row.rule, self.row.reason) {
            (Some(rule), _) => self.rule(rule, &mut why),
            (None, word) => why.push(self.reason(zone, word)),
        }
        for reason in &self.trace.noted {
            why.push(format!(
                "{} was noted, and is allowed by `[zone.{}.unparsable]`",
                quoted(reason.as_str()),
                zone.name
            ));
        }
        if zone.sources == Sources::Connected && !self.router.connected.contains_key(&zone.name) {
            why.push(
                "the zone's sources are the router's connected prefixes, which are not known here: \
                 the source was not checked"
                    .to_owned(),
            );
        }
        self.left_out(zone, &mut why);
        why
    }

    /// Which address decided, where it is not simply the destination.
    fn judged(&self, why: &mut Vec<String>) {
        let (Some(judged), Some(dst)) = (self.row.judged, self.row.dst) else {
            return;
        };
        if judged == dst {
            return;
        }
        let kind = self
            .trace
            .judged
            .iter()
            .find(|(_, address, ..)| ip_addr(*address) == judged)
            .map(|(kind, ..)| *kind);
        why.push(match kind {
            Some(Judged::Inner) => format!("the packet inside goes to {judged}, which decided"),
            _ if is_local_nat64(dst) => format!(
                "{dst} is for NAT64 of the site (RFC 8215), and `nat64` names no prefix that has \
                 it: by one of the lengths that the prefix may have it leads to {judged}, which decided"
            ),
            _ => format!("{dst} leads to {judged}, which decided"),
        });
    }

    fn announced(&self, address: IpAddr, why: &mut Vec<String>) {
        let found = self.db.lookup(address);
        let Some(asn) = found.asn else {
            // Without sources that is no finding.
            why.push(if self.db.v4.is_empty() && self.db.v6.is_empty() {
                format!("no ASN database says who announces {address}")
            } else {
                format!("nobody announces {address}")
            });
            return;
        };
        for row in self.db.evidence(address) {
            let name = self.db.asn_info(row.asn).map_or("", |info| &info.name);
            let name = if name.is_empty() { "no name" } else { name };
            let place = match row.record {
                0 => format!("line {}", row.line),
                record => format!("record {record}"),
            };
            let rpki = row.rpki.map_or(String::new(), |state| {
                format!(" (RPKI: {})", state.as_str())
            });
            why.push(format!(
                "{address} is announced by AS{} ({name}) in {}: {} {place}{rpki}",
                row.asn, row.prefix, row.source
            ));
        }
        if let [_, _, ..] = found.origins[..] {
            let all: Vec<String> = found.origins.iter().map(|asn| format!("AS{asn}")).collect();
            why.push(format!(
                "it has several origins, {}: a set has it when it has any of them",
                all.join(", ")
            ));
        }
        match (self.db.block_country(address), found.country) {
            (Some(country), _) => why.push(format!("its block is delegated to {country}")),
            (None, Some(country)) => why.push(format!("AS{asn} is registered in {country}")),
            (None, None) => {}
        }
    }

    fn rule(&self, name: &str, why: &mut Vec<String>) {
        let Some(rule) = self.policy.rules.iter().find(|rule| rule.name == name) else {
            return;
        };
        let origin = if rule.overlay {
            "made by a command, "
        } else {
            ""
        };
        why.push(match self.matching(rule) {
            Some(target) => format!(
                "rule {} ({origin}{}) is the first that matches: {target}",
                quoted(name),
                rule.action.as_str(),
            ),
            None => format!(
                "rule {} ({origin}{}) is the first that matches",
                quoted(name),
                rule.action.as_str()
            ),
        });
        if let Some(note) = &rule.note {
            why.push(format!("its note: {}", quoted(note)));
        }
        if let Some(until) = &rule.until {
            why.push(format!("it ends at {until}"));
        }
    }

    fn reason(&self, zone: &Zone, word: &str) -> String {
        let reason = Reason::ALL.into_iter().find(|r| r.as_str() == word);
        let action = self.row.action;
        let src = self.query.src;
        match reason {
            Some(Reason::Default) => {
                format!("no rule decides: the default of the zone is {action}")
            }
            Some(Reason::Infrastructure) => {
                "it keeps the link alive and cannot leave it (DHCP, neighbour discovery, group \
                 membership): it passes before any rule"
                    .to_owned()
            }
            Some(Reason::Martian) => format!(
                "{} is no destination on a network (loopback, 0.0.0.0/8, unspecified): {action}",
                self.query.dst
            ),
            Some(Reason::Tunnel) => format!(
                "its protocol carries packets and hides where they go: `tunnels` of the zone says {action}"
            ),
            Some(Reason::SpoofedSource) => match &zone.sources {
                _ if src.is_unspecified() => {
                    format!("{src} is no source of a packet that is routed: {action}")
                }
                Sources::Unset => format!(
                    "the zone has no `sources`, and the rules would drop a packet to {src}: such \
                     a source is taken to be forged: {action}"
                ),
                Sources::Connected => {
                    format!("{src} is in no prefix that the router has there: {action}")
                }
                Sources::Prefixes(prefixes) => {
                    let list: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
                    format!(
                        "{src} is not in `sources` of the zone ({}): {action}",
                        list.join(", ")
                    )
                }
            },
            _ => format!("the packet cannot be understood ({word}): {action}"),
        }
    }

    /// Rules that a query without protocol or port cannot meet.
    fn left_out(&self, zone: &Zone, why: &mut Vec<String>) {
        let (proto, port) = (&self.query.proto, self.query.dport);
        let open = |rule: &&Rule| {
            let unknown_proto = rule.proto.is_some() && proto.is_none() && port.is_none();
            let unknown_port = !rule.ports.is_empty() && port.is_none();
            (unknown_proto || unknown_port)
                && rule
                    .from
                    .iter()
                    .any(|id| self.policy.zones[*id].name == zone.name)
                && self.matching(rule).is_some()
        };
        let before = self
            .policy
            .rules
            .iter()
            .take_while(|rule| Some(&rule.name) != self.row.rule.as_ref());
        let names: Vec<String> = before.filter(open).map(|r| quoted(&r.name)).collect();
        if !names.is_empty() && matches!(self.row.reason, "rule" | "default") {
            why.push(format!(
                "this is the verdict without a known protocol or port; with one, {} may decide \
                 instead: say `--proto` and `--dport`",
                names.join(", ")
            ));
        }
    }

    /// What of a rule's targets has the address, in words.
    fn matching(&self, rule: &Rule) -> Option<String> {
        let address = self.row.judged?;
        rule.to
            .iter()
            .find_map(|target| self.within(*target, address))
    }

    fn within(&self, target: Target, address: IpAddr) -> Option<String> {
        let origins = self.db.origins_at(address);
        let (is_in, word) = match target {
            Target::Any => (true, "any"),
            Target::Private => (is_private(address), "private"),
            Target::Multicast => (is_multicast(address), "multicast"),
            Target::Unrouted => (
                origins.is_empty()
                    && !is_private(address)
                    && !is_multicast(address)
                    && !is_special(address),
                "unrouted",
            ),
            Target::Router => (self.router.addresses.contains(&address), "router"),
            Target::Set(id) => return self.member(id, address, origins),
        };
        is_in.then(|| format!("{address} is in {}", quoted(word)))
    }

    fn member(&self, id: usize, address: IpAddr, origins: &[u32]) -> Option<String> {
        let set = &self.policy.sets[id];
        let registered = |asn: &u32| self.db.asn_info(*asn).and_then(|info| info.country);
        let what = if let Some(prefix) = set.prefixes.iter().find(|p| p.contains(&address)) {
            prefix.to_string()
        } else if let Some(asn) = origins
            .iter()
            .find(|asn| set.asns.iter().any(|range| range.contains(asn)))
        {
            match set.orgs.iter().find(|org| org.asns.contains(asn)) {
                Some(org) => format!("AS{asn}, of organisation {}", quoted(&org.name)),
                None => format!("AS{asn}"),
            }
        } else if let Some(country) = self
            .db
            .block_country(address)
            .filter(|country| set.countries.contains(country))
        {
            format!("country {country}")
        } else {
            let (asn, country) = origins.iter().find_map(|asn| {
                let country = registered(asn)?;
                set.asn_countries
                    .contains(&country)
                    .then_some((asn, country))
            })?;
            format!("AS{asn}, registered in {country}")
        };
        Some(format!("set {} has {what}", quoted(&set.name)))
    }
}

/// 64:ff9b:1::/48.
fn is_local_nat64(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments()[..3] == [0x64, 0xff9b, 1])
}
