//! Whether rules match, and which one decides (design §3 steps 6 and 7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kordon::policy::model::{Policy, Proto, Rule, Target, ZoneId};
use kordon_ebpf::layout::{Action, Reason};

use super::{
    Router,
    headers::{Packet, Transport, be16},
    table::Table,
};

/// What the rules say of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) action: Action,
    pub(super) reason: Reason,
    pub(super) rule: Option<String>,
    /// The address that was judged.
    pub(super) judged: IpAddr,
    /// A rule needed ports that are not there; its setting was not `drop`.
    pub(super) noted_truncated: bool,
}

/// What the world around the policy looks like.
pub(super) struct World<'a> {
    pub(super) policy: &'a Policy,
    pub(super) table: &'a Table,
    pub(super) router: &'a Router,
    pub(super) now: jiff::Timestamp,
}

/// Whether and how a rule matches.
enum Match {
    No,
    Yes,
    /// That depends on ports which should be here and are not.
    NeedsPorts,
}

fn in_v4(address: Ipv4Addr, net: [u8; 4], length: u8) -> bool {
    let net = ipnet::Ipv4Net::new(net.into(), length).expect("a prefix");
    net.contains(&address)
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            in_v4(a, [10, 0, 0, 0], 8)
                || in_v4(a, [172, 16, 0, 0], 12)
                || in_v4(a, [192, 168, 0, 0], 16)
                || in_v4(a, [100, 64, 0, 0], 10)
                || in_v4(a, [169, 254, 0, 0], 16)
        }
        IpAddr::V6(a) => a.segments()[0] & 0xfe00 == 0xfc00 || a.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_multicast(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// 0/8, 127/8, ::, ::1: never on any wire.
fn is_nowhere(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.octets()[0] == 0 || a.octets()[0] == 127,
        IpAddr::V6(a) => a.is_unspecified() || a.is_loopback(),
    }
}

