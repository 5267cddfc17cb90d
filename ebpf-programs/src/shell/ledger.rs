//! The ledger's lines: a packet is added to that of its flow, or its flow takes one.
//!
//! A line is written by its own CPU only, and by one program at a time: XDP and tc at ingress do not nest. A reader
//! copies it and reads its head again: identity 0, or another sequence number than before, means that it was being
//! replaced; then it reads once more. The two exchanges keep the order in which that is written.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64},
};

use super::program::Tier;
use crate::{
    layout::{
        BEYOND_MARK, BEYOND_SHIFT, Counter, FLOW_BUDGET_SHIFT, FLOW_BUDGETS, FLOW_JUDGED_SHIFT,
        FLOW_KNOWN, FLOW_OTHERS, FLOW_SLOT, FLOW_V6, Flow, FlowLine, GROUP_BITS, Judged,
        MARK_SHIFT, MAX_ORDINALS, NO_BUDGET, NO_CLASS, NO_LINES, beyond_key,
    },
    packet::Address,
    verdict::Tables as _,
};

/// Packets, and their bytes in the low half: no more than five values go into a function.
type Amount = u64;

/// Whom packets were for: the class of the address that decided; [`NO_CLASS`]: that was the destination,
/// and its class was not looked up; with [`BEYOND_MARK`], what the controller has said of it.
type Whom = u64;

/// Jiffies.
#[inline(always)]
pub(super) fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() }
}

/// As [`Lines::known`](crate::verdict::Lines::known), for the flow of a packet that came `now`: the identity that its
/// line has, or 0. `beside`: of the two lines that it could have, the second.
#[inline(always)]
pub(super) fn known<T: Tier, const V6: bool>(
    flow: &Flow,
    beside: bool,
    (now, settled): (u64, u64),
    bytes: u32,
) -> u64 {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(line) = T::line(place::<T>(flow, cpu) ^ beside as u32) else {
        return 0;
    };
    // SAFETY: a line of this CPU, see the module.
    let held = unsafe { &mut *line };
    if !held.says::<V6>(flow, now, settled) {
        return 0;
    }
    held.add(now as u32, 1, bytes);
    held.flow.identity
}

/// Whether the second line that a flow could have may be its: most are of other addresses.
#[inline(always)]
pub(super) fn may_be_beside<T: Tier>(flow: &Flow) -> bool {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let line = T::line(place::<T>(flow, cpu) ^ 1);
    // SAFETY: a line of this CPU, see the module.
    line.is_some_and(|line| unsafe { (*line).flow.addresses[0] } == flow.addresses[0])
}

/// Adds packets to their flow: how many, and their bytes. `class`: as in [`Whom`]; `now`: when they came, for a
/// flow of which more is to be known no later than what they were judged by was read.
#[inline(always)]
pub(super) fn add<T: Tier>(flow: &mut Flow, class: u32, now: u64, (packets, bytes): (u32, u32)) {
    if T::lines() == NO_LINES {
        return;
    }
    // SAFETY: a helper without arguments.
    let (cpu, now) = (unsafe { bpf_get_smp_processor_id() }, now as u32);
    let index = place::<T>(flow, cpu);
    let amount = (packets as u64) << 32 | bytes as u64;
    if !taken::<T>(index, flow, now, amount) {
        T::other(flow, class, index, now, amount);
    }
}

/// The index of the line that a flow has or would have.
#[inline(always)]
fn place<T: Tier>(flow: &Flow, cpu: u32) -> u32 {
    let lines = T::lines();
    cpu * lines + ((flow.hash() >> 32) as u32 & (lines - 1))
}

/// Adds packets to a line, if it is of their flow.
#[inline(always)]
fn takes(held: &mut FlowLine, flow: &Flow, now: u32, amount: Amount) -> bool {
    let is_its = held.is_of(flow, now);
    if is_its {
        held.add(now, (amount >> 32) as u32, amount as u32);
    }
    is_its
}

/// The line at hand is another flow's, or full: the one beside it may be its, or becomes that if it is idle, else
/// the one at hand. If its source has none left, the packets go to the line of what else that sends. Without a
/// second one, two that share a place would take each other's line with every packet; 1,024 flows have 30 such
/// pairs among 16,384 lines.
#[inline(always)]
pub fn other<T: Tier>(flow: &mut Flow, class: u32, mut index: u32, now: u32, amount: Amount) {
    if taken::<T>(index ^ 1, flow, now, amount) {
        return;
    }
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if !may_take::<T>(flow, cpu, now) {
        miss::<T>(flow, class as Whom, amount, false);
        flow.be_others();
        index = place::<T>(flow, cpu);
        if taken::<T>(index, flow, now, amount) || taken::<T>(index ^ 1, flow, now, amount) {
            return;
        }
    }
    // Where three flows take turns, one of them keeps its line.
    if is_idle::<T>(index ^ 1, flow, now) && !is_idle::<T>(index, flow, now) {
        index ^= 1;
    }
    let Some(line) = T::line(index) else {
        return miss::<T>(flow, class as Whom, amount, true);
    };
    // SAFETY: a line of this CPU, see the module.
    let held = unsafe { &mut *line };
    if held.flow.identity != 0 {
        leave::<T>(held, index, now);
    }
    exchange(&mut held.flow.identity, 0);
    held.flow.addresses = flow.addresses;
    held.flow.sender = flow.sender;
    held.packets = (amount >> 32) as u32;
    held.bytes = amount as u32;
    held.first = now;
    held.span = 0;
    held.sequence = held.sequence.wrapping_add(1);
    exchange(&mut held.flow.identity, flow.identity);
}

