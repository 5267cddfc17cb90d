//! Tags, ethertypes, PPPoE.

use super::*;

const C: u16 = 0x8100;
const S: u16 = 0x88a8;
const OLD: u16 = 0x9100;

pub(super) fn add(cases: &mut Vec<Case>) {
    tags(cases);
    ethertypes(cases);
    links(cases);
    sessions(cases);
}

fn tags(cases: &mut Vec<Case>) {
    let mut add = |name: &str, expected, tags: &[(u16, u16)]| {
        row(cases, name, expected, build::ip_frame(tags, &to(BAD)));
    };
    add("no tag", "plain drop rule:hostile", &[]);
    add("a customer tag", "cameras drop rule:hostile", &[(C, 20)]);
    add("a service tag", "cameras drop rule:hostile", &[(S, 20)]);
    add(
        "a tag of before the standard",
        "cameras drop rule:hostile",
        &[(OLD, 20)],
    );
    add(
        "a TPID that nobody reads",
        "plain drop ethertype",
        &[(0x9200, 20)],
    );
    add(
        "a tag behind one that nobody reads",
        "plain drop ethertype",
        &[(0x9300, 0), (C, 20)],
    );
    add(
        "priority and drop bits",
        "cameras drop rule:hostile",
        &[(C, 0xf000 | 20)],
    );
    add(
        "a priority tag alone",
        "plain drop rule:hostile",
        &[(C, 0xe000)],
    );
    add(
        "a priority tag first",
        "cameras drop rule:hostile",
        &[(C, 0), (C, 20)],
    );
    add(
        "a priority tag behind",
        "cameras drop rule:hostile",
        &[(C, 20), (C, 0)],
    );
    add(
        "priority tags on both sides",
        "cameras drop rule:hostile",
        &[(S, 0), (C, 20), (OLD, 0)],
    );
    let behind = |count: usize| [vec![(C, 0); count], vec![(C, 20)]].concat();
    add(
        "five priority tags first",
        "cameras drop rule:hostile",
        &behind(5),
    );
    add(
        "seven priority tags first",
        "cameras drop rule:hostile",
        &behind(7),
    );
    add("the ninth tag counts", "plain drop vlan-depth", &behind(8));
    add("the tenth tag counts", "plain drop vlan-depth", &behind(9));
    add("nine tags of no zone", "- drop vlan-depth", &[(C, 99); 9]);
    add("eight tags of no zone", "- pass no-zone", &[(C, 99); 8]);
    add(
        "nine tags, the first of a zone",
        "cameras drop vlan-depth",
        &[&[(C, 20)][..], &[(C, 0); 8]].concat(),
    );
    add("VLAN 4095", "- pass no-zone", &[(C, 4095)]);
    add("a VLAN of nobody", "- pass no-zone", &[(C, 21)]);
    add("a pair", "cameras drop rule:hostile", &[(S, 100), (C, 5)]);
    add(
        "a pair of customer tags",
        "cameras drop rule:hostile",
        &[(C, 100), (C, 5)],
    );
    add(
        "a pair around a priority tag",
        "cameras drop rule:hostile",
        &[(S, 100), (C, 0), (C, 5)],
    );
    add("half a pair", "- pass no-zone", &[(S, 100)]);
    add("another inner tag", "- pass no-zone", &[(S, 100), (C, 6)]);
    add(
        "a pair in the wrong order",
        "- pass no-zone",
        &[(S, 5), (C, 100)],
    );
    add(
        "a camera that tags its own frames",
        "cameras drop rule:hostile",
        &[(C, 20), (C, 77)],
    );
    add(
        "a camera that tags for another zone",
        "cameras drop rule:hostile",
        &[(C, 20), (C, 30)],
    );
    add(
        "a camera that tags twice",
        "cameras drop vlan-depth",
        &[(C, 20), (C, 77), (C, 78)],
    );
    add(
        "a third tag behind a pair",
        "cameras drop vlan-depth",
        &[(S, 100), (C, 5), (C, 6)],
    );
    add(
        "a third tag behind priority tags",
        "cameras drop vlan-depth",
        &[(C, 20), (C, 0), (C, 7), (C, 0), (C, 8)],
    );
    add(
        "three tags of no zone",
        "- pass no-zone",
        &[(C, 99), (C, 98), (C, 97)],
    );

    let datagram = on(CAMERAS, &to(BAD));
    cut(
        cases,
        "a datagram",
        &datagram,
        &[
            // As far as can be read it has no tag, and then there is a zone for it.
            (0, "plain drop truncated"),
            (16, "cameras drop truncated"),
            (datagram.len(), "cameras drop rule:hostile"),
        ],
    );
    let pair = build::ip_frame(&[(S, 100), (C, 5)], &to(GOOD6));
    cut(
        cases,
        "a datagram with two tags",
        &pair,
        &[
            (0, "plain drop truncated"),
            // The outer tag alone is in no zone.
            (16, "- pass no-zone"),
            (20, "cameras drop truncated"),
            (pair.len(), "cameras pass default"),
        ],
    );
}

