//! Which zone frames are in: every VID on every interface, the pairs that the
//! policy names and those beside them.

use std::net::IpAddr;

use kordon_ebpf::layout::{Action, Reason};

use super::{
    claim::{Budget, Claim},
    frame::{Frame, MACS, Place, TAG, ip, to, transport},
    kernel::{Expected, Kernel},
    naive::{Meant, Packet, Reference},
    sample::{Bytes, every},
};
use crate::policy::model::VlanMatch;

/// On other interfaces than the first, VIDs that no zone names are rarer by this.
const RARER: usize = 16;

/// Pairs that are tried on the first interface, and on others.
const PAIRS: [usize; 2] = [4096, 256];

/// Where every frame goes: what becomes of it only says which zone it is in.
const TO: [u8; 4] = [192, 0, 2, 77];

/// Tags of a frame that is in a zone, and the interface that it arrives on.
pub(super) fn of_zones(claim: &Claim<'_>, reference: &Reference<'_>) -> Vec<Option<Place>> {
    let zones = &claim.policy.zones;
    let mut places: Vec<Option<Place>> = vec![None; zones.len()];
    for (port, spec) in claim.environment.ports.iter().enumerate() {
        for (zone, settings) in zones.iter().enumerate() {
            if places[zone].is_some() {
                continue;
            }
            // A zone with interfaces and no VLANs has all frames that no other has.
            let all = || (0..4095).map(|vid| if vid == 0 { vec![] } else { vec![vid] });
            let named = settings.vlans.iter().map(tags);
            let tags = if settings.vlans.is_empty() {
                all().find(|tags| reference.zone_of(&spec.logical, tags) == Some(zone))
            } else {
                // Of one tag where there is such a VLAN: the fast path of most frames.
                named
                    .filter(|tags| reference.zone_of(&spec.logical, tags) == Some(zone))
                    .min_by_key(Vec::len)
            };
            places[zone] = tags.map(|tags| Place {
                port: port as u32,
                tags,
            });
        }
    }
    places
}

fn tags(vlan: &VlanMatch) -> Vec<u16> {
    match *vlan {
        VlanMatch::Untagged => vec![],
        VlanMatch::Outer(outer) => vec![outer],
        VlanMatch::Pair(outer, inner) => vec![outer, inner],
    }
}

/// Proves that frames are in the zones that they should be in.
pub(super) fn prove(
    claim: &Claim<'_>,
    budget: Budget,
    reference: &Reference<'_>,
    kernel: &mut Kernel<'_>,
) -> Result<(), String> {
    let target = reference.meant(IpAddr::from(TO));
    let (singles, doubles) = named(claim);
    for (port, spec) in claim.environment.ports.iter().enumerate() {
        let check = Check {
            claim,
            reference,
            target,
            port: port as u32,
            logical: &spec.logical,
        };
        let untagged = Frame::new(&check.place(&[]), &packet());
        let expected = check.expected(&[]);
        kernel.one(&untagged.bytes, check.port, &expected, || check.name(&[]))?;
        let mut vids = singles.clone();
        let stride = budget.stride() * if port == 0 { 1 } else { RARER };
        vids.extend((0..4096).step_by(stride));
        vids.sort_unstable();
        vids.dedup();
        check.singles(kernel, &vids)?;
        let limit = PAIRS[port.min(1)];
        let doubles: Vec<_> = every(&doubles, limit).copied().collect();
        check.doubles(kernel, &doubles)?;
    }
    Ok(())
}

