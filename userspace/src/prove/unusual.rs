//! Packets that are decided before any rule: sources, and everything that a
//! zone's settings name, met in a packet that is otherwise plain.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use kordon_ebpf::layout::{Action, Judged, Reason};

use super::{
    address::{is_multicast, is_special},
    claim::Claim,
    frame::{Frame, Place, extension, from, ip, link, to, transport},
    kernel::{Expected, Field, Kernel},
    naive::{Meant, Packet, Reference, Verdict},
    sample::{Both, Bytes, Sample, address, every},
};
use crate::policy::model::Tunnels;

/// Destinations that pass which all those sources are tried with.
const PASSED: usize = 4;
/// Addresses of the policy that are tried as sources of a zone.
const SOURCES: usize = 1024;

/// One zone.
pub(super) struct Unusual<'a> {
    claim: &'a Claim<'a>,
    reference: &'a Reference<'a>,
    zone: usize,
    place: &'a Place,
    /// Addresses of its rules, by family.
    addresses: &'a [Vec<Sample>; 2],
    /// Where its packets go here: in each family one address that passes and one
    /// that does not, where there are such.
    targets: [Vec<IpAddr>; 2],
    /// Others that pass, each for another reason, by family: what the verdict plane can
    /// say is what it can say of a source that must not be.
    passed: [Vec<IpAddr>; 2],
}

impl<'a> Unusual<'a> {
    pub(super) fn new(
        claim: &'a Claim<'a>,
        reference: &'a Reference<'a>,
        zone: usize,
        place: &'a Place,
        addresses: &'a [Vec<Sample>; 2],
    ) -> Self {
        let targets = |v6: bool| {
            let mut found: [Option<IpAddr>; 2] = [None; 2];
            for Sample { bytes, meant } in &addresses[usize::from(v6)] {
                let address = address(bytes, v6);
                // Infrastructure goes to groups and to the router.
                if meant.all().len() > 1 || is_multicast(address) {
                    continue;
                }
                let verdict = reference.verdict(zone, meant, v6, &Packet::PLAIN);
                found[usize::from(verdict.action == Action::Drop)].get_or_insert(address);
                if found.iter().all(Option::is_some) {
                    break;
                }
            }
            found.into_iter().flatten().collect()
        };
        let passed = |v6: bool| {
            let mut found = BTreeMap::new();
            for Sample { bytes, meant } in &addresses[usize::from(v6)] {
                let address = address(bytes, v6);
                if found.len() < PASSED && is_global(address) && meant.all().len() == 1 {
                    let verdict = reference.verdict(zone, meant, v6, &Packet::PLAIN);
                    if verdict.action == Action::Pass {
                        found.entry(meant.places()).or_insert(address);
                    }
                }
            }
            found.into_values().collect()
        };
        Self {
            claim,
            reference,
            zone,
            place,
            addresses,
            targets: [targets(false), targets(true)],
            passed: [passed(false), passed(true)],
        }
    }

    fn name(&self) -> &str {
        &self.claim.policy.zones[self.zone].name
    }

    fn rules(&self, to: IpAddr, packet: &Packet) -> Verdict {
        let meant = self.reference.meant(to);
        self.reference
            .verdict(self.zone, &meant, to.is_ipv6(), packet)
    }

    /// Proves which sources a zone may have.
    pub(super) fn sources(&self, kernel: &mut Kernel<'_>) -> Result<(), String> {
        let mut sources = Both::default();
        for net in self.reference.sources(self.zone).unwrap_or_default() {
            sources.add_with_neighbours(*net);
        }
        for text in ["169.254.0.0/16", "fe80::/10", "10.0.0.0/8", "2000::/3"] {
            text.parse()
                .into_iter()
                .for_each(|net| sources.add_with_neighbours(net));
        }
        let sources = sources.done();
        for v6 in [false, true] {
            let mut inputs = sources.of(v6).to_vec();
            let addresses = every(&self.addresses[usize::from(v6)], SOURCES);
            inputs.extend(addresses.map(|sample| sample.bytes));
            // The unspecified address.
            inputs.push([0; 16]);
            let [targets, passed] = [&self.targets, &self.passed].map(|all| &all[usize::from(v6)]);
            for to_this in targets.iter().take(1).chain(passed) {
                self.sources_to(kernel, *to_this, &inputs)?;
            }
        }
        Ok(())
    }

