//! The proof of a candidate generation: it passes what was compiled, and refuses
//! every kind of damage, naming what it hits.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::{collections::BTreeMap, net::IpAddr};

use kordon::{
    asn::{self, AsnDb},
    compile::{
        directory::Directory,
        generation::{Environment, PortSpec, Rules, compile},
        partition::Partition,
        plane::FlatPlanes,
        table::{FlatTable, choose_tier},
    },
    datapath::probe::Prober,
    policy::{self, Bundle, Context, Overlay, Policy},
    prove::{Budget, Claim, Proof, prove},
};
use kordon_ebpf::layout::{
    Action, FAST_DROP_UNKNOWN, GROUP_MASK, PLANE_LEAF, Reason, VERDICT_ACTION_SHIFT, VERDICT_INDEX,
    VERDICT_ROUTER, VERDICT_SPOOFED, VERDICT_STEPS, VID_ZONE, ZONE_PPPOE, ZONE_SOURCES_UNCHECKED,
    setting_shift,
};

const POLICY: &str = r#"
nat64 = ["2001:db8:64::/96", "2001:db8:4000::/40"]

[zone.cameras]
vlans = [20, "21-23", "100.5"]
sources = ["10.20.0.0/16", "fd00:20::/48"]
pppoe = true
[zone.cameras.unparsable]
martian = "audit"
bad-header = "pass"

[zone.doors]
vlans = ["untagged", 30]
interfaces = ["trunk"]
default = "drop"
[zone.doors.unparsable]
tunnels = "inspect"

[zone.hall]
interfaces = ["lan"]
sources = "connected"

[set.hostile]
asns = [64500, "64510-64512"]
asn_countries = ["BY"]
prefixes = ["2001:db8:bad::/48"]
[set.abroad]
countries = ["RU"]
[set.time]
prefixes = ["192.0.2.123/32", "198.51.100.64/26"]

[[rule]]
name = "time"
from = ["cameras", "doors"]
to = "time"
proto = "udp"
ports = [123, "4000-4100"]
action = "pass"

[[rule]]
name = "watched"
from = "cameras"
to = "abroad"
proto = "tcp"
action = "audit"

[[rule]]
name = "pings"
from = "*"
to = "abroad"
proto = "icmp"
action = "drop"

[[rule]]
name = "hostile"
from = "*"
to = ["hostile", "time"]
action = "drop"

[[rule]]
name = "cloud"
from = "doors"
to = ["router", "private"]
action = "pass"
"#;

const NETWORKS: &str = "\
5.5.0.0\t5.5.255.255\t64500\tRU\tBad
5.6.0.0\t5.6.127.255\t64501\tNL\tGood
5.6.16.0\t5.6.16.255\t64511\tNL\tBad inside good
5.7.0.0\t5.7.255.255\t64502\tBY\tRegistered there
5.7.9.0\t5.7.9.255\t64503\tNL\tGood inside bad
198.51.100.0\t198.51.100.255\t64504\tNL\tAlso good
2a00:1::\t2a00:1:ffff:ffff:ffff:ffff:ffff:ffff\t64500\tRU\tBad
2a00:2::\t2a00:2:ffff:ffff:ffff:ffff:ffff:ffff\t64501\tNL\tGood
2a00:2:16::\t2a00:2:16:ffff:ffff:ffff:ffff:ffff\t64512\tNL\tBad inside good
";

const BLOCKS: &str = "\
5.5.0.0,5.6.255.255,RU
2a00:2::,2a00:2:ffff:ffff:ffff:ffff:ffff:ffff,RU
";

/// Everything that is proven, and the image to damage.
struct Candidate {
    policy: Policy,
    db: AsnDb,
    environment: Environment,
    directory: Directory,
    partition: Partition,
    rules: Rules,
}

