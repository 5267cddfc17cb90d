//! The binary as an administrator and as a script use it: the fields of `--json`,
//! exit codes, and what it says of wrong input.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod place;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use place::{POLICY, Place, frames, pcap};

/// Every file and what is in it.
fn everything(place: &Place) -> Vec<(PathBuf, Vec<u8>)> {
    fn walk(folder: &Path, all: &mut Vec<(PathBuf, Vec<u8>)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, all);
            } else {
                all.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    let mut all = Vec::new();
    walk(&place.path("."), &mut all);
    all.sort();
    all
}

/// Zone, action, reason, rule, judged, asn and country of each of [`frames`].
fn verdicts() -> Vec<Value> {
    vec![
        json!([
            "cameras",
            "drop",
            "rule",
            "hostile",
            "203.0.113.7",
            64500,
            null
        ]),
        json!([
            "cameras",
            "drop",
            "rule",
            "hostile",
            "198.51.100.7",
            64501,
            "RU"
        ]),
        json!([
            "cameras",
            "pass",
            "default",
            null,
            "198.51.100.200",
            null,
            null
        ]),
        json!([
            "cameras",
            "drop",
            "rule",
            "hostile",
            "192.0.2.9",
            null,
            null
        ]),
        json!([
            "cameras",
            "drop",
            "spoofed-source",
            null,
            "192.0.2.99",
            null,
            null
        ]),
        json!([
            "cameras",
            "drop",
            "rule",
            "hostile",
            "2001:db8::1",
            64500,
            null
        ]),
        json!([
            "cameras",
            "drop",
            "rule",
            "hostile",
            "203.0.113.7",
            64500,
            null
        ]),
        json!([null, "pass", "no-zone", null, null, null, null]),
        json!(["lab", "pass", "rule", "web", "203.0.113.7", 64500, null]),
        json!(["lab", "drop", "default", null, "192.0.2.99", null, null]),
        json!([
            "cameras",
            "drop",
            "tunnel",
            null,
            "203.0.113.7",
            64500,
            null
        ]),
        json!(["cameras", "pass", "not-ip", null, null, null, null]),
        json!([
            "cameras",
            "drop",
            "truncated",
            null,
            "203.0.113.7",
            64500,
            null
        ]),
        json!([
            "cameras",
            "pass",
            "default",
            null,
            "198.51.100.200",
            null,
            null
        ]),
        json!([null, "pass", "no-zone", null, null, null, null]),
    ]
}

const REPLAY: &str = "replay --policy policy.toml --asn-db asn.csv --country-db countries.csv";

#[test]
fn replay_says_what_the_kernel_decides() {
    let place = Place::new();
    let kernel = place.kordon(&format!("{REPLAY} capture.pcap --json"));
    assert_eq!(kernel.code, 0, "{}", kernel.err);
    let library = place.kordon(&format!("{REPLAY} capture.pcap --json --engine reference"));
    let rows: Vec<Value> = kernel
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), frames().len());
    for (number, (row, expected)) in rows.iter().zip(verdicts()).enumerate() {
        let said: Vec<&Value> = [
            "zone", "action", "reason", "rule", "judged", "asn", "country",
        ]
        .iter()
        .map(|field| &row[field])
        .collect();
        assert_eq!(json!(said), expected, "packet {}", number + 1);
        assert_eq!(row["packet"], number + 1);
        let mut fields: Vec<&str> = row.as_object().unwrap().keys().map(|k| &**k).collect();
        // Only what the kernel cannot run, too short or too long, says who decided.
        let not_run = number + 2 >= rows.len();
        assert_eq!(fields.last() == Some(&"engine"), not_run);
        fields.retain(|field| *field != "engine");
        assert_eq!(
            fields,
            [
                "packet", "zone", "action", "reason", "rule", "src", "dst", "judged", "asn",
                "origins", "country"
            ]
        );
    }
    let unmarked = kernel.out.replace(",\"engine\":\"reference\"", "");
    assert_eq!(unmarked, library.out);
    let text = place.kordon(&format!("{REPLAY} capture.pcap"));
    assert_eq!(text.out.lines().count(), rows.len());
    assert!(
        text.err.contains("15 packets, drop 9, pass 6"),
        "{}",
        text.err
    );
}

