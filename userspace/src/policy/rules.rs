//! `[[rule]]`: from zones, to targets, an action.

use std::collections::HashMap;

use kordon_ebpf::layout::Action;
use toml::de::{DeTable, DeValue};

use super::model::{Proto, Rule, Target, ZoneId};
use super::sets::unknown_set;
use super::text::{Report, Span, Value};
use super::values;
use super::zones::ACTION_SYNONYMS;
use crate::diagnostic::{Problem, did_you_mean, quoted};

const KEYS: [&str; 8] = [
    "name", "from", "to", "proto", "ports", "action", "note", "until",
];

/// How the names of the overlay's rules start; rules of the file cannot.
const OF_OVERLAY: [&str; 2] = ["block ", "allow "];

/// Where a rule's parts stand.
#[derive(Clone, Debug, Default)]
pub(super) struct RulePlaces {
    pub(super) header: Span,
    /// The value of `name`, else the header.
    pub(super) name: Span,
    /// One for each target.
    pub(super) to: Vec<Span>,
    pub(super) proto: Span,
    pub(super) ports: Span,
    pub(super) until: Span,
}

/// What rules can name.
pub(super) struct Names<'n> {
    pub(super) zones: Vec<&'n str>,
    /// There are no others, as far as can be told.
    pub(super) all_zones: bool,
    pub(super) sets: Vec<&'n str>,
    pub(super) all_sets: bool,
}

/// All rules without errors, in the order of the file.
pub(super) fn read(
    report: &mut Report<'_>,
    value: &Value<'_>,
    names: &Names<'_>,
) -> Vec<(Rule, RulePlaces)> {
    let DeValue::Array(list) = value.get_ref() else {
        report.error(
            &value.span(),
            "`rule` must be a list of tables",
            "write `[[rule]]` with two brackets above each rule",
        );
        return Vec::new();
    };
    let mut rules = Vec::new();
    let mut taken: HashMap<String, usize> = HashMap::new();
    for (index, value) in list.iter().enumerate() {
        let what = format!("rule {}", index + 1);
        let Some(table) = report.table(value, &what, "`[[rule]]` above each rule") else {
            continue;
        };
        let mut places = RulePlaces {
            header: value.span(),
            name: value.span(),
            ..RulePlaces::default()
        };
        let name = read_name(report, table, index, &mut places);
        let line = report.line(places.name.start);
        match taken.get(&name) {
            Some(first) => report.error(
                &places.name,
                format!("rule {} is defined twice", quoted(&name)),
                format!("the first is in line {first}; rename one"),
            ),
            None => {
                taken.insert(name.clone(), line);
            }
        }
        if let Some(rule) = read_rule(report, table, name, names, &mut places) {
            rules.push((rule, places));
        }
    }
    rules
}

fn read_name(
    report: &mut Report<'_>,
    table: &DeTable<'_>,
    index: usize,
    places: &mut RulePlaces,
) -> String {
    let unnamed = format!("rule-{}", index + 1);
    let Some(value) = table.get("name") else {
        return unnamed;
    };
    places.name = value.span();
    let what = format!("`name` of rule {}", index + 1);
    let Some(name) = report.string(value, &what, "`name = \"no-hostile-networks\"`") else {
        return unnamed;
    };
    let length = name.chars().count();
    if !(1..=64).contains(&length) || name.chars().any(char::is_control) || name.trim() != name {
        report.error(
            &value.span(),
            format!("{} cannot be the name of a rule", quoted(name)),
            "names are 1 to 64 characters, without control characters or spaces around them",
        );
        return unnamed;
    }
    if OF_OVERLAY.iter().any(|p| name.starts_with(p)) {
        report.error(
            &value.span(),
            format!("{} cannot be the name of a rule", quoted(name)),
            "names that start with `block ` or `allow ` belong to `kordon block` and `kordon allow`",
        );
    }
    name.to_owned()
}

