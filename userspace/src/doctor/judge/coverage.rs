//! Whether the configured devices are all that receive what zones are about: a VLAN that also comes
//! in by a second trunk, another port of a bridge, or a device with an address of the zone.

use std::collections::BTreeMap;

use kordon_ebpf::layout::Action;

use crate::{
    doctor::{
        facts::{Facts, Kind, Link},
        finding::{Check, Finding},
    },
    policy::model::{Policy, Sources, VlanMatch, Zone},
};

/// See the module.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    if let Err(why) = &facts.links {
        return vec![
            Finding::unknown(Check::Coverage, why),
            Finding::unknown(Check::NoZone, why),
        ];
    }
    let Some(policy) = facts.rules() else {
        let why = match &facts.policy {
            Err(why) => why.clone(),
            Ok(_) => "the policy cannot be read".to_owned(),
        };
        return vec![
            Finding::unknown(Check::Coverage, &why),
            Finding::unknown(Check::NoZone, &why),
        ];
    };
    let mut found = uncovered(facts, policy);
    if found.is_empty() {
        found.push(Finding::fine(
            Check::Coverage,
            "no other device receives what zones are about, as far as sub-interfaces, bridges and \
             addresses show",
        ));
    }
    found.extend(without_zone(facts, policy));
    found
}

fn uncovered(facts: &Facts, policy: &Policy) -> Vec<Finding> {
    // One finding for each device, whatever leads there first.
    let mut found: BTreeMap<String, Finding> = BTreeMap::new();
    let mut note = |device: &str, words: String| {
        let cure = format!(
            "add an `[[interface]]` with `device = \"{device}\"` and restart the daemon; nothing, if only \
             what is not policed is behind it"
        );
        let finding = Finding::warning(Check::Coverage, words, cure).about(device);
        found.entry(device.to_owned()).or_insert(finding);
    };
    for link in facts.all_links() {
        if let Some((base, outer)) = base_of(facts, link) {
            let inner = match link.kind {
                Kind::Vlan(vid) if base.index != link.below.unwrap_or(base.index) => Some(vid),
                _ => None,
            };
            for zone in policy.zones.iter().filter(|z| has(z, Some(outer), inner)) {
                for carrier in carriers(facts, base, outer) {
                    if !polices(facts, carrier, zone) {
                        note(
                            &carrier.name,
                            format!(
                                "VLAN {outer} of zone `{}` also comes in on `{}` (by `{}`), where the zone is \
                                 not policed",
                                zone.name, carrier.name, link.name
                            ),
                        );
                    }
                }
            }
        }
    }
    // Ports of one bridge pass frames to each other.
    for (_, link) in facts.devices() {
        let bridge = link.and_then(|link| facts.by_index(link.master?));
        let Some(bridge) = bridge.filter(|b| matches!(b.kind, Kind::Bridge(_))) else {
            continue;
        };
        for port in facts
            .ports(bridge.index)
            .filter(|port| !is_configured(facts, port))
        {
            let shared = policy
                .zones
                .iter()
                .flat_map(|zone| &zone.vlans)
                .find(|vlan| match vlan {
                    VlanMatch::Untagged => true,
                    VlanMatch::Outer(vid) | VlanMatch::Pair(vid, _) => {
                        bridge.kind == Kind::Bridge(false) || port.vlans.contains(vid)
                    }
                });
            if shared.is_some() || policy.zones.iter().any(|zone| zone.vlans.is_empty()) {
                note(
                    &port.name,
                    format!(
                        "`{}` is a port of the bridge `{}`, as a policed interface is, and frames of policed \
                         VLANs that come in there are not policed",
                        port.name, bridge.name
                    ),
                );
            }
        }
    }
    for (index, net) in &facts.addresses {
        let Some(link) = facts.by_index(*index) else {
            continue;
        };
        let is_leaf = matches!(link.kind, Kind::Card | Kind::Veth | Kind::Bond);
        if !is_leaf || link.name == "lo" || link.master.is_some() || is_configured(facts, link) {
            continue;
        }
        let zone = policy.zones.iter().find(|zone| match &zone.sources {
            Sources::Prefixes(all) => all
                .iter()
                .any(|prefix| prefix.contains(net) || net.contains(prefix)),
            _ => false,
        });
        if let Some(zone) = zone {
            note(
                &link.name,
                format!(
                    "`{}` has the address {net}, in the `sources` of zone `{}`, and is not policed",
                    link.name, zone.name
                ),
            );
        }
    }
    found.into_values().collect()
}

/// The device that frames of a sub-interface arrive on, and their outer tag.
fn base_of<'f>(facts: &'f Facts, link: &Link) -> Option<(&'f Link, u16)> {
    let Kind::Vlan(vid) = link.kind else {
        return None;
    };
    let below = facts.by_index(link.below?)?;
    match below.kind {
        Kind::Vlan(outer) => Some((facts.by_index(below.below?)?, outer)),
        _ => Some((below, vid)),
    }
}

