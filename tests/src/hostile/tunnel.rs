//! Protocols that carry packets: refused, looked into, noted.

use super::*;

const GRE: u8 = 47;

pub(super) fn add(cases: &mut Vec<Case>) {
    refused(cases);
    looked_into(cases);
    unreadable(cases);
    noted(cases);
}

fn refused(cases: &mut Vec<Case>) {
    for (name, proto) in [
        ("IP in IP", 4),
        ("IPv6 in IP", 41),
        ("GRE", GRE),
        ("minimal encapsulation", 55),
        ("IPIP", 94),
        ("EtherIP", 97),
        ("encapsulation", 98),
        ("IPComp", 108),
        ("L2TP", 115),
        ("MPLS in IP", 137),
        ("ROHC", 142),
        ("Ethernet of SRv6", 143),
        ("aggregates of IP-TFS", 144),
        ("NSH", 145),
    ] {
        for (family, packet) in [
            ("IPv4", carrying(GOOD, proto, &to(GOOD))),
            ("IPv6", carrying(GOOD6, proto, &to(GOOD))),
        ] {
            row(
                cases,
                &format!("{name} over {family}"),
                "cameras drop tunnel",
                on(CAMERAS, &packet),
            );
        }
        row(
            cases,
            &format!("{name} to a blocked network"),
            "cameras drop tunnel",
            on(CAMERAS, &carrying(BAD, proto, &[])),
        );
        let later = build::ipv4_with(CAMERA, GOOD, proto, &[], 5, &[0; 24]);
        row(
            cases,
            &format!("a later part of {name}"),
            "cameras drop tunnel",
            on(CAMERAS, &later),
        );
    }
    for (name, proto) in [
        ("IGMP to a router", 2),
        ("an exterior gateway protocol", 8),
        ("DCCP", 33),
        ("RSVP", 46),
        ("EIGRP", 88),
        ("OSPF", 89),
        ("AX.25 frames", 93),
        ("PIM", 103),
        ("VRRP", 112),
        ("SCTP", 132),
        ("Fibre Channel", 133),
        ("UDP-Lite", 136),
    ] {
        row(
            cases,
            &format!("{name} carries no packets"),
            "cameras pass default",
            on(CAMERAS, &carrying(GOOD, proto, &[0; 40])),
        );
    }
    // What hides in ports is an affair of rules.
    let inside = to(BAD);
    for (name, port) in [
        ("Teredo", 3544),
        ("VXLAN", 4789),
        ("GENEVE", 6081),
        ("GRE in UDP", 4754),
        ("L2TP in UDP", 1701),
        ("WireGuard", 51820),
    ] {
        let datagram = build::udp(40_000, port, &inside);
        row(
            cases,
            &format!("{name} over UDP"),
            "cameras pass default",
            on(CAMERAS, &carrying(GOOD, UDP, &datagram)),
        );
        row(
            cases,
            &format!("{name} over UDP on an allow list"),
            "doors drop default",
            on(DOORS, &carrying(GOOD, UDP, &datagram)),
        );
    }
}

