//! The key of a ledger line: interface, sender's MAC address, source and destination address, protocol, destination
//! port, which of the addresses decided, and what became of the packets (the counter slot, which names the zone, too).
//!
//! The fast path and the slow path make the same key of a packet, but for bits that programs alone read: what is not in
//! [`FLOW_SAID`], the zone among it. So a flow that both paths meet has two lines, which readers add up.

use crate::{
    layout::{
        FLOW_DROPPED, FLOW_EPOCH_SHIFT, FLOW_FULL, FLOW_GIVEN, FLOW_HIDDEN, FLOW_INNER_V6,
        FLOW_INTERFACE_SHIFT, FLOW_JUDGED_SHIFT, FLOW_KNOWN, FLOW_OTHERS, FLOW_PORT,
        FLOW_PORT_SHIFT, FLOW_PROTO_SHIFT, FLOW_READABLE, FLOW_SAID, FLOW_V6, FLOW_ZONE_SHIFT,
        Flow, FlowLine, Judged, MAX_ZONES,
    },
    opaque,
    packet::{Fragment, Frame, Ip, PROTO_UNKNOWN, View},
    verdict::Verdict,
};

/// Where the fast path found the headers of a frame, and whose it is: the offset, [`HEADERS_V6`], and from
/// [`HEADERS_ZONE_SHIFT`] on the zone's id. 0: the packet is not recorded.
pub type Headers = u32;
/// The offset.
pub const HEADERS_AT: Headers = HEADERS_V6 - 1;
/// An IPv6 header.
pub const HEADERS_V6: Headers = 1 << 5;
/// Shift of the zone.
pub const HEADERS_ZONE_SHIFT: u32 = 6;
/// Bits of all of it.
pub const HEADERS_BITS: u32 = HEADERS_ZONE_SHIFT + 8;

const _: () = assert!(MAX_ZONES <= 1 << (HEADERS_BITS - HEADERS_ZONE_SHIFT));

impl Flow {
    /// The flow of a packet with a plain header, as the fast path takes them.
    #[inline(always)]
    #[must_use]
    pub fn plain<F: Frame + ?Sized>(
        frame: &F,
        headers: Headers,
        slot: u32,
        port: u32,
    ) -> Option<Self> {
        if headers & HEADERS_V6 == 0 {
            Self::of::<false, F>(frame, headers & HEADERS_AT, slot, port)
        } else {
            Self::of::<true, F>(frame, headers & HEADERS_AT, slot, port)
        }
    }

    /// As [`Self::plain`], of a family, with its headers `at` an offset.
    #[inline(always)]
    #[must_use]
    pub fn of<const V6: bool, F: Frame + ?Sized>(
        frame: &F,
        at: u32,
        slot: u32,
        port: u32,
    ) -> Option<Self> {
        let mut flow = Self {
            sender: mac(frame)?,
            ..Self::default()
        };
        let (proto, transport, length);
        if !V6 {
            let header = frame.view::<20>(at)?;
            // Two loads: where a destination was written just now, one over both would wait for it.
            flow.addresses[0] = header.raw_u32(12) as u64 | (header.raw_u32(16) as u64) << 32;
            (proto, transport) = (header.u8(9), at + 20);
            length = header.u16(2) as u32 - 20;
        } else {
            let header = frame.view::<40>(at)?;
            flow.addresses = [
                header.raw_u64(8),
                header.raw_u64(16),
                header.raw_u64(24),
                header.raw_u64(32),
            ];
            flow.identity = FLOW_V6;
            (proto, transport) = (header.u8(6), at + 40);
            length = header.u16(4) as u32;
        }
        flow.identity |= slot as u64
            | (port as u64) << FLOW_INTERFACE_SHIFT
            | (proto as u64) << FLOW_PROTO_SHIFT
            | (Judged::Destination as u64) << FLOW_JUDGED_SHIFT
            | FLOW_READABLE;
        if (proto == 6 || proto == 17)
            && length >= 4
            && let Some(ports) = frame.view::<4>(transport)
        {
            flow.sender |= (ports.u16(2) as u64) << FLOW_PORT_SHIFT;
            flow.identity |= FLOW_PORT;
        }
        Some(flow)
    }

