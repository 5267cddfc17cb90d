//! Long campaigns against a daemon: what they send, and what must not grow meanwhile. What arrives
//! is counted behind everything that judges, never taken from what kordon says.
//!
//! - [`Camera`]: sends a little all the time, in both ways in which a tag can come, onto a link that
//!   goes down, changes and vanishes.
//! - [`Torrent`]: frames by the million, of which it is known exactly how many the interface took,
//!   how many arrived, and what the counters have to say of them.
//! - [`Health`]: memory, files and BPF objects of a daemon.

mod camera;
mod health;
mod torrent;

pub use camera::{Camera, Sent};
pub use health::{Health, Objects};
pub use torrent::{Fate, Kind, Told, Torrent, kinds};
