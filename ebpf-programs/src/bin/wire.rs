//! BPF programs of the benchmark on a wire: the sender, and what stands for a VLAN
//! sub-interface where the kernel has none.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, TC_ACT_OK, xdp_action},
    helpers::{bpf_redirect, bpf_skb_vlan_pop},
    macros::{classifier, map, xdp},
    maps::Array,
    programs::{TcContext, XdpContext},
};
use kordon_ebpf::opaque;

/// Destinations of [`Feed`].
const DESTINATIONS: usize = 1 << 17;

/// What `send` writes into packets, and where they go. Userspace has the same.
#[repr(C)]
struct Feed {
    /// Number of the next packet.
    next: u32,
    /// Interface that it leaves by.
    interface: u32,
    /// Where its IPv4 header begins.
    header: u32,
    /// Destinations in use; at most `DESTINATIONS`.
    count: u32,
    /// What is before the IPv4 header, 14 bytes, or 18 with a tag.
    link: [u32; 6],
    /// Destination and header checksum, as they stand in a packet.
    destinations: [[u32; 2]; DESTINATIONS],
}

/// One.
#[map]
static FEED: Array<Feed> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Gives the frame the next destination and sends it off.
#[xdp]
fn send(ctx: XdpContext) -> u32 {
    next(&ctx).unwrap_or(xdp_action::XDP_ABORTED)
}

#[inline(always)]
fn next(ctx: &XdpContext) -> Option<u32> {
    let feed = FEED.get_ptr_mut(0)?;
    // SAFETY: one test run is under way at a time, and userspace waits for it.
    let feed = unsafe { &mut *feed };
    let next = feed.next;
    feed.next = if next + 1 < feed.count { next + 1 } else { 0 };
    let [destination, checksum] = feed.destinations[next as usize % DESTINATIONS];
    let header = opaque::pointer(ctx.data() + (feed.header & 0xff) as usize);
    if header + 20 > ctx.data_end() {
        return None;
    }
    let link = opaque::pointer(ctx.data());
    if link + 18 > ctx.data_end() {
        return None;
    }
    // Pages come back from the stack, which has taken the tag out of them.
    let words = feed.link;
    // SAFETY: 18 bytes from `link` and 20 from `header` are in the packet.
    unsafe {
        (link as *mut u32).write_unaligned(words[0]);
        ((link + 4) as *mut u32).write_unaligned(words[1]);
        ((link + 8) as *mut u32).write_unaligned(words[2]);
        ((link + 12) as *mut u16).write_unaligned(words[3] as u16);
        if feed.header == 18 {
            ((link + 14) as *mut u16).write_unaligned((words[3] >> 16) as u16);
            ((link + 16) as *mut u16).write_unaligned(words[4] as u16);
        }
        ((header + 10) as *mut u16).write_unaligned(checksum as u16);
        ((header + 16) as *mut u32).write_unaligned(destination);
        // SAFETY: the helper takes two integers; a wrong index drops the packet.
        Some(bpf_redirect(feed.interface, 0) as u32)
    }
}

/// Takes the tag off, as a VLAN sub-interface would, so that the stack has the packet.
#[classifier]
fn untag(ctx: TcContext) -> i32 {
    // SAFETY: no pointer into the packet is held. A frame without a tag stays as it is.
    unsafe { bpf_skb_vlan_pop(ctx.skb.skb) };
    TC_ACT_OK as i32
}

kordon_ebpf::bare_program!();
