//! BPF programs that kordon's is measured against: those that do nothing, and the least
//! that a filter on the kernel's own trie, or on a DIR-24-8 table, can do.
//!
//! In a test run they write the next destination into the packet by the very function
//! that kordon's program uses when it is measured, so that the difference is the work.
//! On a wire they do not ([`REWRITE`]): packets come with their destinations.
#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, xdp_action},
    helpers::generated::bpf_jiffies64,
    macros::{map, xdp},
    maps::{Array, LpmTrie, LruHashMap, LruPerCpuHashMap, PerCpuArray, lpm_trie::Key},
    programs::XdpContext,
};
use kordon_ebpf::{
    layout::{Flow, Probe},
    packet::{Frame, View},
    shell::{frame::Linear, probe::rewrite},
};

/// The one VLAN that is policed.
const VID: u16 = 20;

/// Classes, at most.
const CLASSES: u32 = 1 << 20;

/// Destinations to write.
#[map]
static PROBE: Array<Probe> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Destination -> class, IPv4.
#[map]
static TRIE4: LpmTrie<u32, u32> = LpmTrie::with_max_entries(1 << 21, 0);

/// Destination -> class, IPv6.
#[map]
static TRIE6: LpmTrie<[u32; 4], u32> = LpmTrie::with_max_entries(1 << 20, 0);

/// By class: counter slot, which is also the action (0: pass, 1: drop).
#[map]
static VERDICTS: Array<u32> = Array::with_max_entries(CLASSES, 0);

/// DIR-24-8 (Gupta, Lin and McKeown, 1998): by the first 24 bits of an IPv4 address a
/// counter slot as in [`VERDICTS`], or [`LONGER`] and a block of [`DIR8`]. One large
/// value: elements of their own would be eight bytes each.
#[map]
static DIR24: Array<[u32; 1 << 24]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Blocks of 256 addresses.
#[map]
static DIR8: Array<[u32; DIR8_SLOTS as usize]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Slots of [`DIR8`].
const DIR8_SLOTS: u32 = 1 << 20;

/// In [`DIR24`]: the rest is the number of a block.
const LONGER: u32 = 1 << 31;

/// Whether destinations are written into packets.
#[unsafe(no_mangle)]
static REWRITE: Global<u32> = Global::new(1);

/// Packets and bytes.
#[map]
static COUNTS: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(2, 0);

/// Flows, as a ledger in the kernel's own hash that evicts what was not used for long: packets and bytes,
/// and when the first and the last one came. Userspace makes it as large as kordon's lines are.
#[map]
static LRU: LruHashMap<[u64; FLOW], [u64; 2]> = LruHashMap::with_max_entries(1, 0);

/// As [`LRU`], with values for each CPU.
#[map]
static LRU_PERCPU: LruPerCpuHashMap<[u64; FLOW], [u64; 2]> =
    LruPerCpuHashMap::with_max_entries(1, 0);

/// Words of a flow.
const FLOW: usize = size_of::<Flow>() / size_of::<u64>();

#[inline(always)]
fn prepare(ctx: &XdpContext) {
    if REWRITE.load() == 0 {
        return;
    }
    if let Some(probe) = PROBE.get_ptr_mut(0) {
        // SAFETY: one test runs at a time, and userspace waits for it.
        let probe = unsafe { &mut *probe };
        rewrite(ctx, probe);
        probe.control.next = probe.control.next.wrapping_add(1);
    }
}

/// Nothing.
#[xdp(frags)]
fn empty(ctx: XdpContext) -> u32 {
    prepare(&ctx);
    xdp_action::XDP_PASS
}

