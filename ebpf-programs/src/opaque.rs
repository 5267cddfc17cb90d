//! One trick that the verifier asks for: a value that the compiler cannot see
//! through. It keeps an index that was checked from becoming a pointer that walks
//! along, a checked pointer from being computed a second way, and a loop from
//! being unrolled with a stack slot for each round. On other targets it does
//! nothing.

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
