//! What kordon must say of a frame, written a second time: slow, obvious, and
//! without the compiled form. It starts from the validated policy and the rows
//! of the databases, looks through all of them for every question, and shares
//! no line of the decision with the datapath, so that the same mistake would
//! have to be made twice.

mod headers;
mod infrastructure;
mod rules;
mod table;

use std::net::IpAddr;

use ipnet::IpNet;
use kordon::policy::model::{Policy, Sources, Tunnels, VlanMatch, Zone, ZoneId};
use kordon_ebpf::layout::{Action, Reason};

pub use self::table::{Answer, Table};
use self::{
    headers::{Packet, Transport, be16, tags},
    rules::World,
};

/// What is known of the router.
#[derive(Clone, Debug, Default)]
pub struct Router {
    /// Logical name of the interface that frames arrive on.
    pub interface: Option<String>,
    /// The router's own addresses.
    pub addresses: Vec<IpAddr>,
    /// Prefixes for zones with `sources = "connected"`; empty: unchecked.
    pub connected: Vec<IpNet>,
}

/// The fields of a row of `replay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name of the zone.
    pub zone: Option<String>,
    /// `pass`, `audit` or `drop`.
    pub action: String,
    /// A reason's word.
    pub reason: String,
    /// Name of the rule.
    pub rule: Option<String>,
    /// Source.
    pub src: Option<IpAddr>,
    /// Destination.
    pub dst: Option<IpAddr>,
    /// The address that decided.
    pub judged: Option<IpAddr>,
    /// Its first origin.
    pub asn: Option<u32>,
    /// All its origins.
    pub origins: Vec<u32>,
    /// Its country: of the block, else of the registration.
    pub country: Option<String>,
}

impl From<&kordon::judge::Row> for Row {
    fn from(row: &kordon::judge::Row) -> Self {
        Self {
            zone: row.zone.clone(),
            action: row.action.to_owned(),
            reason: row.reason.to_owned(),
            rule: row.rule.clone(),
            src: row.src,
            dst: row.dst,
            judged: row.judged,
            asn: row.asn,
            origins: row.origins.clone(),
            country: row.country.clone(),
        }
    }
}

/// A policy and a database, ready to judge frames, slowly.
pub struct Interpreter<'a> {
    world: World<'a>,
}

/// What a frame turned out to be, before addresses are looked up.
struct Outcome {
    zone: Option<ZoneId>,
    action: Action,
    reason: Reason,
    rule: Option<String>,
    addresses: Option<(IpAddr, IpAddr)>,
    judged: Option<IpAddr>,
}

/// An IPv6 address that no router forwards: fe80::/10; 169.254/16 in IPv4.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

impl<'a> Interpreter<'a> {
    /// An interpreter at a moment: rules that have ended do not exist.
    #[must_use]
    pub fn new(
        policy: &'a Policy,
        table: &'a Table,
        router: &'a Router,
        now: jiff::Timestamp,
    ) -> Self {
        Self {
            world: World {
                policy,
                table,
                router,
                now,
            },
        }
    }

    /// Judges one frame.
    #[must_use]
    pub fn row(&self, frame: &[u8]) -> Row {
        let outcome = self.judge(frame);
        let answer = outcome
            .judged
            .map(|judged| self.world.table.at(judged))
            .unwrap_or_default();
        let asn = answer.origins.first().copied();
        let country = answer
            .block
            .or_else(|| asn.and_then(|asn| self.world.table.registration(asn)));
        Row {
            zone: outcome.zone.map(|id| self.zone(id).name.clone()),
            action: outcome.action.as_str().to_owned(),
            reason: outcome.reason.as_str().to_owned(),
            rule: outcome.rule,
            src: outcome.addresses.map(|(src, _)| src),
            dst: outcome.addresses.map(|(_, dst)| dst),
            judged: outcome.judged,
            asn,
            origins: answer.origins,
            country: country.map(|country| country.to_string()),
        }
    }

    fn zone(&self, id: ZoneId) -> &Zone {
        &self.world.policy.zones[id]
    }

    /// Step 1: the zone of these counting tags, the most specific first.
    fn find_zone(&self, counting: &[u16]) -> Option<ZoneId> {
        let here = |zone: &Zone| match &self.world.router.interface {
            Some(name) => zone.interfaces.contains(name),
            None => false,
        };
        let pair = |zone: &Zone| {
            counting.len() >= 2
                && zone
                    .vlans
                    .contains(&VlanMatch::Pair(counting[0], counting[1]))
        };
        let outer = |zone: &Zone| match counting {
            [] => zone.vlans.contains(&VlanMatch::Untagged),
            [outer, ..] => zone.vlans.contains(&VlanMatch::Outer(*outer)),
        };
        let anywhere = |zone: &Zone| zone.interfaces.is_empty();
        let zones = &self.world.policy.zones;
        zones
            .iter()
            .position(|zone| here(zone) && pair(zone))
            .or_else(|| zones.iter().position(|zone| here(zone) && outer(zone)))
            .or_else(|| {
                zones
                    .iter()
                    .position(|zone| here(zone) && zone.vlans.is_empty())
            })
            .or_else(|| zones.iter().position(|zone| anywhere(zone) && pair(zone)))
            .or_else(|| zones.iter().position(|zone| anywhere(zone) && outer(zone)))
    }