    fn sources_to(
        &self,
        kernel: &mut Kernel<'_>,
        to_this: IpAddr,
        inputs: &[Bytes],
    ) -> Result<(), String> {
        let v6 = to_this.is_ipv6();
        let packet = ip(v6, 17, &transport(&Packet::PLAIN));
        let frame = Frame::new(self.place, &to(packet, to_this));
        let said = kernel.batch(&frame, self.place.port, v6, Field::Source, inputs)?;
        let rules = self.rules(to_this, &Packet::PLAIN);
        for (source, said) in inputs.iter().zip(said) {
            let source = address(source, v6);
            let verdict = if self.reference.is_spoofed(self.zone, source) {
                self.reference
                    .met(self.zone, Reason::SpoofedSource, Some(rules))
            } else {
                rules
            };
            let expected = Expected::In(self.zone, verdict);
            kernel.compare(self.place.port, &expected, &said, || {
                format!("a packet of `{}` from {source} to {to_this}", self.name())
            })?;
        }
        Ok(())
    }

    /// Proves what becomes of packets that are broken or hide where they go, and
    /// of what keeps a link alive.
    pub(super) fn settings(&self, kernel: &mut Kernel<'_>) -> Result<(), String> {
        for address in &self.targets[0] {
            self.ipv4(kernel, *address)?;
        }
        for address in &self.targets[1] {
            self.ipv6(kernel, *address)?;
        }
        self.tunnels(kernel)?;
        self.unreadable(kernel)?;
        self.infrastructure(kernel)
    }

    /// A packet in which a reason is met and whose destination can be read.
    fn met(
        &self,
        kernel: &mut Kernel<'_>,
        reason: Reason,
        address: IpAddr,
        seen: &Packet,
        packet: &[u8],
    ) -> Result<(), String> {
        let rules = self.rules(address, seen);
        let verdict = self.reference.met(self.zone, reason, Some(rules));
        let frame = Frame::new(self.place, packet);
        self.judge(kernel, verdict, &frame.bytes, || {
            format!("a {} packet to {address}", reason.as_str())
        })
    }

    fn judge(
        &self,
        kernel: &mut Kernel<'_>,
        verdict: Verdict,
        frame: &[u8],
        what: impl FnOnce() -> String,
    ) -> Result<(), String> {
        let expected = Expected::In(self.zone, verdict);
        kernel.one(frame, self.place.port, &expected, || {
            format!("{} of `{}`", what(), self.name())
        })
    }

    fn ipv4(&self, kernel: &mut Kernel<'_>, address: IpAddr) -> Result<(), String> {
        let plain = to(ip(false, 17, &transport(&Packet::PLAIN)), address);
        let with_option = |option: [u8; 4]| {
            let mut packet = plain.clone();
            packet[0] = 0x46;
            packet[3] += 4;
            packet.splice(20..20, option);
            packet
        };
        let mut longer = plain.clone();
        longer[3] += 1;
        let plainly = Packet::PLAIN;
        // RFC 791: 7 records a route, and no option is one byte long; 131 is LSRR.
        for (reason, packet) in [
            (Reason::Truncated, longer),
            (Reason::BadHeader, with_option([7, 1, 0, 0])),
            (Reason::SourceRoute, with_option([131, 3, 4, 0])),
        ] {
            self.met(kernel, reason, address, &plainly, &packet)?;
        }
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let packet = to(plain.clone(), loopback);
        self.met(kernel, Reason::Martian, loopback, &plainly, &packet)?;
        if self.claim.policy.zones[self.zone].pppoe {
            let mut frame = link(self.place, 0x8864);
            frame.extend([0x11, 0, 0, 1, 0, 42, 0, 0x21]);
            frame.extend(&plain);
            let verdict = self.rules(address, &plainly);
            self.judge(kernel, verdict, &frame, || {
                format!("a packet to {address} in a PPPoE session")
            })?;
        }
        Ok(())
    }

