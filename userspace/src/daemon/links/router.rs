//! What the router itself is: its links and addresses, by rtnetlink. Read whole
//! whenever something changes, and now and then, since events can be lost; what follows from
//! it (`router`, `connected`) is computed here, without asking anybody.

use std::{collections::BTreeMap, net::IpAddr};

use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use ipnet::IpNet;
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection, packet_route::address::AddressAttribute,
};
use tokio::task::spawn_blocking;

use crate::{
    bootguard::Learned,
    config::{Config, Interface},
    coverage::{self, Links, Seen, flowtables},
    policy::model::{Policy, Sources, Zone},
};

/// A link, as far as rules go by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: String,
    /// The device below, and the VID on it.
    pub(crate) vlan: Option<(u32, u16)>,
    /// The bridge or bond above.
    pub(crate) master: Option<u32>,
}

impl Link {
    fn of(link: &coverage::Link) -> Self {
        let vid = match link.kind {
            coverage::Kind::Vlan(vid) => Some(vid),
            _ => None,
        };
        Self {
            name: link.name.clone(),
            vlan: link.below.zip(vid),
            master: link.master,
        }
    }
}

/// Everything that rules know of the router: where it changes, they are compiled anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) links: BTreeMap<u32, Link>,
    /// By link; host bits as they are. Sorted.
    pub(crate) addresses: Vec<(u32, IpNet)>,
}

/// A look at the router.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) facts: Facts,
    /// What shows whether all is covered.
    pub(crate) seen: Seen,
}

/// A connection to the kernel.
pub(crate) struct Network {
    handle: Handle,
    /// Something changed.
    pub(crate) events: BoxStream<'static, ()>,
}

impl Network {
    /// Needs a runtime.
    pub(crate) fn connect() -> std::io::Result<Self> {
        let (connection, handle, events) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ])?;
        tokio::spawn(connection);
        Ok(Self {
            handle,
            events: events.map(drop).boxed(),
        })
    }

    /// Reads everything.
    pub(crate) async fn look(&mut self) -> Result<Look, rtnetlink::Error> {
        let (links, facts) = self.read().await?;
        // It is asked by a socket of its own, which waits for the answer.
        let flowtables = spawn_blocking(flowtables::read).await;
        let flowtables = flowtables.unwrap_or_else(|e| Err(e.to_string()));
        let seen = Seen { links, flowtables };
        Ok(Look { facts, seen })
    }

    /// Reads what rules know of it.
    pub(crate) async fn facts(&mut self) -> Result<Facts, rtnetlink::Error> {
        Ok(self.read().await?.1)
    }

    async fn read(&mut self) -> Result<(Links, Facts), rtnetlink::Error> {
        let links = Links::read(&self.handle).await?;
        let mut facts = Facts {
            links: links.iter().map(|l| (l.index, Link::of(l))).collect(),
            addresses: Vec::new(),
        };
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await? {
            let (mut local, mut address) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    AddressAttribute::Local(ip) => local = Some(*ip),
                    AddressAttribute::Address(ip) => address = Some(*ip),
                    _ => {}
                }
            }
            // On a point-to-point link `address` is the other end.
            if let Some(ip) = local.or(address)
                && let Ok(net) = IpNet::new(ip, message.header.prefix_len)
            {
                facts.addresses.push((message.header.index, net));
            }
        }
        facts.addresses.sort_unstable();
        Ok((links, facts))
    }
}

