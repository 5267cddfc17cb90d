//! The decision: a frame, a port and a generation in, a verdict out.
//!
//! The order of work is the datapath's: tags and zone, ethertype, headers,
//! infrastructure, what hides the destination, the source, the rules. The same
//! code runs in the kernel and in userspace; an [`Observer`] that watches costs
//! nothing in the kernel, where it is empty.
//!
//! What no builder writes (an index out of range) ends in a drop.

use crate::{
    layout::{
        ASN_PAGE, Action, GROUP_BITS, GROUP_MASK, Generation, Judged, LAYOUT_VERSION, MAX_NAT64,
        MAX_WALK, MAX_ZONE_SOURCES, NO_CLASS, Nat64, PAIR_PROBES, PAIR_SLOTS, Pair, Port, Prefix,
        Reason, STEP_ICMP, STEP_PORTS, STEP_PROTO, Step, TUNNEL_INSPECT, VERDICT_ACTION_SHIFT,
        VERDICT_INDEX, VERDICT_ROUTER, VERDICT_SPOOFED, VERDICT_STEPS, VID_HAS_PAIRS, VID_ZONE,
        ZONE_PPPOE, ZONE_SOURCES_LISTED, ZONE_SOURCES_UNCHECKED, Zone, pair_hash, pair_key,
        setting_shift,
    },
    packet::{
        self, Address, Fragment, Frame, Inside, Ip, PROTO_UNKNOWN, Pppoe, Raised, Tags, View,
    },
    table::{ReadTable, class_v4, class_v6},
};

/// "No counter".
pub const NO_SLOT: u32 = u32::MAX;

/// What happens to one frame, and what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What happens.
    pub action: Action,
    /// Counter of (zone, reason or rule, action), or [`NO_SLOT`].
    pub slot: u32,
    /// Counter of (zone, ASN, action), or [`NO_SLOT`].
    pub asn_slot: u32,
    /// Class of the judged address, or [`NO_CLASS`].
    pub class: u32,
    /// Which address decided.
    pub judged: Judged,
    /// Bit r: reason `FIRST_UNPARSABLE + r` was met and ignored.
    pub noted: u16,
    /// First of the zone's fixed counters, for what was noted.
    pub slot_base: u32,
}

impl Verdict {
    const UNPOLICED: Self = Self {
        action: Action::Pass,
        slot: NO_SLOT,
        asn_slot: NO_SLOT,
        class: NO_CLASS,
        judged: Judged::Nothing,
        noted: 0,
        slot_base: 0,
    };

    #[inline(always)]
    fn fixed(base: u32, reason: Reason, action: Action) -> Self {
        Self {
            action,
            slot: base + reason.fixed_slot(action),
            slot_base: base,
            ..Self::UNPOLICED
        }
    }
}

/// One generation, as far as a verdict reads it.
pub trait Tables {
    /// Whether there is one, in this layout.
    fn is_live(&self) -> bool;
    /// A policed interface.
    fn port(&self, port: u32) -> Option<&Port>;
    /// Word of a VID table.
    fn vid(&self, table: u16, vid: u16) -> u16;
    /// A QinQ pair; `slot` is below [`PAIR_SLOTS`].
    fn pair(&self, slot: u32) -> Option<&Pair>;
    /// A zone.
    fn zone(&self, id: u32) -> Option<&Zone>;
    /// A source prefix.
    fn source(&self, index: u32) -> Option<&Prefix>;
    /// Configured NAT64 prefixes in use.
    fn nat64_len(&self) -> u32;
    /// A configured NAT64 prefix.
    fn nat64(&self, index: u32) -> Option<&Nat64>;
    /// A verdict word.
    fn verdict(&self, index: u32) -> Option<u32>;
    /// A step of a walk.
    fn step(&self, index: u32) -> Option<&Step>;
    /// First counter slot of a page, 0: none.
    fn asn_page(&self, index: u32) -> u32;
    /// Group and ordinal of a class.
    fn class_word(&self, class: u32) -> Option<u32>;
    /// The class of an address.
    fn class(&self, address: Address) -> u32;
}

/// A generation and its table.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a, G, T> {
    /// From the policy.
    pub generation: &'a G,
    /// From the ASN database.
    pub table: &'a T,
}

