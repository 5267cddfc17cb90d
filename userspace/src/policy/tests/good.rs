//! Policies without errors, and what they mean.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use kordon_ebpf::layout::Action;

use super::super::model::{Proto, Record, Set, Sources, Target, Tunnels, VlanMatch};
use super::*;

/// As the documentation shows it.
const EXAMPLE: &str = include_str!("example.toml");

fn good(text: &str) -> Policy {
    let (policy, found) = parse_text(text);
    policy.unwrap_or_else(|| panic!("{}", found.render(|_| Some(text), false)))
}

fn set<'p>(policy: &'p Policy, name: &str) -> &'p Set {
    policy.sets.iter().find(|set| set.name == name).unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn example_bundle() -> Bundle {
    let mut bundle = Bundle::from_text("p.toml", EXAMPLE);
    bundle.lists.push(ListFile {
        name: "lists/sanctions.txt".into(),
        content: Ok("AS64496 # one\n198.51.100.0/24\n".into()),
    });
    bundle
}

#[test]
fn the_example() {
    let (policy, found) = parse(&example_bundle(), &Overlay::default(), &context(None));
    assert_eq!(found.errors, []);
    let policy = policy.unwrap();
    let zone = &policy.zones[0];
    assert_eq!(zone.name, "cameras");
    assert_eq!(zone.interfaces, ["trunk"]);
    assert_eq!(zone.vlans.len(), 2 + 10 + 1);
    assert_eq!(zone.default, Action::Pass);
    assert_eq!(
        zone.sources,
        Sources::Prefixes(nets(&["10.20.0.0/16", "fd00:20::/48"]))
    );
    assert_eq!(zone.record, Record::Drops);
    let hostile = set(&policy, "hostile");
    assert_eq!(
        hostile.asns,
        [
            12389..=12389,
            12695..=12695,
            64496..=64496,
            64500..=64500,
            64512..=64520
        ]
    );
    assert_eq!(hostile.asn_countries, [Country(*b"BY"), Country(*b"RU")]);
    assert_eq!(hostile.countries, [Country(*b"RU")]);
    assert_eq!(
        hostile.prefixes,
        nets(&["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"])
    );
    let [time, hostile] = policy.rules.as_slice() else {
        panic!("{:?}", policy.rules);
    };
    assert_eq!(time.name, "time-is-fine");
    assert_eq!(time.proto, Some(Proto::Udp));
    assert_eq!(time.ports, [123..=123]);
    assert_eq!(time.action, Action::Pass);
    assert_eq!(time.note.as_deref(), Some("ticket 4711"));
    assert_eq!(time.until.unwrap().to_string(), "2027-01-31T00:00:00Z");
    assert_eq!((&hostile.from, hostile.action), (&vec![0], Action::Drop));
    assert!(!hostile.overlay);
}

#[test]
fn every_form_of_a_value() {
    let policy = good(
        r#"
nat64 = ["2001:db8:64::/96", "2001:db8:65::/48"]
zone.all = { interfaces = ["eth0.20"], default = "drop", sources = "connected", pppoe = true }
[zone.tags]
vlans = ["untagged", "7", "100.5", 0x10, "4094-4094"]
[zone.tags.unparsable]
tunnels = "inspect"
bad-header = "audit"
spoofed-source = "pass"
[set]
x.asns = ["as5", 7, "6-6", "8 - 9", "AS20-AS30"]
x.countries = ["by", "RU", "RU"]
x.prefixes = ["192.0.2.1", "2001:db8::1", "0.0.0.0/0"]
[[rule]]
from = "*"
to = ["x", "any", "private", "multicast", "unrouted", "router", "x"]
proto = 6
ports = [80, "443", "81-90", "85-100"]
action = "audit"
[[rule]]
from = ["tags", "all", "tags"]
to = "any"
proto = 58
action = "drop"
until = 2027-01-31 01:00+01:00
"#,
    );
    assert_eq!(policy.nat64.len(), 2);
    let [all, tags] = policy.zones.as_slice() else {
        panic!("{:?}", policy.zones);
    };
    assert_eq!(all.interfaces, ["eth0.20"]);
    assert_eq!((&all.sources, all.pppoe), (&Sources::Connected, true));
    assert_eq!(
        tags.vlans,
        [
            VlanMatch::Untagged,
            VlanMatch::Outer(7),
            VlanMatch::Outer(16),
            VlanMatch::Outer(4094),
            VlanMatch::Pair(100, 5),
        ]
    );
    assert_eq!(tags.unparsable.tunnels, Tunnels::Inspect);
    assert_eq!(tags.unparsable.bad_header, Action::Audit);
    assert_eq!(tags.unparsable.spoofed_source, Action::Pass);
    assert_eq!(tags.unparsable.truncated, Action::Drop);
    let x = set(&policy, "x");
    let asns: [RangeInclusive<u32>; 2] = [5..=9, 20..=30];
    assert_eq!(x.asns, asns);
    assert_eq!(x.countries, [Country(*b"BY"), Country(*b"RU")]);
    assert_eq!(
        x.prefixes,
        nets(&["0.0.0.0/0", "192.0.2.1/32", "2001:db8::1/128"])
    );
    let [audit, drop] = policy.rules.as_slice() else {
        panic!("{:?}", policy.rules);
    };
    assert_eq!((audit.name.as_str(), &audit.from), ("rule-1", &vec![0, 1]));
    assert_eq!(
        audit.to,
        [
            Target::Set(0),
            Target::Any,
            Target::Private,
            Target::Multicast,
            Target::Unrouted,
            Target::Router,
        ]
    );
    assert_eq!(audit.proto, Some(Proto::Tcp));
    assert_eq!(audit.ports, [80..=100, 443..=443]);
    assert_eq!((drop.name.as_str(), &drop.from), ("rule-2", &vec![0, 1]));
    assert_eq!(drop.proto, Some(Proto::Number(58)));
    assert_eq!(drop.until.unwrap().to_string(), "2027-01-31T00:00:00Z");
}

