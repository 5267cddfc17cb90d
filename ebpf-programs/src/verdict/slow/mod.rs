//! The slow path: a decision in full, in these steps:
//!
//! 1. tags and zone;
//! 2. ethertype; frames that are not IP and cannot leave their link pass (`infrastructure`);
//! 3. headers: truncated, bad-header, martian, header-chain ([`packet::ip`]);
//! 4. packets that keep a link alive pass (`infrastructure`);
//! 5. what hides the destination: source routes, routing headers, tunnels;
//! 6. the source (looked up before step 4, which asks for it, too);
//! 7. the rules (`rules`).
//!
//! An [`Observer`] that watches costs nothing in the kernel, where it is empty.

mod infrastructure;
mod rules;

use self::rules::Transport;
use super::{NO_SLOT, Tables, Verdict, class_verdict, contains, zone_word};
use crate::{
    layout::{
        Action, Judged, MAX_ZONE_SOURCES, NO_CLASS, Reason, STEP_ICMP, STEP_PORTS, STEP_PROTO,
        TUNNEL_INSPECT, VERDICT_SPOOFED, ZONE_PPPOE, ZONE_SOURCES_LISTED, ZONE_SOURCES_UNCHECKED,
        Zone, setting_shift,
    },
    opaque,
    packet::{self, Address, Frame, Inside, Ip, Pppoe, Raised, Tags, is_tunnel},
    repeat::repeat,
};

/// Addresses that one stands for, itself included, at most.
const MEANT: usize = 5;

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

/// Memory of one decision. The kernel keeps it in a map: a BPF stack is too
/// small, and what comes out of a map the verifier follows once, whatever went in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    tags: Tags,
    /// Zone id + 1, 0: none.
    zone: u32,
    ip: Ip,
    inner: Ip,
    noted: u16,
    /// The first reason whose setting is `audit`.
    audited: Option<Reason>,
    outcome: Outcome,
    inside: Outcome,
    next: Outcome,
    transport: Transport,
    /// What an address stands for: itself or another, and those in it.
    meant: Address,
    embedded: [u32; MEANT - 1],
    embedded_len: u32,
    /// The packet's source, or the client of which a DHCP message from nowhere is.
    source: Address,
    spoofed: bool,
    /// Of a walk: the first audit's slot, and whether a rule wanted ports.
    audit: u32,
    needs_ports: u64,
}

impl Work {
    /// The zone of the frame that was decided: its id + 1, 0: none.
    #[inline(always)]
    pub fn zone(&self) -> u32 {
        self.zone
    }

    /// The packet that was decided, and the one inside, if that could be read.
    #[inline(always)]
    pub fn packets(&self) -> (&Ip, &Ip) {
        (&self.ip, &self.inner)
    }
}

/// Decides one frame that arrived on a port.
#[inline(always)]
pub fn decide<F: Frame + ?Sized, T: Tables, O: Observer>(
    frame: &F,
    port: u32,
    tables: &T,
    work: &mut Work,
    observer: &mut O,
) -> Verdict {
    let Some(port) = tables.port(port) else {
        return Verdict::UNJUDGED;
    };
    packet::tags_into(frame, &mut work.tags);
    let word = zone_word(tables, port.vid_table, work.tags.outer, work.tags.inner);
    work.zone = word;
    if word == 0 {
        if work.tags.ninth {
            return Verdict::fixed(port.slot_base, Reason::VlanDepth, Action::Drop);
        }
        if port.drop_unknown != 0 {
            return Verdict::fixed(port.slot_base, Reason::NoZone, Action::Drop);
        }
        return Verdict::UNPOLICED;
    }
    let Some(zone) = tables.zone(word - 1) else {
        return Verdict::UNJUDGED;
    };
    observer.zone(word - 1, &work.tags);
    work.noted = 0;
    work.audited = None;
    Decision {
        frame,
        tables,
        zone,
        work,
        observer,
    }
    .frame()
}

/// What the rules say of one address.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    action: Action,
    slot: u32,
    class: u32,
    judged: Judged,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            action: Action::Pass,
            slot: NO_SLOT,
            class: NO_CLASS,
            judged: Judged::Nothing,
        }
    }
}

struct Decision<'a, F: ?Sized, T, O> {
    frame: &'a F,
    tables: &'a T,
    zone: &'a Zone,
    work: &'a mut Work,
    observer: &'a mut O,
}

