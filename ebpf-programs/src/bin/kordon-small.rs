//! The XDP program with the maps of the small tier.
#![no_std]
#![no_main]

use kordon_ebpf::{
    kordon_program,
    layout::tier::{SmallGeneration, SmallPlanes, SmallTable},
};

kordon_program!(SmallGeneration, SmallTable, SmallPlanes);
