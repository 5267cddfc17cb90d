//! Sources that a camera cannot have, and what passes because a link needs it.

use super::*;

pub(super) fn add(cases: &mut Vec<Case>) {
    listed(cases);
    unlisted(cases);
    dhcp(cases);
    neighbours(cases);
    groups(cases);
}

fn from(vid: u16, source: &str, destination: impl Into<IpAddr>) -> Vec<u8> {
    on(
        vid,
        &from_to((source.parse().expect("an address"), destination.into())),
    )
}

fn listed(cases: &mut Vec<Case>) {
    for (source, expected) in [
        ("10.20.0.0", "cameras pass default"),
        ("10.20.255.255", "cameras pass default"),
        ("10.19.255.255", "cameras drop spoofed-source"),
        ("10.21.0.0", "cameras drop spoofed-source"),
        ("10.20.0.1", "cameras pass default"),
        ("198.51.100.9", "cameras drop spoofed-source"),
        ("203.0.113.9", "cameras drop spoofed-source"),
        ("0.0.0.0", "cameras drop spoofed-source"),
        ("127.0.0.1", "cameras drop spoofed-source"),
        ("169.254.0.0", "cameras pass default"),
        ("169.254.255.255", "cameras pass default"),
        ("169.255.0.0", "cameras drop spoofed-source"),
        ("224.0.0.1", "cameras drop spoofed-source"),
        ("255.255.255.255", "cameras drop spoofed-source"),
    ] {
        row(
            cases,
            &format!("from {source}"),
            expected,
            from(CAMERAS, source, GOOD),
        );
    }
    for (source, expected) in [
        ("fd00:20::", "cameras pass default"),
        ("fd00:20:0:ffff:ffff:ffff:ffff:ffff", "cameras pass default"),
        ("fd00:20:1::", "cameras drop spoofed-source"),
        (
            "fd00:1f:ffff:ffff:ffff:ffff:ffff:ffff",
            "cameras drop spoofed-source",
        ),
        ("fe80::5", "cameras pass default"),
        ("febf:ffff::", "cameras pass default"),
        ("fec0::5", "cameras drop spoofed-source"),
        ("::", "cameras drop spoofed-source"),
        ("::1", "cameras drop spoofed-source"),
        ("ff02::1", "cameras drop spoofed-source"),
        ("::ffff:10.20.0.5", "cameras drop spoofed-source"),
        ("64:ff9b::10.20.0.5", "cameras drop spoofed-source"),
        ("2002:a14:5::", "cameras drop spoofed-source"),
        ("2001:db8:bad::9", "cameras drop spoofed-source"),
    ] {
        row(
            cases,
            &format!("from {source}"),
            expected,
            from(CAMERAS, source, GOOD6),
        );
    }
    row(
        cases,
        "a ping in somebody's name",
        "cameras drop spoofed-source",
        {
            let ping = [8, 0, 0, 0, 0, 1, 0, 1, 0x77, 0x77];
            on(CAMERAS, &ip(BAD.into(), GOOD.into(), 1, &ping))
        },
    );
    row(
        cases,
        "to itself",
        "cameras pass default",
        from(CAMERAS, "10.20.0.5", CAMERA),
    );
    row(
        cases,
        "in the name of a blocked server, to it",
        "cameras drop spoofed-source",
        from(CAMERAS, "198.51.100.9", BAD),
    );
    row(
        cases,
        "a spoofed source that is only noted",
        "lenient audit spoofed-source",
        from(LENIENT, "203.0.113.9", GOOD),
    );
    row(
        cases,
        "a spoofed source to a blocked network",
        "lenient drop rule:hostile",
        from(LENIENT, "203.0.113.9", BAD),
    );
    row(
        cases,
        "the unspecified source, only noted",
        "lenient audit spoofed-source",
        from(LENIENT, "0.0.0.0", GOOD),
    );
    for (name, proto, payload) in [
        ("without ports", TCP, vec![]),
        ("with one without ports inside", 4, carrying(GOOD, TCP, b"")),
    ] {
        row(
            cases,
            &format!("from elsewhere, {name}"),
            "noted audit spoofed-source",
            on(NOTED, &ip(BAD.into(), GOOD.into(), proto, &payload)),
        );
    }
    row(
        cases,
        "a spoofed fragment",
        "cameras drop spoofed-source",
        on(CAMERAS, &build::ipv4_with(BAD, GOOD, UDP, &[], 1, &[0; 8])),
    );
    row(
        cases,
        "a spoofed tunnel",
        "cameras drop tunnel",
        on(CAMERAS, &ip(BAD.into(), GOOD.into(), 4, &[])),
    );
}

