//! Loops that the verifier follows once, by `bpf_loop`: `repeat(64, |index| …)` calls the closure with 0, 1, 2, …
//! until it returns `true`, 64 times at most.
//!
//! Of a plain loop the verifier follows every round, and all of them again for each state that it comes with: 64
//! rounds of a walk over rules, met in 28 states, were half of what it took to load a program. A round that is a
//! function of its own is followed once for each of these states, however many rounds there may be.
//!
//! What a round leaves for the next one is better kept in a map than in the locals of its caller: of what stands in a
//! map the verifier knows nothing, so that no two rounds differ.

/// Calls `round` with 0, 1, …, at most `most` times, until it says `true`.
///
/// In a BPF program by `bpf_loop`, which Linux has from 5.17 on.
#[inline(always)]
pub(crate) fn repeat<R: FnMut(u32) -> bool>(most: u32, mut round: R) {
    #[cfg(target_arch = "bpf")]
    {
        use core::ffi::c_void;

        unsafe extern "C" fn call<R: FnMut(u32) -> bool>(index: u64, round: *mut R) -> u64 {
            // SAFETY: what `repeat` gave away for the time of the loop.
            let ends = unsafe { (*round)(index as u32) };
            // The verifier wants to see that it is 0 or 1; the compiler knows it.
            crate::opaque::apart(ends as u64) & 1
        }
        let function = call::<R> as unsafe extern "C" fn(u64, *mut R) -> u64;
        let context: *mut R = &mut round;
        // SAFETY: the function takes what it is given here, and nobody has that meanwhile.
        unsafe {
            aya_ebpf::helpers::generated::bpf_loop(
                most,
                function as *mut c_void,
                context.cast::<c_void>(),
                0,
            );
        }
    }
    #[cfg(not(target_arch = "bpf"))]
    for index in 0..most {
        if round(index) {
            break;
        }
    }
}
