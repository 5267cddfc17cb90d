//! Headers: how bytes are read, tags, IPv4 and IPv6 with all that can stand
//! between the fixed header and the transport.
//!
//! Parsing says what was met, in order of reading, and judges nothing: which
//! reasons end a packet is the zone's setting, known to [`crate::verdict`].
//! Nothing is read past the length that a header declares.
//!
//! - here: frames and windows in them, addresses.
//! - [`tags`]: VLAN tags (IEEE 802.1Q).
//! - [`ip`]: RFC 791, RFC 8200, RFC 4302 (AH).
//! - [`tunnel`]: what is inside, of PPPoE (RFC 2516) too.

pub mod ip;
pub mod tags;
pub mod tunnel;

pub use self::{
    ip::{Fragment, Ip, PROTO_UNKNOWN, Raised, ipv4, ipv6},
    tags::{Tags, is_tpid, tags_into},
    tunnel::{Inside, Pppoe, inside, is_tunnel, pppoe},
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

    /// The VID of the outermost tag, where that is not in the frame: tc has it beside. 0: a priority.
    #[inline(always)]
    fn beside(&self) -> Option<u16> {
        None
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

/// Whether the low half is an interface identifier of ISATAP (RFC 5214 section 6.1):
/// 0:5efe or 200:5efe before an IPv4 address.
#[must_use]
#[inline(always)]
pub const fn is_isatap(lo: u64) -> bool {
    lo >> 32 & !0x0200_0000 == 0x5efe
}