/// Without a list, a source is spoofed that would be dropped as a destination.
fn unlisted(cases: &mut Vec<Case>) {
    for (source, expected) in [
        ("10.77.0.1", "inspected pass default"),
        ("203.0.113.77", "inspected pass default"),
        ("198.51.100.0", "inspected drop spoofed-source"),
        ("198.51.100.255", "inspected drop spoofed-source"),
        ("198.51.101.0", "inspected pass default"),
        ("0.0.0.0", "inspected drop spoofed-source"),
        ("127.0.0.1", "inspected pass default"),
        ("169.254.7.7", "inspected pass default"),
    ] {
        row(
            cases,
            &format!("without a list, from {source}"),
            expected,
            from(INSPECTED, source, GOOD),
        );
    }
    for (source, expected) in [
        ("2001:db8:bad::1", "inspected drop spoofed-source"),
        ("2001:db8:900d::1", "inspected pass default"),
        ("::ffff:198.51.100.9", "inspected drop spoofed-source"),
        ("64:ff9b::198.51.100.9", "inspected drop spoofed-source"),
        ("2001:db8:64::198.51.100.9", "inspected drop spoofed-source"),
        ("2002:c633:6409::", "inspected drop spoofed-source"),
        ("2001:0:c633:6409::", "inspected drop spoofed-source"),
        (
            "2001:0:cb00:7109:0:0:39cc:9bf6",
            "inspected drop spoofed-source",
        ),
        ("2001:0:cb00:7109:0:0:34ff:8ef6", "inspected pass default"),
        ("fe80::1", "inspected pass default"),
        ("::", "inspected drop spoofed-source"),
    ] {
        row(
            cases,
            &format!("without a list, from {source}"),
            expected,
            from(INSPECTED, source, GOOD6),
        );
    }
}