fn ethertypes(cases: &mut Vec<Case>) {
    let typed = |kind: u16| build::frame(&[(C, CAMERAS)], kind, &[0x42; 46]);
    for (name, expected, kind) in [
        ("RARP", "cameras drop ethertype", 0x8035),
        ("MPLS", "cameras drop ethertype", 0x8847),
        ("MPLS multicast", "cameras drop ethertype", 0x8848),
        ("MACsec", "cameras drop ethertype", 0x88e5),
        (
            "provider backbone bridging",
            "cameras drop ethertype",
            0x88e7,
        ),
        ("TRILL", "cameras drop ethertype", 0x22f3),
        ("IPX", "cameras drop ethertype", 0x8137),
        ("AppleTalk", "cameras drop ethertype", 0x809b),
        ("wake on LAN", "cameras drop ethertype", 0x0842),
        ("jumbo LLC", "cameras drop ethertype", 0x8870),
        (
            "transparent Ethernet bridging",
            "cameras drop ethertype",
            0x6558,
        ),
        ("HSR", "cameras drop ethertype", 0x892f),
        (
            "a tag that nobody reads inside",
            "cameras drop ethertype",
            0x9200,
        ),
        (
            "PPPoE discovery where PPPoE is closed",
            "cameras drop ethertype",
            0x8863,
        ),
        (
            "PPPoE session where PPPoE is closed",
            "cameras drop ethertype",
            0x8864,
        ),
        ("LLC", "cameras drop ethertype", 46),
        ("an 802.3 length of zero", "cameras drop ethertype", 0),
        ("an 802.3 length of 1500", "cameras drop ethertype", 1500),
        ("neither length nor type", "cameras drop ethertype", 0x05ff),
        ("XNS, the first type", "cameras drop ethertype", 0x0600),
        ("the last type", "cameras drop ethertype", 0xffff),
    ] {
        row(cases, name, expected, typed(kind));
    }
    let group = |last: u8, kind: u16| {
        let mut frame = typed(kind);
        frame[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, last]);
        frame
    };
    row(cases, "spanning tree", "cameras pass not-ip", group(0, 38));
    row(
        cases,
        "the last bridge group address",
        "cameras pass not-ip",
        group(15, 38),
    );
    row(
        cases,
        "behind the bridge group addresses",
        "cameras drop ethertype",
        group(16, 38),
    );
    row(
        cases,
        "a type to a bridge group address",
        "cameras drop ethertype",
        group(0, 0x0600),
    );
    row(
        cases,
        "MPLS to a bridge group address",
        "cameras drop ethertype",
        group(0, 0x8847),
    );
    let mut snap = build::frame(&[(C, CAMERAS)], 54, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]);
    snap.extend(to(BAD));
    row(cases, "IPv4 in SNAP", "cameras drop ethertype", snap);
    let mut to_group = on(CAMERAS, &to(BAD));
    to_group[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 0]);
    row(
        cases,
        "IPv4 to a bridge group address",
        "cameras drop rule:hostile",
        to_group,
    );
    let tagged = |kind: u16, packet: &[u8]| build::frame(&[(C, CAMERAS)], kind, packet);
    for (name, expected, frame) in [
        (
            "IPv6 where IPv4 should be",
            "cameras drop bad-header",
            tagged(0x0800, &to(GOOD6)),
        ),
        (
            "IPv4 where IPv6 should be",
            "cameras drop truncated",
            tagged(0x86dd, &to(GOOD)),
        ),
        (
            "long IPv4 where IPv6 should be",
            "cameras drop bad-header",
            tagged(0x86dd, &carrying(GOOD, UDP, &[0; 40])),
        ),
        (
            "version 5",
            "cameras drop bad-header",
            tagged(0x0800, &with(to(GOOD), 0, 0x55)),
        ),
        (
            "version 0",
            "cameras drop bad-header",
            tagged(0x0800, &with(to(GOOD), 0, 0x05)),
        ),
        (
            "version 7",
            "cameras drop bad-header",
            tagged(0x86dd, &with(to(GOOD6), 0, 0x70)),
        ),
        (
            "no packet at all",
            "cameras drop truncated",
            tagged(0x0800, &[]),
        ),
        (
            "no IPv6 packet at all",
            "cameras drop truncated",
            tagged(0x86dd, &[]),
        ),
        (
            "version 5 where it is only noted",
            "lenient audit bad-header",
            build::frame(&[(C, LENIENT)], 0x0800, &with(to(GOOD), 0, 0x55)),
        ),
        (
            "MPLS where it is only noted",
            "lenient audit ethertype",
            build::frame(&[(C, LENIENT)], 0x8847, &to(BAD)),
        ),
        (
            "half a header where it is let through",
            "lenient pass truncated",
            build::frame(&[(C, LENIENT)], 0x0800, &to(BAD)[..19]),
        ),
        (
            "half a datagram where it is let through",
            "lenient drop rule:hostile",
            build::frame(&[(C, LENIENT)], 0x0800, &to(BAD)[..20]),
        ),
    ] {
        row(cases, name, expected, frame);
    }
}