impl World<'_> {
    /// RFC 6052, 2.2: the IPv4 address in an address of a NAT64 prefix. Bits 64
    /// to 71 are not part of it.
    fn nat64(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let well_known = "64:ff9b::/96".parse().expect("a prefix");
        for prefix in std::iter::once(&well_known).chain(&self.policy.nat64) {
            if prefix.contains(&address) {
                let o = address.octets();
                return Some(match prefix.prefix_len() {
                    32 => Ipv4Addr::new(o[4], o[5], o[6], o[7]),
                    40 => Ipv4Addr::new(o[5], o[6], o[7], o[9]),
                    48 => Ipv4Addr::new(o[6], o[7], o[9], o[10]),
                    56 => Ipv4Addr::new(o[7], o[9], o[10], o[11]),
                    64 => Ipv4Addr::new(o[9], o[10], o[11], o[12]),
                    96 => Ipv4Addr::new(o[12], o[13], o[14], o[15]),
                    other => unreachable!("no NAT64 prefix has length {other}"),
                });
            }
        }
        None
    }

    /// All addresses to judge in place of this one, in the order of naming.
    pub(super) fn meant_by(&self, address: IpAddr) -> Vec<IpAddr> {
        let IpAddr::V6(v6) = address else {
            return vec![address];
        };
        // Judged by the embedded address alone.
        if let Some(v4) = v6.to_ipv4_mapped() {
            return vec![IpAddr::V4(v4)];
        }
        if let Some(v4) = self.nat64(v6) {
            return vec![IpAddr::V4(v4)];
        }
        let o = v6.octets();
        let v4 = |bytes: [u8; 4]| IpAddr::V4(bytes.into());
        let mut all = vec![address];
        // Local NAT64 (RFC 8215) whose prefix nobody named: 64:ff9b:1::/48, and what
        // prefixes of 48, 56, 64 and 96 bits would make of it.
        if o[..6] == [0, 0x64, 0xff, 0x9b, 0, 1] {
            all.push(v4([o[6], o[7], o[9], o[10]]));
            all.push(v4([o[7], o[9], o[10], o[11]]));
            all.push(v4([o[9], o[10], o[11], o[12]]));
            all.push(v4([o[12], o[13], o[14], o[15]]));
            return all;
        }
        // Teredo (RFC 4380): server as it is, client inverted.
        if o[..4] == [0x20, 0x01, 0, 0] {
            all.push(v4([o[4], o[5], o[6], o[7]]));
            all.push(v4([!o[12], !o[13], !o[14], !o[15]]));
            return all;
        }
        // 6to4 (RFC 3056): 2002:V4ADDR::/48.
        if o[..2] == [0x20, 0x02] {
            all.push(v4([o[2], o[3], o[4], o[5]]));
        }
        // ISATAP (RFC 5214), with and without the bit for global addresses.
        let isatap = matches!(o[8..12], [0 | 2, 0, 0x5e, 0xfe]);
        // ::a.b.c.d (RFC 4291) and ::ffff:0:a.b.c.d (RFC 2765).
        let compatible = o[..12] == [0; 12];
        let translated = o[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
        if isatap || compatible || translated {
            all.push(v4([o[12], o[13], o[14], o[15]]));
        }
        all
    }

    fn in_set(&self, id: usize, address: IpAddr) -> bool {
        let set = &self.policy.sets[id];
        let answer = self.table.at(address);
        for asn in &answer.origins {
            if set.asns.iter().any(|range| range.contains(asn)) {
                return true;
            }
            if let Some(country) = self.table.registration(*asn)
                && set.asn_countries.contains(&country)
            {
                return true;
            }
        }
        if let Some(block) = answer.block
            && set.countries.contains(&block)
        {
            return true;
        }
        set.prefixes.iter().any(|prefix| prefix.contains(&address))
    }

    fn hits(&self, target: Target, address: IpAddr) -> bool {
        match target {
            Target::Any => true,
            Target::Private => is_private(address),
            Target::Multicast => is_multicast(address),
            Target::Unrouted => {
                self.table.at(address).origins.is_empty()
                    && !is_private(address)
                    && !is_multicast(address)
                    && !is_nowhere(address)
            }
            Target::Router => self.router.addresses.contains(&address),
            Target::Set(id) => self.in_set(id, address),
        }
    }

    /// The rules of a zone that exist now.
    fn rules(&self, zone: ZoneId) -> impl Iterator<Item = &Rule> {
        self.policy
            .rules
            .iter()
            .filter(move |rule| rule.from.contains(&zone))
            .filter(|rule| rule.until.is_none_or(|until| until > self.now))
    }

    fn matches(&self, rule: &Rule, address: IpAddr, packet: &Packet) -> Match {
        if !rule.to.iter().any(|target| self.hits(*target, address)) {
            return Match::No;
        }
        if rule.proto.is_none() && rule.ports.is_empty() {
            return Match::Yes;
        }
        // What is hidden counts against the sender.
        let hidden = match rule.action {
            Action::Pass => Match::No,
            Action::Audit | Action::Drop => Match::Yes,
        };
        let Some(proto) = packet.proto else {
            return hidden;
        };
        let right = match rule.proto {
            None => proto == 6 || proto == 17,
            Some(Proto::Tcp) => proto == 6,
            Some(Proto::Udp) => proto == 17,
            Some(Proto::Icmp) => proto == if packet.src.is_ipv4() { 1 } else { 58 },
            Some(Proto::Number(number)) => proto == number,
        };
        if !right {
            return Match::No;
        }
        if rule.ports.is_empty() {
            return Match::Yes;
        }
        match &packet.transport {
            Transport::Hidden => hidden,
            Transport::Here(bytes) if bytes.len() < 4 => Match::NeedsPorts,
            Transport::Here(bytes) => {
                let port = be16(bytes, 2);
                if rule.ports.iter().any(|range| range.contains(&port)) {
                    Match::Yes
                } else {
                    Match::No
                }
            }
        }
    }

    /// Walks the rules for one address. `truncated` is that reason's setting.
    pub(super) fn judge(
        &self,
        zone: ZoneId,
        address: IpAddr,
        packet: &Packet,
        truncated: Action,
    ) -> Verdict {
        let mut packet = packet.clone();
        let mut verdict = Verdict {
            action: self.policy.zones[zone].default,
            reason: Reason::Default,
            rule: None,
            judged: address,
            noted_truncated: false,
        };
        let mut audit = None;
        for rule in self.rules(zone) {
            let mut matched = self.matches(rule, address, &packet);
            if matches!(matched, Match::NeedsPorts) {
                if truncated == Action::Drop {
                    verdict.action = Action::Drop;
                    verdict.reason = Reason::Truncated;
                    return verdict;
                }
                // Ignored: from here on the ports are as good as hidden.
                verdict.noted_truncated = true;
                packet.transport = Transport::Hidden;
                matched = self.matches(rule, address, &packet);
            }
            if !matches!(matched, Match::Yes) {
                continue;
            }
            if rule.action == Action::Audit {
                audit.get_or_insert(&rule.name);
                continue;
            }
            verdict.action = rule.action;
            verdict.reason = Reason::Rule;
            verdict.rule = Some(rule.name.clone());
            break;
        }
        if verdict.action == Action::Pass
            && let Some(name) = audit
        {
            verdict.action = Action::Audit;
            verdict.reason = Reason::Rule;
            verdict.rule = Some(name.clone());
        }
        verdict
    }

    /// For zones without `sources`: whether the rules would drop this source as
    /// a destination, by one of their named sets.
    pub(super) fn dropped_as_destination(&self, zone: ZoneId, source: IpAddr) -> bool {
        for rule in self.rules(zone) {
            if rule.action == Action::Audit || rule.proto.is_some() || !rule.ports.is_empty() {
                continue;
            }
            if !rule.to.iter().any(|target| self.hits(*target, source)) {
                continue;
            }
            let by_set = rule
                .to
                .iter()
                .any(|target| matches!(target, Target::Set(_)) && self.hits(*target, source));
            return rule.action == Action::Drop && by_set;
        }
        false
    }
}