impl<const CLASSES: usize, T: ReadTable> Tables for Live<'_, Generation<CLASSES>, T> {
    #[inline(always)]
    fn is_live(&self) -> bool {
        self.generation.version == LAYOUT_VERSION
    }
    #[inline(always)]
    fn port(&self, port: u32) -> Option<&Port> {
        self.generation.ports.get(port as usize)
    }
    #[inline(always)]
    fn vid(&self, table: u16, vid: u16) -> u16 {
        match self.generation.vid_tables.get(table as usize) {
            Some(table) => table[(vid & 0xfff) as usize],
            None => 0,
        }
    }
    #[inline(always)]
    fn pair(&self, slot: u32) -> Option<&Pair> {
        self.generation.pairs.get(slot as usize)
    }
    #[inline(always)]
    fn zone(&self, id: u32) -> Option<&Zone> {
        self.generation.zones.get(id as usize)
    }
    #[inline(always)]
    fn source(&self, index: u32) -> Option<&Prefix> {
        self.generation.sources.get(index as usize)
    }
    #[inline(always)]
    fn nat64_len(&self) -> u32 {
        self.generation.nat64_len
    }
    #[inline(always)]
    fn nat64(&self, index: u32) -> Option<&Nat64> {
        self.generation.nat64.get(index as usize)
    }
    #[inline(always)]
    fn verdict(&self, index: u32) -> Option<u32> {
        self.generation.verdicts.get(index as usize).copied()
    }
    #[inline(always)]
    fn step(&self, index: u32) -> Option<&Step> {
        self.generation.steps.get(index as usize)
    }
    #[inline(always)]
    fn asn_page(&self, index: u32) -> u32 {
        match self.generation.asn_pages.get(index as usize) {
            Some(page) => *page,
            None => 0,
        }
    }
    #[inline(always)]
    fn class_word(&self, class: u32) -> Option<u32> {
        self.generation.class_words.get(class as usize).copied()
    }
    #[inline(always)]
    fn class(&self, address: Address) -> u32 {
        if address.v6 {
            class_v6(self.table, address.hi, address.lo)
        } else {
            class_v4(self.table, address.lo as u32)
        }
    }
}

/// What a verdict was made of, for explaining. All methods do nothing by default.
pub trait Observer {
    /// The zone's id and the frame's tags.
    fn zone(&mut self, _id: u32, _tags: &Tags) {}
    /// The headers of the packet.
    fn ip(&mut self, _ip: &Ip) {}
    /// The headers of the packet inside a tunnel.
    fn inner(&mut self, _ip: &Ip) {}
    /// An address, its class and what the rules said of it.
    fn judged(&mut self, _judged: Judged, _address: Address, _class: u32, _action: Action) {}
    /// A reason was met and the zone's setting is not to drop.
    fn noted(&mut self, _reason: Reason) {}
}

impl Observer for () {}

/// Decides one frame that arrived on a port.
#[inline(always)]
pub fn decide<F: Frame + ?Sized, T: Tables, O: Observer>(
    frame: &F,
    port: u32,
    tables: &T,
    observer: &mut O,
) -> Verdict {
    let Some(port) = tables.port(port) else {
        return Verdict {
            action: Action::Drop,
            ..Verdict::UNPOLICED
        };
    };
    let tags = packet::tags(frame);
    let word = zone_word(tables, port.vid_table, &tags);
    if tags.ninth {
        let base = match tables.zone(word.wrapping_sub(1)) {
            Some(zone) if word != 0 => {
                observer.zone(word - 1, &tags);
                zone.slot_base
            }
            _ => port.slot_base,
        };
        return Verdict::fixed(base, Reason::VlanDepth, Action::Drop);
    }
    if word == 0 {
        if port.drop_unknown != 0 {
            return Verdict::fixed(port.slot_base, Reason::NoZone, Action::Drop);
        }
        return Verdict::UNPOLICED;
    }
    let Some(zone) = tables.zone(word - 1) else {
        return Verdict {
            action: Action::Drop,
            ..Verdict::UNPOLICED
        };
    };
    observer.zone(word - 1, &tags);
    Decision {
        frame,
        tables,
        zone,
        noted: 0,
        audited: None,
    }
    .frame(&tags, observer)
}

