//! Rules to verdict words: classes that no rule tells apart become groups, and
//! for each zone and group the rules are evaluated here, once, as far as they do
//! not depend on protocol and ports.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use kordon_ebpf::layout::{
    ASN_PAGE, Action, FIXED_SLOTS, GROUP_BITS, Generation, LAYOUT_VERSION, MAX_ASN_PAGES,
    MAX_GROUPS, MAX_NAT64, MAX_ORDINALS, MAX_PORTS, MAX_SOURCES, MAX_STEPS, MAX_VERDICTS,
    MAX_VID_TABLES, MAX_WALK, MAX_ZONE_SOURCES, MAX_ZONES, Nat64, PAIR_PROBES, PAIR_SLOTS, Pair,
    Port, Prefix, Reason, STEP_DEFAULT, STEP_ICMP, STEP_PORTS, STEP_PROTO, Step, TUNNEL_INSPECT,
    VERDICT_ACTION_SHIFT, VERDICT_ROUTER, VERDICT_SPOOFED, VERDICT_STEPS, VID_HAS_PAIRS,
    ZONE_PPPOE, ZONE_SOURCES_LISTED, ZONE_SOURCES_UNCHECKED, Zone, pair_hash, pair_key,
    setting_shift,
};

use super::{
    directory::{Directory, DirectoryError},
    partition::{ClassKey, Partition, PartitionError, Question},
};
use crate::{
    asn::model::AsnDb,
    policy::model::{self, Policy, Proto, Rule, Sources, Target, Tunnels, VlanMatch},
};

mod grouping;

pub use grouping::{Grouping, NewClasses};

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
            flags: if zone.pppoe { ZONE_PPPOE } else { 0 },
            settings: settings(zone),
            verdict_base: (id * stride) as u32,
            slot_base: slots[id],
            asn_overflow: slots[id] + FIXED_SLOTS,
            ..Zone::default()
        };
    }
    let hits: Vec<Vec<Action>> = (evaluated.iter())
        .map(|of_zone| {
            let mut hits = vec![Action::Pass; columns.ids.len()];
            for (verdict, group) in of_zone.iter().zip(&columns.of_kind) {
                hits[*group as usize] = verdict.strictest;
            }
            hits
        })
        .collect();
    limit("steps of rules with ports", walks.steps.len(), MAX_STEPS)?;
    fixed.steps[..walks.steps.len()].copy_from_slice(&walks.steps);
    set_sources(policy, environment, &mut fixed)?;
    let groups: Vec<u32> = (kinds.of_class.iter())
        .map(|kind| columns.of_kind[*kind as usize])
        .collect();
    let class_words = count_asns(policy, partition, &groups, &hits, directory, &mut fixed)?;
    Ok(Rules {
        fixed,
        class_words,
        groups: columns.ids.len(),
        grouping: Arc::new(Grouping {
            questions: kinds.questions,
            ids: (kinds.ids.into_iter())
                .map(|(signature, kind)| (signature, columns.of_kind[kind as usize]))
                .collect(),
            audits: (0..policy.zones.len())
                .map(|zone| may_audit(policy, zone))
                .collect(),
            hits,
        }),
    })
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

/// The ordinal of ASNs without a counter of their own.
const NO_ORDINAL: u32 = MAX_ORDINALS - 1;

fn first_origin(partition: &Partition, key: &ClassKey) -> Option<u32> {
    let origins = partition.origins.get(key.origins?)?;
    origins.first().copied()
}

fn may_audit(policy: &Policy, zone: usize) -> bool {
    let mut rules = policy.rules.iter();
    rules.any(|rule| rule.action == Action::Audit && rule.from.contains(&zone))
}

#[derive(Default)]
struct Walks {
    steps: Vec<Step>,
    known: HashMap<Vec<Step4>, u32>,
}

/// A step as something that can be hashed.
type Step4 = (u8, u8, u8, u16, u16, u32);

struct Evaluated {
    word: u32,
    /// The strictest that any packet can get here.
    strictest: Action,
}

