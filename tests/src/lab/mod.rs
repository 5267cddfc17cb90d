//! The network laboratory: cameras, a router and an internet in network
//! namespaces, with real 802.1Q tags on the wire and no way out of the machine.
//!
//! ```text
//!  camera  --tagged 20--+                     +--- server AS15169
//!                       switch --trunk-- router -- internet -- server AS12695
//!  office  --tagged 30--+   (tags inline)     +--- server AS12389
//! ```
//!
//! - [`Lab`]: the topology, removed when it goes out of scope, also on panic.
//! - [`Wire`]: two ends of one cable, for what needs no more.
//! - [`Namespace`]: one namespace; commands, sockets and files seen from inside.
//! - [`programs`]: the VLAN devices made of tc programs, and counters in the kernel.
//! - [`frame`], [`raw`]: frames of any shape and a sender that does not touch them.
//! - [`flood`]: millions of frames a second; [`counters`]: how many of them a device had.
//! - [`traffic`]: TCP and UDP peers.
//! - [`Bpffs`]: a BPF file system of one's own.
//!
//! The tests' only way to the network, so that a change here is one change.

pub mod bpffs;
pub mod counters;
pub mod flood;
pub mod flow;
pub mod frame;
pub(crate) mod listener;
pub mod namespace;
pub mod programs;
pub mod raw;
mod topology;
pub mod traffic;
mod wire;

pub use bpffs::Bpffs;
pub use namespace::{Namespace, cleanup};
pub use topology::{
    Host, Lab, LabConfig, Naming, PORT, ROUTER_MAC, Server, ServerConfig, TRUNK, VlanConfig,
};
pub use wire::Wire;