#[test]
fn matches_of_different_kinds_are_not_equal() {
    good(
        r#"
zone.a = { vlans = [20] }
zone.b = { vlans = [20], interfaces = ["trunk"] }
zone.c = { vlans = ["20.5"] }
zone.d = { interfaces = ["trunk"] }
zone.e = { vlans = ["untagged"], interfaces = ["trunk"] }
zone.f = { vlans = [20], interfaces = ["uplink"] }
"#,
    );
}

#[test]
fn sets_are_folded() {
    let policy = good(
        r#"
[set.top]
sets = ["left", "right"]
asns = [10]
[set.left]
sets = ["bottom"]
asns = [11]
[set.right]
sets = ["bottom"]
prefixes = ["203.0.113.0/24"]
[set.bottom]
countries = ["RU"]
asns = [1]
"#,
    );
    let top = set(&policy, "top");
    assert_eq!(top.asns, [1..=1, 10..=11]);
    assert_eq!(top.countries, [Country(*b"RU")]);
    assert_eq!(top.prefixes, nets(&["203.0.113.0/24"]));
    assert_eq!(set(&policy, "left").asns, [1..=1, 11..=11]);
}

#[test]
fn a_byte_order_mark_and_crlf_change_nothing() {
    let plain = "[zone.z]\nvlans = [20]\ncolour = 1\n";
    let windows = format!("\u{feff}{}", plain.replace('\n', "\r\n"));
    assert_eq!(parse_text(plain), parse_text(&windows));
}

fn entry(text: &str) -> OverlayEntry {
    let mut words = text.split(' ');
    let mut next = || words.next().unwrap();
    OverlayEntry {
        action: match next() {
            "block" => OverlayAction::Block,
            _ => OverlayAction::Allow,
        },
        target: next().parse().unwrap(),
        zone: next().to_owned(),
        until: None,
        note: None,
        added: "2026-05-01T12:00:00Z".parse().unwrap(),
    }
}

/// Who blocks a second time says nothing against the first note.
#[test]
fn a_note_stays_until_there_is_another() {
    let noted = |text: &str, note: Option<&str>| OverlayEntry {
        note: note.map(str::to_owned),
        ..entry(text)
    };
    let mut overlay = Overlay::default();
    let block = "block AS64500 cameras";
    for (text, note, expected) in [
        (block, Some("ticket 1"), Some("ticket 1")),
        (block, None, Some("ticket 1")),
        (block, Some("ticket 2"), Some("ticket 2")),
        // It was a note on the block.
        ("allow AS64500 cameras", None, None),
    ] {
        overlay.add(noted(text, note));
        assert_eq!(overlay.entries.len(), 1);
        assert_eq!(overlay.entries[0].note.as_deref(), expected);
    }
}

