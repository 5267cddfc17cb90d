//! The policy language: text in, a checked [`Policy`] or all that is wrong with
//! it out.
//!
//! The stages are apart: [`Bundle`] is what was read, [`parse`] turns it and the
//! [`Overlay`] into a [`Policy`] in which every name is resolved, and
//! [`policy_hash`] names what is in force. For example,
//!
//! ```toml
//! [zone.cameras]
//! vlans = ["20-29"]
//! [set.hostile]
//! asns = [64500]
//! [[rule]]
//! from = "cameras"
//! to = "hostile"
//! action = "drop"
//! ```
//!
//! becomes zone 0 with ten VLANs, set 0 with one range of ASNs, and a rule from zone 0 to set 0.
//! `zones`, `sets` and `rules` read one kind of section each, `values` what stands in them, all by
//! way of the report in `text`, which knows where each word stands.
//!
//! Architecture invariant: only [`Bundle::read`] touches files. Nothing here knows of BPF.

mod bundle;
mod entries;
mod hash;
mod lint;
mod lists;
pub mod model;
mod not_toml;
mod overlay;
mod rules;
mod sets;
pub(crate) mod text;
mod values;
mod zones;

#[cfg(test)]
mod tests;

use ipnet::Ipv6Net;
use jiff::Timestamp;
use kordon_ebpf::layout::MAX_NAT64;

pub use bundle::{Bundle, ListFile, MAX_FILE};
pub use hash::{canonical_text, policy_hash};
pub use model::Policy;
pub(crate) use values::network;

pub use overlay::{Overlay, OverlayAction, OverlayEntry, OverlayTarget};

use self::lint::Places;
use self::rules::Names;
use self::text::{Report, Value};
use crate::asn::model::AsnDb;
use crate::diagnostic::{Diagnostic, Diagnostics, quoted};

/// What a policy is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Rules whose `until` is not after this do not exist.
    pub now: Timestamp,
    /// Whose organisations `orgs` names. Also for the warnings that need it: ASNs
    /// that announce nothing, countries that no source knows.
    pub db: Option<&'a AsnDb>,
}

impl<'a> Context<'a> {
    /// Now, with this database.
    #[must_use]
    pub fn now(db: Option<&'a AsnDb>) -> Self {
        Self {
            now: Timestamp::now(),
            db,
        }
    }
}

/// Where zones name interfaces that are not there. `cure` has the help for a name that is not.
#[must_use]
pub fn unknown_interfaces(
    bundle: &Bundle,
    cure: impl Fn(&str) -> Option<String>,
) -> Vec<Diagnostic> {
    let text = bundle.text.strip_prefix('\u{feff}').unwrap_or(&bundle.text);
    let mut report = Report::new(&bundle.file, text);
    let table = report.toml();
    let zones = table.as_ref().and_then(|table| table.get("zone"));
    let zones = zones.and_then(|value| zones::read(&mut report, value));
    report.found = Diagnostics::default();
    for (zone, places) in zones.unwrap_or_default() {
        for (span, name) in &places.interfaces {
            if let Some(help) = cure(name) {
                let (zone, name) = (quoted(&zone.name), quoted(name));
                let message = format!(
                    "zone {zone} is on interface {name}, which the configuration does not have"
                );
                report.error(span, message, help);
            }
        }
    }
    report.found.sort(&bundle.file);
    report.found.errors
}

/// Parses what was read. A policy is returned exactly when there are no errors.
#[must_use]
pub fn parse(
    bundle: &Bundle,
    overlay: &Overlay,
    context: &Context<'_>,
) -> (Option<Policy>, Diagnostics) {
    let text = bundle.text.strip_prefix('\u{feff}').unwrap_or(&bundle.text);
    let mut report = Report::new(&bundle.file, text);
    let mut list_errors = Diagnostics::default();
    let parsed = read(&mut report, bundle, context.db, &mut list_errors);
    let mut policy = None;
    if let Some((mut parsed, mut places)) = parsed
        && report.found.ok()
        && list_errors.ok()
    {
        if parsed.zones.is_empty() {
            report.found.warnings.push(Diagnostic::of_file(
                &bundle.file,
                "the policy has no zone: nothing is enforced",
                "define one with `[zone.NAME]`",
            ));
        }
        lint::unused_sets(&mut report, &parsed, &places);
        drop_past_rules(&mut report, &mut parsed, &mut places, context.now);
        lint::check(&mut report, &parsed, &places, context.db);
        overlay.add_to(&mut parsed, context.now, &mut list_errors);
        policy = Some(parsed);
    }
    let mut found = report.found;
    found.extend(list_errors);
    found.sort(&bundle.file);
    (policy.filter(|_| found.ok()), found)
}

