//! Warnings: what is allowed and likely not meant. They look at a policy
//! without errors, and never at the overlay: its entries come and go.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use kordon_ebpf::layout::Action;

use super::model::{
    MULTICAST, PRIVATE, Policy, Proto, Rule, Set, Sources, Target, Tunnels, VlanMatch, ZoneId,
};
use super::rules::{RulePlaces, proto_text};
use super::sets::SetPlaces;
use super::text::Report;
use super::zones::ZonePlaces;
use crate::asn::Country;
use crate::asn::model::AsnDb;
use crate::diagnostic::quoted;

/// Where the parts of a policy stand.
pub(super) struct Places {
    pub(super) zones: Vec<ZonePlaces>,
    pub(super) sets: Vec<SetPlaces>,
    pub(super) rules: Vec<RulePlaces>,
}

pub(super) fn check(report: &mut Report<'_>, policy: &Policy, places: &Places, db: Option<&AsnDb>) {
    zones(report, policy, places);
    for (set, places) in policy.sets.iter().zip(&places.sets) {
        if is_empty(set) {
            report.warning(
                &places.header,
                format!("set {} is empty", quoted(&set.name)),
                "rules to it match nothing: fill it or remove it",
            );
        }
        translated(report, policy, set, places);
        if let Some(db) = db {
            countries(report, set, places, db);
        }
    }
    if let Some(db) = db {
        silent_asns(report, &places.sets, db);
    }
    shadowed(report, policy, &places.rules);
    for (rule, places) in policy.rules.iter().zip(&places.rules) {
        tunnel_protocol(report, policy, rule, places);
        large_udp(report, policy, rule, places);
        unpoliced(report, policy, rule, places);
    }
}

/// Prefixes of which packets are judged by the IPv4 address that they embed.
fn translated(report: &mut Report<'_>, policy: &Policy, set: &Set, places: &SetPlaces) {
    let is_translated = |net: &&IpNet| matches!(net, IpNet::V6(net) if policy.translates(net));
    if let Some(net) = set.prefixes.iter().find(is_translated) {
        report.warning(
            &places.header,
            format!(
                "`{net}` of set {} never matches: it is in `nat64`",
                quoted(&set.name)
            ),
            "packets to it are judged by the IPv4 address in them: write the IPv4 network",
        );
    }
}

fn is_empty(set: &Set) -> bool {
    set.asns.is_empty()
        && set.orgs.is_empty()
        && set.asn_countries.is_empty()
        && set.countries.is_empty()
        && set.prefixes.is_empty()
}

/// Sets that no rule names, not even one that has ended.
pub(super) fn unused_sets(report: &mut Report<'_>, policy: &Policy, places: &Places) {
    let mut used: BTreeSet<usize> = BTreeSet::new();
    for target in policy.rules.iter().flat_map(|rule| &rule.to) {
        if let Target::Set(id) = target {
            used.insert(*id);
        }
    }
    for inner in places.sets.iter().flat_map(|set| &set.sets) {
        used.insert(inner.1);
    }
    for (id, set) in policy.sets.iter().enumerate() {
        if !used.contains(&id) {
            report.warning(
                &places.sets[id].header,
                format!("set {} is not used by any rule", quoted(&set.name)),
                format!("add a rule with `to = \"{}\"`, or remove the set", set.name),
            );
        }
    }
}

fn zones(report: &mut Report<'_>, policy: &Policy, places: &Places) {
    for (id, (zone, places)) in policy.zones.iter().zip(&places.zones).enumerate() {
        let name = quoted(&zone.name);
        let drops = |rule: &Rule| rule.action == Action::Drop && rule.from.contains(&id);
        if zone.default == Action::Pass && !policy.rules.iter().any(drops) {
            report.warning(
                &places.header,
                format!("zone {name} passes everything: no rule drops and its default is `pass`"),
                "add a `drop` rule, or set `default = \"drop\"`",
            );
        }
        let is_named = |rule: &Rule| rule.from.contains(&id);
        if zone.default == Action::Drop && !policy.rules.iter().any(is_named) {
            report.warning(
                &places.header,
                format!("zone {name} drops everything: its default is `drop` and it has no rule"),
                "add a `pass` rule for what its cameras need",
            );
        }
        if zone.sources == Sources::Unset {
            report.warning(
                &places.header,
                format!("zone {name} has no `sources`: its cameras can write most addresses as their own"),
                "add `sources = \"connected\"`, or the networks of its cameras",
            );
        }
        if let Some((span, _)) = places
            .vlans
            .iter()
            .find(|(_, vlans)| vlans.contains(&VlanMatch::Outer(1)))
        {
            report.warning(
                span,
                format!("zone {name} polices VLAN 1"),
                "switches put management and unconfigured ports there, mostly untagged: give cameras a VLAN of their own",
            );
        }
    }
}

