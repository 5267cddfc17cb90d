//! Sources that a camera cannot have.

use super::*;

pub(super) fn add(cases: &mut Vec<Case>) {
    listed(cases);
    unlisted(cases);
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
        ("::198.51.100.9", "inspected drop spoofed-source"),
        ("::ffff:0:198.51.100.9", "inspected drop spoofed-source"),
        ("64:ff9b:1::198.51.100.9", "inspected drop spoofed-source"),
        ("64:ff9b:1:c633:64:900::", "inspected drop spoofed-source"),
        (
            "2001:db8:900d::5efe:198.51.100.9",
            "inspected drop spoofed-source",
        ),
        ("2001:db8:900d::5efe:203.0.113.9", "inspected pass default"),
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
