//! The proof that comes before a generation is live: the program judges packets
//! over the candidate maps, in the kernel, and each verdict is compared with what
//! [`naive`] makes of the policy's own words, and [`address`] of an address.
//!
//! What is asked, up to a budget:
//! - [`places`]: which zone frames are in, by interface and tags;
//! - [`sample`]: addresses that rules name, what lies beside them and what stands
//!   for them; for each rule with protocol or ports, packets that meet the
//!   condition, that just do not, and fragments that hide it; and addresses of the
//!   whole database, which is all of what a new table is proven by;
//! - [`unusual`]: sources, and what zones say of packets that are broken or hide
//!   where they go.
//!
//! Verdict, counter, the address that decided and what was noted must all be right.

mod address;
mod claim;
mod frame;
mod kernel;
mod naive;
mod places;
mod sample;
mod unusual;

use std::{collections::BTreeMap, net::IpAddr};

use kordon_ebpf::layout::{Judged, PROBE_BATCH};

pub use self::address::stands_for;
pub(crate) use self::address::{is_multicast, is_private, is_special};
pub use self::claim::{Budget, Claim};
pub use self::frame::Place;
use self::{
    address::MOST,
    frame::{Frame, from},
    kernel::{Expected, Field, Kernel},
    naive::{Meant, Packet, Reference, Verdict},
    sample::{Bytes, Sample, address, look_up},
    unusual::{Unusual, in_words},
};
use crate::{
    datapath::probe::Prober,
    policy::model::{Policy, Proto, Rule},
};

/// Kinds of packet that rules' conditions are about, in one zone.
const CONDITIONS: usize = 256;

/// What was shown.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// Packets that the program judged as the policy says.
    pub packets: usize,
    /// Where packets of each zone come from, to ask for more.
    pub places: Vec<Place>,
}

/// Asks the program in the kernel for the classes of addresses in the table that it has.
///
/// # Errors
/// Names the first address that is of another class than it should be.
pub fn classes(
    place: &Place,
    prober: &mut Prober,
    expected: &[(IpAddr, u32)],
) -> Result<(), String> {
    for v6 in [false, true] {
        let of_family = || {
            expected
                .iter()
                .filter(|(address, _)| address.is_ipv6() == v6)
        };
        let inputs: Vec<Bytes> = of_family()
            .map(|(address, _)| sample::bytes(*address))
            .collect();
        let Some(frame) = Frame::of(place, v6, &Packet::PLAIN) else {
            continue;
        };
        let family = if v6 { 6 } else { 4 };
        let said = prober
            .batch(&frame.bytes, place.port, family, frame.destination, &inputs)
            .map_err(|e| e.to_string())?;
        for ((address, class), said) in of_family().zip(said) {
            // Some are judged by another address, or by none.
            if said.class != *class && said.judged == Judged::Destination as u8 {
                return Err(format!(
                    "the kernel says class {} of {address}, and it is {class}",
                    said.class
                ));
            }
        }
    }
    Ok(())
}

/// Runs the proof over what is in the prober.
///
/// # Errors
/// Names the first packet whose verdict in the kernel is not that of the policy.
pub fn prove(claim: &Claim<'_>, budget: Budget, prober: &mut Prober) -> Result<Proof, String> {
    let reference = Reference::new(claim);
    let mut kernel = Kernel::new(claim, prober);
    places::prove(claim, budget, &reference, &mut kernel)?;
    let places = places::of_zones(claim, &reference);
    let addresses = sample::of_zones(claim, &reference, budget);
    let mut whole = Some(sample::of_database(claim, budget));
    for (zone, (place, addresses)) in places.iter().zip(&addresses).enumerate() {
        // A zone on interfaces that this router does not have.
        let Some(place) = place else { continue };
        let addresses = [false, true].map(|v6| look_up(&reference, v6, addresses.of(v6)));
        let unusual = Unusual::new(claim, &reference, zone, place, &addresses);
        unusual.settings(&mut kernel)?;
        unusual.sources(&mut kernel)?;
        let rules = Rules {
            claim,
            budget,
            reference: &reference,
            zone,
            place,
        };
        rules.prove(&mut kernel, &addresses)?;
        // The table is the same for all zones.
        if let Some(whole) = whole.take() {
            for v6 in [false, true] {
                for part in whole.of(v6).chunks(PROBE_BATCH) {
                    rules.plain(&mut kernel, v6, &look_up(&reference, v6, part))?;
                }
            }
        }
    }
    Ok(Proof {
        packets: kernel.asked,
        places: places.into_iter().flatten().collect(),
    })
}

/// The rules of one zone.
struct Rules<'a> {
    claim: &'a Claim<'a>,
    budget: Budget,
    reference: &'a Reference<'a>,
    zone: usize,
    place: &'a Place,
}