    /// The flow of a packet that the slow path has read: `ip`, and `inner` in a tunnel. What was not
    /// understood has no addresses.
    #[inline(always)]
    #[must_use]
    pub fn read<F: Frame + ?Sized>(
        frame: &F,
        (ip, inner): (&Ip, &Ip),
        verdict: &Verdict,
        port: u32,
    ) -> Self {
        let mut flow = Self {
            sender: mac(frame).unwrap_or(0),
            identity: verdict.slot as u64
                | (port as u64) << FLOW_INTERFACE_SHIFT
                | (verdict.judged as u64) << FLOW_JUDGED_SHIFT,
            ..Self::default()
        };
        if verdict.judged as u8 == Judged::Nothing as u8 {
            return flow;
        }
        let (src, dst) = (ip.src, ip.dst);
        if dst.v6 {
            flow.addresses = [src.hi, src.lo, dst.hi, dst.lo].map(u64::to_be);
            flow.identity |= FLOW_V6;
        } else {
            flow.addresses[0] =
                (src.lo as u32).to_be() as u64 | ((dst.lo as u32).to_be() as u64) << 32;
        }
        if verdict.judged as u8 >= Judged::Inner as u8 {
            flow.addresses[2] = inner.dst.hi.to_be();
            flow.addresses[3] = inner.dst.lo.to_be();
            if inner.dst.v6 {
                flow.identity |= FLOW_INNER_V6;
            }
        }
        flow.identity |= FLOW_READABLE;
        if ip.proto == PROTO_UNKNOWN {
            flow.identity |= FLOW_HIDDEN;
            return flow;
        }
        flow.identity |= (ip.proto as u64 & 0xff) << FLOW_PROTO_SHIFT;
        if matches!(ip.fragment, Fragment::Later) {
            flow.identity |= FLOW_HIDDEN;
        } else if (ip.proto == 6 || ip.proto == 17)
            && ip.at + 4 <= ip.end
            && let Some(ports) = frame.view::<4>(ip.at)
        {
            flow.sender |= (ports.u16(2) as u64) << FLOW_PORT_SHIFT;
            flow.identity |= FLOW_PORT;
        }
        flow
    }

    /// What becomes of its packets follows from what stands in their headers, and from when they came
    /// (`now`: jiffies): see [`FLOW_KNOWN`].
    #[inline(always)]
    pub fn be_known(&mut self, headers: Headers, now: u64, is_dropped: bool) {
        self.identity |= FLOW_KNOWN
            | ((headers >> HEADERS_ZONE_SHIFT) as u64) << FLOW_ZONE_SHIFT
            | (now >> 32) << FLOW_EPOCH_SHIFT;
        if is_dropped {
            self.identity |= FLOW_DROPPED;
        }
    }

    /// 0: they differ in nothing that is known of a packet before it is judged. `V6`: of what IPv4 has not, either.
    #[inline(always)]
    #[must_use]
    pub fn differs<const V6: bool>(&self, other: &Self) -> u64 {
        let [a, b, c, d] = self.addresses;
        let differs = ((self.identity ^ other.identity) & FLOW_GIVEN)
            | (self.sender ^ other.sender)
            | (a ^ other.addresses[0]);
        if !V6 {
            return differs;
        }
        differs | (b ^ other.addresses[1]) | (c ^ other.addresses[2]) | (d ^ other.addresses[3])
    }

    /// What its source sends beyond its budget: no destination.
    #[inline(always)]
    pub fn be_others(&mut self) {
        if self.identity & FLOW_V6 == 0 {
            self.addresses[0] &= 0xffff_ffff;
        }
        self.addresses[2] = 0;
        self.addresses[3] = 0;
        self.sender &= (1 << FLOW_PORT_SHIFT) - 1;
        self.identity &=
            FLOW_SAID & !(0xff << FLOW_PROTO_SHIFT | FLOW_PORT | FLOW_HIDDEN | FLOW_INNER_V6);
        self.identity |= FLOW_OTHERS;
    }