/// VIDs that zones name, pairs likewise and what is beside them.
fn named(claim: &Claim<'_>) -> (Vec<u16>, Vec<(u16, u16)>) {
    let mut singles = vec![0, 1, 4094];
    let mut doubles = Vec::new();
    for vlan in claim.policy.zones.iter().flat_map(|zone| &zone.vlans) {
        match *vlan {
            VlanMatch::Untagged => {}
            VlanMatch::Outer(vid) => {
                singles.extend([vid - 1, vid, vid + 1]);
                // With any inner tag, and behind a priority tag.
                doubles.extend([(vid, 1), (vid, 4094), (0, vid), (vid, 0)]);
            }
            VlanMatch::Pair(outer, inner) => {
                singles.extend([outer, inner]);
                doubles.extend([
                    (outer, inner),
                    (inner, outer),
                    (outer, inner - 1),
                    (outer, inner + 1),
                    (outer - 1, inner),
                    (outer + 1, inner),
                ]);
            }
        }
    }
    singles.sort_unstable();
    singles.dedup();
    doubles.sort_unstable();
    doubles.dedup();
    (singles, doubles)
}

fn packet() -> Vec<u8> {
    to(ip(false, 17, &transport(&Packet::PLAIN)), TO.into())
}

struct Check<'a> {
    claim: &'a Claim<'a>,
    reference: &'a Reference<'a>,
    target: Meant,
    port: u32,
    logical: &'a str,
}

impl Check<'_> {
    fn place(&self, tags: &[u16]) -> Place {
        Place {
            port: self.port,
            tags: tags.to_vec(),
        }
    }

    fn expected(&self, tags: &[u16]) -> Expected {
        // A priority tag does not count.
        let counting: Vec<u16> = tags.iter().copied().filter(|vid| *vid != 0).collect();
        match self.reference.zone_of(self.logical, &counting) {
            Some(zone) => {
                let verdict = self
                    .reference
                    .verdict(zone, &self.target, false, &Packet::PLAIN);
                Expected::In(zone, verdict)
            }
            None if self.claim.environment.ports[self.port as usize].drop_unknown => {
                Expected::Outside(Reason::NoZone, Action::Drop)
            }
            None => Expected::Outside(Reason::NoZone, Action::Pass),
        }
    }

    fn name(&self, tags: &[u16]) -> String {
        let tags: Vec<String> = tags.iter().map(u16::to_string).collect();
        if tags.is_empty() {
            return format!("an untagged frame on `{}`", self.logical);
        }
        format!("a frame with VLAN {} on `{}`", tags.join("."), self.logical)
    }

    fn singles(&self, kernel: &mut Kernel<'_>, vids: &[u16]) -> Result<(), String> {
        let frame = Frame::new(&self.place(&[1]), &packet());
        let inputs: Vec<Bytes> = vids
            .iter()
            .map(|vid| {
                let mut bytes = [0; 16];
                // Priority bits do not matter.
                bytes[..2].copy_from_slice(&(vid | 0x6000).to_be_bytes());
                bytes[2..4].copy_from_slice(&[8, 0]);
                bytes
            })
            .collect();
        let said = kernel.write(&frame.bytes, self.port, false, MACS as u32 + 2, &inputs)?;
        for (vid, said) in vids.iter().zip(said) {
            let expected = self.expected(&[*vid]);
            kernel.compare(self.port, &expected, &said, || self.name(&[*vid]))?;
        }
        Ok(())
    }

    fn doubles(&self, kernel: &mut Kernel<'_>, pairs: &[(u16, u16)]) -> Result<(), String> {
        let frame = Frame::new(&self.place(&[1, 1]), &packet());
        let inputs: Vec<Bytes> = pairs
            .iter()
            .map(|(outer, inner)| {
                let mut bytes = [0; 16];
                // Both tags, and the IP header up to where it says nothing.
                bytes.copy_from_slice(&frame.bytes[MACS + 2..][..16]);
                bytes[..2].copy_from_slice(&outer.to_be_bytes());
                bytes[2..4].copy_from_slice(&TAG.to_be_bytes());
                bytes[4..6].copy_from_slice(&inner.to_be_bytes());
                bytes
            })
            .collect();
        let said = kernel.write(&frame.bytes, self.port, true, MACS as u32 + 2, &inputs)?;
        for ((outer, inner), said) in pairs.iter().zip(said) {
            let expected = self.expected(&[*outer, *inner]);
            kernel.compare(self.port, &expected, &said, || self.name(&[*outer, *inner]))?;
        }
        Ok(())
    }
}
