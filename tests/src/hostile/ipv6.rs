//! IPv6: lengths, extension headers, fragments, addresses that stand for others.

use super::*;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ESP: u8 = 50;
const AH: u8 = 51;
const NOTHING: u8 = 59;
const OPTIONS: u8 = 60;

pub(super) fn add(cases: &mut Vec<Case>) {
    lengths(cases);
    chains(cases);
    routing(cases);
    fragments(cases);
    destinations(cases);
}

/// From a camera to an allowed network, these headers and then a datagram.
fn behind(headers: &[u8]) -> Vec<u8> {
    chain(headers, UDP, &build::udp(40_000, 9, b"data"))
}

fn chain(headers: &[u8], proto: u8, payload: &[u8]) -> Vec<u8> {
    let mut next = (proto, payload.to_vec());
    for header in headers.iter().rev() {
        next = match *header {
            AH => (AH, build::ah(next.0, 4, &next.1)),
            FRAGMENT => (FRAGMENT, build::fragment(next.0, 0, false, &next.1)),
            other => (other, build::extension(next.0, 0, 0, &next.1)),
        };
    }
    build::ipv6(CAMERA6, GOOD6, next.0, &next.1)
}

fn lengths(cases: &mut Vec<Case>) {
    let telnet = build::tcp(40_000, 23);
    let mut add = |name: &str, expected, packet: Vec<u8>| {
        row(
            cases,
            &format!("IPv6: {name}"),
            expected,
            on(CAMERAS, &packet),
        );
    };
    add(
        "a datagram to a blocked network",
        "cameras drop rule:hostile",
        to(BAD6),
    );
    add(
        "a datagram to an allowed network",
        "cameras pass default",
        to(GOOD6),
    );
    add(
        "a flow label",
        "cameras drop rule:hostile",
        with(to(BAD6), 2, 0x77),
    );
    add(
        "no hops left",
        "cameras drop rule:hostile",
        with(to(BAD6), 7, 0),
    );
    add(
        "a payload of one too much",
        "cameras drop truncated",
        with16(to(GOOD6), 4, 13),
    );
    add(
        "the largest payload",
        "cameras drop truncated",
        with16(to(GOOD6), 4, 0xffff),
    );
    add(
        "a payload of nothing",
        "cameras pass default",
        with16(to(GOOD6), 4, 0),
    );
    add(
        "ports behind the end",
        "cameras drop truncated",
        with16(carrying(GOOD6, TCP, &telnet), 4, 3),
    );
    add(
        "ports just before the end",
        "cameras drop rule:telnet",
        with16(carrying(GOOD6, TCP, &telnet), 4, 4),
    );
    add("padding behind the packet", "cameras pass default", {
        let mut packet = to(GOOD6);
        packet.extend([0xff; 18]);
        packet
    });
    add(
        "no next header",
        "cameras pass default",
        carrying(GOOD6, NOTHING, &[0; 20]),
    );
    add(
        "no next header to a blocked network",
        "cameras drop rule:hostile",
        carrying(BAD6, NOTHING, b""),
    );
    add(
        "a jumbogram",
        "cameras drop truncated",
        // RFC 2675: the length is zero, the option has it.
        with16(
            carrying(GOOD6, HOP_BY_HOP, &[UDP, 0, 0xc2, 4, 0, 1, 0, 0]),
            4,
            0,
        ),
    );
    let whole = on(CAMERAS, &chain(&[OPTIONS], TCP, &telnet));
    cut(
        cases,
        "IPv6 with options",
        &whole,
        &[
            (0, "plain drop truncated"),
            (16, "cameras drop truncated"),
            (whole.len(), "cameras drop rule:telnet"),
        ],
    );
}