#[test]
fn the_overlay_comes_first_and_its_newest_entry_before_all() {
    let mut overlay = Overlay::default();
    overlay.add(entry("block AS64500 cameras"));
    overlay.add(entry("block RU *"));
    overlay.add(entry("allow 203.0.113.7/32 cameras"));
    let mut ended = entry("block AS1 cameras");
    ended.until = Some("2026-05-02T00:00:00Z".parse().unwrap());
    overlay.add(ended);
    let (policy, found) = parse(&example_bundle(), &overlay, &context(None));
    assert_eq!(found.errors, []);
    let policy = policy.unwrap();
    let names: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "allow 203.0.113.7/32 cameras",
            "block RU *",
            "block AS64500 cameras",
            "time-is-fine",
            "no-hostile-networks"
        ]
    );
    let Target::Set(id) = policy.rules[1].to[0] else {
        panic!()
    };
    assert_eq!(policy.sets[id].countries, [Country(*b"RU")]);
    assert_eq!(policy.rules[0].action, Action::Pass);
    assert!(policy.rules[2].overlay && !policy.rules[3].overlay);

    // The same target and zone: the last word replaces the first.
    overlay.add(entry("allow AS64500 cameras"));
    assert_eq!(overlay.entries.len(), 4);
    assert!(overlay.prune(context(None).now));
    assert_eq!(overlay.entries.len(), 3);
    let target = "AS64500".parse().unwrap();
    let removed = overlay.remove(target, "cameras").unwrap();
    assert_eq!(removed.rule_name(), "allow AS64500 cameras");
    assert_eq!(overlay.remove(target, "cameras"), None);
}

#[test]
fn an_overlay_for_a_zone_that_is_gone_is_an_error() {
    let mut overlay = Overlay {
        file: "overlay.toml".into(),
        entries: vec![entry("block AS64500 camera")],
    };
    let (policy, found) = parse(&example_bundle(), &overlay, &context(None));
    assert!(policy.is_none());
    let error = &found.errors[0];
    assert_eq!(
        error.message,
        "`block AS64500 camera`: there is no zone `camera`"
    );
    assert_eq!(
        error.help.as_deref().unwrap(),
        "did you mean `cameras`; `kordon unblock AS64500 --zone camera` removes the entry"
    );
    assert_eq!((error.file.as_str(), error.line), ("overlay.toml", 0));
    overlay.entries.clear();
    assert!(
        parse(&example_bundle(), &overlay, &context(None))
            .0
            .is_some()
    );
}

#[test]
fn an_overlay_survives_its_file() {
    let read = |text: &str| Overlay::parse("overlay.toml", text);
    let mut overlay = read("").unwrap();
    assert_eq!(overlay.entries, []);
    overlay.add(entry("block AS64500 cameras"));
    let mut second = entry("allow 2001:db8::/32 *");
    second.until = Some("2027-01-01T00:00:00.5Z".parse().unwrap());
    second.note = Some("\"quoted\",\n\ttwo lines \\ ü".into());
    overlay.add(second);
    assert_eq!(read(&overlay.to_toml()).unwrap(), overlay);
    let found = read("[[entry]]\naction = \"blok\"\nzone = 5\n").unwrap_err();
    assert_eq!((found.errors.len(), found.errors[0].line), (4, 1));
}

#[test]
fn targets() {
    for (text, expected) in [
        ("AS64500", "AS64500"),
        ("as64500", "AS64500"),
        ("64500", "AS64500"),
        ("ru", "RU"),
        ("203.0.113.7", "203.0.113.7/32"),
        ("2001:db8::/32", "2001:db8::/32"),
    ] {
        let target: OverlayTarget = text.parse().unwrap();
        assert_eq!(target.to_string(), expected);
    }
    for (text, expected) in [
        ("AS0", "ASN 0 announces nothing"),
        ("AS1-AS5", "`AS1-AS5` is more than one ASN"),
        ("UK", "`UK` is not a country code"),
        (
            "203.0.113.7/24",
            "prefix `203.0.113.7/24` has host bits set",
        ),
        ("example.org", "`example.org` is not a target"),
        ("", "`` is not a target"),
    ] {
        let error = text.parse::<OverlayTarget>().unwrap_err();
        assert_eq!(error.message, expected);
    }
}

