//! The four programs (`kordon`, `slow`, `guard_fast`, `guard_slow`) over the maps of the large tier: see
//! `shell/tier.rs`.
#![no_std]
#![no_main]

use kordon_ebpf::{
    kordon_program,
    layout::tier::{LargeGeneration, LargePlanes, LargeTable},
};

kordon_program!(LargeGeneration, LargeTable, LargePlanes);
