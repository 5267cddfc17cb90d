//! Judgements on facts that are made up: each row breaks one thing on a router where all is well.

use std::path::Path;

use jiff::Timestamp;
use serde_json::json;

use super::judge;
use crate::{
    config, coverage,
    datapath::Attached,
    diagnostic::Diagnostics,
    doctor::{
        facts::{
            BootGuard, Daemon, Database, Facts, Filter, Flowtable, Kind, Link, Machine, More,
            Pinned, Places, Room, Rules, Sample, Service, State,
        },
        finding::{Check, Finding, Level},
        fix::Fix,
    },
    policy::{self, Bundle, Context, Overlay},
};

const CONFIG: &str = "[asndb]\nmax_age_days = 14\n[evidence]\nwitness = [\"/bin/send\"]\n\
                      [[interface]]\ndevice = \"eth1\"\nname = \"trunk\"\n";
const POLICY: &str = "[zone.cameras]\nvlans = [20]\nsources = [\"10.20.0.0/16\"]\n\
                      [set.hostile]\nasns = [64500]\n\
                      [[rule]]\nname = \"r\"\nfrom = \"cameras\"\nto = \"hostile\"\naction = \"drop\"\n";

fn configure(facts: &mut Facts, text: &str) {
    let (config, found) = config::parse(Path::new("kordon.toml"), text);
    assert!(found.ok(), "{found:?}");
    facts.config = config;
}

fn rules(text: &str) -> Rules {
    let bundle = Bundle::from_text("policy.toml", text);
    let (policy, found) = policy::parse(&bundle, &Overlay::default(), &Context::now(None));
    Rules { policy, found }
}

fn more() -> More {
    More {
        driver: Ok("ixgbe".into()),
        features: Ok(vec!["rx-checksum".into()]),
        filters: Ok(vec![filter("guard")]),
        foreign: Ok(None),
    }
}

fn filter(name: &str) -> Filter {
    Filter {
        name: name.into(),
        program: Some(7),
        cure: "tc filter del dev eth1 ingress pref 1".into(),
    }
}

fn link(index: u32, name: &str, kind: Kind) -> Link {
    Link {
        device: coverage::Link {
            index,
            name: name.into(),
            kind,
            is_up: true,
            ..coverage::Link::default()
        },
        mtu: 1500,
        queues: (8, 8),
        more: Some(more()),
        ..Link::default()
    }
}

fn sample(name: &str, labels: &[(&str, &str)], value: f64) -> Sample {
    let labels = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Sample {
        name: name.into(),
        labels: labels.collect(),
        value,
    }
}

/// `eth1` with VLAN 20, enforced by a daemon.
fn healthy() -> Facts {
    let status = json!({
        "enforcing": true, "reasons": [], "notices": [], "version": "1.0.0",
        "interfaces": [{"device": "eth1", "mode": "native", "attached": true, "by": "xdp", "guard": "tcx"}],
        "policy": {"drift": false},
        "asndb": {"prefixes_v4": 10, "prefixes_v6": 5, "age_seconds": 3600, "update": {}},
        "zones": [{"name": "cameras", "packets": {"pass": 5, "audit": 0, "drop": 1}, "record": "summary", "silent": false}],
        "books": {"cameras": {}},
        "evidence": {"records": 12, "signed": 10, "failing": [], "forward": [{"to": "tcp://log:601", "failing": false}]},
        "state": {"problem": null},
    });
    let mut sub = link(3, "eth1.20", Kind::Vlan(20));
    sub.below = Some(2);
    let now: Timestamp = "2026-05-01T12:00:00Z".parse().unwrap();
    let mut facts = Facts {
        now,
        machine: Machine {
            release: "6.1.0-56-amd64".into(),
            btf: true,
            jit: Ok(1),
            harden: Ok(0),
            lockdown: Ok("none".into()),
            bpffs: Ok(true),
            lacks: Ok(("root".into(), Vec::new())),
        },
        places: Places {
            config: "/etc/kordon/kordon.toml".into(),
            bpffs: "/sys/fs/bpf/kordon".into(),
            state_dir: "/var/lib/kordon".into(),
            policy: Some("/etc/kordon/policy.toml".into()),
            ..Places::default()
        },
        config: None,
        config_found: Diagnostics::default(),
        policy: Ok(rules(POLICY)),
        daemon: Daemon::Answers(Box::new(status)),
        links: Ok(vec![
            link(1, "lo", Kind::Card),
            link(2, "eth1", Kind::Card),
            sub,
        ]),
        addresses: vec![
            (1, "127.0.0.1/8".parse().unwrap()),
            (3, "10.20.0.1/24".parse().unwrap()),
        ],
        connected: Ok(Default::default()),
        holder: Some(99),
        flowtables: Ok(Vec::new()),
        pinned: Ok(vec![Pinned {
            device: "eth1".into(),
            mode: Some(Attached::Native),
            has_rules: true,
        }]),
        metrics: Ok(vec![sample(
            "kordon_packets_total",
            &[("zone", "cameras"), ("action", "pass")],
            5.0,
        )]),
        database: Err("the daemon has it".into()),
        evidence: Some(Room {
            folder: "/var/lib/kordon/evidence".into(),
            used: Ok(1 << 30),
            free: Ok(100 << 30),
        }),
        state: State {
            there: Some(Ok(true)),
            rights: Some((0, 0o40750)),
            room: Some((1 << 30, 1 << 20)),
            user: Some(0),
            is_read_only: false,
        },
        synchronised: Ok(true),
        made: Some("2026-04-01T00:00:00Z".parse().unwrap()),
        groups: vec![
            ("kordon".into(), Ok(true)),
            ("kordon-read".into(), Ok(true)),
        ],
        service: Ok(Service {
            load: "loaded".into(),
            enabled: "enabled".into(),
            active: "active".into(),
            restarts: 0,
        }),
        boot_guard: BootGuard {
            enabled: Ok("enabled".into()),
            has_nft: true,
            rules: Ok(Some("# learned eth1:  | eth1.20\n".into())),
            held: Ok(Vec::new()),
            active: "active".into(),
        },
    };
    configure(&mut facts, CONFIG);
    facts
}