fn dhcp(cases: &mut Vec<Case>) {
    let v4 = |source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]| {
        on(CAMERAS, &build::ipv4(source, destination, UDP, payload))
    };
    let (nobody, all) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let discover = build::udp(68, 67, &[1; 40]);
    for (name, expected, frame) in [
        (
            "a lease is asked for",
            "cameras pass infrastructure",
            v4(nobody, all, &discover),
        ),
        (
            "a lease is asked for from an address",
            "cameras pass infrastructure",
            v4(CAMERA, all, &discover),
        ),
        (
            "a lease is asked for in another's name",
            "cameras pass infrastructure",
            v4(BAD, all, &discover),
        ),
        (
            "a lease is renewed",
            "cameras pass default",
            v4(CAMERA, ROUTER, &discover),
        ),
        (
            "a lease is asked of a blocked server",
            "cameras drop rule:hostile",
            v4(CAMERA, BAD, &discover),
        ),
        (
            "a lease is asked of a server from nowhere",
            "cameras drop spoofed-source",
            v4(nobody, GOOD, &discover),
        ),
        (
            "a server's answer",
            "cameras drop spoofed-source",
            v4(nobody, all, &build::udp(67, 68, &[1; 40])),
        ),
        (
            "another source port",
            "cameras drop spoofed-source",
            v4(nobody, all, &build::udp(69, 67, &[1; 40])),
        ),
        (
            "another port",
            "cameras drop spoofed-source",
            v4(nobody, all, &build::udp(68, 69, &[1; 40])),
        ),
        (
            "to the broadcast of a network",
            "cameras drop spoofed-source",
            v4(nobody, Ipv4Addr::new(10, 20, 255, 255), &discover),
        ),
        (
            "without a port",
            "cameras drop spoofed-source",
            v4(nobody, all, &discover[..2]),
        ),
        (
            "with just the ports",
            "cameras pass infrastructure",
            v4(nobody, all, &discover[..4]),
        ),
        (
            "over TCP",
            "cameras drop spoofed-source",
            on(CAMERAS, &build::ipv4(nobody, all, TCP, &discover)),
        ),
        (
            "a first part",
            "cameras drop spoofed-source",
            on(
                CAMERAS,
                &build::ipv4_with(nobody, all, UDP, &[], 0x2000, &discover),
            ),
        ),
        (
            "a later part",
            "cameras drop spoofed-source",
            on(
                CAMERAS,
                &build::ipv4_with(nobody, all, UDP, &[], 1, &discover),
            ),
        ),
        (
            "with options",
            "cameras pass infrastructure",
            on(
                CAMERAS,
                &build::ipv4_with(nobody, all, UDP, &[148, 4, 0, 0], 0, &discover),
            ),
        ),
        (
            "cut short",
            "cameras drop truncated",
            on(
                CAMERAS,
                &with16(build::ipv4(nobody, all, UDP, &discover), 2, 400),
            ),
        ),
        (
            "in AH",
            "cameras pass infrastructure",
            on(
                CAMERAS,
                &build::ipv4(nobody, all, 51, &build::ah(UDP, 4, &discover)),
            ),
        ),
    ] {
        row(cases, &format!("DHCP: {name}"), expected, frame);
    }
    let link: Ipv6Addr = "fe80::5".parse().expect("an address");
    let servers: Ipv6Addr = "ff02::1:2".parse().expect("an address");
    let site: Ipv6Addr = "ff05::1:3".parse().expect("an address");
    let solicit = build::udp(546, 547, &[1; 20]);
    let v6 = |destination: Ipv6Addr, payload: &[u8]| {
        on(CAMERAS, &build::ipv6(link, destination, UDP, payload))
    };
    for (name, expected, frame) in [
        (
            "a lease is asked for",
            "cameras pass infrastructure",
            v6(servers, &solicit),
        ),
        (
            "of all servers of a site",
            "cameras pass default",
            v6(site, &solicit),
        ),
        (
            "of a blocked server",
            "cameras drop rule:hostile",
            v6(BAD6, &solicit),
        ),
        (
            "another port",
            "cameras pass default",
            v6(servers, &build::udp(546, 548, b"")),
        ),
        (
            "ports the other way round",
            "cameras pass default",
            v6(servers, &build::udp(547, 546, b"")),
        ),
        ("without a list's address", "cameras pass infrastructure", {
            on(CAMERAS, &build::ipv6(BAD6, servers, UDP, &solicit))
        }),
        ("a fragment that is all of it", "cameras pass default", {
            on(
                CAMERAS,
                &build::ipv6(link, servers, 44, &build::fragment(UDP, 0, false, &solicit)),
            )
        }),
    ] {
        row(cases, &format!("DHCPv6: {name}"), expected, frame);
    }
}