/// Neighbour discovery and MLD from a forged address, or behind what is meant for others
/// (1 to 4), and as it should be (5, 6).
#[test]
fn forged_infrastructure() {
    let place = Place::new();
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data");
    for engine in ["", " --engine reference"] {
        let said = place.kordon(&format!(
            "replay --policy {data}/nd-forged-source.toml {data}/nd-forged-source.pcap --json{engine}"
        ));
        assert_eq!(said.code, 0, "{}", said.err);
        let verdicts: Vec<String> = said
            .out
            .lines()
            .map(|line| {
                let row: Value = serde_json::from_str(line).unwrap();
                format!("{} {}", row["action"], row["reason"]).replace('"', "")
            })
            .collect();
        assert_eq!(
            verdicts,
            [
                "drop spoofed-source",
                "drop spoofed-source",
                "drop spoofed-source",
                "drop routing-header",
                "pass infrastructure",
                "pass infrastructure",
            ]
        );
    }
}

/// What `replay` says of a packet, `explain` says of the same one in words.
#[test]
fn explain_agrees_with_replay() {
    let place = Place::new();
    let files = "--policy policy.toml --asn-db asn.csv --country-db countries.csv";
    for (line, number) in [
        (
            "--vlan 20 --src 10.20.0.5 --dst 203.0.113.7 --proto udp --dport 9",
            0,
        ),
        ("--vlan 20 --src 10.20.0.5 --dst 198.51.100.7", 1),
        ("--vlan 20 --src 10.20.0.5 --dst 198.51.100.200", 2),
        ("--vlan 20 --src 10.21.0.5 --dst 192.0.2.99", 4),
        ("--vlan 100.5 --src fd00:20::5 --dst 2001:db8::1", 5),
        ("--vlan 20 --src fd00:20::5 --dst 64:ff9b::cb00:7107", 6),
        ("--vlan 30 --src 10.20.0.5 --dst 203.0.113.7", 7),
        ("--vlan 40 --src 10.20.0.5 --dst 203.0.113.7 --dport 443", 8),
        (
            "--vlan 40 --src 10.20.0.5 --dst 192.0.2.99 --proto tcp --dport 80",
            9,
        ),
        ("--vlan 20 --src 10.20.0.5 --dst 203.0.113.7 --proto 47", 10),
    ] {
        let said = place.kordon(&format!("explain {files} {line} --engine reference --json"));
        assert_eq!(said.code, 0, "{line}: {}", said.err);
        let said = said.json();
        let row: Vec<&Value> = [
            "zone", "action", "reason", "rule", "judged", "asn", "country",
        ]
        .iter()
        .map(|field| &said[field])
        .collect();
        assert_eq!(json!(row), verdicts()[number], "{line}");
        assert!(!said["why"].as_array().unwrap().is_empty());
    }
    let said = place.kordon(&format!(
        "explain {files} --vlan 20 --src 10.20.0.5 --dst 198.51.100.97 --json"
    ));
    // 198.51.100.0 to .99: the largest prefix around .97 in it is a /30.
    assert_eq!(said.json()["prefix"], "198.51.100.96/30");
}