    fn judge(&self, frame: &[u8]) -> Outcome {
        let tags = tags(frame);
        let zone = self.find_zone(&tags.counting);
        let no_address = |action, reason| Outcome {
            zone,
            action,
            reason,
            rule: None,
            addresses: None,
            judged: None,
        };
        if tags.ninth {
            return no_address(Action::Drop, Reason::VlanDepth);
        }
        let Some(id) = zone else {
            return no_address(Action::Pass, Reason::NoZone);
        };
        if tags.counting.len() >= 3 {
            return no_address(Action::Drop, Reason::VlanDepth);
        }
        let settings = self.zone(id).unparsable;
        if tags.cut {
            return no_address(settings.truncated, Reason::Truncated);
        }

        // Step 2.
        let payload = &frame[tags.payload..];
        let mut wrong = Vec::new();
        let (packet, more) = match tags.ethertype {
            0x0800 => headers::ipv4(payload),
            0x86dd => headers::ipv6(payload),
            ethertype
                if infrastructure::is_of_the_link(
                    frame,
                    ethertype,
                    payload,
                    self.zone(id).pppoe,
                ) =>
            {
                return no_address(Action::Pass, Reason::NotIp);
            }
            0x8864 if self.zone(id).pppoe => {
                if payload.len() < 6 {
                    return no_address(settings.truncated, Reason::Truncated);
                }
                if payload[0] != 0x11 || payload[1] != 0 {
                    return no_address(settings.bad_header, Reason::BadHeader);
                }
                let length = usize::from(be16(payload, 4));
                if length > payload.len() - 6 {
                    wrong.push(Reason::Truncated);
                }
                let inside = &payload[6..payload.len().min(6 + length)];
                if inside.len() < 2 {
                    return no_address(settings.truncated, Reason::Truncated);
                }
                match be16(inside, 0) {
                    0x0021 => headers::ipv4(&inside[2..]),
                    0x0057 => headers::ipv6(&inside[2..]),
                    // LCP, PAP, CHAP, IPCP, IPV6CP, LQR.
                    0xc021 | 0xc023 | 0xc223 | 0x8021 | 0x8057 | 0xc025 => {
                        return match wrong.first() {
                            Some(_) => no_address(settings.truncated, Reason::Truncated),
                            None => no_address(Action::Pass, Reason::NotIp),
                        };
                    }
                    _ => {
                        wrong.push(Reason::Ethertype);
                        return self.unreadable(id, &wrong);
                    }
                }
            }
            _ => return no_address(settings.ethertype, Reason::Ethertype),
        };
        if !wrong.is_empty() && settings.truncated == Action::Drop {
            return no_address(Action::Drop, Reason::Truncated);
        }
        wrong.extend(more);
        let Some(packet) = packet else {
            return self.unreadable(id, &wrong);
        };
        self.judge_packet(id, &packet, &wrong)
    }

    /// No destination: the strictest setting of what was met decides, the first
    /// of equals.
    fn unreadable(&self, id: ZoneId, wrong: &[Reason]) -> Outcome {
        let mut worst = wrong[0];
        for reason in wrong {
            if self.setting(id, *reason) > self.setting(id, worst) {
                worst = *reason;
            }
        }
        Outcome {
            zone: Some(id),
            action: self.setting(id, worst),
            reason: worst,
            rule: None,
            addresses: None,
            judged: None,
        }
    }

    fn setting(&self, id: ZoneId, reason: Reason) -> Action {
        let settings = self.zone(id).unparsable;
        match reason {
            Reason::Ethertype => settings.ethertype,
            Reason::Truncated => settings.truncated,
            Reason::BadHeader => settings.bad_header,
            Reason::Martian => settings.martian,
            Reason::HeaderChain => settings.header_chain,
            Reason::SourceRoute => settings.source_route,
            Reason::RoutingHeader => settings.routing_header,
            Reason::SpoofedSource => settings.spoofed_source,
            Reason::Tunnel => match settings.tunnels {
                Tunnels::Action(action) => action,
                // What cannot be inspected.
                Tunnels::Inspect => Action::Drop,
            },
            _ => Action::Drop,
        }
    }

