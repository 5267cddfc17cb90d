//! Test runs (`BPF_PROG_TEST_RUN`): many destinations are judged with one packet, which the
//! kernel gives to the program again and again. What the program says of each is written
//! beside it.

use aya_ebpf::programs::XdpContext;

use super::program::Tier;
use crate::{
    layout::{FastOutput, PROBE_BATCH, Probe, ProbeOutput},
    opaque,
};

/// Writes the next destination of a probe into the packet: `BPF_PROG_TEST_RUN` runs
/// a program many times, but always on the same packet. Fields are written whole,
/// as [`InPlace`] reads them: bytes would have to be gathered by the processor
/// before they can be loaded, and benchmarks would measure that.
#[inline(always)]
pub fn rewrite(ctx: &XdpContext, probe: &Probe) {
    let family = probe.control.family;
    if family == 0 {
        return;
    }
    let input = &raw const probe.inputs[probe.control.next as usize % PROBE_BATCH];
    let at = (probe.control.destination & 0xff) as usize;
    let start = opaque::pointer(ctx.data() + at);
    if family == 4 {
        if start + 4 <= ctx.data_end() {
            // SAFETY: checked against the packet's end; inputs are aligned.
            unsafe { *(start as *mut u32) = *input.cast::<u32>() };
        }
    } else if start + 16 <= ctx.data_end() {
        // SAFETY: as above.
        unsafe {
            *(start as *mut u64) = *input.cast::<u64>();
            *((start + 8) as *mut u64) = *input.cast::<u64>().add(1);
        }
    }
}

/// Writes the next destination into the packet and moves on, for benchmarks.
#[inline(always)]
pub(super) fn prepare<T: Tier>(ctx: &XdpContext) {
    if let Some(probe) = T::probe() {
        // SAFETY: one test runs at a time, and userspace waits for it.
        let probe = unsafe { &mut *probe };
        rewrite(ctx, probe);
        probe.control.next = probe.control.next.wrapping_add(1);
    }
}

/// The port as which the packet is to be judged.
#[inline(always)]
pub(super) fn port<T: Tier>() -> u32 {
    match T::probe() {
        // SAFETY: as in `prepare`.
        Some(probe) => unsafe { (*probe).control.port },
        None => 0,
    }
}

/// Writes the next destination into the packet.
#[inline(always)]
pub(super) fn rewrite_next<T: Tier>(ctx: &XdpContext) {
    if let Some(probe) = T::probe() {
        // SAFETY: as in `prepare`.
        rewrite(ctx, unsafe { &*probe });
    }
}

/// Writes what the fast path says.
#[inline(always)]
pub(super) fn note_fast<T: Tier>(said: FastOutput) {
    if let Some(probe) = T::probe() {
        // SAFETY: as in `prepare`.
        let probe = unsafe { &mut *probe };
        probe.fast[probe.control.next as usize % PROBE_BATCH] = said;
    }
}

/// Writes the verdict and moves on to the next destination.
#[inline(always)]
pub(super) fn note<T: Tier>(verdict: ProbeOutput) {
    if let Some(probe) = T::probe() {
        // SAFETY: as in `prepare`.
        let probe = unsafe { &mut *probe };
        let next = probe.control.next;
        probe.outputs[next as usize % PROBE_BATCH] = verdict;
        probe.control.next = next.wrapping_add(1);
    }
}
