//! Writes the kernel's jiffies into the frame of a test run (`BPF_PROG_TEST_RUN`): the clock of the ledger's lines,
//! for which user space has no call, while they cost a packet nothing. Never attached.
#![no_std]
#![no_main]

use aya_ebpf::{helpers::generated::bpf_jiffies64, macros::xdp, programs::XdpContext};

/// Writes jiffies over the first eight bytes of the frame.
#[xdp]
fn clock(ctx: XdpContext) -> u32 {
    let start = ctx.data();
    if start + 8 <= ctx.data_end() {
        // SAFETY: checked against the frame's end; a helper without arguments.
        unsafe { (start as *mut u64).write_unaligned(bpf_jiffies64()) };
    }
    0
}

kordon_ebpf::bare_program!();