/// What targets hold, to be compared with what others hold.
#[derive(Default)]
struct Content {
    builtin: BTreeSet<Target>,
    sets: Vec<Set>,
    /// Disjoint and ascending.
    prefixes: Vec<IpNet>,
}

impl Content {
    fn add(&mut self, policy: &Policy, targets: &[Target]) {
        for target in targets {
            match target {
                Target::Set(id) => {
                    self.prefixes.extend(&policy.sets[*id].prefixes);
                    self.sets.push(Set {
                        prefixes: Vec::new(),
                        ..policy.sets[*id].clone()
                    });
                }
                Target::Private => self.prefixes.extend(PRIVATE),
                Target::Multicast => self.prefixes.extend(MULTICAST),
                Target::Any | Target::Unrouted | Target::Router => {
                    self.builtin.insert(*target);
                }
            }
        }
        self.prefixes = IpNet::aggregate(&self.prefixes);
        self.prefixes.sort_unstable();
    }

    fn covers(&self, policy: &Policy, target: Target) -> bool {
        if self.builtin.contains(&Target::Any) || self.builtin.contains(&target) {
            return true;
        }
        match target {
            Target::Any | Target::Unrouted | Target::Router => false,
            Target::Private => self.has_all(&PRIVATE),
            Target::Multicast => self.has_all(&MULTICAST),
            Target::Set(id) => {
                let set = &policy.sets[id];
                // What an organisation has is not known without a database.
                let known_orgs = set.orgs.iter().all(|org| !org.asns.is_empty());
                known_orgs
                    && set.asns.iter().all(|asns| {
                        self.sets.iter().any(|known| {
                            known
                                .asns
                                .iter()
                                .any(|k| k.start() <= asns.start() && k.end() >= asns.end())
                        })
                    })
                    && self.has_countries(&set.asn_countries, |known| &known.asn_countries)
                    && self.has_countries(&set.countries, |known| &known.countries)
                    && self.has_all(&set.prefixes)
            }
        }
    }

    fn has_countries(&self, countries: &[Country], of: impl Fn(&Set) -> &[Country]) -> bool {
        countries
            .iter()
            .all(|country| self.sets.iter().any(|known| of(known).contains(country)))
    }

    fn has_all(&self, prefixes: &[IpNet]) -> bool {
        prefixes.iter().all(|prefix| {
            // In a disjoint list only the last that starts before can hold it.
            let after = self.prefixes.partition_point(|known| known <= prefix);
            after > 0 && self.prefixes[after - 1].contains(prefix)
        })
    }
}

