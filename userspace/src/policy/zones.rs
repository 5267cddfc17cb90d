//! `[zone.NAME]`: which frames belong to a zone and how it treats them.

use std::collections::HashMap;

use ipnet::IpNet;
use kordon_ebpf::layout::{Action, MAX_VID_TABLES, MAX_ZONE_SOURCES, MAX_ZONES, Reason};
use toml::de::DeTable;

use super::model::{Record, Sources, Tunnels, Unparsable, VlanMatch, Zone};
use super::text::{Report, Span, Value};
use super::values;
use crate::diagnostic::{did_you_mean, quoted};

const KEYS: [&str; 7] = [
    "vlans",
    "interfaces",
    "default",
    "sources",
    "record",
    "pppoe",
    "unparsable",
];

/// One for all interfaces that no zone names, and one for each that is named.
const MAX_INTERFACES: usize = MAX_VID_TABLES - 1;

/// What other tools call the actions.
pub(super) const ACTION_SYNONYMS: [(&str, &str); 8] = [
    ("deny", "drop"),
    ("block", "drop"),
    ("reject", "drop"),
    ("discard", "drop"),
    ("allow", "pass"),
    ("accept", "pass"),
    ("permit", "pass"),
    ("log", "audit"),
];

/// Where a zone's parts stand.
#[derive(Debug, Default)]
pub(super) struct ZonePlaces {
    pub(super) header: Span,
    pub(super) vlans: Vec<(Span, Vec<VlanMatch>)>,
    pub(super) interfaces: Vec<(Span, String)>,
    /// Something is wrong with its VLANs or interfaces: what it matches is not known.
    is_unclear: bool,
}

/// All zones, in the order of the file, whatever is wrong with them: rules that
/// name a broken zone are not broken for that. `None`: it is not known which there are.
pub(super) fn read(report: &mut Report<'_>, value: &Value<'_>) -> Option<Vec<(Zone, ZonePlaces)>> {
    let tables = report.table(value, "`zone`", "`[zone.NAME]`")?;
    let mut zones = Vec::new();
    for (key, value) in tables {
        let name: &str = key.get_ref();
        report.checked(&key.span(), values::name(name, "a zone"));
        if zones.len() == MAX_ZONES {
            report.error(
                &value.span(),
                format!("zone {} is one too many", quoted(name)),
                format!("a policy has at most {MAX_ZONES} zones; merge some"),
            );
            return None;
        }
        let what = format!("zone {}", quoted(name));
        let (mut zone, mut places) = match report.table(value, &what, "`[zone.NAME]`") {
            Some(table) => read_zone(report, table, name, value.span()),
            None => (empty(name), ZonePlaces::default()),
        };
        places.header = value.span();
        zone.name = name.to_owned();
        zones.push((zone, places));
    }
    equal_matches(report, &zones);
    Some(zones)
}

fn empty(name: &str) -> Zone {
    Zone {
        name: name.to_owned(),
        vlans: Vec::new(),
        interfaces: Vec::new(),
        default: Action::Pass,
        sources: Sources::Unset,
        record: Record::default(),
        pppoe: false,
        unparsable: Unparsable::default(),
    }
}