fn chains(cases: &mut Vec<Case>) {
    let mut add = |name: &str, expected, packet: Vec<u8>| {
        row(
            cases,
            &format!("IPv6: {name}"),
            expected,
            on(CAMERAS, &packet),
        );
    };
    for (name, header) in [
        ("hop-by-hop options", HOP_BY_HOP),
        ("a routing header that is used up", ROUTING),
        ("a fragment that is all of it", FRAGMENT),
        ("AH", AH),
        ("destination options", OPTIONS),
        ("mobility", 135),
        ("HIP", 139),
        ("shim6", 140),
    ] {
        let telnet = build::tcp(40_000, 23);
        add(name, "cameras pass default", behind(&[header]));
        add(
            &format!("{name} before a blocked port"),
            "cameras drop rule:telnet",
            chain(&[header], TCP, &telnet),
        );
        add(
            &format!("{name} twice"),
            "cameras pass default",
            behind(&[header; 2]),
        );
        add(
            &format!("{name} eight times"),
            "cameras pass default",
            behind(&[header; 8]),
        );
        add(
            &format!("{name} nine times"),
            "cameras drop header-chain",
            behind(&[header; 9]),
        );
        add(
            &format!("{name}, and nothing of it"),
            "cameras drop truncated",
            carrying(GOOD6, header, &[]),
        );
        add(
            &format!("{name}, and half of it"),
            "cameras drop truncated",
            carrying(GOOD6, header, &[UDP, 0, 0, 0]),
        );
        add(
            &format!("{name} around a tunnel"),
            "cameras drop tunnel",
            chain(&[header], 41, &to(BAD6)),
        );
    }
    add(
        "the order that nobody has",
        "cameras pass default",
        behind(&[OPTIONS, AH, ROUTING, HOP_BY_HOP, OPTIONS, FRAGMENT, 140]),
    );
    add(
        "eight of all kinds",
        "cameras pass default",
        behind(&[0, 60, 43, 44, 51, 60, 135, 139]),
    );
    add(
        "nine of all kinds",
        "cameras drop header-chain",
        behind(&[0, 60, 43, 44, 51, 60, 135, 139, 140]),
    );
    add(
        "nine, the last a fragment",
        "cameras drop header-chain",
        behind(&[0, 60, 60, 60, 60, 60, 60, 60, 44]),
    );
    let tcp = build::tcp(40_000, 80);
    let long =
        |units: u8, rest: &[u8]| carrying(GOOD6, OPTIONS, &build::extension(TCP, units, 0, rest));
    add(
        "a header of 2048 bytes",
        "cameras pass default",
        long(255, &tcp),
    );
    // More than lies in one piece in the kernel.
    for (name, headers) in [("4096", 2), ("16384", 8)] {
        let telnet = build::tcp(40_000, 23);
        let mut next = (TCP, telnet);
        for _ in 0..headers {
            next = (OPTIONS, build::extension(next.0, 255, 0, &next.1));
        }
        add(
            &format!("headers of {name} bytes"),
            "cameras drop rule:telnet",
            carrying(GOOD6, next.0, &next.1),
        );
    }
    add(
        "a header that ends with the packet",
        "cameras drop truncated",
        long(3, &[]),
    );
    add(
        "a header that leaves the packet",
        "cameras drop truncated",
        {
            let header = build::extension(UDP, 0, 0, &[0; 16]);
            carrying(GOOD6, OPTIONS, &with(header, 1, 3))
        },
    );
    add(
        "the longest header in a small packet",
        "cameras drop truncated",
        {
            let header = build::extension(UDP, 0, 0, &[0; 16]);
            carrying(GOOD6, HOP_BY_HOP, &with(header, 1, 255))
        },
    );
    add(
        "the longest AH in a small packet",
        "cameras drop truncated",
        carrying(GOOD6, AH, &with(build::ah(UDP, 4, &[0; 16]), 1, 255)),
    );
    add("AH of eight bytes", "cameras pass default", {
        carrying(GOOD6, AH, &build::ah(UDP, 0, &build::udp(1, 9, b"")))
    });
    add(
        "ESP ends the chain",
        "cameras pass default",
        chain(&[OPTIONS], ESP, &[0; 40]),
    );
    add(
        "ESP to a blocked network",
        "cameras drop rule:hostile",
        carrying(BAD6, ESP, &[0; 40]),
    );
    add(
        "a number that nobody has",
        "cameras pass default",
        carrying(GOOD6, 253, &[0; 40]),
    );
    add(
        "IPv4's ICMP",
        "cameras pass default",
        carrying(GOOD6, 1, &[8, 0, 0, 0, 0, 0, 0, 0]),
    );
    row(
        cases,
        // What is behind them may be what is watched.
        "IPv6: nine headers where that is let through",
        "lenient audit rule:watched",
        on(LENIENT, &behind(&[OPTIONS; 9])),
    );
    row(
        cases,
        "IPv6: nine headers on an allow list",
        "doors drop header-chain",
        on(DOORS, &chain(&[OPTIONS; 9], TCP, &build::tcp(1, 443))),
    );
}