/// Adds packets to the line at an index, if it is of their flow.
#[inline(always)]
fn taken<T: Tier>(index: u32, flow: &Flow, now: u32, amount: Amount) -> bool {
    let line = T::line(index);
    // SAFETY: a line of this CPU, see the module.
    line.is_some_and(|line| takes(unsafe { &mut *line }, flow, now, amount))
}

/// Whether nobody misses a line: it was never used, its flow has had no packet for the time of a budget, or it says what
/// became of this very flow before.
#[inline(always)]
fn is_idle<T: Tier>(index: u32, flow: &Flow, now: u32) -> bool {
    let Some(line) = T::line(index) else {
        return false;
    };
    // SAFETY: a line of this CPU, see the module.
    let held = unsafe { &*line };
    let ago = now.wrapping_sub(held.first).wrapping_sub(held.span as u32);
    let is_its = flow.identity & FLOW_KNOWN != 0 && held.flow.differs::<true>(flow) == 0;
    held.flow.identity == 0 || ago >> FLOW_BUDGET_SHIFT != 0 || is_its
}

/// Stores a word: all that is written before is seen before it, all after it is seen after.
#[inline(always)]
fn exchange(place: &mut u64, value: u64) {
    // SAFETY: a store to a word that is borrowed here; a barrier on every processor (BPF_XCHG).
    unsafe { asm!("{0} = xchg_64({1} + 0, {0})", inout(reg) value => _, in(reg) place) };
}

/// Adds to a counter that other CPUs add to.
#[inline(always)]
fn add_shared(sum: *mut Counter, amount: Amount) {
    // SAFETY: of a map, which nobody else but such additions writes.
    let [packets, bytes] = unsafe { [&raw mut (*sum).packets, &raw mut (*sum).bytes] };
    for (place, value) in [(packets, amount >> 32), (bytes, amount as u32 as u64)] {
        // SAFETY: as above.
        unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) place, in(reg) value) };
    }
}

/// Whether the source of a flow may take another line, which is taken from its budget.
#[inline(always)]
fn may_take<T: Tier>(flow: &Flow, cpu: u32, now: u32) -> bool {
    let most = T::most();
    if most == NO_BUDGET {
        return true;
    }
    let hash = flow.source_hash();
    let place = (hash >> 32) as u32 & (FLOW_BUDGETS - 1);
    let Some(budget) = T::budget(cpu * FLOW_BUDGETS + place) else {
        return true;
    };
    // SAFETY: of this CPU, see the module.
    let budget = unsafe { &mut *budget };
    // When, whose, and how many.
    let (window, source) = (
        (now >> FLOW_BUDGET_SHIFT) & 0xffff,
        hash as u32 & 0xffff_0000,
    );
    let held = (*budget >> 32) as u32;
    if held & 0xffff != window {
        *budget = ((source | window) as u64) << 32;
    } else if held & 0xffff_0000 != source {
        // Another one's, who must not make this one lose anything.
        return true;
    }
    if *budget as u32 >= most {
        return false;
    }
    *budget += 1;
    true
}

/// Sends a line out.
#[inline(always)]
fn leave<T: Tier>(held: &FlowLine, index: u32, now: u32) {
    let Some(mut record) = T::record() else {
        let amount = (held.packets as u64) << 32 | held.bytes as u64;
        // Said once, it stays so.
        let mark = T::mark(index);
        let is_its = mark as u16 == held.sequence && mark >> MARK_SHIFT != 0;
        let whom = if is_its {
            BEYOND_MARK | mark >> MARK_SHIFT
        } else {
            NO_CLASS as Whom
        };
        return miss::<T>(&held.flow, whom, amount, true);
    };
    // Written where it is: the stack has no room for it.
    let to = record.as_mut_ptr();
    // SAFETY: as long as a record.
    unsafe {
        (*to).held = *held;
        (*to).line = index;
        (*to).at = now;
    }
    record.submit(BPF_RB_NO_WAKEUP as u64);
}

/// Counts what has no line or leaves one while the ring has no room (`is_lost`), or has one that does not say
/// whom it was for: there, the network of the address that decided. One function for all: calls have
/// little stack in common.
#[inline(never)]
fn miss<T: Tier>(flow: &Flow, whom: Whom, amount: Amount, is_lost: bool) {
    let slot = (flow.identity & FLOW_SLOT) as u32;
    if is_lost && let Some(lost) = T::lost(slot).or_else(|| T::lost(0)) {
        add_shared(lost, amount);
    }
    let judged = (flow.identity >> FLOW_JUDGED_SHIFT) as u8 & 15;
    // Those of `others` were counted before they were.
    if judged == Judged::Nothing as u8 || flow.identity & FLOW_OTHERS != 0 {
        return;
    }
    let key = if whom & BEYOND_MARK == 0 {
        beyond_key(slot, ordinal::<T>(flow, whom as u32, judged))
    } else {
        slot as u64 | BEYOND_MARK | whom << BEYOND_SHIFT
    };
    if let Some(sum) = T::beyond(key).or_else(|| T::beyond(0)) {
        add_shared(sum, amount);
    }
}

/// The ordinal of a network; the last one where that is not known.
#[inline(always)]
fn ordinal<T: Tier>(flow: &Flow, mut class: u32, judged: u8) -> u32 {
    let Some(tables) = T::tables() else {
        return MAX_ORDINALS - 1;
    };
    if class == NO_CLASS && judged == Judged::Destination as u8 {
        let [addresses, _, hi, lo] = flow.addresses;
        class = tables.class(if flow.identity & FLOW_V6 != 0 {
            Address::v6(u64::from_be(hi), u64::from_be(lo))
        } else {
            Address::v4(u32::from_be((addresses >> 32) as u32))
        });
    }
    match tables.class_word(class) {
        Some(word) => word >> GROUP_BITS,
        None => MAX_ORDINALS - 1,
    }
}
