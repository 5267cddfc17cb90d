//! `[set.NAME]`: destinations, with list files and other sets folded in.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use toml::de::DeTable;

use super::bundle::Bundle;
use super::lists;
use super::model::{OrgAsns, Set};
use super::text::{Report, Span, Value};
use super::values::{self, AsnOrPrefix};
use crate::asn::AsnDb;
use crate::asn::Country;
use crate::diagnostic::{Diagnostics, did_you_mean, quoted};

const KEYS: [&str; 7] = [
    "asns",
    "orgs",
    "asn_countries",
    "countries",
    "prefixes",
    "files",
    "sets",
];

/// Names that rules may use and nobody may define.
pub(super) const BUILT_IN: [&str; 5] = ["any", "private", "multicast", "unrouted", "router"];

/// Where a set's parts stand. List files have the place of their name.
#[derive(Debug, Default)]
pub(super) struct SetPlaces {
    pub(super) header: Span,
    pub(super) asns: Vec<(Span, Vec<RangeInclusive<u32>>)>,
    pub(super) asn_countries: Vec<(Span, Country)>,
    pub(super) countries: Vec<(Span, Country)>,
    /// Other sets, by id.
    pub(super) sets: Vec<(Span, usize)>,
}

/// Sets in one policy, at most: folding is work for each pair.
const MAX_SETS: usize = 2048;

/// All sets, in the order of the file, whatever is wrong with them; what is
/// wrong with list files goes to `list_errors`. `None`: it is not known which there are.
pub(super) fn read(
    report: &mut Report<'_>,
    value: &Value<'_>,
    bundle: &Bundle,
    db: Option<&AsnDb>,
    list_errors: &mut Diagnostics,
) -> Option<Vec<(Set, SetPlaces)>> {
    let tables = report.table(value, "`set`", "`[set.NAME]`")?;
    let names: Vec<&str> = tables.keys().map(|key| key.get_ref().as_ref()).collect();
    let mut sets = Vec::new();
    for (key, value) in tables {
        let name: &str = key.get_ref();
        if BUILT_IN.contains(&name) {
            report.error(
                &key.span(),
                format!("set {} is built in and cannot be defined", quoted(name)),
                "choose another name",
            );
        } else if let Err(problem) = values::name(name, "a set") {
            report.problem(&key.span(), problem);
        }
        if sets.len() == MAX_SETS {
            report.error(
                &value.span(),
                format!("set {} is one too many", quoted(name)),
                format!("a policy has at most {MAX_SETS} sets; merge some"),
            );
            return None;
        }
        let mut set = Set::default();
        let mut places = SetPlaces::default();
        let what = format!("set {}", quoted(name));
        if let Some(table) = report.table(value, &what, "`[set.NAME]`") {
            let mut reader = Reader {
                report: &mut *report,
                bundle,
                db,
                list_errors: &mut *list_errors,
                names: &names,
                owner: what,
            };
            (set, places) = reader.read(table);
        }
        name.clone_into(&mut set.name);
        places.header = value.span();
        sets.push((set, places));
    }
    refuse_cycles(report, &sets);
    fold(&mut sets);
    Some(sets)
}

struct Reader<'r, 'a> {
    report: &'r mut Report<'a>,
    bundle: &'r Bundle,
    db: Option<&'r AsnDb>,
    list_errors: &'r mut Diagnostics,
    names: &'r [&'r str],
    /// "set `hostile`".
    owner: String,
}

impl Reader<'_, '_> {
    fn read(&mut self, table: &DeTable<'_>) -> (Set, SetPlaces) {
        self.report
            .known_keys(table, &KEYS, &format!(" in {}", self.owner));
        let mut set = Set::default();
        let mut places = SetPlaces::default();
        if let Some(value) = table.get("asns") {
            places.asns = self.asns(value);
            set.asns = places.asns.iter().flat_map(|(_, a)| a.clone()).collect();
        }
        if let Some(value) = table.get("orgs") {
            set.orgs = self.orgs(value);
        }
        for (key, into, countries) in [
            (
                "asn_countries",
                &mut places.asn_countries,
                &mut set.asn_countries,
            ),
            ("countries", &mut places.countries, &mut set.countries),
        ] {
            if let Some(value) = table.get(key) {
                *into = self.countries(key, value);
                countries.extend(into.iter().map(|(_, country)| *country));
            }
        }
        if let Some(value) = table.get("prefixes") {
            set.prefixes = self.prefixes(value);
        }
        if let Some(value) = table.get("files") {
            self.files(value, &mut set, &mut places);
        }
        if let Some(value) = table.get("sets") {
            places.sets = self.sets(value);
        }
        (set, places)
    }