fn looked_into(cases: &mut Vec<Case>) {
    let telnet = build::tcp(40_000, 23);
    let relayed: Ipv6Addr = "2002:c633:6409::1".parse().expect("an address");
    for (name, expected, packet) in [
        (
            "IP in IP to a blocked network",
            "drop rule:hostile",
            carrying(GOOD, 4, &to(BAD)),
        ),
        ("IP in IP", "pass default", carrying(GOOD, 4, &to(GOOD))),
        (
            "IP in IP through a blocked network",
            "drop rule:hostile",
            carrying(BAD, 4, &to(GOOD)),
        ),
        ("IPIP", "drop rule:hostile", carrying(GOOD, 94, &to(BAD))),
        (
            "IPv6 in IPv4",
            "drop rule:hostile",
            carrying(GOOD, 41, &to(BAD6)),
        ),
        (
            "harmless IPv6 in IPv4",
            "pass default",
            carrying(GOOD, 41, &to(GOOD6)),
        ),
        (
            "IPv6 in IPv6",
            "drop rule:hostile",
            carrying(GOOD6, 41, &to(BAD6)),
        ),
        (
            "IPv4 in IPv6",
            "drop rule:hostile",
            carrying(GOOD6, 4, &to(BAD)),
        ),
        (
            "IPv4 in GRE",
            "drop rule:hostile",
            carrying(GOOD, GRE, &build::gre(0, 0x0800, &to(BAD))),
        ),
        (
            "IPv6 in GRE",
            "drop rule:hostile",
            carrying(GOOD, GRE, &build::gre(0, 0x86dd, &to(BAD6))),
        ),
        (
            "harmless GRE",
            "pass default",
            carrying(GOOD, GRE, &build::gre(0, 0x0800, &to(GOOD))),
        ),
        (
            "GRE with a checksum",
            "drop rule:hostile",
            carrying(GOOD, GRE, &build::gre(0x8000, 0x0800, &to(BAD))),
        ),
        (
            "GRE with a key",
            "drop rule:hostile",
            carrying(GOOD, GRE, &build::gre(0x2000, 0x0800, &to(BAD))),
        ),
        (
            "GRE with a sequence number",
            "drop rule:hostile",
            carrying(GOOD, GRE, &build::gre(0x1000, 0x0800, &to(BAD))),
        ),
        (
            "GRE with all of them",
            "drop rule:hostile",
            carrying(GOOD, GRE, &build::gre(0xb000, 0x0800, &to(BAD))),
        ),
        (
            "GRE over IPv6",
            "drop rule:hostile",
            carrying(GOOD6, GRE, &build::gre(0, 0x0800, &to(BAD))),
        ),
        (
            "a blocked port inside",
            "drop rule:telnet",
            carrying(GOOD, 4, &carrying(GOOD, TCP, &telnet)),
        ),
        (
            "a blocked port outside is none",
            "pass default",
            carrying(GOOD, 4, &to(GOOD)),
        ),
        (
            "6to4 inside",
            "drop rule:hostile",
            carrying(GOOD, 41, &to(relayed)),
        ),
        ("a later part inside", "drop rule:telnet", {
            carrying(
                GOOD,
                4,
                &build::ipv4_with(CAMERA, GOOD, TCP, &[], 9, &[0; 8]),
            )
        }),
        (
            "a foreign source inside",
            "pass default",
            carrying(GOOD, 4, &from_to((BAD.into(), GOOD.into()))),
        ),
        (
            "padding inside",
            "pass default",
            carrying(GOOD, 4, &[to(GOOD), to(BAD)].concat()),
        ),
        ("a first part around a whole packet", "drop rule:hostile", {
            build::ipv4_with(CAMERA, GOOD, 4, &[], 0x2000, &to(BAD))
        }),
        ("headers before the tunnel", "drop rule:hostile", {
            carrying(GOOD6, 60, &build::extension(41, 0, 0, &to(BAD6)))
        }),
        ("headers inside the tunnel", "drop rule:hostile", {
            let inside = build::extension(UDP, 0, 0, &build::udp(1, 9, b""));
            carrying(GOOD, 41, &carrying(BAD6, 60, &inside))
        }),
        (
            "nothing behind the header inside",
            "pass default",
            carrying(GOOD, 4, &carrying(GOOD, UDP, b"")),
        ),
    ] {
        let expected = match expected {
            "drop rule:hostile" => "inspected drop rule:hostile",
            "drop rule:telnet" => "inspected drop rule:telnet",
            _ => "inspected pass default",
        };
        row(
            cases,
            &format!("looked into: {name}"),
            expected,
            on(INSPECTED, &packet),
        );
    }
}

