//! The cases: who judges which packet, with which destinations.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use kordon_ebpf::layout::{Action, PROBE_BATCH, ProbeControl};

use super::Wanted;
use super::internet::{Input, Internet};
use super::measured::Measured;
use super::processors::bind;
use super::subject::{Subject, Subjects, Work};
use crate::lab::frame::{Ethernet, udp};

/// The zone's VLAN.
pub(super) const CAMERAS: u16 = 20;
/// The outer VID of frames with two tags (IEEE 802.1ad).
pub(super) const PROVIDER: u16 = 100;
/// A VLAN of no zone.
pub(super) const OFFICE: u16 = 30;

/// Batches that are measured of each case in each round; one more goes before them
/// and is not counted: it brings the program and its tables back into the caches.
const BATCHES: usize = 8;

const XDP_DROP: u32 = 1;
pub(super) const XDP_PASS: u32 = 2;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn number(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// Where the destination is in a frame with one tag.
    pub(super) fn destination(self) -> u32 {
        match self {
            Self::V4 => 18 + 16,
            Self::V6 => 18 + 24,
        }
    }

    pub(super) fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// An address as the program writes it.
pub(super) fn octets(address: IpAddr) -> Input {
    match address {
        IpAddr::V4(address) => {
            let mut input = [0; 16];
            input[..4].copy_from_slice(&address.octets());
            input
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// A camera's datagram, with one tag or none; the destination is to be written.
pub(super) fn frame(family: Family, vid: Option<u16>) -> Vec<u8> {
    let (source, destination): (IpAddr, IpAddr) = match family {
        Family::V4 => ([10, 20, 0, 5].into(), [192, 0, 2, 1].into()),
        Family::V6 => (
            [0xfd00, 0x20, 0, 0, 0, 0, 0, 5].into(),
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
        ),
    };
    let packet = udp(source, destination, (40_000, 443), &[0; 64]);
    let link = Ethernet::new([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    match vid {
        Some(vid) => link.tag(0x8100, vid).packet(&packet),
        None => link.packet(&packet),
    }
}

/// What the program says where this is what becomes of a packet.
pub(super) fn verdict(action: Action) -> u32 {
    if action == Action::Drop {
        XDP_DROP
    } else {
        XDP_PASS
    }
}

/// Bytes of a second tag.
pub(super) const SECOND_TAG: u32 = 4;

/// The frame with an outer tag more.
pub(super) fn stacked(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x88, 0xa8, 0, PROVIDER as u8]);
    frame
}

pub(super) struct Case {
    pub(super) name: String,
    subject: Subject,
    frame: Vec<u8>,
    /// Bytes of tags before the one of the zone's VLAN.
    before: u32,
    family: Family,
    inputs: Vec<Input>,
    verdict: u32,
    /// Next batch of `inputs`.
    next: usize,
    pub(super) means: Vec<f64>,
}

impl Case {
    fn new(name: impl Into<String>, subject: Subject, family: Family, inputs: Vec<Input>) -> Self {
        Self {
            name: name.into(),
            subject,
            frame: frame(family, Some(CAMERAS)),
            before: 0,
            family,
            inputs,
            verdict: XDP_PASS,
            next: 0,
            means: Vec::new(),
        }
    }

    /// One batch; nanoseconds per packet.
    fn batch(&mut self, subjects: &mut Subjects) -> Result<f64> {
        let batches = self.inputs.len() / PROBE_BATCH;
        let first = self.next % batches.max(1) * PROBE_BATCH;
        self.next += 1;
        let work = Work {
            frame: &self.frame,
            control: ProbeControl {
                port: 0,
                family: self.family.number(),
                destination: self.family.destination() + self.before,
                next: 0,
            },
            inputs: &self.inputs[first..][..PROBE_BATCH],
            verdict: self.verdict,
        };
        let duration = subjects
            .run(self.subject, work)
            .with_context(|| format!("case `{}`", self.name))?;
        Ok(duration.as_nanos() as f64)
    }

    pub(super) fn round(&mut self, subjects: &mut Subjects, wanted: Wanted<'_>) -> Result<()> {
        self.batch(subjects)?;
        let batches = if wanted.quick { 1 } else { BATCHES };
        let mut sum = 0.0;
        for _ in 0..batches {
            sum += self.batch(subjects)?;
        }
        self.means.push(sum / batches as f64);
        Ok(())
    }
}

fn cases(internet: &Internet) -> Vec<Case> {
    let random = |family, action| internet.pool(family, action).to_vec();
    let mut cases = vec![
        Case::new(
            "empty",
            Subject::Empty,
            Family::V4,
            random(Family::V4, Action::Pass),
        ),
        Case::new(
            "empty/ipv6",
            Subject::Empty,
            Family::V6,
            random(Family::V6, Action::Pass),
        ),
        Case {
            frame: frame(Family::V4, Some(OFFICE)),
            ..Case::new(
                "no-zone",
                Subject::Kordon,
                Family::V4,
                random(Family::V4, Action::Drop),
            )
        },
    ];
    for (subject, before) in [
        (Subject::Kordon, ""),
        (Subject::ClassPlane, "class/"),
        (Subject::Lpm, "lpm/"),
        (Subject::Dir, "dir-24-8/"),
    ] {
        cases.extend(of_subject(internet, subject, before));
    }
    cases.extend(of_subject(internet, Subject::Recorded, "ledger/"));
    cases.extend(of_flows(internet));
    for mut case in of_subject(internet, Subject::Kordon, "stacked/") {
        case.frame = stacked(case.frame);
        case.before = SECOND_TAG;
        cases.push(case);
    }
    cases
}

/// Each family and verdict, hot and random, as far as the policy has such destinations.
pub(super) fn of_subject(internet: &Internet, subject: Subject, before: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        if subject == Subject::Dir && family == Family::V6 {
            continue;
        }
        for action in [Action::Pass, Action::Drop] {
            let pool = internet.pool(family, action);
            let Some(first) = pool.first() else {
                continue;
            };
            let name = format!("{before}{}/{}", family.word(), action.as_str());
            let hot = vec![*first; PROBE_BATCH];
            for (kind, inputs) in [("hot", hot), ("random", pool.to_vec())] {
                cases.push(Case {
                    verdict: verdict(action),
                    ..Case::new(format!("{name}/{kind}"), subject, family, inputs)
                });
            }
        }
    }
    cases
}

/// Flows that take turns, with the ledger and without.
const FLOWS: [usize; 3] = [1024, 8192, 32_768];

/// So many flows of each family and verdict, and one that is new with each packet.
fn of_flows(internet: &Internet) -> Vec<Case> {
    let mut cases = Vec::new();
    for (subject, before) in [
        (Subject::Recorded, "ledger/"),
        (Subject::Kordon, ""),
        (Subject::Lru, "lru/"),
        (Subject::LruPerCpu, "lru-percpu/"),
    ] {
        let judges = ![Subject::Lru, Subject::LruPerCpu].contains(&subject);
        let all = pairs().filter(|(_, action)| judges || *action == Action::Pass);
        for (family, action) in all {
            let pool = internet.pool(family, action);
            let name = format!("{}/{}", family.word(), action.as_str());
            let mut of = |what: &str, inputs: Vec<Input>| {
                cases.push(Case {
                    verdict: verdict(action),
                    ..Case::new(
                        format!("{before}flows/{what}/{name}"),
                        subject,
                        family,
                        inputs,
                    )
                });
            };
            for count in FLOWS {
                if pool.len() >= count {
                    let flows = pool[..count].iter().copied().cycle();
                    of(
                        &count.to_string(),
                        flows.take(count.max(PROBE_BATCH)).collect(),
                    );
                }
            }
            of("churn", pool.to_vec());
        }
    }
    cases
}

fn pairs() -> impl Iterator<Item = (Family, Action)> {
    let actions = [Action::Pass, Action::Drop];
    Family::ALL
        .into_iter()
        .flat_map(move |family| actions.map(move |action| (family, action)))
}

/// Measures all cases that are wanted.
pub(super) fn measure(
    internet: &Internet,
    subjects: &mut Subjects,
    wanted: Wanted<'_>,
) -> Result<Vec<Measured>> {
    bind(0, wanted.processors.last)?;
    let mut cases = cases(internet);
    cases.retain(|case| wanted.case(&case.name));
    let mut order: Vec<usize> = (0..cases.len()).collect();
    let mut rng = Rng::with_seed(1);
    for _ in 0..wanted.rounds {
        // None always follows the same other.
        rng.shuffle(&mut order);
        for case in &order {
            cases[*case].round(subjects, wanted)?;
        }
    }
    Ok(cases
        .into_iter()
        .map(|case| Measured::of("packet", case.name, "ns", case.means))
        .collect())
}
