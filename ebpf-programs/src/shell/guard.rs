//! The guard stands behind XDP, at tc ingress, and judges a second time. Here are its two paths, fast and slow, which
//! the guards of all interfaces call, over the live maps. A guard tells them where a packet arrived ([`Told`]).
//!
//! What the XDP program has passed they pass too: that is decided by the same library from the same
//! tables. So whatever they drop went past the XDP program: a tag was hidden from it, or it was not called.
//! That alone is counted then; where there is no XDP program, all is.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    programs::TcContext,
};

use super::{
    frame::Linear,
    ledger,
    program::{Tier, count, count_verdict},
    skb::{Copied, Told, beside, first_piece, length, segments},
};
use crate::{
    flow::Headers,
    layout::{Action, FLOW_GUARD, Flow, NO_CLASS},
    opaque,
    verdict::{FastPath, NO_SLOT, Tables as _, Verdict, decide, fast_path, fast_path_beside},
};

/// What becomes of a packet that cannot be judged here: where there is an XDP program, that has
/// dropped what it cannot judge, either.
#[must_use]
#[inline(always)]
pub const fn unjudged(alone: u32) -> i32 {
    if alone == 1 {
        TC_ACT_SHOT
    } else {
        TC_ACT_UNSPEC
    }
}

/// Judges one packet by the fast path, if that can.
#[inline(always)]
pub fn fast<T: Tier>(ctx: TcContext) -> i32 {
    let told = Told::of(&ctx);
    let frame = first_piece(&ctx);
    let said = match (T::planes(), beside(&ctx)) {
        (None, _) => FastPath::Ask,
        (Some(planes), Some(vid)) => fast_path_beside(&frame, told.port, vid, planes),
        (Some(planes), None) => fast_path(&frame, told.port, planes, &()),
    };
    let (action, slot) = match said {
        FastPath::Unpoliced { .. } => (Action::Pass, NO_SLOT),
        FastPath::Pass { slot, headers, .. } => {
            record::<T>(&ctx, &frame, &told, headers, slot);
            (Action::Pass, slot)
        }
        FastPath::Counted {
            action,
            slot,
            headers,
            ..
        } if told.alone == 1 || !matches!(action, Action::Drop) => {
            record::<T>(&ctx, &frame, &told, headers, slot);
            (action, slot)
        }
        // What got past the XDP program is rare, and the slow path knows whose it is.
        FastPath::Counted { .. } | FastPath::Ask | FastPath::Stacked | FastPath::Destination(_) => {
            T::guard_slow(&ctx);
            return unjudged(told.alone);
        }
    };
    let verdict = Verdict {
        action,
        slot,
        ..Verdict::UNPOLICED
    };
    finish::<T>(&ctx, &told, &verdict)
}

/// As [`fast`], by the slow path.
#[inline(always)]
pub fn slow<T: Tier>(ctx: TcContext) -> i32 {
    let (ctx, told) = (&ctx, Told::of(&ctx));
    let (Some(tables), Some(memory)) = (T::tables(), T::memory()) else {
        return unjudged(told.alone);
    };
    // SAFETY: the memory is this CPU's; the slow path of the XDP program has ended with the frame
    // that it was called for.
    let memory = unsafe { &mut *memory };
    memory.verdict = decide(&Copied(ctx), told.port, &tables, &mut memory.work, &mut ());
    // As in the slow path of XDP.
    let memory = opaque::in_memory(memory);
    let verdict = &memory.verdict;
    let is_its = told.alone == 1 || matches!(verdict.action, Action::Drop);
    if is_its && verdict.is_recorded(&tables, memory.work.zone()) {
        memory.flow = Flow::read(&Copied(ctx), memory.work.packets(), verdict, told.port);
        memory.flow.identity |= FLOW_GUARD;
        let (packets, bytes) = (segments(ctx) as u32, length(ctx) as u32);
        let (flow, class) = (opaque::in_memory(&mut memory.flow), verdict.class);
        ledger::add::<T>(flow, class, ledger::now(), (packets, bytes));
    }
    if told.alone != 1 && matches!(verdict.action, Action::Drop) {
        let of_zone = tables.stopped(memory.work.zone().wrapping_sub(1), told.port);
        for slot in [told.stopped, of_zone] {
            if slot != 0 {
                count::<T>(slot, segments(ctx), length(ctx));
            }
        }
    }
    finish::<T>(ctx, &told, verdict)
}

/// Adds a packet to its flow, where no XDP program does.
#[inline(always)]
fn record<T: Tier>(ctx: &TcContext, frame: &Linear, told: &Told, headers: Headers, slot: u32) {
    if told.alone == 1
        && headers != 0
        && let Some(mut flow) = Flow::plain(frame, headers, slot, told.port)
    {
        flow.identity |= FLOW_GUARD;
        let (packets, bytes) = (segments(ctx) as u32, length(ctx) as u32);
        ledger::add::<T>(&mut flow, NO_CLASS, ledger::now(), (packets, bytes));
    }
}

/// Counts what a verdict says, and does it: all of it where there is no XDP program, else what is
/// dropped.
#[inline(always)]
fn finish<T: Tier>(ctx: &TcContext, told: &Told, verdict: &Verdict) -> i32 {
    let is_drop = matches!(verdict.action, Action::Drop);
    if !is_drop && told.alone != 1 {
        return TC_ACT_UNSPEC;
    }
    let (packets, bytes) = (segments(ctx), length(ctx));
    count_verdict::<T>(verdict, packets, bytes);
    if is_drop {
        return TC_ACT_SHOT;
    }
    if verdict.slot == NO_SLOT {
        count::<T>(told.unpoliced, packets, 0);
    }
    TC_ACT_UNSPEC
}
