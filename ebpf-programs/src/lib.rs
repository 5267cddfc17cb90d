//! kordon's decision library, shared by the kernel and userspace.
//!
//! - [`packet`] reads headers; [`table`] finds the class of an address, [`plane`] the leaf; [`verdict`] decides.
//! - [`layout`]: what both sides share byte for byte.
//! - [`flow`]: the key of a ledger line; [`seen`]: what is counted for each interface.
//! - [`opaque`]: what is hidden from the compiler for the verifier; `repeat`: loops by `bpf_loop`; `bare`: what each
//!   BPF program needs besides its code.
//!
//! All of it is plain `no_std` code that knows nothing of XDP. [`shell`] (only with the feature `programs`) puts it
//! into BPF programs.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod bare;
pub mod flow;
pub mod layout;
pub mod opaque;
pub mod packet;
pub mod plane;
mod repeat;
pub mod seen;
#[cfg(feature = "programs")]
pub mod shell;
pub mod table;
pub mod verdict;