impl Candidate {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [networks, blocks] = [("asn.tsv", NETWORKS), ("country.csv", BLOCKS)].map(|file| {
            let path = dir.path().join(file.0);
            std::fs::write(&path, file.1).unwrap();
            path
        });
        let (db, _) = asn::import(&[networks], &[blocks]).unwrap();
        let (policy, found) = policy::parse(
            &Bundle::from_text("p.toml", text),
            &Overlay::default(),
            &Context::now(Some(&db)),
        );
        let policy = policy.unwrap_or_else(|| panic!("{found:?}"));
        let port = |logical: &str, drop_unknown| PortSpec {
            logical: logical.into(),
            drop_unknown,
        };
        let environment = Environment {
            router: ["10.20.0.1", "fd00:20::1"]
                .iter()
                .map(|address| address.parse().unwrap())
                .collect(),
            connected: BTreeMap::from([("hall".into(), vec!["192.168.7.0/24".parse().unwrap()])]),
            ports: vec![
                port("trunk", false),
                port("lan", false),
                port("spare", true),
            ],
        };
        let mut directory = Directory::default();
        let partition = Partition::new(&policy, &db, &environment.router).unwrap();
        let rules = compile(&policy, &db, &environment, &partition, &mut directory).unwrap();
        Self {
            policy,
            db,
            environment,
            directory,
            partition,
            rules,
        }
    }

    fn zone(&self, name: &str) -> usize {
        let zones = &self.policy.zones;
        zones.iter().position(|zone| zone.name == name).unwrap()
    }

    fn class(&self, address: &str) -> usize {
        let class = match address.parse().unwrap() {
            IpAddr::V4(v4) => {
                let ranges = &self.partition.v4;
                ranges[ranges.partition_point(|range| range.0 <= v4.to_bits()) - 1].1
            }
            IpAddr::V6(v6) => {
                let ranges = &self.partition.v6;
                ranges[ranges.partition_point(|range| range.0 <= v6.to_bits()) - 1].1
            }
        };
        class as usize
    }

    /// The word for packets of a zone to an address.
    fn word(&mut self, zone: &str, address: &str) -> &mut u32 {
        let group = self.rules.class_words[self.class(address)] & GROUP_MASK;
        let base = self.rules.fixed.zones[self.zone(zone)].verdict_base;
        &mut self.rules.fixed.verdicts[(base + group) as usize]
    }

    /// Proves it, with the table of its partition.
    fn prove(&self, prober: &mut Option<Prober>, budget: Budget) -> Result<Proof, String> {
        self.prove_with(prober, budget, |_| {})
    }

    /// With damage to what is derived of the table and the rules.
    fn prove_with(
        &self,
        prober: &mut Option<Prober>,
        budget: Budget,
        damage: impl FnOnce(&mut FlatPlanes),
    ) -> Result<Proof, String> {
        let table = FlatTable::build(&self.partition).unwrap();
        let tier = choose_tier(&table.usage()).unwrap();
        let prober = prober.get_or_insert_with(|| Prober::load(tier).unwrap());
        prober.install(&self.rules, &table).unwrap();
        let rules = &self.rules;
        let mut planes = FlatPlanes::build(&rules.fixed, &rules.class_words, &table, tier);
        damage(&mut planes);
        prober.set_planes(&planes);
        let claim = Claim {
            policy: &self.policy,
            db: &self.db,
            environment: &self.environment,
            directory: &self.directory,
            changed: &[],
        };
        prove(&claim, budget, prober)
    }
}

/// Gives an IPv4 range the class of another address.
fn overwrite_v4(candidate: &mut Candidate, first: &str, last: &str, like: &str) {
    let [first, last] = [first, last].map(|text| match text.parse().unwrap() {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(_) => panic!("{text}"),
    });
    let class = candidate.class(like) as u32;
    overwrite(
        &mut candidate.partition.v4,
        first,
        last.checked_add(1),
        class,
    );
}

fn overwrite_v6(candidate: &mut Candidate, first: &str, last: &str, like: &str) {
    let [first, last] = [first, last].map(|text| match text.parse().unwrap() {
        IpAddr::V6(v6) => v6.to_bits(),
        IpAddr::V4(_) => panic!("{text}"),
    });
    let class = candidate.class(like) as u32;
    overwrite(
        &mut candidate.partition.v6,
        first,
        last.checked_add(1),
        class,
    );
}

fn overwrite<A: Copy + Ord>(ranges: &mut Vec<(A, u32)>, first: A, next: Option<A>, class: u32) {
    let after = next.map(|next| {
        let at = ranges.partition_point(|range| range.0 <= next);
        (next, ranges[at - 1].1)
    });
    ranges.retain(|range| range.0 < first || next.is_some_and(|next| range.0 > next));
    ranges.push((first, class));
    ranges.extend(after);
    ranges.sort_unstable();
    ranges.dedup_by_key(|range| range.1);
}

#[test]
fn what_was_compiled_passes() {
    let candidate = Candidate::new(POLICY);
    let mut prober = None;
    for budget in [Budget::Rules, Budget::Table] {
        let start = std::time::Instant::now();
        let proof = candidate.prove(&mut prober, budget).unwrap();
        println!("{budget:?}: {proof:?} in {:?}", start.elapsed());
    }
}

