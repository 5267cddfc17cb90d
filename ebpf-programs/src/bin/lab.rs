//! BPF programs of the test laboratory: VLAN devices made of tc programs, and
//! counters at both ends of the wire.
//!
//! Nothing here ships. The lab makes its own VLAN sub-interfaces because a test
//! kernel need not have 8021q, and because they leave the tag in the packet, as
//! a camera's switch does. Maps' content belongs to the network namespace that
//! its programs are attached in: interface indices mean nothing elsewhere.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_OK, TC_ACT_SHOT, xdp_action},
    helpers::{bpf_redirect, bpf_skb_vlan_pop, bpf_skb_vlan_push},
    macros::{classifier, map, xdp},
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap},
    programs::{TcContext, XdpContext},
};

/// Tags that Linux accepts in one frame before this gives up on it.
const MAX_TAGS: u32 = 8;

/// Slot of [`SEEN`] for frames whose first ethertype is not a tag.
const UNTAGGED: u32 = 4096;

const TPID_C: u16 = 0x8100;
const TPID_S: u16 = 0x88a8;
const TPID_OLD: u16 = 0x9100;

/// By interface: `outer << 12 | inner`, the tags that belong to it. Inner 0: one tag.
#[map]
static TAGS: HashMap<u32, u32> = HashMap::with_max_entries(64, 0);

/// By `outer << 12 | inner`: the sub-interface that takes the frame.
#[map]
static SUBS: HashMap<u32, u32> = HashMap::with_max_entries(64, 0);

/// The trunk's interface index, for `mux`.
#[map]
static TRUNK: Array<u32> = Array::with_max_entries(1, 0);

/// By destination address (IPv4 in the first four bytes): packets and bytes that arrived.
#[map]
static ARRIVED: PerCpuHashMap<[u8; 16], [u64; 2]> = PerCpuHashMap::with_max_entries(4096, 0);

/// By VID of the first inline tag, or [`UNTAGGED`]: frames that XDP saw.
#[map]
static SEEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(UNTAGGED + 1, 0);

