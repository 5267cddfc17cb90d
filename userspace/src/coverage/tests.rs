//! Gaps of routers that are made up, each device in a word: `9 eth2.20 vlan 20 on 8`.

use super::*;
use crate::policy::{Bundle, Context, Overlay, parse};

/// The trunk that is policed, with a sub-interface of the zone, and a line to the Internet.
const ROUTER: &[&str] = &["2 eth1 card", "3 eth1.20 vlan 20 on 2", "4 wan card"];

fn link(words: &str) -> Link {
    let mut words = words.split(' ');
    let mut next = || words.next().unwrap();
    let mut link = Link {
        index: next().parse().unwrap(),
        name: next().to_owned(),
        is_up: true,
        ..Link::default()
    };
    let number = |word: Option<&str>| word.unwrap().parse().unwrap();
    while let Some(word) = words.next() {
        match word {
            "card" => link.kind = Kind::Card,
            "veth" => link.kind = Kind::Veth,
            "tun" => link.kind = Kind::Other("tun".to_owned()),
            "macvlan" => link.kind = Kind::Macvlan,
            "bond" => link.kind = Kind::Bond,
            "bridge" => link.kind = Kind::Bridge(false),
            "filters" => link.kind = Kind::Bridge(true),
            "vlan" => link.kind = Kind::Vlan(number(words.next()) as u16),
            "on" => link.below = Some(number(words.next())),
            "in" => link.master = Some(number(words.next())),
            "has" => link.vlans.push(number(words.next()) as u16),
            "down" => link.is_up = false,
            word => panic!("{word}"),
        }
    }
    link
}

fn policy(zone: &str) -> Policy {
    let text = format!("[zone.cameras]\n{zone}\ndefault = \"drop\"\n");
    let bundle = Bundle::from_text("policy.toml", &text);
    let (policy, found) = parse(&bundle, &Overlay::default(), &Context::now(None));
    policy.unwrap_or_else(|| panic!("{found:?}"))
}

/// Gaps where these devices are policed, each as its device, and a question mark where it is only
/// possible.
fn found(links: &[&str], devices: &[u32], zone: &str) -> Vec<String> {
    let policed: Vec<Policed> = devices
        .iter()
        .map(|index| Policed {
            index: Some(*index),
            name: format!("i{index}"),
        })
        .collect();
    let links = links.iter().map(|words| link(words)).collect();
    let gaps = receivers::gaps(&links, &policed, &policy(zone));
    let word = |gap: &Gap| {
        println!("{gap}");
        assert!(gap.to_string().matches("; ").count() == 1, "{gap}");
        let mark = if gap.is_certain { "" } else { "?" };
        format!("{}{mark}", gap.device)
    };
    gaps.iter().map(word).collect()
}

