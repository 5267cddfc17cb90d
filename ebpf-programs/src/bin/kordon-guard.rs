//! The guard: a tc program at ingress of each policed interface, behind the XDP program.
//! To it all tags are visible, so it counts what went on to the stack once more; see
//! [`kordon_ebpf::seen`]. It decides nothing and changes nothing.
//!
//! A program of its own, without tiers, that every kernel takes: it asks for nothing but
//! what the kernel keeps beside each packet.
#![no_std]
#![no_main]

use aya_ebpf::{
    Global, bindings::TC_ACT_UNSPEC, btf_maps::PerCpuArray, macros::btf_map, macros::classifier,
    programs::TcContext,
};
use kordon_ebpf::{
    layout::{COUNTER_PAGE, COUNTER_PAGES, Counter, NO_PORT},
    seen::{By, Kind, slot},
};

/// The counters of all programs.
#[btf_map]
static COUNTERS: PerCpuArray<[Counter; COUNTER_PAGE as usize], { COUNTER_PAGES as usize }> =
    PerCpuArray::new();

/// The first counter of the interface that this instance is attached to.
#[unsafe(no_mangle)]
static SLOT: Global<u32> = Global::new(NO_PORT);

/// What the router sends to a group and has looped back to itself, of `linux/if_packet.h`.
const PACKET_LOOPBACK: u32 = 5;

/// Counts one packet, and lets whatever comes behind have it.
#[classifier]
fn guard(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // Multicast and broadcast of the router's own, which never arrived, and which no driver
    // shows to XDP.
    // SAFETY: the context of a running program; the kernel rewrites the access.
    if unsafe { (*skb).pkt_type } == PACKET_LOOPBACK {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: the context of a running program; the kernel rewrites the accesses.
    let (present, tpid, protocol, segments) = unsafe {
        (
            (*skb).vlan_present,
            (*skb).vlan_proto as u16,
            (*skb).protocol as u16,
            (*skb).gso_segs,
        )
    };
    let protocol = u16::from_be(protocol);
    let kind = if present == 0 {
        // One tag at most is beside a packet, and none of those that Linux knows is left in
        // a frame that has none there.
        Kind::of(protocol, 0)
    } else {
        Kind::of(u16::from_be(tpid), protocol)
    };
    let first = SLOT.load();
    count(first + slot(By::Guard, kind), u64::from(segments.max(1)));
    count(first + slot(By::GuardWhole, kind), 1);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn count(slot: u32, packets: u64) {
    if let Some(page) = COUNTERS.get_ptr_mut(slot / COUNTER_PAGE) {
        // SAFETY: the page belongs to this CPU, and tc ingress does not nest.
        unsafe { (*page)[(slot % COUNTER_PAGE) as usize].packets += packets };
    }
}

kordon_ebpf::bare_program!();
