//! The program in the kernel, to be asked and compared with the reference.

use std::{collections::HashMap, net::IpAddr};

use kordon_ebpf::{
    layout::{Action, ProbeOutput, Reason},
    verdict::NO_SLOT,
};

use super::{
    claim::Claim,
    frame::Frame,
    naive::{Belonging, By, Verdict},
    sample::{Bytes, address},
};
use crate::{compile::directory::Identity, datapath::probe::Prober};

/// Which field of a frame a batch writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Source,
    Destination,
}

/// What must become of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It is in a zone.
    In(usize, Verdict),
    /// It is in no zone of this interface, and this becomes of it.
    Outside(Reason, Action),
}

/// See the module.
pub(super) struct Kernel<'a> {
    claim: &'a Claim<'a>,
    prober: &'a mut Prober,
    owners: HashMap<u32, Option<Identity>>,
    /// By class: what it was seen to mean, and where.
    classes: Vec<Option<(Belonging, IpAddr)>>,
    /// Frames that were judged.
    pub(super) asked: usize,
}

impl<'a> Kernel<'a> {
    pub(super) fn new(claim: &'a Claim<'a>, prober: &'a mut Prober) -> Self {
        Self {
            claim,
            prober,
            owners: HashMap::new(),
            classes: Vec::new(),
            asked: 0,
        }
    }

    /// Judges one frame; `what` names it.
    pub(super) fn one(
        &mut self,
        frame: &[u8],
        port: u32,
        expected: &Expected,
        what: impl FnOnce() -> String,
    ) -> Result<(), String> {
        let said = self.prober.run(frame, port).map_err(|e| e.to_string())?;
        self.asked += 1;
        self.compare(port, expected, &said, what)
    }

    /// Judges a frame with each of the addresses.
    pub(super) fn batch(
        &mut self,
        frame: &Frame,
        port: u32,
        v6: bool,
        field: Field,
        addresses: &[Bytes],
    ) -> Result<Vec<ProbeOutput>, String> {
        let at = match field {
            Field::Source => frame.source,
            Field::Destination => frame.destination,
        };
        self.write(&frame.bytes, port, v6, at, addresses)
    }

    /// Judges a frame with other bytes at an offset: the first four of each input,
    /// or all sixteen.
    pub(super) fn write(
        &mut self,
        frame: &[u8],
        port: u32,
        all: bool,
        at: u32,
        inputs: &[Bytes],
    ) -> Result<Vec<ProbeOutput>, String> {
        self.asked += inputs.len();
        self.prober
            .batch(frame, port, if all { 6 } else { 4 }, at, inputs)
            .map_err(|e| e.to_string())
    }

    /// Addresses of one class must be alike in all that a rule can ask.
    pub(super) fn class(
        &mut self,
        class: u32,
        known: Belonging,
        at: &Bytes,
        v6: bool,
    ) -> Result<(), String> {
        let class = class as usize;
        if class >= self.classes.len() {
            // Classes are numbered from 0; more than this no table has.
            if class >= 1 << 20 {
                return Err(format!("the table has no class for {}", address(at, v6)));
            }
            self.classes.resize(class + 1, None);
        }
        match &self.classes[class] {
            None => self.classes[class] = Some((known, address(at, v6))),
            Some((before, _)) if *before == known => {}
            Some((before, first)) => {
                let by =
                    |known: &Belonging| match known.origins {
                        None => "nobody".to_owned(),
                        Some(id) => self.claim.db.origins.get(id as usize).map_or_else(
                            String::new,
                            |asns| {
                                let names: Vec<String> =
                                    asns.iter().map(|asn| format!("AS{asn}")).collect();
                                names.join(" ")
                            },
                        ),
                    };
                return Err(format!(
                    "the table takes {} (announced by {}) for one with {first} (announced by {}), \
                     which is in other sets or of another origin",
                    address(at, v6),
                    by(&known),
                    by(before),
                ));
            }
        }
        Ok(())
    }

