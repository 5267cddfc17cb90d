//! Whether nothing leads around kordon: every device that receives a policed VLAN has to be policed. The
//! daemon says in `status` where one is not, and `kordon doctor` before there is a daemon.
//!
//! This goes by what the router is set up to do, and not by what arrives: nobody counts what kordon
//! is not shown. A gap is *certain* where the router is told to take a policed VLAN from a device
//! that is not policed: such a frame gets around kordon if it comes. Then kordon does not enforce, whether
//! or not one has come. Other gaps are only possible, and are something to look at.
//!
//! - [`links`]: devices and what they are made of; [`receivers`]: gaps by devices that receive a
//!   policed VLAN as well.
//! - [`flowtables`]: gaps by network cards that forward by themselves.
//! - [`gap`]: what is said of either.

pub mod flowtables;
pub mod gap;
pub mod links;
pub mod receivers;
#[cfg(test)]
mod tests;

pub use self::{
    flowtables::Flowtable,
    gap::{Gap, Policed},
    links::{Kind, Link, Links},
};
use crate::policy::model::Policy;

/// What there is of the router.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its devices.
    pub links: Links,
    /// Flowtables of nftables, or why they are not known.
    pub flowtables: Result<Vec<Flowtable>, String>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            links: Links::default(),
            flowtables: Ok(Vec::new()),
        }
    }
}

/// All gaps, as far as they are known.
#[must_use]
pub fn gaps(seen: &Seen, policed: &[Policed], policy: &Policy) -> Vec<Gap> {
    let mut gaps = receivers::gaps(&seen.links, policed, policy);
    if let Ok(tables) = &seen.flowtables {
        gaps.extend(flowtables::gaps(tables, &seen.links, policed));
    }
    gaps
}
