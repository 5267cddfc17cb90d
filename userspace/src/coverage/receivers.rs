//! Devices that receive a policed VLAN, as policed ones do: where frames come in that a sub-interface
//! of that VLAN is given, and the ports of a bridge that a policed one is a port of.
//!
//! A zone without `interfaces` is on all of them, so whoever has its VLAN has its frames. One that
//! names `interfaces` says itself where it is, and the same VLAN elsewhere is another network.
//! Containers and virtual machines are often ports of such a bridge, and send no tags: what comes
//! to a sub-interface by a bridge is certain of network cards only.

use std::collections::BTreeMap;

use super::{
    gap::{self, Gap, Policed},
    links::{Kind, Link, Links},
};
use crate::policy::model::{Policy, VlanMatch, Zone};

/// So many devices are never made of each other.
const DEEPEST: usize = 16;

/// Where frames come in that nothing polices.
struct Entry<'a> {
    link: &'a Link,
    /// The tags that they have there, the outermost first.
    tags: Vec<u16>,
    /// Whether a bridge passes them on.
    is_bridged: bool,
}

/// What receives a policed VLAN.
struct Receiver<'a> {
    is_certain: bool,
    zone: &'a Zone,
    /// Outermost tags of zones, each with the tags and the sub-interface that led here first.
    vlans: BTreeMap<u16, (String, &'a str)>,
}

/// All of them.
#[must_use]
pub fn gaps(links: &Links, policed: &[Policed], policy: &Policy) -> Vec<Gap> {
    // That nothing is policed is another matter.
    if policed.is_empty() {
        return Vec::new();
    }
    let network = Network { links, policed };
    let zones = policy.zones.iter().filter(|z| z.interfaces.is_empty());
    let zones: Vec<&Zone> = zones.collect();
    let receivers = network.receivers(&zones);
    let mut gaps: Vec<Gap> = receivers
        .iter()
        .map(|(device, receiver)| receiver.gap(device, policed))
        .collect();
    for bridge in links.iter() {
        let others = network.unpoliced_ports(bridge, &zones);
        let others = others.filter(|port| !receivers.contains_key(port.name.as_str()));
        let names: Vec<&str> = others.map(|port| port.name.as_str()).collect();
        if let (Some(first), Some(zone)) = (names.first(), zones.first()) {
            gaps.push(Gap {
                device: (*first).to_owned(),
                interface: None,
                is_certain: false,
                found: format!(
                    "{} of the bridge `{}`, as a policed interface is, and frames of policed VLANs that come \
                     in there are not policed",
                    match names.len() {
                        1 => format!("`{first}` is a port"),
                        _ => format!("{} are ports", gap::list(&names)),
                    },
                    bridge.name
                ),
                cure: gap::cure(first, &zone.name, policed),
            });
        }
    }
    gaps
}

/// Whether frames that a device is given come in on a policed one; which.
pub(super) fn is_over<'a>(
    links: &'a Links,
    policed: &'a [Policed],
    link: &Link,
) -> Option<&'a Policed> {
    Network { links, policed }.policed_below(link, 0)
}

struct Network<'a> {
    links: &'a Links,
    policed: &'a [Policed],
}

