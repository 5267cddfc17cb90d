//! One text for one meaning, and its hash: what `status` shows and
//! `--expect-policy` compares. Comments, notes, order of zones and unused sets
//! do not matter; everything that can change a verdict or a counter's name does.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::model::{Policy, Proto, Set, Sources, Target, Tunnels, VlanMatch, Zone};

/// SHA-256 of [`canonical_text`].
#[must_use]
pub fn policy_hash(policy: &Policy) -> [u8; 32] {
    Sha256::digest(canonical_text(policy)).into()
}

/// The effective policy, overlay included, in one line for each zone, rule and
/// used set. Two policies that enforce the same have the same text.
#[must_use]
pub fn canonical_text(policy: &Policy) -> String {
    let mut zones: Vec<String> = policy.zones.iter().map(zone_line).collect();
    zones.sort_unstable();
    let mut used: Vec<usize> = Vec::new();
    let mut rules: Vec<String> = Vec::new();
    for rule in &policy.rules {
        let mut from: Vec<&str> = rule
            .from
            .iter()
            .map(|id| policy.zones[*id].name.as_str())
            .collect();
        from.sort_unstable();
        let mut to: Vec<String> = rule
            .to
            .iter()
            .map(|target| match target {
                Target::Any => "any".to_owned(),
                Target::Private => "private".to_owned(),
                Target::Multicast => "multicast".to_owned(),
                Target::Unrouted => "unrouted".to_owned(),
                Target::Router => "router".to_owned(),
                Target::Set(id) => {
                    used.push(*id);
                    format!("{:?}", policy.sets[*id].name)
                }
            })
            .collect();
        to.sort_unstable();
        let proto = match rule.proto {
            None => "any".to_owned(),
            Some(Proto::Tcp) => "tcp".to_owned(),
            Some(Proto::Udp) => "udp".to_owned(),
            Some(Proto::Icmp) => "icmp".to_owned(),
            Some(Proto::Number(number)) => number.to_string(),
        };
        let until = rule.until.map_or("-".to_owned(), |until| until.to_string());
        rules.push(format!(
            "rule {:?} from {from:?} to [{}] proto {proto} ports {:?} action {} until {until} overlay {}",
            rule.name,
            to.join(" "),
            rule.ports,
            rule.action.as_str(),
            rule.overlay,
        ));
    }
    used.sort_unstable();
    used.dedup();
    let mut sets: Vec<String> = used.iter().map(|id| set_line(&policy.sets[*id])).collect();
    sets.sort_unstable();
    let mut nat64: Vec<String> = policy
        .nat64
        .iter()
        .map(|net| format!("nat64 {net}"))
        .collect();
    nat64.sort_unstable();

    let mut out = String::from("kordon policy 1\n");
    for line in zones.into_iter().chain(nat64).chain(rules).chain(sets) {
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn zone_line(zone: &Zone) -> String {
    let mut vlans = zone.vlans.clone();
    vlans.sort_unstable();
    let vlans: Vec<String> = vlans
        .iter()
        .map(|vlan| match vlan {
            VlanMatch::Untagged => "untagged".to_owned(),
            VlanMatch::Outer(outer) => outer.to_string(),
            VlanMatch::Pair(outer, inner) => format!("{outer}.{inner}"),
        })
        .collect();
    let mut interfaces = zone.interfaces.clone();
    interfaces.sort_unstable();
    let sources = match &zone.sources {
        Sources::Unset => "unset".to_owned(),
        Sources::Connected => "connected".to_owned(),
        Sources::Prefixes(prefixes) => {
            let mut prefixes: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
            prefixes.sort_unstable();
            format!("[{}]", prefixes.join(" "))
        }
    };
    let record = zone.record.as_str();
    let mut unparsable = String::new();
    for (_, action) in zone.unparsable.actions() {
        unparsable.push_str(action.as_str());
        unparsable.push(' ');
    }
    unparsable.push_str(match zone.unparsable.tunnels {
        Tunnels::Action(action) => action.as_str(),
        Tunnels::Inspect => "inspect",
    });
    format!(
        "zone {:?} vlans [{}] interfaces {interfaces:?} default {} sources {sources} record {record} pppoe {} unparsable {unparsable}",
        zone.name,
        vlans.join(" "),
        zone.default.as_str(),
        zone.pppoe,
    )
}

fn set_line(set: &Set) -> String {
    let mut line = format!("set {:?} asns", set.name);
    let mut add = |part: &dyn std::fmt::Display| {
        write!(line, " {part}").expect("writing to a string cannot fail");
    };
    // As with countries it is the names that count: the database may change, and
    // the policy is still the same.
    for asns in &set.named_asns {
        add(&format_args!("{}-{}", asns.start(), asns.end()));
    }
    if !set.orgs.is_empty() {
        add(&"orgs");
    }
    for org in &set.orgs {
        add(&format_args!("{:?}", org.name));
    }
    add(&"asn_countries");
    for country in &set.asn_countries {
        add(country);
    }
    add(&"countries");
    for country in &set.countries {
        add(country);
    }
    add(&"prefixes");
    for prefix in &set.prefixes {
        add(prefix);
    }
    line
}