impl Facts {
    /// The router's own addresses, loopback aside.
    pub(crate) fn router(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self
            .addresses
            .iter()
            .map(|(_, net)| net.addr())
            .filter(|ip| !ip.is_loopback())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// For each zone with `sources = "connected"`: the router's prefixes there. `elsewhere`
    /// finds the link of a device that is called otherwise.
    pub(crate) fn connected(
        &self,
        policy: &Policy,
        interfaces: &[Interface],
        elsewhere: impl Fn(&str) -> Option<u32>,
    ) -> BTreeMap<String, Vec<IpNet>> {
        let zones = policy.zones.iter();
        zones
            .filter(|zone| zone.sources == Sources::Connected)
            .map(|zone| {
                let prefixes = self.prefixes(zone, interfaces, &elsewhere);
                (zone.name.clone(), prefixes)
            })
            .collect()
    }

    fn prefixes(
        &self,
        zone: &Zone,
        interfaces: &[Interface],
        elsewhere: impl Fn(&str) -> Option<u32>,
    ) -> Vec<IpNet> {
        let mut prefixes: Vec<IpNet> = Vec::new();
        for interface in interfaces {
            if !zone.is_on(&interface.name) {
                continue;
            }
            let device = &interface.device;
            let Some(device) = self.index(device).or_else(|| elsewhere(device)) else {
                continue;
            };
            for index in self.links.keys() {
                let Some((outer, inner)) = self.tags(*index, device) else {
                    continue;
                };
                if !covers(zone, outer, inner) {
                    continue;
                }
                // A sub-interface in a bridge has its addresses on the bridge.
                let master = self.links[index].master.filter(|_| *index != device);
                let here = self.addresses.iter();
                let here = here.filter(|(at, _)| at == index || Some(*at) == master);
                prefixes.extend(here.map(|(_, net)| net.trunc()));
            }
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        prefixes
    }

    /// Learns what has the frames of each configured device by now, or those of a policed zone.
    /// What was learned before and is not there now stays. `policy`: `None` where it is not known,
    /// and all frames may be policed.
    pub(crate) fn learn(&self, config: &Config, policy: Option<&Policy>, learned: &mut Learned) {
        for interface in &config.interfaces {
            let over = learned.entry(interface.device.clone()).or_default();
            for names in [&mut over.carriers, &mut over.policed] {
                names.retain(|name| self.index(name).is_none());
            }
            let Some(device) = self.index(&interface.device) else {
                continue;
            };
            let covers = |outer, inner| {
                let zones = policy.map(|policy| &policy.zones);
                let has = |zone: &Zone| zone.is_on(&interface.name) && covers(zone, outer, inner);
                zones.is_none_or(|zones| zones.iter().any(has))
            };
            for (index, tags) in self.over(device) {
                let name = &self.links[&index].name;
                match tags[..] {
                    _ if index == device => {}
                    [] => drop(over.carriers.insert(name.clone())),
                    [outer] if covers(Some(outer), None) => {
                        over.policed.insert(name.clone());
                    }
                    [outer, inner, ..] if covers(Some(outer), Some(inner)) => {
                        over.policed.insert(name.clone());
                    }
                    _ => {}
                }
            }
        }
        learned.retain(|_, over| !(over.carriers.is_empty() && over.policed.is_empty()));
    }

    /// A device and all links that have frames of it, with the tags that those had there: what it is
    /// a port of, sub-interfaces, what those are ports of, and so on.
    fn over(&self, device: u32) -> BTreeMap<u32, Vec<u16>> {
        let mut found = BTreeMap::from([(device, Vec::new())]);
        let mut new = vec![device];
        while let Some(index) = new.pop() {
            let tags: Vec<u16> = found[&index].clone();
            let above = self.links.get(&index).and_then(|link| link.master);
            let above = above.filter(|above| self.links.contains_key(above));
            let above = above.map(|above| (above, tags.clone()));
            let subs = self.links.iter().filter_map(|(sub, link)| {
                let (_, vid) = link.vlan.filter(|(below, _)| *below == index)?;
                Some((*sub, [&tags[..], &[vid]].concat()))
            });
            for (next, tags) in above.into_iter().chain(subs) {
                if let std::collections::btree_map::Entry::Vacant(place) = found.entry(next) {
                    place.insert(tags);
                    new.push(next);
                }
            }
        }
        found
    }

    fn index(&self, name: &str) -> Option<u32> {
        let mut links = self.links.iter();
        links
            .find(|(_, link)| link.name == name)
            .map(|(index, _)| *index)
    }

    /// The tags with which frames of a link arrive on a device, `None`: they do not.
    fn tags(&self, index: u32, device: u32) -> Option<(Option<u16>, Option<u16>)> {
        let master = self.links.get(&device).and_then(|link| link.master);
        let below = |at: u32| at == device || master == Some(at);
        if index == device {
            return Some((None, None));
        }
        let (parent, vid) = self.links.get(&index)?.vlan?;
        if below(parent) {
            return Some((Some(vid), None));
        }
        let (grandparent, outer) = self.links.get(&parent)?.vlan?;
        below(grandparent).then_some((Some(outer), Some(vid)))
    }
}

/// Whether a zone covers frames with these tags.
fn covers(zone: &Zone, outer: Option<u16>, inner: Option<u16>) -> bool {
    let tags: Vec<u16> = outer.into_iter().chain(inner).collect();
    zone.vlans.is_empty() || zone.names(&tags)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::policy::{Bundle, Context, Overlay, parse};

    fn facts() -> Facts {
        let link = |name: &str, vlan, master| Link {
            name: name.into(),
            vlan,
            master,
        };
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        Facts {
            links: BTreeMap::from([
                (1, link("lo", None, None)),
                (2, link("eth1", None, None)),
                (3, link("eth1.20", Some((2, 20)), None)),
                (4, link("eth1.30", Some((2, 30)), Some(6))),
                (5, link("eth1.100.5", Some((7, 5)), None)),
                (6, link("br0", None, None)),
                (7, link("eth1.100", Some((2, 100)), None)),
                (8, link("eth2", None, None)),
                (9, link("eth2.20", Some((8, 20)), None)),
            ]),
            addresses: vec![
                (1, net("127.0.0.1/8")),
                (2, net("10.1.0.1/16")),
                (3, net("10.20.0.1/16")),
                (3, net("fd00:20::1/48")),
                (5, net("10.105.0.1/16")),
                (6, net("10.30.0.1/16")),
                (9, net("10.22.0.1/16")),
            ],
        }
    }

    fn connected(vlans: &str) -> Vec<String> {
        let text = format!("[zone.z]\n{vlans}\ndefault = \"drop\"\nsources = \"connected\"\n");
        let bundle = Bundle::from_text("p.toml", &text);
        let (policy, found) = parse(&bundle, &Overlay::default(), &Context::now(None));
        let policy = policy.unwrap_or_else(|| panic!("{found:?}"));
        let interface = |device: &str| Interface {
            device: device.into(),
            name: format!("trunk-{device}"),
            mode: Default::default(),
            drop_unknown: false,
            manage_offload: false,
            guard: true,
        };
        let interfaces = [interface("eth1"), interface("eth2")];
        let found = facts().connected(&policy, &interfaces, |_| None);
        // Under other names.
        let mut others = facts();
        for (index, name) in [(2, "lan"), (8, "wan")] {
            others.links.get_mut(&index).unwrap().name = name.into();
        }
        let elsewhere = |name: &str| [("eth1", 2), ("eth2", 8)].into_iter().find(|d| d.0 == name);
        let again = others.connected(&policy, &interfaces, |name| Some(elsewhere(name)?.1));
        assert_eq!(again, found);
        found["z"].iter().map(ToString::to_string).collect()
    }

    #[test]
    fn connected_prefixes_follow_the_tags() {
        for (vlans, expected) in [
            (
                "vlans = [20]",
                vec!["10.20.0.0/16", "10.22.0.0/16", "fd00:20::/48"],
            ),
            (
                "vlans = [20]\ninterfaces = [\"trunk-eth2\"]",
                vec!["10.22.0.0/16"],
            ),
            ("vlans = [30]", vec!["10.30.0.0/16"]),
            ("vlans = [100]", vec!["10.105.0.0/16"]),
            ("vlans = [\"100.5\"]", vec!["10.105.0.0/16"]),
            ("vlans = [\"100.6\"]", vec![]),
            ("vlans = [\"untagged\"]", vec!["10.1.0.0/16"]),
            ("interfaces = [\"trunk-eth2\"]", vec!["10.22.0.0/16"]),
        ] {
            assert_eq!(connected(vlans), expected, "{vlans}");
        }
    }

    #[test]
    fn all_that_has_policed_frames_is_learned() {
        let link = |name: &str, vlan, master| Link {
            name: name.into(),
            vlan,
            master,
        };
        // A port of a bond in a bridge, whose VLANs have devices, one of them in another bridge.
        let facts = Facts {
            links: BTreeMap::from([
                (2, link("eth1", None, Some(3))),
                (3, link("bond0", None, Some(4))),
                (4, link("br0", None, None)),
                (5, link("br0.20", Some((4, 20)), Some(7))),
                (6, link("br0.30", Some((4, 30)), None)),
                (7, link("br5", None, None)),
                (8, link("br5v", Some((7, 9)), None)),
                (9, link("bond0.20", Some((3, 20)), None)),
                (10, link("eth2.20", Some((11, 20)), None)),
            ]),
            addresses: Vec::new(),
        };
        let (config, _) = crate::config::parse(
            std::path::Path::new("kordon.toml"),
            "[[interface]]\ndevice = \"eth1\"\nname = \"trunk\"\n",
        );
        let config = config.expect("it is one");
        let bundle = Bundle::from_text("p.toml", "[zone.z]\nvlans = [20]\ndefault = \"drop\"\n");
        let (policy, _) = parse(&bundle, &Overlay::default(), &Context::now(None));
        let mut learned = Learned::new();
        facts.learn(&config, policy.as_ref(), &mut learned);
        let names = |names: &std::collections::BTreeSet<String>| -> Vec<String> {
            names.iter().cloned().collect()
        };
        assert_eq!(names(&learned["eth1"].carriers), ["bond0", "br0"]);
        // The zone has every inner tag.
        let policed = ["bond0.20", "br0.20", "br5", "br5v"];
        assert_eq!(names(&learned["eth1"].policed), policed);
        // What is gone stays; what is there and is something else does not.
        let mut later = facts.clone();
        later.links.remove(&9);
        later.links.get_mut(&5).unwrap().vlan = Some((4, 30));
        later.learn(&config, policy.as_ref(), &mut learned);
        let policed = ["bond0.20"];
        assert_eq!(names(&learned["eth1"].policed), policed);
    }

    #[test]
    fn the_router_is_every_address_but_loopback() {
        let router = facts().router();
        assert_eq!(router.len(), 6);
        assert!(!router.iter().any(IpAddr::is_loopback));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_kernel_is_asked() {
        let mut network = Network::connect().unwrap();
        let facts = network.facts().await.unwrap();
        assert!(facts.links.values().any(|link| link.name == "lo"));
    }
}
