//! From bytes to tags and headers (design §3, steps 1 to 3), one slice at a time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kordon_ebpf::layout::Reason;

/// 802.1Q, 802.1ad and the old QinQ type.
const TPIDS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// RFC 8200, 4302, 6275, 7401, 5533: headers that say what follows them.
const EXTENSION_HEADERS: [u8; 8] = [0, 43, 44, 51, 60, 135, 139, 140];
/// Authentication Header, in IPv4 too.
const AH: u8 = 51;

/// Big endian.
pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Step 1: the tags of a frame.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// VIDs that count, in order.
    pub(super) counting: Vec<u16>,
    /// There is a ninth tag.
    pub(super) ninth: bool,
    /// The frame ends before the ethertype.
    pub(super) cut: bool,
    /// What follows the tags.
    pub(super) ethertype: u16,
    /// Where it starts.
    pub(super) payload: usize,
}

/// Reads tags until something else stands there.
pub(super) fn tags(frame: &[u8]) -> Tags {
    let mut tags = Tags::default();
    let mut at = 12;
    for read in 0.. {
        if frame.len() < at + 2 {
            tags.cut = true;
            break;
        }
        let ethertype = be16(frame, at);
        if !TPIDS.contains(&ethertype) {
            tags.ethertype = ethertype;
            tags.payload = at + 2;
            break;
        }
        if read == 8 {
            tags.ninth = true;
            break;
        }
        if frame.len() < at + 4 {
            tags.cut = true;
            break;
        }
        let vid = be16(frame, at + 2) & 0xfff;
        // A priority tag does not count, wherever it stands.
        if vid != 0 {
            tags.counting.push(vid);
        }
        at += 4;
    }
    tags
}

/// What is known of the layer above IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// Its first bytes are here (perhaps too few).
    Here(Vec<u8>),
    /// A later fragment, or a fragment that hides it.
    Hidden,
}

/// Step 3: an IP packet whose fixed header could be read.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) hop_limit: u8,
    /// None: hidden.
    pub(super) proto: Option<u8>,
    pub(super) transport: Transport,
    /// Any fragment, the first included.
    pub(super) fragment: bool,
    /// Not the first fragment.
    pub(super) later_fragment: bool,
    pub(super) source_route: bool,
    pub(super) routing_header: bool,
    /// All of IPv4's options, padding included.
    pub(super) options: Vec<u8>,
    /// Extension headers (AH is one, in IPv4 too): number and bytes.
    pub(super) extensions: Vec<(u8, Vec<u8>)>,
}

/// The packet if it is readable, and what is wrong with it in order of reading.
pub(super) type Walked = (Option<Packet>, Vec<Reason>);

/// An IPv4 packet (RFC 791) in these bytes.
pub(super) fn ipv4(bytes: &[u8]) -> Walked {
    let mut wrong = Vec::new();
    if bytes.len() < 20 {
        return (None, vec![Reason::Truncated]);
    }
    if bytes[0] >> 4 != 4 {
        return (None, vec![Reason::BadHeader]);
    }
    let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    let header = usize::from(bytes[0] & 0xf) * 4;
    let total = usize::from(be16(bytes, 2));
    let offset = be16(bytes, 6) & 0x1fff;
    let more = be16(bytes, 6) & 0x2000 != 0;
    let dst = address(16);
    let mut packet = Packet {
        src: IpAddr::V4(address(12)),
        dst: IpAddr::V4(dst),
        hop_limit: bytes[8],
        proto: Some(bytes[9]),
        transport: Transport::Hidden,
        fragment: more || offset != 0,
        later_fragment: offset != 0,
        source_route: false,
        routing_header: false,
        options: Vec::new(),
        extensions: Vec::new(),
    };
    if header < 20 || total < header {
        wrong.push(Reason::BadHeader);
    } else if total > bytes.len() {
        wrong.push(Reason::Truncated);
    }
    if dst.is_loopback() || dst.octets()[0] == 0 {
        wrong.push(Reason::Martian);
    }
    if header < 20 || total < header {
        // Not even the protocol can be trusted.
        packet.proto = None;
        return (Some(packet), wrong);
    }
    // Options. Type 0 ends them, 1 is a byte of padding, others have a length.
    // The frame may end among them.
    let options = &bytes[20..header.min(bytes.len())];
    packet.options = options.to_vec();
    let mut at = 0;
    while at < options.len() && options[at] != 0 {
        if options[at] == 1 {
            at += 1;
            continue;
        }
        // LSRR and SSRR.
        if options[at] == 131 || options[at] == 137 {
            packet.source_route = true;
        }
        // The option may say that it ends behind the header, and the header may
        // end before it says anything.
        let declared = header - 20;
        let length = match options.get(at + 1) {
            Some(length) => usize::from(*length),
            None if at + 1 < declared => break,
            None => 0,
        };
        if length < 2 || at + length > declared {
            wrong.push(Reason::BadHeader);
            break;
        }
        at += length;
    }
    if packet.later_fragment {
        return (Some(packet), wrong);
    }
    if header > bytes.len() {
        // What AH would carry is not there to be read.
        if bytes[9] == AH {
            packet.proto = None;
        }
        return (Some(packet), wrong);
    }
    let end = total.min(bytes.len());
    walk(
        &mut packet,
        &bytes[header..end],
        bytes[9],
        &[AH],
        &mut wrong,
    );
    (Some(packet), wrong)
}

