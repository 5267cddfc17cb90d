//! What passes before any rule (design §3, steps 2 and 4), as its documents have it.

use std::net::IpAddr;

use super::headers::{Packet, Transport, be16};

/// Step 2: a frame that cannot leave its link. `payload` stands behind the ethertype.
pub(super) fn is_of_the_link(frame: &[u8], ethertype: u16, payload: &[u8], pppoe: bool) -> bool {
    let to_bridges = frame[..5] == [1, 0x80, 0xc2, 0, 0] && frame[5] < 0x10;
    match ethertype {
        // LLDP, EAPOL, slow protocols, and 802.3, where a length stands.
        0x88cc | 0x888e | 0x8809 => to_bridges,
        length if length < 1536 => to_bridges,
        // ARP: for Ethernet and IPv4, a request or a reply, and no more than padding.
        0x0806 => {
            let fields = [0, 1, 8, 0, 6, 4, 0];
            (28..=64).contains(&payload.len())
                && payload[..7] == fields
                && (payload[7] == 1 || payload[7] == 2)
        }
        // PPPoE discovery: PADI, PADR or PADT.
        0x8863 if pppoe && payload.len() >= 6 => {
            payload[0] == 0x11
                && [0x09, 0x19, 0xa7].contains(&payload[1])
                && usize::from(be16(payload, 4)) <= payload.len() - 6
        }
        _ => false,
    }
}

/// Step 4: whether protocol, destination and type are those of infrastructure.
pub(super) fn is_meant(packet: &Packet, is_router: impl Fn(IpAddr) -> bool) -> bool {
    let Some((proto, bytes)) = transport(packet) else {
        return false;
    };
    let ports = if proto == 17 && bytes.len() >= 4 {
        Some((be16(bytes, 0), be16(bytes, 2)))
    } else {
        None
    };
    match packet.dst {
        IpAddr::V4(dst) => match proto {
            // IGMP to 224.0.0.0/24.
            2 => dst.octets()[..3] == [224, 0, 0],
            // DHCPv4.
            17 => dst.is_broadcast() && ports == Some((68, 67)),
            _ => false,
        },
        IpAddr::V6(dst) => {
            let link_multicast = dst.segments()[0] == 0xff02;
            match (proto, bytes.first()) {
                // RS, NS, NA.
                (58, Some(133 | 135 | 136)) => {
                    packet.hop_limit == 255
                        && (link_multicast || dst.is_unicast_link_local() || is_router(packet.dst))
                }
                // MLD.
                (58, Some(130 | 131 | 132 | 143)) => link_multicast,
                // DHCPv6 to ff02::1:2.
                (17, _) => {
                    let agents = [0xff02, 0, 0, 0, 0, 0, 1, 2];
                    dst.segments() == agents && ports == Some((546, 547))
                }
                _ => false,
            }
        }
    }
}

/// Whether it is no more than that. `can_be_there`: whether the zone can have an address.
pub(super) fn is_sound(packet: &Packet, can_be_there: impl Fn(IpAddr) -> bool) -> bool {
    let Some((proto, bytes)) = transport(packet) else {
        return false;
    };
    let bare = packet.options.is_empty() && packet.extensions.is_empty();
    match (packet.dst, proto) {
        (IpAddr::V4(_), 2) => {
            let alert = packet.options == [148, 4, 0, 0] && packet.extensions.is_empty();
            (bare || alert) && is_igmp(bytes)
        }
        (IpAddr::V4(_), _) => bare && is_dhcpv4(bytes, packet.src, can_be_there),
        (IpAddr::V6(_), 58) => match bytes[0] {
            133 => bare && is_discovery(bytes, 8),
            135 | 136 => bare && is_discovery(bytes, 24),
            _ => (bare || is_behind_alert(packet)) && is_mld(bytes),
        },
        (IpAddr::V6(_), _) => bare && is_dhcpv6(bytes),
    }
}

