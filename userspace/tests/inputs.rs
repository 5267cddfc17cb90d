//! Inputs of the world that are unusual and right, or common and wrong: each was once
//! taken for something else.

#![expect(clippy::unwrap_used, reason = "a test may")]

mod place;

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use place::Place;

const REPLAY: &str = "replay --policy policy.toml --asn-db asn.csv --engine reference --json";

/// Action and reason of each packet.
fn verdicts(place: &Place, capture: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let file = file.join(capture);
    let said = place.kordon(&format!("{REPLAY} {}", file.display()));
    assert_eq!(said.code, 0, "{capture}: {}", said.err);
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        json!([row["action"], row["reason"]])
    };
    said.out.lines().map(row).collect()
}

/// Comments in Latin-1, custom strings, a time zone, names and options without an end: nothing
/// that a verdict does not need stops a replay. The padding of a simple packet is not data.
#[test]
fn captures_with_any_metadata() {
    let place = Place::new();
    let drop = json!(["drop", "rule"]);
    let pass = json!(["pass", "default"]);
    let cut = json!(["drop", "truncated"]);
    for (capture, expected) in [
        ("pcapng-tzone.pcapng", json!([drop])),
        ("pcapng-no-endofopt.pcapng", json!([drop])),
        ("pcapng-nrb-noend.pcapng", json!([drop])),
        ("pcapng-comment-latin1.pcapng", json!([pass, drop])),
        ("pcapng-customstr-latin1.pcapng", json!([pass, drop])),
        ("pcapng-spb-cut.pcapng", json!([cut, cut])),
    ] {
        assert_eq!(verdicts(&place, capture), expected, "{capture}");
    }
}

fn policy(prefix: &str, until: &str) -> String {
    format!(
        "[zone.cameras]\nvlans = [20]\nsources = [\"10.20.0.0/16\"]\n[set.s]\nprefixes = [\"{prefix}\"]\n\
         files = [\"list.txt\"]\n[[rule]]\nfrom = \"cameras\"\nto = \"s\"\naction = \"drop\"\nuntil = {until}\n"
    )
}

/// `010` is eight to some programs and ten to others.
#[test]
fn numbers_with_zeros_in_front_are_refused_everywhere() {
    let place = Place::new();
    let good = policy("10.1.2.0/24", "2999-01-01T00:00:00Z");
    for (prefix, list) in [
        ("010.1.2.0/24", ""),
        ("10.1.2.0/024", ""),
        ("010.1.2.3", ""),
        ("10.1.2.0/24", "010.2.0.0/16\n"),
    ] {
        place.write("p.toml", good.replace("10.1.2.0/24", prefix));
        place.write("list.txt", list);
        let said = place.kordon("check p.toml");
        assert_eq!(said.code, 1, "{prefix} {list}");
        let cure = "without zeros in front";
        assert!(said.err.contains(cure), "{prefix} {list}: {}", said.err);
    }
    let block = "010.1.2.0/24".parse::<kordon::policy::OverlayTarget>();
    assert!(block.is_err_and(|e| e.help.contains("without zeros")));
    place.write("list.txt", "");
    place.write("p.toml", good);
    assert_eq!(place.kordon("check p.toml").code, 0);
}

/// What a policy would refuse, a question may say: nothing is blocked by it.
#[test]
fn questions_are_understood() {
    let place = Place::new();
    for (query, field, expected) in [
        ("203.0.113.7/24", "asn", json!(64500)),
        ("AS0.64500", "name", json!("Example, Inc.")),
        ("as0.64500", "asn", json!(64500)),
    ] {
        let said = place.kordon(&format!("lookup {query} --asn-db asn.csv --json"));
        assert_eq!(said.json()[field], expected, "{query}: {}", said.out);
    }
}

/// The calendar of RFC 3339 ends later than instants do here.
#[test]
fn a_rule_until_the_end_of_the_calendar() {
    let place = Place::new();
    place.write("list.txt", "");
    for (until, code) in [
        ("9999-12-31T23:59:59Z", 0),
        ("9999-12-31T23:59:59.999999999-23:59", 0),
        ("9999-12-30T00:00:00+02:00", 0),
        ("9999-12-32T00:00:00Z", 1),
        ("2999-02-29T00:00:00Z", 1),
    ] {
        place.write("p.toml", policy("10.1.2.0/24", until));
        let said = place.kordon("check p.toml");
        assert_eq!(said.code, code, "{until}: {}", said.err);
    }
}

/// What a terminal would obey is written as an escape: in names of networks, of files, in texts
/// of policies; `--json` escapes it as JSON does.
#[test]
fn nothing_drives_a_terminal() {
    let place = Place::new();
    let name = "Evil\u{1b}]0;x\u{7}\u{9b}31m\u{202e}Net";
    place.write(
        "asn.csv",
        format!("203.0.113.0,203.0.113.255,64500,{name}\n"),
    );
    place.write("bad\u{1b}[2J.toml", "[zone.c\u{1b}[2J]\n");
    place.write("p.toml", "[zone.\"c\u{9b}2J\"]\nvlans = [20]\nnote = 1\n");
    for line in [
        "lookup 203.0.113.7 --asn-db asn.csv",
        "lookup AS64500 --asn-db asn.csv",
        "lookup Evil --asn-db asn.csv",
        "lookup Evil\u{1b}[2J --asn-db asn.csv",
        "check bad\u{1b}[2J.toml",
        "check p.toml",
        "check nowhere\u{1b}[2J.toml",
        "status --socket none\u{1b}[2J",
        "explain --policy policy.toml --asn-db asn.csv --vlan 20 --src 10.20.0.1 --dst 203.0.113.7",
        "no\u{1b}[2Jcommand",
    ] {
        let said = place.kordon(line);
        let text = format!("{}{}", said.out, said.err);
        let bad = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.contains(bad), "{line:?}: {text:?}");
        assert!(!text.is_empty(), "{line:?}");
    }
}

/// A terminal that went away is no reason to panic, and what was asked for is still done.
#[test]
fn nobody_reads_standard_error() {
    let place = Place::new();
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for (line, code) in [
        ("check policy.toml --asn-db asn.csv", 0),
        ("check nowhere.toml", 1),
        (
            "replay --policy policy.toml --engine reference capture.pcap",
            0,
        ),
        ("run --config nowhere.toml", 1),
        ("chekc", 2),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_kordon"))
            .args(line.split_whitespace())
            .current_dir(place.path("."))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(full())
            .output()
            .unwrap();
        // A panic ends with 101.
        assert_eq!(output.status.code(), Some(code), "{line}");
    }
}