fn read_zone(
    report: &mut Report<'_>,
    table: &DeTable<'_>,
    name: &str,
    header: Span,
) -> (Zone, ZonePlaces) {
    let owner = quoted(name);
    let of = |key: &str| format!("`{key}` of zone {owner}");
    let meant = report.known_keys(table, &KEYS, &format!(" in zone {owner}"));
    let mut zone = empty(name);
    let mut places = ZonePlaces::default();
    let found = report.errors();

    if let Some(value) = table.get("vlans") {
        read_vlans(report, value, &of("vlans"), &mut places);
    }
    zone.vlans = places.vlans.iter().flat_map(|(_, v)| v.clone()).collect();
    zone.vlans.sort_unstable();
    zone.vlans.dedup();

    if let Some(value) = table.get("interfaces") {
        let what = of("interfaces");
        let entries = report.strings(value, &what, "`interfaces = [\"trunk\"]`");
        report.refuse_empty(
            value,
            &format!("{what} is empty"),
            "leave it out to take frames of any interface",
        );
        for (span, text) in entries {
            match values::name(text, "an interface") {
                Ok(_) if zone.interfaces.iter().any(|known| known == text) => report.warning(
                    &span,
                    format!("interface {} is named twice", quoted(text)),
                    "remove one of them",
                ),
                Ok(interface) => {
                    zone.interfaces.push(interface.clone());
                    places.interfaces.push((span, interface));
                }
                Err(problem) => report.problem(&span, problem),
            }
        }
    }
    let is_meant = |key: &&str| ["vlans", "interfaces"].contains(key);
    places.is_unclear = report.errors() > found || meant.iter().any(is_meant);
    if !table.contains_key("vlans")
        && !table.contains_key("interfaces")
        && !meant.iter().any(is_meant)
    {
        report.error(
            &header,
            format!("zone {owner} has neither VLANs nor interfaces"),
            "add `vlans = [20]`, or `interfaces = [\"trunk\"]` for all frames of an interface",
        );
    }
    if let Some(value) = table.get("default") {
        let words = [("pass", Action::Pass), ("drop", Action::Drop)];
        if let Some(action) = report.word(value, &of("default"), &words, &ACTION_SYNONYMS) {
            zone.default = action;
        }
    }
    if let Some(value) = table.get("sources") {
        zone.sources = read_sources(report, value, &of("sources"));
    }
    if let Some(value) = table.get("record") {
        let words = [
            ("off", Record::Off),
            ("drops", Record::Drops),
            ("summary", Record::Summary),
            ("all", Record::All),
        ];
        if let Some(record) = report.word(value, &of("record"), &words, &[("none", "off")]) {
            zone.record = record;
        }
    }
    if let Some(value) = table.get("pppoe") {
        zone.pppoe = report
            .boolean(value, &of("pppoe"), "`pppoe = true`")
            .unwrap_or_default();
    }
    if let Some(value) = table.get("unparsable") {
        let example = format!("`[zone.{name}.unparsable]`");
        if let Some(table) = report.table(value, &of("unparsable"), &example) {
            zone.unparsable = read_unparsable(report, table, &owner);
        }
    }
    (zone, places)
}

fn read_vlans(report: &mut Report<'_>, value: &Value<'_>, what: &str, places: &mut ZonePlaces) {
    const EXAMPLE: &str = "`vlans = [20, \"30-39\"]`";
    report.refuse_empty(
        value,
        &format!("{what} is empty"),
        "name a VLAN, or leave it out to take all frames of the zone's interfaces",
    );
    let mut seen: Vec<VlanMatch> = Vec::new();
    for (span, text) in report.scalars(value, what, "a number or a string", EXAMPLE) {
        match values::vlans(&text) {
            Ok(vlans) => {
                if let Some(twice) = vlans.iter().find(|vlan| seen.contains(vlan)) {
                    report.warning(
                        &span,
                        format!("{} is named twice in {what}", vlan_text(*twice)),
                        "remove one of them",
                    );
                }
                seen.extend(&vlans);
                places.vlans.push((span, vlans));
            }
            Err(problem) => report.problem(&span, problem),
        }
    }
}