    fn of(&self, key: &str) -> String {
        format!("`{key}` of {}", self.owner)
    }

    fn asns(&mut self, value: &Value<'_>) -> Vec<(Span, Vec<RangeInclusive<u32>>)> {
        let mut asns = Vec::new();
        let what = self.of("asns");
        let example = "`asns = [12695, \"AS12389\", \"64512-64520\"]`";
        for (span, text) in self
            .report
            .scalars(value, &what, "a number or a string", example)
        {
            let range = self.report.checked(&span, values::asns(&text));
            asns.extend(range.map(|range| (span, vec![range])));
        }
        asns
    }

    /// Organisations, by id or name. Without a database that has sources, they stay
    /// without ASNs, which is said.
    fn orgs(&mut self, value: &Value<'_>) -> Vec<OrgAsns> {
        let mut orgs = Vec::new();
        let what = self.of("orgs");
        let example = "`orgs = [\"ORG-EX1-RIPE\"]`";
        for (span, name) in self.report.strings(value, &what, example) {
            let unknown = self
                .db
                .is_none_or(|db| db.sources.is_empty() && db.origins.is_empty());
            let asns = match self.db.map(|db| db.org(name)) {
                Some(Ok(org)) => org.asns.clone(),
                Some(Err(problem)) if !unknown => {
                    self.report.problem(&span, problem);
                    continue;
                }
                _ => {
                    self.report.warning(
                        &span,
                        format!(
                            "which ASNs organisation {} has is not known here",
                            quoted(name)
                        ),
                        "give an ASN database, with CAIDA's as2org among its sources",
                    );
                    Vec::new()
                }
            };
            orgs.push(OrgAsns {
                name: name.to_owned(),
                asns,
            });
        }
        orgs
    }

    fn countries(&mut self, key: &str, value: &Value<'_>) -> Vec<(Span, Country)> {
        let mut countries = Vec::new();
        let what = self.of(key);
        let example = format!("`{key} = [\"RU\"]`");
        for (span, text) in self.report.strings(value, &what, &example) {
            let country = self.report.checked(&span, values::country(text));
            countries.extend(country.map(|country| (span, country)));
        }
        countries
    }

    fn prefixes(&mut self, value: &Value<'_>) -> Vec<IpNet> {
        let mut prefixes = Vec::new();
        let what = self.of("prefixes");
        let example = "`prefixes = [\"203.0.113.0/24\"]`";
        for (span, text) in self.report.strings(value, &what, example) {
            prefixes.extend(self.report.checked(&span, values::prefix(text)));
        }
        prefixes
    }

    fn files(&mut self, value: &Value<'_>, set: &mut Set, places: &mut SetPlaces) {
        let what = self.of("files");
        let example = "`files = [\"lists/hostile.txt\"]`";
        for (span, name) in self.report.strings(value, &what, example) {
            let content = match self.bundle.list(name).map(|list| &list.content) {
                Some(Ok(content)) => content,
                Some(Err(reason)) => {
                    self.report.error(
                        &span,
                        format!("list file {} cannot be read: {reason}", quoted(name)),
                        format!(
                            "list files are relative to the policy's folder: {} was tried",
                            quoted(&self.bundle.list_path(name))
                        ),
                    );
                    continue;
                }
                None => {
                    self.report.error(
                        &span,
                        format!("list file {} does not come with the policy", quoted(name)),
                        "list files are read together with a policy file, not with a text",
                    );
                    continue;
                }
            };
            let (list, errors) = lists::parse(&self.bundle.list_path(name), content);
            // Two sets may name one file; its errors are told once.
            if errors
                .errors
                .first()
                .is_some_and(|first| !self.list_errors.errors.contains(first))
            {
                self.list_errors.extend(errors);
            }
            set.asns.extend(list.asns.iter().cloned());
            set.prefixes.extend(list.prefixes);
            places.asns.push((span, list.asns));
        }
    }

    fn sets(&mut self, value: &Value<'_>) -> Vec<(Span, usize)> {
        let mut sets = Vec::new();
        let what = self.of("sets");
        for (span, name) in self.report.strings(value, &what, "`sets = [\"other\"]`") {
            if let Some(id) = self.names.iter().position(|known| *known == name) {
                sets.push((span, id));
            } else if BUILT_IN.contains(&name) {
                self.report.error(
                    &span,
                    format!("built-in set {} cannot be part of a set", quoted(name)),
                    format!("name it in the rule: `to = [\"{name}\", …]`"),
                );
            } else {
                unknown_set(self.report, &span, name, self.names);
            }
        }
        sets
    }
}

