//! What passes because a link needs it, and what looks like that: from addresses that
//! cannot be there, behind headers that are meant for others, longer than it may be.

use super::*;

const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const ALL: Ipv4Addr = Ipv4Addr::BROADCAST;

const RS: u8 = 133;
const RA: u8 = 134;
const NS: u8 = 135;
const NA: u8 = 136;
const REDIRECT: u8 = 137;

pub(super) fn add(cases: &mut Vec<Case>) {
    dhcpv4(cases);
    dhcpv6(cases);
    discovery(cases);
    headers(cases);
    listeners(cases);
    groups(cases);
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn dhcpv4(cases: &mut Vec<Case>) {
    let whole = build::udp(68, 67, &build::dhcp([0; 4]));
    let discover = |at: usize, byte: u8| with(whole.clone(), 8 + at, byte);
    let packet = |payload: &[u8]| build::ipv4(NOBODY, ALL, UDP, payload);
    let from = |source| build::ipv4(source, ALL, UDP, &whole);
    let passes = "cameras pass infrastructure";
    let nowhere = "cameras drop spoofed-source";
    for (name, expected, packet) in [
        ("a lease is asked for", passes, packet(&whole)),
        ("from an address", passes, from(CAMERA)),
        (
            "from an address that it gave itself",
            passes,
            from(Ipv4Addr::new(169, 254, 1, 1)),
        ),
        ("in a blocked server's name", nowhere, from(BAD)),
        ("in the name of one that is allowed", nowhere, from(GOOD)),
        (
            "a lease is renewed",
            "cameras pass default",
            build::ipv4(CAMERA, ROUTER, UDP, &whole),
        ),
        (
            "a lease is asked of a blocked server",
            "cameras drop rule:hostile",
            build::ipv4(CAMERA, BAD, UDP, &whole),
        ),
        (
            "a lease is asked of a server from nowhere",
            nowhere,
            build::ipv4(NOBODY, GOOD, UDP, &whole),
        ),
        (
            "a server's port",
            nowhere,
            packet(&build::udp(67, 68, &whole[8..])),
        ),
        (
            "another source port",
            nowhere,
            packet(&build::udp(69, 67, &whole[8..])),
        ),
        (
            "another port",
            nowhere,
            packet(&build::udp(68, 69, &whole[8..])),
        ),
        (
            "to the broadcast of a network",
            nowhere,
            build::ipv4(NOBODY, Ipv4Addr::new(10, 20, 255, 255), UDP, &whole),
        ),
        ("over TCP", nowhere, build::ipv4(NOBODY, ALL, TCP, &whole)),
        ("without a port", nowhere, packet(&whole[..2])),
        ("with just the ports", nowhere, packet(&whole[..4])),
        // Servers answer where these fields say.
        ("an answer", nowhere, packet(&discover(0, 2))),
        (
            "from a client's address",
            passes,
            packet(&build::udp(68, 67, &build::dhcp(CAMERA.octets()))),
        ),
        (
            "from a blocked client's address",
            nowhere,
            packet(&build::udp(68, 67, &build::dhcp(BAD.octets()))),
        ),
        (
            "from a client at a blocked address, sent from its own",
            "cameras pass default",
            {
                build::ipv4(
                    CAMERA,
                    ALL,
                    UDP,
                    &build::udp(68, 67, &build::dhcp(BAD.octets())),
                )
            },
        ),
        ("through a relay", nowhere, packet(&discover(24, 198))),
        (
            "through a relay, by the last byte",
            nowhere,
            packet(&discover(27, 1)),
        ),
        ("without a cookie", nowhere, packet(&discover(236, 0))),
        ("no options", passes, {
            packet(&build::udp(68, 67, &whole[8..8 + 240]))
        }),
        ("a byte too short", nowhere, {
            packet(&build::udp(68, 67, &whole[8..8 + 239]))
        }),
        ("more than the datagram says", nowhere, {
            packet(&[&whole[..], &[0; 900]].concat())
        }),
        ("less than the datagram says", nowhere, {
            packet(&with16(whole.clone(), 4, 900))
        }),
        (
            "a first part",
            nowhere,
            build::ipv4_with(NOBODY, ALL, UDP, &[], 0x2000, &whole),
        ),
        (
            "a later part",
            nowhere,
            build::ipv4_with(NOBODY, ALL, UDP, &[], 1, &whole),
        ),
        (
            "with an option",
            nowhere,
            build::ipv4_with(NOBODY, ALL, UDP, &[148, 4, 0, 0], 0, &whole),
        ),
        (
            "with a recorded route",
            nowhere,
            build::ipv4_with(NOBODY, ALL, UDP, &[7, 7, 4, 0, 0, 0, 0], 0, &whole),
        ),
        (
            "with a source route",
            "cameras drop source-route",
            build::ipv4_with(NOBODY, ALL, UDP, &[131, 7, 4, 198, 51, 100, 9], 0, &whole),
        ),
        (
            "cut short",
            "cameras drop truncated",
            with16(packet(&whole), 2, 1400),
        ),
        (
            "in AH",
            nowhere,
            build::ipv4(NOBODY, ALL, 51, &build::ah(UDP, 4, &whole)),
        ),
    ] {
        row(
            cases,
            &format!("DHCP: {name}"),
            expected,
            on(CAMERAS, &packet),
        );
    }
    for (name, expected, vid, packet) in [
        (
            "a lease is asked for on an allow list",
            "doors pass infrastructure",
            DOORS,
            packet(&whole),
        ),
        (
            "without a list, from any address",
            "inspected pass infrastructure",
            INSPECTED,
            from(GOOD),
        ),
        (
            "without a list, from a blocked one",
            "inspected drop spoofed-source",
            INSPECTED,
            from(BAD),
        ),
        (
            "forged, where that is only noted",
            "lenient audit spoofed-source",
            LENIENT,
            from(BAD),
        ),
        (
            "cut, where that is let through",
            "lenient audit spoofed-source",
            LENIENT,
            with16(packet(&whole), 2, 1400),
        ),
    ] {
        row(cases, &format!("DHCP: {name}"), expected, on(vid, &packet));
    }
}

fn dhcpv6(cases: &mut Vec<Case>) {
    let [link, servers, site] = ["fe80::5", "ff02::1:2", "ff05::1:3"].map(v6);
    let message = |kind: u8| build::udp(546, 547, &[kind, 0, 0, 7, 0, 8, 0, 2, 0, 0]);
    let solicit = message(1);
    let packet = |destination, payload: &[u8]| build::ipv6(link, destination, UDP, payload);
    for (name, expected, packet) in [
        (
            "a lease is asked for",
            "cameras pass infrastructure",
            packet(servers, &solicit),
        ),
        (
            "of all servers of a site",
            "cameras pass default",
            packet(site, &solicit),
        ),
        (
            "of a blocked server",
            "cameras drop rule:hostile",
            packet(BAD6, &solicit),
        ),
        (
            "another port",
            "cameras pass default",
            packet(servers, &build::udp(546, 548, b"")),
        ),
        (
            "ports the other way round",
            "cameras pass default",
            packet(servers, &build::udp(547, 546, b"")),
        ),
        ("from its own address", "cameras pass infrastructure", {
            build::ipv6(CAMERA6, servers, UDP, &solicit)
        }),
        ("from a blocked address", "cameras drop spoofed-source", {
            build::ipv6(BAD6, servers, UDP, &solicit)
        }),
        (
            "a renewal",
            "cameras pass infrastructure",
            packet(servers, &message(5)),
        ),
        (
            "what only servers say",
            "cameras pass default",
            packet(servers, &message(2)),
        ),
        (
            "what a relay says",
            "cameras pass default",
            packet(servers, &message(12)),
        ),
        // A relay delivers what is in it to the address in it.
        (
            "what a relay is told",
            "cameras pass default",
            packet(servers, &message(13)),
        ),
        (
            "a type that nobody has",
            "cameras pass default",
            packet(servers, &message(0)),
        ),
        (
            "no transaction",
            "cameras pass default",
            packet(servers, &solicit[..11]),
        ),
        ("no option", "cameras pass infrastructure", {
            packet(servers, &build::udp(546, 547, &[1, 0, 0, 7]))
        }),
        ("more than the datagram says", "cameras pass default", {
            packet(servers, &[&solicit[..], &[0; 900]].concat())
        }),
        ("a fragment that is all of it", "cameras pass default", {
            build::ipv6(link, servers, 44, &build::fragment(UDP, 0, false, &solicit))
        }),
        ("behind options", "cameras pass default", {
            build::ipv6(link, servers, 60, &build::extension(UDP, 0, 0, &solicit))
        }),
        ("in AH", "cameras pass default", {
            build::ipv6(link, servers, 51, &build::ah(UDP, 4, &solicit))
        }),
    ] {
        row(
            cases,
            &format!("DHCPv6: {name}"),
            expected,
            on(CAMERAS, &packet),
        );
    }
}

fn discovery(cases: &mut Vec<Case>) {
    let all = "ff02::1";
    let asked = "ff02::1:ff00:9";
    let message = |kind: u8, source: &str, destination: &str, hops: u8| {
        let body = [&[kind, 0, 0, 0][..], &[0; 20]].concat();
        build::ipv6_with(v6(source), v6(destination), ICMP6, hops, &body)
    };
    let listening = |kind: u8, source: &str, destination: &str, hops: u8| {
        let body = build::mld(kind);
        build::ipv6_with(v6(source), v6(destination), ICMP6, hops, &body)
    };
    let passes = "cameras pass infrastructure";
    for (name, expected, packet) in [
        ("a solicitation", passes, message(NS, "fe80::5", asked, 255)),
        (
            "whether an address is free",
            passes,
            message(NS, "::", asked, 255),
        ),
        (
            "a solicitation to a neighbour",
            passes,
            message(NS, "fd00:20::5", "fe80::1", 255),
        ),
        (
            "a solicitation to the router's address",
            passes,
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
            "cameras drop spoofed-source",
            message(NS, "2001:db8:bad::1", asked, 255),
        ),
        (
            "a solicitation to the router in a blocked address's name",
            "cameras drop spoofed-source",
            message(NS, "2001:db8:bad::1", "fd00:20::1", 255),
        ),
        (
            "an advertisement in an allowed address's name",
            "cameras drop spoofed-source",
            message(NA, "2001:db8:900d::1", all, 255),
        ),
        (
            "a router is asked for in a blocked address's name",
            "cameras drop spoofed-source",
            message(RS, "2001:db8:bad::1", "ff02::2", 255),
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
        ("an advertisement", passes, message(NA, "fe80::5", all, 255)),
        (
            "an advertisement to the router",
            passes,
            message(NA, "fe80::5", "fd00:20::1", 255),
        ),
        (
            "an advertisement to a site",
            "cameras pass default",
            message(NA, "fe80::5", "ff05::1", 255),
        ),
        ("a router is asked for", passes, {
            build::ipv6_with(
                v6("::"),
                v6("ff02::2"),
                ICMP6,
                255,
                &[RS, 0, 0, 0, 0, 0, 0, 0],
            )
        }),
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
            passes,
            listening(131, "fe80::5", "ff02::fb", 1),
        ),
        (
            "a group is joined (version 2)",
            passes,
            listening(143, "::", "ff02::16", 1),
        ),
        (
            "a group is joined in a blocked address's name",
            "cameras drop spoofed-source",
            listening(143, "2001:db8:bad::1", "ff02::16", 1),
        ),
        (
            "a group is left",
            passes,
            listening(132, "fe80::5", "ff02::2", 1),
        ),
        (
            "groups are asked for",
            passes,
            listening(130, "fe80::5", all, 1),
        ),
        (
            "a group of a site is joined",
            "cameras pass default",
            listening(143, "fe80::5", "ff05::16", 1),
        ),
        (
            "a group is joined at a blocked address",
            "cameras drop rule:hostile",
            listening(143, "fe80::5", "2001:db8:bad::1", 1),
        ),
        (
            "a type that is close",
            "cameras pass default",
            message(144, "fe80::5", "ff02::16", 1),
        ),
    ] {
        row(
            cases,
            &format!("ICMPv6: {name}"),
            expected,
            on(CAMERAS, &packet),
        );
    }
    let option = |units: u8| {
        let mut option = vec![0; usize::from(units) * 8];
        option[..2].copy_from_slice(&[1, units]);
        option
    };
    for (name, kind, fixed, expected) in [
        ("RS", RS, 8, passes),
        ("NS", NS, 24, passes),
        ("NA", NA, 24, passes),
    ] {
        let body = |code: u8, behind: &[u8]| {
            let body = [&[kind, code][..], &vec![0; fixed - 2], behind].concat();
            build::ipv6_with(v6("fe80::5"), v6("ff02::2"), ICMP6, 255, &body)
        };
        let short = build::ipv6_with(v6("fe80::5"), v6("ff02::2"), ICMP6, 255, &{
            [&[kind, 0][..], &vec![0; fixed - 3]].concat()
        });
        let other = "cameras pass default";
        for (what, expected, packet) in [
            ("without options", expected, body(0, &[])),
            ("a byte too short", other, short),
            ("of another code", other, body(1, &[])),
            ("with an option", expected, body(0, &option(1))),
            ("with a long option", expected, body(0, &option(40))),
            (
                "with eight options",
                expected,
                body(0, &option(1).repeat(8)),
            ),
            ("with nine options", other, body(0, &option(1).repeat(9))),
            (
                "with an option of no length",
                other,
                body(0, &[1, 0, 0, 0, 0, 0, 0, 0]),
            ),
            ("with half an option", other, body(0, &option(2)[..8])),
            ("with a byte of an option", other, body(0, &[1])),
            (
                "with a picture behind the option",
                other,
                body(0, &[&option(1)[..], &[0x58; 900]].concat()),
            ),
        ] {
            row(
                cases,
                &format!("{name}: {what}"),
                expected,
                on(CAMERAS, &packet),
            );
        }
    }
    row(
        cases,
        "ICMPv6: in IPv4",
        "cameras pass default",
        on(
            CAMERAS,
            &carrying(Ipv4Addr::new(224, 0, 0, 1), ICMP6, &[NS; 24]),
        ),
    );
}

/// Headers before a solicitation. They are meant for others, or make the router answer.
fn headers(cases: &mut Vec<Case>) {
    let [link, nowhere, forged, group] =
        ["fe80::5", "::", "2001:db8:bad::1", "ff02::1:ff00:9"].map(v6);
    let body = [&[NS, 0, 0, 0][..], &[0; 20]].concat();
    let unknown = |next: u8| {
        // RFC 8200 4.2: the sender is told of an option that begins with 10.
        let mut header = build::extension(next, 0, 0, &body);
        header[2..4].copy_from_slice(&[0x80, 4]);
        header
    };
    let headed =
        |source, next: u8, payload: &[u8]| build::ipv6_with(source, group, next, 255, payload);
    let spoofed = "cameras drop spoofed-source";
    let other = "cameras pass default";
    for (name, expected, packet) in [
        (
            "behind hop-by-hop options",
            other,
            headed(link, 0, &build::extension(ICMP6, 0, 0, &body)),
        ),
        (
            "behind hop-by-hop options, from nowhere",
            spoofed,
            headed(nowhere, 0, &build::extension(ICMP6, 0, 0, &body)),
        ),
        (
            "behind unknown hop-by-hop options",
            other,
            headed(link, 0, &unknown(ICMP6)),
        ),
        (
            "behind unknown hop-by-hop options, forged",
            spoofed,
            headed(forged, 0, &unknown(ICMP6)),
        ),
        (
            "behind unknown options, forged",
            spoofed,
            headed(forged, 60, &unknown(ICMP6)),
        ),
        (
            "behind AH",
            other,
            headed(link, 51, &build::ah(ICMP6, 4, &body)),
        ),
        (
            "behind AH, forged",
            spoofed,
            headed(forged, 51, &build::ah(ICMP6, 4, &body)),
        ),
        (
            "in a fragment (RFC 6980)",
            spoofed,
            headed(nowhere, 44, &build::fragment(ICMP6, 0, false, &body)),
        ),
        (
            "in a first part",
            spoofed,
            headed(nowhere, 44, &build::fragment(ICMP6, 0, true, &body)),
        ),
        (
            "in a later part",
            other,
            headed(link, 44, &build::fragment(ICMP6, 1, false, &body)),
        ),
        ("of no byte", spoofed, headed(nowhere, ICMP6, b"")),
        ("of one byte", spoofed, headed(nowhere, ICMP6, &[NS])),
        (
            "behind a routing header",
            "cameras drop routing-header",
            headed(link, 43, &build::extension(ICMP6, 0, 1, &body)),
        ),
        (
            "behind a routing header that is used up",
            other,
            headed(link, 43, &build::extension(ICMP6, 0, 0, &body)),
        ),
        // What is forged is told first.
        (
            "behind a routing header, forged",
            spoofed,
            headed(forged, 43, &build::extension(ICMP6, 0, 1, &body)),
        ),
        (
            "cut short",
            "cameras drop truncated",
            with16(headed(nowhere, ICMP6, &body), 4, 100),
        ),
    ] {
        row(
            cases,
            &format!("ICMPv6: a solicitation {name}"),
            expected,
            on(CAMERAS, &packet),
        );
    }
    for (name, expected, packet) in [
        (
            "forged",
            "lenient audit spoofed-source",
            headed(forged, ICMP6, &body),
        ),
        (
            "forged, behind a routing header",
            "lenient audit spoofed-source",
            headed(forged, 43, &build::extension(ICMP6, 0, 1, &body)),
        ),
        (
            "behind a routing header",
            "lenient audit routing-header",
            headed(link, 43, &build::extension(ICMP6, 0, 1, &body)),
        ),
        (
            "in order",
            "lenient pass infrastructure",
            headed(link, ICMP6, &body),
        ),
    ] {
        let name = format!("ICMPv6: a solicitation {name}, where that is only noted");
        row(cases, &name, expected, on(LENIENT, &packet));
    }
}

/// MLD.
fn listeners(cases: &mut Vec<Case>) {
    let alerted = |header: [u8; 8], kind: u8| {
        let payload = [&header[..], &build::mld(kind)].concat();
        build::ipv6_with(v6("fe80::5"), v6("ff02::16"), 0, 1, &payload)
    };
    let passes = "cameras pass infrastructure";
    let other = "cameras pass default";
    for (name, expected, header) in [
        ("router alert first", passes, [ICMP6, 0, 5, 2, 0, 0, 1, 0]),
        (
            "router alert first, bytes of padding",
            passes,
            [ICMP6, 0, 5, 2, 0, 0, 0, 0],
        ),
        ("padding first", passes, [ICMP6, 0, 1, 0, 5, 2, 0, 0]),
        (
            "bytes of padding first",
            passes,
            [ICMP6, 0, 0, 0, 5, 2, 0, 0],
        ),
        ("padding alone", other, [ICMP6, 0, 1, 4, 0, 0, 0, 0]),
        ("an alert of RSVP", other, [ICMP6, 0, 5, 2, 0, 1, 1, 0]),
        ("a long alert", other, [ICMP6, 0, 5, 3, 0, 0, 0, 0]),
        ("an alert out of place", other, [ICMP6, 0, 0, 5, 2, 0, 0, 0]),
        ("an unknown option", other, [ICMP6, 0, 0x80, 4, 0, 0, 0, 0]),
        (
            "an unknown option behind the alert",
            other,
            [ICMP6, 0, 5, 2, 0, 0, 0x80, 0],
        ),
        (
            "an unknown option before the alert",
            other,
            [ICMP6, 0, 0x80, 0, 5, 2, 0, 0],
        ),
    ] {
        for (version, kind) in [("1", 131), ("2", 143)] {
            row(
                cases,
                &format!("MLD: version {version}, {name}"),
                expected,
                on(CAMERAS, &alerted(header, kind)),
            );
        }
    }
    let alert = [5, 2, 0, 0];
    let extended = |next: u8, headers: Vec<u8>| {
        build::ipv6_with(v6("fe80::5"), v6("ff02::16"), next, 1, &headers)
    };
    let report = build::mld(143);
    for (name, packet) in [
        (
            "in destination options",
            extended(60, [&[ICMP6, 0][..], &alert, &[1, 0], &report].concat()),
        ),
        (
            "in a long header",
            extended(
                0,
                [&[ICMP6, 1][..], &alert, &[1, 8], &[0; 8], &report].concat(),
            ),
        ),
        (
            "before more options",
            extended(0, {
                [
                    &[60, 0][..],
                    &alert,
                    &[1, 0],
                    &build::extension(ICMP6, 0, 0, &report),
                ]
                .concat()
            }),
        ),
        (
            "behind more options",
            extended(60, {
                [
                    &[0, 0, 1, 4, 0, 0, 0, 0, ICMP6, 0][..],
                    &alert,
                    &[1, 0],
                    &report,
                ]
                .concat()
            }),
        ),
    ] {
        row(
            cases,
            &format!("MLD: an alert {name}"),
            other,
            on(CAMERAS, &packet),
        );
    }
    let lengths: [(&str, &str, Vec<u8>); 16] = [
        ("a query of version 2", passes, build::mld_query(0, 0)),
        ("a query of sources", passes, build::mld_query(3, 3)),
        (
            "a query of more sources than there are",
            other,
            build::mld_query(3, 2),
        ),
        (
            "a query of fewer sources than there are",
            other,
            build::mld_query(2, 3),
        ),
        (
            "a query between the versions",
            other,
            [&build::mld(130)[..], &[0; 2]].concat(),
        ),
        (
            "a query that is short",
            other,
            build::mld(130)[..23].to_vec(),
        ),
        (
            "a report that is short",
            other,
            build::mld(131)[..23].to_vec(),
        ),
        (
            "a report with more behind it",
            other,
            [&build::mld(131)[..], &[0; 900]].concat(),
        ),
        (
            "a group that is left, with more behind it",
            other,
            [&build::mld(132)[..], &[0; 900]].concat(),
        ),
        (
            "a report of nothing",
            passes,
            vec![143, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "a report of nothing that is short",
            other,
            vec![143, 0, 0, 0, 0, 0, 0],
        ),
        ("two records", passes, build::records(143, 16, &[0, 2])),
        (
            "more records than are said",
            other,
            with(build::records(143, 16, &[0, 2]), 7, 1),
        ),
        (
            "fewer records than are said",
            other,
            with(build::records(143, 16, &[0, 2]), 7, 3),
        ),
        (
            "data in a record",
            other,
            with(build::records(143, 16, &[1]), 9, 4),
        ),
        (
            "sources that are not there",
            other,
            with(build::records(143, 16, &[1]), 11, 2),
        ),
    ];
    for (name, expected, body) in lengths {
        let packet = build::ipv6_with(v6("fe80::5"), v6("ff02::16"), ICMP6, 1, &body);
        row(
            cases,
            &format!("MLD: {name}"),
            expected,
            on(CAMERAS, &packet),
        );
    }
    // As many as there are in 1,500 bytes, and one more.
    for (count, expected) in [(72, passes), (73, other)] {
        let body = build::records(143, 16, &vec![0; count]);
        let packet = build::ipv6_with(v6("fe80::5"), v6("ff02::16"), ICMP6, 1, &body);
        row(
            cases,
            &format!("MLD: {count} records"),
            expected,
            on(CAMERAS, &packet),
        );
    }
}

/// IGMP.
fn groups(cases: &mut Vec<Case>) {
    let report = [0x22, 0, 0, 0, 0, 0, 0, 0];
    let alert = [148, 4, 0, 0];
    let routers = [224, 0, 0, 22];
    let join = |source: Ipv4Addr, destination: [u8; 4], options: &[u8], fragment: u16| {
        build::ipv4_with(source, destination.into(), 2, options, fragment, &report)
    };
    let passes = "cameras pass infrastructure";
    let other = "cameras pass default";
    for (name, expected, packet) in [
        ("a report", passes, join(CAMERA, routers, &alert, 0)),
        (
            "a report from nowhere",
            passes,
            join(NOBODY, routers, &[], 0),
        ),
        (
            "a report in a blocked server's name",
            "cameras drop spoofed-source",
            join(BAD, routers, &alert, 0),
        ),
        (
            "the last group of the link",
            passes,
            join(CAMERA, [224, 0, 0, 255], &[], 0),
        ),
        (
            "a group that is routed",
            other,
            join(CAMERA, [224, 0, 1, 0], &[], 0),
        ),
        (
            "a group that is routed, from nowhere",
            "cameras drop spoofed-source",
            join(NOBODY, [239, 1, 1, 1], &[], 0),
        ),
        (
            "to a blocked server",
            "cameras drop rule:hostile",
            join(CAMERA, BAD.octets(), &[], 0),
        ),
        (
            "with a source route",
            "cameras drop source-route",
            join(CAMERA, routers, &[131, 3, 4], 0),
        ),
        (
            "with a source route, forged",
            "cameras drop spoofed-source",
            join(BAD, routers, &[131, 3, 4], 0),
        ),
        (
            "with a recorded route",
            other,
            join(CAMERA, routers, &[7, 7, 4, 0, 0, 0, 0], 0),
        ),
        (
            "with an alert of another value",
            other,
            join(CAMERA, routers, &[148, 4, 0, 1], 0),
        ),
        (
            "with the alert twice",
            other,
            join(CAMERA, routers, &[148, 4, 0, 0, 148, 4, 0, 0], 0),
        ),
        (
            "with a bad option",
            "cameras drop bad-header",
            join(CAMERA, routers, &[131, 0, 4], 0),
        ),
        (
            "behind AH",
            other,
            build::ipv4(CAMERA, routers.into(), 51, &build::ah(2, 4, &report)),
        ),
        ("a first part", other, join(CAMERA, routers, &[], 0x2000)),
        (
            "a later part from nowhere",
            "cameras drop spoofed-source",
            join(NOBODY, routers, &[], 1),
        ),
    ] {
        row(
            cases,
            &format!("IGMP: {name}"),
            expected,
            on(CAMERAS, &packet),
        );
    }
    let message = |kind: u8, more: usize| [&[kind][..], &vec![0; 7 + more]].concat();
    let query = |said: u8, sources: usize| with(message(0x11, 4 + 4 * sources), 11, said);
    let bodies: [(&str, &str, Vec<u8>); 22] = [
        ("a query of version 1 or 2", passes, message(0x11, 0)),
        ("a query of version 3", passes, query(0, 0)),
        ("a query of sources", passes, query(3, 3)),
        ("a query of more sources than there are", other, query(3, 2)),
        (
            "a query of fewer sources than there are",
            other,
            query(0, 200),
        ),
        ("a query between the versions", other, message(0x11, 2)),
        ("a report of version 1", passes, message(0x12, 0)),
        (
            "a report of version 1 with more behind it",
            other,
            message(0x12, 900),
        ),
        ("a report of version 2", passes, message(0x16, 0)),
        (
            "a report of version 2 with more behind it",
            other,
            message(0x16, 900),
        ),
        ("a group is left", passes, message(0x17, 0)),
        (
            "a group is left, with more behind it",
            other,
            message(0x17, 1),
        ),
        (
            "a report that is short",
            other,
            message(0x16, 0)[..7].to_vec(),
        ),
        ("of no byte", other, vec![]),
        ("two records", passes, build::records(0x22, 4, &[0, 2])),
        (
            "more behind the records",
            other,
            [&build::records(0x22, 4, &[1])[..], &[0; 900]].concat(),
        ),
        (
            "fewer records than are said",
            other,
            with(build::records(0x22, 4, &[0, 2]), 7, 3),
        ),
        (
            "data in a record",
            other,
            with(build::records(0x22, 4, &[1]), 9, 1),
        ),
        ("DVMRP", other, message(0x13, 0)),
        ("PIM of version 1", other, message(0x14, 0)),
        ("a trace", other, message(0x1f, 16)),
        ("a type that nobody has", other, message(0, 0)),
    ];
    for (name, expected, body) in bodies {
        let packet = build::ipv4_with(CAMERA, routers.into(), 2, &alert, 0, &body);
        row(
            cases,
            &format!("IGMP: {name}"),
            expected,
            on(CAMERAS, &packet),
        );
    }
    // As many as there are in 1,500 bytes, and one more.
    for (count, expected) in [(184, passes), (185, other)] {
        let body = build::records(0x22, 4, &vec![0; count]);
        let packet = build::ipv4_with(CAMERA, routers.into(), 2, &[], 0, &body);
        row(
            cases,
            &format!("IGMP: {count} records"),
            expected,
            on(CAMERAS, &packet),
        );
    }
}
