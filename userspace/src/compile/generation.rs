//! Rules to verdict words. Classes that are part of the same targets are one *kind*. For each zone
//! and kind the rules are evaluated here, once, as far as they do not depend on protocol and ports.
//! Kinds with the same verdict word in every zone are one *group*.
//!
//! For example, two rules that drop the sets `hostile` and `ads` make four kinds (in none, in one, in
//! the other, in both). For a zone with only the first rule `hostile` + `ads` is like `hostile`, and
//! `ads` like none; if that holds for all zones, the four kinds are two groups.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use kordon_ebpf::layout::{
    Action, Generation, LAYOUT_VERSION, MAX_GROUPS, MAX_NAT64, MAX_PORTS, MAX_SOURCES, MAX_STEPS,
    MAX_VERDICTS, MAX_WALK, MAX_ZONE_SOURCES, MAX_ZONES, Nat64, Prefix, Reason, TUNNEL_INSPECT,
    ZONE_PPPOE, ZONE_RECORD_DROPS, ZONE_RECORD_PASS, ZONE_SOURCES_LISTED, ZONE_SOURCES_UNCHECKED,
    Zone, setting_shift,
};

use super::{
    directory::{Directory, DirectoryError},
    partition::{Partition, PartitionError, Question},
};
use crate::{
    asn::model::AsnDb,
    policy::model::{self, Policy, Record, Sources, Target, Tunnels},
};

mod counted;
mod grouping;
mod vlans;
mod walks;

use counted::class_words;
pub use grouping::{Grouping, NewClasses};
use vlans::set_vlans;
use walks::{Evaluated, Walks, evaluate};

/// One policed interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSpec {
    /// Name that policies use.
    pub logical: String,
    /// `unknown_vlans = "drop"`.
    pub drop_unknown: bool,
}

/// What a generation depends on beside policy and database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The router's own addresses.
    pub router: Vec<IpAddr>,
    /// For zones with `sources = "connected"`: the router's prefixes there.
    /// A zone that is not here has its sources unchecked.
    pub connected: BTreeMap<String, Vec<IpNet>>,
    /// Interfaces; the index is the port number.
    pub ports: Vec<PortSpec>,
}

/// A policy that does not fit into a generation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerationError {
    /// Something is more than the maps hold.
    #[error("the policy needs {needed} {what}, at most {limit} fit")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        needed: usize,
        /// How many fit.
        limit: usize,
    },
    /// A destination has too many rules with protocol or ports.
    #[error(
        "in zone `{zone}`, {needed} rules and port ranges apply to one destination before one decides, at most {MAX_WALK} can"
    )]
    WalkTooLong {
        /// The zone.
        zone: String,
        /// How many.
        needed: usize,
    },
    /// VLAN pairs collide too often.
    #[error("VLAN pair {0}.{1} has no free slot; name fewer pairs")]
    Pairs(u16, u16),
    /// No counters are left.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The partition does not belong to the policy.
    #[error(transparent)]
    Partition(#[from] PartitionError),
}

fn limit(what: &'static str, needed: usize, limit: usize) -> Result<(), GenerationError> {
    if needed > limit {
        return Err(GenerationError::TooMany {
            what,
            needed,
            limit,
        });
    }
    Ok(())
}

/// Everything that follows from a policy. Classes stand beside the rest, because
/// how many fit depends on the tier.
#[derive(Clone)]
pub struct Rules {
    /// All but the class words.
    pub fixed: Box<Generation<0>>,
    /// By class.
    pub class_words: Vec<u32>,
    /// Groups that the policy tells apart.
    pub groups: usize,
    /// How classes that come later get their words.
    pub grouping: Arc<Grouping>,
}

