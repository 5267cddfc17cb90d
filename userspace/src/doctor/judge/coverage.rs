//! Whether the configured devices are all that receive what zones are about: a VLAN that also comes
//! in by a second trunk, another port of a bridge, or a device with an address of the zone.

use kordon_ebpf::layout::Action;

use crate::{
    coverage::receivers,
    doctor::{
        facts::{Facts, Kind, Link},
        finding::{Check, Finding},
    },
    policy::model::{Policy, Sources, Zone},
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
    let (links, policed) = facts.seen();
    let gaps = receivers::gaps(&links, &policed, policy);
    let mut found: Vec<Finding> = gaps
        .into_iter()
        .map(|gap| Finding::gap(Check::Coverage, gap))
        .collect();
    // What has an address of a zone may have its devices, in whatever VLAN: no more than a hint.
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
        let is_said = found.iter().any(|f| f.about.as_ref() == Some(&link.name));
        if let Some(zone) = zone.filter(|_| !is_said) {
            let words = format!(
                "`{}` has the address {net}, in the `sources` of zone `{}`, and is not policed",
                link.name, zone.name
            );
            let cure = format!(
                "add an `[[interface]]` with `device = \"{}\"` and restart the daemon; nothing, if only \
                 what is not policed is behind it",
                link.name
            );
            found.push(Finding::warning(Check::Coverage, words, cure).about(&link.name));
        }
    }
    found
}

/// The device that frames of a sub-interface arrive on, and their tags, the outermost first.
fn base_of<'f>(facts: &'f Facts, link: &Link) -> Option<(&'f Link, Vec<u16>)> {
    let Kind::Vlan(vid) = link.kind else {
        return None;
    };
    let below = facts.by_index(link.below?)?;
    match below.kind {
        Kind::Vlan(outer) => Some((facts.by_index(below.below?)?, vec![outer, vid])),
        _ => Some((below, vec![vid])),
    }
}

fn is_configured(facts: &Facts, link: &Link) -> bool {
    let is_one = |link: &Link| facts.devices().any(|(i, _)| i.device == link.name);
    let mut ports = facts.ports(link.index).peekable();
    let by_ports = link.kind == Kind::Bond && ports.peek().is_some() && ports.all(is_one);
    is_one(link) || by_ports
}

/// VLANs that arrive on policed interfaces and are in no zone.
fn without_zone(facts: &Facts, policy: &Policy) -> Vec<Finding> {
    let mut found = Vec::new();
    for (interface, link) in facts.devices() {
        let Some(link) = link else { continue };
        let mut unzoned = Vec::new();
        for sub in facts.all_links() {
            let Some((base, tags)) = base_of(facts, sub) else {
                continue;
            };
            let is_here = base.index == link.index || link.master == Some(base.index);
            let has = |zone: &Zone| {
                zone.is_on(&interface.name) && (zone.names(&tags) || zone.vlans.is_empty())
            };
            if is_here && !policy.zones.iter().any(has) {
                let tags: Vec<String> = tags.iter().map(u16::to_string).collect();
                let vid = tags.join(".");
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
