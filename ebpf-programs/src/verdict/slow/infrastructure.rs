//! What passes before any rule: frames that are not IP and cannot leave their link
//! (step 2 of [`super`]), and packets that keep a link alive (step 4).
//!
//! Whatever passes here passes in every zone, so it is let through only as what it can
//! be: by its destination, its source, its headers and the lengths that its RFC gives
//! it. Functions of their own throughout: this is rare, and the other ways must not pay.
//!
//! IEEE 802.1Q table 8-1, RFC 826 (ARP), RFC 2516 (PPPoE), RFC 4861 (neighbour
//! discovery), RFC 2710 and 3810 (MLD), RFC 1112, 2236 and 3376 (IGMP), RFC 2113 and 2711
//! (router alert), RFC 2131 (DHCPv4), RFC 8415 (DHCPv6).

use super::{Decision, Observer};
use crate::{
    layout::{VERDICT_ROUTER, ZONE_PPPOE},
    packet::{Address, Frame, View},
    repeat::repeat,
    verdict::Tables,
};

/// Options of one neighbour discovery message, at most. Messages with keys (RFC 3971)
/// have five.
const MAX_OPTIONS: usize = 8;
/// Groups in one report of IGMP, and of MLD, at most: as many as a packet of 1,500 bytes has.
/// Hosts begin another report where that ends.
const MAX_RECORDS: (u32, u32) = (184, 72);
/// An ARP packet is 28 bytes long; what an Ethernet frame is padded to stands behind it.
const ARP: core::ops::RangeInclusive<u32> = 28..=64;
/// Ethernet, IPv4, lengths of their addresses; the operation follows.
const ARP_HEADER: u64 = 0x0001_0800_0604;
/// The option of RFC 2113, of IGMP.
const ROUTER_ALERT: u32 = 0x9404_0000;
/// What a DHCP message has before its options, the magic cookie included.
const DHCP_HEADER: u32 = 240;
const DHCP_COOKIE: u32 = 0x6382_5363;
const UDP_HEADER: u32 = 8;

