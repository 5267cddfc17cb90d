//! The validated policy: every name resolved, every set flat, every number in
//! range. Only this form leaves the module; later stages cannot meet an
//! unchecked value.
//!
//! Architecture invariant: nothing here knows of BPF, maps or classes.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use kordon_ebpf::layout::{Action, Reason};

use crate::asn::range::merged;
use crate::asn::{AsnDb, Country};

/// Index into [`Policy::zones`].
pub type ZoneId = usize;
/// Index into [`Policy::sets`].
pub type SetId = usize;

/// One policy, overlay included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Zones, by name as they stand in the file; at most 256.
    pub zones: Vec<Zone>,
    /// Named sets; sets inside sets and list files are already folded in.
    pub sets: Vec<Set>,
    /// Rules in the order of evaluation: the overlay's first, then the file's.
    pub rules: Vec<Rule>,
    /// Configured NAT64 prefixes, of RFC 6052 lengths; at most 8.
    pub nat64: Vec<Ipv6Net>,
}

impl Policy {
    /// Whether `nat64` has a prefix: packets to it are judged by the IPv4 address in them.
    #[must_use]
    pub fn translates(&self, net: &Ipv6Net) -> bool {
        self.nat64.iter().any(|nat64| nat64.contains(net))
    }
}

/// A named group of VLANs (and optionally interfaces) whose egress is policed.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// What its frames look like. Empty: all frames of `interfaces`.
    pub vlans: Vec<VlanMatch>,
    /// Logical interface names. Empty: any interface.
    pub interfaces: Vec<String>,
    /// When no rule decides: `Pass` or `Drop`.
    pub default: Action,
    /// Which sources its packets may have.
    pub sources: Sources,
    /// What the ledger keeps.
    pub record: Record,
    /// Whether PPPoE sessions are opened.
    pub pppoe: bool,
    /// What happens to packets that were not understood or hide where they go.
    pub unparsable: Unparsable,
}

impl Zone {
    /// Whether frames of an interface, by its logical name, can be in it.
    #[must_use]
    pub fn is_on(&self, interface: &str) -> bool {
        self.interfaces.is_empty() || self.interfaces.iter().any(|name| name == interface)
    }

    /// Whether its `vlans` name frames with these tags, the outermost first.
    #[must_use]
    pub fn names(&self, tags: &[u16]) -> bool {
        self.vlans.iter().any(|vlan| match *vlan {
            VlanMatch::Untagged => tags.is_empty(),
            VlanMatch::Outer(vid) => tags.first() == Some(&vid),
            VlanMatch::Pair(outer, inner) => tags.starts_with(&[outer, inner]),
        })
    }
}

/// Tags that put a frame into a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VlanMatch {
    /// No counting tag.
    Untagged,
    /// This outer VID, 1 to 4094, with any inner tag that no pair names.
    Outer(u16),
    /// This outer and inner VID.
    Pair(u16, u16),
}

/// Which sources a zone's packets may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sources {
    /// Not said: a source that the rules would drop as a destination is spoofed.
    Unset,
    /// The router's own prefixes on that VLAN.
    Connected,
    /// These.
    Prefixes(Vec<IpNet>),
}

/// What the ledger keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Record {
    /// Nothing.
    Off,
    /// Dropped and audited flows.
    Drops,
    /// One line for each camera and destination network.
    #[default]
    Summary,
    /// Every flow.
    All,
}

impl Record {
    /// As in policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Drops => "drops",
            Self::Summary => "summary",
            Self::All => "all",
        }
    }
}

/// `[zone.Z.unparsable]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unparsable {
    /// Ethertypes that are neither IP nor harmless.
    pub ethertype: Action,
    /// Frames shorter than their headers declare.
    pub truncated: Action,
    /// Impossible lengths or versions.
    pub bad_header: Action,
    /// Loopback, 0/8 or unspecified destinations.
    pub martian: Action,
    /// More than eight IPv6 extension headers.
    pub header_chain: Action,
    /// LSRR, SSRR.
    pub source_route: Action,
    /// Routing headers with segments left.
    pub routing_header: Action,
    /// Protocols that carry packets.
    pub tunnels: Tunnels,
    /// Sources that the zone cannot have.
    pub spoofed_source: Action,
}

impl Default for Unparsable {
    fn default() -> Self {
        Self {
            ethertype: Action::Drop,
            truncated: Action::Drop,
            bad_header: Action::Drop,
            martian: Action::Drop,
            header_chain: Action::Drop,
            source_route: Action::Drop,
            routing_header: Action::Drop,
            tunnels: Tunnels::Action(Action::Drop),
            spoofed_source: Action::Drop,
        }
    }
}

impl Unparsable {
    /// Reasons that have an action each, in the order of the canonical text. Tunnels are apart.
    pub const REASONS: [Reason; 8] = [
        Reason::Ethertype,
        Reason::Truncated,
        Reason::BadHeader,
        Reason::Martian,
        Reason::HeaderChain,
        Reason::SourceRoute,
        Reason::RoutingHeader,
        Reason::SpoofedSource,
    ];

