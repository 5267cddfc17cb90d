//! The four programs (`kordon`, `slow`, `guard_fast`, `guard_slow`) over the maps of the internet tier: see
//! `shell/tier.rs`.
#![no_std]
#![no_main]

use kordon_ebpf::{
    kordon_program,
    layout::tier::{InternetGeneration, InternetPlanes, InternetTable},
};

kordon_program!(InternetGeneration, InternetTable, InternetPlanes);
