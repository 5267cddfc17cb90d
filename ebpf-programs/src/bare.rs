//! The panic handler and the licence string, which the kernel wants in every BPF program.

/// The end of a panic, which no program that the verifier takes can reach, and the licence:
/// one of the names that the kernel knows. No helper that kordon calls is for GPL programs
/// only.
#[macro_export]
macro_rules! bare_program {
    () => {
        #[cfg(not(test))]
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            loop {}
        }

        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
    };
}
