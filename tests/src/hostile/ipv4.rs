//! IPv4: lengths, options, fragments, addresses that are none, AH.

use super::*;

pub(super) fn add(cases: &mut Vec<Case>) {
    lengths(cases);
    options(cases);
    destinations(cases);
    fragments(cases);
    authentication(cases);
}

fn lengths(cases: &mut Vec<Case>) {
    let mut add = |name: &str, expected, packet: Vec<u8>| {
        row(cases, name, expected, on(CAMERAS, &packet));
    };
    add(
        "a datagram to a blocked network",
        "cameras drop rule:hostile",
        to(BAD),
    );
    add(
        "a datagram to an allowed network",
        "cameras pass default",
        to(GOOD),
    );
    add(
        "a header of 16 bytes",
        "cameras drop bad-header",
        with(to(GOOD), 0, 0x44),
    );
    add(
        "a header of no bytes",
        "cameras drop bad-header",
        with(to(GOOD), 0, 0x40),
    );
    add(
        "a header longer than the packet",
        "cameras drop bad-header",
        with(to(GOOD), 0, 0x4f),
    );
    add(
        "a total length of zero",
        "cameras drop bad-header",
        with16(to(GOOD), 2, 0),
    );
    add(
        "a total length in the header",
        "cameras drop bad-header",
        with16(to(GOOD), 2, 19),
    );
    add(
        "nothing behind the header",
        "cameras pass default",
        with16(to(GOOD), 2, 20),
    );
    add(
        "a total length of one too much",
        "cameras drop truncated",
        with16(to(GOOD), 2, 33),
    );
    add(
        "the largest total length",
        "cameras drop truncated",
        with16(to(GOOD), 2, 0xffff),
    );
    add("padding behind the packet", "cameras pass default", {
        let mut packet = to(GOOD);
        packet.extend([0xff; 18]);
        packet
    });
    add(
        "a blocked address in the padding",
        "cameras pass default",
        {
            let mut packet = to(GOOD);
            packet.extend(to(BAD));
            packet
        },
    );
    add(
        "the reserved flag",
        "cameras pass default",
        with(to(GOOD), 6, 0x80),
    );
    add(
        "do not fragment",
        "cameras pass default",
        with(to(GOOD), 6, 0x40),
    );
    add(
        "no time to live",
        "cameras drop rule:hostile",
        with(to(BAD), 8, 0),
    );
    add(
        "a wrong checksum",
        "cameras drop rule:hostile",
        with(to(BAD), 10, 0x5a),
    );
    add(
        "protocol 255",
        "cameras drop rule:hostile",
        with(to(BAD), 9, 255),
    );
    // RFC 8200's numbers mean nothing in IPv4.
    for (name, proto) in [("0", 0), ("43", 43), ("44", 44), ("60", 60), ("135", 135)] {
        add(
            &format!("protocol {name}, an extension header in IPv6"),
            "cameras pass default",
            carrying(GOOD, proto, &[UDP; 24]),
        );
    }
}

