//! The kernel's clock of the ledger's lines, for whoever reads them: jiffies cost a packet nothing, and
//! nobody but the kernel knows what they are. Run by `BPF_PROG_TEST_RUN`, never attached.
#![no_std]
#![no_main]

use aya_ebpf::{helpers::generated::bpf_jiffies64, macros::xdp, programs::XdpContext};

/// Says the low half of jiffies.
#[xdp]
fn clock(_: XdpContext) -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() as u32 }
}

kordon_ebpf::bare_program!();
