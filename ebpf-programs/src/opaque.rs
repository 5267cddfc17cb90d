//! What is hidden from the compiler, because the verifier cannot follow what it would make of it. Each
//! function is named after the one thing that it sees to; outside of a BPF program
//! all of them do nothing. `cargo xtask vm 6.1` finds where one is missing: newer kernels do without some.

/// An index that is checked and used in the same register.
///
/// Where registers are short, the compiler keeps an index on the stack and reads it
/// from there twice: to check it, and to use it. Linux before 6.9 does not connect what
/// was read with what was written, unless the value had been copied between registers
/// before, so the second reading is as unbounded as ever: "unbounded memory access". It also
/// keeps an index from becoming a pointer that walks along, which no check bounds; and a mask
/// behind it from going before the bytes are swapped, of which older kernels say "unbounded", too.
#[inline(always)]
#[must_use]
pub fn index(value: usize) -> usize {
    hidden(value)
}

/// A pointer into a packet, computed once: else what is compared with the packet's end and
/// what is read may be two computations, of which the verifier has checked one.
#[inline(always)]
#[must_use]
pub fn pointer(value: usize) -> usize {
    hidden(value)
}

/// How often a loop goes round: of a number that it does not know the compiler cannot write
/// each round out, with stack slots and branches of its own.
#[inline(always)]
#[must_use]
pub fn rounds(value: usize) -> usize {
    hidden(value)
}

/// The outcome of arithmetic that is to stay arithmetic: the compiler makes a jump of a
/// comparison, and each jump in a loop multiplies what the verifier must follow; no processor
/// could predict it either.
#[inline(always)]
#[must_use]
pub fn branchless(value: u64) -> u64 {
    hidden(value as usize) as u64
}

/// A value that is computed where it stands: the compiler would take it apart before a loop,
/// and fill the stack, or make one of it and of another that looks alike.
#[inline(always)]
#[must_use]
pub fn apart(value: u64) -> u64 {
    hidden(value as usize) as u64
}

/// The same value, of which the compiler knows nothing. The verifier does.
#[inline(always)]
fn hidden(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    let value = {
        let mut value = value;
        // SAFETY: moves a register to itself. An empty assembly would do, but
        // leaves two line records for one instruction, which the kernel refuses.
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack, preserves_flags));
        }
        value
    };
    value
}

/// The same reference, behind which the compiler must look anew. The verifier
/// follows code once for each distinct content of registers and stack, but
/// knows nothing of what stands in a map: what several ways have left there
/// is read from there, and is not to be held in registers meanwhile.
#[inline(always)]
#[must_use]
pub fn in_memory<T>(value: &mut T) -> &mut T {
    #[cfg(target_arch = "bpf")]
    let value = {
        let mut pointer: *mut T = value;
        // SAFETY: moves a register to itself; what comes back is the reference
        // that was given away.
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) pointer, options(nostack, preserves_flags));
            &mut *pointer
        }
    };
    value
}
