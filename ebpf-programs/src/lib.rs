//! kordon's decision library, shared by the kernel and userspace.
//!
//! [`packet`] reads headers, [`table`] finds the class of an address, [`verdict`]
//! decides; [`flow`] is whose a packet is, for the ledger; [`seen`] is what is counted by interface; [`layout`] is what both sides share byte for byte. All of it is
//! plain `no_std` code that knows nothing of XDP. [`shell`] (only with the
//! feature `programs`) puts it into a BPF program.
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
