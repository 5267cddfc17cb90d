//! The policy, read as an administrator reads it: zones by how well they match,
//! rules from first to last, targets by looking each address up. Shares nothing
//! with `compile` or the datapath.
//!
//! Targets that an address is in are found one by one; what follows from them is
//! remembered by their combination, so that a proof may ask for many addresses.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    net::IpAddr,
    rc::Rc,
};

use ipnet::IpNet;
use kordon_ebpf::layout::{Action, Judged, Reason};

use super::{
    address::{MOST, is_link_local, is_multicast, is_private, is_special, stands_for},
    claim::Claim,
};
use crate::{
    asn::model::OriginsId,
    policy::model::{Proto, Rule, Set, Sources, Target, Tunnels, VlanMatch},
};

/// What rules see of a packet besides its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Packet {
    /// `None`: hidden.
    pub(super) proto: Option<u8>,
    /// Of TCP and UDP. `None`: in another fragment.
    pub(super) port: Option<u16>,
}

impl Packet {
    /// A datagram that no rule is likely to name.
    pub(super) const PLAIN: Self = Self::new(Some(17), Some(9));

    /// Of this protocol and to this port, as far as they are not hidden.
    pub(super) const fn new(proto: Option<u8>, port: Option<u16>) -> Self {
        Self { proto, port }
    }
}

/// Where the sources of zones without a list are taken from: hosts of networks that
/// somebody announces, and that are seldom blocked.
const GLOBAL: [&str; 2] = ["1.0.0.0/24", "2001:500::/48"];

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// This rule, by its place in the policy.
    Rule(usize),
    /// The default, or what was met.
    Reason(Reason),
}

/// What the policy says of one packet in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) action: Action,
    pub(super) by: By,
    pub(super) judged: Judged,
    /// A reason that was met and did not decide.
    pub(super) noted: Option<Reason>,
}

impl Verdict {
    /// One that no rule decides.
    pub(super) fn by(reason: Reason, action: Action, judged: Judged) -> Self {
        Self {
            action,
            by: By::Reason(reason),
            judged,
            noted: None,
        }
    }
}

/// What an address belongs to, as far as rules ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Belonging {
    /// Who announces it.
    pub(super) origins: Option<OriginsId>,
    /// Number of the combination of targets that it is in.
    pub(super) places: usize,
}

/// What an address stands for: itself, or addresses in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meant {
    all: [Belonging; MOST],
    len: usize,
}

impl Meant {
    pub(super) fn all(&self) -> &[Belonging] {
        &self.all[..self.len]
    }

    /// All that rules see of them.
    pub(super) fn places(&self) -> [Option<usize>; MOST] {
        let mut places = [None; MOST];
        for (place, known) in places.iter_mut().zip(self.all()) {
            *place = Some(known.places);
        }
        places
    }
}

/// The policy, to be asked.
pub(super) struct Reference<'a> {
    claim: &'a Claim<'a>,
    /// By zone: its rules and their places in the policy.
    rules: Vec<Vec<(usize, &'a Rule)>>,
    vlans: Vec<HashSet<VlanMatch>>,
    targets: Vec<Target>,
    prefixes: Vec<Prefixes>,
    combinations: RefCell<Combinations>,
}

/// Combinations of targets that occurred: a bit for each of `Reference::targets`.
#[derive(Default)]
struct Combinations {
    numbers: HashMap<Rc<[u64]>, usize>,
    bits: Vec<Rc<[u64]>>,
}

/// Prefixes of a set, to be asked for an address.
struct Prefixes {
    lengths: Vec<(bool, u8)>,
    all: HashSet<IpNet>,
}

impl Prefixes {
    fn new(set: &Set) -> Self {
        let mut lengths: Vec<(bool, u8)> = set
            .prefixes
            .iter()
            .map(|net| (net.addr().is_ipv6(), net.prefix_len()))
            .collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self {
            lengths,
            all: set.prefixes.iter().copied().collect(),
        }
    }