fn unreadable(cases: &mut Vec<Case>) {
    let gre = |flags: u16, kind: u16| carrying(GOOD, GRE, &build::gre(flags, kind, &to(GOOD)));
    let nested = carrying(GOOD, 4, &to(GOOD));
    for (name, packet) in [
        ("minimal encapsulation", carrying(GOOD, 55, &to(GOOD))),
        ("EtherIP", carrying(GOOD, 97, &[0x30, 0])),
        ("encapsulation", carrying(GOOD, 98, &to(GOOD))),
        ("L2TP", carrying(GOOD, 115, &to(GOOD))),
        ("MPLS in IP", carrying(GOOD, 137, &to(GOOD))),
        ("a tunnel in a tunnel", carrying(GOOD, 4, &nested)),
        ("GRE in GRE", {
            let inner = carrying(GOOD, GRE, &build::gre(0, 0x0800, &to(GOOD)));
            carrying(GOOD, GRE, &build::gre(0, 0x0800, &inner))
        }),
        ("a tunnel behind headers in a tunnel", {
            let inner = carrying(GOOD6, 60, &build::extension(4, 0, 0, &to(GOOD)));
            carrying(GOOD, 41, &inner)
        }),
        ("GRE with routing", gre(0x4000, 0x0800)),
        ("GRE of version 1", gre(1, 0x0800)),
        ("PPTP", gre(0x3001, 0x880b)),
        ("GRE with strict routing", gre(0x0800, 0x0800)),
        ("GRE with recursion", gre(0x0100, 0x0800)),
        ("GRE with a reserved flag", gre(0x0008, 0x0800)),
        ("Ethernet in GRE", gre(0, 0x6558)),
        ("MPLS in GRE", gre(0, 0x8847)),
        ("ERSPAN", gre(0x1000, 0x88be)),
        ("keepalives of GRE", gre(0, 0)),
        ("GRE of three bytes", carrying(GOOD, GRE, &[0, 0, 8])),
        (
            "GRE whose key is not there",
            carrying(GOOD, GRE, &[0x20, 0, 8, 0, 0, 0]),
        ),
        ("an empty tunnel", carrying(GOOD, 4, b"")),
        ("half a header inside", carrying(GOOD, 4, &to(GOOD)[..19])),
        (
            "half an IPv6 header inside",
            carrying(GOOD, 41, &to(GOOD6)[..39]),
        ),
        ("IPv6 where IPv4 should be", carrying(GOOD, 4, &to(GOOD6))),
        ("IPv4 where IPv6 should be", carrying(GOOD, 41, &to(GOOD))),
        (
            "a packet that leaves the tunnel",
            carrying(GOOD, 4, &with16(to(GOOD), 2, 33)),
        ),
        (
            "an IPv6 packet that leaves the tunnel",
            carrying(GOOD, 41, &with16(to(GOOD6), 4, 33)),
        ),
        (
            "a bad length inside",
            carrying(GOOD, 4, &with16(to(GOOD), 2, 3)),
        ),
        (
            "a martian inside",
            carrying(GOOD, 4, &to(Ipv4Addr::LOCALHOST)),
        ),
        (
            "an IPv6 martian inside",
            carrying(GOOD, 41, &to(Ipv6Addr::LOCALHOST)),
        ),
        ("a source route inside", {
            let inner = build::ipv4_with(CAMERA, GOOD, UDP, &[131, 3, 4], 0, &[0; 8]);
            carrying(GOOD, 4, &inner)
        }),
        ("a routing header inside", {
            let inner = build::extension(UDP, 0, 1, &build::udp(1, 9, b""));
            carrying(GOOD, 41, &carrying(GOOD6, 43, &inner))
        }),
        ("nine headers inside", {
            let mut next = (UDP, build::udp(1, 9, b""));
            for _ in 0..9 {
                next = (60, build::extension(next.0, 0, 0, &next.1));
            }
            carrying(GOOD, 41, &carrying(GOOD6, next.0, &next.1))
        }),
        (
            "a later part of a tunnel",
            build::ipv4_with(CAMERA, GOOD, 4, &[], 9, &to(GOOD)),
        ),
        ("a first part that cuts the packet inside", {
            build::ipv4_with(CAMERA, GOOD, 4, &[], 0x2000, &to(GOOD)[..24])
        }),
        ("a bad tunnel to a blocked network", carrying(BAD, 4, b"")),
    ] {
        row(
            cases,
            &format!("not to be looked into: {name}"),
            "inspected drop tunnel",
            on(INSPECTED, &packet),
        );
    }
}

fn noted(cases: &mut Vec<Case>) {
    for (name, expected, packet) in [
        (
            "a tunnel",
            "lenient audit tunnel",
            carrying(GOOD, 4, &to(GOOD)),
        ),
        (
            "a tunnel to what is not looked at",
            "lenient audit tunnel",
            carrying(GOOD, 4, &to(BAD)),
        ),
        (
            "a tunnel to a blocked network",
            "lenient drop rule:hostile",
            carrying(BAD, 4, &to(GOOD)),
        ),
        (
            "an empty tunnel",
            "lenient audit tunnel",
            carrying(GOOD, 4, b""),
        ),
    ] {
        row(
            cases,
            &format!("only noted: {name}"),
            expected,
            on(LENIENT, &packet),
        );
    }
}