/// Rules behind others that take all they could match, in every zone of theirs.
/// Rules with protocol or ports hide nothing: fragments pass them by.
fn shadowed(report: &mut Report<'_>, policy: &Policy, places: &[RulePlaces]) {
    // Zones with the same rules have the same answer.
    let mut walks: BTreeMap<Vec<usize>, ZoneId> = BTreeMap::new();
    for zone in 0..policy.zones.len() {
        let applies = |(id, rule): (usize, &Rule)| rule.from.contains(&zone).then_some(id);
        let walk = policy
            .rules
            .iter()
            .enumerate()
            .filter_map(applies)
            .collect();
        walks.entry(walk).or_insert(zone);
    }
    let mut reachable = vec![false; policy.rules.len()];
    let mut hiding: Vec<Vec<usize>> = vec![Vec::new(); policy.rules.len()];
    for walk in walks.keys() {
        let mut taken = Content::default();
        let mut takers: Vec<usize> = Vec::new();
        for id in walk {
            let rule = &policy.rules[*id];
            if rule.to.iter().all(|target| taken.covers(policy, *target)) {
                hiding[*id].clone_from(&takers);
            } else {
                reachable[*id] = true;
            }
            let decides = rule.action != Action::Audit;
            if decides && rule.proto.is_none() && rule.ports.is_empty() {
                taken.add(policy, &rule.to);
                takers.push(*id);
            }
        }
    }
    for (id, rule) in policy.rules.iter().enumerate() {
        let nothing = |target: &Target| match target {
            Target::Set(id) => is_empty(&policy.sets[*id]),
            _ => false,
        };
        // Empty sets have a warning of their own.
        if reachable[id] || rule.to.iter().all(nothing) {
            continue;
        }
        let alone = hiding[id].iter().find(|taker| {
            let mut content = Content::default();
            content.add(policy, &policy.rules[**taker].to);
            rule.to.iter().all(|target| content.covers(policy, *target))
        });
        report.warning(
            &places[id].name,
            format!("rule {} can never match", quoted(&rule.name)),
            match alone {
                Some(taker) => format!(
                    "rule {} before it takes all of its destinations: move it up or remove it",
                    quoted(&policy.rules[*taker].name)
                ),
                None => "the rules before it take all of its destinations: move it up or remove it"
                    .to_owned(),
            },
        );
    }
}

fn tunnel_protocol(report: &mut Report<'_>, policy: &Policy, rule: &Rule, places: &RulePlaces) {
    let Some(proto @ Proto::Number(4 | 41 | 47 | 55 | 94 | 97 | 98 | 108 | 115 | 137 | 142..=145)) =
        rule.proto
    else {
        return;
    };
    let drops = |id: &ZoneId| policy.zones[*id].unparsable.tunnels == Tunnels::Action(Action::Drop);
    if rule.from.iter().all(drops) {
        report.warning(
            &places.proto,
            format!(
                "rule {} can never match: protocol {} is a tunnel, and tunnels are dropped before any rule",
                quoted(&rule.name),
                proto_text(proto)
            ),
            "set `tunnels` in the zone's `unparsable`, or remove the rule",
        );
    }
}

/// UDP services whose packets fit into one frame.
const SMALL_UDP: [u16; 6] = [53, 67, 123, 161, 162, 514];

/// Later fragments carry no ports, so a `pass` rule with ports does not take
/// them and the zone's default drops them.
fn large_udp(report: &mut Report<'_>, policy: &Policy, rule: &Rule, places: &RulePlaces) {
    let may_be_udp = |rule: &Rule| matches!(rule.proto, None | Some(Proto::Udp));
    let small = |range: &std::ops::RangeInclusive<u16>| {
        range.start() == range.end() && SMALL_UDP.contains(range.start())
    };
    if rule.action != Action::Pass
        || !may_be_udp(rule)
        || rule.ports.is_empty()
        || rule.ports.iter().all(small)
    {
        return;
    }
    let Some(zone) = rule.from.iter().find(|zone| {
        let helps = |other: &&Rule| {
            other.action == Action::Pass
                && may_be_udp(other)
                && other.ports.is_empty()
                && other.from.contains(zone)
        };
        let mut content = Content::default();
        for other in policy.rules.iter().filter(helps) {
            content.add(policy, &other.to);
        }
        policy.zones[**zone].default == Action::Drop
            && !rule.to.iter().all(|target| content.covers(policy, *target))
    }) else {
        return;
    };
    report.warning(
        &places.ports,
        format!(
            "rule {} passes no UDP packet that is larger than a frame: later fragments have no ports and zone {} drops them",
            quoted(&rule.name),
            quoted(&policy.zones[*zone].name)
        ),
        "if that is needed, add a rule with `proto = \"udp\"` and without ports; if it is TCP only, set `proto = \"tcp\"`",
    );
}