fn interface(ctx: &TcContext) -> u32 {
    // SAFETY: the context of a running program; the kernel rewrites the access.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// The VID of the outermost tag, if there is a tag.
fn vid(ctx: &TcContext) -> Option<u32> {
    // SAFETY: as in `interface`.
    let (present, tci) = unsafe { ((*ctx.skb.skb).vlan_present, (*ctx.skb.skb).vlan_tci) };
    (present != 0).then_some(tci & 0xfff)
}

fn pop(ctx: &TcContext) -> bool {
    // SAFETY: no pointer into the packet is held by any caller.
    unsafe { bpf_skb_vlan_pop(ctx.skb.skb) == 0 }
}

fn push(ctx: &TcContext, tpid: u16, vid: u32) -> bool {
    // SAFETY: as in `pop`.
    unsafe { bpf_skb_vlan_push(ctx.skb.skb, tpid.to_be(), vid as u16) == 0 }
}

/// Pushes the interface's tags. An interface without tags keeps its frames as they are.
fn push_tags(ctx: &TcContext) -> bool {
    // SAFETY: entries are written before the programs are attached and stay.
    let Some(&tags) = (unsafe { TAGS.get(interface(ctx)) }) else {
        return true;
    };
    let (outer, inner) = (tags >> 12, tags & 0xfff);
    if inner == 0 {
        push(ctx, TPID_C, outer)
    } else {
        push(ctx, TPID_C, inner) && push(ctx, TPID_S, outer)
    }
}

/// Egress of a host: the tags of its VLAN go on.
#[classifier]
fn host_out(ctx: TcContext) -> i32 {
    if push_tags(&ctx) {
        TC_ACT_OK as i32
    } else {
        TC_ACT_SHOT as i32
    }
}

/// Ingress of a host: frames of its VLAN lose their tags, all others end here
/// (the lab's switch floods, it knows no VLANs).
#[classifier]
fn host_in(ctx: TcContext) -> i32 {
    // SAFETY: as in `push_tags`.
    let Some(&tags) = (unsafe { TAGS.get(interface(&ctx)) }) else {
        return TC_ACT_OK as i32;
    };
    let (outer, inner) = (tags >> 12, tags & 0xfff);
    if vid(&ctx) != Some(outer) || !pop(&ctx) {
        return TC_ACT_SHOT as i32;
    }
    let clean = if inner == 0 {
        vid(&ctx).is_none()
    } else {
        vid(&ctx) == Some(inner) && pop(&ctx)
    };
    if clean {
        TC_ACT_OK as i32
    } else {
        TC_ACT_SHOT as i32
    }
}

/// Ingress of the router's trunk: to the sub-interface of the frame's tags.
/// Priority tags (VID 0) are skipped wherever they stand, as Linux does.
#[classifier]
fn demux(ctx: TcContext) -> i32 {
    let mut key = 0;
    let mut counting = 0;
    for _ in 0..MAX_TAGS {
        let Some(vid) = vid(&ctx) else { break };
        if !pop(&ctx) {
            return TC_ACT_SHOT as i32;
        }
        if vid != 0 {
            counting += 1;
            key = if counting == 1 { vid << 12 } else { key | vid };
        }
    }
    if vid(&ctx).is_some() || counting > 2 {
        return TC_ACT_SHOT as i32;
    }
    if counting == 0 {
        return TC_ACT_OK as i32;
    }
    // SAFETY: as in `push_tags`.
    match unsafe { SUBS.get(key) } {
        // SAFETY: the helper takes two integers; a wrong index drops the packet.
        Some(&sub) => unsafe { bpf_redirect(sub, u64::from(BPF_F_INGRESS)) as i32 },
        None => TC_ACT_SHOT as i32,
    }
}

/// Egress of a sub-interface: tags on, out of the trunk.
#[classifier]
fn mux(ctx: TcContext) -> i32 {
    let Some(&trunk) = TRUNK.get(0) else {
        return TC_ACT_SHOT as i32;
    };
    if !push_tags(&ctx) {
        return TC_ACT_SHOT as i32;
    }
    // SAFETY: as in `demux`.
    unsafe { bpf_redirect(trunk, 0) as i32 }
}

/// Ingress of a server: counts packets by destination. Aggregates count by their segments.
#[classifier]
fn arrivals(ctx: TcContext) -> i32 {
    let mut destination = [0; 16];
    let read = match ctx.load::<u16>(12).map(u16::from_be) {
        Ok(0x0800) => ctx
            .load::<[u8; 4]>(30)
            .map(|v4| destination[..4].copy_from_slice(&v4)),
        Ok(0x86dd) => ctx.load::<[u8; 16]>(38).map(|v6| destination = v6),
        _ => return TC_ACT_OK as i32,
    };
    if read.is_err() {
        return TC_ACT_OK as i32;
    }
    // SAFETY: as in `interface`.
    let segments = unsafe { (*ctx.skb.skb).gso_segs }.max(1);
    let (packets, bytes) = (u64::from(segments), u64::from(ctx.len()));
    if let Some(counts) = ARRIVED.get_ptr_mut(destination) {
        // SAFETY: the value of this CPU; tc ingress does not nest.
        unsafe {
            (*counts)[0] += packets;
            (*counts)[1] += bytes;
        }
    } else {
        // Full: later destinations stay uncounted, and the lab has few.
        let _ = ARRIVED.insert(destination, [packets, bytes], 0);
    }
    TC_ACT_OK as i32
}

/// On the trunk instead of kordon: which tags does XDP see inline?
#[xdp]
fn witness(ctx: XdpContext) -> u32 {
    let (data, end) = (ctx.data(), ctx.data_end());
    if data + 16 > end {
        return xdp_action::XDP_PASS;
    }
    // SAFETY: 16 bytes from `data` are in the packet, checked above.
    let [tpid, tci] =
        unsafe { ((data + 12) as *const [u16; 2]).read_unaligned() }.map(u16::from_be);
    let slot = match tpid {
        TPID_C | TPID_S | TPID_OLD => u32::from(tci & 0xfff),
        _ => UNTAGGED,
    };
    if let Some(count) = SEEN.get_ptr_mut(slot) {
        // SAFETY: the value of this CPU; XDP does not nest.
        unsafe { *count += 1 };
    }
    xdp_action::XDP_PASS
}

kordon_ebpf::bare_program!();