impl<F: Frame + ?Sized, T: Tables, O: Observer> Decision<'_, F, T, O> {
    #[inline(always)]
    fn setting(&self, reason: Reason) -> u32 {
        self.zone.settings >> setting_shift(reason) & 3
    }

    #[inline(always)]
    fn fixed(&self, reason: Reason, action: Action) -> Verdict {
        let mut verdict = Verdict::fixed(self.zone.slot_base, reason, action);
        verdict.noted = self.work.noted;
        if reason.is_unparsable() {
            verdict.noted &= !bit(reason);
        }
        verdict
    }

    /// As `fixed`, for a packet whose destination could be read.
    #[inline(always)]
    fn known(&self, reason: Reason, action: Action) -> Verdict {
        Verdict {
            judged: Judged::Destination,
            ..self.fixed(reason, action)
        }
    }

    /// A reason was met: true when its setting ends the packet.
    #[inline(always)]
    fn drops(&mut self, reason: Reason) -> bool {
        match self.setting(reason) {
            0 => {}
            1 => {
                if self.work.audited.is_none() {
                    self.work.audited = Some(reason);
                }
            }
            _ => return true,
        }
        self.observer.noted(reason);
        self.work.noted |= bit(reason);
        false
    }

    /// Where no destination can be read, the strictest setting of what was met
    /// decides; the first of equals is named.
    #[inline(always)]
    fn unreadable(mut self, reason: Reason) -> Verdict {
        let first = if self.work.noted == 0 {
            reason
        } else {
            // All that can have been met before.
            Reason::Truncated
        };
        if self.drops(reason) {
            return self.fixed(reason, Action::Drop);
        }
        match self.work.audited {
            Some(first) => self.fixed(first, Action::Audit),
            None => self.fixed(first, Action::Pass),
        }
    }

    #[inline(always)]
    fn frame(mut self) -> Verdict {
        let tags = &self.work.tags;
        if tags.ninth || tags.counting > 2 {
            return self.fixed(Reason::VlanDepth, Action::Drop);
        }
        if tags.truncated {
            return self.unreadable(Reason::Truncated);
        }
        let (at, ethertype) = (tags.at, tags.ethertype);
        self.work.ip.at = at;
        self.work.ip.end = self.frame.len();
        let v6 = match ethertype {
            0x0800 => false,
            0x86dd => true,
            0x8864 if self.zone.flags & ZONE_PPPOE != 0 => {
                let payload = packet::pppoe(self.frame, at, &mut self.work.ip);
                if self.work.ip.end > self.frame.len() {
                    self.work.ip.end = self.frame.len();
                    if self.drops(Reason::Truncated) {
                        return self.fixed(Reason::Truncated, Action::Drop);
                    }
                }
                match payload {
                    Pppoe::V4 => false,
                    Pppoe::V6 => true,
                    Pppoe::Control if self.work.noted == 0 => {
                        return self.fixed(Reason::NotIp, Action::Pass);
                    }
                    Pppoe::Other => return self.unreadable(Reason::Ethertype),
                    Pppoe::Control | Pppoe::Truncated => return self.unreadable(Reason::Truncated),
                    Pppoe::BadHeader => return self.unreadable(Reason::BadHeader),
                }
            }
            _ if self.is_of_the_link() => return self.fixed(Reason::NotIp, Action::Pass),
            _ => return self.unreadable(Reason::Ethertype),
        };
        let (at, limit) = (self.work.ip.at, self.work.ip.end);
        if v6 {
            packet::ipv6(self.frame, at, limit, &mut self.work.ip);
        } else {
            packet::ipv4(self.frame, at, limit, &mut self.work.ip);
        }
        self.ip()
    }

    #[inline(always)]
    fn ip(mut self) -> Verdict {
        self.observer.ip(&self.work.ip);
        if self.work.ip.raised != Raised(0) {
            let mut codes = self.work.ip.raised.0;
            if !self.work.ip.readable {
                return self.unreadable(reason_from(codes));
            }
            for _ in 0..5 {
                if codes != 0 {
                    let reason = reason_from(codes);
                    if self.drops(reason) {
                        return self.known(reason, Action::Drop);
                    }
                    codes >>= 4;
                }
            }
        }
        self.work.source = self.work.ip.src;
        let nowhere = self.work.ip.src.is_unspecified();
        let infrastructure = self.looks_like_infrastructure();
        self.check_source();
        if infrastructure {
            if self.work.spoofed && !nowhere {
                if self.drops(Reason::SpoofedSource) {
                    return self.known(Reason::SpoofedSource, Action::Drop);
                }
            } else if !self.work.spoofed && self.is_infrastructure() {
                return self.known(Reason::Infrastructure, Action::Pass);
            }
        }
        if self.work.ip.source_route && self.drops(Reason::SourceRoute) {
            return self.known(Reason::SourceRoute, Action::Drop);
        }
        if self.work.ip.routing_header && self.drops(Reason::RoutingHeader) {
            return self.known(Reason::RoutingHeader, Action::Drop);
        }
        let mut inspected = false;
        if is_tunnel(self.work.ip.proto) {
            if self.setting(Reason::Tunnel) == TUNNEL_INSPECT {
                if !self.inspect() {
                    return self.known(Reason::Tunnel, Action::Drop);
                }
                inspected = true;
            } else if self.drops(Reason::Tunnel) {
                return self.known(Reason::Tunnel, Action::Drop);
            }
        }
        if (nowhere || self.work.spoofed) && self.drops(Reason::SpoofedSource) {
            return self.known(Reason::SpoofedSource, Action::Drop);
        }
        self.work.inside = Outcome::default();
        if inspected {
            self.destinations(true);
            self.work.inside = self.work.outcome;
        }
        self.destinations(false);
        if self.work.inside.action > self.work.outcome.action {
            self.work.outcome = self.work.inside;
        }
        self.verdict()
    }

    /// The rules' outcome, unless something that was noted is stricter.
    #[inline(always)]
    fn verdict(&self) -> Verdict {
        let outcome = self.work.outcome;
        if outcome.action == Action::Pass
            && let Some(reason) = self.work.audited
        {
            let mut verdict = self.known(reason, Action::Audit);
            verdict.class = outcome.class;
            return verdict;
        }
        Verdict {
            action: outcome.action,
            slot: outcome.slot,
            class: outcome.class,
            judged: outcome.judged,
            noted: self.work.noted,
            slot_base: self.zone.slot_base,
        }
    }

    /// The zone's verdict word for an address.
    #[inline(always)]
    fn word(&self, address: Address) -> u32 {
        class_verdict(self.tables, self.zone, self.tables.class(address))
    }

    /// Reads the packet inside a tunnel. False where it cannot be read: nothing may
    /// be wrong with it, and it may not hide its own destination.
    #[inline(never)]
    fn inspect(&mut self) -> bool {
        let limit = self.work.ip.end;
        match packet::inside(self.frame, &self.work.ip) {
            Inside::V4(at) => packet::ipv4(self.frame, at, limit, &mut self.work.inner),
            Inside::V6(at) => packet::ipv6(self.frame, at, limit, &mut self.work.inner),
            Inside::Hidden => return false,
        }
        let inner = &self.work.inner;
        if inner.raised != Raised(0)
            || inner.source_route
            || inner.routing_header
            || is_tunnel(inner.proto)
        {
            return false;
        }
        self.observer.inner(&self.work.inner);
        true
    }

    /// Step 6: whether `work.source` is one that the zone cannot have, into
    /// `work.spoofed`. Of one that is unspecified nothing is said.
    #[inline(never)]
    fn check_source(&mut self) {
        let src = self.work.source;
        self.work.spoofed = if src.is_unspecified()
            || src.is_link_local()
            || self.zone.flags & ZONE_SOURCES_UNCHECKED != 0
        {
            false
        } else if self.zone.flags & ZONE_SOURCES_LISTED != 0 {
            !self.is_listed(src)
        } else {
            self.is_dropped(src)
        };
    }

    /// Whether the rules would drop one of the addresses that this one stands for, by a
    /// named set.
    #[inline(always)]
    fn is_dropped(&mut self, src: Address) -> bool {
        self.expand(src);
        let mut words = 0;
        for index in 0..opaque::rounds(MEANT) as u32 {
            let Some(address) = self.meant(index) else {
                break;
            };
            words |= self.word(address);
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
        let (tables, mut is_listed) = (self.tables, false);
        repeat(MAX_ZONE_SOURCES as u32, |index| {
            if index >= count as u32 {
                return true;
            }
            is_listed =
                (tables.source(first as u32 + index)).is_some_and(|prefix| contains(prefix, src));
            is_listed
        });
        is_listed
    }
}

const _: () = assert!(STEP_PROTO == 1 && STEP_ICMP == 2 && STEP_PORTS == 4);
const _: () = assert!(Action::Audit as u8 == 1 && Action::Pass as u8 == 0);

#[inline(always)]
fn bit(reason: Reason) -> u16 {
    1 << (reason as u32 - Reason::FIRST_UNPARSABLE as u32)
}

#[inline(always)]
fn judged_from(code: u8) -> Judged {
    match code {
        1 => Judged::Destination,
        2 => Judged::Embedded,
        3 => Judged::SecondEmbedded,
        4 => Judged::ThirdEmbedded,
        5 => Judged::FourthEmbedded,
        6 => Judged::Inner,
        7 => Judged::InnerEmbedded,
        8 => Judged::InnerSecondEmbedded,
        9 => Judged::InnerThirdEmbedded,
        _ => Judged::InnerFourthEmbedded,
    }
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
