//! The boot guard: rules of nftables that hold what would be forwarded from policed VLANs, from
//! before the network is up until kordon enforces. They are in a file that the unit
//! `kordon-boot-guard.service` loads with `nft` and nothing else, so that a kordon that does not
//! start holds, too, and so that an auditor can read them.
//!
//! - [`rules`]: what is held, as text; knows a configuration, a policy and names of links.
//! - [`tables`]: what the kernel holds now, and its release, interface by interface.
//!
//! Rules go by names of devices (`iifname`), since at boot no device is there yet.

mod rules;
mod tables;

pub use self::{
    rules::{FILE, FILE_OF_BRIDGES, Learned, Over, Rules, is_sayable, learned},
    tables::{check, held, release},
};