    fn contain(&self, address: IpAddr) -> bool {
        self.lengths.iter().any(|(v6, length)| {
            *v6 == address.is_ipv6()
                && IpNet::new(address, *length).is_ok_and(|net| self.all.contains(&net.trunc()))
        })
    }
}

impl<'a> Reference<'a> {
    pub(super) fn new(claim: &'a Claim<'a>) -> Self {
        let policy = claim.policy;
        let mut targets = vec![
            Target::Any,
            Target::Private,
            Target::Multicast,
            Target::Unrouted,
            Target::Router,
        ];
        targets.extend((0..policy.sets.len()).map(Target::Set));
        let of_zone = |zone| {
            let rules = policy.rules.iter().enumerate();
            rules
                .filter(|(_, rule)| rule.from.contains(&zone))
                .collect()
        };
        Self {
            claim,
            rules: (0..policy.zones.len()).map(of_zone).collect(),
            vlans: policy
                .zones
                .iter()
                .map(|zone| zone.vlans.iter().copied().collect())
                .collect(),
            targets,
            prefixes: policy.sets.iter().map(Prefixes::new).collect(),
            combinations: RefCell::default(),
        }
    }

    /// The zone of a frame with these counting tags: interface before any
    /// interface, then pair before outer before all.
    pub(super) fn zone_of(&self, interface: &str, tags: &[u16]) -> Option<usize> {
        let zones = &self.claim.policy.zones;
        let is_here = |zone: usize| zones[zone].interfaces.iter().any(|name| name == interface);
        let anywhere = |zone: usize| zones[zone].interfaces.is_empty();
        let pair = |zone: usize| matches!(*tags, [outer, inner] if self.vlans[zone].contains(&VlanMatch::Pair(outer, inner)));
        let outer = |zone: usize| {
            self.vlans[zone].contains(&match *tags {
                [] => VlanMatch::Untagged,
                [outer, ..] => VlanMatch::Outer(outer),
            })
        };
        let find = |is: &dyn Fn(usize) -> bool| (0..zones.len()).find(|zone| is(*zone));
        find(&|zone| is_here(zone) && pair(zone))
            .or_else(|| find(&|zone| is_here(zone) && outer(zone)))
            .or_else(|| find(&|zone| is_here(zone) && zones[zone].vlans.is_empty()))
            .or_else(|| find(&|zone| anywhere(zone) && pair(zone)))
            .or_else(|| find(&|zone| anywhere(zone) && outer(zone)))
    }

    /// Looks an address up, or those that it stands for.
    pub(super) fn meant(&self, address: IpAddr) -> Meant {
        let mut meant = Meant {
            all: [Belonging {
                origins: None,
                places: 0,
            }; MOST],
            len: 0,
        };
        for address in stands_for(address, &self.claim.policy.nat64)
            .into_iter()
            .flatten()
        {
            meant.all[meant.len] = self.known(address);
            meant.len += 1;
        }
        meant
    }

    fn known(&self, address: IpAddr) -> Belonging {
        let db = self.claim.db;
        let origins = match address {
            IpAddr::V4(v4) => db.origins_at_v4(v4.into()),
            IpAddr::V6(v6) => db.origins_at_v6(v6.into()),
        };
        let asns = origins
            .and_then(|id| db.origins.get(id as usize))
            .map_or(&[][..], Vec::as_slice);
        let mut bits = [0u64; 4];
        let mut many = Vec::new();
        let bits = if self.targets.len() <= 256 {
            &mut bits[..self.targets.len().div_ceil(64)]
        } else {
            many.resize(self.targets.len().div_ceil(64), 0);
            &mut many[..]
        };
        for (bit, target) in self.targets.iter().enumerate() {
            let is_in = self.is_in(*target, address, asns);
            bits[bit / 64] |= u64::from(is_in) << (bit % 64);
        }
        let mut combinations = self.combinations.borrow_mut();
        let places = match combinations.numbers.get(bits) {
            Some(number) => *number,
            None => {
                let number = combinations.bits.len();
                let bits: Rc<[u64]> = Rc::from(&*bits);
                combinations.bits.push(Rc::clone(&bits));
                combinations.numbers.insert(bits, number);
                number
            }
        };
        Belonging { origins, places }
    }

