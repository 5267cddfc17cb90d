//! The guard: a tc program at ingress of each policed interface, behind the XDP program.
//! To it all tags are visible, so it counts what went on to the stack once more (see
//! [`kordon_ebpf::seen`]), and judges what the XDP program may not have judged.
//!
//! A program of its own, without tiers, that stays on the interface whatever becomes of the
//! rules: what judges is over the live maps, the same for all interfaces
//! ([`kordon_ebpf::shell::guard`]), and can be exchanged at any moment.
#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    bindings::TC_ACT_UNSPEC,
    btf_maps::{PerCpuArray, ProgramArray},
    macros::{btf_map, classifier},
    programs::TcContext,
};
use kordon_ebpf::{
    layout::{COUNTER_PAGE, COUNTER_PAGES, Counter, NO_PORT},
    seen::{By, slot},
    shell::{
        guard::unjudged,
        skb::{Told, is_loopback, kind, segments},
    },
};

/// The counters of all programs.
#[btf_map]
static COUNTERS: PerCpuArray<[Counter; COUNTER_PAGE as usize], { COUNTER_PAGES as usize }> =
    PerCpuArray::new();

/// The fast path of all guards at 0, the slow one at 1; empty: the guard only counts.
#[btf_map]
static PATHS: ProgramArray<2> = ProgramArray::new();

/// The port of the interface that this instance is attached to.
#[unsafe(no_mangle)]
static PORT: Global<u32> = Global::new(NO_PORT);
/// Its first counter.
#[unsafe(no_mangle)]
static SLOT: Global<u32> = Global::new(NO_PORT);
/// 1: there is no XDP program before it.
#[unsafe(no_mangle)]
static ALONE: Global<u32> = Global::new(0);
/// 0: it only counts.
#[unsafe(no_mangle)]
static JUDGES: Global<u32> = Global::new(0);

/// Counts one packet, and lets whatever comes behind have it, unless it is to be dropped.
#[classifier]
fn guard(mut ctx: TcContext) -> i32 {
    // Multicast and broadcast of the router's own, which never arrived, and which no driver
    // shows to XDP.
    if is_loopback(&ctx) {
        return TC_ACT_UNSPEC;
    }
    let kind = kind(&ctx);
    let first = SLOT.load();
    count(first + slot(By::Guard, kind), segments(&ctx));
    count(first + slot(By::GuardWhole, kind), 1);
    if JUDGES.load() == 0 {
        return TC_ACT_UNSPEC;
    }
    let alone = ALONE.load();
    Told {
        port: PORT.load(),
        stopped: first + slot(By::Stopped, kind),
        unpoliced: first + slot(By::NoZone, kind),
        alone,
    }
    .tell(&mut ctx);
    // SAFETY: nothing here waits for being dropped.
    unsafe { PATHS.tail_call(&ctx, 0) };
    unjudged(alone)
}

#[inline(always)]
fn count(slot: u32, packets: u64) {
    if let Some(page) = COUNTERS.get_ptr_mut(slot / COUNTER_PAGE) {
        // SAFETY: the page belongs to this CPU, and tc ingress does not nest.
        unsafe { (*page)[(slot % COUNTER_PAGE) as usize].packets += packets };
    }
}

kordon_ebpf::bare_program!();
