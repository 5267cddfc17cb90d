//! kordon's decision library: see the modules.
#![cfg_attr(not(test), no_std)]

pub mod layout;
pub mod table;