    /// Of all that it is made of, but what became of it where that is known by the rest; the upper bits
    /// are the good ones.
    #[inline(always)]
    #[must_use]
    pub fn hash(&self) -> u64 {
        let [a, b, c, d] = self.addresses;
        let identity = if self.identity & FLOW_KNOWN == 0 {
            self.identity
        } else {
            self.identity & FLOW_GIVEN & ((1 << FLOW_EPOCH_SHIFT) - 1)
        };
        let mut hash = (a ^ identity).wrapping_mul(ODD[0]) ^ self.sender.wrapping_mul(ODD[1]);
        if self.identity & FLOW_V6 != 0 {
            hash ^= (b ^ c.rotate_left(32)).wrapping_mul(ODD[2]) ^ d.wrapping_mul(ODD[3]);
        }
        (hash ^ hash >> 32).wrapping_mul(ODD[0])
    }

    /// Of its source: the upper bits are the good ones.
    #[inline(always)]
    #[must_use]
    pub fn source_hash(&self) -> u64 {
        let (mut hash, mac) = (self.addresses[0], self.sender << 16);
        if self.identity & FLOW_V6 == 0 {
            hash &= 0xffff_ffff;
        } else {
            hash ^= self.addresses[1].rotate_left(32);
        }
        (hash.wrapping_mul(ODD[1]) ^ mac).wrapping_mul(ODD[0])
    }
}

impl FlowLine {
    /// Whether it is of a flow, and can take more at this moment: jiffies. One branch: each would be a path of
    /// its own to the verifier.
    #[inline(always)]
    #[must_use]
    pub fn is_of(&self, flow: &Flow, now: u32) -> bool {
        let [a, b, c, d] = self.flow.addresses;
        let differs = (self.flow.identity ^ flow.identity)
            | (self.flow.sender ^ flow.sender)
            | (a ^ flow.addresses[0])
            | (b ^ flow.addresses[1])
            | (c ^ flow.addresses[2])
            | (d ^ flow.addresses[3])
            | self.takes_no_more(now);
        opaque::branchless(differs) == 0
    }

    /// 0: it can take more.
    #[inline(always)]
    fn takes_no_more(&self, now: u32) -> u64 {
        (now.wrapping_sub(self.first) >> 16) as u64 | (self.bytes & FLOW_FULL) as u64
    }

    /// Whether it says what becomes of a packet of this flow, of which only that is not known
    /// ([`FLOW_KNOWN`]), at this moment: it is the flow's, and nothing has changed by which the last packet of
    /// it was judged ([`Planes::settled`](crate::layout::Planes::settled)). `now` was read before
    /// `settled` was.
    #[inline(always)]
    #[must_use]
    pub fn says<const V6: bool>(&self, flow: &Flow, now: u64, settled: u64) -> bool {
        let differs = self.flow.differs::<V6>(flow) | self.takes_no_more(now as u32);
        // The last packet was judged so long ago.
        let ago = (now as u32)
            .wrapping_sub(self.first)
            .wrapping_sub(self.span as u32);
        // Not before the change was over, and not in the moment when it was.
        let is_settled = (ago as i64) < now.wrapping_sub(settled) as i64;
        opaque::branchless(differs) == 0 && is_settled
    }

    /// Adds packets.
    #[inline(always)]
    pub fn add(&mut self, now: u32, packets: u32, bytes: u32) {
        self.packets += packets;
        self.bytes += bytes;
        self.span = (now - self.first) as u16;
    }
}

/// Odd numbers without a pattern: the fractions of the square roots of 2, 3, 5 and 7.
const ODD: [u64; 4] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
];

/// The sender's MAC address.
#[inline(always)]
fn mac<F: Frame + ?Sized>(frame: &F) -> Option<u64> {
    let head = frame.view::<12>(0)?;
    Some(head.raw_u32(6) as u64 | (head.raw_u16(10) as u64) << 32)
}