/// What is not IP and stays on its link, and what only says that it is.
fn links(cases: &mut Vec<Case>) {
    let frame = |vid: u16, to: [u8; 6], kind: u16, payload: &[u8]| {
        let mut frame = build::frame(&[(C, vid)], kind, payload);
        frame[..6].copy_from_slice(&to);
        frame
    };
    let (one, all) = ([2, 0, 0, 0, 0, 1], [0xff; 6]);
    let bridges = |last: u8| [1, 0x80, 0xc2, 0, 0, last];
    for (name, kind) in [
        ("LLDP", 0x88cc),
        ("EAPOL", 0x888e),
        ("slow protocols", 0x8809),
    ] {
        for (whom, to, expected) in [
            ("bridges", bridges(0), "cameras pass not-ip"),
            ("the nearest bridge", bridges(14), "cameras pass not-ip"),
            (
                "a group that is forwarded",
                bridges(16),
                "cameras drop ethertype",
            ),
            // What a bridge would carry to it is up to the camera.
            ("one station", one, "cameras drop ethertype"),
            ("all stations", all, "cameras drop ethertype"),
        ] {
            let frame = frame(CAMERAS, to, kind, &[0x42; 1400]);
            row(cases, &format!("{name} to {whom}"), expected, frame);
        }
    }
    let arp = |operation: u8| {
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
        packet.extend([
            2, 0, 0, 0, 0, 2, 10, 20, 0, 5, 0, 0, 0, 0, 0, 0, 10, 20, 0, 1,
        ]);
        packet
    };
    let padded = |length: usize| {
        let mut packet = arp(1);
        packet.resize(length, 0);
        packet
    };
    for (name, expected, to, packet) in [
        ("a request", "cameras pass not-ip", all, arp(1)),
        ("an answer", "cameras pass not-ip", one, arp(2)),
        ("a request, padded", "cameras pass not-ip", all, padded(46)),
        ("as much as padding", "cameras pass not-ip", all, padded(64)),
        (
            "a byte more than padding",
            "cameras drop ethertype",
            all,
            padded(65),
        ),
        (
            "a picture behind it",
            "cameras drop ethertype",
            one,
            padded(1400),
        ),
        ("cut", "cameras drop ethertype", all, padded(27)),
        ("nothing of it", "cameras drop ethertype", all, padded(0)),
        // The answer goes to a hardware address, whatever stands in here.
        (
            "in a blocked server's name",
            "cameras pass not-ip",
            all,
            [&arp(1)[..14], &BAD.octets(), &arp(1)[18..]].concat(),
        ),
        (
            "an address is asked for",
            "cameras drop ethertype",
            all,
            arp(3),
        ),
        ("inverse", "cameras drop ethertype", all, arp(8)),
        ("no operation", "cameras drop ethertype", all, arp(0)),
        (
            "of token ring",
            "cameras drop ethertype",
            all,
            with(arp(1), 1, 6),
        ),
        (
            "for AppleTalk",
            "cameras drop ethertype",
            all,
            with16(arp(1), 2, 0x809b),
        ),
        (
            "of long hardware addresses",
            "cameras drop ethertype",
            all,
            with(arp(1), 4, 8),
        ),
        (
            "of long addresses",
            "cameras drop ethertype",
            all,
            with(arp(1), 5, 16),
        ),
    ] {
        row(
            cases,
            &format!("ARP: {name}"),
            expected,
            frame(CAMERAS, to, 0x0806, &packet),
        );
    }
    for (name, expected, payload) in [
        (
            "PADI",
            "inspected pass not-ip",
            vec![0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0],
        ),
        (
            "PADR",
            "inspected pass not-ip",
            vec![0x11, 0x19, 0, 0, 0, 0],
        ),
        (
            "PADT",
            "inspected pass not-ip",
            vec![0x11, 0xa7, 0, 1, 0, 0],
        ),
        (
            "an offer",
            "inspected drop ethertype",
            vec![0x11, 7, 0, 0, 0, 0],
        ),
        (
            "a session's number",
            "inspected drop ethertype",
            vec![0x11, 0x65, 0, 1, 0, 0],
        ),
        (
            "a session",
            "inspected drop ethertype",
            vec![0x11, 0, 0, 1, 0, 0],
        ),
        (
            "another version",
            "inspected drop ethertype",
            vec![0x21, 9, 0, 0, 0, 0],
        ),
        (
            "more than there is",
            "inspected drop ethertype",
            vec![0x11, 9, 0, 0, 0, 1],
        ),
        (
            "half a header",
            "inspected drop ethertype",
            vec![0x11, 9, 0, 0, 0],
        ),
    ] {
        row(
            cases,
            &format!("PPPoE discovery: {name}"),
            expected,
            frame(INSPECTED, all, 0x8863, &payload),
        );
    }
    row(
        cases,
        "ARP with a picture behind it, where that is only noted",
        "lenient audit ethertype",
        frame(LENIENT, one, 0x0806, &padded(1400)),
    );
}

