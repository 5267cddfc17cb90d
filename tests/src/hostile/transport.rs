//! Rules with protocol and ports, where both can be read and where not quite.

use super::*;

pub(super) fn add(cases: &mut Vec<Case>) {
    ports(cases);
    short(cases);
}

fn ports(cases: &mut Vec<Case>) {
    let tcp = |vid, destination: Ipv4Addr, port| {
        on(vid, &carrying(destination, TCP, &build::tcp(40_000, port)))
    };
    let udp = |vid, destination: Ipv4Addr, port| {
        on(
            vid,
            &carrying(destination, UDP, &build::udp(40_000, port, b"data")),
        )
    };
    for (name, expected, frame) in [
        ("TCP 22", "cameras pass default", tcp(CAMERAS, GOOD, 22)),
        ("TCP 23", "cameras drop rule:telnet", tcp(CAMERAS, GOOD, 23)),
        ("TCP 24", "cameras pass default", tcp(CAMERAS, GOOD, 24)),
        ("TCP 1999", "cameras pass default", tcp(CAMERAS, GOOD, 1999)),
        (
            "TCP 2000",
            "cameras drop rule:telnet",
            tcp(CAMERAS, GOOD, 2000),
        ),
        (
            "TCP 2999",
            "cameras drop rule:telnet",
            tcp(CAMERAS, GOOD, 2999),
        ),
        ("TCP 3000", "cameras pass default", tcp(CAMERAS, GOOD, 3000)),
        ("TCP 0", "cameras pass default", tcp(CAMERAS, GOOD, 0)),
        (
            "TCP 65535",
            "cameras pass default",
            tcp(CAMERAS, GOOD, 65535),
        ),
        ("UDP 23", "cameras pass default", udp(CAMERAS, GOOD, 23)),
        (
            "TCP 23 to a blocked network",
            "cameras drop rule:hostile",
            tcp(CAMERAS, BAD, 23),
        ),
        (
            "TCP from 23",
            "cameras pass default",
            on(CAMERAS, &carrying(GOOD, TCP, &build::tcp(23, 40_000))),
        ),
        ("time", "cameras pass rule:time", udp(CAMERAS, TIME, 123)),
        (
            "time on another port",
            "cameras pass default",
            udp(CAMERAS, TIME, 124),
        ),
        (
            "time over TCP",
            "cameras pass default",
            tcp(CAMERAS, TIME, 123),
        ),
        (
            "time of another server",
            "cameras pass default",
            udp(CAMERAS, GOOD, 123),
        ),
        (
            "time on an allow list",
            "doors pass rule:time",
            udp(DOORS, TIME, 123),
        ),
        (
            "time on another port and an allow list",
            "doors drop default",
            udp(DOORS, TIME, 124),
        ),
        (
            "the web on an allow list",
            "doors pass rule:web",
            tcp(DOORS, GOOD, 443),
        ),
        (
            "the web of a blocked network",
            "doors drop rule:hostile",
            tcp(DOORS, BAD, 443),
        ),
        (
            "QUIC on an allow list",
            "doors drop default",
            udp(DOORS, GOOD, 443),
        ),
        (
            "SCTP to 443 on an allow list",
            "doors drop default",
            on(DOORS, &carrying(GOOD, 132, &build::tcp(1, 443))),
        ),
        (
            "a ping on an allow list",
            "doors drop default",
            on(DOORS, &carrying(GOOD, 1, &[8, 0, 0, 0, 1, 187, 1, 187])),
        ),
        (
            "a watched port",
            "lenient audit rule:watched",
            tcp(LENIENT, GOOD, 80),
        ),
        (
            "a watched port of a blocked network",
            "lenient drop rule:hostile",
            tcp(LENIENT, BAD, 80),
        ),
        (
            "a port that is not watched",
            "lenient pass default",
            tcp(LENIENT, GOOD, 81),
        ),
    ] {
        row(cases, name, expected, frame);
    }
}

fn short(cases: &mut Vec<Case>) {
    let web = build::tcp(40_000, 443);
    for (length, expected) in [
        (0, "doors drop truncated"),
        (1, "doors drop truncated"),
        (2, "doors drop truncated"),
        (3, "doors drop truncated"),
        (4, "doors pass rule:web"),
        (8, "doors pass rule:web"),
    ] {
        row(
            cases,
            &format!("TCP of {length} bytes on an allow list"),
            expected,
            on(DOORS, &carrying(GOOD, TCP, &web[..length])),
        );
        row(
            cases,
            &format!("TCP of {length} bytes over IPv6 on an allow list"),
            expected,
            on(DOORS, &carrying(GOOD6, TCP, &web[..length])),
        );
    }
    for (name, expected, frame) in [
        // No rule has to know its ports.
        (
            "UDP of no byte",
            "cameras pass default",
            on(CAMERAS, &carrying(GOOD, UDP, b"")),
        ),
        (
            "UDP of no byte to where ports matter",
            "cameras drop truncated",
            on(CAMERAS, &carrying(TIME, UDP, b"")),
        ),
        (
            "TCP of no byte",
            "cameras drop truncated",
            on(CAMERAS, &carrying(GOOD, TCP, b"")),
        ),
        // The network is blocked before ports are asked for.
        (
            "TCP of no byte to a blocked network",
            "cameras drop rule:hostile",
            on(CAMERAS, &carrying(BAD, TCP, b"")),
        ),
        (
            "TCP of no byte where that is let through",
            "lenient audit rule:watched",
            on(LENIENT, &carrying(GOOD, TCP, b"")),
        ),
        (
            "TCP of no byte where that is noted",
            "noted audit truncated",
            on(NOTED, &carrying(GOOD, TCP, b"")),
        ),
        ("ports in the padding", "cameras drop truncated", {
            let mut packet = carrying(GOOD, TCP, b"");
            packet.extend(build::tcp(40_000, 80));
            on(CAMERAS, &packet)
        }),
    ] {
        row(cases, name, expected, frame);
    }
}