impl Rules<'_> {
    fn prove(&self, kernel: &mut Kernel<'_>, addresses: &[Vec<Sample>; 2]) -> Result<(), String> {
        let packets = conditions(self.claim.policy, self.zone);
        for v6 in [false, true] {
            let addresses = &addresses[usize::from(v6)];
            self.plain(kernel, v6, addresses)?;
            // What rules say depends on an address only by what it is in.
            let mut alike: BTreeMap<[Option<usize>; MOST], Vec<Sample>> = BTreeMap::new();
            for sample in addresses {
                alike
                    .entry(sample.meant.places())
                    .or_default()
                    .push(*sample);
            }
            let alike: Vec<Vec<Sample>> = alike.into_values().collect();
            let combinations = self.budget.conditions() / packets.len().max(1);
            let combinations = alike.len().min(combinations.max(1));
            for (number, packet) in packets.iter().enumerate() {
                // Another one of each, and where there are many, other ones.
                let chosen: Vec<Sample> = alike
                    .iter()
                    .cycle()
                    .skip(number * combinations % alike.len().max(1))
                    .take(combinations)
                    .map(|these| these[number % these.len()])
                    .collect();
                self.packets(kernel, packet, v6, &chosen)?;
            }
        }
        Ok(())
    }

    fn plain(&self, kernel: &mut Kernel<'_>, v6: bool, all: &[Sample]) -> Result<(), String> {
        self.packets(kernel, &Packet::PLAIN, v6, all)
    }

    fn packets(
        &self,
        kernel: &mut Kernel<'_>,
        packet: &Packet,
        v6: bool,
        all: &[Sample],
    ) -> Result<(), String> {
        let Some(mut frame) = Frame::of(self.place, v6, packet) else {
            return Ok(());
        };
        // Link-local ones take no fast path through the verdict plane.
        if let Some(source) = self.reference.source(self.zone, v6) {
            from(&mut frame, source);
        }
        // By what an address is in.
        let mut decided: Vec<Option<Verdict>> = Vec::new();
        let inputs: Vec<Bytes> = all.iter().map(|sample| sample.bytes).collect();
        let said = kernel.batch(&frame, self.place.port, v6, Field::Destination, &inputs)?;
        for (Sample { bytes, meant }, said) in all.iter().zip(said) {
            let verdict = self.verdict(&mut decided, meant, v6, packet);
            let expected = Expected::In(self.zone, verdict);
            kernel.compare(self.place.port, &expected, &said, || {
                self.name(address(bytes, v6), meant, packet)
            })?;
            if let [known] = meant.all() {
                kernel.class(said.class, *known, bytes, v6)?;
            }
        }
        Ok(())
    }

    fn verdict(
        &self,
        decided: &mut Vec<Option<Verdict>>,
        meant: &Meant,
        v6: bool,
        packet: &Packet,
    ) -> Verdict {
        let [known] = meant.all() else {
            return self.reference.verdict(self.zone, meant, v6, packet);
        };
        if decided.len() <= known.places {
            decided.resize(known.places + 1, None);
        }
        *decided[known.places]
            .get_or_insert_with(|| self.reference.verdict(self.zone, meant, v6, packet))
    }

    fn name(&self, to: IpAddr, meant: &Meant, packet: &Packet) -> String {
        let mut text = format!(
            "a packet of `{}` to {to}{}",
            self.claim.policy.zones[self.zone].name,
            in_words(meant),
        );
        match (packet.proto, packet.port) {
            (Some(proto @ (6 | 17)), Some(port)) => {
                text += &format!(" (protocol {proto}, port {port})");
            }
            (Some(proto), Some(_)) => text += &format!(" (protocol {proto})"),
            (Some(proto), None) => text += &format!(" (protocol {proto}, a later fragment)"),
            (None, _) => text += " (a fragment that hides its protocol)",
        }
        text
    }
}

/// For each rule with conditions, packets that meet them, packets that are next to
/// that, and fragments that hide it.
fn conditions(policy: &Policy, zone: usize) -> Vec<Packet> {
    let mut packets = Vec::new();
    let conditional = policy.rules.iter().filter(|rule| {
        rule.from.contains(&zone) && (rule.proto.is_some() || !rule.ports.is_empty())
    });
    for rule in conditional {
        for proto in protocols(rule) {
            let mut add = |port| {
                packets.push(Packet::new(Some(proto), port));
            };
            add(Some(9));
            add(None);
            for ports in &rule.ports {
                let (first, last) = (*ports.start(), *ports.end());
                for port in [first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                    add(Some(port));
                }
            }
        }
        packets.push(Packet::new(None, None));
    }
    packets.sort_unstable();
    packets.dedup();
    // What decides before any rule says nothing about rules.
    packets.retain(|packet| packet.proto.is_none_or(|proto| !is_special_proto(proto)));
    sample::every(&packets, CONDITIONS).copied().collect()
}

/// The protocols that a rule asks about, and one that it does not.
fn protocols(rule: &Rule) -> Vec<u8> {
    let mut protocols = match rule.proto {
        Some(Proto::Tcp) => vec![6],
        Some(Proto::Udp) => vec![17],
        Some(Proto::Icmp) => vec![1, 58],
        Some(Proto::Number(number)) => vec![number],
        None => vec![6, 17],
    };
    protocols.push(if protocols.contains(&6) { 132 } else { 6 });
    protocols
}

/// Protocols that carry packets (step 5 of the datapath), extension headers, and
/// IGMP.
fn is_special_proto(proto: u8) -> bool {
    matches!(
        proto,
        4 | 41 | 47 | 55 | 94 | 97 | 98 | 108 | 115 | 137 | 142..=145
    ) || matches!(proto, 0 | 2 | 43 | 44 | 51 | 60 | 135 | 139 | 140)
}