fn device(facts: &mut Facts) -> &mut Link {
    &mut facts.links.as_mut().unwrap()[1]
}

fn add(facts: &mut Facts, link: Link) {
    facts.links.as_mut().unwrap().push(link);
}

fn status(facts: &mut Facts) -> &mut serde_json::Value {
    match &mut facts.daemon {
        Daemon::Answers(status) => status,
        _ => panic!("no daemon"),
    }
}

fn silent(facts: &mut Facts) {
    facts.daemon = Daemon::Silent("connection refused".into());
    facts.holder = None;
    facts.database = Ok(Database {
        prefixes: 10,
        age: Some(3600),
    });
    facts.metrics = Err("no daemon answers".into());
}

#[test]
fn a_healthy_router_has_nothing_but_what_is_in_order() {
    let found = judge(&healthy());
    let bad: Vec<&Finding> = found.iter().filter(|f| f.level != Level::Fine).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    // Everything was looked at, but queues, which only virtio has.
    for check in Check::ALL {
        let is_there = found.iter().any(|f| f.check == *check);
        assert!(is_there || *check == Check::Queues, "{check:?}");
    }
}

/// What is broken, and what has to be said: how bad, of what, and words of finding and cure.
type Case = (
    &'static str,
    fn(&mut Facts),
    Level,
    Check,
    &'static [&'static str],
);

const P: Level = Level::Problem;
const W: Level = Level::Warning;
const N: Level = Level::Note;
const U: Level = Level::Unknown;