fn read_rule(
    report: &mut Report<'_>,
    table: &DeTable<'_>,
    name: String,
    names: &Names<'_>,
    places: &mut RulePlaces,
) -> Option<Rule> {
    let owner = format!("rule {}", quoted(&name));
    let of = |key: &str| format!("`{key}` of {owner}");
    let meant = report.known_keys(table, &KEYS, &format!(" in {owner}"));
    let mut missing = |key: &str, example: &str| {
        let value = table.get(key);
        if value.is_none() && !meant.contains(&key) {
            let span = places.header.clone();
            report.error(
                &span,
                format!("{owner} has no `{key}`"),
                format!("add {example}"),
            );
        }
        value
    };
    let from = missing(
        "from",
        "`from = \"ZONE\"`, or `from = \"*\"` for every zone",
    );
    let to = missing("to", "`to = \"SET\"`, or `to = \"any\"`");
    let action = missing("action", "`action = \"drop\"`, `\"pass\"` or `\"audit\"`");

    let from = from.and_then(|value| read_from(report, value, &of("from"), names));
    let to = to.and_then(|value| read_to(report, value, &of("to"), names, places));
    let action = action.and_then(|value| {
        let words = Action::ALL.map(|action| (action.as_str(), action));
        report.word(value, &of("action"), &words, &ACTION_SYNONYMS)
    });
    let mut proto = None;
    if let Some(value) = table.get("proto") {
        places.proto = value.span();
        proto = read_proto(report, value, &of("proto"));
    }
    let mut ports = Vec::new();
    if let Some(value) = table.get("ports") {
        places.ports = value.span();
        let what = of("ports");
        let help = "leave it out to match every port";
        report.refuse_empty(value, &format!("{what} is empty"), help);
        let example = "`ports = [443, \"8000-8100\"]`";
        for (span, text) in report.scalars(value, &what, "a number or a string", example) {
            ports.extend(report.checked(&span, values::ports(&text)));
        }
        ports = values::merge(ports);
        if let Some(proto @ (Proto::Icmp | Proto::Number(_))) = proto {
            report.error(
                &value.span(),
                format!(
                    "{owner} has ports, but protocol {} has none",
                    proto_text(proto)
                ),
                "ports go with `proto = \"tcp\"`, `proto = \"udp\"` or without `proto`",
            );
        }
    }
    let note = table
        .get("note")
        .and_then(|value| report.string(value, &of("note"), "`note = \"ticket 4711\"`"))
        .map(str::to_owned);
    let mut until = None;
    if let Some(value) = table.get("until") {
        places.until = value.span();
        until = report.instant(value, &of("until"));
    }
    Some(Rule {
        name,
        from: from?,
        to: to?,
        proto,
        ports,
        action: action?,
        note,
        until,
        overlay: false,
    })
}

fn read_from(
    report: &mut Report<'_>,
    value: &Value<'_>,
    what: &str,
    names: &Names<'_>,
) -> Option<Vec<ZoneId>> {
    report.refuse_empty(
        value,
        &format!("{what} is empty"),
        "name a zone, or `\"*\"` for every zone",
    );
    let mut from = Vec::new();
    let mut good = true;
    for entry in Report::one_or_list(value) {
        let Some(name) = report.string(entry, what, "`from = \"ZONE\"`, a list, or `\"*\"`") else {
            good = false;
            continue;
        };
        if name == "*" {
            if names.zones.is_empty() && names.all_zones {
                report.error(
                    &entry.span(),
                    format!("{what} is every zone, but there is none"),
                    "define one with `[zone.NAME]`",
                );
            }
            from.extend(0..names.zones.len());
            continue;
        }
        match zone_id(name, &names.zones) {
            Ok(id) => from.push(id),
            Err(problem) => {
                good = false;
                if names.all_zones {
                    report.problem(&entry.span(), problem);
                }
            }
        }
    }
    from.sort_unstable();
    from.dedup();
    (good && !from.is_empty()).then_some(from)
}

/// The zone of this name, or what was likely meant.
pub(super) fn zone_id(name: &str, zones: &[&str]) -> Result<ZoneId, Problem> {
    zones
        .iter()
        .position(|known| *known == name)
        .ok_or_else(|| {
            let help = match did_you_mean(name, zones.iter().copied()) {
                Some(guess) => format!("did you mean `{guess}`"),
                None if zones.is_empty() => "define one with `[zone.NAME]`".to_owned(),
                None => format!("zones are: {}", zones.join(", ")),
            };
            Problem::new(format!("there is no zone {}", quoted(name)), help)
        })
}

