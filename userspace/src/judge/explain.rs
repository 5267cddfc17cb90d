//! The verdict for one packet and the whole reason. Placeholder.

use std::net::IpAddr;

use super::Router;
use crate::{asn::model::AsnDb, policy::Policy};

/// The packet.
#[derive(Clone, Debug)]
pub struct ExplainQuery {
    /// Logical interface; any when absent.
    pub interface: Option<String>,
    /// `20` or `100.5`; untagged when absent.
    pub vlan: Option<String>,
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// `tcp`, `udp`, `icmp` or a number.
    pub proto: Option<String>,
    /// Destination port.
    pub dport: Option<u16>,
}

/// The fields of `explain --json`.
///
/// # Errors
/// Always, until it is there.
pub fn explain(
    _policy: &Policy,
    _db: &AsnDb,
    _router: &Router,
    _query: &ExplainQuery,
) -> anyhow::Result<serde_json::Value> {
    anyhow::bail!("`explain` is not available yet")
}
