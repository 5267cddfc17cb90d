//! Pages, as Prometheus reads them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use kordon_ebpf::layout::{Action, Counter, Reason};

use super::{Applies, Database, Interface, LivePolicy, Snapshot, render};
use crate::compile::directory::Identity;

const DOCUMENTED: &str = include_str!("../../../docs/metrics.md");

/// Something of everything.
pub(super) fn example() -> Snapshot {
    let zone = || "cameras".to_owned();
    let counts = [
        (Identity::Zone(zone(), Reason::Default, Action::Pass), 100),
        (Identity::Zone(zone(), Reason::Martian, Action::Drop), 3),
        (Identity::Noted(zone(), Reason::Martian, Action::Drop), 5),
        (Identity::Noted(zone(), Reason::Truncated, Action::Pass), 7),
        (Identity::Rule(zone(), "hostile".into(), Action::Drop), 20),
        (Identity::Rule(zone(), "quiet".into(), Action::Audit), 0),
        (Identity::Asn(zone(), Some(12695), Action::Drop), 11),
        (Identity::Asn(zone(), Some(64500), Action::Drop), 1),
        (Identity::Asn(zone(), None, Action::Drop), 6),
        (Identity::OtherAsns(zone(), Action::Drop), 2),
        (
            Identity::Rule("gone".into(), "\"a\\b\"\nc".into(), Action::Drop),
            9,
        ),
        (
            Identity::Port("trunk".into(), Reason::NoZone, Action::Drop),
            4,
        ),
        (
            Identity::Port("trunk".into(), Reason::NoZone, Action::Pass),
            1000,
        ),
    ];
    let counter = |packets| Counter {
        packets,
        bytes: packets * 100,
    };
    let interface = |name: &str, mode: &str, attached| Interface {
        name: name.into(),
        mode: mode.into(),
        attached,
    };
    Snapshot {
        version: "1.2.3".into(),
        enforcing: false,
        policy: Some(LivePolicy {
            hash: "c0ffee".into(),
            applied_at: Some(1.75e9),
        }),
        applies: Applies {
            ok: 2,
            failed: 0,
            last: Some(Duration::from_millis(250)),
        },
        database: Database {
            prefixes_v4: 1_000_000,
            prefixes_v6: 200_000,
            age: Some(3600),
            old: Some(false),
        },
        interfaces: vec![
            interface("trunk", "native", true),
            interface("spare", "auto", false),
        ],
        zones: vec![zone(), "office".into()],
        counts: counts.map(|(who, n)| (who, counter(n))).into(),
        countries: BTreeMap::from([(12695, "RU".to_owned())]),
    }
}