impl<'a> Network<'a> {
    /// As which it is policed.
    fn policed(&self, link: &Link) -> Option<&'a Policed> {
        let one = |index| self.policed.iter().find(|p| p.index == Some(index));
        one(link.index).or_else(|| {
            // What a bond is given its ports are shown.
            let above = self.links.get(link.master?)?;
            one(above.index).filter(|_| above.kind == Kind::Bond)
        })
    }

    fn policed_below(&self, link: &Link, depth: usize) -> Option<&'a Policed> {
        if depth > DEEPEST {
            return None;
        }
        self.policed(link).or_else(|| match link.kind {
            Kind::Vlan(_) | Kind::Macvlan => {
                self.policed_below(self.links.get(link.below?)?, depth + 1)
            }
            Kind::Bond | Kind::Bridge(_) => {
                let mut ports = self.links.ports(link.index);
                ports.find_map(|port| self.policed_below(port, depth + 1))
            }
            _ => None,
        })
    }

    fn receivers(&self, zones: &[&'a Zone]) -> BTreeMap<&'a str, Receiver<'a>> {
        let mut receivers = BTreeMap::new();
        for sub in self.links.iter() {
            if !matches!(sub.kind, Kind::Vlan(_)) {
                continue;
            }
            let mut entries = Vec::new();
            self.entries(sub, &[], false, 0, &mut entries);
            for entry in entries {
                let zone = zones.iter().find(|zone| zone.names(&entry.tags));
                let (Some(zone), Some(outer)) = (zone, entry.tags.first()) else {
                    continue;
                };
                let receiver = receivers
                    .entry(entry.link.name.as_str())
                    .or_insert_with(|| Receiver {
                        is_certain: false,
                        zone,
                        vlans: BTreeMap::new(),
                    });
                receiver.is_certain |= !entry.is_bridged || entry.link.kind == Kind::Card;
                let tags: Vec<String> = entry.tags.iter().map(u16::to_string).collect();
                let words = (tags.join("."), sub.name.as_str());
                receiver.vlans.entry(*outer).or_insert(words);
            }
        }
        receivers
    }

    /// Where the frames come in that a device is given with these `tags`, unless something on their
    /// way polices them.
    fn entries(
        &self,
        link: &'a Link,
        tags: &[u16],
        is_bridged: bool,
        depth: usize,
        found: &mut Vec<Entry<'a>>,
    ) {
        if !link.is_up || depth > DEEPEST || self.policed(link).is_some() {
            return;
        }
        let own = match link.kind {
            Kind::Vlan(vid) => Some(vid),
            _ => None,
        };
        let tags: Vec<u16> = own.into_iter().chain(tags.iter().copied()).collect();
        let below = link.below.and_then(|below| self.links.get(below));
        match (&link.kind, below) {
            (Kind::Vlan(_) | Kind::Macvlan, Some(below)) => {
                self.entries(below, &tags, is_bridged, depth + 1, found);
            }
            (Kind::Bond, _) => {
                for port in self.links.ports(link.index) {
                    self.entries(port, &tags, is_bridged, depth + 1, found);
                }
            }
            (Kind::Bridge(filters), _) => {
                for port in self.links.ports(link.index) {
                    if !filters || tags.first().is_none_or(|vid| port.vlans.contains(vid)) {
                        self.entries(port, &tags, true, depth + 1, found);
                    }
                }
            }
            // Or the device below is in another namespace.
            _ => found.push(Entry {
                link,
                tags,
                is_bridged,
            }),
        }
    }

    /// Ports of a bridge that let frames of zones in beside policed ones.
    fn unpoliced_ports(&self, bridge: &'a Link, zones: &[&Zone]) -> impl Iterator<Item = &'a Link> {
        let is_policed = |port: &Link| {
            self.policed(port).is_some()
                || port.kind == Kind::Bond
                    && self
                        .links
                        .ports(port.index)
                        .any(|p| self.policed(p).is_some())
        };
        let filters = match bridge.kind {
            Kind::Bridge(filters) if bridge.is_up => Some(filters),
            _ => None,
        };
        let filters = filters.filter(|_| {
            self.policed(bridge).is_none() && self.links.ports(bridge.index).any(is_policed)
        });
        let lets_in = |port: &Link, filters: bool| {
            let has = |vlan: &VlanMatch| match vlan {
                VlanMatch::Untagged => true,
                VlanMatch::Outer(vid) | VlanMatch::Pair(vid, _) => {
                    !filters || port.vlans.contains(vid)
                }
            };
            let mut zones = zones.iter();
            zones.any(|zone| zone.vlans.is_empty() || zone.vlans.iter().any(has))
        };
        let mut found = Vec::new();
        if let Some(filters) = filters {
            for port in self.links.ports(bridge.index) {
                let mut entries = Vec::new();
                self.entries(port, &[], true, 0, &mut entries);
                if !entries.is_empty() && lets_in(port, filters) {
                    found.push(port);
                }
            }
        }
        found.into_iter()
    }
}

impl Receiver<'_> {
    fn gap(&self, device: &str, policed: &[Policed]) -> Gap {
        let (tags, sub) = self.vlans.values().next().cloned().unwrap_or_default();
        let more = match self.vlans.len() {
            0 | 1 => String::new(),
            2 => ", and so does 1 more".to_owned(),
            all => format!(", and so do {} more", all - 1),
        };
        let comes = match self.is_certain {
            true => "also comes in",
            false => "may also come in",
        };
        let zone = &self.zone.name;
        Gap {
            device: device.to_owned(),
            interface: None,
            is_certain: self.is_certain,
            found: format!(
                "VLAN {tags} of zone `{zone}` {comes} on `{device}` (by `{sub}`), where it is not \
                 policed{more}"
            ),
            cure: gap::cure(device, zone, policed),
        }
    }
}