const CASES: &[Case] = &[
    (
        "old kernel",
        |f| f.machine.release = "5.10.0-8".into(),
        P,
        Check::Kernel,
        &["5.10.0-8", "6.1"],
    ),
    (
        "strange kernel",
        |f| f.machine.release = "plan9".into(),
        U,
        Check::Kernel,
        &["plan9"],
    ),
    (
        "no BTF",
        |f| f.machine.btf = false,
        P,
        Check::Btf,
        &["vmlinux", "CONFIG_DEBUG_INFO_BTF"],
    ),
    (
        "JIT off",
        |f| f.machine.jit = Ok(0),
        P,
        Check::Jit,
        &["sysctl net.core.bpf_jit_enable=1"],
    ),
    (
        "JIT not seen",
        |f| f.machine.jit = Err("another namespace".into()),
        U,
        Check::Jit,
        &["another"],
    ),
    (
        "JIT hardened",
        |f| f.machine.harden = Ok(2),
        N,
        Check::Jit,
        &["harden", "slower"],
    ),
    (
        "lockdown not seen",
        |f| f.machine.lockdown = Err("denied".into()),
        U,
        Check::Lockdown,
        &["denied"],
    ),
    (
        "no bpffs",
        |f| f.machine.bpffs = Ok(false),
        P,
        Check::Bpffs,
        &["mount -t bpf bpf /sys/fs/bpf"],
    ),
    (
        "no rights",
        |f| f.machine.lacks = Ok(("root".into(), vec!["CAP_BPF"])),
        P,
        Check::Capabilities,
        &["root lacks CAP_BPF"],
    ),
    (
        "configuration",
        |f| {
            let (_, found) =
                config::parse(Path::new("kordon.toml"), "[[interface]]\nname = \"x\"\n");
            f.config_found = found;
        },
        P,
        Check::Configuration,
        &["no `device`", "line 1"],
    ),
    (
        "policy is wrong and one is live",
        |f| f.policy = Ok(rules("[zone.z]\nvlans = [5000]\n")),
        W,
        Check::Policy,
        &["next `kordon apply` will be refused"],
    ),
    (
        "policy is wrong and none is live",
        |f| {
            f.policy = Ok(rules("[zone.z]\nvlans = [5000]\n"));
            silent(f);
        },
        P,
        Check::Policy,
        &["5000"],
    ),
    (
        "drift",
        |f| status(f)["policy"]["drift"] = true.into(),
        W,
        Check::Policy,
        &["not the one that is live", "kordon apply"],
    ),
    (
        "device misspelt",
        |f| device(f).name = "etth1".into(),
        W,
        Check::Interface,
        &["called something else"],
    ),
    (
        "device misspelt, nothing attached",
        |f| {
            device(f).name = "eth11".into();
            status(f)["interfaces"] = json!([]);
        },
        P,
        Check::Interface,
        &["no interface `eth1`", "did you mean `eth11`"],
    ),
    (
        "device down",
        |f| device(f).is_up = false,
        W,
        Check::Interface,
        &["down", "ip link set dev eth1 up"],
    ),
    (
        "bridge",
        |f| {
            let mut port = link(9, "enp3s0", Kind::Card);
            port.master = Some(2);
            add(f, port);
            device(f).kind = Kind::Bridge(true);
            status(f)["interfaces"][0]["by"] = serde_json::Value::Null;
        },
        P,
        Check::Device,
        &["bridge with VLANs", "`enp3s0`"],
    ),
    (
        "bridge that the guard polices",
        |f| {
            device(f).kind = Kind::Bridge(true);
            status(f)["interfaces"][0]["by"] = "tc".into();
        },
        N,
        Check::Device,
        &["bridge with VLANs"],
    ),
    (
        "tags taken out before the first start",
        |f| {
            let more = device(f).more.as_mut().unwrap();
            more.features = Ok(vec!["rx-vlan-hw-parse".into()]);
            silent(f);
        },
        W,
        Check::Tags,
        &["the guard in tc has to police it"],
    ),
    (
        "tags taken out before the first start, and no guard",
        |f| {
            let more = device(f).more.as_mut().unwrap();
            more.features = Ok(vec!["rx-vlan-hw-parse".into()]);
            configure(f, &format!("{CONFIG}guard = false\n"));
            silent(f);
        },
        P,
        Check::Tags,
        &["before XDP", "ethtool -K eth1 rxvlan off"],
    ),
    (
        "tc alone",
        |f| status(f)["interfaces"][0]["mode"] = "tc".into(),
        N,
        Check::Mode,
        &["policed in tc alone"],
    ),
    (
        "no daemon, and the guard alone",
        |f| {
            silent(f);
            f.pinned = Ok(Vec::new());
        },
        U,
        Check::Enforcing,
        &["no program is on `eth1` but the guard"],
    ),
    (
        "tags taken out, and the guard polices",
        |f| {
            let more = device(f).more.as_mut().unwrap();
            more.features = Ok(vec!["rx-vlan-hw-parse".into()]);
            status(f)["interfaces"][0]["by"] = "tc".into();
        },
        W,
        Check::Tags,
        &["ethtool -K eth1 rxvlan off"],
    ),
    (
        "bridge without ports",
        |f| {
            device(f).kind = Kind::Bridge(false);
            silent(f);
        },
        P,
        Check::Device,
        &["bridge,", "has none yet"],
    ),
    (
        "macvlan",
        |f| {
            let link = device(f);
            (link.kind, link.below) = (Kind::Macvlan, Some(1));
            silent(f);
        },
        P,
        Check::Device,
        &["macvlan", "police `lo` instead"],
    ),
    (
        "sub-interface under a zone with VLANs",
        |f| {
            let link = device(f);
            (link.kind, link.below) = (Kind::Vlan(20), None);
            silent(f);
        },
        P,
        Check::Device,
        &["sub-interface of VLAN 20", "\"untagged\"", "\"trunk\""],
    ),
    (
        "bond in generic mode",
        |f| {
            device(f).kind = Kind::Bond;
            configure(f, &CONFIG.replace("name =", "mode = \"generic\"\nname ="));
            silent(f);
        },
        P,
        Check::Device,
        &["bond in generic mode"],
    ),
    (
        "tags taken out",
        |f| device(f).more.as_mut().unwrap().features = Ok(vec!["rx-vlan-hw-parse".into()]),
        P,
        Check::Tags,
        &["rx-vlan-hw-parse", "ethtool -K eth1 rxvlan off"],
    ),
    (
        "outer tags taken out",
        |f| device(f).more.as_mut().unwrap().features = Ok(vec!["rx-vlan-stag-hw-parse".into()]),
        P,
        Check::Tags,
        &["rx-vlan-stag-hw-parse off"],
    ),
    (
        "tags taken out, and managed",
        |f| {
            device(f).more.as_mut().unwrap().features = Ok(vec!["rx-vlan-hw-parse".into()]);
            configure(f, &format!("{CONFIG}manage_offload = true\n"));
            silent(f);
        },
        N,
        Check::Tags,
        &["the daemon switches it off"],
    ),
    (
        "tags hidden by a port of a bond",
        |f| {
            let mut port = link(9, "enp3s0", Kind::Card);
            port.master = Some(2);
            port.more.as_mut().unwrap().features = Ok(vec!["rx-vlan-hw-parse".into()]);
            add(f, port);
            device(f).kind = Kind::Bond;
        },
        P,
        Check::Tags,
        &["`enp3s0`"],
    ),
    (
        "features not seen",
        |f| device(f).more.as_mut().unwrap().features = Err("no answer".into()),
        U,
        Check::Tags,
        &["no answer"],
    ),
    (
        "veth whose peer hides tags",
        |f| {
            let mut peer = link(9, "out", Kind::Veth);
            peer.more.as_mut().unwrap().features = Ok(vec!["tx-vlan-hw-insert".into()]);
            add(f, peer);
            let link = device(f);
            (link.kind, link.below) = (Kind::Veth, Some(9));
        },
        W,
        Check::Tags,
        &["`out`", "ethtool -K out txvlan off"],
    ),
    (
        "veth to a container, no daemon",
        |f| {
            device(f).kind = Kind::Veth;
            silent(f);
        },
        U,
        Check::Tags,
        &["another network namespace"],
    ),
    (
        "what the daemon says of tags",
        |f| {
            let status = status(f);
            status["enforcing"] = false.into();
            status["reasons"] = json!([
                "VLAN tags (0x8100) are hidden from the program on `eth1`: the driver keeps them beside the frame; run `ethtool`"
            ]);
        },
        P,
        Check::Tags,
        &["hidden from the program", "run `ethtool`"],
    ),
    (
        "generic mode",
        |f| {
            status(f)["interfaces"][0]["mode"] = "generic".into();
        },
        N,
        Check::Mode,
        &["generic", "ixgbe"],
    ),
    (
        "large MTU, native asked for",
        |f| {
            device(f).mtu = 9000;
            configure(f, &CONFIG.replace("name =", "mode = \"native\"\nname ="));
            silent(f);
            f.pinned = Ok(Vec::new());
        },
        W,
        Check::Mtu,
        &["9000", "3498"],
    ),
    (
        "large MTU of a peer",
        |f| {
            let mut peer = link(9, "out", Kind::Veth);
            peer.mtu = 9000;
            add(f, peer);
            let link = device(f);
            (link.kind, link.below) = (Kind::Veth, Some(9));
        },
        N,
        Check::Mtu,
        &["`out`", "9000", "in pieces"],
    ),
    (
        "LRO",
        |f| {
            device(f).more.as_mut().unwrap().features =
                Ok(vec!["rx-lro".into(), "rx-gro-hw".into()]);
        },
        N,
        Check::Gro,
        &["rx-lro and rx-gro-hw", "ethtool -K eth1 lro off"],
    ),
    (
        "VLAN filter",
        |f| device(f).more.as_mut().unwrap().features = Ok(vec!["rx-vlan-filter".into()]),
        N,
        Check::VlanFilter,
        &["rx-vlan-filter off"],
    ),
    (
        "one queue",
        |f| {
            let link = device(f);
            (link.bus, link.queues) = (Some("virtio".into()), (1, 1));
        },
        N,
        Check::Queues,
        &["1 receive queue", "mq=on"],
    ),
    (
        "another program",
        |f| {
            device(f).more.as_mut().unwrap().foreign = Ok(Some("another XDP program is there in native mode (`x`, id 5) and is left alone; `bpftool link detach id 3`".into()));
        },
        P,
        Check::ForeignXdp,
        &["`x`, id 5", "bpftool link detach id 3"],
    ),
    (
        "a program that nobody can see",
        |f| device(f).more.as_mut().unwrap().foreign = Err("denied".into()),
        U,
        Check::ForeignXdp,
        &["denied"],
    ),
    (
        "another filter",
        |f| device(f).more.as_mut().unwrap().filters = Ok(vec![filter("guard"), filter("shaper")]),
        N,
        Check::ForeignTc,
        &["`shaper`", "tc filter del"],
    ),
    (
        "the guard is gone",
        |f| device(f).more.as_mut().unwrap().filters = Ok(Vec::new()),
        W,
        Check::Guard,
        &["took it off", "within a second"],
    ),
    (
        "the guard is gone and no daemon",
        |f| {
            device(f).more.as_mut().unwrap().filters = Ok(Vec::new());
            silent(f);
        },
        W,
        Check::Guard,
        &["no daemon is there"],
    ),
    (
        "no guard wanted",
        |f| configure(f, &format!("{CONFIG}guard = false\n")),
        N,
        Check::Guard,
        &["not noticed"],
    ),
    (
        "filters not seen",
        |f| device(f).more.as_mut().unwrap().filters = Err("denied".into()),
        U,
        Check::Guard,
        &["denied"],
    ),
    (
        "flowtable in hardware",
        |f| {
            f.flowtables = Ok(vec![Flowtable {
                name: "filter fast".into(),
                is_offloaded: true,
                devices: vec!["wan".into(), "eth1.20".into()],
            }]);
        },
        P,
        Check::Flowtable,
        &["`filter fast`", "`eth1.20`"],
    ),
    (
        "flowtables not seen",
        |f| f.flowtables = Err("only root".into()),
        U,
        Check::Flowtable,
        &["only root"],
    ),
    (
        "second trunk",
        |f| {
            let mut sub = link(9, "eth2.20", Kind::Vlan(20));
            sub.below = Some(8);
            add(f, link(8, "eth2", Kind::Card));
            add(f, sub);
        },
        P,
        Check::Coverage,
        &[
            "VLAN 20",
            "`eth2`",
            "`eth2.20`",
            "device = \"eth2\"",
            "`interfaces = [\"trunk\"]` in `[zone.cameras]`",
        ],
    ),
    (
        "the zone's interface is another",
        |f| {
            let mut sub = link(9, "eth2.20", Kind::Vlan(20));
            sub.below = Some(8);
            add(f, link(8, "eth2", Kind::Card));
            add(f, sub);
            configure(
                f,
                &format!("{CONFIG}[[interface]]\ndevice = \"eth2\"\nname = \"second\"\n"),
            );
            f.policy = Ok(rules(
                &POLICY.replace("vlans", "interfaces = [\"trunk\"]\nvlans"),
            ));
        },
        N,
        Check::NoZone,
        &["on `eth2`", "20 (`eth2.20`"],
    ),
    (
        "a port of a VLAN-aware bridge",
        |f| {
            add(f, link(8, "br0", Kind::Bridge(true)));
            let mut port = link(9, "eth2", Kind::Card);
            (port.master, port.vlans) = (Some(8), vec![1, 20]);
            add(f, port);
            device(f).master = Some(8);
        },
        W,
        Check::Coverage,
        &["`eth2` is a port of the bridge `br0`"],
    ),
    (
        "QinQ on a second trunk",
        |f| {
            let mut outer = link(9, "eth2.100", Kind::Vlan(100));
            outer.below = Some(8);
            let mut inner = link(10, "eth2.100.5", Kind::Vlan(5));
            inner.below = Some(9);
            add(f, link(8, "eth2", Kind::Card));
            add(f, outer);
            add(f, inner);
            f.policy = Ok(rules(&POLICY.replace("[20]", "[\"100.5\"]")));
        },
        P,
        Check::Coverage,
        &["VLAN 100.5", "`eth2.100.5`"],
    ),
    (
        "an address of the zone elsewhere",
        |f| {
            add(f, link(8, "eth2", Kind::Card));
            f.addresses.push((8, "10.20.9.1/24".parse().unwrap()));
        },
        W,
        Check::Coverage,
        &["`eth2` has the address 10.20.9.1/24", "zone `cameras`"],
    ),
    (
        "a VLAN without a zone",
        |f| {
            let mut sub = link(9, "eth1.30", Kind::Vlan(30));
            (sub.below, sub.received) = (Some(2), 77);
            add(f, sub);
        },
        N,
        Check::NoZone,
        &["30 (`eth1.30`, 77 packets"],
    ),
    (
        "frames without a zone",
        |f| {
            f.metrics.as_mut().unwrap().push(sample(
                "kordon_interface_unpoliced_packets_total",
                &[("interface", "trunk"), ("tag", "0x8100")],
                9.0,
            ));
        },
        N,
        Check::NoZone,
        &["9 frames", "tcpdump"],
    ),
    (
        "a zone without packets",
        |f| status(f)["zones"][0]["packets"] = json!({"pass": 0, "audit": 0, "drop": 0}),
        W,
        Check::Zone,
        &["no packet", "tcpdump -nei eth1"],
    ),
    (
        "a zone that is silent",
        |f| status(f)["zones"][0]["silent"] = true.into(),
        W,
        Check::Zone,
        &["has none any more"],
    ),
    (
        "connected without an address",
        |f| {
            f.policy = Ok(rules(
                &POLICY.replace("[\"10.20.0.0/16\"]", "\"connected\""),
            ));
        },
        P,
        Check::Sources,
        &["no address on its VLANs", "ip address"],
    ),
    (
        "all sources are foreign",
        |f| {
            f.metrics = Ok(vec![
                sample(
                    "kordon_packets_total",
                    &[("zone", "cameras"), ("action", "drop")],
                    8.0,
                ),
                sample(
                    "kordon_unparsable_packets_total",
                    &[
                        ("zone", "cameras"),
                        ("reason", "spoofed-source"),
                        ("action", "drop"),
                    ],
                    8.0,
                ),
            ]);
        },
        P,
        Check::Sources,
        &["all 8 packets", "kordon explain"],
    ),
    (
        "some sources are foreign",
        |f| {
            f.metrics.as_mut().unwrap().push(sample(
                "kordon_unparsable_packets_total",
                &[
                    ("zone", "cameras"),
                    ("reason", "spoofed-source"),
                    ("action", "drop"),
                ],
                2.0,
            ));
        },
        N,
        Check::Sources,
        &["2 of 5"],
    ),
    (
        "no metrics",
        |f| f.metrics = Err("metrics are off".into()),
        U,
        Check::Sources,
        &["metrics are off"],
    ),
    (
        "old database",
        |f| status(f)["asndb"]["age_seconds"] = (30 * 86_400).into(),
        W,
        Check::Database,
        &["30 days old", "14"],
    ),
    (
        "no database",
        |f| {
            status(f)["asndb"]["age_seconds"] = serde_json::Value::Null;
        },
        P,
        Check::Database,
        &["no ASN database", "asndb update"],
    ),
    (
        "an update that failed",
        |f| status(f)["asndb"]["update"]["failure"] = json!({"message": "timed out"}),
        W,
        Check::Database,
        &["timed out"],
    ),
    (
        "a database that cannot be read",
        |f| {
            silent(f);
            f.database = Err("denied".into());
        },
        U,
        Check::Database,
        &["denied"],
    ),
    (
        "before it was made",
        |f| f.now = Timestamp::UNIX_EPOCH,
        P,
        Check::Clock,
        &["1970-01-01", "2026-04-01"],
    ),
    (
        "not synchronised",
        |f| f.synchronised = Ok(false),
        W,
        Check::Clock,
        &["set-ntp"],
    ),
    (
        "no systemd",
        |f| f.synchronised = Err("not started by systemd".into()),
        U,
        Check::Clock,
        &["not started by systemd"],
    ),
    (
        "state is a file",
        |f| f.state.there = Some(Ok(false)),
        P,
        Check::State,
        &["not a folder"],
    ),
    (
        "state not seen",
        |f| f.state.there = Some(Err("denied".into())),
        U,
        Check::State,
        &["denied"],
    ),
    (
        "state not there yet",
        |f| f.state.there = None,
        N,
        Check::State,
        &["first start"],
    ),
    (
        "read-only",
        |f| f.state.is_read_only = true,
        P,
        Check::State,
        &["read-only"],
    ),
    (
        "no rights to the state",
        |f| f.state.rights = Some((0, 0o40500)),
        P,
        Check::State,
        &["mode 0500", "chmod u+rwx"],
    ),
    (
        "anybody may write",
        |f| f.state.rights = Some((0, 0o40777)),
        P,
        Check::State,
        &["anybody"],
    ),
    (
        "another owner",
        |f| (f.state.user, f.state.rights) = (Some(990), Some((0, 0o40750))),
        P,
        Check::State,
        &["user 0", "user 990", "chown -R 990"],
    ),
    (
        "no room",
        |f| f.state.room = Some((1 << 20, 0)),
        P,
        Check::State,
        &["1 MB"],
    ),
    (
        "little room",
        |f| f.state.room = Some((64 << 20, 100 << 20)),
        W,
        Check::State,
        &["64 MB"],
    ),
    (
        "no group",
        |f| f.groups[0].1 = Ok(false),
        N,
        Check::Groups,
        &["groupadd --system kordon"],
    ),
    (
        "no unit",
        |f| {
            f.service = Ok(Service {
                load: "not-found".into(),
                ..Service::default()
            });
        },
        P,
        Check::Service,
        &["not installed"],
    ),
    (
        "unit is disabled",
        |f| f.service.as_mut().unwrap().enabled = "disabled".into(),
        P,
        Check::Service,
        &["systemctl enable --now kordon"],
    ),
    (
        "unit is masked",
        |f| f.service.as_mut().unwrap().load = "masked".into(),
        P,
        Check::Service,
        &["unmask"],
    ),
    (
        "restart loop",
        |f| f.service.as_mut().unwrap().restarts = 40,
        W,
        Check::Service,
        &["40 times"],
    ),
    (
        "boot guard is disabled",
        |f| f.boot_guard.enabled = Ok("disabled".into()),
        W,
        Check::BootGuard,
        &["systemctl enable kordon-boot-guard"],
    ),
    (
        "boot guard without nft",
        |f| f.boot_guard.has_nft = false,
        W,
        Check::BootGuard,
        &["nftables"],
    ),
    (
        "boot guard holds",
        |f| f.boot_guard.held = Ok(vec!["eth1".into()]),
        P,
        Check::BootGuard,
        &["`eth1`", "kordon release-guard"],
    ),
    (
        "boot guard of a router that fails open",
        |f| configure(f, &format!("fail = \"open\"\n{CONFIG}")),
        N,
        Check::BootGuard,
        &["everything is forwarded"],
    ),
    (
        "no daemon",
        silent,
        W,
        Check::Daemon,
        &["connection refused", "go on"],
    ),
    (
        "no daemon and nothing attached",
        |f| {
            silent(f);
            f.pinned = Ok(Vec::new());
            device(f).more.as_mut().unwrap().filters = Ok(Vec::new());
        },
        P,
        Check::Enforcing,
        &["everything passes", "`eth1`"],
    ),
    (
        "no daemon, and pins not seen",
        |f| {
            silent(f);
            f.pinned = Err("denied".into());
        },
        U,
        Check::Enforcing,
        &["denied"],
    ),
    (
        "the daemon may not be asked",
        |f| f.daemon = Daemon::Unknown("permission denied".into()),
        U,
        Check::Daemon,
        &["permission denied"],
    ),
    (
        "a reason that nobody knows here",
        |f| {
            let status = status(f);
            status["enforcing"] = false.into();
            status["reasons"] = json!(["the moon is full"]);
        },
        P,
        Check::Enforcing,
        &["the moon is full", "operations.md"],
    ),
    (
        "a notice",
        |f| {
            status(f)["notices"] =
                json!(["`eth1` is called `lan` now and is policed as before; change it back"]);
        },
        W,
        Check::Interface,
        &["called `lan`", "change it back"],
    ),
    (
        "a zone that is not recorded",
        |f| status(f)["zones"][0]["record"] = json!("off"),
        N,
        Check::Ledger,
        &["nothing that is sent in it is recorded"],
    ),
    (
        "another number of lines",
        |f| status(f)["notices"] = json!(["the ledger has 16384 lines; `kordon detach`"]),
        W,
        Check::Ledger,
        &["16384 lines", "`kordon detach`"],
    ),
    (
        "no log of evidence",
        |f| configure(f, "[[interface]]\ndevice = \"eth1\"\n"),
        N,
        Check::Evidence,
        &["the next boot forgets it", "`[evidence]`"],
    ),
    (
        "a log that nobody outside hears of",
        |f| configure(f, "[[interface]]\ndevice = \"eth1\"\n[evidence]\n"),
        N,
        Check::Evidence,
        &["can write it anew", "`[evidence.post]`"],
    ),
    (
        "a disk that is smaller than the log may be",
        |f| f.evidence.as_mut().unwrap().free = Ok(3 << 30),
        W,
        Check::Evidence,
        &["may take 5120 MB more, and 3072 are free", "`max_size`"],
    ),
    (
        "a disk that has just too little",
        |f| f.evidence.as_mut().unwrap().free = Ok((5 << 30) + 1),
        W,
        Check::Evidence,
        &["may take 5120 MB more, and 5120 are free, of which 128 are left"],
    ),
    (
        "a log that may not be looked at",
        |f| f.evidence.as_mut().unwrap().used = Err("Permission denied".into()),
        Level::Unknown,
        Check::Evidence,
        &["Permission denied"],
    ),
    (
        "a log that is not written",
        |f| {
            status(f)["notices"] = json!(["the log of evidence is not written: no space left"]);
            status(f)["evidence"]["failing"] = json!(["writing"]);
        },
        W,
        Check::Evidence,
        &["no space left"],
    ),
    (
        "a destination that is down",
        |f| {
            status(f)["notices"] = json!(["tcp://log:601: records are not forwarded: refused"]);
            status(f)["evidence"]["forward"][0]["failing"] = json!(true);
        },
        W,
        Check::Evidence,
        &["not forwarded: refused"],
    ),
];

