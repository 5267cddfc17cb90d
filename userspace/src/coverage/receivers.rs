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
    let network = Network {
        links,
        policed,
        zones: &policy.zones,
    };
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
    let network = Network {
        links,
        policed,
        zones: &[],
    };
    network.policed_below(link, 0)
}

struct Network<'a> {
    links: &'a Links,
    policed: &'a [Policed],
    zones: &'a [Zone],
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

    /// Whether frames with these tags are judged on a device. A sub-interface is shown frames
    /// without its own tag, which need a zone as well.
    fn judges(&self, link: &Link, tags: &[u16]) -> bool {
        let takes = |zone: &Zone| zone.vlans.is_empty() || zone.names(tags);
        let mut zones = self.zones.iter();
        self.policed(link)
            .is_some_and(|on| zones.any(|zone| zone.is_on(&on.name) && takes(zone)))
    }

    /// Whether all frames that a device is given come in on policed ones, as far as any come.
    fn is_policed(&self, link: &Link, depth: usize) -> bool {
        let below = link.below.and_then(|below| self.links.get(below));
        let is_one = !link.is_up || depth > DEEPEST || self.policed(link).is_some();
        is_one
            || match (&link.kind, below) {
                (Kind::Vlan(_) | Kind::Macvlan, Some(below)) => self.is_policed(below, depth + 1),
                (Kind::Bond | Kind::Bridge(_), _) => {
                    let mut ports = self.links.ports(link.index);
                    ports.all(|port| self.is_policed(port, depth + 1))
                }
                _ => false,
            }
    }

    /// `zones`: those that are everywhere.
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
    /// way judges them.
    fn entries(
        &self,
        link: &'a Link,
        tags: &[u16],
        is_bridged: bool,
        depth: usize,
        found: &mut Vec<Entry<'a>>,
    ) {
        if !link.is_up || depth > DEEPEST || self.judges(link, tags) {
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
        let has_policed = |port: &Link| {
            let mut ports = self.links.ports(port.index);
            self.policed(port).is_some()
                || port.kind == Kind::Bond && ports.any(|port| self.policed(port).is_some())
        };
        let filters = match bridge.kind {
            Kind::Bridge(filters) if bridge.is_up => Some(filters),
            _ => None,
        };
        let filters = filters.filter(|_| {
            self.policed(bridge).is_none() && self.links.ports(bridge.index).any(has_policed)
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
        let ports = filters.map(|filters| {
            let ports = self.links.ports(bridge.index);
            ports.filter(move |port| !self.is_policed(port, 0) && lets_in(port, filters))
        });
        ports.into_iter().flatten()
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