    /// Whether the kernel says what is expected.
    pub(super) fn compare(
        &mut self,
        port: u32,
        expected: &Expected,
        said: &ProbeOutput,
        what: impl FnOnce() -> String,
    ) -> Result<(), String> {
        if self.agrees(port, expected, said) {
            return Ok(());
        }
        Err(format!(
            "{}: the policy says {}, the kernel {}",
            what(),
            self.describe(port, expected),
            self.describe_said(said),
        ))
    }

    fn agrees(&mut self, port: u32, expected: &Expected, said: &ProbeOutput) -> bool {
        let policy = self.claim.policy;
        match expected {
            Expected::Outside(_, Action::Pass) => {
                said.slot == NO_SLOT && said.action == Action::Pass as u8 && said.noted == 0
            }
            Expected::Outside(reason, action) => {
                let Some(spec) = self.claim.environment.ports.get(port as usize) else {
                    return false;
                };
                let wanted = Identity::Port(spec.logical.clone(), *reason, *action);
                said.action == *action as u8 && self.owner(said.slot) == Some(&wanted)
            }
            Expected::In(zone, verdict) => {
                let name = &policy.zones[*zone].name;
                let slot_is_right = match (self.owner(said.slot), verdict.by) {
                    (Some(Identity::Rule(zone, rule, action)), By::Rule(index)) => {
                        zone == name
                            && rule == &policy.rules[index].name
                            && *action == verdict.action
                    }
                    (Some(Identity::Zone(zone, reason, action)), By::Reason(wanted)) => {
                        zone == name && *reason == wanted && *action == verdict.action
                    }
                    _ => false,
                };
                let noted = verdict.noted.map_or(0, |reason| {
                    1 << (reason as u16 - u16::from(Reason::FIRST_UNPARSABLE))
                });
                slot_is_right
                    && said.action == verdict.action as u8
                    && said.judged == verdict.judged as u8
                    && said.noted == noted
            }
        }
    }

    fn owner(&mut self, slot: u32) -> Option<&Identity> {
        let directory = self.claim.directory;
        self.owners
            .entry(slot)
            .or_insert_with(|| directory.identity(slot))
            .as_ref()
    }

    fn describe(&self, port: u32, expected: &Expected) -> String {
        let policy = self.claim.policy;
        match expected {
            Expected::Outside(reason, action) => {
                let spec = self.claim.environment.ports.get(port as usize);
                let name = spec.map_or("", |spec| spec.logical.as_str());
                format!(
                    "{} ({}) on `{name}`, which is in no zone",
                    action.as_str(),
                    reason.as_str()
                )
            }
            Expected::In(zone, verdict) => {
                let by = match verdict.by {
                    By::Rule(index) => format!("rule `{}`", policy.rules[index].name),
                    By::Reason(reason) => reason.as_str().to_owned(),
                };
                let mut text = format!(
                    "{} by {by} in zone `{}`",
                    verdict.action.as_str(),
                    policy.zones[*zone].name
                );
                if let Some(reason) = verdict.noted {
                    text += &format!(", {} noted", reason.as_str());
                }
                text
            }
        }
    }

    fn describe_said(&mut self, said: &ProbeOutput) -> String {
        let action = Action::from_bits(u32::from(said.action)).as_str();
        if said.slot == NO_SLOT {
            return format!("{action}, in no zone");
        }
        let mut text = match self.owner(said.slot) {
            Some(Identity::Rule(zone, rule, _)) => {
                format!("{action} by rule `{rule}` in zone `{zone}`")
            }
            Some(Identity::Zone(zone, reason, _)) => {
                format!("{action} by {} in zone `{zone}`", reason.as_str())
            }
            Some(other) => format!("{action}, counted as {other:?}"),
            None => format!("{action}, counted for nobody"),
        };
        for reason in &Reason::ALL[usize::from(Reason::FIRST_UNPARSABLE)..] {
            if said.noted >> (*reason as u8 - Reason::FIRST_UNPARSABLE) & 1 != 0 {
                text += &format!(", {} noted", reason.as_str());
            }
        }
        text
    }
}
