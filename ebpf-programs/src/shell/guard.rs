//! What the guards of all interfaces call: their fast path and their slow path, over the live maps,
//! for what went on to the stack. A guard tells them where a packet arrived ([`Told`]).
//!
//! What the XDP program has passed it passes too: that is decided by the same library from the same
//! tables. So whatever it drops went past the XDP program: a tag was hidden from it, or it was not called.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    programs::TcContext,
};

use super::{
    program::{Tier, count, count_verdict},
    skb::{Copied, Told, beside, first_piece, length, segments},
};
use crate::{
    layout::Action,
    verdict::{FastPath, decide, fast_path, fast_path_beside},
};

/// Judges one packet by the fast path, if that can.
#[inline(always)]
pub fn fast<T: Tier>(ctx: TcContext) -> i32 {
    let told = Told::of(&ctx);
    let frame = first_piece(&ctx);
    let said = match (T::planes(), beside(&ctx)) {
        (None, _) => FastPath::Ask,
        (Some(planes), Some(vid)) => fast_path_beside(&frame, told.port, vid, planes),
        (Some(planes), None) => fast_path(&frame, told.port, planes),
    };
    match said {
        FastPath::Unpoliced { .. }
        | FastPath::Pass { .. }
        | FastPath::Counted {
            action: Action::Pass | Action::Audit,
            ..
        } => TC_ACT_UNSPEC,
        FastPath::Counted { slot, asn_slot, .. } => {
            let (packets, bytes) = (segments(&ctx), length(&ctx));
            count::<T>(slot, packets, bytes);
            count::<T>(asn_slot, packets, bytes);
            stop::<T>(told.stopped, packets, bytes)
        }
        FastPath::Ask | FastPath::Stacked | FastPath::Destination(_) => {
            T::guard_slow(&ctx);
            // As where there are no paths at all.
            TC_ACT_UNSPEC
        }
    }
}

/// As [`fast`], by the slow path.
#[inline(always)]
pub fn slow<T: Tier>(ctx: TcContext) -> i32 {
    let (ctx, told) = (&ctx, Told::of(&ctx));
    // Without a generation the XDP program drops.
    let (Some(tables), Some(memory)) = (T::tables(), T::memory()) else {
        return TC_ACT_UNSPEC;
    };
    // SAFETY: the memory is this CPU's; the slow path of the XDP program has ended with the frame
    // that it was called for.
    let memory = unsafe { &mut *memory };
    memory.verdict = decide(&Copied(ctx), told.port, &tables, &mut memory.work, &mut ());
    let Action::Drop = memory.verdict.action else {
        return TC_ACT_UNSPEC;
    };
    let (packets, bytes) = (segments(ctx), length(ctx));
    count_verdict::<T>(&memory.verdict, packets, bytes);
    stop::<T>(told.stopped, packets, bytes)
}

#[inline(always)]
fn stop<T: Tier>(slot: u32, packets: u64, bytes: u64) -> i32 {
    count::<T>(slot, packets, bytes);
    TC_ACT_SHOT
}