/// One way to damage an image: what it is, how much of the database must be tried
/// to find it, words that the message has.
type Damage = (
    &'static str,
    Budget,
    fn(&mut Candidate),
    &'static [&'static str],
);

const DAMAGES: &[Damage] = &[
    (
        "a drop became a pass",
        Budget::Rules,
        |c| *c.word("cameras", "5.7.0.0") &= !(3 << VERDICT_ACTION_SHIFT),
        &["`cameras`", "5.7.0.0", "`hostile`"],
    ),
    (
        "a pass became a drop",
        Budget::Rules,
        |c| *c.word("cameras", "9.9.9.9") |= 2 << VERDICT_ACTION_SHIFT,
        &["`cameras`"],
    ),
    (
        "counted for another rule",
        Budget::Rules,
        |c| {
            let word = c.word("hall", "5.5.0.0");
            *word += 3;
        },
        &["`hall`", "5.5."],
    ),
    (
        "a default of another zone",
        Budget::Rules,
        |c| {
            let word = *c.word("cameras", "9.9.9.9");
            *c.word("doors", "9.9.9.9") = word;
        },
        &["`doors`"],
    ),
    (
        "one class in another group",
        Budget::Rules,
        |c| {
            let (bad, good) = (c.class("5.6.16.0"), c.class("198.51.100.0"));
            c.rules.class_words[bad] = c.rules.class_words[good];
        },
        &["5.6.16."],
    ),
    (
        "a /24 inside of a blocked network",
        Budget::Table,
        |c| overwrite_v4(c, "5.5.77.0", "5.5.77.255", "5.6.0.0"),
        &["5.5.77."],
    ),
    (
        "a /24 that somebody else has",
        Budget::Table,
        |c| overwrite_v4(c, "5.7.9.0", "5.7.9.255", "5.7.0.0"),
        &["5.7.9."],
    ),
    (
        "a boundary that is off by one",
        Budget::Table,
        |c| overwrite_v4(c, "5.6.16.0", "5.6.16.0", "5.6.0.0"),
        &["5.6.16.0"],
    ),
    (
        "a boundary that is off by one, IPv6",
        Budget::Table,
        |c| {
            overwrite_v6(
                c,
                "2a00:2:15:ffff:ffff:ffff:ffff:ffff",
                "2a00:2:15:ffff:ffff:ffff:ffff:ffff",
                "2a00:2:16::",
            );
        },
        &["2a00:2:15:ffff:ffff:ffff:ffff:ffff"],
    ),
    (
        "space of nobody that is blocked",
        Budget::Table,
        |c| overwrite_v4(c, "77.0.0.0", "77.0.255.255", "5.5.0.0"),
        &["77.0."],
    ),
    (
        "a prefix of the policy without its last address",
        Budget::Rules,
        |c| overwrite_v4(c, "198.51.100.127", "198.51.100.127", "198.51.100.0"),
        &["198.51.100.127"],
    ),
    (
        "a source prefix is missing",
        Budget::Rules,
        |c| c.rules.fixed.zones[c.zone("cameras")].sources_v4_len = 0,
        &["`cameras`", "from 10.20."],
    ),
    (
        "a source prefix is wider",
        Budget::Rules,
        |c| {
            let first = c.rules.fixed.zones[c.zone("cameras")].sources_v6;
            c.rules.fixed.sources[usize::from(first)].hi_mask <<= 1;
        },
        &["`cameras`", "from fd00:"],
    ),
    (
        "connected sources are not checked",
        Budget::Rules,
        |c| {
            let zone = c.zone("hall");
            c.rules.fixed.zones[zone].flags |= ZONE_SOURCES_UNCHECKED;
        },
        &["`hall`", "from "],
    ),
    (
        "a blocked address may be a source",
        Budget::Rules,
        |c| *c.word("doors", "5.5.0.0") &= !VERDICT_SPOOFED,
        &["`doors`", "drop by spoofed-source"],
    ),
    (
        "a port range that is one too long",
        Budget::Rules,
        |c| steps(c, |step| step.port_high == 4100, |step| step.port_high += 1),
        &["port 4101"],
    ),
    (
        "ports that are swapped",
        Budget::Rules,
        |c| {
            steps(
                c,
                |step| step.port_high == 4100,
                |step| std::mem::swap(&mut step.port_low, &mut step.port_high),
            );
        },
        &["port 4"],
    ),
    (
        "another protocol",
        Budget::Rules,
        |c| steps(c, |step| step.proto == 17, |step| step.proto = 6),
        &["port "],
    ),
    (
        "a walk in another order",
        Budget::Rules,
        |c| {
            let word = *c.word("cameras", "192.0.2.123");
            assert!(word & VERDICT_STEPS != 0);
            let first = (word & VERDICT_INDEX) as usize;
            c.rules.fixed.steps[first..first + 3].rotate_left(1);
        },
        &["192.0.2.123", "`time`"],
    ),
    (
        "a walk that begins too late",
        Budget::Rules,
        |c| *c.word("doors", "192.0.2.123") += 1,
        &["`doors`", "192.0.2.123"],
    ),
    (
        "an audit that is a pass",
        Budget::Rules,
        |c| {
            steps(
                c,
                |step| step.action == Action::Audit as u8,
                |step| step.action = Action::Pass as u8,
            );
        },
        &["`cameras`", "`watched`"],
    ),
    (
        "a VLAN is missing",
        Budget::Rules,
        |c| c.rules.fixed.vid_tables.iter_mut().for_each(|t| t[22] = 0),
        &["VLAN 22", "`cameras`"],
    ),
    (
        "a VLAN too many",
        Budget::Rules,
        |c| {
            let word = c.rules.fixed.vid_tables[0][23];
            c.rules.fixed.vid_tables[0][24] = word;
        },
        &["VLAN 24", "`cameras`"],
    ),
    (
        "a VLAN of another zone",
        Budget::Rules,
        |c| {
            let table = usize::from(c.rules.fixed.ports[0].vid_table);
            let other = c.rules.fixed.vid_tables[table][20] & VID_ZONE;
            c.rules.fixed.vid_tables[table][30] = other;
        },
        &["VLAN 30", "`doors`", "`trunk`"],
    ),
    (
        "untagged frames of no zone",
        Budget::Rules,
        |c| {
            let table = usize::from(c.rules.fixed.ports[0].vid_table);
            c.rules.fixed.vid_tables[table][0] = 0;
        },
        &["untagged", "`doors`"],
    ),
    (
        "a pair is missing",
        Budget::Rules,
        |c| c.rules.fixed.pairs.fill(bytemuck::Zeroable::zeroed()),
        &["VLAN 100.5", "`cameras`"],
    ),
    (
        "swapped interfaces",
        Budget::Rules,
        |c| c.rules.fixed.ports.swap(0, 1),
        &["`trunk`"],
    ),
    (
        "unknown VLANs pass",
        Budget::Rules,
        |c| c.rules.fixed.ports[2].drop_unknown = 0,
        &["`spare`"],
    ),
    (
        "tunnels pass",
        Budget::Rules,
        |c| set(c, "cameras", Reason::Tunnel, 0),
        &["`cameras`", "tunnel"],
    ),
    (
        "tunnels are not looked into",
        Budget::Rules,
        |c| set(c, "doors", Reason::Tunnel, 2),
        &["`doors`", "tunnel"],
    ),
    (
        "fragments of nothing pass",
        Budget::Rules,
        |c| set(c, "hall", Reason::Truncated, 0),
        &["`hall`", "truncated"],
    ),
    (
        "source routes are audited",
        Budget::Rules,
        |c| set(c, "cameras", Reason::SourceRoute, 1),
        &["`cameras`", "source-route"],
    ),
    (
        "routing headers pass",
        Budget::Rules,
        |c| set(c, "cameras", Reason::RoutingHeader, 0),
        &["`cameras`", "routing-header"],
    ),
    (
        "unknown ethertypes pass",
        Budget::Rules,
        |c| set(c, "doors", Reason::Ethertype, 0),
        &["`doors`", "ethertype"],
    ),
    (
        "martians are dropped",
        Budget::Rules,
        |c| set(c, "cameras", Reason::Martian, 2),
        &["`cameras`", "martian"],
    ),
    (
        "bad headers are dropped",
        Budget::Rules,
        |c| set(c, "cameras", Reason::BadHeader, 2),
        &["`cameras`", "bad-header"],
    ),
    (
        "long chains pass",
        Budget::Rules,
        |c| set(c, "hall", Reason::HeaderChain, 0),
        &["`hall`", "header-chain"],
    ),
    (
        "spoofed sources are audited",
        Budget::Rules,
        |c| set(c, "cameras", Reason::SpoofedSource, 1),
        &["`cameras`", "from "],
    ),
    (
        "PPPoE sessions stay closed",
        Budget::Rules,
        |c| c.rules.fixed.zones[c.zone("cameras")].flags &= !ZONE_PPPOE,
        &["`cameras`", "PPPoE"],
    ),
    (
        "no NAT64 prefixes",
        Budget::Rules,
        |c| c.rules.fixed.nat64_len = 0,
        &["2001:db8:64:"],
    ),
    (
        "one NAT64 prefix is missing",
        Budget::Rules,
        |c| c.rules.fixed.nat64_len -= 1,
        &["2001:db8:40"],
    ),
    (
        "another place in NAT64 addresses",
        Budget::Rules,
        |c| c.rules.fixed.nat64[1].length = 48,
        &["2001:db8:40"],
    ),
    (
        "the router's own addresses",
        Budget::Rules,
        |c| *c.word("hall", "fd00:20::1") &= !VERDICT_ROUTER,
        &["`hall`", "fd00:20::1"],
    ),
    (
        "no generation",
        Budget::Rules,
        |c| c.rules.fixed.version = 0,
        &["0 of 1 ran"],
    ),
];

