//! BPF programs that kordon's is measured against: one that does nothing, and the
//! least that a filter on the kernel's own trie can do.
//!
//! Both write the next destination into the packet by the very function that
//! kordon's program uses when it is measured, so that the difference is the work.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action},
    macros::{map, xdp},
    maps::{Array, LpmTrie, PerCpuArray, lpm_trie::Key},
    programs::XdpContext,
};
use kordon_ebpf::{
    layout::Probe,
    packet::{Frame, View},
    shell::{Linear, rewrite},
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

/// Packets and bytes.
#[map]
static COUNTS: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(2, 0);

#[inline(always)]
fn prepare(ctx: &XdpContext) {
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

/// One tag, the fixed header, the trie, the verdict, a counter; no check of anything.
#[xdp(frags)]
fn lpm(ctx: XdpContext) -> u32 {
    prepare(&ctx);
    judge(&ctx).unwrap_or(xdp_action::XDP_PASS)
}

#[inline(always)]
fn judge(ctx: &XdpContext) -> Option<u32> {
    let frame = Linear {
        data: ctx.data(),
        end: ctx.data_end(),
    };
    let link = frame.view::<18>(0)?;
    if link.u16(12) != 0x8100 || link.u16(14) & 0xfff != VID {
        return None;
    }
    let class = if link.u16(16) == 0x0800 {
        let ip = frame.view::<20>(18)?;
        TRIE4.get(Key::new(32, ip.u32(16).to_be()))
    } else {
        let ip = frame.view::<40>(18)?;
        let destination = [24, 28, 32, 36].map(|at| ip.u32(at).to_be());
        TRIE6.get(Key::new(128, destination))
    }
    .copied()
    .unwrap_or(0);
    let slot = *VERDICTS.get(class)?;
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

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// One of the names that the kernel knows; none of the helpers above is for GPL programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
