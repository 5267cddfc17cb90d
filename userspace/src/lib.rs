//! kordon's controller: policy and ASN data in, maps and verdicts out.
//!
//! Dependencies point one way: `policy` and `asn` know nothing of BPF, `compile`
//! turns both into an image, `datapath` takes only images, `daemon` ties them
//! together and `cli` talks to `control`.

pub mod asn;
pub mod bmp;
pub mod bootguard;
pub mod capture;
pub mod cli;
pub mod compile;
pub mod config;
pub mod control;
pub mod coverage;
pub mod daemon;
pub mod datapath;
pub mod diagnostic;
pub mod doctor;
pub mod evidence;
pub mod forward;
pub mod history;
pub mod judge;
pub mod ledger;
pub mod live;
pub mod lookup;
pub mod metrics;
pub mod policy;
pub mod prove;
pub mod regular;
pub mod report;
mod room;