/// Compiles a policy over a partition.
///
/// # Errors
/// When it does not fit.
pub fn compile(
    policy: &Policy,
    db: &AsnDb,
    environment: &Environment,
    partition: &Partition,
    directory: &mut Directory,
) -> Result<Rules, GenerationError> {
    limit("zones", policy.zones.len(), MAX_ZONES)?;
    limit("interfaces", environment.ports.len(), MAX_PORTS)?;
    limit("NAT64 prefixes", policy.nat64.len(), MAX_NAT64)?;
    let mut fixed: Box<Generation<0>> = bytemuck::zeroed_box();
    fixed.version = LAYOUT_VERSION;
    let kinds = Kinds::new(policy, db, partition)?;
    for (slot, prefix) in fixed.nat64.iter_mut().zip(&policy.nat64) {
        *slot = Nat64 {
            prefix: prefix_of(IpNet::V6(*prefix)),
            length: u32::from(prefix.prefix_len()),
            reserved: 0,
        };
    }
    fixed.nat64_len = policy.nat64.len() as u32;

    let mut slots = Vec::new();
    for zone in &policy.zones {
        slots.push(directory.zone(&zone.name)?);
    }
    set_vlans(policy, environment, directory, &mut fixed)?;
    set_stopped(policy, environment, directory, &mut fixed);

    let mut walks = Walks::default();
    let mut evaluated = Vec::new();
    for (id, _) in policy.zones.iter().enumerate() {
        let of_zone = kinds.samples.iter();
        let of_zone = of_zone
            .map(|sample| evaluate(policy, id, slots[id], sample, directory, &mut walks))
            .collect::<Result<Vec<_>, _>>()?;
        evaluated.push(of_zone);
    }
    let columns = Columns::new(&evaluated, kinds.samples.len())?;
    let stride = columns.ids.len();
    for (words, group) in &columns.ids {
        for (id, word) in words.iter().enumerate() {
            fixed.verdicts[id * stride + *group as usize] = *word;
        }
    }
    for (id, zone) in policy.zones.iter().enumerate() {
        fixed.zones[id] = Zone {
            flags: flags(zone),
            settings: settings(zone),
            verdict_base: (id * stride) as u32,
            slot_base: slots[id],
            ..Zone::default()
        };
    }
    let mut hits = vec![false; columns.ids.len()];
    for of_zone in &evaluated {
        for (verdict, group) in of_zone.iter().zip(&columns.of_kind) {
            hits[*group as usize] |= verdict.strictest != Action::Pass;
        }
    }
    limit("steps of rules with ports", walks.steps.len(), MAX_STEPS)?;
    fixed.steps[..walks.steps.len()].copy_from_slice(&walks.steps);
    set_sources(policy, environment, &mut fixed)?;
    let groups: Vec<u32> = (kinds.of_class.iter())
        .map(|kind| columns.of_kind[*kind as usize])
        .collect();
    Ok(Rules {
        fixed,
        class_words: class_words(partition, &groups, &hits, directory),
        groups: columns.ids.len(),
        grouping: Arc::new(Grouping {
            questions: kinds.questions,
            ids: (kinds.ids.into_iter())
                .map(|(signature, kind)| (signature, columns.of_kind[kind as usize]))
                .collect(),
            hits,
        }),
    })
}

/// Counters of what guards drop, by zone and port; where there are too many of both, those that come
/// later have none beside their interface's.
fn set_stopped(
    policy: &Policy,
    environment: &Environment,
    directory: &mut Directory,
    fixed: &mut Generation<0>,
) {
    fixed.ports_len = environment.ports.len() as u32;
    let zones = policy.zones.iter();
    let pairs = zones.flat_map(|zone| environment.ports.iter().map(move |port| (zone, port)));
    for (place, (zone, port)) in fixed.stopped.iter_mut().zip(pairs) {
        let is_on = zone.interfaces.is_empty() || zone.interfaces.contains(&port.logical);
        if is_on {
            *place = directory.stopped(&port.logical, &zone.name).unwrap_or(0);
        }
    }
}

/// Targets that a class is part of, as far as some rule asks.
struct Sample {
    targets: Vec<(Target, bool)>,
    is_router: bool,
}

impl Sample {
    fn is_in(&self, target: Target) -> bool {
        let found = self.targets.binary_search_by_key(&target, |(t, _)| *t);
        found.is_ok_and(|index| self.targets[index].1)
    }
}

/// Classes by the targets that they are part of.
struct Kinds {
    of_class: Vec<u32>,
    samples: Vec<Sample>,
    questions: Vec<Question>,
    ids: HashMap<Box<[u64]>, u32>,
}

impl Kinds {
    fn new(policy: &Policy, db: &AsnDb, partition: &Partition) -> Result<Self, GenerationError> {
        let mut targets: Vec<Target> = policy
            .rules
            .iter()
            .flat_map(|rule| rule.to.clone())
            .collect();
        targets.push(Target::Router);
        targets.sort_unstable();
        targets.dedup();
        let words = targets.len().div_ceil(64);
        let questions = (targets.iter())
            .map(|target| partition.question(*target, policy, db))
            .collect::<Result<Vec<_>, _>>()?;
        let signatures = partition.signatures(&questions);
        let mut ids: HashMap<Box<[u64]>, u32> = HashMap::new();
        let mut samples = Vec::new();
        let mut of_class = Vec::with_capacity(partition.classes.len());
        let mut last: (&[u64], u32) = (&[], 0);
        for signature in signatures.chunks(words) {
            // Most classes are what the one before them is.
            if last.0 == signature {
                of_class.push(last.1);
                continue;
            }
            let next = ids.len() as u32;
            let id = match ids.get(signature) {
                Some(id) => *id,
                None => {
                    let is_in = |bit: usize| signature[bit / 64] >> (bit % 64) & 1 != 0;
                    let targets: Vec<_> = targets
                        .iter()
                        .enumerate()
                        .map(|(bit, target)| (*target, is_in(bit)))
                        .collect();
                    let is_router = targets.contains(&(Target::Router, true));
                    samples.push(Sample { targets, is_router });
                    ids.insert(signature.into(), next);
                    next
                }
            };
            last = (signature, id);
            of_class.push(id);
        }
        Ok(Self {
            of_class,
            samples,
            questions,
            ids,
        })
    }
}