fn neighbours(cases: &mut Vec<Case>) {
    const RS: u8 = 133;
    const RA: u8 = 134;
    const NS: u8 = 135;
    const NA: u8 = 136;
    const REDIRECT: u8 = 137;
    let all = "ff02::1";
    let asked = "ff02::1:ff00:9";
    let message = |kind: u8, source: &str, destination: &str, hops: u8| {
        let [source, destination] =
            [source, destination].map(|text| text.parse().expect("an address"));
        let body = [&[kind, 0, 0, 0][..], &[0; 20]].concat();
        on(
            CAMERAS,
            &build::ipv6_with(source, destination, ICMP6, hops, &body),
        )
    };
    for (name, expected, frame) in [
        (
            "a solicitation",
            "cameras pass infrastructure",
            message(NS, "fe80::5", asked, 255),
        ),
        (
            "whether an address is free",
            "cameras pass infrastructure",
            message(NS, "::", asked, 255),
        ),
        (
            "a solicitation to a neighbour",
            "cameras pass infrastructure",
            message(NS, "fd00:20::5", "fe80::1", 255),
        ),
        (
            "a solicitation to the router's address",
            "cameras pass infrastructure",
            message(NS, "fd00:20::5", "fd00:20::1", 255),
        ),
        (
            "a solicitation to another address",
            "cameras pass default",
            message(NS, "fd00:20::5", "fd00:20::2", 255),
        ),
        (
            "a solicitation to a blocked address",
            "cameras drop rule:hostile",
            message(NS, "fd00:20::5", "2001:db8:bad::1", 255),
        ),
        (
            "a solicitation in a blocked address's name",
            "cameras pass infrastructure",
            message(NS, "2001:db8:bad::1", asked, 255),
        ),
        (
            "a solicitation from afar",
            "cameras pass default",
            message(NS, "fd00:20::5", asked, 254),
        ),
        (
            "whether an address is free, from afar",
            "cameras drop spoofed-source",
            message(NS, "::", asked, 64),
        ),
        (
            "an advertisement",
            "cameras pass infrastructure",
            message(NA, "fe80::5", all, 255),
        ),
        (
            "an advertisement to the router",
            "cameras pass infrastructure",
            message(NA, "fe80::5", "fd00:20::1", 255),
        ),
        (
            "an advertisement to a site",
            "cameras pass default",
            message(NA, "fe80::5", "ff05::1", 255),
        ),
        (
            "a router is asked for",
            "cameras pass infrastructure",
            message(RS, "::", "ff02::2", 255),
        ),
        (
            "a camera that is a router",
            "cameras pass default",
            message(RA, "fe80::5", all, 255),
        ),
        (
            "a redirect",
            "cameras pass default",
            message(REDIRECT, "fe80::5", "fd00:20::1", 255),
        ),
        (
            "an echo to all",
            "cameras pass default",
            message(128, "fe80::5", all, 255),
        ),
        (
            "an echo to all from nowhere",
            "cameras drop spoofed-source",
            message(128, "::", all, 255),
        ),
        (
            "a group is joined (version 1)",
            "cameras pass infrastructure",
            message(131, "fe80::5", "ff02::fb", 1),
        ),
        (
            "a group is joined (version 2)",
            "cameras pass infrastructure",
            message(143, "::", "ff02::16", 1),
        ),
        (
            "a group is left",
            "cameras pass infrastructure",
            message(132, "fe80::5", "ff02::2", 1),
        ),
        (
            "groups are asked for",
            "cameras pass infrastructure",
            message(130, "fe80::5", all, 1),
        ),
        (
            "a group of a site is joined",
            "cameras pass default",
            message(143, "fe80::5", "ff05::16", 1),
        ),
        (
            "a group is joined at a blocked address",
            "cameras drop rule:hostile",
            message(143, "fe80::5", "2001:db8:bad::1", 1),
        ),
        (
            "a type that is close",
            "cameras pass default",
            message(144, "fe80::5", "ff02::16", 1),
        ),
    ] {
        row(cases, &format!("ICMPv6: {name}"), expected, frame);
    }
    let [link, nowhere, group] =
        ["fe80::5", "::", asked].map(|text| text.parse::<Ipv6Addr>().expect("an address"));
    let body = [&[NS, 0, 0, 0][..], &[0; 20]].concat();
    let headed = |source, next: u8, payload: &[u8]| {
        on(
            CAMERAS,
            &build::ipv6_with(source, group, next, 255, payload),
        )
    };
    for (name, expected, frame) in [
        (
            "behind hop-by-hop options",
            "cameras pass infrastructure",
            headed(nowhere, 0, &build::extension(ICMP6, 0, 0, &body)),
        ),
        (
            "behind AH",
            "cameras pass infrastructure",
            headed(nowhere, 51, &build::ah(ICMP6, 4, &body)),
        ),
        (
            "in a fragment (RFC 6980)",
            "cameras drop spoofed-source",
            headed(nowhere, 44, &build::fragment(ICMP6, 0, false, &body)),
        ),
        (
            "in a first part",
            "cameras drop spoofed-source",
            headed(nowhere, 44, &build::fragment(ICMP6, 0, true, &body)),
        ),
        (
            "in a later part",
            "cameras pass default",
            headed(link, 44, &build::fragment(ICMP6, 1, false, &body)),
        ),
        (
            "of no byte",
            "cameras drop spoofed-source",
            headed(nowhere, ICMP6, b""),
        ),
        (
            "of one byte",
            "cameras pass infrastructure",
            headed(nowhere, ICMP6, &[NS]),
        ),
        // It stays on the link wherever the header leads.
        (
            "behind a routing header",
            "cameras pass infrastructure",
            headed(link, 43, &build::extension(ICMP6, 0, 1, &body)),
        ),
        ("cut short", "cameras drop truncated", {
            on(
                CAMERAS,
                &with16(build::ipv6_with(nowhere, group, ICMP6, 255, &body), 4, 100),
            )
        }),
    ] {
        row(
            cases,
            &format!("ICMPv6: a solicitation {name}"),
            expected,
            frame,
        );
    }
    row(
        cases,
        "ICMPv6: in IPv4",
        "cameras pass default",
        on(
            CAMERAS,
            &carrying(Ipv4Addr::new(224, 0, 0, 1), ICMP6, &body),
        ),
    );
}

