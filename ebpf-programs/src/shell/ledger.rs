//! The ledger's lines: a packet is added to that of its flow, or its flow takes one.
//!
//! Nobody else writes lines of this CPU: XDP and tc at ingress do not nest. Whoever reads one meanwhile
//! sees its identity 0, or another sequence after than before; the order in which that is
//! written is kept by the two exchanges.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64},
};

use super::program::Tier;
use crate::{
    layout::{
        FLOW_BUDGET_SHIFT, FLOW_BUDGETS, FLOW_FULL, FLOW_SLOT, Flow, FlowLine, NO_BUDGET, NO_LINES,
    },
    opaque,
};

/// Adds packets to their flow.
#[inline(always)]
pub(super) fn add<T: Tier>(flow: &mut Flow, packets: u32, bytes: u32) {
    if T::lines() == NO_LINES {
        return;
    }
    // SAFETY: helpers without arguments.
    let (cpu, now) = unsafe { (bpf_get_smp_processor_id(), bpf_jiffies64() as u32) };
    let index = place::<T>(flow, cpu);
    let Some(line) = T::line(index) else {
        return lose::<T>(flow, packets, bytes);
    };
    // SAFETY: a line of this CPU, see the module.
    if !takes(unsafe { &mut *line }, flow, now, packets, bytes) {
        other::<T>(flow, index, now, packets, bytes);
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
fn takes(held: &mut FlowLine, flow: &Flow, now: u32, packets: u32, bytes: u32) -> bool {
    let is_its = is_of(held, flow, now);
    if is_its {
        held.packets += packets;
        held.bytes += bytes;
        held.span = (now - held.first) as u16;
    }
    is_its
}

/// Whether a line is of a flow, and can take more. One branch: each would be a path of its own to the
/// verifier.
#[inline(always)]
fn is_of(line: &FlowLine, flow: &Flow, now: u32) -> bool {
    let [a, b, c, d] = line.flow.addresses;
    let differs = (line.flow.identity ^ flow.identity)
        | (line.flow.sender ^ flow.sender)
        | (a ^ flow.addresses[0])
        | (b ^ flow.addresses[1])
        | (c ^ flow.addresses[2])
        | (d ^ flow.addresses[3])
        | (now.wrapping_sub(line.first) >> 16) as u64
        | (line.bytes & FLOW_FULL) as u64;
    opaque::branchless(differs) == 0
}

/// The line at hand is another flow's, or full: it becomes that of this one, or if its source has none
/// left, the packets go to the line of what else that sends.
#[inline(never)]
fn other<T: Tier>(flow: &mut Flow, mut index: u32, now: u32, packets: u32, bytes: u32) {
    // SAFETY: a helper without arguments; no more than five go into a function.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    if !may_take::<T>(flow, cpu, now) {
        flow.be_others();
        index = place::<T>(flow, cpu);
    }
    let Some(line) = T::line(index) else {
        return lose::<T>(flow, packets, bytes);
    };
    // SAFETY: a line of this CPU, see the module.
    let held = unsafe { &mut *line };
    if takes(held, flow, now, packets, bytes) {
        return;
    }
    if held.flow.identity != 0 {
        leave::<T>(held, index, now);
    }
    exchange(&mut held.flow.identity, 0);
    held.flow.addresses = flow.addresses;
    held.flow.sender = flow.sender;
    held.packets = packets;
    held.bytes = bytes;
    held.first = now;
    held.span = 0;
    held.sequence = held.sequence.wrapping_add(1);
    exchange(&mut held.flow.identity, flow.identity);
}

/// Stores a word: all that is written before is seen before it, all after it is seen after.
#[inline(always)]
fn exchange(place: &mut u64, value: u64) {
    // SAFETY: a store to a word that is borrowed here; a barrier on every processor (BPF_XCHG).
    unsafe { asm!("{0} = xchg_64({1} + 0, {0})", inout(reg) value => _, in(reg) place) };
}

/// Adds to a word that other CPUs add to.
#[inline(always)]
fn add_shared(place: *mut u64, value: u64) {
    // SAFETY: a word of a map, which nobody else but such additions writes.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) place, in(reg) value) };
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
        return lose::<T>(&held.flow, held.packets, held.bytes);
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

/// Counts what has no line, or leaves one while the ring has no room.
#[inline(never)]
fn lose<T: Tier>(flow: &Flow, packets: u32, bytes: u32) {
    let slot = (flow.identity & FLOW_SLOT) as u32;
    let Some(lost) = T::lost(slot).or_else(|| T::lost(0)) else {
        return;
    };
    // SAFETY: a value of a map.
    unsafe {
        add_shared(&raw mut (*lost).packets, packets as u64);
        add_shared(&raw mut (*lost).bytes, bytes as u64);
    }
}