/// Zone id + 1 for the tags, 0: none.
#[inline(always)]
fn zone_word<T: Tables>(tables: &T, table: u16, tags: &Tags) -> u32 {
    let word = tables.vid(table, tags.outer);
    if word & VID_HAS_PAIRS != 0 && tags.inner != 0 {
        let key = pair_key(table, tags.outer, tags.inner);
        let mut slot = pair_hash(key);
        for _ in 0..PAIR_PROBES {
            match tables.pair(slot & (PAIR_SLOTS as u32 - 1)) {
                Some(pair) if pair.key == key => return pair.zone,
                Some(pair) if pair.zone != 0 => {}
                _ => break,
            }
            slot += 1;
        }
    }
    (word & VID_ZONE) as u32
}

/// What the rules say of one address.
#[derive(Clone, Copy)]
struct Outcome {
    action: Action,
    slot: u32,
    class: u32,
    judged: Judged,
    /// A rule or the default decided, not a reason: the ASN is counted.
    by_rules: bool,
}

/// The addresses that a destination stands for.
struct Targets {
    first: Address,
    second: Address,
    third: Address,
    count: u32,
}

struct Decision<'a, F: ?Sized, T> {
    frame: &'a F,
    tables: &'a T,
    zone: &'a Zone,
    noted: u16,
    /// The first reason whose setting is `audit`.
    audited: Option<Reason>,
}