fn steps(
    candidate: &mut Candidate,
    wanted: fn(&kordon_ebpf::layout::Step) -> bool,
    change: fn(&mut kordon_ebpf::layout::Step),
) {
    let mut changed = 0;
    for step in &mut candidate.rules.fixed.steps {
        if wanted(step) {
            change(step);
            changed += 1;
        }
    }
    assert!(changed > 0);
}

fn set(candidate: &mut Candidate, zone: &str, reason: Reason, setting: u32) {
    let zone = candidate.zone(zone);
    let settings = &mut candidate.rules.fixed.zones[zone].settings;
    let before = *settings;
    *settings = before & !(3 << setting_shift(reason)) | setting << setting_shift(reason);
    assert_ne!(*settings, before);
}

#[test]
fn every_kind_of_damage_is_found() {
    let mut prober = None;
    let mut unfound = Vec::new();
    for (name, budget, damage, words) in DAMAGES {
        let mut candidate = Candidate::new(POLICY);
        damage(&mut candidate);
        match candidate.prove(&mut prober, *budget) {
            Ok(_) => unfound.push(format!("{name}: not found")),
            Err(message) => {
                println!("{name}: {message}");
                if !words.iter().all(|word| message.contains(word)) {
                    unfound.push(format!("{name}: {words:?} is not in `{message}`"));
                }
            }
        }
    }
    println!("{} kinds of damage", DAMAGES.len());
    assert!(unfound.is_empty(), "{unfound:#?}");
}