/// All rules of a zone on one group.
fn evaluate(
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

fn settings(zone: &model::Zone) -> u32 {
    let given = &zone.unparsable;
    let bits = |reason: Reason, action: Action| (action as u32) << setting_shift(reason);
    let tunnels = match given.tunnels {
        Tunnels::Action(action) => action as u32,
        Tunnels::Inspect => TUNNEL_INSPECT,
    };
    bits(Reason::VlanDepth, Action::Drop)
        | bits(Reason::Ethertype, given.ethertype)
        | bits(Reason::Truncated, given.truncated)
        | bits(Reason::BadHeader, given.bad_header)
        | bits(Reason::Martian, given.martian)
        | bits(Reason::HeaderChain, given.header_chain)
        | bits(Reason::SourceRoute, given.source_route)
        | bits(Reason::RoutingHeader, given.routing_header)
        | tunnels << setting_shift(Reason::Tunnel)
        | bits(Reason::SpoofedSource, given.spoofed_source)
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

/// VID tables and pairs. Most specific first: interface and pair, interface and
/// outer VID, all of an interface, pair, outer VID.
fn set_vlans(
    policy: &Policy,
    environment: &Environment,
    directory: &mut Directory,
    fixed: &mut Generation<0>,
) -> Result<(), GenerationError> {
    let mut named: Vec<&str> = policy
        .zones
        .iter()
        .flat_map(|zone| zone.interfaces.iter().map(String::as_str))
        .collect();
    named.sort_unstable();
    named.dedup();
    limit("interfaces named in zones", named.len(), MAX_VID_TABLES - 1)?;
    for (index, port) in environment.ports.iter().enumerate() {
        let table = named.binary_search(&port.logical.as_str());
        fixed.ports[index] = Port {
            vid_table: table.map_or(0, |index| index as u16 + 1),
            drop_unknown: u16::from(port.drop_unknown),
            slot_base: directory.port(&port.logical)?,
        };
    }
    for table in 0..=named.len() {
        let on_this = |zone: &&model::Zone| {
            table > 0 && zone.interfaces.iter().any(|name| name == named[table - 1])
        };
        let anywhere = |zone: &&model::Zone| zone.interfaces.is_empty();
        let mut pairs: BTreeMap<(u16, u16), u16> = BTreeMap::new();
        let mut taken = vec![false; 4096];
        let ids = || {
            policy
                .zones
                .iter()
                .enumerate()
                .map(|(id, zone)| (id as u16 + 1, zone))
        };
        // From the least specific on; what comes later overwrites.
        for (word, zone) in ids().filter(|(_, zone)| anywhere(zone)) {
            for vlan in &zone.vlans {
                match *vlan {
                    VlanMatch::Untagged => fixed.vid_tables[table][0] = word,
                    VlanMatch::Outer(vid) => fixed.vid_tables[table][usize::from(vid)] = word,
                    VlanMatch::Pair(outer, inner) => {
                        pairs.insert((outer, inner), word);
                    }
                }
            }
        }
        for (word, _) in ids().filter(|(_, zone)| on_this(zone) && zone.vlans.is_empty()) {
            fixed.vid_tables[table].fill(word);
            pairs.clear();
        }
        for (word, zone) in ids().filter(|(_, zone)| on_this(zone)) {
            for vlan in &zone.vlans {
                let vid = match *vlan {
                    VlanMatch::Untagged => 0,
                    VlanMatch::Outer(vid) => usize::from(vid),
                    VlanMatch::Pair(..) => continue,
                };
                fixed.vid_tables[table][vid] = word;
                taken[vid] = true;
            }
        }
        pairs.retain(|(outer, _), _| !taken[usize::from(*outer)]);
        for (word, zone) in ids().filter(|(_, zone)| on_this(zone)) {
            for vlan in &zone.vlans {
                if let VlanMatch::Pair(outer, inner) = *vlan {
                    pairs.insert((outer, inner), word);
                }
            }
        }
        for ((outer, inner), word) in pairs {
            fixed.vid_tables[table][usize::from(outer)] |= VID_HAS_PAIRS;
            insert_pair(fixed, table as u16, outer, inner, word)?;
        }
    }
    Ok(())
}

fn insert_pair(
    fixed: &mut Generation<0>,
    table: u16,
    outer: u16,
    inner: u16,
    word: u16,
) -> Result<(), GenerationError> {
    let key = pair_key(table, outer, inner);
    let first = pair_hash(key) as usize;
    for probe in 0..PAIR_PROBES {
        let slot = &mut fixed.pairs[(first + probe) % PAIR_SLOTS];
        if slot.zone == 0 {
            *slot = Pair {
                key,
                zone: u32::from(word),
            };
            return Ok(());
        }
    }
    Err(GenerationError::Pairs(outer, inner))
}

/// Counters for every ASN that some packet of a zone may be dropped or audited
/// for, and the class words that lead there.
fn count_asns(
    policy: &Policy,
    partition: &Partition,
    groups: &[u32],
    hits: &[Vec<Action>],
    directory: &mut Directory,
    fixed: &mut Generation<0>,
) -> Result<Vec<u32>, GenerationError> {
    let mut class_words = Vec::with_capacity(partition.classes.len());
    for (class, key) in partition.classes.iter().enumerate() {
        let group = groups[class];
        let is_hit = hits.iter().any(|hit| hit[group as usize] != Action::Pass);
        let ordinal = if is_hit {
            directory.ordinal(first_origin(partition, key))
        } else {
            None
        };
        class_words.push(ordinal.unwrap_or(NO_ORDINAL) << GROUP_BITS | group);
    }
    let mut next = 0usize;
    // A page for ASNs that come while the rules stay.
    let spare = usize::from(policy.zones.len() <= MAX_ASN_PAGES / 64);
    for (id, zone) in policy.zones.iter().enumerate() {
        let mut pages: [Vec<bool>; 2] = Default::default();
        for word in &class_words {
            let ordinal = word >> GROUP_BITS;
            let strictest = hits[id][(word & ((1 << GROUP_BITS) - 1)) as usize];
            if ordinal == NO_ORDINAL || strictest == Action::Pass {
                continue;
            }
            let page = (ordinal / ASN_PAGE) as usize;
            for (list, action) in [Action::Audit, Action::Drop].into_iter().enumerate() {
                if action <= strictest {
                    if pages[list].len() <= page {
                        pages[list].resize(page + 1, false);
                    }
                    pages[list][page] = true;
                }
            }
        }
        let count = pages[0].len().max(pages[1].len()) + spare;
        limit("pages of ASN counters", next + 2 * count, MAX_ASN_PAGES)?;
        fixed.zones[id].asn_pages = next as u32;
        fixed.zones[id].asn_pages_len = count as u32;
        let may_audit = may_audit(policy, id);
        for (list, action) in [Action::Audit, Action::Drop].into_iter().enumerate() {
            if action == Action::Audit && !may_audit {
                continue;
            }
            for (page, _) in pages[list]
                .iter()
                .enumerate()
                .filter(|(_, wanted)| **wanted)
            {
                // Where slots have run out, the zone's overflow counts.
                let slot = directory.page(&zone.name, action, page as u32);
                fixed.asn_pages[next + list * count + page] = slot.unwrap_or(0);
            }
        }
        next += 2 * count;
    }
    Ok(class_words)
}
