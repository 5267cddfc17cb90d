//! The shell around the decision: how the kernel's frames and maps are read. No decision is
//! taken here.
//!
//! An interface has a small program of its own, `kordon`, which knows its port: the fast path. What that
//! does not decide it leaves to `slow`, of which there is one for all interfaces, by a tail call.
//! The verifier takes longer with the slow path, and need see it only once.
//!
//! Behind them, in tc, stands the guard: a program of each interface's own, which calls a fast and a
//! slow path that all have in common, too.
//!
//! - [`frame`]: frames as XDP has them; [`skb`]: as tc has them.
//! - [`program`]: both XDP programs, over the maps of a [`program::Tier`]; [`guard`]: both paths of the guards.
//! - [`ledger`]: who sent what, line by line; [`known`]: what lines say of the next packet.
//! - [`probe`]: what they do besides in test runs.
//! - [`crate::kordon_program`]: the maps of a size tier, since the size of a map's value is part of the program.

pub mod frame;
pub mod guard;
pub mod known;
pub mod ledger;
pub mod probe;
pub mod program;
pub mod skb;
mod tier;
