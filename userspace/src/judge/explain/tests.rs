//! Sentences for packets of one policy, whole.

use super::*;
use crate::{
    asn,
    policy::{Bundle, Context, Overlay, parse},
};

const POLICY: &str = r#"
[zone.cameras]
vlans = [20]
sources = ["10.20.0.0/16", "fd00:20::/48"]
[zone.office]
vlans = [30]
default = "drop"
[set.hostile]
asns = [64500]
prefixes = ["198.51.100.0/24"]
[[rule]]
name = "time"
from = "cameras"
to = "hostile"
proto = "udp"
ports = [123]
action = "pass"
[[rule]]
name = "hostile"
from = "*"
to = "hostile"
action = "drop"
note = "ticket 7"
"#;

fn ask(vlan: &str, src: &str, dst: &str, proto: Option<&str>, dport: Option<u16>) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("asn.csv");
    std::fs::write(
        &csv,
        "203.0.113.0,203.0.113.255,64500,Example\n203.0.113.0,203.0.113.255,64501,Other\n",
    )
    .unwrap();
    let (db, _) = asn::import(&[csv], &[]).unwrap();
    let bundle = Bundle::from_text("p.toml", POLICY);
    let (policy, found) = parse(&bundle, &Overlay::default(), &Context::now(Some(&db)));
    let policy = policy.unwrap_or_else(|| panic!("{found:?}"));
    let query = ExplainQuery {
        interface: None,
        vlan: Some(vlan.to_owned()),
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        proto: proto.map(str::to_owned),
        dport,
    };
    explain(&policy, &db, &Router::default(), &query, Engine::Reference).unwrap()
}

fn why(answer: &Value) -> String {
    let words: Vec<&str> = answer["why"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    words.join("\n")
}

#[test]
fn a_dropped_packet() {
    let answer = ask("20", "10.20.0.1", "203.0.113.7", None, None);
    assert_eq!(answer["action"], "drop");
    assert_eq!(answer["rule"], "hostile");
    assert_eq!(answer["prefix"], "203.0.113.0/24");
    let why = why(&answer);
    for part in [
        "zone `cameras` has VLAN 20",
        "203.0.113.7 is announced by AS64500 (Example) in 203.0.113.0/24: ",
        "asn.csv line 1",
        "it has several origins, AS64500, AS64501",
        "rule `hostile` (drop) is the first that matches: set `hostile` has AS64500",
        "its note: `ticket 7`",
        "with one, `time` may decide instead",
    ] {
        assert!(why.contains(part), "{part}:\n{why}");
    }
}

#[test]
fn others() {
    for (vlan, src, dst, proto, dport, action, part) in [
        (
            "20",
            "10.20.0.1",
            "203.0.113.7",
            Some("udp"),
            Some(123),
            "pass",
            "rule `time` (pass)",
        ),
        (
            "20",
            "10.20.0.1",
            "198.51.100.1",
            Some("tcp"),
            Some(80),
            "drop",
            "has 198.51.100.0/24",
        ),
        (
            "20",
            "10.20.0.1",
            "192.0.2.1",
            None,
            None,
            "pass",
            "nobody announces 192.0.2.1",
        ),
        (
            "30",
            "10.20.0.1",
            "192.0.2.1",
            None,
            None,
            "drop",
            "the default of the zone is drop",
        ),
        (
            "31",
            "10.20.0.1",
            "192.0.2.1",
            None,
            None,
            "pass",
            "no zone has VLAN 31",
        ),
        (
            "20",
            "10.21.0.1",
            "192.0.2.1",
            None,
            None,
            "drop",
            "10.21.0.1 is not in `sources`",
        ),
        (
            "30",
            "203.0.113.9",
            "192.0.2.1",
            None,
            None,
            "drop",
            "taken to be forged",
        ),
        (
            "20",
            "10.20.0.1",
            "127.0.0.1",
            None,
            None,
            "drop",
            "no destination on a network",
        ),
        (
            "20",
            "10.20.0.1",
            "192.0.2.1",
            Some("47"),
            None,
            "drop",
            "carries packets",
        ),
        (
            "20",
            "fd00:20::1",
            "64:ff9b::203.0.113.7",
            None,
            None,
            "drop",
            "leads to 203.0.113.7",
        ),
        (
            "20",
            "fd00:20::1",
            "64:ff9b:1:cb00:71:700::",
            None,
            None,
            "drop",
            "by one of the lengths that the prefix may have it leads to 203.0.113.7",
        ),
        (
            "20",
            "fd00:20::1",
            "2001:db8::5efe:203.0.113.7",
            None,
            None,
            "drop",
            "leads to 203.0.113.7",
        ),
        (
            "20",
            "10.20.0.1",
            "224.0.0.22",
            Some("2"),
            None,
            "pass",
            "keeps the link alive",
        ),
        (
            "20",
            "203.0.113.7",
            "224.0.0.22",
            Some("2"),
            None,
            "drop",
            "is not in `sources`",
        ),
    ] {
        let answer = ask(vlan, src, dst, proto, dport);
        let why = why(&answer);
        assert_eq!(answer["action"], action, "{src} {dst}: {why}");
        assert!(why.contains(part), "{part}:\n{why}");
    }
}