fn routing(cases: &mut Vec<Case>) {
    let routed = |kind: u8, left: u8, units: u8| {
        let mut header = build::extension(UDP, units, left, &build::udp(1, 9, b""));
        header[2] = kind;
        carrying(GOOD6, ROUTING, &header)
    };
    let mut add = |name: &str, expected, packet: &[u8]| {
        row(
            cases,
            &format!("IPv6: {name}"),
            expected,
            on(CAMERAS, packet),
        );
    };
    add(
        "a source route (type 0)",
        "cameras drop routing-header",
        &routed(0, 1, 2),
    );
    add(
        "a source route (type 0) that is used up",
        "cameras pass default",
        &routed(0, 0, 2),
    );
    add(
        "a home address (type 2)",
        "cameras drop routing-header",
        &routed(2, 1, 2),
    );
    add(
        "a home address (type 2) that is used up",
        "cameras pass default",
        &routed(2, 0, 2),
    );
    add(
        "RPL (type 3)",
        "cameras drop routing-header",
        &routed(3, 1, 2),
    );
    add(
        "segments (type 4)",
        "cameras drop routing-header",
        &routed(4, 2, 4),
    );
    add(
        "segments (type 4) that are used up",
        "cameras pass default",
        &routed(4, 0, 4),
    );
    add(
        "a type that nobody has",
        "cameras drop routing-header",
        &routed(200, 1, 0),
    );
    add(
        "more segments than fit",
        "cameras drop routing-header",
        &routed(0, 255, 0),
    );
    add(
        "the second routing header",
        "cameras drop routing-header",
        &{
            let second = build::extension(UDP, 0, 1, &build::udp(1, 9, b""));
            carrying(GOOD6, ROUTING, &build::extension(ROUTING, 0, 0, &second))
        },
    );
    add(
        "a routing header behind eight others",
        "cameras drop header-chain",
        &{
            let mut next = (ROUTING, build::extension(UDP, 0, 1, &build::udp(1, 9, b"")));
            for _ in 0..8 {
                next = (OPTIONS, build::extension(next.0, 0, 0, &next.1));
            }
            carrying(GOOD6, next.0, &next.1)
        },
    );
    add(
        "a routing header that leaves the packet",
        "cameras drop truncated",
        &{
            carrying(
                GOOD6,
                ROUTING,
                &with(build::extension(UDP, 0, 1, b""), 1, 9),
            )
        },
    );
    row(
        cases,
        "IPv6: a source route where it is only noted",
        "lenient audit routing-header",
        on(LENIENT, &routed(0, 1, 2)),
    );
}

