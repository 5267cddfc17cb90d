//! Policies as text, valid by construction.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fastrand::Rng;

use super::{
    once_in, pick,
    tables::{ASNS, COUNTRIES},
};

const PREFIXES: [&str; 22] = [
    "198.51.100.0/24",
    "198.51.100.5/32",
    "5.5.0.0/16",
    "5.6.0.128/25",
    "4.0.0.0/7",
    "0.0.0.0/0",
    "10.20.0.0/16",
    "10.20.0.5",
    "223.0.0.0/8",
    "128.0.0.0/1",
    "255.255.255.255",
    "224.0.0.0/24",
    "::/0",
    "2001:db8::/32",
    "2001:db8:20::/64",
    "2a00::/16",
    "2a00::5",
    "2a00:1::/33",
    "2001::/32",
    "2002::/16",
    "64:ff9b:1::/48",
    "fd00:20::/48",
];
const REASONS: [&str; 9] = [
    "ethertype",
    "truncated",
    "bad-header",
    "martian",
    "header-chain",
    "source-route",
    "routing-header",
    "tunnels",
    "spoofed-source",
];

/// Some of these, each once, quoted.
fn some(rng: &mut Rng, from: &[&str], most: usize) -> String {
    let mut chosen = BTreeSet::new();
    for _ in 0..rng.usize(1..=most) {
        chosen.insert(format!("\"{}\"", pick(rng, from)));
    }
    chosen.into_iter().collect::<Vec<_>>().join(", ")
}

fn vlan(rng: &mut Rng) -> String {
    match rng.u32(..10) {
        0..=1 => "\"untagged\"".to_owned(),
        2 => "\"30-33\"".to_owned(),
        3 => "4094".to_owned(),
        4..=6 => format!(
            "\"{}.{}\"",
            pick(rng, &[20, 21, 100]),
            pick(rng, &[5, 20, 6])
        ),
        _ => pick(rng, &["20", "21", "100", "1"]).to_string(),
    }
}

/// A random policy. It has at least one zone.
pub fn policy(rng: &mut Rng) -> String {
    let mut text = String::new();
    write_policy(rng, &mut text).expect("strings can be written to");
    text
}

fn write_policy(rng: &mut Rng, text: &mut String) -> std::fmt::Result {
    if once_in(rng, 2) {
        let prefixes = [
            "2001:db8:64::/96",
            "2001:db8:65::/64",
            "2001:db8:6600::/56",
            "2001:db8:67::/48",
            "2a00:64::/40",
            "2a00:65::/32",
        ];
        let nat64: String = some(rng, &prefixes, 4);
        writeln!(text, "nat64 = [{nat64}]")?;
    }
    let zones = write_zones(rng, text)?;
    let sets = write_sets(rng, text)?;
    for number in 0..rng.usize(..9) {
        write_rule(rng, text, number, &zones, &sets)?;
    }
    Ok(())
}

fn write_zones(rng: &mut Rng, text: &mut String) -> Result<Vec<String>, std::fmt::Error> {
    // (interface or "", match or ""), so that none is named twice.
    let mut taken: BTreeSet<(&str, String)> = BTreeSet::new();
    let mut names = Vec::new();
    for number in 0..rng.usize(1..6) {
        let interfaces: &[&str] = match rng.u32(..6) {
            0 => &["trunk"],
            1 => &["lan"],
            2 => &["trunk", "lan"],
            _ => &[],
        };
        let mut vlans = BTreeSet::new();
        if interfaces.is_empty() || !once_in(rng, 3) {
            for _ in 0..rng.usize(1..4) {
                vlans.insert(vlan(rng));
            }
        }
        let places: &[&str] = if interfaces.is_empty() {
            &[""]
        } else {
            interfaces
        };
        let free = |vlan: &str| {
            let mut places = places.iter();
            places.all(|place| !taken.contains(&(*place, vlan.to_owned())))
        };
        let all = vlans.is_empty();
        vlans.retain(|vlan| free(vlan));
        if all && !free("") || !all && vlans.is_empty() {
            continue;
        }
        for place in places {
            if all {
                taken.insert((place, String::new()));
            }
            taken.extend(vlans.iter().map(|vlan| (*place, vlan.clone())));
        }
        let name = format!("zone{number}");
        writeln!(text, "[zone.{name}]")?;
        if !all {
            let list: Vec<String> = vlans.into_iter().collect();
            writeln!(text, "vlans = [{}]", list.join(", "))?;
        }
        if !interfaces.is_empty() {
            writeln!(text, "interfaces = {interfaces:?}")?;
        }
        write_zone_keys(rng, text)?;
        write_unparsable(rng, text, &name)?;
        names.push(name);
    }
    Ok(names)
}