/// Zones and `unknown_vlans` depend on the interface: a verdict without it is one only where
/// all agree.
#[test]
fn a_verdict_is_that_of_its_interface() {
    let place = Place::new();
    let named = POLICY.replace(
        "vlans = [20, \"100.5\"]",
        "vlans = [20]\ninterfaces = [\"trunk\"]",
    );
    place.write("some.toml", &named);
    let all = named.replace("vlans = [40]", "vlans = [40]\ninterfaces = [\"trunk\"]");
    place.write("all.toml", all);
    let interface =
        "[[interface]]\ndevice = \"eth1\"\nname = \"trunk\"\nunknown_vlans = \"drop\"\n";
    place.write("one.kordon", interface);
    place.write(
        "two.kordon",
        format!("{interface}[[interface]]\ndevice = \"eth2\"\n"),
    );
    let packet = "--asn-db asn.csv --src 10.20.0.5 --dst 203.0.113.7 --engine reference --json";
    for (line, expected) in [
        ("all.toml --vlan 20", "drop rule trunk"),
        (
            "some.toml --vlan 20",
            "`trunk`: drop (rule `hostile`), any other: pass (no-zone)",
        ),
        ("some.toml --vlan 20 --interface trunk", "drop rule trunk"),
        ("some.toml --vlan 30", "pass no-zone null"),
        (
            "some.toml --vlan 20 --interface nosuch",
            "interfaces are: `trunk`",
        ),
        (
            "all.toml --vlan 20 --interface trank",
            "did you mean `trunk`",
        ),
        ("some.toml --vlan 20 --config one.kordon", "drop rule trunk"),
        (
            "some.toml --vlan 30 --config one.kordon",
            "drop no-zone trunk",
        ),
        (
            "some.toml --vlan untagged --config one.kordon",
            "drop no-zone trunk",
        ),
        (
            "some.toml --vlan 30 --config two.kordon",
            "`trunk`: drop (no-zone), `eth2`: pass (no-zone)",
        ),
        (
            "some.toml --vlan 20 --config two.kordon --interface eth1",
            "drop rule trunk",
        ),
        (
            "some.toml --vlan 20 --config two.kordon --interface eth2",
            "pass no-zone eth2",
        ),
    ] {
        let said = place.kordon(&format!("explain --policy {line} {packet}"));
        let answer = said.json();
        if said.code == 0 {
            let word = |field: &str| answer[field].as_str().unwrap_or("null").to_owned();
            let words = ["action", "reason", "interface"].map(word).join(" ");
            assert_eq!(words, expected, "{line}");
            let why = answer["why"][0].as_str().unwrap();
            let counter = match words.as_str() {
                "drop no-zone trunk" => "kordon_interface_packets_total",
                "pass no-zone null" => "kordon_interface_unpoliced_packets_total",
                _ => "",
            };
            assert!(why.contains(counter), "{line}: {why}");
        } else {
            assert!(
                said.code == 2 && said.err.contains(expected),
                "{line}: {}",
                said.err
            );
        }
    }
    let replay = "replay --asn-db asn.csv --engine reference capture.pcap --policy";
    for (line, expected) in [
        ("all.toml", "drop"),
        ("some.toml --interface trunk", "drop"),
        ("some.toml --config two.kordon --interface eth2", "pass"),
        (
            "some.toml",
            "packet 1: the verdict depends on the interface",
        ),
        (
            "some.toml --interface nosuch",
            "there is no interface `nosuch`",
        ),
    ] {
        let said = place.kordon(&format!("{replay} {line}"));
        let first = said.out.lines().next().unwrap_or_default();
        let found = if said.code == 0 { first } else { &said.err };
        assert!(found.contains(expected), "{line}: {}{}", said.out, said.err);
    }
}

/// A verdict without a database looks like one with it, and lets pass what is hostile.
#[test]
fn verdicts_without_a_database_are_warned_of() {
    let place = Place::new();
    place.write(
        "none.toml",
        "[zone.c]\nvlans = [20]\n[set.s]\nprefixes = [\"192.0.2.0/24\"]\n",
    );
    let packet = "--vlan 20 --src 10.20.0.5 --dst 203.0.113.7 --engine reference";
    for (line, warned) in [
        (format!("explain --policy policy.toml {packet}"), true),
        (
            format!("explain --policy policy.toml {packet} --asn-db asn.csv"),
            false,
        ),
        (format!("explain --policy none.toml {packet}"), false),
        (
            "replay --policy policy.toml --engine reference capture.pcap".to_owned(),
            true,
        ),
        (format!("{REPLAY} --engine reference capture.pcap"), false),
    ] {
        let said = place.kordon(&line);
        let found = said.err.contains("without a database") && said.err.contains("`hostile`");
        assert_eq!((said.code, found), (0, warned), "{line}: {}", said.err);
    }
}

