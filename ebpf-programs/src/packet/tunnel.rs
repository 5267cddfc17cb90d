//! Packets inside others: which protocols have any, and where those that are opened begin.

use super::{Fragment, Frame, Ip, View};

/// The payload of a PPPoE session frame (RFC 2516).
#[derive(Clone, Copy, Debug)]
pub enum Pppoe {
    /// An IPv4 packet.
    V4,
    /// An IPv6 packet.
    V6,
    /// What keeps the session up.
    Control,
    /// Something else.
    Other,
    /// Too short to say what it is.
    Truncated,
    /// Version, type or code of no session.
    BadHeader,
}

/// Opens a PPPoE session frame whose header begins at `at`. In `ip` it leaves where
/// the payload begins, and where it ends as declared: perhaps behind the frame.
#[inline(never)]
pub fn pppoe<F: Frame + ?Sized>(frame: &F, at: u32, ip: &mut Ip) -> Pppoe {
    ip.at = at + 8;
    ip.end = at;
    let Some(header) = frame.view::<6>(at) else {
        return Pppoe::Truncated;
    };
    if header.u16(0) != 0x1100 {
        return Pppoe::BadHeader;
    }
    let length = header.u16(4) as u32;
    ip.end = at + 6 + length;
    match frame.view::<2>(at + 6) {
        Some(protocol) if length >= 2 => match protocol.u16(0) {
            0x0021 => Pppoe::V4,
            0x0057 => Pppoe::V6,
            // LCP, PAP, CHAP, LQR, IPCP, IPV6CP.
            0xc021 | 0xc023 | 0xc223 | 0xc025 | 0x8021 | 0x8057 => Pppoe::Control,
            _ => Pppoe::Other,
        },
        _ => Pppoe::Truncated,
    }
}

/// The packet inside a tunnel, as far as it can be said where it is.
#[derive(Clone, Copy, Debug)]
pub enum Inside {
    /// IPv4 at this offset.
    V4(u32),
    /// IPv6 at this offset.
    V6(u32),
    /// It cannot be read.
    Hidden,
}

/// Where the packet inside a tunnel protocol begins: IP in IP (4, 94: RFC 2003),
/// IPv6 (41: RFC 4213), GRE version 0 (47: RFC 2784, 2890).
#[inline(always)]
pub fn inside<F: Frame + ?Sized>(frame: &F, ip: &Ip) -> Inside {
    if ip.fragment == Fragment::Later {
        return Inside::Hidden;
    }
    match ip.proto {
        4 | 94 => Inside::V4(ip.at),
        41 => Inside::V6(ip.at),
        47 => {
            let Some(header) = frame.view::<4>(ip.at) else {
                return Inside::Hidden;
            };
            let flags = header.u16(0);
            // Checksum, key and sequence number may be there; routing (0x4000),
            // other flags and versions are not opened.
            if flags & !0xb000 != 0 {
                return Inside::Hidden;
            }
            let at = ip.at
                + 4
                + (flags as u32 >> 15) * 4
                + (flags as u32 >> 13 & 1) * 4
                + (flags as u32 >> 12 & 1) * 4;
            match header.u16(2) {
                0x0800 => Inside::V4(at),
                0x86dd => Inside::V6(at),
                _ => Inside::Hidden,
            }
        }
        _ => Inside::Hidden,
    }
}

/// Whether this protocol carries packets: IPv4 in IP (4, 94), IPv6 (41), GRE (47), minimal encapsulation (55),
/// EtherIP (97), ENCAP (98), IPComp (108, whose inside says itself what it is), L2TPv3 (115),
/// MPLS in IP (137), ROHC (142, RFC 5858), Ethernet (143, RFC 8986), aggregates (144,
/// RFC 9347), NSH (145, RFC 9491).
#[must_use]
#[inline(always)]
pub const fn is_tunnel(proto: u16) -> bool {
    const LOW: u64 = 1 << 4 | 1 << 41 | 1 << 47 | 1 << 55;
    if proto < 64 {
        return LOW >> proto & 1 != 0;
    }
    matches!(proto, 94 | 97 | 98 | 108 | 115 | 137 | 142..=145)
}
