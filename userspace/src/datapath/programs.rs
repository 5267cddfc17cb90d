//! The compiled programs: one for each size tier, and the guard.

use crate::compile::table::Tier;

static SMALL: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-small"));
static INTERNET: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-internet"));
static LARGE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-large"));

/// The object file of the guard.
pub static GUARD: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-guard"));

/// The object file of a tier.
#[must_use]
pub fn object(tier: Tier) -> &'static [u8] {
    match tier {
        Tier::Small => SMALL,
        Tier::Internet => INTERNET,
        Tier::Large => LARGE,
    }
}

/// Bytes of the ring of a program that logs nothing: the least there can be.
pub const NO_LOG: u32 = 4096;