#[test]
fn check_has_its_fields() {
    let place = Place::new();
    let said = place.kordon("check policy.toml --json");
    assert_eq!((said.code, &said.json()["ok"]), (0, &json!(true)));
    place.write(
        "bad.toml",
        "# é\n[zone.c]\nvlan = [20]\n[zone.d]\nvlans = [5000]\n",
    );
    let said = place.kordon("check bad.toml --json");
    assert_eq!(said.code, 1);
    let found = said.json();
    assert_eq!(found["ok"], false);
    let errors = found["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2, "{found:#}");
    assert_eq!(
        errors[0],
        json!({
            "message": "unknown key `vlan` in zone `c`", "help": "did you mean `vlans`",
            "file": "bad.toml", "line": 3, "column": 1, "text": "vlan",
        })
    );
    assert_eq!(errors[1]["line"], 5);
    assert_eq!(errors[1]["text"], "5000");
    let said = place.kordon("check nowhere.toml --json");
    assert_eq!(
        (said.code, &said.json()["errors"][0]["file"]),
        (1, &json!("nowhere.toml"))
    );
}

#[test]
fn lookup_has_its_fields() {
    let place = Place::new();
    let said = place.kordon("lookup 203.0.113.7 --asn-db asn.csv --json");
    assert_eq!(
        said.out.trim(),
        r#"{"prefix":"203.0.113.0/24","asn":64500,"origins":[64500],"name":"Example, Inc.","country":null,"evidence":[{"asn":64500,"source":"asn.csv","line":1,"record":0,"prefix":"203.0.113.0/24","rpki":null}]}"#
    );
    let said = place.kordon("lookup 192.0.2.1 --asn-db asn.csv --json");
    assert_eq!(said.code, 0);
    assert_eq!(
        said.out.trim(),
        r#"{"prefix":null,"asn":null,"origins":[],"name":null,"country":null,"evidence":[]}"#
    );
    for (query, part) in [
        ("AS64500", "2001:db8::/32"),
        ("example", "AS64500"),
        ("RU", "198.51.100.0/25"),
    ] {
        let said = place.kordon(&format!(
            "lookup {query} --asn-db asn.csv --country-db countries.csv"
        ));
        assert!(said.out.contains(part), "{query}: {}", said.out);
    }
    // A database of countries alone answers what it can, and `check` says what it cannot.
    let said = place.kordon("lookup 198.51.100.7 --asn-db countries.csv");
    assert!(said.out.contains("RU"), "{}", said.out);
    let said = place.kordon("check policy.toml --asn-db countries.csv");
    assert!(said.err.contains("ASNs select nothing"), "{}", said.err);
}

#[test]
fn a_snapshot_is_as_good_as_its_sources() {
    let place = Place::new();
    let said = place.kordon("asndb import asn.csv --country-db countries.csv --output snap --json");
    assert_eq!(said.code, 0, "{}", said.err);
    let info = place.kordon("asndb info --asn-db snap --json").json();
    assert_eq!(info["ipv4"]["rows"], 2);
    let from_sources = place.kordon(&format!("{REPLAY} capture.pcap --json --engine reference"));
    let line = "replay --policy policy.toml --asn-db snap capture.pcap --json --engine reference";
    let from_snapshot = place.kordon(line);
    assert_eq!(from_sources.out, from_snapshot.out);
    // Into a state directory, where a daemon would find it.
    let said = place.kordon("asndb import asn.csv --state-dir state");
    assert_eq!(said.code, 0, "{}", said.err);
    let said = place.kordon("asndb info --state-dir state");
    assert!(
        said.out.contains("asn.csv (range-csv): 3 rows"),
        "{}",
        said.out
    );
}

/// A capture that ends in the middle gives what it has.
#[test]
fn a_cut_capture() {
    let place = Place::new();
    let whole = pcap(1, &frames());
    place.write("cut.pcap", &whole[..whole.len() - 3]);
    let said = place.kordon(&format!("{REPLAY} cut.pcap --json --engine reference"));
    assert_eq!(said.code, 1);
    // Rows, and what ended them.
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), frames().len());
    let last: Value = serde_json::from_str(lines[lines.len() - 1]).unwrap();
    assert_eq!(last["ok"], false);
    assert!(
        said.err.contains("ends in the middle of packet 15"),
        "{}",
        said.err
    );
}

/// What the environment says is not shown as if it had to be typed.
#[test]
fn usage_with_an_environment() {
    let place = Place::new();
    for line in ["block AS1", "status --expect-policy", "chekc"] {
        let run = |set: bool| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_kordon"));
            command.args(line.split(' ')).current_dir(place.path("."));
            for name in ["CONFIG", "SOCKET", "BPFFS", "STATE_DIR"] {
                let name = format!("KORDON_{name}");
                match set {
                    true => command.env(name, "x"),
                    false => command.env_remove(name),
                };
            }
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(2));
            String::from_utf8(output.stderr).unwrap()
        };
        assert_eq!(run(true), run(false), "{line}");
    }
}

