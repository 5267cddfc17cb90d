//! The ledger as a cache of verdicts, for zones that record what passes, too. If the flow of a packet has a line, and
//! nothing changed since, the line says at once whether the packet is dropped, and the packet is added to it (`known`).
//! What the fast path judged otherwise, and is recorded, is added to its flow's line afterwards (`record`).
//!
//! What is rare is a global function (`Tier::known_apart`, `Tier::add`), which the verifier follows once.

use core::{cell::Cell, marker::PhantomData};

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    programs::XdpContext,
};

use super::{
    frame::{Linear, length_past},
    ledger,
    program::Tier,
};
use crate::{
    flow::{HEADERS_AT, HEADERS_BITS, Headers},
    layout::{COUNTER_SLOTS_BEFORE, FLOW_DROPPED, FLOW_SLOT, Flow, NO_CLASS, NO_LINES, trace},
    packet::Frame,
    verdict::{Known, Lines},
};

/// What became of a packet: the action in eight bits, from [`SLOT_SHIFT`] on the counter slot, and from
/// [`HEADERS_SHIFT`] on where its headers are, if it is to be recorded.
pub(super) type Done = u64;

const SLOT_SHIFT: u32 = 8;
const HEADERS_SHIFT: u32 = 32;
/// Slots below it.
const SLOTS: u32 = (1 << (HEADERS_SHIFT - SLOT_SHIFT)) - 1;

const _: () = assert!(COUNTER_SLOTS_BEFORE <= SLOTS + 1 && HEADERS_SHIFT + HEADERS_BITS <= 64);

#[inline(always)]
pub(super) fn done(action: u32, slot: u32, headers: Headers) -> Done {
    action as u64 | (slot as u64) << SLOT_SHIFT | (headers as u64) << HEADERS_SHIFT
}

/// Where the headers of a frame with two tags are.
const TWICE_TAGGED: Headers = 22;

/// The ledger's lines, for one packet.
pub(super) struct Held<T> {
    ctx: *mut xdp_md,
    /// When the packet came, jiffies, read before any leaf or class that it is judged by; 0: nobody has asked.
    /// What is read before that of zones is rewritten while planes are off.
    pub(super) asked: Cell<u64>,
    tier: PhantomData<T>,
}

impl<T: Tier> Held<T> {
    #[inline(always)]
    pub(super) fn of(ctx: *mut xdp_md) -> Self {
        Self {
            ctx,
            asked: Cell::new(0),
            tier: PhantomData,
        }
    }
}

impl<T: Tier> Lines for Held<T> {
    #[inline(always)]
    fn known<const V6: bool, F: Frame + ?Sized>(
        &self,
        frame: &F,
        headers: Headers,
        settled: &u64,
    ) -> Option<Known> {
        if T::lines() == NO_LINES || T::trace() == trace::ON {
            return None;
        }
        if self.asked.get() == 0 {
            self.asked.set(ledger::now());
        }
        let now = self.asked.get();
        // SAFETY: a word of a map. It is read here, behind the clock.
        let settled = unsafe { core::ptr::read_volatile(settled) };
        let mut said = PERHAPS;
        if is_asked_first::<V6>(headers) {
            said = known::<T, F>(self.ctx, frame, headers, (now, settled));
        }
        if said == PERHAPS {
            said = T::known_apart::<V6>(self.ctx, headers, now, settled);
        }
        (said != 0).then_some(Known {
            slot: said as u32 & FLOW_SLOT as u32,
            is_dropped: said & FLOW_DROPPED != 0,
        })
    }
}

/// What the first of the two lines that a packet's flow could have says of it, which then is added there: the counter slot
/// and what it says beside it; else 0, or [`PERHAPS`]: the second one may be its.
#[inline(always)]
fn known<T: Tier, F: Frame + ?Sized>(
    ctx: *mut xdp_md,
    frame: &F,
    headers: Headers,
    times: (u64, u64),
) -> u64 {
    let Some(flow) = flow::<T, false, F>(frame, headers, times.0) else {
        return 0;
    };
    let bytes = length_past(&XdpContext::new(ctx), frame.reach()) as u32;
    match ledger::known::<T, false>(&flow, false, times, bytes) {
        0 if ledger::may_be_beside::<T>(&flow) => PERHAPS,
        said => said,
    }
}

/// No identity of a known flow.
const PERHAPS: u64 = 1;

/// The flow of a packet, of which it is not known what becomes of it.
#[inline(always)]
fn flow<T: Tier, const V6: bool, F: Frame + ?Sized>(
    frame: &F,
    headers: Headers,
    now: u64,
) -> Option<Flow> {
    let mut flow = Flow::of::<V6, F>(frame, headers & HEADERS_AT, 0, T::port())?;
    flow.be_known(headers, now, false);
    Some(flow)
}

/// As [`known`], where the first line was not asked, and of the second one: a function of its own.
#[inline(always)]
pub fn known_apart<T: Tier, const V6: bool>(
    ctx: *mut xdp_md,
    headers: Headers,
    now: u64,
    settled: u64,
) -> u64 {
    let ctx = XdpContext::new(ctx);
    let frame = Linear::of(&ctx);
    let Some(flow) = flow::<T, V6, _>(&frame, headers, now) else {
        return 0;
    };
    let bytes = length_past(&ctx, frame.reach()) as u32;
    let times = (now, settled);
    if !is_asked_first::<V6>(headers) {
        let said = ledger::known::<T, V6>(&flow, false, times, bytes);
        if said != 0 {
            return said;
        }
    }
    ledger::known::<T, V6>(&flow, true, times, bytes)
}

/// Whether [`known`] is asked where the packet is judged. That is most of what cameras send, and each place in the code is
/// one that the verifier follows.
#[inline(always)]
const fn is_asked_first<const V6: bool>(headers: Headers) -> bool {
    !V6 && headers & HEADERS_AT != TWICE_TAGGED
}

/// Adds a packet to its flow, if it is recorded and was not.
#[inline(always)]
pub(super) fn record<T: Tier>(done: Done, lines: &Held<T>) {
    if done >> HEADERS_SHIFT != 0 && T::lines() != NO_LINES {
        T::add(lines.ctx, done, lines.asked.get());
    }
}

/// As [`record`]. A function of its own: what decided needs no registers for it.
#[inline(always)]
pub fn add<T: Tier>(ctx: *mut xdp_md, done: Done, asked: u64) {
    let ctx = XdpContext::new(ctx);
    let frame = Linear::of(&ctx);
    let slot = (done >> SLOT_SHIFT) as u32 & SLOTS;
    let headers = (done >> HEADERS_SHIFT) as u32;
    if let Some(mut flow) = Flow::plain(&frame, headers, slot, T::port()) {
        let mut now = asked;
        if now == 0 {
            now = ledger::now();
        } else {
            flow.be_known(headers, now, done as u8 as u32 == xdp_action::XDP_DROP);
        }
        let bytes = length_past(&ctx, frame.reach()) as u32;
        ledger::add::<T>(&mut flow, NO_CLASS, now, (1, bytes));
    }
}