impl<F: Frame + ?Sized, T: Tables, O: Observer> Decision<'_, F, T, O> {
    /// Step 2: a frame of a protocol that no router forwards, and no bridge either where
    /// it could carry anything.
    #[inline(never)]
    pub(super) fn is_of_the_link(&self) -> bool {
        match self.work.tags.ethertype {
            0x0806 => self.is_arp(),
            0x8863 => self.zone.flags & ZONE_PPPOE != 0 && self.is_pppoe_discovery(),
            // LLDP, EAPOL, slow protocols, 802.3.
            0x88cc | 0x888e | 0x8809 | 0..0x600 => self.is_link_local_group(),
            _ => false,
        }
    }

    /// 01:80:c2:00:00:0x: bridges keep it.
    #[inline(always)]
    fn is_link_local_group(&self) -> bool {
        match self.frame.view::<6>(0) {
            Some(mac) => mac.u32(0) == 0x0180_c200 && mac.u16(4) & 0xfff0 == 0,
            None => false,
        }
    }

    /// A request or an answer of IPv4 over Ethernet. It goes to hosts of the same link,
    /// so it may have no room for more than it says.
    #[inline(always)]
    fn is_arp(&self) -> bool {
        let at = self.work.tags.at;
        match self.frame.view::<8>(at) {
            Some(header) => {
                ARP.contains(&(self.frame.len() - at))
                    && header.u64(0) >> 16 == ARP_HEADER
                    && matches!(header.u16(6), 1 | 2)
            }
            None => false,
        }
    }

    /// What a client says: PADI, PADR, PADT.
    #[inline(always)]
    fn is_pppoe_discovery(&self) -> bool {
        let at = self.work.tags.at;
        match self.frame.view::<6>(at) {
            Some(header) => {
                matches!(header.u16(0), 0x1109 | 0x1119 | 0x11a7)
                    && at + 6 + header.u16(4) as u32 <= self.frame.len()
            }
            None => false,
        }
    }

    /// Whether protocol, type and destination are those of step 4. Whose source is forged
    /// is told before anything else about such a packet.
    #[inline(never)]
    pub(super) fn looks_like_infrastructure(&mut self) -> bool {
        let ip = &self.work.ip;
        if ip.fragmented {
            return false;
        }
        match (ip.dst.v6, ip.proto) {
            (true, 58) => {
                let on_link_group = ip.dst.hi >> 48 == 0xff02;
                match self.kind() {
                    133 | 135 | 136 => {
                        ip.hop_limit == 255
                            && (on_link_group
                                || ip.dst.is_link_local()
                                || self.word(ip.dst) & VERDICT_ROUTER != 0)
                    }
                    130 | 131 | 132 | 143 => on_link_group,
                    _ => false,
                }
            }
            // All_DHCP_Relay_Agents_and_Servers.
            (true, 17) => {
                ip.dst.hi == 0xff02 << 48 && ip.dst.lo == 0x1_0002 && self.has_ports(546, 547)
            }
            (false, 2) => ip.dst.lo >> 8 == 0xe0_0000 && ip.at <= ip.end,
            (false, 17) if ip.dst.lo == 0xffff_ffff && self.has_ports(68, 67) => {
                // A client that asks again gives its address here, and may send from none.
                if ip.src.is_unspecified()
                    && let Some(client) = self.frame.view::<4>(ip.at + UDP_HEADER + 12)
                {
                    self.work.source = Address::v4(client.u32(0));
                }
                true
            }
            _ => false,
        }
    }

    /// Whether what looks like infrastructure can be it: nothing is wrong with it, no
    /// header stands before it that could be meant for others, and it is as long as it says.
    #[inline(never)]
    pub(super) fn is_infrastructure(&self) -> bool {
        let ip = &self.work.ip;
        if self.work.noted != 0 || ip.end < ip.at {
            return false;
        }
        let headers = ip.at - ip.begin;
        match (ip.dst.v6, ip.proto) {
            (true, 58) => match self.kind() {
                133 => headers == 40 && self.is_discovery(8),
                135 | 136 => headers == 40 && self.is_discovery(24),
                kind => {
                    (headers == 40 || headers == 48 && self.is_behind_router_alert())
                        && self.is_membership(kind == 143, kind == 130, 24, 16)
                }
            },
            (true, _) => headers == 40 && self.is_dhcpv6(),
            (false, 2) => {
                let kind = self.kind();
                (headers == 20 || headers == 24 && self.has_router_alert())
                    && matches!(kind, 0x11 | 0x12 | 0x16 | 0x17 | 0x22)
                    && self.is_membership(kind == 0x22, kind == 0x11, 8, 4)
            }
            (false, _) => headers == 20 && self.is_dhcpv4(),
        }
    }

    /// The first byte behind the headers; 0 where there is none.
    #[inline(always)]
    fn kind(&self) -> u8 {
        let ip = &self.work.ip;
        if ip.at >= ip.end {
            return 0;
        }
        match self.frame.view::<1>(ip.at) {
            Some(header) => header.u8(0),
            None => 0,
        }
    }

    #[inline(always)]
    fn has_ports(&self, source: u16, destination: u16) -> bool {
        if self.work.ip.at + 4 > self.work.ip.end {
            return false;
        }
        match self.frame.view::<4>(self.work.ip.at) {
            Some(ports) => ports.u16(0) == source && ports.u16(2) == destination,
            None => false,
        }
    }

    /// An RS, NS or NA: code 0, a fixed part of this length, options that fit.
    #[inline(never)]
    fn is_discovery(&self, fixed: u32) -> bool {
        let (mut at, end) = (self.work.ip.at, self.work.ip.end);
        match self.frame.view::<2>(at) {
            Some(header) if header.u8(1) == 0 && end - at >= fixed => at += fixed,
            _ => return false,
        }
        for _ in 0..MAX_OPTIONS {
            if at == end {
                return true;
            }
            let Some(option) = self.frame.view::<2>(at) else {
                return false;
            };
            let length = option.u8(1) as u32 * 8;
            if length == 0 || length > end.saturating_sub(at) {
                return false;
            }
            at += length;
        }
        at == end
    }

    /// Whether the first header is hop-by-hop and has nothing but the router alert of
    /// MLD, where RFC 2711 aligns it, and padding.
    #[inline(never)]
    fn is_behind_router_alert(&self) -> bool {
        let begin = self.work.ip.begin;
        let Some(fixed) = self.frame.view::<8>(begin) else {
            return false;
        };
        if fixed.u8(6) != 0 {
            return false;
        }
        let Some(header) = self.frame.view::<8>(begin + 40) else {
            return false;
        };
        let (before, after) = (header.u64(0) & !0xffff_0000_0000, header.u64(0) & !0xffff);
        const ICMP6: u64 = 58 << 56;
        let padding = |option: u64| option == 0 || option == 0x100;
        after == ICMP6 | 0x0502_0000 << 16 && padding(header.u16(6) as u64)
            || before == ICMP6 | 0x0502_0000 && padding(header.u16(2) as u64)
    }

    /// Whether the one option of an IPv4 header of 24 bytes is the router alert.
    #[inline(always)]
    fn has_router_alert(&self) -> bool {
        match self.frame.view::<4>(self.work.ip.begin + 20) {
            Some(option) => option.u32(0) == ROUTER_ALERT,
            None => false,
        }
    }

    /// Whether an IGMP or MLD message is as long as it says. `first`: what those of the
    /// first version have; queries of the last have four bytes and sources behind it, its
    /// reports have records. `width`: bytes of an address.
    #[inline(never)]
    fn is_membership(&self, report: bool, query: bool, first: u32, width: u32) -> bool {
        let (at, end) = (self.work.ip.at, self.work.ip.end);
        let length = end - at;
        if report {
            return match self.frame.view::<8>(at) {
                Some(header) => self.has_records(at + 8, header.u16(6) as u32, width),
                None => false,
            };
        }
        if length <= first || !query {
            return length == first;
        }
        match self.frame.view::<2>(at + first + 2) {
            Some(sources) => length == first + 4 + sources.u16(0) as u32 * width,
            None => false,
        }
    }

    /// Whether this many records stand from `at` to the packet's end: four bytes, the
    /// group, its sources. Auxiliary data there is none (RFC 3376 4.2.10, RFC 3810 5.2.10).
    #[inline(never)]
    fn has_records(&self, mut at: u32, count: u32, width: u32) -> bool {
        let (frame, end) = (self.frame, self.work.ip.end);
        let most = if width == 4 {
            MAX_RECORDS.0
        } else {
            MAX_RECORDS.1
        };
        let mut is_sound = count <= most;
        repeat(most, |record| {
            if record >= count {
                return true;
            }
            let length = match frame.view::<4>(at) {
                Some(header) if header.u8(1) == 0 => 4 + width * (1 + header.u16(2) as u32),
                _ => u32::MAX,
            };
            is_sound &= length <= end.saturating_sub(at);
            at = at.wrapping_add(length);
            !is_sound
        });
        is_sound && at == end
    }

    /// A client's request, not one that a relay has signed: a server answers to the
    /// relay's address in it, and to the client's, which must be the sender's or, from
    /// nowhere, was checked in its place.
    #[inline(never)]
    fn is_dhcpv4(&self) -> bool {
        let (at, end) = (self.work.ip.at, self.work.ip.end);
        // One after the other, here and above: of three that are read before any is looked at, the
        // compiler reads some where they were never put, which Linux 6.1 refuses.
        let Some(udp) = self.frame.view::<8>(at) else {
            return false;
        };
        if udp.u16(4) as u32 != end - at || end - at < UDP_HEADER + DHCP_HEADER {
            return false;
        }
        let cookie_at = at + UDP_HEADER + DHCP_HEADER - 4;
        let Some(cookie) = self.frame.view::<4>(cookie_at) else {
            return false;
        };
        if cookie.u32(0) != DHCP_COOKIE {
            return false;
        }
        let Some(body) = self.frame.view::<28>(at + UDP_HEADER) else {
            return false;
        };
        let (client, relay) = (body.u32(12), body.u32(24));
        body.u8(0) == 1 && relay == 0 && (client == 0 || client == self.work.source.lo as u32)
    }

    /// A client's message. A relay would deliver what is in another relay's.
    #[inline(never)]
    fn is_dhcpv6(&self) -> bool {
        let (at, end) = (self.work.ip.at, self.work.ip.end);
        match self.frame.view::<12>(at) {
            Some(udp) => {
                udp.u16(4) as u32 == end - at
                    && end - at >= UDP_HEADER + 4
                    && matches!(udp.u8(8), 1 | 3 | 4 | 5 | 6 | 8 | 9 | 11 | 36)
            }
            None => false,
        }
    }
}