fn fragments(cases: &mut Vec<Case>) {
    let part = |destination: Ipv6Addr, next: u8, offset: u16, more: bool, payload: &[u8]| {
        carrying(
            destination,
            FRAGMENT,
            &build::fragment(next, offset, more, payload),
        )
    };
    let telnet = build::tcp(40_000, 23);
    let web = build::tcp(40_000, 443);
    let ntp = build::udp(40_000, 123, &[0; 48]);
    let options = build::extension(TCP, 0, 0, &telnet);
    for (name, expected, vid, packet) in [
        (
            "the first part of a datagram",
            "cameras drop rule:hostile",
            CAMERAS,
            part(BAD6, UDP, 0, true, &ntp),
        ),
        (
            "a later part",
            "cameras drop rule:hostile",
            CAMERAS,
            part(BAD6, UDP, 1, true, &[0; 8]),
        ),
        (
            "a first part with a blocked port",
            "cameras drop rule:telnet",
            CAMERAS,
            part(GOOD6, TCP, 0, true, &telnet),
        ),
        (
            "a first part of eight bytes",
            "cameras drop rule:telnet",
            CAMERAS,
            part(GOOD6, TCP, 0, true, &telnet[..8]),
        ),
        (
            "a first part without all of its ports",
            "cameras drop truncated",
            CAMERAS,
            part(GOOD6, TCP, 0, true, &telnet[..3]),
        ),
        (
            "a first part of nothing",
            "cameras drop truncated",
            CAMERAS,
            part(GOOD6, TCP, 0, true, b""),
        ),
        (
            "a later part may have a blocked port",
            "cameras drop rule:telnet",
            CAMERAS,
            part(GOOD6, TCP, 3, false, &[0; 8]),
        ),
        (
            "a later part over the ports of the first",
            "cameras drop rule:telnet",
            CAMERAS,
            part(GOOD6, TCP, 1, true, &web),
        ),
        (
            "a later part that no rule wants",
            "cameras pass default",
            CAMERAS,
            part(GOOD6, UDP, 1, true, &[0; 8]),
        ),
        (
            "a later part that hides its protocol",
            "cameras drop rule:telnet",
            CAMERAS,
            part(GOOD6, OPTIONS, 1, false, &options),
        ),
        (
            "a first part that ends before its ports",
            "cameras drop truncated",
            CAMERAS,
            part(GOOD6, OPTIONS, 0, true, &options[..8]),
        ),
        (
            "a first part that ends in a header",
            "cameras drop truncated",
            CAMERAS,
            part(GOOD6, OPTIONS, 0, true, &options[..4]),
        ),
        (
            "a first part that ends before a header",
            "cameras drop truncated",
            CAMERAS,
            part(GOOD6, OPTIONS, 0, true, b""),
        ),
        (
            "all of it, and it hides its ports",
            "cameras drop truncated",
            CAMERAS,
            part(GOOD6, OPTIONS, 0, false, &options[..4]),
        ),
        (
            "a part inside a part",
            "cameras drop rule:telnet",
            CAMERAS,
            part(
                GOOD6,
                FRAGMENT,
                0,
                true,
                &build::fragment(TCP, 1, true, &[0; 8]),
            ),
        ),
        (
            "a part inside all of it",
            "cameras drop rule:telnet",
            CAMERAS,
            part(
                GOOD6,
                FRAGMENT,
                0,
                false,
                &build::fragment(TCP, 2, false, &[0; 8]),
            ),
        ),
        (
            "a first part is let through for its port",
            "cameras pass rule:time",
            CAMERAS,
            part(TIME6, UDP, 0, true, &ntp),
        ),
        (
            "a later part is not let through for its port",
            "cameras pass default",
            CAMERAS,
            part(TIME6, UDP, 1, false, &ntp),
        ),
        (
            "an allowed port in a first part",
            "doors pass rule:web",
            DOORS,
            part(GOOD6, TCP, 0, true, &web),
        ),
        (
            "an allowed port in a later part",
            "doors drop default",
            DOORS,
            part(GOOD6, TCP, 1, true, &web),
        ),
        (
            "an allowed protocol that may be hidden",
            "doors drop truncated",
            DOORS,
            part(GOOD6, OPTIONS, 0, true, b""),
        ),
        (
            "a tunnel behind a header that a first part ends in",
            "inspected drop truncated",
            INSPECTED,
            part(
                GOOD6,
                OPTIONS,
                0,
                true,
                &build::extension(41, 1, 0, &to(BAD6))[..8],
            ),
        ),
        (
            "a tunnel behind AH that a first part ends in",
            "inspected drop truncated",
            INSPECTED,
            part(GOOD6, AH, 0, true, &build::ah(41, 4, &to(BAD6))[..16]),
        ),
        (
            "a tunnel behind a header that a first part ends before",
            "inspected drop truncated",
            INSPECTED,
            part(GOOD6, HOP_BY_HOP, 0, true, b""),
        ),
        (
            "a tunnel behind a fragment header in a fragment that ends",
            "inspected drop truncated",
            INSPECTED,
            part(GOOD6, FRAGMENT, 0, true, &[41, 0, 0, 1]),
        ),
        (
            "a tunnel behind a header that a first part ends in, let through",
            // What is hidden is what is watched.
            "lenient audit rule:watched",
            LENIENT,
            part(
                GOOD6,
                OPTIONS,
                0,
                true,
                &build::extension(41, 1, 0, &to(BAD6))[..8],
            ),
        ),
        (
            "a later tunnel",
            "cameras drop tunnel",
            CAMERAS,
            part(GOOD6, 41, 1, false, &[0; 8]),
        ),
        (
            "half a fragment header",
            "cameras drop truncated",
            CAMERAS,
            carrying(GOOD6, FRAGMENT, &[UDP, 0, 0, 1]),
        ),
        (
            "reserved bits of a fragment header",
            "cameras pass default",
            CAMERAS,
            with(with(part(GOOD6, UDP, 0, false, &ntp), 41, 0xff), 43, 6),
        ),
        (
            "a routing header in a first part",
            "cameras drop routing-header",
            CAMERAS,
            part(GOOD6, ROUTING, 0, true, &build::extension(UDP, 0, 1, &ntp)),
        ),
        (
            "a routing header that a first part ends in",
            "cameras drop truncated",
            CAMERAS,
            part(GOOD6, ROUTING, 0, true, &[UDP, 2, 0, 1]),
        ),
    ] {
        row(cases, &format!("IPv6: {name}"), expected, on(vid, &packet));
    }
}

