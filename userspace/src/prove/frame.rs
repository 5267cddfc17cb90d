//! Frames to be judged. Sources are link-local, which are never spoofed, unless
//! another is given.

use std::net::IpAddr;

use super::naive::Packet;

/// 802.1Q.
pub(super) const TAG: u16 = 0x8100;
/// Bytes of both hardware addresses.
pub(super) const MACS: usize = 12;

/// Where a packet comes from.
#[derive(Clone, Debug)]
pub struct Place {
    /// Number of the interface.
    pub(super) port: u32,
    /// Its tags, from the outermost.
    pub(super) tags: Vec<u16>,
}

/// A frame with an IP packet, and where its addresses are.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    pub(super) source: u32,
    pub(super) destination: u32,
}

impl Frame {
    /// A frame whose packet rules see as `packet`: what is hidden is in another
    /// fragment. In IPv4 a fragment never hides its protocol: `None`.
    pub(super) fn of(place: &Place, v6: bool, packet: &Packet) -> Option<Self> {
        let transport = transport(packet);
        let bytes = match (v6, packet.proto, packet.port) {
            (_, Some(proto), Some(_)) => ip(v6, proto, &transport),
            (false, Some(proto), None) => {
                let mut bytes = ip(false, proto, &transport);
                // The second eight bytes of a datagram, and more follow.
                bytes[6..8].copy_from_slice(&[0x20, 1]);
                bytes
            }
            (false, None, _) => return None,
            (true, Some(proto), None) => ip(true, 44, &fragment(proto, &transport)),
            // Behind an extension header in another fragment stands anything.
            (true, None, _) => ip(true, 44, &fragment(60, &transport)),
        };
        Some(Self::new(place, &bytes))
    }

    /// A frame with this IP packet.
    pub(super) fn new(place: &Place, packet: &[u8]) -> Self {
        let v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        let mut bytes = link(place, if v6 { 0x86dd } else { 0x0800 });
        let at = bytes.len() as u32;
        bytes.extend(packet);
        Self {
            bytes,
            source: at + if v6 { 8 } else { 12 },
            destination: at + if v6 { 24 } else { 16 },
        }
    }
}

/// Hardware addresses, tags and ethertype.
pub(super) fn link(place: &Place, ethertype: u16) -> Vec<u8> {
    let mut frame = vec![2; MACS];
    for tag in &place.tags {
        frame.extend(TAG.to_be_bytes());
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// An IP packet from a link-local address to none yet.
pub(super) fn ip(v6: bool, proto: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet;
    if v6 {
        packet = vec![0x60, 0, 0, 0];
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([proto, 64]);
        packet.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        packet.extend([0; 16]);
    } else {
        packet = vec![0x45, 0];
        packet.extend((20 + payload.len() as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, proto, 0, 0]);
        packet.extend([169, 254, 0, 9]);
        packet.extend([0; 4]);
    }
    packet.extend(payload);
    packet
}

/// The packet with this destination.
pub(super) fn to(mut packet: Vec<u8>, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => packet[16..20].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => packet[24..40].copy_from_slice(&v6.octets()),
    }
    packet
}

/// A source that is not link-local.
pub(super) fn from(frame: &mut Frame, address: IpAddr) {
    let at = frame.source as usize;
    match address {
        IpAddr::V4(v4) => frame.bytes[at..][..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => frame.bytes[at..][..16].copy_from_slice(&v6.octets()),
    }
}

/// Both ports, and enough behind them.
pub(super) fn transport(packet: &Packet) -> [u8; 20] {
    let mut bytes = [0; 20];
    // No port that infrastructure has, and no ICMP type that means something.
    bytes[0] = 0xc0;
    bytes[2..4].copy_from_slice(&packet.port.unwrap_or(0).to_be_bytes());
    bytes
}

/// An IPv6 Fragment header of a later fragment, and what follows it.
fn fragment(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0, 0, 8, 0, 0, 0, 9];
    bytes.extend(rest);
    bytes
}

/// An IPv6 extension header of eight bytes; `fourth` is what a routing header has
/// left.
pub(super) fn extension(next: u8, fourth: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0, 0, fourth, 0, 0, 0, 0];
    bytes.extend(rest);
    bytes
}