/// What nobody knows is said, not shown as dashes.
#[test]
fn lookups_of_nothing() {
    let place = Place::new();
    for (query, known) in [
        ("AS99999", false),
        ("9.9.9.9", false),
        ("AS64500", true),
        ("203.0.113.7", true),
    ] {
        let said = place.kordon(&format!("lookup {query} --asn-db asn.csv"));
        assert_eq!(said.code, 0, "{}", said.err);
        let says = said.out.contains("the ASN database knows nothing of it");
        assert_eq!(says, !known, "{query}: {}", said.out);
    }
}

/// An answer that cannot be written undoes nothing, and does not say that it did.
#[test]
fn an_answer_that_cannot_be_written() {
    let place = Place::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kordon"))
        .args(["check", "policy.toml"])
        .current_dir(place.path("."))
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("what was asked for is done all the same"),
        "{said}"
    );
}

/// Nobody reads on: no error, no panic.
#[test]
fn a_closed_pipe() {
    let place = Place::new();
    let many: Vec<Vec<u8>> = frames().into_iter().cycle().take(5000).collect();
    place.write("many.pcap", pcap(1, &many));
    let script = format!(
        "'{}' {REPLAY} many.pcap --json --engine reference | head -1; echo ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_kordon")
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(place.path("."))
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(out.lines().last(), Some("0"), "{out}");
    assert!(output.stderr.is_empty());
}

