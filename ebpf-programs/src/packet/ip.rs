//! IPv4 and IPv6 headers, IPv4 options, and the chain of extension headers up to the transport.

use super::{Address, Frame, View};
use crate::{
    layout::{MAX_EXTENSION_HEADERS, Reason},
    repeat::repeat,
};

/// Protocol of a packet whose transport cannot be known.
pub const PROTO_UNKNOWN: u16 = 0x100;

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    #[default]
    Whole,
    /// The first part.
    First,
    /// A later part: no transport header.
    Later,
}

/// Reasons in the order in which they were met: four bits each, from the lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raised(pub u32);

impl Raised {
    /// Adds one behind those that are there. Five fit, and five are read; a packet meets four at most.
    #[inline(always)]
    pub fn push(&mut self, reason: Reason) {
        let code = reason as u32;
        if self.0 == 0 {
            self.0 = code;
        } else if self.0 < 1 << 4 {
            self.0 |= code << 4;
        } else if self.0 < 1 << 8 {
            self.0 |= code << 8;
        } else if self.0 < 1 << 12 {
            self.0 |= code << 12;
        } else {
            self.0 |= code << 16;
        }
    }
}

/// What the headers of one IP packet say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ip {
    /// Whether addresses could be read.
    pub readable: bool,
    /// Source.
    pub src: Address,
    /// Destination.
    pub dst: Address,
    /// Transport protocol, or [`PROTO_UNKNOWN`].
    pub proto: u16,
    /// Where the packet begins.
    pub begin: u32,
    /// Where the transport header begins.
    pub at: u32,
    /// Where the packet ends: as declared, and within the frame.
    pub end: u32,
    /// Which part of the datagram this is.
    pub fragment: Fragment,
    /// There was a Fragment header or IPv4 fragmentation.
    pub fragmented: bool,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Step 3 of `verdict/slow/mod.rs`: truncated, bad-header, martian, header-chain.
    pub raised: Raised,
    /// LSRR or SSRR.
    pub source_route: bool,
    /// A routing header with segments left.
    pub routing_header: bool,
}

impl Ip {
    #[inline(always)]
    fn unreadable(&mut self, reason: Reason) {
        self.proto = PROTO_UNKNOWN;
        self.raised.push(reason);
    }
}

/// Reads an IPv4 packet at `at` that must end by `limit`.
#[inline(never)]
pub fn ipv4<F: Frame + ?Sized>(frame: &F, at: u32, limit: u32, ip: &mut Ip) {
    *ip = Ip::default();
    if limit < at + 20 {
        return ip.unreadable(Reason::Truncated);
    }
    let Some(header) = frame.view::<20>(at) else {
        return ip.unreadable(Reason::Truncated);
    };
    let first = header.u8(0);
    if first >> 4 != 4 {
        return ip.unreadable(Reason::BadHeader);
    }
    let header_length = (first as u32 & 15) * 4;
    let total = header.u16(2) as u32;
    let fragment = header.u16(6);
    ip.readable = true;
    ip.begin = at;
    ip.src = Address::v4(header.u32(12));
    ip.dst = Address::v4(header.u32(16));
    ip.proto = header.u8(9) as u16;
    ip.at = at + header_length;
    ip.end = at + total;
    ip.hop_limit = header.u8(8);
    if fragment & 0x3fff != 0 {
        ip.fragmented = true;
        ip.fragment = if fragment & 0x1fff == 0 {
            Fragment::First
        } else {
            Fragment::Later
        };
    }
    let sound = header_length >= 20 && total >= header_length;
    if !sound {
        ip.raised.push(Reason::BadHeader);
        ip.proto = PROTO_UNKNOWN;
        ip.end = limit;
    } else if at + total > limit {
        ip.raised.push(Reason::Truncated);
        ip.end = limit;
    }
    if ip.dst.is_martian() {
        ip.raised.push(Reason::Martian);
    }
    if sound && header_length > 20 {
        ipv4_options(frame, at + 20, at + header_length, ip);
    }
    if ip.proto == 51 && ip.fragment != Fragment::Later {
        extensions(frame, ip);
    }
}

