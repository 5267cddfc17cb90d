//! Step 7 of [`super`]: the rules, on every address that a destination leads to. Also what they
//! compare with: the transport of a packet, in one word that the verifier does not
//! have to take apart.

use super::{Decision, MEANT, Observer, Outcome, judged_from};
use crate::{
    layout::{
        Action, Judged, MAX_NAT64, MAX_WALK, Reason, Step, VERDICT_ACTION_SHIFT, VERDICT_INDEX,
        VERDICT_STEPS,
    },
    opaque,
    packet::{Address, Fragment, Frame, Ip, PROTO_UNKNOWN, View, is_isatap},
    repeat::repeat,
    verdict::{NO_SLOT, Tables, class_verdict, contains},
};

/// 64:ff9b:1::/48, without what is behind it.
const LOCAL_NAT64: u64 = 0x0064_ff9b_0001;

/// The IPv4 address behind a NAT64 prefix of this length (RFC 6052 section 2.2).
#[inline(always)]
fn embedded(hi: u64, lo: u64, length: u32) -> u32 {
    match length {
        32 => hi as u32,
        40 => ((hi << 8) as u32) | (lo >> 48) as u32 & 0xff,
        48 => ((hi << 16) as u32) | (lo >> 40) as u32 & 0xffff,
        56 => ((hi << 24) as u32) | (lo >> 32) as u32 & 0xff_ffff,
        64 => (lo >> 24) as u32,
        _ => lo as u32,
    }
}

