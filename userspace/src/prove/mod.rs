//! The proof that comes before a generation is live: the program judges packets
//! over the candidate maps, in the kernel, and each verdict is compared with what
//! [`naive`] makes of the policy's own words.
//!
//! What is asked: for every zone and rule, addresses that its targets name (each
//! prefix, ASN and country, up to [`MEMBERS`] for each target); for every rule with
//! protocol or ports, a packet that meets the condition and one that just does
//! not; and first and last addresses of the database's ranges, evenly, up to a
//! budget. Packets are otherwise plain: what is hidden or broken is decided
//! before any rule and does not depend on the policy's destinations.

mod naive;
mod sample;

use kordon_ebpf::layout::Reason;

pub(crate) use self::naive::{is_multicast, is_private, is_special};

use self::{
    naive::{Packet, Reference},
    sample::Samples,
};
use crate::{
    asn::model::AsnDb,
    compile::{
        directory::{Directory, Identity},
        generation::Environment,
    },
    datapath::probe::Prober,
    policy::model::{Policy, Proto, Rule},
};

/// Addresses that are tried for one target.
pub const MEMBERS: usize = 1024;

/// How much of the database is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// The table is the one that is live, and was proven: some ranges.
    Rules,
    /// The table is new: many ranges.
    Table,
}

impl Budget {
    /// Ranges of each family that are tried; two addresses for each.
    const fn ranges(self) -> usize {
        match self {
            Self::Rules => 1024,
            Self::Table => 64 << 10,
        }
    }
}

/// What is proven.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The database.
    pub db: &'a AsnDb,
    /// What else the generation was compiled from.
    pub environment: &'a Environment,
    /// Whose the counters are.
    pub directory: &'a Directory,
}

/// Runs the proof over what is in the prober.
///
/// # Errors
/// Names the first packet whose verdict in the kernel is not that of the policy.
pub fn prove(claim: &Claim<'_>, budget: Budget, prober: &mut Prober) -> Result<(), String> {
    let reference = Reference::new(claim);
    let samples = Samples::new(claim, budget.ranges());
    for zone in 0..claim.policy.zones.len() {
        // A zone on interfaces that this router does not have.
        let Some(place) = reference.place(zone) else {
            continue;
        };
        for (number, packet) in packets(claim.policy, zone).into_iter().enumerate() {
            for v6 in [false, true] {
                let mut addresses = samples.of_zone(zone, v6).to_vec();
                // One kind of packet over the ranges is enough.
                if number == 0 {
                    addresses.extend_from_slice(samples.ranges(v6));
                }
                let (frame, at) = packet.frame(&place, v6);
                let said = prober
                    .batch(&frame, place.port, if v6 { 6 } else { 4 }, at, &addresses)
                    .map_err(|e| e.to_string())?;
                for (address, said) in addresses.iter().zip(said) {
                    let address = sample::address(address, v6);
                    let (action, rule) = reference.verdict(zone, address, &packet);
                    let name = &claim.policy.zones[zone].name;
                    let expected = match rule {
                        Some(rule) => Identity::Rule(
                            name.clone(),
                            claim.policy.rules[rule].name.clone(),
                            action,
                        ),
                        None => Identity::Zone(name.clone(), Reason::Default, action),
                    };
                    let found = claim.directory.identity(said.slot);
                    if found.as_ref() != Some(&expected) || said.action != action as u8 {
                        return Err(format!(
                            "a packet to {address} ({packet}) is {expected:?} by the policy, but {found:?} in the kernel"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// A plain packet, and for each rule with conditions one that meets them and one
/// that is next to them.
fn packets(policy: &Policy, zone: usize) -> Vec<Packet> {
    let mut packets = vec![Packet { proto: 17, port: 9 }];
    let conditional = policy.rules.iter().filter(|rule| {
        rule.from.contains(&zone) && (rule.proto.is_some() || !rule.ports.is_empty())
    });
    for rule in conditional {
        let proto = proto_of(rule);
        match rule.ports.first() {
            Some(ports) => {
                let (first, last) = (*ports.start(), *ports.end());
                for port in [first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                    packets.push(Packet { proto, port });
                }
            }
            None => packets.push(Packet { proto, port: 9 }),
        }
    }
    packets.sort_unstable();
    packets.dedup();
    // What decides before any rule says nothing about rules.
    packets.retain(|packet| !naive::is_tunnel(packet.proto));
    packets.truncate(64);
    packets
}

fn proto_of(rule: &Rule) -> u8 {
    match rule.proto {
        Some(Proto::Tcp) => 6,
        Some(Proto::Icmp) => 1,
        Some(Proto::Number(number)) => number,
        Some(Proto::Udp) | None => 17,
    }
}