fn sessions(cases: &mut Vec<Case>) {
    let session = |payload: &[u8]| build::frame(&[(C, INSPECTED)], 0x8864, payload);
    let ppp = |protocol: u16, packet: &[u8]| build::pppoe(protocol, packet);
    for (name, expected, payload) in [
        (
            "IPv4 in PPPoE",
            "inspected drop rule:hostile",
            ppp(0x21, &to(BAD)),
        ),
        (
            "IPv6 in PPPoE",
            "inspected drop rule:hostile",
            ppp(0x57, &to(BAD6)),
        ),
        (
            "harmless IPv4 in PPPoE",
            "inspected pass default",
            ppp(0x21, &to(GOOD)),
        ),
        ("LCP", "inspected pass not-ip", ppp(0xc021, &[1, 1, 0, 4])),
        ("PAP", "inspected pass not-ip", ppp(0xc023, &[1, 1, 0, 4])),
        ("CHAP", "inspected pass not-ip", ppp(0xc223, &[1, 1, 0, 4])),
        ("IPCP", "inspected pass not-ip", ppp(0x8021, &[1, 1, 0, 4])),
        (
            "IPV6CP",
            "inspected pass not-ip",
            ppp(0x8057, &[1, 1, 0, 4]),
        ),
        (
            "link quality",
            "inspected pass not-ip",
            ppp(0xc025, &[0; 48]),
        ),
        (
            "AppleTalk in PPPoE",
            "inspected drop ethertype",
            ppp(0x29, &to(BAD)),
        ),
        (
            "compressed PPP",
            "inspected drop ethertype",
            ppp(0xfd, &to(BAD)),
        ),
        (
            "bridging in PPPoE",
            "inspected drop ethertype",
            ppp(0x31, &to(BAD)),
        ),
        (
            "multilink in PPPoE",
            "inspected drop ethertype",
            ppp(0x3d, &to(BAD)),
        ),
        ("a protocol of one byte", "inspected drop ethertype", {
            let mut payload = vec![0x11, 0, 0, 1, 0, 33, 0x21];
            payload.extend(to(BAD));
            payload
        }),
        (
            "the wrong version in PPPoE",
            "inspected drop bad-header",
            ppp(0x57, &carrying(GOOD, UDP, &[0; 40])),
        ),
        (
            "PPPoE of version 2",
            "inspected drop bad-header",
            with(ppp(0x21, &to(GOOD)), 0, 0x21),
        ),
        (
            "PPPoE of type 2",
            "inspected drop bad-header",
            with(ppp(0x21, &to(GOOD)), 0, 0x12),
        ),
        (
            "a PPPoE code of discovery",
            "inspected drop bad-header",
            with(ppp(0x21, &to(GOOD)), 1, 0x09),
        ),
        (
            "a session that says more than there is",
            "inspected drop truncated",
            with16(ppp(0x21, &to(GOOD)), 4, 100),
        ),
        (
            "a session that ends in the packet",
            "inspected drop truncated",
            with16(ppp(0x21, &to(GOOD)), 4, 30),
        ),
        (
            "a session that ends in the header",
            "inspected drop truncated",
            with16(ppp(0x21, &to(GOOD)), 4, 21),
        ),
        (
            "a session of one byte",
            "inspected drop truncated",
            with16(ppp(0x21, &to(GOOD)), 4, 1),
        ),
        (
            "a session of nothing",
            "inspected drop truncated",
            with16(ppp(0x21, &to(GOOD)), 4, 0),
        ),
        ("a session with padding behind", "inspected pass default", {
            let mut payload = ppp(0x21, &to(GOOD));
            payload.extend([0; 20]);
            payload
        }),
    ] {
        row(cases, name, expected, session(&payload));
    }
    row(
        cases,
        "a session that says too much, where that is let through",
        "lenient drop rule:hostile",
        build::frame(
            &[(C, LENIENT)],
            0x8864,
            &with16(ppp(0x21, &to(BAD)), 4, 100),
        ),
    );
    let whole = session(&ppp(0x21, &to(BAD)));
    cut(
        cases,
        "IPv4 in PPPoE",
        &whole,
        &[
            (0, "plain drop truncated"),
            (16, "inspected drop truncated"),
            (whole.len(), "inspected drop rule:hostile"),
        ],
    );
}
