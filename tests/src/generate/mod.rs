//! Random policies, databases and frames from a seed, biased towards where
//! things go wrong: boundaries, nesting, hidden and contradicting headers.

pub mod build;
mod frames;
mod infrastructure;
mod policies;
mod pool;
mod tables;

pub use self::{
    frames::frame,
    policies::policy,
    pool::{Pool, router},
    tables::{Sources, sources},
};

use fastrand::Rng;

/// One of these.
fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

/// True once in `n` times.
fn once_in(rng: &mut Rng, n: u32) -> bool {
    rng.u32(..n) == 0
}