/// Wrong input: the command, what it must say, and its exit code. Nothing on disk
/// changes. `P:` puts the rest of the line into `bad.toml` behind a good zone; `\n`
/// there is a line end.
#[test]
fn bad_input() {
    let place = Place::new();
    let rule = "[[rule]]\\nfrom = \"c\"\\naction = \"drop\"\\n";
    let policies: Vec<(String, &str)> = vec![
        ("[zone.c".into(), "bad.toml:5:1"),
        ("x = 1".into(), "unknown key `x`"),
        ("[zone.c]\\nvlans = [20]".into(), "defined twice"),
        (
            "[zone.d]\\nvlans = [20]".into(),
            "VLAN `20` is already in zone `c`",
        ),
        ("[zone.d]\\nvlans = [0]".into(), "no VLAN 0"),
        ("[zone.d]\\nvlans = [4095]".into(), "4095"),
        ("[zone.d]\\nvlans = [\"30-20\"]".into(), "30-20"),
        ("[zone.d]\\nvlans = [\"1.2.3\"]".into(), "1.2.3"),
        ("[zone.d]\\nvlans = 20".into(), "vlans"),
        (
            "[zone.d]\\nvlans = [30]\\ndefault = \"allow\"".into(),
            "allow",
        ),
        (
            "[zone.d]\\nvlans = [30]\\nsources = [\"10.0.0.0/33\"]".into(),
            "10.0.0.0/33",
        ),
        (
            "[zone.d]\\nvlans = [30]\\nsources = [\"10.0.0.1/8\"]".into(),
            "10.0.0.0/8",
        ),
        (
            "[zone.d]\\nvlans = [30]\\n[zone.d.unparsable]\\ntunnel = \"maybe\"".into(),
            "maybe",
        ),
        (
            "[zone.d]\\nvlans = [30]\\n[zone.d.unparsable]\\nvlan-depth = \"pass\"".into(),
            "vlan-depth",
        ),
        ("[set.s]\\nasns = [-1]".into(), "-1"),
        ("[set.s]\\nasns = [\"AS4294967296\"]".into(), "AS4294967296"),
        ("[set.s]\\nasns = [\"20-10\"]".into(), "20-10"),
        ("[set.s]\\ncountries = [\"Russia\"]".into(), "Russia"),
        ("[set.s]\\ncountries = [\"XQ\"]".into(), "XQ"),
        (
            "[set.s]\\nprefixes = [\"1.2.3.0/24x\"]".into(),
            "1.2.3.0/24x",
        ),
        ("[set.s]\\nfiles = [\"none.txt\"]".into(), "none.txt"),
        ("[set.s]\\nsets = [\"t\"]".into(), "`t`"),
        ("[set.s]\\nsets = [\"s\"]".into(), "`s`"),
        ("[set.any]\\nasns = [1]".into(), "`any`"),
        (
            format!("{rule}to = \"hostil\"\\n[set.hostile]\\nasns=[1]"),
            "did you mean `hostile`",
        ),
        (
            format!("{rule}to = \"any\"\\nports = [80]\\nproto = \"icmp\""),
            "icmp",
        ),
        (format!("{rule}to = \"any\"\\nports = [70000]"), "70000"),
        (format!("{rule}to = \"any\"\\nproto = \"tpc\""), "tcp"),
        (
            format!("{rule}to = \"any\"\\nuntil = \"tomorrow\""),
            "until",
        ),
        (
            format!("{rule}to = \"any\"\\nname = \"n\"\\n{rule}to = \"any\"\\nname = \"n\""),
            "`n`",
        ),
        (rule.to_owned(), "`to`"),
        (
            "[[rule]]\\nfrom = \"camera\"\\nto = \"any\"\\naction = \"drop\"".into(),
            "`camera`",
        ),
        (
            "[[rule]]\\nfrom = \"c\"\\nto = \"any\"\\naction = \"reject\"".into(),
            "reject",
        ),
    ];
    let mut count = 0;
    let mut wrong = Vec::new();
    for (text, message) in policies {
        let good = "[zone.c]\nvlans = [20]\nsources = [\"10.0.0.0/8\"]\n\n";
        place.write("bad.toml", format!("{good}{}\n", text.replace("\\n", "\n")));
        let before = everything(&place);
        let said = place.kordon("check bad.toml");
        for part in [message, "bad.toml", "help: "] {
            if said.code != 1 || !said.err.contains(part) {
                wrong.push(format!(
                    "{text}: {}, no `{part}` in\n{}",
                    said.code, said.err
                ));
            }
        }
        let found = place.kordon("check bad.toml --json").json();
        assert_eq!(found["ok"], false);
        for error in found["errors"].as_array().unwrap() {
            assert!(error["line"].as_u64().unwrap() > 4, "{text}: {error}");
        }
        assert_eq!(everything(&place), before);
        count += 1;
    }

    place.write("empty", "");
    place.write("text.pcap", "hello, world\n");
    place.write("loop.pcap", pcap(0, &[]));
    place.write("short.csv", "1.2.3.4\n");
    place.write("backwards.csv", "1.2.3.9,1.2.3.4,64500,x\n");
    place.write("words.csv", "start,end,asn\na,b,c\n");
    place.write(
        "cut.csv.gz",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x33",
    );
    place.write("zip.csv", b"PK\x03\x04");
    place.write("utf16.csv", b"\xff\xfe1\0");
    place.write("latin.toml", b"[zone.c\xe9]\n");
    place.write(
        "wrong.kordon",
        "polcy = \"p\"\nx = 1\n[control]\nsocket = \"./none\"\n",
    );
    place.write("place.kordon", "[control]\nsocket = 1\n");
    place.write("cut.kordon", "policy = \"p\n[control\n");
    place.write(
        "keys.kordon",
        "state_dir = \"state\"\n[control]\nsocket = \"none\"\n[asndb]\nkey = [\"x\"]\n",
    );
    let made = place.kordon("asndb import asn.csv --output snap");
    assert_eq!(made.code, 0, "{}", made.err);
    let mut snapshot = fs::read(place.path("snap")).unwrap();
    let last = snapshot.len() - 1;
    snapshot[last / 2] ^= 1;
    place.write("broken.snap", &snapshot);
    place.write("short.snap", &snapshot[..last / 2]);
    fs::create_dir(place.path("folder")).unwrap();
    let before = everything(&place);
    let explain = "explain --policy policy.toml --engine reference";
    let replay = "replay --policy policy.toml --engine reference";
    for (code, line, message) in [
        (2, "", "Usage"),
        (2, "chekc policy.toml", "check"),
        (2, "check", "name the policy, or its configuration"),
        (2, "check policy.toml --jsn", "--json"),
        (2, "block AS1", "--zone"),
        (2, "block AS1 --zone c --for soon", "like `5m`"),
        (2, "apply policy.toml --confirm 0s", "a second or more"),
        (
            2,
            &format!("{explain} --src 10.0.0.1 --dst nowhere"),
            "nowhere",
        ),
        (
            2,
            &format!("{explain} --src 10.0.0.1 --dst ::1"),
            "different families",
        ),
        (
            2,
            &format!("{explain} --src 10.0.0.1 --dst 1.1.1.1 --vlan 4095"),
            "`4095` is not a VLAN",
        ),
        (
            2,
            &format!("{explain} --src 10.0.0.1 --dst 1.1.1.1 --proto tpc"),
            "`tpc` is not a protocol",
        ),
        (
            2,
            &format!("{explain} --src 10.0.0.1 --dst 1.1.1.1 --proto icmp --dport 1"),
            "has no ports",
        ),
        (
            2,
            "explain --asn-db asn.csv --src 10.0.0.1 --dst 1.1.1.1",
            "--policy",
        ),
        (2, "asndb import", "nothing to import"),
        (2, "detach --socket none", "--yes"),
        (
            1,
            "check nowhere.toml",
            "policy `nowhere.toml` cannot be read",
        ),
        (1, "check folder", "folder"),
        (1, "check latin.toml", "UTF-8"),
        (1, "check policy.toml --asn-db nowhere.csv", "nowhere.csv"),
        (1, "lookup 1.1.1.1 --asn-db empty", "empty"),
        (1, "lookup 1.1.1.1 --asn-db short.csv", "short.csv:1"),
        (
            1,
            "lookup 1.1.1.1 --asn-db backwards.csv",
            "backwards.csv:1",
        ),
        (1, "lookup 1.1.1.1 --asn-db words.csv", "words.csv"),
        (1, "lookup 1.1.1.1 --asn-db cut.csv.gz", "ends too early"),
        (1, "lookup 1.1.1.1 --asn-db zip.csv", "zip"),
        (1, "lookup 1.1.1.1 --asn-db utf16.csv", "UTF-16"),
        (1, "lookup 1.1.1.1 --asn-db broken.snap", "broken.snap"),
        (1, "lookup 1.1.1.1 --asn-db short.snap", "short.snap"),
        (
            1,
            "lookup 1.1.1.1 --asn-db snap --asn-db asn.csv",
            "snapshot",
        ),
        (1, "lookup nobody --asn-db asn.csv", "`nobody`"),
        (
            1,
            &format!("{replay} nowhere.pcap"),
            "`nowhere.pcap` cannot be read",
        ),
        (1, &format!("{replay} empty"), "it is empty"),
        (1, &format!("{replay} text.pcap"), "neither pcap nor pcapng"),
        (1, &format!("{replay} loop.pcap"), "not of Ethernet"),
        (1, &format!("{replay} folder"), "folder"),
        (1, "replay --policy bad.toml capture.pcap", "bad.toml"),
        (1, "run --config nowhere.kordon", "nowhere.kordon"),
        (1, "run --config wrong.kordon", "did you mean `policy`"),
        // What is wrong elsewhere is no reason not to ask the daemon.
        (3, "status --config wrong.kordon", "did you mean `policy`"),
        (
            3,
            "status --config wrong.kordon",
            "cannot reach the daemon at `./none`",
        ),
        (3, "status --config place.kordon", "no daemon was asked"),
        (
            3,
            "status --config place.kordon --socket none",
            "daemon at `none`",
        ),
        (3, "status --config cut.kordon", "no daemon was asked"),
        (
            3,
            "status --config /dev/null/x --socket none",
            "daemon at `none`",
        ),
        (
            1,
            "asndb import asn.csv --config keys.kordon",
            "did you mean `keys`",
        ),
        (1, "run --config folder", "name the file inside the folder"),
        (3, "status --socket none", "cannot reach the daemon"),
        (
            3,
            "block AS1 --zone c --socket none",
            "cannot reach the daemon",
        ),
        (
            1,
            "apply nowhere.toml --socket none",
            "nowhere.toml` cannot be read",
        ),
        (3, "apply policy.toml --socket none", "`--socket`"),
        (3, "lookup 1.1.1.1 --socket none", "cannot reach the daemon"),
        (
            1,
            "detach --yes --socket none --bpffs nothing",
            "neither a daemon nor anything pinned",
        ),
    ] {
        let said = place.kordon(line);
        if (said.code, said.err.contains(message)) != (code, true) {
            wrong.push(format!(
                "{line}: {}, no `{message}` in\n{}",
                said.code, said.err
            ));
        }
        assert!(!said.err.contains("panicked"), "{line}: {}", said.err);
        // A script gets an object, whatever went wrong.
        let script = place.kordon(&format!("{line} --json"));
        let object: Value = serde_json::from_str(&script.out).unwrap_or_default();
        if (script.code, &object["ok"]) != (code, &false.into()) {
            wrong.push(format!("{line} --json: {}, {}", script.code, script.out));
        }
        assert_eq!(everything(&place), before, "{line}");
        count += 1;
    }
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    println!("{count} wrong inputs");
}