pub(super) fn unknown_set(report: &mut Report<'_>, span: &Span, name: &str, names: &[&str]) {
    let help = match did_you_mean(name, names.iter().copied().chain(BUILT_IN)) {
        Some(guess) => format!("did you mean `{guess}`"),
        None => definition(name),
    };
    report.error(span, format!("there is no set {}", quoted(name)), help);
}

/// How a set is defined that has this name, or that has what stands in place of a name.
fn definition(name: &str) -> String {
    let content = if values::country(name).is_ok() {
        "countries"
    } else {
        match values::asn_or_prefix(name) {
            Ok(AsnOrPrefix::Asns(_)) => "asns",
            Ok(AsnOrPrefix::Prefix(_)) => "prefixes",
            Err(_) if values::name(name, "a set").is_err() => {
                return "define one with `[set.NAME]`, and name that".to_owned();
            }
            // A dot in a header divides.
            Err(_) if name.contains('.') => return format!("define it with `[set.\"{name}\"]`"),
            Err(_) => return format!("define it with `[set.{name}]`"),
        }
    };
    format!("define a set with `[set.NAME]` and `{content} = [\"{name}\"]`, and name that")
}

/// For each set, in the order of finding: which sets are inside it, and through
/// which one each was found. A set is inside itself only in a cycle.
fn inside(sets: &[(Set, SetPlaces)], start: usize) -> Vec<(usize, usize)> {
    let mut seen = vec![false; sets.len()];
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut next = vec![start];
    while let Some(through) = next.pop() {
        for (_, id) in &sets[through].1.sets {
            if !std::mem::replace(&mut seen[*id], true) {
                found.push((*id, through));
                next.push(*id);
            }
        }
    }
    found
}

fn refuse_cycles(report: &mut Report<'_>, sets: &[(Set, SetPlaces)]) {
    let mut told = vec![false; sets.len()];
    for start in 0..sets.len() {
        let found = inside(sets, start);
        if told[start] || !found.iter().any(|(id, _)| *id == start) {
            continue;
        }
        // Backwards from the set to itself.
        let mut path = vec![start];
        loop {
            let last = path[path.len() - 1];
            let through = found
                .iter()
                .find(|(id, _)| *id == last)
                .map_or(start, |(_, through)| *through);
            path.push(through);
            if through == start {
                break;
            }
        }
        path.reverse();
        for id in &path {
            told[*id] = true;
        }
        let chain: Vec<String> = path.iter().map(|id| quoted(&sets[*id].0.name)).collect();
        let places = &sets[start].1;
        let span = places
            .sets
            .iter()
            .find(|(_, id)| *id == path[1])
            .map_or(&places.header, |(span, _)| span);
        report.error(
            span,
            format!("set {} contains itself: {}", chain[0], chain.join(" -> ")),
            "remove one of these from the `sets` of another",
        );
    }
}

/// Puts the contents of inner sets into the outer ones and everything in order.
fn fold(sets: &mut [(Set, SetPlaces)]) {
    let own: Vec<Set> = sets.iter().map(|(set, _)| set.clone()).collect();
    for id in 0..sets.len() {
        let reach = inside(sets, id);
        let set = &mut sets[id].0;
        for inner in reach.iter().map(|(inner, _)| &own[*inner]) {
            set.asns.extend(inner.asns.iter().cloned());
            set.orgs.extend(inner.orgs.iter().cloned());
            set.asn_countries.extend(&inner.asn_countries);
            set.countries.extend(&inner.countries);
            set.prefixes.extend(&inner.prefixes);
        }
        set.named_asns = values::merge(std::mem::take(&mut set.asns));
        set.orgs.sort_unstable();
        set.orgs.dedup();
        let of_orgs = set.orgs.iter().flat_map(|org| &org.asns);
        set.asns = set.named_asns.clone();
        set.asns.extend(of_orgs.map(|&asn| asn..=asn));
        set.asns = values::merge(std::mem::take(&mut set.asns));
        for countries in [&mut set.asn_countries, &mut set.countries] {
            countries.sort_unstable();
            countries.dedup();
        }
        set.prefixes.sort_unstable();
        set.prefixes.dedup();
    }
}