/// A private network that no zone polices can relay for a camera.
fn unpoliced(report: &mut Report<'_>, policy: &Policy, rule: &Rule, places: &RulePlaces) {
    if rule.action != Action::Pass {
        return;
    }
    let private = PRIVATE;
    let policed: Vec<IpNet> = policy
        .zones
        .iter()
        .filter_map(|zone| match &zone.sources {
            Sources::Prefixes(prefixes) => Some(prefixes),
            _ => None,
        })
        .flatten()
        .copied()
        .collect();
    for (target, span) in rule.to.iter().zip(&places.to) {
        let open = match target {
            Target::Private => Some("`private`".to_owned()),
            Target::Set(id) => policy.sets[*id]
                .prefixes
                .iter()
                .find(|prefix| {
                    private.iter().any(|net| net.contains(*prefix))
                        && !policed.iter().any(|net| net.contains(*prefix))
                })
                .map(|prefix| format!("`{prefix}`")),
            _ => None,
        };
        if let Some(open) = open {
            report.warning(
                span,
                format!(
                    "rule {} passes to {open}, which is not policed itself: a host there can relay for a camera",
                    quoted(&rule.name)
                ),
                "name only the hosts that cameras need, and put their network into a zone with `sources`",
            );
        }
    }
}

fn silent_asns(report: &mut Report<'_>, sets: &[SetPlaces], db: &AsnDb) {
    if db.origins.is_empty() {
        if let Some((span, _)) = sets.iter().find_map(|set| set.asns.first()) {
            report.warning(
                span,
                "ASNs select nothing: no source says which ASN announces a prefix",
                "import one that does, such as an iptoasn TSV or an MRT file of a route collector",
            );
        }
        return;
    }
    let mut announced: Vec<u32> = db.origins.iter().flatten().copied().collect();
    announced.sort_unstable();
    announced.dedup();
    let silent = |asns: &&std::ops::RangeInclusive<u32>| {
        let at = announced.partition_point(|asn| asn < asns.start());
        announced.get(at).is_none_or(|asn| asn > asns.end())
    };
    let text = |asns: &std::ops::RangeInclusive<u32>| {
        if asns.start() == asns.end() {
            format!("AS{}", asns.start())
        } else {
            format!("AS{}-AS{}", asns.start(), asns.end())
        }
    };
    for (span, asns) in sets.iter().flat_map(|set| &set.asns) {
        let silent: Vec<_> = asns.iter().filter(silent).collect();
        let Some(first) = silent.first() else {
            continue;
        };
        // More than one entry: a list file, whose lines are not warned of one by one.
        let message = if silent.len() == 1 {
            format!("{} announces nothing", text(first))
        } else {
            let named: Vec<String> = silent.iter().take(5).map(|asns| text(asns)).collect();
            let more = if silent.len() > 5 { ", …" } else { "" };
            format!(
                "{} of its {} ASNs announce nothing: {}{more}",
                silent.len(),
                asns.len(),
                named.join(", ")
            )
        };
        report.warning(
            span,
            message,
            "check the number with `kordon lookup`, and the age of the ASN database",
        );
    }
}

fn countries(report: &mut Report<'_>, set: &Set, places: &SetPlaces, db: &AsnDb) {
    let name = quoted(&set.name);
    if let Some((span, _)) = places.asn_countries.first() {
        let known: BTreeSet<Country> = db
            .asns
            .iter()
            .filter_map(|(_, info)| info.country)
            .collect();
        if known.is_empty() {
            report.warning(
                span,
                format!("`asn_countries` of set {name} selects nothing: no source says where ASNs are registered"),
                "import one that does, such as an iptoasn TSV, or use `countries` for address blocks",
            );
        } else {
            for (span, country) in places
                .asn_countries
                .iter()
                .filter(|(_, c)| !known.contains(c))
            {
                report.warning(
                    span,
                    format!("no ASN is registered in `{country}`"),
                    "check the code and the age of the ASN database",
                );
            }
        }
    }
    if let Some((span, _)) = places.countries.first() {
        let known: BTreeSet<Country> = db
            .countries_v4
            .iter()
            .map(|range| range.country)
            .chain(db.countries_v6.iter().map(|range| range.country))
            .collect();
        if known.is_empty() {
            report.warning(
                span,
                format!("`countries` of set {name} selects nothing: no source says which address blocks belong to a country"),
                "import one with `--country-db`, or use `asn_countries`",
            );
        } else {
            for (span, country) in places.countries.iter().filter(|(_, c)| !known.contains(c)) {
                report.warning(
                    span,
                    format!("no address block belongs to `{country}`"),
                    "check the code and the age of the country database",
                );
            }
        }
    }
}