    fn ipv6(&self, kernel: &mut Kernel<'_>, address: IpAddr) -> Result<(), String> {
        let data = transport(&Packet::PLAIN);
        let mut longer = to(ip(true, 17, &data), address);
        longer[5] += 1;
        let routed = ip(true, 43, &extension(17, 1, &data));
        let mut chain = (17, data.to_vec());
        for _ in 0..9 {
            chain = (60, extension(chain.0, 0, &chain.1));
        }
        let hidden = Packet::new(None, None);
        for (reason, seen, packet) in [
            (Reason::Truncated, Packet::PLAIN, longer),
            (Reason::RoutingHeader, Packet::PLAIN, to(routed, address)),
            (
                Reason::HeaderChain,
                hidden,
                to(ip(true, 60, &chain.1), address),
            ),
        ] {
            self.met(kernel, reason, address, &seen, &packet)?;
        }
        Ok(())
    }

    fn tunnels(&self, kernel: &mut Kernel<'_>) -> Result<(), String> {
        let inspect = self.claim.policy.zones[self.zone].unparsable.tunnels == Tunnels::Inspect;
        for outer in self.targets.iter().flatten() {
            // EtherIP, which nobody looks into.
            let seen = Packet::new(Some(97), Some(9));
            let packet = to(ip(outer.is_ipv6(), 97, &[0; 20]), *outer);
            self.met(kernel, Reason::Tunnel, *outer, &seen, &packet)?;
            for inner in &self.targets[0] {
                let data = transport(&Packet::PLAIN);
                let inside = to(ip(false, 17, &data), *inner);
                let packet = to(ip(outer.is_ipv6(), 4, &inside), *outer);
                let seen = Packet::new(Some(4), None);
                if !inspect {
                    self.met(kernel, Reason::Tunnel, *outer, &seen, &packet)?;
                    continue;
                }
                let mut verdict = self.rules(*outer, &seen);
                let within = self.rules(*inner, &Packet::PLAIN);
                if within.action > verdict.action {
                    verdict = Verdict {
                        judged: Judged::Inner,
                        ..within
                    };
                }
                let frame = Frame::new(self.place, &packet);
                self.judge(kernel, verdict, &frame.bytes, || {
                    format!("a tunnel packet to {outer} with one to {inner} inside")
                })?;
            }
        }
        Ok(())
    }

    /// Frames without a destination that can be read.
    fn unreadable(&self, kernel: &mut Kernel<'_>) -> Result<(), String> {
        let decided = |action, reason| Verdict::by(reason, action, Judged::Nothing);
        let by_setting = |reason| self.reference.met(self.zone, reason, None);
        let short = |ethertype, rest: &[u8]| {
            let mut frame = link(self.place, ethertype);
            frame.extend(rest);
            frame
        };
        let deep = Place {
            tags: [self.place.tags.as_slice(), &[1, 2, 3]].concat(),
            ..self.place.clone()
        };
        let pppoe = self.claim.policy.zones[self.zone].pppoe;
        let discovery = if pppoe {
            decided(Action::Pass, Reason::NotIp)
        } else {
            by_setting(Reason::Ethertype)
        };
        let mut frames = vec![
            (
                "an MPLS frame",
                short(0x8847, &[0; 40]),
                by_setting(Reason::Ethertype),
            ),
            (
                "an IPv4 packet of ten bytes",
                short(0x0800, &[0x45; 10]),
                by_setting(Reason::Truncated),
            ),
            (
                "an IPv4 packet of version 5",
                short(0x0800, &[0x55; 40]),
                by_setting(Reason::BadHeader),
            ),
            (
                "an IPv6 packet of version 7",
                short(0x86dd, &[0x70; 60]),
                by_setting(Reason::BadHeader),
            ),
            (
                "an ARP frame",
                short(0x0806, &[&[0, 1, 8, 0, 6, 4, 0, 1][..], &[0; 20]].concat()),
                decided(Action::Pass, Reason::NotIp),
            ),
            (
                "an LLDP frame to one station",
                short(0x88cc, &[0; 28]),
                by_setting(Reason::Ethertype),
            ),
            (
                "a PPPoE discovery frame",
                short(0x8863, &[0x11, 9, 0, 0, 0, 0]),
                discovery,
            ),
        ];
        // Pairs may give deep tags to a zone of their own.
        if self.reference.zone_of(
            &self.claim.environment.ports[self.place.port as usize].logical,
            &deep.tags[..deep.tags.len().min(2)],
        ) == Some(self.zone)
        {
            let mut frame = link(&deep, 0x0800);
            frame.extend([0x45; 40]);
            frames.push((
                "a frame with too many tags",
                frame,
                decided(Action::Drop, Reason::VlanDepth),
            ));
        }
        for (what, frame, verdict) in frames {
            self.judge(kernel, verdict, &frame, || what.to_owned())?;
        }
        Ok(())
    }