    /// The action for one of [`Self::REASONS`].
    pub fn of(&mut self, reason: Reason) -> Option<&mut Action> {
        Some(match reason {
            Reason::Ethertype => &mut self.ethertype,
            Reason::Truncated => &mut self.truncated,
            Reason::BadHeader => &mut self.bad_header,
            Reason::Martian => &mut self.martian,
            Reason::HeaderChain => &mut self.header_chain,
            Reason::SourceRoute => &mut self.source_route,
            Reason::RoutingHeader => &mut self.routing_header,
            Reason::SpoofedSource => &mut self.spoofed_source,
            _ => return None,
        })
    }

    /// All of [`Self::REASONS`], and what becomes of packets that have one.
    pub fn actions(mut self) -> impl Iterator<Item = (Reason, Action)> {
        let actions = Self::REASONS.into_iter();
        actions.filter_map(move |reason| Some((reason, *self.of(reason)?)))
    }
}

/// What happens to tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnels {
    /// As any other reason.
    Action(Action),
    /// Outer and inner destination are judged.
    Inspect,
}

/// A named group of destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Origin ASNs, as ranges, sorted, not overlapping; those of `orgs` included.
    pub asns: Vec<RangeInclusive<u32>>,
    /// The ASNs that were named as such, likewise.
    pub named_asns: Vec<RangeInclusive<u32>>,
    /// Organisations, sorted by name.
    pub orgs: Vec<OrgAsns>,
    /// Every ASN that is registered in one of these.
    pub asn_countries: Vec<Country>,
    /// Every address block that is delegated to one of these.
    pub countries: Vec<Country>,
    /// Prefixes, host bits clear.
    pub prefixes: Vec<IpNet>,
}

impl Set {
    /// Its ASNs, those that are registered in its countries included: sorted, disjoint ranges.
    #[must_use]
    pub fn origins(&self, db: &AsnDb) -> Vec<(u32, u32)> {
        let mut ranges: Vec<_> = self.asns.iter().map(|r| (*r.start(), *r.end())).collect();
        if !self.asn_countries.is_empty() {
            let registered = db.asns.iter().filter(|(_, info)| {
                info.country
                    .is_some_and(|country| self.asn_countries.contains(&country))
            });
            ranges.extend(registered.map(|&(asn, _)| (asn, asn)));
        }
        merged(ranges)
    }

    /// Whether an ASN is one of [`Self::origins`].
    #[must_use]
    pub fn names(&self, asn: u32, db: &AsnDb) -> bool {
        let country = db.asn_info(asn).and_then(|info| info.country);
        self.asns.iter().any(|range| range.contains(&asn))
            || country.is_some_and(|country| self.asn_countries.contains(&country))
    }
}

/// An organisation that a set names, and what it had when the policy was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrgAsns {
    /// As the policy names it.
    pub name: String,
    /// Its ASNs, lowest first.
    pub asns: Vec<u32>,
}

/// What a rule is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Every destination.
    Any,
    /// 10/8, 172.16/12, 192.168/16, 100.64/10, 169.254/16, fc00::/7, fe80::/10.
    Private,
    /// 224/4, 255.255.255.255, ff00::/8.
    Multicast,
    /// What no ASN announces and is neither private, multicast nor loopback/"this network".
    Unrouted,
    /// The router's own addresses.
    Router,
    /// A named set.
    Set(SetId),
}

/// What [`Target::Private`] stands for: RFC 1918, 6598, 3927, 4193 and IPv6 link-local.
pub const PRIVATE: [IpNet; 7] = [
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(100, 64, 0, 0, 10),
    v4(169, 254, 0, 0, 16),
    v6(0xfc00, 0, 7),
    v6(0xfe80, 0, 10),
];

/// What [`Target::Multicast`] stands for, limited broadcast included.
pub const MULTICAST: [IpNet; 3] = [
    v4(224, 0, 0, 0, 4),
    v4(255, 255, 255, 255, 32),
    v6(0xff00, 0, 8),
];

/// "This network", loopback and the unspecified address: never routed, and yet
/// not what an administrator means by `unrouted`.
pub const SPECIAL: [IpNet; 4] = [
    v4(0, 0, 0, 0, 8),
    v4(127, 0, 0, 0, 8),
    v6(0, 0, 128),
    v6(0, 1, 128),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(first: u16, last: u16, length: u8) -> IpNet {
    let address = Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last);
    IpNet::V6(Ipv6Net::new_assert(address, length))
}

/// Which protocol a rule wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// 6.
    Tcp,
    /// 17.
    Udp,
    /// 1 in an IPv4 packet, 58 in an IPv6 packet.
    Icmp,
    /// This one.
    Number(u8),
}

/// From zones, to targets: an action.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name, unique; `rule-N` (from 1, by place in the file) when not given.
    pub name: String,
    /// Zones; never empty.
    pub from: Vec<ZoneId>,
    /// Targets; it matches when any does.
    pub to: Vec<Target>,
    /// Protocol.
    pub proto: Option<Proto>,
    /// Destination ports; empty: no condition. Without `proto`: TCP and UDP.
    pub ports: Vec<RangeInclusive<u16>>,
    /// `Drop` and `Pass` decide, `Audit` marks.
    pub action: Action,
    /// The administrator's words.
    pub note: Option<String>,
    /// The rule does not exist from this moment on.
    pub until: Option<Timestamp>,
    /// Made by `block` or `allow`.
    pub overlay: bool,
}
