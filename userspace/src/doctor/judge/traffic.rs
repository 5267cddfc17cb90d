//! What arrives: zones that have no packets, and sources that their zone cannot have.

use serde_json::Value;

use crate::{
    doctor::{
        facts::Facts,
        finding::{Check, Finding},
    },
    policy::model::Sources,
};

/// Without a daemon.
const NOBODY_COUNTS: &str = "no daemon answers, and only it counts";

/// See the module.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let zones = facts
        .daemon
        .status()
        .and_then(|status| status["zones"].as_array());
    match zones {
        Some(zones) => found.extend(zones.iter().filter_map(|zone| silence(facts, zone))),
        None => found.push(Finding::unknown(Check::Zone, NOBODY_COUNTS)),
    }
    let zones = facts.rules().map_or(&[][..], |policy| &policy.zones);
    for zone in zones
        .iter()
        .filter(|zone| zone.sources == Sources::Connected)
    {
        let finding = match &facts.connected {
            Err(why) => Finding::unknown(Check::Sources, why),
            Ok(prefixes) if prefixes.get(&zone.name).is_some_and(|all| !all.is_empty()) => continue,
            Ok(_) => Finding::problem(
                Check::Sources,
                format!(
                    "zone `{}` has `sources = \"connected\"`, and the router has no address on its \
                     VLANs: every packet that arrives there is dropped",
                    zone.name
                ),
                "give the router's device of that VLAN its address (`ip address`), or write the \
                 prefixes: `sources = [\"10.20.0.0/16\"]`",
            ),
        };
        found.push(finding.about(&zone.name));
    }
    found.extend(foreign_sources(facts));
    found
}

fn total(zone: &Value) -> u64 {
    let packets = zone["packets"].as_object();
    packets.map_or(0, |packets| {
        packets.values().filter_map(Value::as_u64).sum()
    })
}

fn silence(facts: &Facts, zone: &Value) -> Option<Finding> {
    let name = zone["name"].as_str()?;
    let trunks: Vec<&str> = facts.devices().map(|(i, _)| i.device.as_str()).collect();
    let cure = format!(
        "`tcpdump -nei {}` shows what arrives and with which tag; compare with `vlans` of the zone",
        trunks.first().unwrap_or(&"DEVICE")
    );
    Some(
        if total(zone) == 0 {
            let words = format!("zone `{name}` has had no packet since its counters began");
            Finding::warning(Check::Zone, words, cure)
        } else if zone["silent"] == true {
            Finding::warning(
                Check::Zone,
                format!("zone `{name}` had packets, and has none any more"),
                cure,
            )
        } else {
            Finding::fine(
                Check::Zone,
                format!("zone `{name}` has packets ({} so far)", total(zone)),
            )
        }
        .about(name),
    )
}

/// Packets that were dropped for their source.
fn foreign_sources(facts: &Facts) -> Vec<Finding> {
    let samples = match &facts.metrics {
        Ok(samples) => samples,
        Err(why) => return vec![Finding::unknown(Check::Sources, why)],
    };
    let zones = facts.rules().map_or(&[][..], |policy| &policy.zones);
    let mut found = Vec::new();
    for zone in zones {
        let name = &zone.name;
        let of = |metric: &str, reason: Option<&str>| -> f64 {
            let label = |sample: &&super::super::facts::Sample, label: &str, value: &str| {
                sample.labels.get(label).is_some_and(|found| found == value)
            };
            let samples = samples.iter().filter(|sample| {
                sample.name == metric
                    && label(sample, "zone", name)
                    && reason.is_none_or(|reason| {
                        label(sample, "reason", reason) && label(sample, "action", "drop")
                    })
            });
            samples.map(|sample| sample.value).sum()
        };
        let dropped = of("kordon_unparsable_packets_total", Some("spoofed-source"));
        let all = of("kordon_packets_total", None);
        let cure = format!(
            "compare `sources` of zone `{name}` with the addresses that its devices use; `kordon explain --vlan \
             VID --src ADDR --dst ADDR` says what becomes of one"
        );
        found.push(
            if dropped > 0.0 && dropped >= all {
                let words = format!("all {all} packets of zone `{name}` were dropped for their source");
                Finding::problem(Check::Sources, words, cure)
            } else if dropped > 0.0 {
                let words = format!(
                    "{dropped} of {all} packets of zone `{name}` were dropped, since their source is none of its own"
                );
                Finding::note(Check::Sources, words).cured(cure)
            } else {
                Finding::fine(Check::Sources, format!("no packet of zone `{name}` was dropped for its source"))
            }
            .about(name),
        );
    }
    found
}