#[test]
fn the_hash_is_of_the_meaning() {
    let a = good(
        "# one\n[zone.a]\nvlans = [20, 21]\n[zone.b]\nvlans = [22]\n[set.x]\nasns = [1, 2]\n\
         [[rule]]\nname = \"r\"\nfrom = \"*\"\nto = \"x\"\naction = \"drop\"\nnote = \"a\"\n",
    );
    let same = good(
        "[zone.b]\nvlans = [22]\n[set.unused]\nasns = [7]\n[set.x]\nasns = [\"1-2\"]\n\
         [zone.a]\nvlans = [\"20-21\"]\ndefault = \"pass\"\n\
         [[rule]]\nname = \"r\"\nfrom = [\"a\", \"b\"]\nto = [\"x\"]\naction = \"drop\"\n",
    );
    assert_eq!(canonical_text(&a), canonical_text(&same));
    assert_eq!(policy_hash(&a), policy_hash(&same));
    for change in [
        ("action = \"drop\"", "action = \"audit\""),
        ("asns = [1, 2]", "asns = [1, 3]"),
        ("[20, 21]", "[20]"),
        ("name = \"r\"", "name = \"s\""),
        ("from = \"*\"", "from = \"a\""),
        ("to = \"x\"", "to = \"any\""),
    ] {
        let text = "[zone.a]\nvlans = [20, 21]\n[zone.b]\nvlans = [22]\n[set.x]\nasns = [1, 2]\n\
                    [[rule]]\nname = \"r\"\nfrom = \"*\"\nto = \"x\"\naction = \"drop\"\n";
        let other = good(&text.replace(change.0, change.1));
        assert_ne!(policy_hash(&a), policy_hash(&other), "{change:?}");
    }
}

#[test]
fn files_are_read_once_and_relative_to_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    std::fs::create_dir(folder.path().join("lists")).unwrap();
    std::fs::write(folder.path().join("lists/a.txt"), b"AS64500 # \xfc\n").unwrap();
    let text = "[zone.z]\nvlans = [20]\n[set.x]\nfiles = [\"lists/a.txt\", \"b.txt\"]\n\
                [set.y]\nfiles = [\"lists/a.txt\"]\n";
    std::fs::write(&path, text).unwrap();
    let bundle = Bundle::read(&path).unwrap();
    assert_eq!(bundle.lists.len(), 2);
    assert_eq!(
        bundle.list("lists/a.txt").unwrap().content.as_deref(),
        Ok("AS64500 # \u{fffd}\n")
    );
    let json = serde_json::to_string(&bundle).unwrap();
    assert_eq!(serde_json::from_str::<Bundle>(&json).unwrap(), bundle);

    let (policy, found) = load(&path, &Overlay::default(), &context(None));
    assert!(policy.is_none());
    assert_eq!(found.errors.len(), 1);
    assert_eq!(
        (found.errors[0].line, found.errors[0].text.as_str()),
        (4, "\"b.txt\"")
    );
    std::fs::write(folder.path().join("b.txt"), "nonsense\n").unwrap();
    let (_, found) = load(&path, &Overlay::default(), &context(None));
    let error = &found.errors[0];
    assert_eq!((error.line, error.text.as_str()), (1, "nonsense"));
    assert!(error.file.ends_with("/b.txt") && error.file.starts_with('/'));
}

#[test]
fn a_policy_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let (policy, found) = load(&path, &Overlay::default(), &context(None));
    assert!(policy.is_none());
    let error = &found.errors[0];
    assert_eq!((error.line, error.column, error.text.as_str()), (0, 0, ""));
    assert_eq!(
        error.message,
        format!(
            "policy `{}` cannot be read: No such file or directory (os error 2)",
            path.display()
        )
    );
    assert_eq!(error.help.as_deref(), Some("check the path"));
    std::fs::write(&path, b"\n\n# \xff").unwrap();
    let (_, found) = load(&path, &Overlay::default(), &context(None));
    assert!(found.errors[0].message.ends_with("is not UTF-8 in line 3"));
    let (_, found) = load(folder.path(), &Overlay::default(), &context(None));
    assert_eq!(
        found.errors[0].help.as_deref(),
        Some("name the policy file inside the folder")
    );
}

