//! One trick that the verifier asks for: a value that the compiler cannot see
//! through. It keeps an index that was checked from becoming a pointer that walks
//! along, a checked pointer from being computed a second way, and a loop from
//! being unrolled with a stack slot for each round. On other targets it does
//! nothing.
//!
//! Where registers are short, the compiler keeps an index on the stack and reads it
//! from there twice: to check it, and to use it. Linux before 6.9 does not connect what
//! was read with what was written, unless the value had been copied between registers
//! before, so the second reading is as unbounded as ever: "unbounded memory access". What
//! is opaque is in one register when it is checked, and is what is used. Newer kernels
//! do without; `cargo xtask vm 6.1` finds where it is missing.

/// The same value, of which the compiler knows nothing. The verifier does.
#[inline(always)]
#[must_use]
pub fn opaque(value: usize) -> usize {
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
/// follows a loop once for each distinct content of registers and stack, but
/// knows nothing of what stands in a map: what a loop carries from round to round
/// is kept there, and is not to be held in registers meanwhile.
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