fn destinations(cases: &mut Vec<Case>) {
    for (address, expected) in [
        ("::", "cameras drop martian"),
        ("::1", "cameras drop martian"),
        ("::2", "cameras pass default"),
        ("ff02::fb", "cameras pass default"),
        ("fec0::1", "cameras pass default"),
        (
            "2001:db8:bac:ffff:ffff:ffff:ffff:ffff",
            "cameras pass default",
        ),
        ("2001:db8:bad::", "cameras drop rule:hostile"),
        (
            "2001:db8:bad:ffff:ffff:ffff:ffff:ffff",
            "cameras drop rule:hostile",
        ),
        ("2001:db8:bae::", "cameras pass default"),
        // IPv4 in IPv6: mapped, NAT64 of two kinds, 6to4, Teredo.
        ("::ffff:198.51.100.9", "cameras drop rule:hostile"),
        ("::ffff:203.0.113.9", "cameras pass default"),
        ("::ffff:127.0.0.1", "cameras pass default"),
        // Automatic tunnels (RFC 4291, deprecated) take compatible addresses at their word.
        ("::198.51.100.9", "cameras drop rule:hostile"),
        ("::203.0.113.9", "cameras pass default"),
        ("::1:198.51.100.9", "cameras pass default"),
        // Translated (RFC 2765).
        ("::ffff:0:198.51.100.9", "cameras drop rule:hostile"),
        ("::ffff:0:203.0.113.9", "cameras pass default"),
        ("::fffe:0:198.51.100.9", "cameras pass default"),
        ("64:ff9b::198.51.100.9", "cameras drop rule:hostile"),
        ("64:ff9b::203.0.113.9", "cameras pass default"),
        // Local NAT64 (RFC 8215): the prefix may be of 48, 56, 64 or 96 bits.
        ("64:ff9b:1::198.51.100.9", "cameras drop rule:hostile"),
        (
            "64:ff9b:1:ffff:1:2:198.51.100.9",
            "cameras drop rule:hostile",
        ),
        ("64:ff9b:1:c633:64:900::", "cameras drop rule:hostile"),
        ("64:ff9b:1:c633:ff64:900::", "cameras drop rule:hostile"),
        ("64:ff9b:1:c6:33:6409::", "cameras drop rule:hostile"),
        ("64:ff9b:1:0:c6:3364:900::", "cameras drop rule:hostile"),
        ("64:ff9b:1::203.0.113.9", "cameras pass default"),
        ("64:ff9b:1:cb00:71:900::", "cameras pass default"),
        ("64:ff9b:2::198.51.100.9", "cameras pass default"),
        ("2001:db8:64::198.51.100.9", "cameras drop rule:hostile"),
        ("2001:db8:64::203.0.113.9", "cameras pass default"),
        // RFC 6052 with 40 bits: byte 8 is left out.
        ("2001:db8:40c6:3364:9:0:0:0", "cameras drop rule:hostile"),
        ("2001:db8:40c6:3364:ff09:0:0:0", "cameras drop rule:hostile"),
        ("2001:db8:40cb:71:9:0:0:0", "cameras pass default"),
        ("2002:c633:6409::1", "cameras drop rule:hostile"),
        ("2002:cb00:7109::1", "cameras pass default"),
        ("2001:0:c633:6409::", "cameras drop rule:hostile"),
        (
            "2001:0:cb00:7109:0:0:39cc:9bf6",
            "cameras drop rule:hostile",
        ),
        ("2001:0:cb00:7109:0:0:34ff:8ef6", "cameras pass default"),
        ("2001:1:c633:6409::", "cameras pass default"),
        // ISATAP (RFC 5214): nothing in the network part says so.
        (
            "2001:db8:900d::5efe:198.51.100.9",
            "cameras drop rule:hostile",
        ),
        (
            "2001:db8:900d::200:5efe:198.51.100.9",
            "cameras drop rule:hostile",
        ),
        ("fe80::5efe:198.51.100.9", "cameras drop rule:hostile"),
        ("2001:db8:900d::5efe:203.0.113.9", "cameras pass default"),
        (
            "2001:db8:bad::5efe:203.0.113.9",
            "cameras drop rule:hostile",
        ),
        (
            "2001:db8:900d::100:5efe:198.51.100.9",
            "cameras pass default",
        ),
        (
            "2001:db8:900d::300:5efe:198.51.100.9",
            "cameras pass default",
        ),
        ("2001:db8:900d::1:5efe:198.51.100.9", "cameras pass default"),
        // In a site of 6to4.
        (
            "2002:cb00:7109:1::5efe:198.51.100.9",
            "cameras drop rule:hostile",
        ),
        // A prefix of the policy's own says where the address is, alone.
        (
            "2001:db8:40cb:71:9:5efe:198.51.100.9",
            "cameras pass default",
        ),
        // 6rd: where the address is, only the provider knows.
        ("2001:db9:c633:6409::1", "cameras pass default"),
        // ORCHID: the hash of a key.
        ("2001:20:c633:6409::1", "cameras pass default"),
    ] {
        let destination: Ipv6Addr = address.parse().expect("an address");
        row(
            cases,
            &format!("a datagram to {address}"),
            expected,
            on(CAMERAS, &to(destination)),
        );
    }
    row(
        cases,
        "IPv6: loopback where it is only noted",
        "lenient audit martian",
        on(LENIENT, &to(Ipv6Addr::LOCALHOST)),
    );
}
