//! Devices of this network namespace, and what they are made of, as rtnetlink tells. Not by
//! /sys, which shows the namespace that it was mounted in.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily,
        link::{
            AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoData, InfoKind,
            InfoVlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
        },
    },
};

/// What a device is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A network card, or what looks like one.
    #[default]
    Card,
    /// One end of a pair.
    Veth,
    /// A bridge, and whether it knows VLANs.
    Bridge(bool),
    /// A bond or team.
    Bond,
    /// A VLAN sub-interface.
    Vlan(u16),
    /// A macvlan, macvtap or ipvlan.
    Macvlan,
    /// Another one that is not made of other devices here, by its kind.
    Other(String),
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The device below, or the other end of a veth; `None`: none, or in another namespace.
    pub below: Option<u32>,
    /// The bridge or bond above.
    pub master: Option<u32>,
    /// Whether it is up.
    pub is_up: bool,
    /// VLANs of a bridge's port.
    pub vlans: Vec<u16>,
}

impl Link {
    /// What the kernel tells of one; its `vlans` are told apart from that.
    #[must_use]
    pub fn of(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            is_up: message.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        let mut is_elsewhere = false;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Link(index) => link.below = Some(*index),
                LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
                LinkAttribute::Controller(index) => link.master = Some(*index),
                LinkAttribute::LinkInfo(infos) => link.kind = kind(infos),
                _ => {}
            }
        }
        if is_elsewhere {
            link.below = None;
        }
        link
    }
}

fn kind(infos: &[LinkInfo]) -> Kind {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(data) => Some(data),
        _ => None,
    });
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match (kind, data) {
        (None, _) => Kind::Card,
        (Some(InfoKind::Veth), _) => Kind::Veth,
        (Some(InfoKind::Bond | InfoKind::Team), _) => Kind::Bond,
        (Some(InfoKind::Bridge), Some(InfoData::Bridge(bridge))) => {
            Kind::Bridge(bridge.contains(&InfoBridge::VlanFiltering(true)))
        }
        (Some(InfoKind::Bridge), _) => Kind::Bridge(false),
        (Some(InfoKind::Vlan), Some(InfoData::Vlan(vlan))) => {
            let vid = vlan.iter().find_map(|vlan| match vlan {
                InfoVlan::Id(vid) => Some(*vid),
                _ => None,
            });
            Kind::Vlan(vid.unwrap_or(0))
        }
        (Some(InfoKind::MacVlan | InfoKind::MacVtap | InfoKind::IpVlan | InfoKind::IpVtap), _) => {
            Kind::Macvlan
        }
        (Some(kind), _) => Kind::Other(kind.to_string()),
    }
}

/// All devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    all: BTreeMap<u32, Link>,
    ports: BTreeMap<u32, Vec<u32>>,
}

impl FromIterator<Link> for Links {
    fn from_iter<I: IntoIterator<Item = Link>>(links: I) -> Self {
        let mut new = Self::default();
        for link in links {
            if let Some(master) = link.master {
                new.ports.entry(master).or_default().push(link.index);
            }
            new.all.insert(link.index, link);
        }
        new
    }
}

impl Links {
    /// Asks the kernel for all of them.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn read(handle: &Handle) -> Result<Self, rtnetlink::Error> {
        let messages: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
        let mut links: Vec<Link> = messages.iter().map(Link::of).collect();
        if links.iter().any(|link| link.kind == Kind::Bridge(true)) {
            let mut vlans = bridge_vlans(handle).await?;
            for link in &mut links {
                link.vlans = vlans.remove(&link.index).unwrap_or_default();
            }
        }
        Ok(links.into_iter().collect())
    }

    /// All of them, by their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.all.values()
    }

    /// One by its number.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Link> {
        self.all.get(&index)
    }

    /// One by its name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.iter().find(|link| link.name == name)
    }

    /// Ports of a bridge or bond.
    pub fn ports(&self, master: u32) -> impl Iterator<Item = &Link> {
        let ports = self.ports.get(&master).into_iter().flatten();
        ports.filter_map(|index| self.get(*index))
    }
}

/// VLANs of bridges' ports, by the numbers of the ports.
///
/// # Errors
/// When the kernel does not answer.
pub async fn bridge_vlans(handle: &Handle) -> Result<BTreeMap<u32, Vec<u16>>, rtnetlink::Error> {
    let request = handle.link().get().set_filter_mask(
        AddressFamily::Bridge,
        vec![LinkExtentMask::BrvlanCompressed],
    );
    let ports: Vec<LinkMessage> = request.execute().try_collect().await?;
    let ports = ports.into_iter().map(|port| {
        let specs = port.attributes.iter();
        let specs = specs.flat_map(|attribute| match attribute {
            LinkAttribute::AfSpecBridge(all) => all.as_slice(),
            _ => &[],
        });
        let infos = specs.filter_map(|spec| match spec {
            AfSpecBridge::VlanInfo(info) => Some(info),
            _ => None,
        });
        (port.header.index, vids(infos))
    });
    Ok(ports.collect())
}

/// What ranges have in them: of each the kernel tells the first and the last.
fn vids<'i>(infos: impl Iterator<Item = &'i BridgeVlanInfo>) -> Vec<u16> {
    let mut found = Vec::new();
    let mut begins = None;
    for info in infos {
        if info.flags.contains(BridgeVlanInfoFlags::RangeBegin) {
            begins = Some(info.vid);
        } else {
            found.extend(begins.take().unwrap_or(info.vid)..=info.vid);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_all_their_vlans() {
        let info = |vid, flags| BridgeVlanInfo { flags, vid };
        let none = BridgeVlanInfoFlags::empty();
        let (begins, ends) = (
            BridgeVlanInfoFlags::RangeBegin,
            BridgeVlanInfoFlags::RangeEnd,
        );
        let all = [
            info(1, BridgeVlanInfoFlags::Pvid),
            info(10, begins),
            info(13, ends),
            info(20, none),
        ];
        assert_eq!(vids(all.iter()), [1, 10, 11, 12, 13, 20]);
        assert_eq!(vids(all[1..2].iter()), Vec::<u16>::new());
    }
}