/// Groups: kinds of which each zone says the same.
struct Columns {
    /// By kind.
    of_kind: Vec<u32>,
    /// Group by the verdict words of all zones.
    ids: HashMap<Box<[u32]>, u32>,
}

impl Columns {
    fn new(evaluated: &[Vec<Evaluated>], kinds: usize) -> Result<Self, GenerationError> {
        let mut ids = HashMap::new();
        let mut of_kind = Vec::with_capacity(kinds);
        for kind in 0..kinds {
            let words: Box<[u32]> = (evaluated.iter().map(|zone| zone[kind].word)).collect();
            let next = ids.len() as u32;
            of_kind.push(*ids.entry(words).or_insert(next));
        }
        let zones = evaluated.len();
        limit("groups of destinations", ids.len(), MAX_GROUPS)?;
        limit("zones times groups", zones * ids.len(), MAX_VERDICTS)?;
        Ok(Self { of_kind, ids })
    }
}

fn flags(zone: &model::Zone) -> u32 {
    let recorded = match zone.record {
        Record::Off => 0,
        Record::Drops => ZONE_RECORD_DROPS,
        // All is in the kernel's lines; what is kept of it differs.
        Record::Summary | Record::All => ZONE_RECORD_DROPS | ZONE_RECORD_PASS,
    };
    let pppoe = if zone.pppoe { ZONE_PPPOE } else { 0 };
    recorded | pppoe
}

fn settings(zone: &model::Zone) -> u32 {
    let given = &zone.unparsable;
    let bits = |reason: Reason, action: Action| (action as u32) << setting_shift(reason);
    let tunnels = match given.tunnels {
        Tunnels::Action(action) => action as u32,
        Tunnels::Inspect => TUNNEL_INSPECT,
    };
    let depth = bits(Reason::VlanDepth, Action::Drop) | tunnels << setting_shift(Reason::Tunnel);
    let all = given.actions().map(|(reason, action)| bits(reason, action));
    all.fold(depth, |all, one| all | one)
}

pub(super) fn prefix_of(net: IpNet) -> Prefix {
    match net {
        IpNet::V4(net) => Prefix {
            hi: 0,
            lo: u64::from(net.network().to_bits()),
            hi_mask: u64::MAX,
            lo_mask: 0xffff_ffff_0000_0000 | u64::from(net.netmask().to_bits()),
        },
        IpNet::V6(net) => {
            let (network, mask) = (net.network().to_bits(), net.netmask().to_bits());
            Prefix {
                hi: (network >> 64) as u64,
                lo: network as u64,
                hi_mask: (mask >> 64) as u64,
                lo_mask: mask as u64,
            }
        }
    }
}

fn set_sources(
    policy: &Policy,
    environment: &Environment,
    fixed: &mut Generation<0>,
) -> Result<(), GenerationError> {
    let mut next = 0;
    for (id, zone) in policy.zones.iter().enumerate() {
        let listed = match &zone.sources {
            Sources::Unset => continue,
            Sources::Prefixes(prefixes) => Some(prefixes),
            Sources::Connected => environment.connected.get(&zone.name),
        };
        let Some(listed) = listed else {
            fixed.zones[id].flags |= ZONE_SOURCES_UNCHECKED;
            continue;
        };
        fixed.zones[id].flags |= ZONE_SOURCES_LISTED;
        for v6 in [false, true] {
            let nets: Vec<_> = listed
                .iter()
                .filter(|net| matches!(net, IpNet::V6(_)) == v6)
                .collect();
            limit(
                "source prefixes of one family in a zone",
                nets.len(),
                MAX_ZONE_SOURCES,
            )?;
            limit("source prefixes", next + nets.len(), MAX_SOURCES)?;
            for (slot, net) in fixed.sources[next..].iter_mut().zip(&nets) {
                *slot = prefix_of(**net);
            }
            let (first, count) = (next as u16, nets.len() as u16);
            next += nets.len();
            let zone = &mut fixed.zones[id];
            if v6 {
                (zone.sources_v6, zone.sources_v6_len) = (first, count);
            } else {
                (zone.sources_v4, zone.sources_v4_len) = (first, count);
            }
        }
    }
    Ok(())
}