/// The devices that frames of a VLAN come in on, where they end on one.
fn carriers<'f>(facts: &'f Facts, base: &'f Link, vid: u16) -> Vec<&'f Link> {
    match base.kind {
        Kind::Bridge(filtering) => {
            let ports = facts.ports(base.index);
            // A port that is a sub-interface adds a tag of its own, and a veth may lead to a container.
            let ports = ports.filter(|port| !matches!(port.kind, Kind::Vlan(_)));
            ports
                .filter(|port| !filtering || port.vlans.contains(&vid))
                .collect()
        }
        _ => vec![base],
    }
}

fn is_configured(facts: &Facts, link: &Link) -> bool {
    let is_one = |link: &Link| facts.devices().any(|(i, _)| i.device == link.name);
    let above = link.master.and_then(|master| facts.by_index(master));
    let is_port = above.is_some_and(|above| above.kind == Kind::Bond && is_one(above));
    let mut ports = facts.ports(link.index).peekable();
    let by_ports = link.kind == Kind::Bond && ports.peek().is_some() && ports.all(is_one);
    is_one(link) || is_port || by_ports
}

/// Whether a zone is policed on a device.
fn polices(facts: &Facts, link: &Link, zone: &Zone) -> bool {
    if !is_configured(facts, link) {
        return false;
    }
    let interface = facts.devices().find(|(i, _)| i.device == link.name);
    let name = interface.map(|(interface, _)| &interface.name);
    zone.interfaces.is_empty() || name.is_none_or(|name| zone.interfaces.contains(name))
}

/// Whether a zone has frames with these tags.
fn has(zone: &Zone, outer: Option<u16>, inner: Option<u16>) -> bool {
    zone.vlans.iter().any(|vlan| match *vlan {
        VlanMatch::Untagged => outer.is_none(),
        VlanMatch::Outer(vid) => outer == Some(vid),
        VlanMatch::Pair(a, b) => (outer, inner) == (Some(a), Some(b)),
    })
}

/// VLANs that arrive on policed interfaces and are in no zone.
fn without_zone(facts: &Facts, policy: &Policy) -> Vec<Finding> {
    let mut found = Vec::new();
    for (interface, link) in facts.devices() {
        let Some(link) = link else { continue };
        let mut unzoned = Vec::new();
        for sub in facts.all_links() {
            let Some((base, outer)) = base_of(facts, sub) else {
                continue;
            };
            let inner = match sub.kind {
                Kind::Vlan(vid) if sub.below != Some(base.index) => Some(vid),
                _ => None,
            };
            let is_here = base.index == link.index || link.master == Some(base.index);
            if is_here
                && !policy
                    .zones
                    .iter()
                    .any(|zone| has(zone, Some(outer), inner) || zone.vlans.is_empty())
            {
                let vid = inner.map_or(outer.to_string(), |inner| format!("{outer}.{inner}"));
                unzoned.push(format!(
                    "{vid} (`{}`, {} packets received)",
                    sub.name, sub.received
                ));
            }
        }
        let tagged = unpoliced(facts, &interface.name);
        let what = if interface.drop_unknown {
            "dropped"
        } else {
            "not policed"
        };
        let name = &link.name;
        let look =
            format!("`tcpdump -nei {name} vlan` shows them; name them in a zone, or leave them");
        found.push(
            match (unzoned.is_empty(), tagged) {
                (false, _) => Finding::note(
                    Check::NoZone,
                    format!(
                        "VLANs on `{name}` that no zone has, {what}: {}",
                        unzoned.join(", ")
                    ),
                )
                .cured("name them in a zone, or leave them: kordon does not touch them"),
                (true, Some(count)) if count > 0.0 => Finding::note(
                    Check::NoZone,
                    format!("{count} frames with a VLAN tag that no zone has passed on `{name}`"),
                )
                .cured(look),
                (true, Some(_)) => Finding::fine(
                    Check::NoZone,
                    format!("all frames on `{name}` that had a tag were in a zone"),
                ),
                (true, None) => Finding::unknown(
                    Check::NoZone,
                    facts.metrics.as_ref().err().map_or("", String::as_str),
                ),
            }
            .about(name),
        );
    }
    found
}

/// Frames with a tag that an interface let pass without a zone.
fn unpoliced(facts: &Facts, interface: &str) -> Option<f64> {
    let samples = facts.metrics.as_ref().ok()?;
    let drop = Action::Drop.as_str();
    let tagged = samples.iter().filter(|sample| {
        let is_here = sample
            .labels
            .get("interface")
            .is_some_and(|name| name == interface);
        let tag = sample.labels.get("tag").is_some_and(|tag| tag != "none");
        let passed = sample.name == "kordon_interface_unpoliced_packets_total" && tag;
        let dropped = sample.name == "kordon_interface_packets_total"
            && sample
                .labels
                .get("action")
                .is_some_and(|action| action == drop);
        is_here && (passed || dropped)
    });
    Some(tagged.map(|sample| sample.value).sum())
}