#[test]
fn a_page_says_all_of_it() {
    let page = render(&example()).unwrap();
    for line in [
        // The zone's own reasons and its rules; what is noted or told of ASNs is in them.
        r#"kordon_packets_total{action="drop",zone="cameras"} 23"#,
        r#"kordon_bytes_total{action="drop",zone="cameras"} 2300"#,
        r#"kordon_packets_total{action="pass",zone="cameras"} 100"#,
        r#"kordon_packets_total{action="audit",zone="cameras"} 0"#,
        r#"kordon_packets_total{action="pass",zone="office"} 0"#,
        r#"kordon_packets_total{action="audit",zone="office"} 0"#,
        r#"kordon_packets_total{action="drop",zone="office"} 0"#,
        r#"kordon_packets_total{action="drop",zone="gone"} 9"#,
        r#"kordon_rule_packets_total{action="drop",rule="hostile",zone="cameras"} 20"#,
        r#"kordon_rule_bytes_total{action="drop",rule="hostile",zone="cameras"} 2000"#,
        r#"kordon_rule_packets_total{action="audit",rule="quiet",zone="cameras"} 0"#,
        r#"kordon_rule_packets_total{action="drop",rule="\"a\\b\"\nc",zone="gone"} 9"#,
        r#"kordon_asn_packets_total{action="drop",asn="12695",country="RU",zone="cameras"} 11"#,
        r#"kordon_asn_bytes_total{action="drop",asn="12695",country="RU",zone="cameras"} 1100"#,
        r#"kordon_asn_packets_total{action="drop",asn="64500",country="",zone="cameras"} 1"#,
        r#"kordon_asn_packets_total{action="drop",asn="none",country="",zone="cameras"} 6"#,
        r#"kordon_asn_packets_total{action="drop",asn="other",country="",zone="cameras"} 2"#,
        r#"kordon_reason_packets_total{action="drop",reason="martian",zone="cameras"} 3"#,
        r#"kordon_reason_packets_total{action="pass",reason="default",zone="cameras"} 100"#,
        r#"kordon_unparsable_packets_total{action="drop",reason="martian",zone="cameras"} 8"#,
        r#"kordon_unparsable_packets_total{action="pass",reason="truncated",zone="cameras"} 7"#,
        r#"kordon_interface_dropped_packets_total{interface="trunk",reason="no-zone"} 4"#,
        r#"kordon_interface_attached{interface="trunk",mode="native"} 1"#,
        r#"kordon_interface_attached{interface="spare",mode="auto"} 0"#,
        r#"kordon_policy_info{hash="c0ffee"} 1"#,
        "kordon_policy_applied_timestamp_seconds 1750000000",
        "kordon_policy_apply_seconds 0.25",
        r#"kordon_policy_applies_total{result="ok"} 2"#,
        r#"kordon_policy_applies_total{result="failed"} 0"#,
        r#"kordon_asndb_prefixes{family="ipv4"} 1000000"#,
        r#"kordon_asndb_prefixes{family="ipv6"} 200000"#,
        "kordon_asndb_age_seconds 3600",
        "kordon_asndb_old 0",
        r#"kordon_build_info{version="1.2.3"} 1"#,
        "kordon_enforcing 0",
    ] {
        assert!(page.lines().any(|l| l == line), "no line {line} in\n{page}");
    }
    assert!(!page.contains(r#"reason="default",zone="office""#));
    assert!(!page.contains(r#"reason="rule""#));
    assert!(!page.contains(" 1000\n"), "passed without a zone:\n{page}");
}

#[test]
fn the_same_identity_twice_is_a_sum() {
    let rule = Identity::Rule("cameras".into(), "hostile".into(), Action::Drop);
    let counter = |packets| Counter { packets, bytes: 0 };
    let snapshot = Snapshot {
        counts: vec![(rule.clone(), counter(2)), (rule, counter(0))],
        ..Snapshot::default()
    };
    let page = render(&snapshot).unwrap();
    let line = r#"kordon_rule_packets_total{action="drop",rule="hostile",zone="cameras"} 2"#;
    assert!(page.lines().any(|l| l == line), "{page}");
}

#[test]
fn what_is_not_known_is_not_there() {
    let page = render(&Snapshot::default()).unwrap();
    for name in [
        "kordon_policy_info",
        "kordon_policy_apply_seconds",
        "kordon_policy_applied_timestamp_seconds",
        "kordon_asndb_age_seconds",
        "kordon_asndb_old",
        "kordon_asn_packets_total",
    ] {
        assert!(!page.contains(name), "{name} in\n{page}");
    }
    // These are, with zeros.
    assert!(page.contains("kordon_policy_applies_total{result=\"failed\"} 0\n"));
    assert!(page.contains("kordon_asndb_prefixes{family=\"ipv4\"} 0\n"));
    assert!(page.contains("kordon_enforcing 0\n"));
}

#[test]
fn promtool_finds_nothing_to_criticise() {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(child) => child,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("SKIPPED: promtool is not installed (Debian package prometheus)");
            return;
        }
        Err(e) => panic!("cannot start promtool: {e}"),
    };
    let page = render(&example()).unwrap();
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(page.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
}

#[test]
fn the_documentation_has_exactly_what_a_page_has() {
    let page = render(&example()).unwrap();
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let rendered: BTreeSet<(&str, &str)> = families.filter_map(|f| f.split_once(' ')).collect();
    // Rows of the tables: | `name` | labels | type | …
    let documented: BTreeSet<(&str, &str)> = DOCUMENTED
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
            name.contains('_').then_some((name, *cells.get(3)?))
        })
        .collect();
    assert_eq!(rendered, documented);
    // Labels, too: all of a family's samples have the same ones.
    for (name, _) in &rendered {
        let prefix = format!("{name}{{");
        let Some(sample) = page.lines().find_map(|line| line.strip_prefix(&prefix)) else {
            continue;
        };
        let labels: BTreeSet<&str> = sample
            .split("=\"")
            .filter_map(|part| part.rsplit([',', '{', '"']).next())
            .filter(|label| !label.is_empty() && label.chars().all(|c| c.is_ascii_lowercase()))
            .collect();
        let row = DOCUMENTED
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")))
            .unwrap();
        for label in labels {
            assert!(
                row.contains(&format!("`{label}`")),
                "{name}: `{label}` in {row}"
            );
        }
    }
}