    fn is_in(&self, target: Target, address: IpAddr, origins: &[u32]) -> bool {
        match target {
            Target::Any => true,
            Target::Private => is_private(address),
            Target::Multicast => is_multicast(address),
            Target::Unrouted => {
                origins.is_empty()
                    && !is_private(address)
                    && !is_multicast(address)
                    && !is_special(address)
            }
            Target::Router => self.claim.environment.router.contains(&address),
            Target::Set(id) => {
                let set = &self.claim.policy.sets[id];
                self.prefixes[id].contain(address)
                    || origins.iter().any(|asn| self.is_named(set, *asn))
                    || !set.countries.is_empty()
                        && self
                            .claim
                            .db
                            .block_country(address)
                            .is_some_and(|country| set.countries.contains(&country))
            }
        }
    }

    /// Whether a set has this ASN.
    pub(super) fn is_named(&self, set: &Set, asn: u32) -> bool {
        let after = set.asns.partition_point(|range| *range.start() <= asn);
        after > 0 && set.asns[after - 1].contains(&asn)
            || !set.asn_countries.is_empty()
                && self
                    .claim
                    .db
                    .asn_info(asn)
                    .and_then(|info| info.country)
                    .is_some_and(|country| set.asn_countries.contains(&country))
    }

    fn is_member(&self, target: Target, known: Belonging) -> bool {
        let combinations = self.combinations.borrow();
        let bits = &combinations.bits[known.places];
        let bit = self.targets.binary_search(&target);
        bit.is_ok_and(|bit| bits[bit / 64] >> (bit % 64) & 1 != 0)
    }

    fn hits(&self, rule: &Rule, known: Belonging) -> bool {
        rule.to.iter().any(|target| self.is_member(*target, known))
    }

    /// What the rules say of one address: the action, and who decided.
    fn rules(&self, zone: usize, known: Belonging, v6: bool, packet: &Packet) -> (Action, By) {
        let mut audit = None;
        let mut decided = (
            self.claim.policy.zones[zone].default,
            By::Reason(Reason::Default),
        );
        for (index, rule) in &self.rules[zone] {
            if !meets(rule, v6, packet) || !self.hits(rule, known) {
                continue;
            }
            if rule.action == Action::Audit {
                audit = audit.or(Some(*index));
                continue;
            }
            decided = (rule.action, By::Rule(*index));
            break;
        }
        match audit {
            Some(rule) if decided.0 == Action::Pass => (Action::Audit, By::Rule(rule)),
            _ => decided,
        }
    }

    /// A packet to an address, nothing about which is special: every address that
    /// it stands for is judged, the strictest verdict wins, the first of equals.
    pub(super) fn verdict(&self, zone: usize, to: &Meant, v6: bool, packet: &Packet) -> Verdict {
        const JUDGED: [Judged; MOST] = [
            Judged::Destination,
            Judged::Embedded,
            Judged::SecondEmbedded,
            Judged::ThirdEmbedded,
            Judged::FourthEmbedded,
        ];
        let mut strictest: Option<Verdict> = None;
        for (known, judged) in to.all().iter().zip(JUDGED) {
            let (action, by) = self.rules(zone, *known, v6, packet);
            if strictest.is_none_or(|before| action > before.action) {
                strictest = Some(Verdict {
                    action,
                    by,
                    judged,
                    noted: None,
                });
            }
        }
        strictest.unwrap_or_else(|| unreachable!("every address stands for one at least"))
    }

