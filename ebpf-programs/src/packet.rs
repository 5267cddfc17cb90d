//! Headers: how bytes are read, tags, IPv4 and IPv6 with all that can stand
//! between the fixed header and the transport.
//!
//! Parsing says what was met, in order of reading, and judges nothing: which
//! reasons end a packet is the zone's setting, known to [`crate::verdict`].
//! Nothing is read past the length that a header declares.
//!
//! IEEE 802.1Q, RFC 791, RFC 8200, RFC 4302 (AH), RFC 2516 (PPPoE).

use crate::{
    layout::{MAX_EXTENSION_HEADERS, MAX_TAGS, Reason},
    opaque::{in_memory, opaque},
};

/// A frame from its destination MAC address on.
pub trait Frame {
    /// A window of `N` bytes.
    type View<const N: usize>: View;

    /// Length of the whole frame, bytes.
    fn len(&self) -> u32;

    /// As `len`; of the first piece, where that is all that can be read.
    #[inline(always)]
    fn reach(&self) -> u64 {
        self.len() as u64
    }

    /// Whether there is no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `N` bytes from offset `at`, if the frame has them.
    fn view<const N: usize>(&self, at: u32) -> Option<Self::View<N>>;
}

/// Bytes that are known to be there. Offsets are constants below the window's size.
pub trait View {
    /// One byte.
    fn u8(&self, at: usize) -> u8;
    /// Two bytes in network order.
    fn u16(&self, at: usize) -> u16;
    /// Four bytes in network order.
    fn u32(&self, at: usize) -> u32;
    /// Eight bytes in network order.
    fn u64(&self, at: usize) -> u64;
    /// Two bytes as they stand in memory, to be compared with a `to_be()`: nothing is
    /// turned around for that.
    #[inline(always)]
    fn raw_u16(&self, at: usize) -> u16 {
        self.u16(at).to_be()
    }
    /// As `raw_u16`, four bytes.
    #[inline(always)]
    fn raw_u32(&self, at: usize) -> u32 {
        self.u32(at).to_be()
    }
    /// As `raw_u16`, eight bytes.
    #[inline(always)]
    fn raw_u64(&self, at: usize) -> u64 {
        self.u64(at).to_be()
    }
}

impl<const N: usize> View for [u8; N] {
    #[inline(always)]
    fn u8(&self, at: usize) -> u8 {
        self[at]
    }
    #[inline(always)]
    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes([self[at], self[at + 1]])
    }
    #[inline(always)]
    fn u32(&self, at: usize) -> u32 {
        (self.u16(at) as u32) << 16 | self.u16(at + 2) as u32
    }
    #[inline(always)]
    fn u64(&self, at: usize) -> u64 {
        (self.u32(at) as u64) << 32 | self.u32(at + 4) as u64
    }
}

/// A frame in userspace.
impl Frame for [u8] {
    type View<const N: usize> = [u8; N];

    fn len(&self) -> u32 {
        u32::try_from(<[u8]>::len(self)).unwrap_or(u32::MAX)
    }

    fn view<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.get(at as usize..)?.first_chunk().copied()
    }
}

/// An address of either family, in host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// High 64 bits of an IPv6 address, 0 for IPv4.
    pub hi: u64,
    /// Low 64 bits, or the IPv4 address.
    pub lo: u64,
    /// Which family.
    pub v6: bool,
}

impl Address {
    /// An IPv4 address.
    #[must_use]
    #[inline(always)]
    pub const fn v4(address: u32) -> Self {
        Self {
            hi: 0,
            lo: address as u64,
            v6: false,
        }
    }

    /// An IPv6 address.
    #[must_use]
    #[inline(always)]
    pub const fn v6(hi: u64, lo: u64) -> Self {
        Self { hi, lo, v6: true }
    }

