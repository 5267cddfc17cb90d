//! The policy, read as an administrator reads it: zones by how well they match,
//! rules from first to last, targets by looking each address up. Shares nothing
//! with `compile` or the datapath, and is in no hurry.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use kordon_ebpf::layout::Action;

use super::Claim;
use crate::policy::model::{Policy, Proto, Rule, Target, VlanMatch};

/// What rules see of a packet besides its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Packet {
    pub(super) proto: u8,
    pub(super) port: u16,
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protocol {}, port {}", self.proto, self.port)
    }
}

/// Where a packet of a zone comes from.
pub(super) struct Place {
    pub(super) port: u32,
    tags: Vec<u16>,
}

impl Packet {
    /// A frame, and the offset of its destination. The source is link-local,
    /// which is never spoofed.
    pub(super) fn frame(&self, place: &Place, v6: bool) -> (Vec<u8>, u32) {
        let mut frame = vec![2; 12];
        for tag in &place.tags {
            frame.extend([0x81, 0]);
            frame.extend(tag.to_be_bytes());
        }
        let proto = if v6 && self.proto == 1 {
            58
        } else {
            self.proto
        };
        let at;
        if v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, proto, 64]);
            frame.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
            at = frame.len();
            frame.extend([0; 16]);
        } else {
            frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, proto, 0, 0]);
            frame.extend([169, 254, 0, 9]);
            at = frame.len();
            frame.extend([0; 4]);
        }
        frame.extend([0xc0, 0]);
        frame.extend(self.port.to_be_bytes());
        frame.extend([0; 16]);
        (frame, at as u32)
    }
}

/// Protocols that carry packets (step 5 of the datapath).
pub(super) fn is_tunnel(proto: u8) -> bool {
    matches!(proto, 4 | 41 | 47 | 55 | 94 | 97 | 98 | 115 | 137)
        // Extension headers and IGMP have meanings of their own.
        || matches!(proto, 0 | 2 | 43 | 44 | 51 | 60 | 135 | 139 | 140)
}

/// The policy, to be asked.
pub(super) struct Reference<'a> {
    claim: &'a Claim<'a>,
}

impl<'a> Reference<'a> {
    pub(super) fn new(claim: &'a Claim<'a>) -> Self {
        Self { claim }
    }

    /// Tags and port of a frame that is in a zone.
    pub(super) fn place(&self, zone: usize) -> Option<Place> {
        let policy = self.claim.policy;
        let settings = &policy.zones[zone];
        // A zone with interfaces and no VLANs has all frames that no other has.
        let all: Vec<VlanMatch> = (1..4095).map(VlanMatch::Outer).collect();
        let matches = if settings.vlans.is_empty() {
            &all
        } else {
            &settings.vlans
        };
        for (port, spec) in self.claim.environment.ports.iter().enumerate() {
            for tags in matches {
                if select(policy, &spec.logical, *tags) == Some(zone) {
                    let tags = match *tags {
                        VlanMatch::Untagged => vec![],
                        VlanMatch::Outer(outer) => vec![outer],
                        VlanMatch::Pair(outer, inner) => vec![outer, inner],
                    };
                    return Some(Place {
                        port: port as u32,
                        tags,
                    });
                }
            }
        }
        None
    }

    /// What the rules say: the action, and the rule that is reported.
    pub(super) fn verdict(
        &self,
        zone: usize,
        address: IpAddr,
        packet: &Packet,
    ) -> (Action, Option<usize>) {
        let policy = self.claim.policy;
        let mut audit = None;
        let mut decided = (policy.zones[zone].default, None);
        for (index, rule) in policy.rules.iter().enumerate() {
            if !rule.from.contains(&zone)
                || !meets(rule, packet)
                || !rule.to.iter().any(|target| self.is_in(*target, address))
            {
                continue;
            }
            if rule.action == Action::Audit {
                audit = audit.or(Some(index));
                continue;
            }
            decided = (rule.action, Some(index));
            break;
        }
        match audit {
            Some(rule) if decided.0 == Action::Pass => (Action::Audit, Some(rule)),
            _ => decided,
        }
    }

    fn is_in(&self, target: Target, address: IpAddr) -> bool {
        let db = self.claim.db;
        match target {
            Target::Any => true,
            Target::Private => is_private(address),
            Target::Multicast => is_multicast(address),
            Target::Unrouted => {
                db.origins_at(address).is_empty()
                    && !is_private(address)
                    && !is_multicast(address)
                    && !is_special(address)
            }
            Target::Router => self.claim.environment.router.contains(&address),
            Target::Set(id) => {
                let set = &self.claim.policy.sets[id];
                let origins = db.origins_at(address);
                set.prefixes.iter().any(|prefix| prefix.contains(&address))
                    || origins
                        .iter()
                        .any(|asn| set.asns.iter().any(|range| range.contains(asn)))
                    || !set.countries.is_empty()
                        && db
                            .block_country(address)
                            .is_some_and(|country| set.countries.contains(&country))
                    || !set.asn_countries.is_empty()
                        && origins.iter().any(|asn| {
                            db.asn_info(*asn)
                                .and_then(|info| info.country)
                                .is_some_and(|country| set.asn_countries.contains(&country))
                        })
            }
        }
    }
}

/// The zone of a frame: interface before any interface, then pair before outer.
fn select(policy: &Policy, interface: &str, tags: VlanMatch) -> Option<usize> {
    let rank = |zone: &crate::policy::model::Zone| {
        let here = zone.interfaces.iter().any(|name| name == interface);
        if !zone.interfaces.is_empty() && !here {
            return 0;
        }
        let pair = matches!(tags, VlanMatch::Pair(..)) && zone.vlans.contains(&tags);
        let outer = match tags {
            VlanMatch::Pair(outer, _) => VlanMatch::Outer(outer),
            other => other,
        };
        match (
            here,
            pair,
            zone.vlans.contains(&outer),
            zone.vlans.is_empty(),
        ) {
            (true, true, ..) => 5,
            (true, _, true, _) => 4,
            (true, .., true) => 3,
            (false, true, ..) => 2,
            (false, _, true, _) => 1,
            _ => 0,
        }
    };
    let ranks: Vec<u32> = policy.zones.iter().map(rank).collect();
    let best = *ranks.iter().max()?;
    (best > 0).then(|| ranks.iter().position(|rank| *rank == best))?
}

fn meets(rule: &Rule, packet: &Packet) -> bool {
    let has_ports = matches!(packet.proto, 6 | 17);
    let proto = match rule.proto {
        None => rule.ports.is_empty() || has_ports,
        Some(Proto::Tcp) => packet.proto == 6,
        Some(Proto::Udp) => packet.proto == 17,
        Some(Proto::Icmp) => packet.proto == 1,
        Some(Proto::Number(number)) => packet.proto == number,
    };
    proto && (rule.ports.is_empty() || rule.ports.iter().any(|ports| ports.contains(&packet.port)))
}

fn within(address: IpAddr, prefixes: &[&str]) -> bool {
    prefixes
        .iter()
        .filter_map(|prefix| prefix.parse::<IpNet>().ok())
        .any(|prefix| prefix.contains(&address))
}

/// RFC 1918, 6598, 3927, 4193, 4291.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_private() || v4.is_link_local() || within(address, &["100.64.0.0/10"])
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

pub(crate) fn is_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// What is no destination at all.
pub(crate) fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_written_right() {
        assert!(is_private("100.64.1.1".parse().unwrap()));
        assert!(!is_private("100.128.0.0".parse().unwrap()));
    }
}