fn read_to(
    report: &mut Report<'_>,
    value: &Value<'_>,
    what: &str,
    names: &Names<'_>,
    places: &mut RulePlaces,
) -> Option<Vec<Target>> {
    report.refuse_empty(
        value,
        &format!("{what} is empty"),
        "name a set, or `\"any\"`",
    );
    let mut to = Vec::new();
    let mut good = true;
    for entry in Report::one_or_list(value) {
        let Some(name) = report.string(entry, what, "`to = \"SET\"` or a list of sets") else {
            good = false;
            continue;
        };
        let target = match name {
            "any" => Target::Any,
            "private" => Target::Private,
            "multicast" => Target::Multicast,
            "unrouted" => Target::Unrouted,
            "router" => Target::Router,
            _ => match names.sets.iter().position(|known| *known == name) {
                Some(id) => Target::Set(id),
                None => {
                    good = false;
                    if ["*", "all", "internet", "0.0.0.0/0", "::/0"].contains(&name) {
                        report.error(
                            &entry.span(),
                            format!("there is no set {}", quoted(name)),
                            "every destination is `\"any\"`",
                        );
                    } else if names.all_sets {
                        unknown_set(report, &entry.span(), name, &names.sets);
                    }
                    continue;
                }
            },
        };
        if !to.contains(&target) {
            to.push(target);
            places.to.push(entry.span());
        }
    }
    (good && !to.is_empty()).then_some(to)
}

fn read_proto(report: &mut Report<'_>, value: &Value<'_>, what: &str) -> Option<Proto> {
    const HELP: &str = "it is `\"tcp\"`, `\"udp\"`, `\"icmp\"` or a number from 0 to 255";
    if let Some(number) = value.get_ref().as_integer() {
        return match u8::from_str_radix(number.as_str(), number.radix()) {
            Ok(6) => Some(Proto::Tcp),
            Ok(17) => Some(Proto::Udp),
            Ok(number) => Some(Proto::Number(number)),
            Err(_) => {
                report.error(
                    &value.span(),
                    format!("there is no protocol {number}"),
                    HELP,
                );
                None
            }
        };
    }
    let text = report.string(
        value,
        what,
        "`proto = \"tcp\"`, `\"udp\"`, `\"icmp\"` or a number",
    )?;
    match text {
        "tcp" => return Some(Proto::Tcp),
        "udp" => return Some(Proto::Udp),
        "icmp" => return Some(Proto::Icmp),
        _ => {}
    }
    let help = match text.to_lowercase().as_str() {
        "icmp6" | "icmpv6" | "ipv6-icmp" => {
            "`\"icmp\"` is ICMP in IPv4 and ICMPv6 in IPv6 packets".to_owned()
        }
        "gre" => "write its number: `proto = 47`".to_owned(),
        "esp" => "write its number: `proto = 50`".to_owned(),
        "sctp" => "write its number: `proto = 132`".to_owned(),
        "any" | "*" | "all" | "ip" => "leave `proto` out to match every protocol".to_owned(),
        lower if !lower.is_empty() && lower.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("write the number without quotes: `proto = {lower}`")
        }
        lower => match did_you_mean(lower, ["tcp", "udp", "icmp"]) {
            Some(guess) => format!("did you mean `\"{guess}\"`"),
            None => HELP.to_owned(),
        },
    };
    report.error(
        &value.span(),
        format!("there is no protocol {}", quoted(text)),
        help,
    );
    None
}

/// A protocol as messages name it.
pub(super) fn proto_text(proto: Proto) -> String {
    match proto {
        Proto::Tcp => "`tcp`".to_owned(),
        Proto::Udp => "`udp`".to_owned(),
        Proto::Icmp => "`icmp`".to_owned(),
        Proto::Number(number) => format!("`{number}`"),
    }
}