#[test]
fn limits() {
    let zones = |count: usize| -> String {
        (0..count)
            .map(|i| format!("[zone.z{i}]\nvlans = [{}]\n", i + 1))
            .collect()
    };
    good(&zones(256));
    let (_, found) = parse_text(&zones(257));
    assert_eq!(found.errors[0].message, "zone `z256` is one too many");
    let interfaces = |count: usize| -> String {
        (0..count)
            .map(|i| format!("[zone.z{i}]\ninterfaces = [\"e{i}\"]\n"))
            .collect()
    };
    good(&interfaces(15));
    let (_, found) = parse_text(&interfaces(16));
    assert_eq!(found.errors[0].message, "interface `e15` is one too many");
    let sources = |count: usize| -> String {
        let list: Vec<String> = (0..count).map(|i| format!("\"10.{i}.0.0/16\"")).collect();
        format!(
            "[zone.z]\nvlans = [20]\nsources = [\"fd00::/8\", {}]\n",
            list.join(", ")
        )
    };
    good(&sources(32));
    let (_, found) = parse_text(&sources(33));
    assert_eq!(
        found.errors[0].message,
        "prefix `10.32.0.0/16` is one too many in `sources` of zone `z`"
    );
    let nat64 = |count: usize| -> String {
        let list: Vec<String> = (0..count)
            .map(|i| format!("\"2001:db8:{i}::/96\""))
            .collect();
        format!("nat64 = [{}]\n", list.join(", "))
    };
    good(&nat64(8));
    let (_, found) = parse_text(&nat64(9));
    assert_eq!(
        found.errors[0].message,
        "NAT64 prefix `2001:db8:8::/96` is one too many"
    );
}

#[test]
fn a_long_chain_of_sets_needs_no_stack() {
    let mut text = String::new();
    for i in 0..2000 {
        text.push_str(&format!("[set.s{i}]\nsets = [\"s{}\"]\n", i + 1));
    }
    text.push_str("[set.s2000]\nasns = [1]\n");
    assert_eq!(set(&good(&text), "s0").asns, [1..=1]);
}

#[test]
fn organisations() {
    use crate::asn::model::Org;
    use crate::policy::{Context, canonical_text, parse};

    let org = |id: &str, name: &str, asns: &[u32]| Org {
        id: id.into(),
        name: name.into(),
        country: None,
        asns: asns.to_vec(),
    };
    let mut db = small_db();
    let read = |db: Option<&AsnDb>, orgs: &str| {
        let text = format!(
            "[zone.z]\nvlans = [20]\nsources = \"connected\"\n[set.x]\nasns = [7]\norgs = {orgs}\n\
             [set.y]\nsets = [\"x\"]\n[[rule]]\nfrom = \"z\"\nto = \"y\"\naction = \"drop\"\n"
        );
        let bundle = Bundle::from_text("p.toml", &text);
        let context = Context {
            db,
            ..context(None)
        };
        parse(&bundle, &Overlay::default(), &context)
    };
    let error = |db: &AsnDb, orgs: &str| {
        let (policy, found) = read(Some(db), orgs);
        assert!(policy.is_none());
        let [error] = &found.errors[..] else {
            panic!("{found:?}");
        };
        assert_eq!(
            (error.line, &*error.text),
            (6, orgs.trim_matches(['[', ']']))
        );
        format!("{}: {}", error.message, error.help.as_deref().unwrap())
    };
    // A set that would select nothing, in silence, is an error.
    assert!(error(&db, "[\"Org A\"]").starts_with("no source says which organisations"));

    db.orgs = vec![
        org("O-A", "Org A", &[64500, 64505]),
        org("O-B", "Twin", &[1]),
        org("O-C", "Twin", &[2]),
    ];
    assert_eq!(
        error(&db, "[\"Org\"]"),
        "there is no organisation `Org`: did you mean `Org A` (`O-A`)"
    );
    assert_eq!(
        error(&db, "[\"Twin\"]"),
        "2 organisations are called `Twin`: name those that are meant by their ids: \
         `O-B` (1 ASNs), `O-C` (1 ASNs)"
    );
    let with = |db: &AsnDb| read(Some(db), "[\"org a\", \"O-C\"]").0.unwrap();
    let policy = with(&db);
    for name in ["x", "y"] {
        let asns = &set(&policy, name).asns;
        assert_eq!(*asns, [2..=2, 7..=7, 64500..=64500, 64505..=64505]);
    }
    // One more sibling: another set of ASNs, and still the same policy.
    let before = canonical_text(&policy);
    db.orgs[0].asns.push(64506);
    let policy = with(&db);
    assert_eq!(set(&policy, "y").asns.last(), Some(&(64505..=64506)));
    assert_eq!(canonical_text(&policy), before);
    assert_ne!(
        canonical_text(&read(Some(&db), "[\"O-C\"]").0.unwrap()),
        before
    );
    // Without a database it is only said.
    let (policy, found) = read(None, "[\"Org A\"]");
    assert_eq!(*set(&policy.unwrap(), "y").asns, [7..=7]);
    assert!(
        found.warnings[0]
            .message
            .contains("`Org A` has is not known here"),
        "{found:?}"
    );
}