#[test]
fn each_thing_that_is_broken_is_named_with_its_cure() {
    let mut wrong = Vec::new();
    for (what, breaks, level, check, words) in CASES {
        let mut facts = healthy();
        breaks(&mut facts);
        let found = judge(&facts);
        let here: Vec<&Finding> = found.iter().filter(|f| f.check == *check).collect();
        let said = |f: &&&Finding| {
            let all = format!("{} {}", f.found, f.cure.as_deref().unwrap_or_default());
            words.iter().all(|word| all.contains(word))
        };
        let named = here.iter().find(|f| f.level == *level && said(f));
        let Some(named) = named else {
            wrong.push(format!("{what}: {here:#?}"));
            continue;
        };
        // Where it is, nothing is in order as well.
        let fine = |f: &&&Finding| f.level == Level::Fine && f.about == named.about;
        // What has several sides, which are told apart by words alone.
        let has_sides = [
            Check::Policy,
            Check::Database,
            Check::Groups,
            Check::Sources,
        ];
        if !has_sides.contains(check) && here.iter().any(|f| fine(&f)) {
            wrong.push(format!("{what}: in order as well: {here:#?}"));
        }
        assert!(found.is_sorted_by_key(|f| f.level), "{what}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_in_order_that_nobody_could_look_at() {
    let mut facts = healthy();
    let no = || "denied".to_owned();
    facts.machine.jit = Err(no());
    facts.machine.lockdown = Err(no());
    facts.machine.bpffs = Err(no());
    facts.machine.lacks = Err(no());
    facts.daemon = Daemon::Unknown(no());
    facts.links = Err(no());
    facts.flowtables = Err(no());
    facts.pinned = Err(no());
    facts.metrics = Err(no());
    facts.policy = Err(no());
    facts.database = Err(no());
    facts.state.there = Some(Err(no()));
    facts.synchronised = Err(no());
    facts.service = Err(no());
    facts.boot_guard.enabled = Err(no());
    facts.boot_guard.rules = Err(no());
    facts.boot_guard.held = Err(no());
    facts.groups[0].1 = Err(no());
    facts.groups.truncate(1);
    facts.made = None;
    let found = judge(&facts);
    let fine: Vec<Check> = found
        .iter()
        .filter(|f| f.level == Level::Fine)
        .map(|f| f.check)
        .collect();
    assert_eq!(fine, [Check::Kernel, Check::Btf, Check::Configuration]);
    assert!(!found.iter().any(|f| f.level < Level::Note), "{found:#?}");
}

#[test]
fn what_the_daemon_says_is_said_once_and_can_still_be_mended() {
    let mut facts = healthy();
    device(&mut facts).more.as_mut().unwrap().features = Ok(vec!["rx-vlan-hw-parse".into()]);
    let status = status(&mut facts);
    status["enforcing"] = false.into();
    status["reasons"] = json!([
        "cannot see the VLAN tags on `eth1`: rx-vlan-offload is on: the hardware takes the tags away before XDP; set `manage_offload`"
    ]);
    let found = judge(&facts);
    let tags: Vec<&Finding> = found.iter().filter(|f| f.check == Check::Tags).collect();
    assert_eq!(tags.len(), 1, "{tags:#?}");
    assert!(tags[0].found.starts_with("cannot see"));
    assert_eq!(tags[0].fix, Some(Fix::Offload("eth1".into())));
}

/// What leads around kordon is said once as well, as the daemon says it.
#[test]
fn a_gap_that_the_daemon_knows_is_said_once() {
    let mut facts = healthy();
    let mut sub = link(9, "eth2.20", Kind::Vlan(20));
    sub.below = Some(8);
    add(&mut facts, link(8, "eth2", Kind::Card));
    add(&mut facts, sub);
    let alone = judge(&facts);
    let found = alone.iter().find(|f| f.check == Check::Coverage).unwrap();
    let cure = found.cure.as_deref().unwrap();
    let status = status(&mut facts);
    status["enforcing"] = false.into();
    status["reasons"] = json!([format!("{}; {cure}", found.found)]);
    status["gaps"] = json!([{"device": "eth2", "interface": null, "certain": true,
        "found": found.found, "cure": cure}]);
    let said = judge(&facts);
    let said: Vec<&Finding> = said.iter().filter(|f| f.level < Level::Note).collect();
    assert_eq!(said, [found]);
}

#[test]
fn every_check_is_in_the_document_and_has_words_of_its_own() {
    let document = include_str!("../../../../docs/doctor.md");
    for check in Check::ALL {
        let row = format!("| `{}` |", check.as_str());
        assert!(document.contains(&row), "{row}");
        assert!(!check.why().is_empty());
    }
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let names: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    for name in names {
        assert!(
            Check::ALL.iter().any(|check| check.as_str() == name),
            "{name}"
        );
    }
}
