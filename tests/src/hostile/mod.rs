//! Packets that want to slip through, by hand: what is cut short, what contradicts
//! itself, what hides where it goes, and what looks like that and is harmless.
//!
//! Each row has a name, a frame and what must become of it. Rows are grouped by
//! the header that they are about. One policy serves all of them: a zone for each
//! way to configure one.

mod infrastructure;
mod ipv4;
mod ipv6;
mod link;
mod origin;
mod transport;
mod tunnel;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    generate::build,
    reference::{self, Row},
};

/// The policy that rows are judged by.
pub const POLICY: &str = r#"
nat64 = ["2001:db8:64::/96", "2001:db8:4000::/40"]

# As an administrator would have it: everything strange is dropped.
[zone.cameras]
vlans = [20, "100.5"]
sources = ["10.20.0.0/16", "fd00:20::/48"]

# An allow list.
[zone.doors]
vlans = [30]
default = "drop"

# What carries packets is looked into.
[zone.inspected]
vlans = [40]
pppoe = true
[zone.inspected.unparsable]
tunnels = "inspect"

# What is strange is noted, and judged by what can be read.
[zone.lenient]
vlans = [50]
sources = ["10.20.0.0/16", "fd00:20::/48"]
pppoe = true
[zone.lenient.unparsable]
ethertype = "audit"
truncated = "pass"
bad-header = "audit"
martian = "audit"
header-chain = "pass"
source-route = "pass"
routing-header = "audit"
tunnels = "audit"
spoofed-source = "audit"

# Of several things that are noted the first is named.
[zone.noted]
vlans = [60]
sources = ["10.20.0.0/16", "fd00:20::/48"]
[zone.noted.unparsable]
truncated = "audit"
tunnels = "inspect"
spoofed-source = "audit"

[zone.plain]
vlans = ["untagged"]

[set.hostile]
asns = [64500]

[set.time]
prefixes = ["192.0.2.123/32", "2001:db8:123::1/128"]

[[rule]]
name = "time"
from = ["cameras", "doors"]
to = "time"
proto = "udp"
ports = [123]
action = "pass"

[[rule]]
name = "hostile"
from = "*"
to = "hostile"
action = "drop"

[[rule]]
name = "telnet"
from = ["cameras", "inspected"]
to = "any"
proto = "tcp"
ports = [23, "2000-2999"]
action = "drop"

[[rule]]
name = "web"
from = "doors"
to = "any"
proto = "tcp"
ports = [443]
action = "pass"

[[rule]]
name = "ssh"
from = "noted"
to = "any"
proto = "tcp"
ports = [22]
action = "pass"

[[rule]]
name = "watched"
from = "lenient"
to = "any"
proto = "tcp"
ports = [80]
action = "audit"
"#;

/// The database that rows are judged by, as range CSV.
pub const DATABASE: &str = "\
198.51.100.0,198.51.100.255,64500,Bad
203.0.113.0,203.0.113.255,64501,Good
2001:db8:bad::,2001:db8:bad:ffff:ffff:ffff:ffff:ffff,64500,Bad
2001:db8:900d::,2001:db8:900d:ffff:ffff:ffff:ffff:ffff,64501,Good
";

/// The router that rows arrive at.
#[must_use]
pub fn router() -> reference::Router {
    reference::Router {
        addresses: vec![ROUTER.into(), ROUTER6.into()],
        ..reference::Router::default()
    }
}

const CAMERA: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 5);
const CAMERA6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 5);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x20, 0, 0, 0, 0, 0, 1);
const GOOD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const GOOD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x900d, 0, 0, 0, 0, 9);
const BAD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const BAD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 9);
const TIME: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 123);
const TIME6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x123, 0, 0, 0, 0, 1);

const CAMERAS: u16 = 20;
const DOORS: u16 = 30;
const INSPECTED: u16 = 40;
const LENIENT: u16 = 50;
const NOTED: u16 = 60;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;

/// A frame, and what must become of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is.
    pub name: String,
    /// From the destination's hardware address on.
    pub frame: Vec<u8>,
    /// `zone action reason`, with `rule:NAME` where a rule decides; `-` is no zone.
    pub expected: &'static str,
}

impl Case {
    /// What became of it, in the words of `expected`.
    #[must_use]
    pub fn outcome(row: &Row) -> String {
        let zone = row.zone.as_deref().unwrap_or("-");
        match &row.rule {
            Some(rule) => format!("{zone} {} {}:{rule}", row.action, row.reason),
            None => format!("{zone} {} {}", row.action, row.reason),
        }
    }
}

/// All rows.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    link::add(&mut cases);
    ipv4::add(&mut cases);
    ipv6::add(&mut cases);
    tunnel::add(&mut cases);
    origin::add(&mut cases);
    infrastructure::add(&mut cases);
    transport::add(&mut cases);
    cases
}

fn row(cases: &mut Vec<Case>, name: &str, expected: &'static str, frame: Vec<u8>) {
    cases.push(Case {
        name: name.to_owned(),
        frame,
        expected,
    });
}

/// The frame cut after every byte: from each of the lengths on, this must become
/// of it. The last entry is the whole frame.
fn cut(cases: &mut Vec<Case>, name: &str, frame: &[u8], from: &[(usize, &'static str)]) {
    for length in 0..=frame.len() {
        let (_, expected) = from
            .iter()
            .rev()
            .find(|(first, _)| *first <= length)
            .expect("the first entry is for length 0");
        cases.push(Case {
            name: format!("{name}, {length} of {} bytes", frame.len()),
            frame: frame[..length].to_vec(),
            expected,
        });
    }
}

/// A frame with one tag.
fn on(vid: u16, packet: &[u8]) -> Vec<u8> {
    build::ip_frame(&[(0x8100, vid)], packet)
}

/// A datagram from a camera.
fn to(address: impl Into<IpAddr>) -> Vec<u8> {
    from_to(camera(address))
}

/// A camera's address of the family, and the destination.
fn camera(address: impl Into<IpAddr>) -> (IpAddr, IpAddr) {
    let address = address.into();
    let source = if address.is_ipv4() {
        CAMERA.into()
    } else {
        CAMERA6.into()
    };
    (source, address)
}

/// A datagram.
fn from_to((source, destination): (IpAddr, IpAddr)) -> Vec<u8> {
    ip(source, destination, UDP, &build::udp(40_000, 9, b"data"))
}

fn ip(source: IpAddr, destination: IpAddr, proto: u8, payload: &[u8]) -> Vec<u8> {
    build::ip(source, destination, proto, payload).expect("addresses are of one family")
}

/// From a camera, with this protocol and payload.
fn carrying(address: impl Into<IpAddr>, proto: u8, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = camera(address);
    ip(source, destination, proto, payload)
}

/// The packet with a byte replaced.
fn with(mut packet: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    packet[at] = byte;
    packet
}

/// The packet with two bytes replaced.
fn with16(mut packet: Vec<u8>, at: usize, value: u16) -> Vec<u8> {
    packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
    packet
}