    /// A packet about which `reason` was met: a drop, or noted while the rules
    /// decide and the stricter wins. Where there is no destination to be judged,
    /// the setting decides.
    pub(super) fn met(&self, zone: usize, reason: Reason, rules: Option<Verdict>) -> Verdict {
        let setting = self.setting(zone, reason);
        let decides = |judged| Verdict::by(reason, setting, judged);
        match rules {
            None => decides(Judged::Nothing),
            Some(_) if setting == Action::Drop => decides(Judged::Destination),
            Some(rules) if setting > rules.action => decides(Judged::Destination),
            Some(rules) => Verdict {
                noted: Some(reason),
                ..rules
            },
        }
    }

    fn setting(&self, zone: usize, reason: Reason) -> Action {
        let mut settings = self.claim.policy.zones[zone].unparsable;
        match (reason, settings.tunnels) {
            (Reason::Tunnel, Tunnels::Action(action)) => action,
            // A tunnel that cannot be inspected, or what no zone can set.
            _ => settings.of(reason).map_or(Action::Drop, |action| *action),
        }
    }

    /// Prefixes that a zone's sources must be in; `None`: no list.
    pub(super) fn sources(&self, zone: usize) -> Option<&[IpNet]> {
        let settings = &self.claim.policy.zones[zone];
        match &settings.sources {
            Sources::Unset => None,
            Sources::Prefixes(prefixes) => Some(prefixes),
            Sources::Connected => {
                let connected = self.claim.environment.connected.get(&settings.name);
                connected.map(Vec::as_slice)
            }
        }
    }

    /// A source that hosts of a zone have, if one is known.
    pub(super) fn source(&self, zone: usize, v6: bool) -> Option<IpAddr> {
        let all = [GLOBAL[usize::from(v6)].parse::<IpNet>().ok()?];
        let mut nets = self.sources(zone).unwrap_or(&all).iter();
        let net = nets.find(|net| net.addr().is_ipv6() == v6)?;
        // The second address: the first of a network is no host.
        let address = net.hosts().next().unwrap_or(net.addr());
        (!self.is_spoofed(zone, address)).then_some(address)
    }

    /// Whether a zone cannot have this source. Without a list: whether the rules
    /// would drop it as a destination, by a set that somebody named.
    pub(super) fn is_spoofed(&self, zone: usize, source: IpAddr) -> bool {
        if source.is_unspecified() {
            return true;
        }
        if is_link_local(source) {
            return false;
        }
        if let Some(prefixes) = self.sources(zone) {
            return !prefixes.iter().any(|prefix| prefix.contains(&source));
        }
        if self.claim.policy.zones[zone].sources == Sources::Connected {
            return false;
        }
        let meant = self.meant(source);
        meant.all().iter().any(|known| {
            let mut rules = self.rules[zone].iter().filter(|(_, rule)| {
                rule.proto.is_none() && rule.ports.is_empty() && rule.action != Action::Audit
            });
            let first = rules.find(|(_, rule)| self.hits(rule, *known));
            first.is_some_and(|(_, rule)| {
                let by_set = rule.to.iter().any(|target| {
                    matches!(target, Target::Set(_)) && self.is_member(*target, *known)
                });
                rule.action == Action::Drop && by_set
            })
        })
    }
}

/// Whether a packet is one that a rule wants. What is hidden counts against the
/// sender.
fn meets(rule: &Rule, v6: bool, packet: &Packet) -> bool {
    if rule.proto.is_none() && rule.ports.is_empty() {
        return true;
    }
    let hidden = rule.action != Action::Pass;
    let Some(proto) = packet.proto else {
        return hidden;
    };
    let has_ports = matches!(proto, 6 | 17);
    let right = match rule.proto {
        None => has_ports,
        Some(Proto::Tcp) => proto == 6,
        Some(Proto::Udp) => proto == 17,
        Some(Proto::Icmp) => proto == if v6 { 58 } else { 1 },
        Some(Proto::Number(number)) => proto == number,
    };
    right
        && (rule.ports.is_empty()
            || has_ports
                && packet.port.map_or(hidden, |port| {
                    rule.ports.iter().any(|ports| ports.contains(&port))
                }))
}
