//! The four programs (`kordon`, `slow`, `guard_fast`, `guard_slow`) over the maps of the small tier: see
//! `shell/tier.rs`.
#![no_std]
#![no_main]

use kordon_ebpf::{
    kordon_program,
    layout::tier::{SmallGeneration, SmallPlanes, SmallTable},
};

kordon_program!(SmallGeneration, SmallTable, SmallPlanes);