#[test]
fn who_receives_a_policed_vlan_is_policed_or_a_gap() {
    /// What there is beside the router, what is policed beside its trunk, the zone, and the gaps.
    type Case<'a> = (&'a str, &'a [&'a str], &'a [u32], &'a str, &'a [&'a str]);
    const V: &str = "vlans = [20]";
    let second: &[&str] = &["8 eth2 card", "9 eth2.20 vlan 20 on 8"];
    let bridge: &[&str] = &["5 br0 bridge", "2 eth1 card in 5", "8 eth2 card in 5"];
    let cases: &[Case<'_>] = &[
        ("nothing else", &[], &[], V, &[]),
        ("a second trunk", second, &[], V, &["eth2"]),
        ("which is policed", second, &[8], V, &[]),
        // It is shown frames without their tag, which need a zone.
        ("of which the sub-interface is", second, &[9], V, &["eth2"]),
        (
            "of which the sub-interface has a zone",
            second,
            &[9],
            "vlans = [20, \"untagged\"]",
            &[],
        ),
        (
            "which is no place of the zone",
            second,
            &[],
            "vlans = [20]\ninterfaces = [\"i2\"]",
            &[],
        ),
        ("which has another VLAN", second, &[], "vlans = [30]", &[]),
        (
            "a zone by interface",
            second,
            &[],
            "interfaces = [\"i2\"]",
            &[],
        ),
        (
            "a second trunk that is down",
            &["8 eth2 card down", "9 eth2.20 vlan 20 on 8"],
            &[],
            V,
            &[],
        ),
        (
            "of which the sub-interface is down",
            &["8 eth2 card", "9 eth2.20 vlan 20 on 8 down"],
            &[],
            V,
            &[],
        ),
        (
            "two tags",
            &["8 eth2 card", "9 a vlan 100 on 8", "10 b vlan 5 on 9"],
            &[],
            "vlans = [\"100.5\"]",
            &["eth2"],
        ),
        (
            "of which the zone has another pair",
            &["8 eth2 card", "9 a vlan 100 on 8", "10 b vlan 6 on 9"],
            &[],
            "vlans = [\"100.5\"]",
            &[],
        ),
        (
            "a macvlan on the trunk",
            &["8 mac0 macvlan on 2", "9 mac0.20 vlan 20 on 8"],
            &[],
            V,
            &[],
        ),
        (
            "a macvlan on another device",
            &["7 eth2 card", "8 mac0 macvlan on 7", "9 m vlan 20 on 8"],
            &[],
            V,
            &["eth2"],
        ),
        (
            "a bond of the trunk and another port",
            &[
                "5 bond0 bond",
                "2 eth1 card in 5",
                "8 eth2 card in 5",
                "9 b vlan 20 on 5",
            ],
            &[],
            V,
            &["eth2"],
        ),
        (
            "of which all ports are policed",
            &[
                "5 bond0 bond",
                "2 eth1 card in 5",
                "8 eth2 card in 5",
                "9 b vlan 20 on 5",
            ],
            &[8],
            V,
            &[],
        ),
        (
            "or the bond is",
            &[
                "5 bond0 bond",
                "2 eth1 card in 5",
                "8 eth2 card in 5",
                "9 b vlan 20 on 5",
            ],
            &[5],
            V,
            &[],
        ),
        // A container's end is in its own namespace, and tags there are its own.
        (
            "a container",
            &["8 veth7 veth", "9 docker0 bridge"],
            &[],
            V,
            &[],
        ),
        (
            "a sub-interface of a device in another namespace",
            &["9 lan.20 vlan 20"],
            &[],
            V,
            &["lan.20"],
        ),
        (
            "a sub-interface in a bridge with virtual machines",
            &[
                "5 vmbr20 bridge",
                "3 eth1.20 vlan 20 on 2 in 5",
                "8 tap1 tun in 5",
            ],
            &[],
            V,
            &[],
        ),
        ("a bridge", bridge, &[], V, &["eth2?"]),
        ("of which all ports are policed", bridge, &[8], V, &[]),
        (
            "a bridge, and a zone that says where it is",
            bridge,
            &[],
            "vlans = [20]\ninterfaces = [\"i2\"]",
            &[],
        ),
        (
            "a bridge that knows VLANs",
            &[
                "5 br0 filters",
                "2 eth1 card in 5 has 20",
                "8 eth2 card in 5 has 1 has 20",
            ],
            &[],
            V,
            &["eth2?"],
        ),
        (
            "and keeps this one from its other port",
            &[
                "5 br0 filters",
                "2 eth1 card in 5 has 20",
                "8 eth2 card in 5 has 1",
            ],
            &[],
            V,
            &[],
        ),
        (
            "a router on a bridge",
            &[
                "5 br0 bridge",
                "2 eth1 card in 5",
                "8 eth2 card in 5",
                "9 br0.20 vlan 20 on 5",
            ],
            &[],
            V,
            &["eth2"],
        ),
        (
            "a router on a bridge with virtual machines",
            &[
                "5 br0 filters",
                "2 eth1 card in 5 has 20",
                "8 tap1 tun in 5 has 20",
                "9 tap2 tun in 5 has 30",
                "10 br0.20 vlan 20 on 5",
            ],
            &[],
            V,
            &["tap1?"],
        ),
        (
            "a router on a policed bridge",
            &[
                "5 br0 bridge",
                "2 eth1 card in 5",
                "8 eth2 card in 5",
                "9 br0.20 vlan 20 on 5",
            ],
            &[5],
            V,
            &[],
        ),
        (
            "a bond whose port is policed, in a bridge",
            &[
                "5 br0 bridge",
                "6 bond0 bond in 5",
                "2 eth1 card in 6",
                "8 eth2 card in 5",
            ],
            &[],
            V,
            &["eth2?"],
        ),
        (
            "two tags by a bridge",
            &[
                "8 eth2 card",
                "9 eth2.20 vlan 20 on 8 in 10",
                "10 br5 bridge",
                "11 br5.7 vlan 7 on 10",
            ],
            &[],
            "vlans = [\"20.7\"]",
            &["eth2"],
        ),
        // Which cannot be, but for a moment in which it is read.
        (
            "devices in a circle",
            &["8 a vlan 20 on 9", "9 b vlan 20 on 8"],
            &[],
            V,
            &[],
        ),
    ];
    let mut wrong = Vec::new();
    for (what, more, policed, zone, expected) in cases {
        println!("{what}:");
        let mut links = ROUTER.to_vec();
        // What is said of a device again is another one.
        links.retain(|old| !more.iter().any(|new| link(new).index == link(old).index));
        links.extend(*more);
        let policed = [&[2], *policed].concat();
        let found = found(&links, &policed, zone);
        if found != *expected {
            wrong.push(format!("{what}: {found:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_gap_has_its_cure_and_is_said_once_for_each_device() {
    let links = [
        "2 eth1 card",
        "8 eth2 card",
        "9 a vlan 20 on 8",
        "10 b vlan 21 on 8",
    ];
    let links: Links = links.iter().map(|words| link(words)).collect();
    let policed = [Some(2), None].map(|index| Policed {
        index,
        name: format!("i{}", index.unwrap_or(0)),
    });
    let gaps = receivers::gaps(&links, &policed, &policy("vlans = [\"20-30\"]"));
    assert_eq!(
        gaps.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "VLAN 20 of zone `cameras` also comes in on `eth2` (by `a`), where it is not policed, and so does \
          1 more; add an `[[interface]]` with `device = \"eth2\"` to kordon.toml and restart the daemon, or, \
          if what comes in there is not the zone's, say where the zone is: `interfaces = [\"i2\", \"i0\"]` in \
          `[zone.cameras]` of the policy"
        ]
    );
    // Many ports are one line.
    let ports = (10..30).map(|index| link(&format!("{index} tap{index} tun in 5")));
    let more = ["2 eth1 card in 5", "5 br0 bridge"];
    let links: Links = ports.chain(more.iter().map(|words| link(words))).collect();
    let gaps = receivers::gaps(&links, &policed, &policy("vlans = [20]"));
    assert_eq!(gaps.len(), 1);
    let words = "`tap10`, `tap11`, `tap12` and 17 more are ports of the bridge `br0`";
    assert!(gaps[0].found.starts_with(words), "{}", gaps[0]);
    // Where nothing is policed that is what has to be said.
    assert_eq!(receivers::gaps(&links, &[], &policy("vlans = [20]")), []);
}

#[test]
fn a_flowtable_is_a_gap_in_hardware_on_what_is_policed() {
    let links = [
        "2 eth1 card",
        "3 eth1.20 vlan 20 on 2",
        "4 wan card",
        "5 eth2 card in 6",
        "6 bond0 bond",
        "7 bond0.20 vlan 20 on 6",
    ];
    let links: Links = links.iter().map(|words| link(words)).collect();
    let policed = [2, 6].map(|index| Policed {
        index: Some(index),
        name: format!("i{index}"),
    });
    for (devices, is_offloaded, expected) in [
        (&["eth1", "wan"][..], false, None),
        (&["eth1", "wan"], true, Some(("eth1", "i2"))),
        (&["wan", "eth1.20"], true, Some(("eth1.20", "i2"))),
        (&["eth2"], true, Some(("eth2", "i6"))),
        (&["bond0.20"], true, Some(("bond0.20", "i6"))),
        (&["eth1.*"], true, Some(("eth1.20", "i2"))),
        (&["wan", "gone"], true, None),
    ] {
        let table = Flowtable {
            name: "inet fast".to_owned(),
            is_offloaded,
            devices: devices.iter().map(|name| (*name).to_owned()).collect(),
        };
        let gaps = flowtables::gaps(&[table], &links, &policed);
        let found = gaps.first().map(|gap| {
            assert!(gap.is_certain);
            (gap.device.as_str(), gap.interface.as_deref().unwrap())
        });
        assert_eq!(found, expected, "{devices:?}");
    }
}