    /// 0.0.0.0 or `::`.
    #[must_use]
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        self.hi == 0 && self.lo == 0
    }

    /// 169.254/16 (RFC 3927) or fe80::/10 (RFC 4291).
    #[must_use]
    #[inline(always)]
    pub const fn is_link_local(self) -> bool {
        if self.v6 {
            self.hi >> 54 == 0xfe80 >> 6
        } else {
            self.lo >> 16 == 0xa9fe
        }
    }

    /// Loopback, 0/8 or unspecified: nothing on a wire goes there.
    #[must_use]
    #[inline(always)]
    pub const fn is_martian(self) -> bool {
        if self.v6 {
            self.hi == 0 && self.lo <= 1
        } else {
            self.lo >> 24 == 127 || self.lo >> 24 == 0
        }
    }
}

/// Tags of a frame, up to its real ethertype.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tags {
    /// First counting VID, 0: none.
    pub outer: u16,
    /// Second counting VID, 0: none.
    pub inner: u16,
    /// Counting tags.
    pub counting: u32,
    /// What follows the tags.
    pub ethertype: u16,
    /// Where what follows begins.
    pub at: u32,
    /// Nothing more could be read.
    pub truncated: bool,
    /// There is a ninth tag.
    pub ninth: bool,
}

/// Whether a tag follows.
#[must_use]
#[inline(always)]
pub const fn is_tpid(ethertype: u16) -> bool {
    ethertype == 0x8100 || ethertype == 0x88a8 || ethertype == 0x9100
}

/// Reads the Ethernet header and up to eight tags. VID 0 does not count.
#[inline(always)]
pub fn tags<F: Frame + ?Sized>(frame: &F) -> Tags {
    let mut tags = Tags::default();
    let Some(header) = frame.view::<14>(0) else {
        tags.truncated = true;
        return tags;
    };
    tags.at = 14;
    tags.ethertype = header.u16(12);
    let mut left = MAX_TAGS;
    while is_tpid(tags.ethertype) {
        if left == 0 {
            tags.ninth = true;
            return tags;
        }
        left -= 1;
        let Some(tag) = frame.view::<4>(tags.at) else {
            tags.count(last_vid(frame, tags.at));
            tags.truncated = true;
            return tags;
        };
        tags.count(tag.u16(0) & 0xfff);
        tags.ethertype = tag.u16(2);
        tags.at += 4;
    }
    tags
}

/// As [`tags`], where there is no room for copies of what is read.
#[inline(never)]
pub fn tags_into<F: Frame + ?Sized>(frame: &F, into: &mut Tags) {
    *into = tags(frame);
}

/// The VID of a tag that the frame ends behind; 0: it ends inside the tag.
#[inline(never)]
fn last_vid<F: Frame + ?Sized>(frame: &F, at: u32) -> u16 {
    match frame.view::<2>(at) {
        Some(tag) => tag.u16(0) & 0xfff,
        None => 0,
    }
}

impl Tags {
    #[inline(always)]
    fn count(&mut self, vid: u16) {
        if vid != 0 {
            match self.counting {
                0 => self.outer = vid,
                1 => self.inner = vid,
                _ => {}
            }
            self.counting += 1;
        }
    }
}

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
    /// Adds one behind those that are there. Eight fit; a packet meets fewer.
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
    /// Step 3 of the datapath: truncated, bad-header, martian, header-chain.
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
    for _ in 0..40 {
        if at >= end || at >= ip.end {
            return;
        }
        let Some(kind) = frame.view::<1>(at) else {
            return;
        };
        match kind.u8(0) {
            0 => return,
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
                    return;
                } else {
                    match frame.view::<2>(at) {
                        Some(option) => option.u8(1) as u32,
                        None => return,
                    }
                };
                if length < 2 || at + length > end {
                    ip.raised.push(Reason::BadHeader);
                    return;
                }
                at += length;
            }
        }
    }
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
    let mut ip = ip;
    for _ in 0..opaque(MAX_EXTENSION_HEADERS) {
        ip = in_memory(ip);
        if !is_extension(ip.proto, v6) {
            return;
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
                            return;
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
            return;
        }
        ip.at += length;
    }
    if is_extension(ip.proto, v6) {
        ip.proto = PROTO_UNKNOWN;
        ip.raised.push(Reason::HeaderChain);
    }
}

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
