//! The XDP program with the maps of the internet tier.
#![no_std]
#![no_main]

use kordon_ebpf::{
    kordon_program,
    layout::tier::{InternetGeneration, InternetPlanes, InternetTable},
};

kordon_program!(InternetGeneration, InternetTable, InternetPlanes);
