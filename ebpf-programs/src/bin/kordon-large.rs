//! The XDP program with the maps of the large tier.
#![no_std]
#![no_main]

use kordon_ebpf::{
    kordon_program,
    layout::tier::{LargeGeneration, LargePlanes, LargeTable},
};

kordon_program!(LargeGeneration, LargeTable, LargePlanes);