fn transport(packet: &Packet) -> Option<(u8, &[u8])> {
    match &packet.transport {
        Transport::Here(bytes) if !packet.fragment => Some((packet.proto?, bytes)),
        _ => None,
    }
}

/// RFC 4861: code 0, the fixed part, at most eight options that end with the message.
fn is_discovery(bytes: &[u8], fixed: usize) -> bool {
    if bytes.len() < fixed || bytes[1] != 0 {
        return false;
    }
    let mut options = &bytes[fixed..];
    let mut seen = 0;
    while !options.is_empty() {
        seen += 1;
        let Some(length) = options.get(1).map(|units| usize::from(*units) * 8) else {
            return false;
        };
        if length == 0 || length > options.len() || seen > 8 {
            return false;
        }
        options = &options[length..];
    }
    true
}

/// One hop-by-hop header of eight bytes: the router alert of MLD on an even place, and
/// padding before or behind it (Pad1 twice, or PadN of nothing).
fn is_behind_alert(packet: &Packet) -> bool {
    let [(0, header)] = packet.extensions.as_slice() else {
        return false;
    };
    let padding = |two: &[u8]| two == [0, 0] || two == [1, 0];
    let alert = |four: &[u8]| four == [5, 2, 0, 0];
    header.len() == 8
        && (alert(&header[2..6]) && padding(&header[6..])
            || padding(&header[2..4]) && alert(&header[4..]))
}

/// RFC 2710 and 3810.
fn is_mld(bytes: &[u8]) -> bool {
    match bytes[0] {
        131 | 132 => bytes.len() == 24,
        130 if bytes.len() == 24 => true,
        130 => bytes.len() >= 28 && bytes.len() == 28 + 16 * usize::from(be16(bytes, 26)),
        _ => bytes.len() >= 8 && are_records(&bytes[8..], be16(bytes, 6), 16),
    }
}

/// RFC 1112, 2236 and 3376.
fn is_igmp(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(0x12 | 0x16 | 0x17) => bytes.len() == 8,
        Some(0x11) if bytes.len() == 8 => true,
        Some(0x11) => bytes.len() >= 12 && bytes.len() == 12 + 4 * usize::from(be16(bytes, 10)),
        Some(0x22) => bytes.len() >= 8 && are_records(&bytes[8..], be16(bytes, 6), 4),
        _ => false,
    }
}

/// Group records, at most 184 of IGMP and 72 of MLD, without auxiliary data; `width` is of an address.
fn are_records(mut bytes: &[u8], count: u16, width: usize) -> bool {
    if count > if width == 4 { 184 } else { 72 } {
        return false;
    }
    for _ in 0..count {
        if bytes.len() < 4 {
            return false;
        }
        let length = 4 + width + width * usize::from(be16(bytes, 2));
        if bytes[1] != 0 || length > bytes.len() {
            return false;
        }
        bytes = &bytes[length..];
    }
    bytes.is_empty()
}

/// RFC 2131: a request with a cookie and no relay's address (giaddr). The client's (ciaddr)
/// is none, the sender's, or from nowhere one that can be in the zone.
fn is_dhcpv4(udp: &[u8], src: IpAddr, can_be_there: impl Fn(IpAddr) -> bool) -> bool {
    if udp.len() < 8 + 240 || usize::from(be16(udp, 4)) != udp.len() {
        return false;
    }
    let body = &udp[8..];
    let client = IpAddr::from([body[12], body[13], body[14], body[15]]);
    body[0] == 1
        && body[24..28] == [0; 4]
        && body[236..240] == [99, 130, 83, 99]
        && (client.is_unspecified()
            || client == src
            || src.is_unspecified() && can_be_there(client))
}

/// RFC 8415 and 9686: what clients send.
fn is_dhcpv6(udp: &[u8]) -> bool {
    udp.len() >= 8 + 4
        && usize::from(be16(udp, 4)) == udp.len()
        && [1, 3, 4, 5, 6, 8, 9, 11, 36].contains(&udp[8])
}