impl<F: Frame + ?Sized, T: Tables, O: Observer> Decision<'_, F, T, O> {
    /// The addresses that one stands for, into `work.meant` and `work.embedded`: NAT64 (RFC 6052)
    /// and v4-mapped ones for the embedded address alone, all others also for
    /// themselves: 6to4 (RFC 3056), Teredo (RFC 4380), IPv4-compatible (RFC 4291),
    /// IPv4-translated (RFC 2765), ISATAP (RFC 5214), and those of local NAT64
    /// (RFC 8215) whose prefix nobody named, for what each length would make of them.
    #[inline(never)]
    pub(super) fn expand(&mut self, address: Address) {
        let (hi, lo) = (address.hi, address.lo);
        self.work.embedded_len = 0;
        self.work.meant = address;
        if !address.v6 {
            return;
        }
        if (hi == 0x0064_ff9b << 32 && lo >> 32 == 0) || (hi == 0 && lo >> 32 == 0xffff) {
            self.work.meant = Address::v4(lo as u32);
        } else if let Some(embedded) = self.nat64(hi, lo) {
            self.work.meant = Address::v4(embedded);
        } else if hi >> 16 == LOCAL_NAT64 {
            for (place, length) in self.work.embedded.iter_mut().zip([48, 56, 64, 96]) {
                *place = embedded(hi, lo, length);
            }
            self.work.embedded_len = 4;
        } else if hi >> 32 == 0x2001_0000 {
            self.work.embedded[0] = hi as u32;
            self.work.embedded[1] = !(lo as u32);
            self.work.embedded_len = 2;
        } else if hi >> 48 == 0x2002 {
            // A site of 6to4 may have ISATAP inside.
            self.work.embedded[0] = (hi >> 16) as u32;
            self.work.embedded[1] = lo as u32;
            self.work.embedded_len = 1 + is_isatap(lo) as u32;
        } else if is_isatap(lo) || (hi == 0 && (lo >> 32 == 0 || lo >> 32 == 0xffff_0000)) {
            self.work.embedded[0] = lo as u32;
            self.work.embedded_len = 1;
        }
    }

    /// One of the addresses that [`Self::expand`] found; 0 is the address itself.
    #[inline(always)]
    pub(super) fn meant(&self, index: u32) -> Option<Address> {
        // All but the first are IPv4: the verifier then need not follow a lookup of both.
        if index == 0 {
            return Some(self.work.meant);
        }
        if index > self.work.embedded_len {
            return None;
        }
        let embedded = self.work.embedded.get(index as usize - 1)?;
        Some(Address::v4(*embedded))
    }

    /// RFC 6052 section 2.2: the address skips bits 64 to 71.
    #[inline(always)]
    fn nat64(&self, hi: u64, lo: u64) -> Option<u32> {
        // No prefix has length 0.
        let (tables, mut length) = (self.tables, 0);
        let count = tables.nat64_len();
        repeat(MAX_NAT64 as u32, |index| {
            if index < count
                && let Some(nat64) = tables.nat64(index)
                && contains(&nat64.prefix, Address { hi, lo, v6: true })
            {
                length = nat64.length;
            }
            index >= count || length != 0
        });
        (length != 0).then(|| embedded(hi, lo, length))
    }

    /// Judges every address that a packet's destination stands for, into
    /// `work.outcome`; the strictest wins, the first of equals.
    #[inline(never)]
    pub(super) fn destinations(&mut self, inner: bool) {
        self.work.outcome = Outcome::default();
        let mut code = if inner {
            Judged::Inner as u8
        } else {
            Judged::Destination as u8
        };
        self.expand(self.packet(inner).dst);
        #[expect(
            clippy::explicit_counter_loop,
            reason = "the verifier knows loops like this"
        )]
        for index in 0..opaque::rounds(MEANT) as u32 {
            let Some(address) = self.meant(index) else {
                break;
            };
            self.rules(inner, address, judged_from(code));
            if index == 0 || self.work.next.action > self.work.outcome.action {
                self.work.outcome = self.work.next;
            }
            code += 1;
        }
    }

    #[inline(always)]
    fn packet(&self, inner: bool) -> &Ip {
        if inner {
            &self.work.inner
        } else {
            &self.work.ip
        }
    }

    /// Step 7 for one address, into `work.next`.
    #[inline(always)]
    fn rules(&mut self, inner: bool, address: Address, judged: Judged) {
        let class = self.tables.class(address);
        let word = class_verdict(self.tables, self.zone, class);
        self.work.next = Outcome {
            action: Action::from_bits(word >> VERDICT_ACTION_SHIFT & 3),
            slot: word & VERDICT_INDEX,
            class,
            judged,
        };
        if word & VERDICT_STEPS != 0 {
            self.read_transport(inner);
            self.walk();
        }
        self.observer
            .judged(judged, address, class, self.work.next.action);
    }

    /// The packet's side of a walk, into `work.transport`. A function of its own,
    /// so that the walk reads it from memory, where the verifier knows nothing
    /// of it, and follows the walk once.
    #[inline(never)]
    fn read_transport(&mut self, inner: bool) {
        self.work.transport = Transport::new(self, inner);
    }

    /// Rules with protocol or ports, from step `work.next.slot` on.
    #[inline(never)]
    fn walk(&mut self) {
        let first = self.work.next.slot;
        self.work.audit = NO_SLOT;
        self.work.needs_ports = 0;
        // Every walk that is built ends in the zone's default.
        self.work.next.action = Action::Drop;
        self.work.next.slot = self.zone.slot_base + Reason::Default.fixed_slot(Action::Drop);
        let this = &mut *self;
        repeat(MAX_WALK as u32, move |index| {
            let Some(step) = this.tables.step(first + index) else {
                return true;
            };
            let work = &mut *this.work;
            let (matches, absent) = work.transport.matches(step);
            work.needs_ports |= absent;
            if absent & work.transport.bits >> ABSENT_DROPS != 0 {
                work.next.slot = this.zone.slot_base + Reason::Truncated.fixed_slot(Action::Drop);
                return true;
            }
            if matches == 0 {
                return false;
            }
            if step.action & 1 == 0 {
                work.next.action = Action::from_bits(step.action as u32);
                work.next.slot = step.slot;
                return true;
            }
            if work.audit == NO_SLOT {
                work.audit = step.slot;
            }
            false
        });
        if self.work.needs_ports & self.work.transport.bits >> HIDDEN != 0 {
            // Not a drop: that setting ended the walk above.
            self.drops(Reason::Truncated);
        }
        if self.work.next.action == Action::Pass && self.work.audit != NO_SLOT {
            self.work.next.action = Action::Audit;
            self.work.next.slot = self.work.audit;
        }
    }
}