/// The least that a filter can cost: every packet goes.
#[xdp(frags)]
fn xdp_drop(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// The least that a filter by destination can cost: what has one is dropped.
#[xdp(frags)]
fn xdp_read(ctx: XdpContext) -> u32 {
    let frame = Linear::of(&ctx);
    match frame.view::<38>(0) {
        Some(head) if head.raw_u32(34) != 0 => xdp_action::XDP_DROP,
        _ => xdp_action::XDP_PASS,
    }
}

/// The least that a program can cost.
#[xdp(frags)]
fn xdp_pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// One tag, the fixed header, the trie, the verdict, a counter; no check of anything.
#[xdp(frags)]
fn lpm(ctx: XdpContext) -> u32 {
    prepare(&ctx);
    judge(&ctx, by_trie).unwrap_or(xdp_action::XDP_PASS)
}

/// As `lpm`, with the table DIR-24-8; IPv4 alone.
#[xdp(frags)]
fn dir_24_8(ctx: XdpContext) -> u32 {
    prepare(&ctx);
    judge(&ctx, by_dir).unwrap_or(xdp_action::XDP_PASS)
}

/// One tag, the fixed header, and the flow's line in an LRU hash; no verdict.
#[xdp(frags)]
fn lru(ctx: XdpContext) -> u32 {
    prepare(&ctx);
    let line = |flow: &_| LRU.get_ptr_mut(flow);
    let made = |flow: &_, line: &_| LRU.insert(flow, line, 0).is_ok();
    record(&ctx, line, made).unwrap_or(xdp_action::XDP_ABORTED)
}

/// As `lru`, where each CPU has values of its own.
#[xdp(frags)]
fn lru_percpu(ctx: XdpContext) -> u32 {
    prepare(&ctx);
    let line = |flow: &_| LRU_PERCPU.get_ptr_mut(flow);
    let made = |flow: &_, line: &_| LRU_PERCPU.insert(flow, line, 0).is_ok();
    record(&ctx, line, made).unwrap_or(xdp_action::XDP_ABORTED)
}

#[inline(always)]
fn record(
    ctx: &XdpContext,
    line: impl Fn(&[u64; FLOW]) -> Option<*mut [u64; 2]>,
    made: impl Fn(&[u64; FLOW], &[u64; 2]) -> bool,
) -> Option<u32> {
    let frame = Linear::of(ctx);
    let link = frame.view::<18>(0)?;
    if link.u16(12) != 0x8100 || link.u16(14) & 0xfff != VID {
        return None;
    }
    let pair = |high: u32, low: u32| (high as u64) << 32 | low as u64;
    let sender = pair(link.raw_u32(6), link.u16(10).into());
    let flow = if link.u16(16) == 0x0800 {
        let ip = frame.view::<24>(18)?;
        let [addresses, rest] = [
            pair(ip.raw_u32(12), ip.raw_u32(16)),
            pair(ip.u8(9).into(), ip.raw_u32(20)),
        ];
        [addresses, 0, 0, 0, sender, rest]
    } else {
        let ip = frame.view::<44>(18)?;
        let [a, b, c, d] = [8, 16, 24, 32].map(|at| pair(ip.raw_u32(at), ip.raw_u32(at + 4)));
        [a, b, c, d, sender, pair(ip.u8(6).into(), ip.raw_u32(40))]
    };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_jiffies64() } as u32 as u64;
    let amount = pair(1, frame.len());
    if let Some(line) = line(&flow) {
        // SAFETY: a value of a map; another CPU may add at the same moment, which costs nothing here.
        unsafe {
            (*line)[0] += amount;
            (*line)[1] = (*line)[1] & !0xffff_ffff | now;
        }
    } else if !made(&flow, &[amount, now << 32 | now]) {
        return None;
    }
    Some(xdp_action::XDP_PASS)
}

/// The frame, where its header is, and whether that is IPv4: counter slot.
type Lookup = fn(&Linear, u32, bool) -> Option<u32>;

#[inline(always)]
fn judge(ctx: &XdpContext, lookup: Lookup) -> Option<u32> {
    let frame = Linear::of(ctx);
    let link = frame.view::<18>(0)?;
    if link.u16(12) != 0x8100 || link.u16(14) & 0xfff != VID {
        return None;
    }
    let slot = lookup(&frame, 18, link.u16(16) == 0x0800)?;
    let counts = COUNTS.get_ptr_mut(slot)?;
    // SAFETY: the value of this CPU; XDP does not nest.
    unsafe {
        (*counts)[0] += 1;
        (*counts)[1] += u64::from(frame.len());
    }
    Some(if slot == 0 {
        xdp_action::XDP_PASS
    } else {
        xdp_action::XDP_DROP
    })
}

#[inline(always)]
fn by_dir(frame: &Linear, at: u32, v4: bool) -> Option<u32> {
    if !v4 {
        return None;
    }
    let destination = frame.view::<20>(at)?.u32(16);
    let slots = DIR24.get_ptr(0)?.cast::<u32>();
    // SAFETY: 24 bits are an index into 2^24 slots, and the verifier knows it.
    let slot = unsafe { *slots.add((destination >> 8) as usize) };
    if slot & LONGER == 0 {
        return Some(slot);
    }
    let index = (slot << 8 | destination & 0xff) & (DIR8_SLOTS - 1);
    let slots = DIR8.get_ptr(0)?.cast::<u32>();
    // SAFETY: masked to the number of slots.
    Some(unsafe { *slots.add(index as usize) })
}

#[inline(always)]
fn by_trie(frame: &Linear, at: u32, v4: bool) -> Option<u32> {
    let class = if v4 {
        let ip = frame.view::<20>(at)?;
        TRIE4.get(Key::new(32, ip.u32(16).to_be()))
    } else {
        let ip = frame.view::<40>(at)?;
        let destination = [24, 28, 32, 36].map(|at| ip.u32(at).to_be());
        TRIE6.get(Key::new(128, destination))
    }
    .copied()
    .unwrap_or(0);
    VERDICTS.get(class).copied()
}

kordon_ebpf::bare_program!();