/// What the verdict planes can have wrong: they say a pass too much. That they ask too
/// often is no damage.
#[test]
fn damage_of_the_verdict_planes_is_found() {
    type Damage = fn(&mut FlatPlanes);
    let damages: &[(&str, Damage)] = &[
        ("all of IPv4 passes", |planes| planes.v4.fill(0)),
        ("all of IPv6 passes", |planes| planes.v6.fill(PLANE_LEAF)),
        ("mixed IPv4 blocks pass", |planes| {
            planes
                .blocks_v4
                .iter_mut()
                .skip(4)
                .for_each(|block| block.fill(0));
        }),
        ("IPv6 trees pass", |planes| {
            planes.lines.iter_mut().for_each(|line| line.words[15] = 0);
        }),
        ("a pass is counted elsewhere", |planes| {
            planes.zones.iter_mut().for_each(|fast| fast.words[0] ^= 1);
        }),
        ("any IPv4 source", |planes| {
            planes.zones.iter_mut().for_each(|fast| fast.mask4 = 0);
        }),
        ("any IPv6 source", |planes| {
            planes.zones.iter_mut().for_each(|fast| fast.mask6 = 0);
        }),
        ("a VLAN of another zone", |planes| {
            planes
                .vids
                .iter_mut()
                .for_each(|table| table[20] = table[30]);
        }),
        ("a VLAN of no zone", |planes| {
            planes.vids.iter_mut().for_each(|table| table[20] = 0);
        }),
        ("unknown VLANs pass", |planes| {
            planes
                .ports
                .iter_mut()
                .for_each(|port| *port &= !u64::from(FAST_DROP_UNKNOWN));
        }),
    ];
    let mut prober = None;
    let candidate = Candidate::new(POLICY);
    candidate.prove(&mut prober, Budget::Table).unwrap();
    for (name, damage) in damages {
        match candidate.prove_with(&mut prober, Budget::Table, damage) {
            Ok(_) => panic!("{name}: not found"),
            Err(message) => {
                println!("{name}: {message}");
                assert!(message.contains("compare both paths"), "{name}: {message}");
            }
        }
    }
}