/// A packet's side of the comparison with a step. Truth values are 0 and 1 and
/// combined without branches: each branch in a walk multiplies what the verifier
/// must follow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transport {
    proto: u64,
    port: u64,
    /// One bit for each of the constants below.
    bits: u64,
}

/// The transport is in another packet.
const UNKNOWN: u64 = 0;
/// ICMP of the packet's own family.
const ICMP: u64 = 1;
/// TCP or UDP.
const HAS_PORTS: u64 = 2;
/// The port was read.
const KNOWN: u64 = 3;
/// The port is in another packet, or its absence is to be ignored.
const HIDDEN: u64 = 4;
/// The port should be here and is not.
const ABSENT: u64 = 5;
/// And that ends the packet.
const ABSENT_DROPS: u64 = 6;

impl Transport {
    #[inline(always)]
    fn new<F: Frame + ?Sized, T: Tables, O: Observer>(
        decision: &Decision<'_, F, T, O>,
        inner: bool,
    ) -> Self {
        let ip = decision.packet(inner);
        let icmp = if ip.dst.v6 { 58 } else { 1 };
        let unknown = ip.proto == PROTO_UNKNOWN;
        let mut port = 0;
        let mut bits = (unknown as u64) << UNKNOWN
            | ((ip.proto == icmp) as u64) << ICMP
            | ((ip.proto == 6 || ip.proto == 17) as u64) << HAS_PORTS;
        if ip.fragment == Fragment::Later || unknown {
            bits |= 1 << HIDDEN;
        } else if ip.at + 4 <= ip.end
            && let Some(ports) = decision.frame.view::<4>(ip.at)
        {
            port = ports.u16(2) as u64;
            bits |= 1 << KNOWN;
        } else if decision.setting(Reason::Truncated) >= Action::Drop as u32 {
            bits |= 1 << ABSENT | 1 << ABSENT_DROPS;
        } else {
            bits |= 1 << ABSENT | 1 << HIDDEN;
        }
        Self {
            proto: ip.proto as u64,
            port,
            bits,
        }
    }

    /// Whether a step matches, and whether it would need ports that are absent.
    #[inline(always)]
    fn matches(&self, step: &Step) -> (u64, u64) {
        let bits = opaque::apart(self.bits);
        let flags = step.flags as u64;
        let action = step.action as u64;
        let wants_proto = flags & 1;
        let wants_icmp = flags >> 1 & 1;
        let wants_ports = flags >> 2 & 1;
        let strict = (action | action >> 1) & 1;
        let has_ports = bits >> HAS_PORTS & 1;
        let other_proto = opaque::branchless((self.proto ^ step.proto as u64).wrapping_neg()) >> 63;
        let outside = opaque::branchless(
            self.port.wrapping_sub(step.port_low as u64)
                | (step.port_high as u64).wrapping_sub(self.port),
        ) >> 63;
        let proto = (wants_proto & other_proto | wants_icmp & (bits >> ICMP & 1 ^ 1)) ^ 1;
        let port = bits >> KNOWN & 1 & (outside ^ 1) | bits >> HIDDEN & 1 & strict;
        let ports = (wants_ports ^ 1) | has_ports & port;
        let conditional = wants_proto | wants_icmp | wants_ports;
        let unknown = bits >> UNKNOWN & 1;
        let matches = unknown & (strict | (conditional ^ 1)) | (unknown ^ 1) & proto & ports;
        let absent = (unknown ^ 1) & proto & wants_ports & has_ports & (bits >> ABSENT & 1);
        (opaque::branchless(matches), absent)
    }
}