fn options(cases: &mut Vec<Case>) {
    let mut add = |name: &str, expected, options: &[u8]| {
        let packet = build::ipv4_with(CAMERA, GOOD, UDP, options, 0, &build::udp(1, 9, b""));
        row(cases, name, expected, on(CAMERAS, &packet));
    };
    add("forty bytes of padding", "cameras pass default", &[1; 40]);
    add(
        "an end of options at once",
        "cameras pass default",
        &[0, 0, 0, 0],
    );
    add(
        "record route",
        "cameras pass default",
        &[7, 7, 4, 0, 0, 0, 0],
    );
    add(
        "record route, full",
        "cameras pass default",
        &[7, 7, 8, 1, 2, 3, 4],
    );
    add(
        "timestamp",
        "cameras pass default",
        &[68, 8, 5, 0, 0, 0, 0, 0],
    );
    add(
        "timestamp with addresses",
        "cameras pass default",
        &[68, 12, 5, 3, 198, 51, 100, 9, 0, 0, 0, 0],
    );
    add("router alert", "cameras pass default", &[148, 4, 0, 0]);
    add(
        "security",
        "cameras pass default",
        &[130, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    add(
        "a commercial label",
        "cameras pass default",
        &[134, 6, 0, 0, 0, 1],
    );
    add("stream identifier", "cameras pass default", &[136, 4, 0, 1]);
    add("an experiment", "cameras pass default", &[158, 4, 0, 0]);
    add(
        "an option that nobody knows",
        "cameras pass default",
        &[255, 4, 0, 0],
    );
    add(
        "loose source route",
        "cameras drop source-route",
        &[131, 7, 4, 198, 51, 100, 9],
    );
    add(
        "strict source route",
        "cameras drop source-route",
        &[137, 7, 4, 198, 51, 100, 9],
    );
    add(
        "a source route without addresses",
        "cameras drop source-route",
        &[131, 3, 4],
    );
    add(
        "a source route that is used up",
        "cameras drop source-route",
        &[131, 7, 8, 198, 51, 100, 9],
    );
    add(
        "a source route with a wild pointer",
        "cameras drop source-route",
        &[131, 7, 255, 198, 51, 100, 9],
    );
    add(
        "a source route behind padding",
        "cameras drop source-route",
        &[1, 1, 1, 1, 1, 131, 7, 4, 1, 2, 3, 4],
    );
    add(
        "a source route behind a timestamp",
        "cameras drop source-route",
        &[68, 8, 5, 0, 0, 0, 0, 0, 137, 3, 4],
    );
    add(
        "the last bytes are a source route",
        "cameras drop source-route",
        &[&[1; 37][..], &[131, 3, 4]].concat(),
    );
    add(
        "a source route behind the end",
        "cameras pass default",
        &[0, 131, 7, 4, 1, 2, 3, 4],
    );
    add(
        "a source route inside another option",
        "cameras pass default",
        &[7, 11, 4, 131, 7, 4, 1, 2, 3, 4, 0],
    );
    add(
        "an option of no length",
        "cameras drop bad-header",
        &[7, 0, 0, 0],
    );
    add(
        "an option of length one",
        "cameras drop bad-header",
        &[7, 1, 0, 0],
    );
    add(
        "an option that leaves the header",
        "cameras drop bad-header",
        &[7, 9, 4, 0, 0, 0, 0, 0],
    );
    add(
        "an option without its length",
        "cameras drop bad-header",
        &[1, 1, 1, 7],
    );
    add(
        "a source route of length one",
        "cameras drop bad-header",
        &[131, 1, 0, 0],
    );
    add(
        "a source route without its length",
        "cameras drop bad-header",
        &[1, 1, 1, 131],
    );
    add(
        "a source route that leaves the header",
        "cameras drop bad-header",
        &[131, 11, 4, 1, 2, 3, 4, 5],
    );
    add(
        "a bad option before a source route",
        "cameras drop bad-header",
        &[7, 0, 131, 3, 4, 0, 0, 0],
    );
    add(
        "a source route before a bad option",
        "cameras drop bad-header",
        &[131, 3, 4, 7, 0, 0, 0, 0],
    );

    let routed = build::ipv4_with(CAMERA, BAD, UDP, &[131, 3, 4], 0, &build::udp(1, 9, b""));
    row(
        cases,
        "a source route to a blocked network",
        "cameras drop source-route",
        on(CAMERAS, &routed),
    );
    row(
        cases,
        "a source route to a blocked network where routes are let through",
        "lenient drop rule:hostile",
        on(LENIENT, &routed),
    );
    let routed = build::ipv4_with(CAMERA, GOOD, UDP, &[137, 3, 4], 0, &build::udp(1, 9, b""));
    row(
        cases,
        "a source route where routes are let through",
        "lenient pass default",
        on(LENIENT, &routed),
    );
    let broken = build::ipv4_with(CAMERA, GOOD, UDP, &[7, 0, 0, 0], 0, &build::udp(1, 9, b""));
    row(
        cases,
        "a bad option where it is only noted",
        "lenient audit bad-header",
        on(LENIENT, &broken),
    );
    let whole = on(
        CAMERAS,
        &build::ipv4_with(CAMERA, BAD, UDP, &[131, 7, 4, 1, 2, 3, 4], 0, b""),
    );
    cut(
        cases,
        "a source route",
        &whole,
        &[
            (0, "plain drop truncated"),
            (16, "cameras drop truncated"),
            (whole.len(), "cameras drop source-route"),
        ],
    );
}

fn destinations(cases: &mut Vec<Case>) {
    for (address, expected) in [
        ("0.0.0.0", "cameras drop martian"),
        ("0.1.2.3", "cameras drop martian"),
        ("0.255.255.255", "cameras drop martian"),
        ("1.0.0.0", "cameras pass default"),
        ("126.255.255.255", "cameras pass default"),
        ("127.0.0.0", "cameras drop martian"),
        ("127.0.0.1", "cameras drop martian"),
        ("127.255.255.255", "cameras drop martian"),
        ("128.0.0.0", "cameras pass default"),
        ("169.254.1.1", "cameras pass default"),
        ("224.0.0.251", "cameras pass default"),
        ("239.255.255.250", "cameras pass default"),
        ("240.0.0.1", "cameras pass default"),
        ("255.255.255.255", "cameras pass default"),
        ("198.51.99.255", "cameras pass default"),
        ("198.51.100.0", "cameras drop rule:hostile"),
        ("198.51.100.255", "cameras drop rule:hostile"),
        ("198.51.101.0", "cameras pass default"),
    ] {
        let destination: Ipv4Addr = address.parse().expect("an address");
        row(
            cases,
            &format!("a datagram to {address}"),
            expected,
            on(CAMERAS, &to(destination)),
        );
    }
    row(
        cases,
        "a martian where it is only noted",
        "lenient audit martian",
        on(LENIENT, &to(Ipv4Addr::LOCALHOST)),
    );
    row(
        cases,
        "a martian of a bad length",
        "cameras drop bad-header",
        on(CAMERAS, &with16(to(Ipv4Addr::LOCALHOST), 2, 7)),
    );
    row(
        cases,
        "a martian that is cut short",
        "cameras drop truncated",
        on(CAMERAS, &with16(to(Ipv4Addr::LOCALHOST), 2, 700)),
    );
}

fn fragments(cases: &mut Vec<Case>) {
    const MORE: u16 = 0x2000;
    let fragment = |destination, proto, offset: u16, payload: &[u8]| {
        build::ipv4_with(CAMERA, destination, proto, &[], offset, payload)
    };
    let segment = build::tcp(40_000, 80);
    let telnet = build::tcp(40_000, 23);
    let ntp = build::udp(40_000, 123, &[0; 48]);
    for (name, expected, vid, packet) in [
        (
            "the first part of a datagram",
            "cameras drop rule:hostile",
            CAMERAS,
            fragment(BAD, UDP, MORE, &ntp),
        ),
        (
            "a middle part",
            "cameras drop rule:hostile",
            CAMERAS,
            fragment(BAD, UDP, MORE | 1, &[0; 8]),
        ),
        (
            "the last part",
            "cameras drop rule:hostile",
            CAMERAS,
            fragment(BAD, UDP, 185, &[0; 8]),
        ),
        (
            "a first part with another port",
            "cameras pass default",
            CAMERAS,
            fragment(GOOD, TCP, MORE, &segment),
        ),
        (
            "a first part with a blocked port",
            "cameras drop rule:telnet",
            CAMERAS,
            fragment(GOOD, TCP, MORE, &telnet),
        ),
        (
            "a first part of eight bytes",
            "cameras drop rule:telnet",
            CAMERAS,
            fragment(GOOD, TCP, MORE, &telnet[..8]),
        ),
        (
            "a first part of four bytes",
            "cameras drop rule:telnet",
            CAMERAS,
            fragment(GOOD, TCP, MORE, &telnet[..4]),
        ),
        (
            "a first part without all of its ports",
            "cameras drop truncated",
            CAMERAS,
            fragment(GOOD, TCP, MORE, &telnet[..3]),
        ),
        (
            "a first part of nothing",
            "cameras drop truncated",
            CAMERAS,
            fragment(GOOD, TCP, MORE, &[]),
        ),
        (
            "a later part may have a blocked port",
            "cameras drop rule:telnet",
            CAMERAS,
            fragment(GOOD, TCP, 3, &segment),
        ),
        (
            "a later part over the ports of the first",
            "cameras drop rule:telnet",
            CAMERAS,
            fragment(GOOD, TCP, MORE | 1, &segment),
        ),
        (
            "a later part that no rule wants",
            "cameras pass default",
            CAMERAS,
            fragment(GOOD, UDP, 1, &[0; 8]),
        ),
        (
            "a later part is not let through for its port",
            "cameras pass default",
            CAMERAS,
            fragment(TIME, UDP, 1, &ntp),
        ),
        (
            "a first part is let through for its port",
            "cameras pass rule:time",
            CAMERAS,
            fragment(TIME, UDP, MORE, &ntp),
        ),
        (
            "an allowed port in a first part",
            "doors pass rule:web",
            DOORS,
            fragment(GOOD, TCP, MORE, &build::tcp(1, 443)),
        ),
        (
            "an allowed port in a later part",
            "doors drop default",
            DOORS,
            fragment(GOOD, TCP, MORE | 1, &build::tcp(1, 443)),
        ),
        (
            "a later part without a byte",
            "cameras drop rule:telnet",
            CAMERAS,
            fragment(GOOD, TCP, 1, &[]),
        ),
        (
            "the largest offset",
            "cameras pass default",
            CAMERAS,
            fragment(GOOD, 1, 0x1fff, &[0; 100]),
        ),
        (
            "a part that must not be one",
            "cameras drop rule:hostile",
            CAMERAS,
            fragment(BAD, UDP, 0x6001, &[0; 8]),
        ),
        (
            "a later part where its ports are watched",
            "lenient audit rule:watched",
            LENIENT,
            fragment(GOOD, TCP, 1, &[0; 8]),
        ),
        (
            "a first part without ports where that is let through",
            "lenient audit rule:watched",
            LENIENT,
            fragment(GOOD, TCP, MORE, &[0; 3]),
        ),
    ] {
        row(cases, &format!("IPv4: {name}"), expected, on(vid, &packet));
    }
}

fn authentication(cases: &mut Vec<Case>) {
    let telnet = build::tcp(40_000, 23);
    let nested = |count: usize| {
        let mut payload = (TCP, telnet.clone());
        for _ in 0..count {
            payload = (51, build::ah(payload.0, 4, &payload.1));
        }
        payload.1
    };
    for (name, expected, packet) in [
        (
            "AH",
            "cameras drop rule:telnet",
            carrying(GOOD, 51, &nested(1)),
        ),
        (
            "AH eight times",
            "cameras drop rule:telnet",
            carrying(GOOD, 51, &nested(8)),
        ),
        (
            "AH nine times",
            "cameras drop header-chain",
            carrying(GOOD, 51, &nested(9)),
        ),
        (
            "AH of eight bytes",
            "cameras drop rule:telnet",
            carrying(GOOD, 51, &build::ah(TCP, 0, &telnet)),
        ),
        (
            "AH that leaves the packet",
            "cameras drop truncated",
            carrying(GOOD, 51, &with(nested(1), 1, 200)),
        ),
        (
            "AH that is not there",
            "cameras drop truncated",
            carrying(GOOD, 51, &[]),
        ),
        (
            "half an AH",
            "cameras drop truncated",
            carrying(GOOD, 51, &[TCP, 4, 0, 0]),
        ),
        (
            "AH around a tunnel",
            "cameras drop tunnel",
            carrying(GOOD, 51, &build::ah(4, 4, &to(BAD))),
        ),
        (
            "AH around ESP",
            "cameras pass default",
            carrying(GOOD, 51, &build::ah(50, 4, &[0; 40])),
        ),
        (
            "AH in a later part",
            "cameras pass default",
            build::ipv4_with(CAMERA, GOOD, 51, &[], 3, &nested(1)),
        ),
        (
            "AH that leaves a first part",
            "cameras drop truncated",
            build::ipv4_with(CAMERA, GOOD, 51, &[], 0x2000, &nested(1)[..12]),
        ),
        ("ESP", "cameras pass default", carrying(GOOD, 50, &[0; 40])),
        (
            "ESP to a blocked network",
            "cameras drop rule:hostile",
            carrying(BAD, 50, &[0; 40]),
        ),
    ] {
        row(
            cases,
            &format!("IPv4: {name}"),
            expected,
            on(CAMERAS, &packet),
        );
    }
    // What it carries is behind the end of the frame, and may be what is watched.
    let beyond = with16(with(carrying(GOOD, 51, &[0; 4]), 0, 0x4f), 2, 200);
    row(
        cases,
        "IPv4: AH behind a header that is not all there, where that is let through",
        "lenient audit rule:watched",
        on(LENIENT, &beyond),
    );
}