fn read_sources(report: &mut Report<'_>, value: &Value<'_>, what: &str) -> Sources {
    if let Some(text) = value.get_ref().as_str() {
        if text != "connected" {
            let help = if values::prefix(text).is_ok() {
                format!("write a list: `sources = [\"{text}\"]`")
            } else if did_you_mean(text, ["connected"]).is_some() {
                "did you mean `\"connected\"`".to_owned()
            } else {
                "it is `\"connected\"` or a list of prefixes, as in `[\"10.20.0.0/16\"]`".to_owned()
            };
            let message = format!("{what} cannot be {}", quoted(text));
            report.error(&value.span(), message, help);
        }
        return Sources::Connected;
    }
    report.refuse_empty(
        value,
        &format!("{what} is empty"),
        "leave it out, or list the networks of the zone: an empty list would drop everything",
    );
    let mut prefixes: Vec<IpNet> = Vec::new();
    let entries = report.strings(
        value,
        what,
        "`sources = [\"10.20.0.0/16\"]` or `\"connected\"`",
    );
    for (span, text) in entries {
        match values::prefix(text) {
            Ok(prefix) => {
                let family = |net: &&IpNet| net.addr().is_ipv4() == prefix.addr().is_ipv4();
                if prefixes.iter().filter(family).count() == MAX_ZONE_SOURCES {
                    report.error(
                        &span,
                        format!("prefix {} is one too many in {what}", quoted(text)),
                        format!("a zone has at most {MAX_ZONE_SOURCES} of each family; merge some"),
                    );
                }
                prefixes.push(prefix);
            }
            Err(problem) => report.problem(&span, problem),
        }
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    Sources::Prefixes(prefixes)
}

fn read_unparsable(report: &mut Report<'_>, table: &DeTable<'_>, owner: &str) -> Unparsable {
    const ACTIONS: [(&str, Action); 3] = [
        ("drop", Action::Drop),
        ("audit", Action::Audit),
        ("pass", Action::Pass),
    ];
    let mut unparsable = Unparsable::default();
    for (key, value) in table {
        let name: &str = key.get_ref();
        let what = format!("`{name}` of zone {owner}");
        let reason = Unparsable::REASONS.into_iter().find(|r| r.as_str() == name);
        if let Some(field) = reason.and_then(|reason| unparsable.of(reason)) {
            if let Some(action) = report.word(value, &what, &ACTIONS, &ACTION_SYNONYMS) {
                *field = action;
            }
            continue;
        }
        match name {
            // `tunnel` is the reason's name in metrics.
            "tunnels" | "tunnel" => {
                let words: Vec<_> = ACTIONS
                    .map(|(word, action)| (word, Tunnels::Action(action)))
                    .into_iter()
                    .chain([("inspect", Tunnels::Inspect)])
                    .collect();
                if name == "tunnel" && table.contains_key("tunnels") {
                    report.error(
                        &key.span(),
                        "`tunnel` and `tunnels` are the same key",
                        "remove one of them",
                    );
                }
                if let Some(tunnels) = report.word(value, &what, &words, &ACTION_SYNONYMS) {
                    unparsable.tunnels = tunnels;
                }
            }
            "vlan-depth" => {
                report.error(
                    &key.span(),
                    format!("`vlan-depth` of zone {owner} cannot be set"),
                    "frames with too many tags are always dropped; remove the line",
                );
            }
            _ => {}
        }
    }
    let known = Unparsable::REASONS.map(Reason::as_str).into_iter();
    let known: Vec<_> = known.chain(["tunnels", "tunnel", "vlan-depth"]).collect();
    let owner = format!(" in `unparsable` of zone {owner}");
    report.known_keys(table, &known, &owner);
    unparsable
}

/// A VLAN as messages name it.
pub(super) fn vlan_text(vlan: VlanMatch) -> String {
    match vlan {
        VlanMatch::Untagged => "`untagged`".to_owned(),
        VlanMatch::Outer(outer) => format!("VLAN `{outer}`"),
        VlanMatch::Pair(outer, inner) => format!("VLAN `{outer}.{inner}`"),
    }
}

/// Two zones with the same match: which one a frame belongs to would depend on
/// the order of the file.
fn equal_matches(report: &mut Report<'_>, zones: &[(Zone, ZonePlaces)]) {
    let mut taken: HashMap<(Option<&str>, Option<VlanMatch>), usize> = HashMap::new();
    let mut named: Vec<&str> = Vec::new();
    for (id, (zone, places)) in zones.iter().enumerate() {
        // A zone whose lists were refused would seem to match everything, or more than it does.
        if places.is_unclear || places.vlans.is_empty() && places.interfaces.is_empty() {
            continue;
        }
        for (span, interface) in &places.interfaces {
            if named.contains(&interface.as_str()) {
                continue;
            }
            if named.len() == MAX_INTERFACES {
                report.error(
                    span,
                    format!("interface {} is one too many", quoted(interface)),
                    format!("the zones of a policy name at most {MAX_INTERFACES} interfaces"),
                );
            }
            named.push(interface);
        }
        let interfaces: Vec<Option<&str>> = if zone.interfaces.is_empty() {
            vec![None]
        } else {
            zone.interfaces
                .iter()
                .map(|name| Some(name.as_str()))
                .collect()
        };
        for interface in interfaces {
            let mut claim = |vlan: Option<VlanMatch>| -> Option<usize> {
                let owner = *taken.entry((interface, vlan)).or_insert(id);
                (owner != id).then_some(owner)
            };
            let on = match interface {
                Some(name) => format!(" on interface {}", quoted(name)),
                None => String::new(),
            };
            let message = |what: &str, owner: usize| {
                format!(
                    "{what}{on} is already in zone {}",
                    quoted(&zones[owner].0.name)
                )
            };
            for (span, vlans) in &places.vlans {
                let twice = vlans.iter().find_map(|v| claim(Some(*v)).map(|o| (*v, o)));
                if let Some((vlan, owner)) = twice {
                    report.error(
                        span,
                        message(&vlan_text(vlan), owner),
                        "a frame belongs to one zone: remove it from one, or tell them apart by `interfaces`",
                    );
                }
            }
            if places.vlans.is_empty()
                && let Some(owner) = claim(None)
            {
                let span = places
                    .interfaces
                    .iter()
                    .find(|(_, name)| Some(name.as_str()) == interface)
                    .map_or(&places.header, |(span, _)| span);
                report.error(
                    span,
                    message("every frame", owner),
                    "a frame belongs to one zone: remove it from one, or tell them apart by `vlans`",
                );
            }
        }
    }
}