fn read(
    report: &mut Report<'_>,
    bundle: &Bundle,
    db: Option<&AsnDb>,
    list_errors: &mut Diagnostics,
) -> Option<(Policy, Places)> {
    let table = report.toml()?;
    let meant = report.known_keys(&table, &["zone", "set", "rule", "nat64"], "");
    let zones = match table.get("zone") {
        Some(value) => zones::read(report, value),
        None => Some(Vec::new()),
    };
    let sets = match table.get("set") {
        Some(value) => sets::read(report, value, bundle, db, list_errors),
        None => Some(Vec::new()),
    };
    let (all_zones, all_sets) = (
        zones.is_some() && !meant.contains(&"zone"),
        sets.is_some() && !meant.contains(&"set"),
    );
    let (zones, zone_places): (Vec<_>, _) = zones.unwrap_or_default().into_iter().unzip();
    let (sets, set_places): (Vec<_>, _) = sets.unwrap_or_default().into_iter().unzip();
    let names = Names {
        zones: zones.iter().map(|zone| zone.name.as_str()).collect(),
        all_zones,
        sets: sets.iter().map(|set| set.name.as_str()).collect(),
        all_sets,
    };
    let rules = table
        .get("rule")
        .map(|value| rules::read(report, value, &names));
    let (rules, rule_places): (Vec<_>, _) = rules.unwrap_or_default().into_iter().unzip();
    let nat64 = table.get("nat64").map(|value| read_nat64(report, value));
    let policy = Policy {
        zones,
        sets,
        rules,
        nat64: nat64.unwrap_or_default(),
    };
    let places = Places {
        zones: zone_places,
        sets: set_places,
        rules: rule_places,
    };
    Some((policy, places))
}

fn read_nat64(report: &mut Report<'_>, value: &Value<'_>) -> Vec<Ipv6Net> {
    let mut prefixes: Vec<Ipv6Net> = Vec::new();
    for (span, text) in report.strings(value, "`nat64`", "`nat64 = [\"2001:db8:64::/96\"]`") {
        let Some(prefix) = report.checked(&span, values::nat64(text)) else {
            continue;
        };
        let overlaps =
            |other: &&Ipv6Net| other.contains(&prefix) || prefix.contains::<&Ipv6Net>(other);
        if let Some(other) = prefixes.iter().find(overlaps) {
            report.error(
                &span,
                format!("NAT64 prefix {} overlaps `{other}`", quoted(text)),
                "an address embeds its IPv4 address in one place only: remove one of them",
            );
        } else if prefixes.len() == MAX_NAT64 {
            report.error(
                &span,
                format!("NAT64 prefix {} is one too many", quoted(text)),
                format!("a policy has at most {MAX_NAT64}, beside the built-in `64:ff9b::/96`"),
            );
        }
        prefixes.push(prefix);
    }
    prefixes
}

fn drop_past_rules(
    report: &mut Report<'_>,
    policy: &mut Policy,
    places: &mut Places,
    now: Timestamp,
) {
    let rules = std::mem::take(&mut policy.rules);
    for (rule, place) in rules.into_iter().zip(std::mem::take(&mut places.rules)) {
        if rule.until.is_some_and(|until| until <= now) {
            report.warning(
                &place.until,
                format!("rule {} has ended", quoted(&rule.name)),
                "it does not exist any more: remove it, or give it a later `until`",
            );
        } else {
            policy.rules.push(rule);
            places.rules.push(place);
        }
    }
}
