//! All that verdicts depended on at a time, but the database: the policy and its lists, what was blocked and allowed beside it, and
//! the router. As text, so that a verdict can be found again years later, by this program or by a reader.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Router;
use crate::{
    asn::AsnDb,
    compile::generation::{Environment, PortSpec},
    diagnostic::Diagnostics,
    policy::{self, Bundle, Context, Overlay, Policy},
};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edition {
    /// The policy's text and its list files.
    pub policy: Bundle,
    /// What `block` and `allow` added, as in `overlay.toml`.
    pub overlay: String,
    /// The router's own addresses.
    pub addresses: Vec<IpAddr>,
    /// By zone, prefixes for `sources = "connected"`; absent: unchecked.
    pub connected: BTreeMap<String, Vec<IpNet>>,
    /// Interfaces, and whether what has no zone is dropped there.
    pub interfaces: Vec<(String, bool)>,
}

impl Edition {
    /// Of what is live.
    #[must_use]
    pub fn new(policy: &Bundle, overlay: &Overlay, environment: &Environment) -> Self {
        let ports = environment.ports.iter();
        Self {
            policy: policy.clone(),
            overlay: overlay.to_toml(),
            addresses: environment.router.clone(),
            connected: environment.connected.clone(),
            interfaces: ports
                .map(|port| (port.logical.clone(), port.drop_unknown))
                .collect(),
        }
    }

    /// The policy as it was at this moment.
    ///
    /// # Errors
    /// What this version cannot read of it.
    pub fn policy(&self, db: &AsnDb, now: Timestamp) -> Result<Policy, Diagnostics> {
        let overlay = Overlay::parse("overlay.toml", &self.overlay)?;
        let context = Context { now, db: Some(db) };
        let (policy, found) = policy::parse(&self.policy, &overlay, &context);
        policy.ok_or(found)
    }

    /// The router; `interface`: only that one. `None`: there was none of that name.
    #[must_use]
    pub fn router(&self, interface: Option<&str>) -> Option<Router> {
        let is_meant = |port: &PortSpec| interface.is_none_or(|name| name == port.logical);
        let ports = self
            .interfaces
            .iter()
            .map(|(logical, drop_unknown)| PortSpec {
                logical: logical.clone(),
                drop_unknown: *drop_unknown,
            });
        let ports: Vec<PortSpec> = ports.filter(is_meant).collect();
        (interface.is_none() || !ports.is_empty()).then(|| Router {
            ports,
            addresses: self.addresses.clone(),
            connected: self.connected.clone(),
        })
    }
}