impl<F: Frame + ?Sized, T: Tables> Decision<'_, F, T> {
    #[inline(always)]
    fn setting(&self, reason: Reason) -> u32 {
        self.zone.settings >> setting_shift(reason) & 3
    }

    #[inline(always)]
    fn fixed(&self, reason: Reason, action: Action) -> Verdict {
        let mut verdict = Verdict::fixed(self.zone.slot_base, reason, action);
        verdict.noted = self.noted;
        if reason.is_unparsable() {
            verdict.noted &= !bit(reason);
        }
        verdict
    }

    /// A reason was met: true when its setting ends the packet.
    #[inline(always)]
    fn drops<O: Observer>(&mut self, reason: Reason, observer: &mut O) -> bool {
        match Action::from_bits(self.setting(reason)) {
            Action::Drop => return true,
            Action::Audit => {
                if self.audited.is_none() {
                    self.audited = Some(reason);
                }
            }
            Action::Pass => {}
        }
        observer.noted(reason);
        self.noted |= bit(reason);
        false
    }

    /// Where no destination can be read, the setting decides.
    #[inline(always)]
    fn unreadable<O: Observer>(mut self, reason: Reason, observer: &mut O) -> Verdict {
        if self.drops(reason, observer) {
            return self.fixed(reason, Action::Drop);
        }
        match self.audited {
            Some(first) => self.fixed(first, Action::Audit),
            None => self.fixed(reason, Action::Pass),
        }
    }

    #[inline(always)]
    fn frame<O: Observer>(self, tags: &Tags, observer: &mut O) -> Verdict {
        if tags.counting > 2 {
            return self.fixed(Reason::VlanDepth, Action::Drop);
        }
        if tags.truncated {
            return self.unreadable(Reason::Truncated, observer);
        }
        let (v6, at, limit) = match tags.ethertype {
            0x0800 => (false, tags.at, self.frame.len()),
            0x86dd => (true, tags.at, self.frame.len()),
            // ARP, LLDP, EAPOL, slow protocols.
            0x0806 | 0x88cc | 0x888e | 0x8809 => return self.fixed(Reason::NotIp, Action::Pass),
            0x8863 if self.zone.flags & ZONE_PPPOE != 0 => {
                return self.fixed(Reason::NotIp, Action::Pass);
            }
            0x8864 if self.zone.flags & ZONE_PPPOE != 0 => {
                match packet::pppoe(self.frame, tags.at) {
                    Pppoe::Ip(version, at, limit) => (version == 6, at, limit),
                    Pppoe::Control => return self.fixed(Reason::NotIp, Action::Pass),
                    Pppoe::Other => return self.unreadable(Reason::Ethertype, observer),
                    Pppoe::Truncated => return self.unreadable(Reason::Truncated, observer),
                    Pppoe::BadHeader => return self.unreadable(Reason::BadHeader, observer),
                }
            }
            length if length < 0x600 && self.is_link_local_group() => {
                return self.fixed(Reason::NotIp, Action::Pass);
            }
            _ => return self.unreadable(Reason::Ethertype, observer),
        };
        // Two calls, so that each family's copy is free of the other's branches.
        if v6 {
            let ip = packet::ipv6(self.frame, at, limit);
            self.ip(ip, observer)
        } else {
            let ip = packet::ipv4(self.frame, at, limit);
            self.ip(ip, observer)
        }
    }

    /// 01:80:c2:00:00:0x: bridges never forward it (IEEE 802.1Q, table 8-1).
    #[inline(always)]
    fn is_link_local_group(&self) -> bool {
        match self.frame.view::<6>(0) {
            Some(mac) => mac.u32(0) == 0x0180_c200 && mac.u16(4) & 0xfff0 == 0,
            None => false,
        }
    }

    #[inline(always)]
    fn ip<O: Observer>(mut self, ip: Ip, observer: &mut O) -> Verdict {
        observer.ip(&ip);
        if ip.raised != Raised(0) {
            if !ip.readable {
                return self.unreadable(reason_from(ip.raised.0), observer);
            }
            let mut codes = ip.raised.0;
            for _ in 0..5 {
                if codes != 0 {
                    let reason = reason_from(codes);
                    if self.drops(reason, observer) {
                        return self.judged(self.fixed(reason, Action::Drop));
                    }
                    codes >>= 4;
                }
            }
        }
        if !ip.fragmented && self.is_infrastructure(&ip) {
            return self.judged(self.fixed(Reason::Infrastructure, Action::Pass));
        }
        if ip.source_route && self.drops(Reason::SourceRoute, observer) {
            return self.judged(self.fixed(Reason::SourceRoute, Action::Drop));
        }
        if ip.routing_header && self.drops(Reason::RoutingHeader, observer) {
            return self.judged(self.fixed(Reason::RoutingHeader, Action::Drop));
        }
        let mut inspect = false;
        if is_tunnel(ip.proto) {
            if self.setting(Reason::Tunnel) == TUNNEL_INSPECT {
                inspect = true;
            } else if self.drops(Reason::Tunnel, observer) {
                return self.judged(self.fixed(Reason::Tunnel, Action::Drop));
            }
        }
        let mut inner = Ip::default();
        if inspect {
            match self.inner(&ip) {
                Some(found) => inner = found,
                None => return self.judged(self.fixed(Reason::Tunnel, Action::Drop)),
            }
            observer.inner(&inner);
        }
        if self.is_spoofed(&ip) && self.drops(Reason::SpoofedSource, observer) {
            return self.judged(self.fixed(Reason::SpoofedSource, Action::Drop));
        }
        let mut outcome = self.destinations(&ip, Judged::Destination, observer);
        if inspect {
            let inside = self.destinations(&inner, Judged::Inner, observer);
            if inside.action > outcome.action {
                outcome = inside;
            }
        }
        self.verdict(outcome)
    }

    /// Reasons are reported with the destination.
    #[inline(always)]
    fn judged(&self, mut verdict: Verdict) -> Verdict {
        verdict.judged = Judged::Destination;
        verdict
    }

    /// The rules' outcome, unless something that was noted is stricter.
    #[inline(always)]
    fn verdict(&self, outcome: Outcome) -> Verdict {
        if outcome.action == Action::Pass
            && let Some(reason) = self.audited
        {
            let mut verdict = self.judged(self.fixed(reason, Action::Audit));
            verdict.class = outcome.class;
            return verdict;
        }
        let mut asn_slot = NO_SLOT;
        if outcome.action != Action::Pass && outcome.by_rules {
            asn_slot = self.asn_slot(outcome);
        }
        Verdict {
            action: outcome.action,
            slot: outcome.slot,
            asn_slot,
            class: outcome.class,
            judged: outcome.judged,
            noted: self.noted,
            slot_base: self.zone.slot_base,
        }
    }

    /// The counter of the class's first ASN in this zone.
    #[inline(always)]
    fn asn_slot(&self, outcome: Outcome) -> u32 {
        let ordinal = match self.tables.class_word(outcome.class) {
            Some(word) => word >> GROUP_BITS,
            None => u32::MAX,
        };
        let page = ordinal / ASN_PAGE;
        if page < self.zone.asn_pages_len {
            let list = if outcome.action == Action::Drop {
                self.zone.asn_pages_len
            } else {
                0
            };
            let first = self.tables.asn_page(self.zone.asn_pages + list + page);
            if first != 0 {
                return first + ordinal % ASN_PAGE;
            }
        }
        self.zone.asn_overflow + outcome.action as u32
    }

    /// What keeps a link alive and cannot leave it (design: step 4).
    #[inline(always)]
    fn is_infrastructure(&self, ip: &Ip) -> bool {
        if ip.dst.v6 {
            match ip.proto {
                58 => self.is_neighbour_discovery(ip),
                // DHCPv6, RFC 8415: All_DHCP_Relay_Agents_and_Servers.
                17 => {
                    ip.dst.hi == 0xff02 << 48
                        && ip.dst.lo == 0x1_0002
                        && self.has_ports(ip, 546, 547)
                }
                _ => false,
            }
        } else {
            match ip.proto {
                // IGMP.
                2 => ip.dst.lo >> 8 == 0xe0_0000,
                // DHCPv4, RFC 2131.
                17 => ip.dst.lo == 0xffff_ffff && self.has_ports(ip, 68, 67),
                _ => false,
            }
        }
    }

    #[inline(always)]
    fn has_ports(&self, ip: &Ip, source: u16, destination: u16) -> bool {
        if ip.at + 8 > ip.end {
            return false;
        }
        match self.frame.view::<4>(ip.at) {
            Some(ports) => ports.u16(0) == source && ports.u16(2) == destination,
            None => false,
        }
    }

    /// RFC 4861 (RS, NS, NA with hop limit 255) and RFC 2710, 3810 (MLD).
    #[inline(always)]
    fn is_neighbour_discovery(&self, ip: &Ip) -> bool {
        if ip.at >= ip.end {
            return false;
        }
        let Some(header) = self.frame.view::<1>(ip.at) else {
            return false;
        };
        let on_link_group = ip.dst.hi >> 48 == 0xff02;
        match header.u8(0) {
            133 | 135 | 136 => {
                ip.hop_limit == 255
                    && (on_link_group || ip.dst.is_link_local() || self.is_router(ip.dst))
            }
            130 | 131 | 132 | 143 => on_link_group,
            _ => false,
        }
    }

    #[inline(always)]
    fn is_router(&self, address: Address) -> bool {
        self.word(address) & VERDICT_ROUTER != 0
    }

    /// The zone's verdict word for an address; one that drops where there is none.
    #[inline(always)]
    fn word(&self, address: Address) -> u32 {
        self.class_verdict(self.tables.class(address))
    }

    #[inline(always)]
    fn class_verdict(&self, class: u32) -> u32 {
        if let Some(word) = self.tables.class_word(class)
            && let Some(verdict) = self
                .tables
                .verdict(self.zone.verdict_base + (word & GROUP_MASK))
        {
            return verdict;
        }
        (Action::Drop as u32) << VERDICT_ACTION_SHIFT
            | (self.zone.slot_base + Reason::Default.fixed_slot(Action::Drop))
    }

    /// The packet inside a tunnel; nothing may be wrong with it, and it may not
    /// hide its own destination.
    #[inline(always)]
    fn inner(&self, ip: &Ip) -> Option<Ip> {
        let inner = match packet::inside(self.frame, ip) {
            Inside::V4(at) => packet::ipv4(self.frame, at, ip.end),
            Inside::V6(at) => packet::ipv6(self.frame, at, ip.end),
            Inside::Hidden => return None,
        };
        if inner.raised != Raised(0)
            || inner.source_route
            || inner.routing_header
            || is_tunnel(inner.proto)
        {
            return None;
        }
        Some(inner)
    }

    /// Step 6: a source that the zone cannot have.
    #[inline(always)]
    fn is_spoofed(&self, ip: &Ip) -> bool {
        if ip.src.is_unspecified() {
            return true;
        }
        if self.zone.flags & ZONE_SOURCES_UNCHECKED != 0 || ip.src.is_link_local() {
            return false;
        }
        if self.zone.flags & ZONE_SOURCES_LISTED != 0 {
            return !self.is_listed(ip.src);
        }
        let targets = self.targets(ip.src);
        let mut words = self.word(targets.first);
        if targets.count > 1 {
            words |= self.word(targets.second);
        }
        if targets.count > 2 {
            words |= self.word(targets.third);
        }
        words & VERDICT_SPOOFED != 0
    }

    #[inline(always)]
    fn is_listed(&self, src: Address) -> bool {
        let (first, count) = if src.v6 {
            (self.zone.sources_v6, self.zone.sources_v6_len)
        } else {
            (self.zone.sources_v4, self.zone.sources_v4_len)
        };
        for index in 0..MAX_ZONE_SOURCES as u32 {
            if index >= count as u32 {
                break;
            }
            if let Some(prefix) = self.tables.source(first as u32 + index)
                && (src.hi ^ prefix.hi) & prefix.hi_mask == 0
                && (src.lo ^ prefix.lo) & prefix.lo_mask == 0
            {
                return true;
            }
        }
        false
    }

    /// The addresses that one stands for: NAT64 (RFC 6052) and v4-mapped ones for
    /// the embedded address alone, 6to4 (RFC 3056) and Teredo (RFC 4380) also for
    /// themselves.
    #[inline(always)]
    fn targets(&self, address: Address) -> Targets {
        let mut targets = Targets {
            first: address,
            second: address,
            third: address,
            count: 1,
        };
        if !address.v6 {
            return targets;
        }
        let (hi, lo) = (address.hi, address.lo);
        if (hi == 0x0064_ff9b << 32 && lo >> 32 == 0) || (hi == 0 && lo >> 32 == 0xffff) {
            targets.first = Address::v4(lo as u32);
        } else if let Some(embedded) = self.nat64(hi, lo) {
            targets.first = Address::v4(embedded);
        } else if hi >> 48 == 0x2002 {
            targets.second = Address::v4((hi >> 16) as u32);
            targets.count = 2;
        } else if hi >> 32 == 0x2001_0000 {
            targets.second = Address::v4(hi as u32);
            targets.third = Address::v4(!(lo as u32));
            targets.count = 3;
        }
        targets
    }

    /// RFC 6052 section 2.2: the address skips bits 64 to 71.
    #[inline(always)]
    fn nat64(&self, hi: u64, lo: u64) -> Option<u32> {
        let count = self.tables.nat64_len();
        if count == 0 {
            return None;
        }
        for index in 0..MAX_NAT64 as u32 {
            if index >= count {
                break;
            }
            if let Some(nat64) = self.tables.nat64(index)
                && (hi ^ nat64.prefix.hi) & nat64.prefix.hi_mask == 0
                && (lo ^ nat64.prefix.lo) & nat64.prefix.lo_mask == 0
            {
                return Some(match nat64.length {
                    32 => hi as u32,
                    40 => ((hi << 8) as u32) | (lo >> 48) as u32 & 0xff,
                    48 => ((hi << 16) as u32) | (lo >> 40) as u32 & 0xffff,
                    56 => ((hi << 24) as u32) | (lo >> 32) as u32 & 0xff_ffff,
                    64 => (lo >> 24) as u32,
                    _ => lo as u32,
                });
            }
        }
        None
    }

    /// Judges every address that a packet's destination stands for; the
    /// strictest wins, the first of equals.
    #[inline(always)]
    fn destinations<O: Observer>(
        &mut self,
        ip: &Ip,
        judged: Judged,
        observer: &mut O,
    ) -> Outcome {
        let targets = self.targets(ip.dst);
        let (second, third) = match judged {
            Judged::Inner => (Judged::InnerEmbedded, Judged::InnerEmbeddedClient),
            _ => (Judged::Embedded, Judged::EmbeddedClient),
        };
        let mut outcome = self.rules(ip, targets.first, judged, observer);
        if targets.count > 1 {
            let next = self.rules(ip, targets.second, second, observer);
            if next.action > outcome.action {
                outcome = next;
            }
        }
        if targets.count > 2 {
            let next = self.rules(ip, targets.third, third, observer);
            if next.action > outcome.action {
                outcome = next;
            }
        }
        outcome
    }

    /// Step 7 for one address.
    #[inline(always)]
    fn rules<O: Observer>(
        &mut self,
        ip: &Ip,
        address: Address,
        judged: Judged,
        observer: &mut O,
    ) -> Outcome {
        let class = self.tables.class(address);
        let word = self.class_verdict(class);
        let mut outcome = Outcome {
            action: Action::from_bits(word >> VERDICT_ACTION_SHIFT & 3),
            slot: word & VERDICT_INDEX,
            class,
            judged,
            by_rules: true,
        };
        if word & VERDICT_STEPS != 0 {
            self.walk(ip, &mut outcome, observer);
        }
        observer.judged(judged, address, class, outcome.action);
        outcome
    }

    /// Rules with protocol or ports, from step `outcome.slot` on.
    #[inline(always)]
    fn walk<O: Observer>(&mut self, ip: &Ip, outcome: &mut Outcome, observer: &mut O) {
        let first = outcome.slot;
        let mut audit = NO_SLOT;
        // 0 to 0xffff: the port; above: hidden or absent.
        let port = self.port(ip);
        for index in 0..MAX_WALK as u32 {
            let Some(step) = self.tables.step(first + index) else {
                break;
            };
            let action = Action::from_bits(step.action as u32);
            let mut matches = true;
            if step.flags & (STEP_PROTO | STEP_ICMP | STEP_PORTS) != 0 {
                let wanted = if step.flags & STEP_ICMP != 0 {
                    if ip.dst.v6 { 58 } else { 1 }
                } else {
                    step.proto as u16
                };
                let hidden = action != Action::Pass;
                if ip.proto == PROTO_UNKNOWN {
                    matches = hidden;
                } else if step.flags & (STEP_PROTO | STEP_ICMP) != 0 && ip.proto != wanted {
                    matches = false;
                } else if step.flags & STEP_PORTS != 0 {
                    if ip.proto != 6 && ip.proto != 17 {
                        matches = false;
                    } else if port <= 0xffff {
                        matches =
                            port >= step.port_low as u32 && port <= step.port_high as u32;
                    } else {
                        if port == PORT_ABSENT && self.drops(Reason::Truncated, observer) {
                            outcome.action = Action::Drop;
                            outcome.slot = self.zone.slot_base
                                + Reason::Truncated.fixed_slot(Action::Drop);
                            outcome.by_rules = false;
                            return;
                        }
                        matches = hidden;
                    }
                }
            }
            if matches {
                if action != Action::Audit {
                    outcome.action = action;
                    outcome.slot = step.slot;
                    if action == Action::Pass && audit != NO_SLOT {
                        outcome.action = Action::Audit;
                        outcome.slot = audit;
                    }
                    return;
                }
                if audit == NO_SLOT {
                    audit = step.slot;
                }
            }
        }
        // Every walk that is built ends in the zone's default.
        outcome.action = Action::Drop;
        outcome.slot = self.zone.slot_base + Reason::Default.fixed_slot(Action::Drop);
    }

    /// The destination port, [`PORT_HIDDEN`] or [`PORT_ABSENT`].
    #[inline(always)]
    fn port(&self, ip: &Ip) -> u32 {
        if ip.fragment == Fragment::Later || ip.proto == PROTO_UNKNOWN {
            return PORT_HIDDEN;
        }
        if ip.at + 4 <= ip.end
            && let Some(ports) = self.frame.view::<4>(ip.at)
        {
            return ports.u16(2) as u32;
        }
        PORT_ABSENT
    }
}

/// A later fragment: the ports are in another packet.
const PORT_HIDDEN: u32 = 0x1_0000;
/// The ports should be here and are not.
const PORT_ABSENT: u32 = 0x1_0001;

#[inline(always)]
fn bit(reason: Reason) -> u16 {
    1 << (reason as u32 - Reason::FIRST_UNPARSABLE as u32)
}

/// The first of the codes in [`Raised`].
#[inline(always)]
fn reason_from(codes: u32) -> Reason {
    match codes & 15 {
        7 => Reason::Truncated,
        9 => Reason::Martian,
        10 => Reason::HeaderChain,
        _ => Reason::BadHeader,
    }
}

/// IPv4 in IP (4, 94), IPv6 (41), GRE (47), minimal encapsulation (55),
/// EtherIP (97), ENCAP (98), L2TPv3 (115), MPLS in IP (137).
#[inline(always)]
fn is_tunnel(proto: u16) -> bool {
    const LOW: u64 = 1 << 4 | 1 << 41 | 1 << 47 | 1 << 55;
    if proto < 64 {
        return LOW >> proto & 1 != 0;
    }
    matches!(proto, 94 | 97 | 98 | 115 | 137)
}
