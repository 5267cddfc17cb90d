//! Ethernet frames of any shape, byte by byte: for senders that no stack would
//! let through. Correct by default (lengths, checksums); what is to be wrong is
//! changed in the bytes afterwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub type Mac = [u8; 6];

/// 802.1Q customer tag.
pub const TPID_C: u16 = 0x8100;
/// 802.1ad service tag.
pub const TPID_S: u16 = 0x88a8;
/// The QinQ tag of before the standard.
pub const TPID_OLD: u16 = 0x9100;

/// ICMP, for [`ip`].
pub const ICMP: u8 = 1;
/// TCP, for [`ip`].
pub const TCP: u8 = 6;
/// UDP, for [`ip`].
pub const UDP: u8 = 17;
/// ICMPv6, for [`ip`].
pub const ICMPV6: u8 = 58;

/// Addresses and tags of a frame.
#[derive(Clone, Debug)]
pub struct Ethernet {
    /// The next hop.
    pub destination: Mac,
    /// The sender.
    pub source: Mac,
    /// TPID and TCI of each tag, from the outermost.
    pub tags: Vec<(u16, u16)>,
}

impl Ethernet {
    /// A frame with these addresses and without tags.
    #[must_use]
    pub fn new(source: Mac, destination: Mac) -> Self {
        Self {
            destination,
            source,
            tags: Vec::new(),
        }
    }

    /// One more tag inside those that are there.
    #[must_use]
    pub fn tag(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.push((tpid, tci));
        self
    }

    /// The frame with this ethertype and payload, not padded.
    #[must_use]
    pub fn payload(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(14 + 4 * self.tags.len() + payload.len());
        frame.extend(self.destination);
        frame.extend(self.source);
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// The frame with this IP packet, as [`ip`] makes them.
    #[must_use]
    pub fn packet(&self, packet: &[u8]) -> Vec<u8> {
        let ethertype = if packet.first().is_some_and(|byte| byte >> 4 == 6) {
            0x86dd
        } else {
            0x0800
        };
        self.payload(ethertype, packet)
    }
}

/// An IP packet without options or extension headers, hop limit 64.
///
/// # Panics
///
/// If the addresses are of two families or the payload is above 65,495 bytes.
#[must_use]
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ipv4(source, destination, protocol, payload)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ipv6(source, destination, protocol, payload)
        }
        _ => panic!("{source} and {destination} are of two families"),
    }
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("payload fits in an IPv4 packet");
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("payload fits in an IPv6 packet");
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// A UDP datagram in its IP packet.
#[must_use]
pub fn udp(source: IpAddr, destination: IpAddr, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).expect("data fits in a UDP datagram");
    let mut segment = Vec::with_capacity(usize::from(length));
    segment.extend(ports.0.to_be_bytes());
    segment.extend(ports.1.to_be_bytes());
    segment.extend(length.to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(data);
    let sum = match transport_checksum(source, destination, UDP, &segment) {
        // Zero would mean that there is none.
        0 => u16::MAX,
        sum => sum,
    };
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(source, destination, UDP, &segment)
}

/// A TCP segment that asks for a connection, in its IP packet.
#[must_use]
pub fn tcp_syn(source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(ports.0.to_be_bytes());
    segment.extend(ports.1.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = transport_checksum(source, destination, TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(source, destination, TCP, &segment)
}

/// An echo request in its IP packet. The answer carries the data.
#[must_use]
pub fn ping(source: IpAddr, destination: IpAddr, sequence: u16, data: &[u8]) -> Vec<u8> {
    let (kind, protocol) = if source.is_ipv4() {
        (8, ICMP)
    } else {
        (128, ICMPV6)
    };
    let mut message = vec![kind, 0, 0, 0, 0x6b, 0x6f];
    message.extend(sequence.to_be_bytes());
    message.extend(data);
    let sum = if source.is_ipv4() {
        checksum(&message)
    } else {
        transport_checksum(source, destination, ICMPV6, &message)
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(source, destination, protocol, &message)
}

/// The packet with another hop limit (IPv4: time to live).
///
/// # Panics
///
/// If the packet has no full IP header.
#[must_use]
pub fn with_hop_limit(mut packet: Vec<u8>, hops: u8) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        packet[7] = hops;
    } else {
        packet[8] = hops;
        packet[10..12].fill(0);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// The checksum of a segment whose own field is zero, with the pseudo header
/// (RFC 9293 3.1, RFC 8200 8.1).
#[must_use]
pub fn transport_checksum(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    segment: &[u8],
) -> u16 {
    let mut pseudo = Vec::with_capacity(40 + segment.len());
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => pseudo.extend(address.octets()),
            IpAddr::V6(address) => pseudo.extend(address.octets()),
        }
    }
    let length = u32::try_from(segment.len()).expect("segment fits in a packet");
    // As IPv6 has it; the IPv4 pseudo header adds up to the same sum.
    pseudo.extend(length.to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    pseudo.extend(segment);
    checksum(&pseudo)
}

/// The Internet checksum (RFC 1071).
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_verify() {
        // A packet whose checksum is in place adds up to zero.
        let v4 = ["10.20.0.10".parse().unwrap(), "8.8.8.8".parse().unwrap()];
        let v6 = [
            "fd00:20::10".parse().unwrap(),
            "2001:4860:4860::8888".parse().unwrap(),
        ];
        let packet = ping(v4[0], v4[1], 7, b"odd");
        assert_eq!(checksum(&packet[..20]), 0);
        assert_eq!(checksum(&packet[20..]), 0);
        for [source, destination] in [v4, v6] {
            let header = if source.is_ipv4() { 20 } else { 40 };
            let packet = udp(source, destination, (1, 53), b"hello");
            assert_eq!(
                transport_checksum(source, destination, UDP, &packet[header..]),
                0
            );
            let packet = tcp_syn(source, destination, (1, 80));
            assert_eq!(
                transport_checksum(source, destination, TCP, &packet[header..]),
                0
            );
        }
    }

    #[test]
    fn tags_stand_before_the_ethertype() {
        let frame = Ethernet::new([2; 6], [4; 6])
            .tag(TPID_S, 100)
            .tag(TPID_C, 5)
            .payload(0x0806, &[9]);
        assert_eq!(frame[12..], [0x88, 0xa8, 0, 100, 0x81, 0, 0, 5, 8, 6, 9]);
    }
}
