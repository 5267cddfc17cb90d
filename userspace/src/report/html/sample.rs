//! Reports that were never measured: for the tests, and for `examples/render.rs`, to look at.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::report::model::{
    Actions, Book, Camera, Change, Count, Difference, Gap, InForce, Log, Network, Report, Slot,
    Span, Summary, Timeline, Traffic,
};

pub(crate) const HOSTILE: &str =
    "<script>alert(1)</script>\" onload='x' \u{202e}txet\u{2066}\u{200b}";
const NAMES: [(&str, &str); 6] = [
    (
        "Ростелеком Международные Телекоммуникационные Сети Дальнего Востока",
        "RU",
    ),
    (
        "Bundesanstalt für Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
        "DE",
    ),
    (HOSTILE, "<b"),
    ("中国电信股份有限公司浙江分公司物联网运营中心", "CN"),
    ("Hangzhou Alibaba Advertising Co.,Ltd.", "CN"),
    ("שירותי ענן בע״מ", "IL"),
];

pub(crate) fn start() -> Timestamp {
    Timestamp::from_second(1_790_812_800).unwrap_or_default()
}

fn after(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

pub(crate) fn count(packets: u64) -> Count {
    Count {
        packets,
        bytes: packets * 97,
    }
}

pub(crate) fn empty() -> Report {
    Report {
        made: after(86_400),
        version: "1.0.0".to_owned(),
        host: "edge-1".to_owned(),
        since: start(),
        until: after(86_400),
        zone: None,
        summary: Summary::default(),
        books: BTreeMap::new(),
        cameras: Vec::new(),
        networks: Vec::new(),
        traffic: Vec::new(),
        timeline: Timeline {
            step: 3600,
            slots: Vec::new(),
        },
        gaps: Vec::new(),
        not_enforcing: Vec::new(),
        changes: Vec::new(),
        policies: Vec::new(),
        databases: Vec::new(),
        interfaces: vec!["trunk (eth1)".to_owned()],
        log: Log {
            is_failing: false,
            folder: "/var/lib/kordon/evidence".to_owned(),
            records: 0,
            begins: Some(start()),
            checkpoint: Some("edge-1\n0\nroot\n\n— edge-1 sig\n".to_owned()),
            key: None,
        },
        unknown: Vec::new(),
    }
}

/// Nothing that is not well, and some attempts.
pub(crate) fn calm() -> Report {
    let mut report = rich(48, 24);
    report.gaps.clear();
    report.not_enforcing.clear();
    report.books.clear();
    report.unknown.clear();
    report.summary = Summary {
        cameras: 48,
        tried: 3,
        refused: 3,
        blocked_networks: 2,
        actions: Actions {
            drop: count(1204),
            audit: count(0),
            pass: count(88_000),
        },
        dropped: count(1204),
        ..Summary::default()
    };
    report
}

pub(crate) fn slots(hours: i64) -> Vec<Slot> {
    let slot = |hour: i64| {
        let busy = (hour * 7919 % 31).unsigned_abs();
        Slot {
            at: after(hour * 3600),
            actions: Actions {
                drop: count(if hour % 5 == 0 { 0 } else { busy * busy }),
                audit: count(busy * 20),
                pass: count(4000 + busy * 311),
            },
        }
    };
    (0..hours).map(slot).collect()
}

/// All that there is, of so many cameras for so many hours.
pub(crate) fn rich(cameras: u64, hours: i64) -> Report {
    let (first, last) = (after(61), after(hours * 3600 - 7));
    let mac = |n: u64| format!("9c:8e:cd:00:{:02x}:{:02x}", n / 256, n % 256);
    let of = |n: u64| {
        let (name, country) = NAMES[(n % 6) as usize];
        (Some(name.to_owned()), Some(country.to_owned()))
    };
    let actions = |n: u64| Actions {
        drop: count(1_000_000 / (n + 1)),
        audit: count(n),
        pass: count(n * 12_345),
    };
    let camera = |n: u64| Camera {
        zone: "kameras-flughafen".to_owned(),
        mac: (n + 1 < cameras || cameras < 2).then(|| mac(n)),
        addresses: vec![
            std::net::Ipv4Addr::new(10, 20, (n / 256) as u8, (n % 256) as u8).into(),
            std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0x9e8e, 0xcdff, 0xfe00, n as u16).into(),
        ],
        more_addresses: n % 3,
        actions: actions(n),
        networks_dropped: n % 4,
        first,
        last,
    };
    let network = |n: u64| {
        let (name, country) = of(n);
        Network {
            zone: "kameras-flughafen".to_owned(),
            asn: (n != 7).then_some(64_500 + n as u32),
            name: name.filter(|_| n != 7),
            country: country.filter(|_| n != 7),
            actions: actions(n),
            cameras: n + 1,
            first,
            last,
        }
    };
    let attempt = |n: u64| {
        let (name, country) = of(n);
        Traffic {
            zone: "kameras-flughafen".to_owned(),
            mac: (n % 17 != 16).then(|| mac(n)),
            src: Some(std::net::Ipv4Addr::new(10, 20, 0, n as u8).into()),
            asn: Some(64_500 + n as u32 % 40),
            name,
            country,
            action: "drop".to_owned(),
            reason: if n % 9 == 8 { "spoofed-source" } else { "rule" }.to_owned(),
            rule: (n % 9 != 8).then(|| if n == 3 { HOSTILE } else { "block-ru-and-cn" }.to_owned()),
            packets: 900_000 / (n + 1),
            bytes: 97_000_000 / (n + 1),
            first,
            last,
        }
    };
    let hash = "3f5a9c0be1d24786a5b0c9d8e7f60123456789abcdef0123456789abcdef0123";
    let book = |counted: u64, recorded: u64| Book {
        counted: count(counted),
        recorded: count(recorded),
        unrecorded: Difference {
            packets: counted as i64 - recorded as i64,
            bytes: (counted as i64 - recorded as i64) * 97,
        },
    };
    let actions = [
        ("drop", book(1_204_233, 1_204_221)),
        ("pass", book(9_000_000, 9_000_040)),
    ];
    let of_zone = actions.map(|(action, book)| (action.to_owned(), book));
    Report {
        made: after(hours * 3600 + 40),
        host: "grenzrouter-flughafen-nord.kritis.example".to_owned(),
        until: after(hours * 3600),
        summary: Summary {
            cameras,
            tried: 3,
            refused: 3,
            blocked_networks: 2,
            actions: Actions {
                drop: count(1_204_233),
                audit: count(1),
                pass: count(9_000_040),
            },
            dropped: count(1_204_200),
            through: count(5),
            gaps: 1,
            gap_seconds: 4.2,
            not_enforcing_seconds: 123.0,
            unrecorded: Difference {
                packets: -28,
                bytes: -2716,
            },
        },
        books: [("kameras-flughafen".to_owned(), of_zone.into())].into(),
        cameras: (0..cameras).map(camera).collect(),
        networks: (0..cameras.min(40)).map(network).collect(),
        traffic: (0..cameras * 2).map(attempt).collect(),
        timeline: Timeline {
            step: 3600,
            slots: slots(hours),
        },
        gaps: vec![Gap {
            from: after(hours * 1800),
            to: after(hours * 1800 + 4),
            why: "the daemon was restarted".to_owned(),
        }],
        not_enforcing: vec![Span {
            from: after(hours * 900),
            to: after(hours * 900 + 123),
            reasons: vec!["`eth1` is not attached".to_owned(), "the policy was not applied".to_owned()],
        }],
        changes: vec![
            Change {
                at: after(3600),
                user: Some("root".to_owned()),
                login: Some("m.müller-lüdenscheidt".to_owned()),
                command: "block --zone kameras-flughafen --country RU --for 30d --note 'Erlass 12/2026'".to_owned(),
                policy_hash: Some(hash.to_owned()),
                database: None,
            },
            Change {
                at: after(7200),
                user: Some(HOSTILE.to_owned()),
                login: None,
                command: format!("allow {HOSTILE}"),
                policy_hash: None,
                database: Some("asn-2026-11-29".to_owned()),
            },
            Change {
                at: after(7300),
                user: None,
                login: None,
                command: "expire".to_owned(),
                policy_hash: None,
                database: None,
            },
        ],
        policies: vec![
            InForce { since: after(-86_400), what: hash.to_owned() },
            InForce { since: after(3600), what: hash.chars().rev().collect() },
        ],
        databases: vec![InForce { since: after(-90_000), what: "asn-2026-09-30 (iptoasn, RIPE RIS)".to_owned() }],
        interfaces: vec!["trunk (eth1)".to_owned(), "enp3s0f1np1".to_owned()],
        log: Log {
            is_failing: false,
            folder: "/var/lib/kordon/evidence".to_owned(),
            records: 88_123,
            begins: Some(after(-9_000_000)),
            checkpoint: Some(
                "kordon.example/grenzrouter-flughafen-nord\n88123\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— kordon.example/grenzrouter-flughafen-nord Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n".to_owned(),
            ),
            key: Some("kordon.example/grenzrouter-flughafen-nord+cf7b8a1d+AZtqeyICfcjKPOFDtFMBSqbT2Bs5FOxlQhBWLMPBzS9q".to_owned()),
        },
        unknown: vec![
            "What cameras sent over interfaces that are not listed here, for example over their own radio.".to_owned(),
            "What was in packets: kordon reads where they go, and keeps nothing of what they carry.".to_owned(),
        ],
        ..empty()
    }
}