fn groups(cases: &mut Vec<Case>) {
    let report = [0x22, 0, 0, 0, 0, 0, 0, 0];
    let join = |source: Ipv4Addr, destination: [u8; 4], options: &[u8], fragment: u16| {
        let destination = Ipv4Addr::from(destination);
        on(
            CAMERAS,
            &build::ipv4_with(source, destination, 2, options, fragment, &report),
        )
    };
    for (name, expected, frame) in [
        (
            "a report",
            "cameras pass infrastructure",
            join(CAMERA, [224, 0, 0, 22], &[148, 4, 0, 0], 0),
        ),
        (
            "a report from nowhere",
            "cameras pass infrastructure",
            join(Ipv4Addr::UNSPECIFIED, [224, 0, 0, 22], &[], 0),
        ),
        (
            "the last group of the link",
            "cameras pass infrastructure",
            join(CAMERA, [224, 0, 0, 255], &[], 0),
        ),
        (
            "a group that is routed",
            "cameras pass default",
            join(CAMERA, [224, 0, 1, 0], &[], 0),
        ),
        (
            "a group that is routed, from nowhere",
            "cameras drop spoofed-source",
            join(Ipv4Addr::UNSPECIFIED, [239, 1, 1, 1], &[], 0),
        ),
        (
            "to a blocked server",
            "cameras drop rule:hostile",
            join(CAMERA, BAD.octets(), &[], 0),
        ),
        // It stays on the link wherever the option leads.
        (
            "with a source route",
            "cameras pass infrastructure",
            join(CAMERA, [224, 0, 0, 22], &[131, 3, 4], 0),
        ),
        (
            "with a bad option",
            "cameras drop bad-header",
            join(CAMERA, [224, 0, 0, 22], &[131, 0, 4], 0),
        ),
        (
            "a first part",
            "cameras pass default",
            join(CAMERA, [224, 0, 0, 22], &[], 0x2000),
        ),
        (
            "a later part from nowhere",
            "cameras drop spoofed-source",
            join(Ipv4Addr::UNSPECIFIED, [224, 0, 0, 22], &[], 1),
        ),
    ] {
        row(cases, &format!("IGMP: {name}"), expected, frame);
    }
}
