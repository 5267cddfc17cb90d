//! What the end-to-end tests, the demo and the benchmarks share. None of it ships.

pub mod bench;
pub mod bgp;
pub mod bmp;
pub mod budget;
pub mod controller;
pub mod data;
pub mod demo;
pub mod formats;
pub mod frr;
pub mod generate;
pub mod gobgp;
pub mod hostile;
pub mod known;
pub mod lab;
pub mod live;
pub mod prometheus;
pub mod reference;
pub mod router;
pub mod server;
pub mod soak;
pub mod traffic;
pub mod vm;
