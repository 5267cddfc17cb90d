//! The rules of a zone on one kind, from first to last. Where none of those that apply asks for protocol
//! or ports, that is a verdict word and done; else it is a walk: steps that the program goes through for
//! each packet. Equal walks stand once.

use std::collections::HashMap;

use kordon_ebpf::layout::{
    Action, MAX_WALK, Reason, STEP_DEFAULT, STEP_ICMP, STEP_PORTS, STEP_PROTO, Step,
    VERDICT_ACTION_SHIFT, VERDICT_ROUTER, VERDICT_SPOOFED, VERDICT_STEPS,
};

use super::{GenerationError, Sample};
use crate::{
    compile::directory::Directory,
    policy::model::{Policy, Proto, Rule, Target},
};

#[derive(Default)]
pub(super) struct Walks {
    pub(super) steps: Vec<Step>,
    known: HashMap<Vec<Step4>, u32>,
}

/// A step as something that can be hashed.
type Step4 = (u8, u8, u8, u16, u16, u32);

pub(super) struct Evaluated {
    pub(super) word: u32,
    /// The strictest that any packet can get here.
    pub(super) strictest: Action,
}

/// All rules of a zone on one kind.
pub(super) fn evaluate(
    policy: &Policy,
    zone: usize,
    zone_slots: u32,
    sample: &Sample,
    directory: &mut Directory,
    walks: &mut Walks,
) -> Result<Evaluated, GenerationError> {
    let settings = &policy.zones[zone];
    let mut steps = Vec::new();
    let mut decided = false;
    let mut source: Option<bool> = None;
    for rule in policy.rules.iter().filter(|rule| rule.from.contains(&zone)) {
        if !rule.to.iter().any(|target| sample.is_in(*target)) {
            continue;
        }
        let conditional = rule.proto.is_some() || !rule.ports.is_empty();
        if !conditional && rule.action != Action::Audit && source.is_none() {
            let named = |target: &Target| matches!(target, Target::Set(_)) && sample.is_in(*target);
            source = Some(rule.action == Action::Drop && rule.to.iter().any(named));
        }
        if decided {
            // Only the question about sources is still open.
            continue;
        }
        let slot = directory.rule(&settings.name, &rule.name)? + rule.action as u32;
        push_steps(rule, slot, &mut steps);
        decided = !conditional && rule.action != Action::Audit;
    }
    if !decided {
        steps.push(Step {
            flags: STEP_DEFAULT,
            action: settings.default as u8,
            slot: zone_slots + Reason::Default.fixed_slot(settings.default),
            ..Step::default()
        });
    }
    let strictest = steps.iter().map(|step| step.action).max().unwrap_or(2);
    let conditions = STEP_PROTO | STEP_ICMP | STEP_PORTS;
    let mut word = if steps.iter().all(|step| step.flags & conditions == 0) {
        let last = steps[steps.len() - 1];
        let audit = steps.iter().find(|step| step.action == Action::Audit as u8);
        let shown = match audit {
            Some(audit) if last.action == Action::Pass as u8 => *audit,
            _ => last,
        };
        u32::from(shown.action) << VERDICT_ACTION_SHIFT | shown.slot
    } else {
        if steps.len() > MAX_WALK {
            return Err(GenerationError::WalkTooLong {
                zone: settings.name.clone(),
                needed: steps.len(),
            });
        }
        let key: Vec<Step4> = steps
            .iter()
            .map(|s| (s.flags, s.proto, s.action, s.port_low, s.port_high, s.slot))
            .collect();
        let first = *walks.known.entry(key).or_insert_with(|| {
            let first = walks.steps.len() as u32;
            walks.steps.extend(&steps);
            first
        });
        VERDICT_STEPS | first
    };
    if source == Some(true) {
        word |= VERDICT_SPOOFED;
    }
    if sample.is_router {
        word |= VERDICT_ROUTER;
    }
    Ok(Evaluated {
        word,
        strictest: Action::from_bits(u32::from(strictest)),
    })
}

fn push_steps(rule: &Rule, slot: u32, steps: &mut Vec<Step>) {
    let (flags, proto) = match rule.proto {
        None => (0, 0),
        Some(Proto::Tcp) => (STEP_PROTO, 6),
        Some(Proto::Udp) => (STEP_PROTO, 17),
        Some(Proto::Icmp) => (STEP_ICMP, 0),
        Some(Proto::Number(number)) => (STEP_PROTO, number),
    };
    let step = Step {
        flags,
        proto,
        action: rule.action as u8,
        slot,
        ..Step::default()
    };
    if rule.ports.is_empty() {
        steps.push(step);
    }
    for ports in &rule.ports {
        steps.push(Step {
            flags: flags | STEP_PORTS,
            port_low: *ports.start(),
            port_high: *ports.end(),
            ..step
        });
    }
}
