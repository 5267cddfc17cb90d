//! kordon's decision library: see the modules.
#![cfg_attr(not(test), no_std)]

pub mod layout;
pub mod packet;
pub mod table;
pub mod verdict;