/// RFC 791 section 3.1: looks for LSRR (131) and SSRR (137), and for lengths that
/// cannot be. The header says that they go up to `end`, where the packet that is
/// here may be over already.
#[inline(never)]
fn ipv4_options<F: Frame + ?Sized>(frame: &F, mut at: u32, end: u32, ip: &mut Ip) {
    // At most 40 bytes, so at most 40 options.
    repeat(40, |_| {
        if at >= end || at >= ip.end {
            return true;
        }
        let Some(kind) = frame.view::<1>(at) else {
            return true;
        };
        match kind.u8(0) {
            0 => return true,
            1 => at += 1,
            kind => {
                // Whatever its length: who writes it wants it followed.
                if kind == 131 || kind == 137 {
                    ip.source_route = true;
                }
                let length = if at + 2 > end {
                    0
                } else if at + 2 > ip.end {
                    // Already truncated.
                    return true;
                } else {
                    match frame.view::<2>(at) {
                        Some(option) => option.u8(1) as u32,
                        None => return true,
                    }
                };
                if length < 2 || at + length > end {
                    ip.raised.push(Reason::BadHeader);
                    return true;
                }
                at += length;
            }
        }
        false
    });
}

/// Reads an IPv6 packet at `at` that must end by `limit`.
#[inline(never)]
pub fn ipv6<F: Frame + ?Sized>(frame: &F, at: u32, limit: u32, ip: &mut Ip) {
    *ip = Ip::default();
    if limit < at + 40 {
        return ip.unreadable(Reason::Truncated);
    }
    let Some(header) = frame.view::<40>(at) else {
        return ip.unreadable(Reason::Truncated);
    };
    if header.u8(0) >> 4 != 6 {
        return ip.unreadable(Reason::BadHeader);
    }
    ip.readable = true;
    ip.begin = at;
    ip.src = Address::v6(header.u64(8), header.u64(16));
    ip.dst = Address::v6(header.u64(24), header.u64(32));
    ip.proto = header.u8(6) as u16;
    ip.at = at + 40;
    ip.end = at + 40 + header.u16(4) as u32;
    ip.hop_limit = header.u8(7);
    if ip.end > limit {
        ip.raised.push(Reason::Truncated);
        ip.end = limit;
    }
    if ip.dst.is_martian() {
        ip.raised.push(Reason::Martian);
    }
    if is_extension(ip.proto, true) {
        extensions(frame, ip);
    }
}

/// Hop-by-hop, routing, fragment, AH, destination options, mobility, HIP, shim6.
/// IPv4 knows AH alone.
#[inline(always)]
const fn is_extension(proto: u16, v6: bool) -> bool {
    if proto == 51 {
        return true;
    }
    v6 && matches!(proto, 0 | 43 | 44 | 60 | 135 | 139 | 140)
}

/// Walks extension headers from `ip.proto` at `ip.at` to the transport.
#[inline(never)]
fn extensions<F: Frame + ?Sized>(frame: &F, ip: &mut Ip) {
    let v6 = ip.dst.v6;
    repeat(MAX_EXTENSION_HEADERS as u32, |_| {
        if !is_extension(ip.proto, v6) {
            return true;
        }
        let length = match frame.view::<8>(ip.at) {
            Some(header) if ip.at + 8 <= ip.end => {
                let next = header.u8(0) as u16;
                let length = match ip.proto {
                    44 => {
                        let offset = header.u16(2);
                        ip.fragmented = true;
                        if offset >> 3 != 0 {
                            ip.fragment = Fragment::Later;
                            ip.proto = if is_extension(next, true) {
                                PROTO_UNKNOWN
                            } else {
                                next
                            };
                            ip.at += 8;
                            return true;
                        }
                        if offset & 1 != 0 {
                            ip.fragment = Fragment::First;
                        }
                        8
                    }
                    // RFC 4302: in 4-byte units, less 2.
                    51 => (header.u8(1) as u32 + 2) * 4,
                    proto => {
                        if proto == 43 && header.u8(3) != 0 {
                            ip.routing_header = true;
                        }
                        (header.u8(1) as u32 + 1) * 8
                    }
                };
                ip.proto = next;
                length
            }
            _ => {
                if ip.proto == 43
                    && ip.at + 4 <= ip.end
                    && let Some(header) = frame.view::<4>(ip.at)
                    && header.u8(3) != 0
                {
                    ip.routing_header = true;
                }
                u32::MAX
            }
        };
        // Compared so that no sum can overflow.
        if length > ip.end.saturating_sub(ip.at) {
            ip.proto = PROTO_UNKNOWN;
            // Also of a first fragment: it has the whole chain (RFC 7112), or what the
            // chain leads to could hide in the next one.
            ip.raised.push(Reason::Truncated);
            return true;
        }
        ip.at += length;
        false
    });
    // Where it ended sooner, it is none.
    if is_extension(ip.proto, v6) {
        ip.proto = PROTO_UNKNOWN;
        ip.raised.push(Reason::HeaderChain);
    }
}