/// An IPv6 packet (RFC 8200) in these bytes.
pub(super) fn ipv6(bytes: &[u8]) -> Walked {
    let mut wrong = Vec::new();
    if bytes.len() < 40 {
        return (None, vec![Reason::Truncated]);
    }
    if bytes[0] >> 4 != 6 {
        return (None, vec![Reason::BadHeader]);
    }
    let address = |at: usize| {
        let octets: [u8; 16] = bytes[at..at + 16].try_into().expect("16 bytes");
        Ipv6Addr::from(octets)
    };
    let payload = usize::from(be16(bytes, 4));
    let dst = address(24);
    let mut packet = Packet {
        src: IpAddr::V6(address(8)),
        dst: IpAddr::V6(dst),
        hop_limit: bytes[7],
        proto: None,
        transport: Transport::Hidden,
        fragment: false,
        later_fragment: false,
        source_route: false,
        routing_header: false,
        options: Vec::new(),
        extensions: Vec::new(),
    };
    if payload > bytes.len() - 40 {
        wrong.push(Reason::Truncated);
    }
    if dst.is_loopback() || dst.is_unspecified() {
        wrong.push(Reason::Martian);
    }
    let end = (40 + payload).min(bytes.len());
    walk(
        &mut packet,
        &bytes[40..end],
        bytes[6],
        &EXTENSION_HEADERS,
        &mut wrong,
    );
    (Some(packet), wrong)
}

/// Walks headers of the given kinds until something else stands there.
fn walk(packet: &mut Packet, bytes: &[u8], first: u8, kinds: &[u8], wrong: &mut Vec<Reason>) {
    let mut next = first;
    let mut rest = bytes;
    let mut seen = 0;
    while kinds.contains(&next) {
        packet.proto = None;
        seen += 1;
        if seen == 9 {
            wrong.push(Reason::HeaderChain);
            return;
        }
        // Also where the rest of it is missing or in the next fragment.
        if next == 43 && rest.get(3).is_some_and(|left| *left != 0) {
            packet.routing_header = true;
        }
        let length = match (next, rest) {
            (44, [_, ..]) => 8,
            (AH, [_, length, ..]) => (usize::from(*length) + 2) * 4,
            (_, [_, length, ..]) => (usize::from(*length) + 1) * 8,
            // Not even its length is here.
            _ => usize::MAX,
        };
        if length > rest.len() {
            // A first fragment, too, has all of the chain.
            wrong.push(Reason::Truncated);
            return;
        }
        if next == 44 {
            packet.fragment = true;
            let offset = be16(rest, 2) >> 3;
            if offset != 0 {
                packet.later_fragment = true;
                if !kinds.contains(&rest[0]) {
                    packet.proto = Some(rest[0]);
                }
                return;
            }
        }
        packet.extensions.push((next, rest[..length].to_vec()));
        next = rest[0];
        rest = &rest[length..];
    }
    packet.proto = Some(next);
    packet.transport = Transport::Here(rest.to_vec());
}

/// Step 5, `inspect`: the packet inside a tunnel's payload, if it is one that
/// can be read; None: it cannot.
pub(super) fn inside(proto: u8, payload: &[u8]) -> Option<Walked> {
    // IP in IP (RFC 2003) and IPIP.
    if proto == 4 || proto == 94 {
        return Some(ipv4(payload));
    }
    // RFC 4213.
    if proto == 41 {
        return Some(ipv6(payload));
    }
    // GRE (RFC 2784, 2890).
    if proto == 47 && payload.len() >= 4 {
        let flags = be16(payload, 0);
        // Another version, source routes (RFC 1701), reserved bits.
        if flags & !0xb000 != 0 {
            return None;
        }
        let mut header = 4;
        // Checksum, key, sequence number: four bytes each.
        for flag in [0x8000, 0x2000, 0x1000] {
            if flags & flag != 0 {
                header += 4;
            }
        }
        if payload.len() < header {
            return None;
        }
        return match be16(payload, 2) {
            0x0800 => Some(ipv4(&payload[header..])),
            0x86dd => Some(ipv6(&payload[header..])),
            _ => None,
        };
    }
    None
}
