//! Packets put together header by header. Lengths are right unless a test
//! spoils them; checksums are zero, which nothing here looks at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet frame: tags as (TPID, TCI), ethertype, payload.
#[must_use]
pub fn frame(tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A frame in VLAN 20 or whatever `tags` says, with an IP packet of either family.
#[must_use]
pub fn ip_frame(tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let v6 = packet.first().is_some_and(|first| first >> 4 == 6);
    frame(tags, if v6 { 0x86dd } else { 0x0800 }, packet)
}

/// IPv4 with options (padded to four bytes) and the word of flags and offset.
#[must_use]
pub fn ipv4_with(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    proto: u8,
    options: &[u8],
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let padded = options.len().div_ceil(4) * 4;
    let header = 20 + padded;
    let total = u16::try_from(header + payload.len()).expect("fits");
    let ihl = u8::try_from(header / 4).expect("fits");
    let mut packet = vec![0x40 | ihl, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 7]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, proto, 0, 0]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(options);
    packet.resize(header, 0);
    packet.extend(payload);
    packet
}

/// Plain IPv4.
#[must_use]
pub fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, proto: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(src, dst, proto, &[], 0, payload)
}

/// IPv6 with a hop limit.
#[must_use]
pub fn ipv6_with(src: Ipv6Addr, dst: Ipv6Addr, next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("fits");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next, hops]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(payload);
    packet
}

/// IPv6.
#[must_use]
pub fn ipv6(src: Ipv6Addr, dst: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    ipv6_with(src, dst, next, 64, payload)
}

/// Either family; `None` when they are mixed.
#[must_use]
pub fn ip(src: IpAddr, dst: IpAddr, proto: u8, payload: &[u8]) -> Option<Vec<u8>> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Some(ipv4(src, dst, proto, payload)),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Some(ipv6(src, dst, proto, payload)),
        _ => None,
    }
}

/// UDP.
#[must_use]
pub fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.to_be_bytes());
    segment.extend(to.to_be_bytes());
    let length = u16::try_from(8 + data.len()).expect("fits");
    segment.extend(length.to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(data);
    segment
}

/// A TCP SYN.
#[must_use]
pub fn tcp(from: u16, to: u16) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.to_be_bytes());
    segment.extend(to.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

/// An IPv6 extension header of `(units + 1) * 8` bytes before `rest`. The fourth
/// byte is `fourth` (segments left of a routing header).
#[must_use]
pub fn extension(next: u8, units: u8, fourth: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = vec![next, units, 0, fourth, 0, 0, 0, 0];
    header.resize((usize::from(units) + 1) * 8, 0);
    header.extend(rest);
    header
}

/// An Authentication Header of `(units + 2) * 4` bytes before `rest`.
#[must_use]
pub fn ah(next: u8, units: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = vec![next, units, 0, 0, 0, 0, 0, 1];
    header.resize((usize::from(units) + 2) * 4, 0);
    header.extend(rest);
    header
}

/// An IPv6 Fragment header before `rest`: offset in units of eight bytes.
#[must_use]
pub fn fragment(next: u8, offset: u16, more: bool, rest: &[u8]) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend((offset << 3 | u16::from(more)).to_be_bytes());
    header.extend([0, 0, 0, 9]);
    header.extend(rest);
    header
}

/// GRE with these flags and version; each optional field that they announce is there.
#[must_use]
pub fn gre(flags: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(flags.to_be_bytes());
    packet.extend(kind.to_be_bytes());
    for flag in [0x8000, 0x2000, 0x1000] {
        if flags & flag != 0 {
            packet.extend([0xaa; 4]);
        }
    }
    packet.extend(payload);
    packet
}

/// A PPPoE session packet (without the Ethernet header).
#[must_use]
pub fn pppoe(protocol: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(2 + payload.len()).expect("fits");
    let mut packet = vec![0x11, 0, 0, 1];
    packet.extend(length.to_be_bytes());
    packet.extend(protocol.to_be_bytes());
    packet.extend(payload);
    packet
}

/// A DHCP request (RFC 2131) from a client with this address, without the UDP header.
#[must_use]
pub fn dhcp(client: [u8; 4]) -> Vec<u8> {
    let mut body = vec![0; 240];
    body[..3].copy_from_slice(&[1, 1, 6]);
    body[12..16].copy_from_slice(&client);
    body[236..].copy_from_slice(&[99, 130, 83, 99]);
    body.extend([53, 1, 1, 255]);
    body
}

/// An MLD message of this type: a query, report or leave of 24 bytes (RFC 2710), or a
/// report of one record (RFC 3810).
#[must_use]
pub fn mld(kind: u8) -> Vec<u8> {
    if kind == 143 {
        return records(kind, 16, &[0]);
    }
    let mut body = vec![0; 24];
    body[0] = kind;
    body
}

/// An MLD query of version 2 that says how many sources it has.
#[must_use]
pub fn mld_query(said: u8, sources: usize) -> Vec<u8> {
    let mut body = vec![0; 28 + 16 * sources];
    (body[0], body[27]) = (130, said);
    body
}

/// A membership report of IGMPv3 or MLDv2: for each record how many sources it has,
/// addresses `width` bytes long.
#[must_use]
pub fn records(kind: u8, width: usize, sources: &[u8]) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, 0, 0, 0, sources.len() as u8];
    for count in sources {
        body.extend([4, 0, 0, *count]);
        body.resize(body.len() + width * (1 + usize::from(*count)), 0);
    }
    body
}