fn write_zone_keys(rng: &mut Rng, text: &mut String) -> std::fmt::Result {
    if once_in(rng, 3) {
        writeln!(text, "default = \"drop\"")?;
    }
    match rng.u32(..6) {
        0 => writeln!(text, "sources = \"connected\"")?,
        1..=2 => writeln!(text, "sources = [{}]", some(rng, &PREFIXES, 4))?,
        _ => {}
    }
    if once_in(rng, 2) {
        writeln!(text, "pppoe = true")?;
    }
    Ok(())
}

fn write_unparsable(rng: &mut Rng, text: &mut String, name: &str) -> std::fmt::Result {
    let chance = *pick(rng, &[0, 1, 1, 3]);
    writeln!(text, "[zone.{name}.unparsable]")?;
    for reason in REASONS {
        if rng.u32(..4) < chance {
            writeln!(
                text,
                "{reason} = \"{}\"",
                pick(rng, &["drop", "audit", "pass"])
            )?;
        } else if reason == "tunnels" && once_in(rng, 2) {
            writeln!(text, "tunnels = \"inspect\"")?;
        }
    }
    Ok(())
}

fn write_sets(rng: &mut Rng, text: &mut String) -> Result<Vec<String>, std::fmt::Error> {
    let mut names: Vec<String> = Vec::new();
    for number in 0..rng.usize(..6) {
        let name = format!("set{number}");
        writeln!(text, "[set.{name}]")?;
        if once_in(rng, 2) {
            let asns: BTreeSet<u32> = (0..rng.u32(1..4)).map(|_| *pick(rng, &ASNS)).collect();
            let mut list: Vec<String> = asns.iter().map(|asn| format!("\"AS{asn}\"")).collect();
            if once_in(rng, 4) {
                list.push("\"64511-64599\"".to_owned());
            }
            writeln!(text, "asns = [{}]", list.join(", "))?;
        }
        if once_in(rng, 4) {
            writeln!(text, "asn_countries = [{}]", some(rng, &COUNTRIES, 2))?;
        }
        if once_in(rng, 4) {
            writeln!(text, "countries = [{}]", some(rng, &COUNTRIES, 2))?;
        }
        if once_in(rng, 2) {
            writeln!(text, "prefixes = [{}]", some(rng, &PREFIXES, 3))?;
        }
        if !names.is_empty() && once_in(rng, 3) {
            let others: Vec<&str> = names.iter().map(String::as_str).collect();
            writeln!(text, "sets = [{}]", some(rng, &others, 2))?;
        }
        names.push(name);
    }
    Ok(names)
}

fn write_rule(
    rng: &mut Rng,
    text: &mut String,
    number: usize,
    zones: &[String],
    sets: &[String],
) -> std::fmt::Result {
    writeln!(text, "[[rule]]")?;
    if rng.bool() {
        writeln!(text, "name = \"named {number}\"")?;
    }
    let zone_names: Vec<&str> = zones.iter().map(String::as_str).collect();
    if rng.bool() {
        writeln!(text, "from = \"*\"")?;
    } else {
        writeln!(text, "from = [{}]", some(rng, &zone_names, 2))?;
    }
    let mut targets = vec!["any", "private", "multicast", "unrouted", "router"];
    // Named sets more often than not.
    for _ in 0..3 {
        targets.extend(sets.iter().map(String::as_str));
    }
    writeln!(text, "to = [{}]", some(rng, &targets, 2))?;
    writeln!(
        text,
        "action = \"{}\"",
        pick(rng, &["drop", "drop", "pass", "pass", "audit"])
    )?;
    let proto = *pick(
        rng,
        &[
            "", "", "", "", "\"tcp\"", "\"udp\"", "\"icmp\"", "6", "17", "58", "4", "51", "0",
        ],
    );
    if !proto.is_empty() {
        writeln!(text, "proto = {proto}")?;
    }
    let with_ports = ["", "\"tcp\"", "\"udp\"", "6", "17"].contains(&proto);
    if with_ports && once_in(rng, 2) {
        let ports = pick(
            rng,
            &["53, 443", "\"1-1023\"", "0", "65535", "\"0-65535\"", "80"],
        );
        writeln!(text, "ports = [{ports}]")?;
    }
    if once_in(rng, 8) {
        let until = pick(rng, &["2020-01-01T00:00:00Z", "2120-01-01T00:00:00+02:00"]);
        writeln!(text, "until = {until}")?;
    }
    Ok(())
}