    /// Steps 3 to 7 for a packet whose destination can be read.
    fn judge_packet(&self, id: ZoneId, packet: &Packet, wrong: &[Reason]) -> Outcome {
        let said = |action, reason, rule, judged| Outcome {
            zone: Some(id),
            action,
            reason,
            rule,
            addresses: Some((packet.src, packet.dst)),
            judged: Some(judged),
        };
        let settings = self.zone(id).unparsable;
        // Everything that is met and not a drop.
        let mut noted = Vec::new();

        // Step 3.
        for reason in wrong {
            if self.setting(id, *reason) == Action::Drop {
                return said(Action::Drop, *reason, None, packet.dst);
            }
            noted.push(*reason);
        }
        // Step 4.
        let is_router = |address| self.world.router.addresses.contains(&address);
        if infrastructure::is_meant(packet, is_router) {
            let can_be_there =
                |source: IpAddr| source.is_unspecified() || !self.is_spoofed(id, source);
            if !can_be_there(packet.src) {
                if settings.spoofed_source == Action::Drop {
                    return said(Action::Drop, Reason::SpoofedSource, None, packet.dst);
                }
                noted.push(Reason::SpoofedSource);
            } else if noted.is_empty() && infrastructure::is_sound(packet, can_be_there) {
                return said(Action::Pass, Reason::Infrastructure, None, packet.dst);
            }
        }
        // Steps 5 and 6.
        let mut hides = Vec::new();
        if packet.source_route {
            hides.push(Reason::SourceRoute);
        }
        if packet.routing_header {
            hides.push(Reason::RoutingHeader);
        }
        let tunnel = match packet.proto {
            Some(proto) => is_tunnel(proto),
            None => false,
        };
        let mut inner = None;
        if tunnel {
            if settings.tunnels == Tunnels::Inspect {
                inner = inspect(packet);
            }
            if inner.is_none() {
                hides.push(Reason::Tunnel);
            }
        }
        if self.is_spoofed(id, packet.src) {
            hides.push(Reason::SpoofedSource);
        }
        for reason in hides {
            if self.setting(id, reason) == Action::Drop {
                return said(Action::Drop, reason, None, packet.dst);
            }
            noted.push(reason);
        }

        // Step 7: every address, in the order of naming; the strictest verdict
        // wins, the first of equals.
        let mut verdicts = Vec::new();
        for (packet, address) in std::iter::once(packet).chain(&inner).flat_map(|packet| {
            let addresses = self.world.meant_by(packet.dst);
            addresses.into_iter().map(move |address| (packet, address))
        }) {
            verdicts.push(self.world.judge(id, address, packet, settings.truncated));
        }
        let mut verdict = &verdicts[0];
        for other in &verdicts {
            if other.action > verdict.action {
                verdict = other;
            }
        }
        if verdicts.iter().any(|verdict| verdict.noted_truncated) {
            noted.push(Reason::Truncated);
        }
        // An ignored reason is reported where its setting is stricter.
        let stricter = noted
            .into_iter()
            .find(|reason| self.setting(id, *reason) > verdict.action);
        match stricter {
            Some(reason) => said(self.setting(id, reason), reason, None, verdict.judged),
            None => said(
                verdict.action,
                verdict.reason,
                verdict.rule.clone(),
                verdict.judged,
            ),
        }
    }

    /// Step 6.
    fn is_spoofed(&self, id: ZoneId, source: IpAddr) -> bool {
        if source.is_unspecified() {
            return true;
        }
        if is_link_local(source) {
            return false;
        }
        match &self.zone(id).sources {
            Sources::Prefixes(prefixes) => !prefixes.iter().any(|net| net.contains(&source)),
            Sources::Connected => {
                let connected = &self.world.router.connected;
                !connected.is_empty() && !connected.iter().any(|net| net.contains(&source))
            }
            Sources::Unset => {
                let meant = self.world.meant_by(source);
                meant
                    .into_iter()
                    .any(|address| self.world.dropped_as_destination(id, address))
            }
        }
    }
}

/// Step 5: IP in IP, IPv6, GRE, MOBILE, IPIP, ETHERIP, ENCAP, IPComp, L2TP, MPLS-in-IP, ROHC,
/// Ethernet, AGGFRAG, NSH.
fn is_tunnel(proto: u8) -> bool {
    [4, 41, 47, 55, 94, 97, 98, 108, 115, 137, 142, 143, 144, 145].contains(&proto)
}

/// The packet in a tunnel, if nothing about it is doubtful.
fn inspect(packet: &Packet) -> Option<Packet> {
    let Transport::Here(payload) = &packet.transport else {
        return None;
    };
    let (inner, wrong) = headers::inside(packet.proto?, payload)?;
    let inner = inner?;
    let doubtful = !wrong.is_empty()
        || inner.source_route
        || inner.routing_header
        || inner.proto.is_some_and(is_tunnel);
    (!doubtful).then_some(inner)
}