    fn infrastructure(&self, kernel: &mut Kernel<'_>) -> Result<(), String> {
        let verdict = Verdict::by(Reason::Infrastructure, Action::Pass, Judged::Destination);
        let group = |address: &str| address.parse::<IpAddr>().ok();
        // A solicitation (RFC 4861) with hop limit 255.
        let solicitation = [&[135, 0][..], &[0; 22]].concat();
        let solicit = |address: IpAddr| {
            let mut packet = to(ip(true, 58, &solicitation), address);
            packet[7] = 255;
            packet
        };
        let mut packets = Vec::new();
        if let Some(all) = group("224.0.0.22") {
            packets.push((all, to(ip(false, 2, &[0x22, 0, 0, 0, 0, 0, 0, 0]), all)));
        }
        let router = &self.claim.environment.router;
        for address in router.iter().copied().chain(group("ff02::1:ff00:1")) {
            if address.is_ipv6() && !is_special(address) {
                packets.push((address, solicit(address)));
            }
        }
        for (address, packet) in packets {
            let frame = Frame::new(self.place, &packet);
            self.judge(kernel, verdict, &frame.bytes, || {
                format!("what keeps the link to {address} alive,")
            })?;
        }
        let Some(group) = group("ff02::1:ff00:1") else {
            return Ok(());
        };
        let seen = Packet::new(Some(58), None);
        let rules = self.rules(group, &seen);
        let mut behind = to(ip(true, 60, &extension(58, 0, &solicitation)), group);
        behind[7] = 255;
        let frame = Frame::new(self.place, &behind);
        self.judge(kernel, rules, &frame.bytes, || {
            format!("a solicitation to {group} behind options,")
        })?;
        let mut addresses = every(&self.addresses[1], SOURCES).map(|s| address(&s.bytes, true));
        if let Some(forged) = addresses.find(|from| self.reference.is_spoofed(self.zone, *from)) {
            let verdict = self
                .reference
                .met(self.zone, Reason::SpoofedSource, Some(rules));
            let mut frame = Frame::new(self.place, &solicit(group));
            from(&mut frame, forged);
            self.judge(kernel, verdict, &frame.bytes, || {
                format!("a solicitation to {group} from {forged},")
            })?;
        }
        Ok(())
    }
}

/// What an address is judged by, for messages.
pub(super) fn in_words(meant: &Meant) -> &'static str {
    if meant.all().len() > 1 {
        " and what stands in it"
    } else {
        ""
    }
}

/// Whether this is plain unicast that stands for no other address.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets()[0], 1..=126 | 128..=223),
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            first >> 13 == 1 && first != 0x2002 && (first, second) != (0x2001, 0)
        }
    }
}
