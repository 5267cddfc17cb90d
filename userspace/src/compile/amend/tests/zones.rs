//! Zones that share planes, or nearly would: blocks and unblocks of one of them, and routes
//! that come and go. Whatever happened before, each zone's express path, the class plane and
//! a plain reading of the rules say the same of every address that has changed.

use std::collections::{BTreeMap, BTreeSet};

use kordon_ebpf::{
    layout::{
        ASK, Action, FAST_PLANE, GROUP_MASK, VERDICT_ACTION_SHIFT, VERDICT_INDEX, VERDICT_STEPS,
    },
    plane::{leaf_v4, leaf_v6},
};

use super::{super::*, Memory, part, set};
use crate::{
    asn::{AsnDb, model::OriginRange},
    compile::{
        directory::{Directory, Identity},
        generation::{Environment, Rules, compile},
        partition::Partition,
        plane::FlatPlanes,
        table::{FlatTable, Tier},
    },
    policy::{self, Bundle, Context, Overlay, Policy},
};

const ASNS: u32 = 9;
const ROOM: usize = 64;
/// 20.0.0.0/12.
const FIRST_V4: u128 = 20 << 24;
/// 2a00::/28.
const FIRST_V6: u128 = 0x2a00 << 112;

/// A rule, as it is written and as it is read.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    zones: Vec<usize>,
    asns: Vec<u32>,
    action: Action,
    /// For DNS alone: a plain packet is none.
    dns: bool,
}

impl Rule {
    fn name(&self) -> String {
        format!(
            "{:?}-{:?}-{:?}-{}",
            self.zones, self.asns, self.action, self.dns
        )
        .replace(|c: char| !c.is_alphanumeric(), "-")
    }
}

struct World {
    rng: fastrand::Rng,
    /// Default by zone.
    zones: Vec<Action>,
    /// Blocks and unblocks first.
    overlay: Vec<Rule>,
    rules: Vec<Rule>,
    db: AsnDb,
    policy: Policy,
    partition: Partition,
    directory: Directory,
    compiled: Rules,
    memory: Memory,
    editor: Editor,
    /// Classes by first address, IPv4 and IPv6.
    classes: [Vec<(u128, u32)>; 2],
    /// Who announces what from an address on.
    origins: [BTreeMap<u128, Vec<u32>>; 2],
    /// Verdicts that were compared, and those of which a plane says something.
    compared: [usize; 2],
    wholes: usize,
}

fn text(zones: &[Action], rules: &[Rule]) -> String {
    let mut text = String::new();
    for (id, default) in zones.iter().enumerate() {
        text += &format!(
            "[zone.z{id}]\nvlans = [{}]\ndefault = \"{}\"\nsources = [\"10.0.0.0/8\"]\n",
            id + 2,
            default.as_str()
        );
    }
    let sets: BTreeSet<&[u32]> = rules.iter().map(|rule| &*rule.asns).collect();
    for asns in &sets {
        text += &format!("[set.{}]\nasns = {asns:?}\n", set_name(asns));
    }
    for rule in rules {
        let zones: Vec<String> = rule.zones.iter().map(|zone| format!("z{zone}")).collect();
        text += &format!(
            "[[rule]]\nname = \"{}\"\nfrom = {zones:?}\nto = \"{}\"\naction = \"{}\"\n",
            rule.name(),
            set_name(&rule.asns),
            rule.action.as_str(),
        );
        if rule.dns {
            text += "proto = \"udp\"\nports = [53]\n";
        }
    }
    text
}

fn set_name(asns: &[u32]) -> String {
    asns.iter()
        .fold("s".into(), |name, asn| format!("{name}-{asn}"))
}

fn parsed(text: &str, db: &AsnDb) -> Policy {
    let bundle = Bundle::from_text("p.toml", text);
    let (policy, found) = policy::parse(&bundle, &Overlay::default(), &Context::now(Some(db)));
    policy.unwrap_or_else(|| panic!("{text}\n{found:?}"))
}

fn some_asns(rng: &mut fastrand::Rng) -> Vec<u32> {
    let count = rng.usize(1..4);
    let asns: BTreeSet<u32> = (0..count).map(|_| rng.u32(1..=ASNS)).collect();
    asns.into_iter().collect()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let zones: Vec<Action> = (0..rng.usize(2..5))
            .map(|_| [Action::Pass, Action::Pass, Action::Pass, Action::Drop][rng.usize(..4)])
            .collect();
        let all: Vec<usize> = (0..zones.len()).collect();
        // Most rules are of all zones, so that zones are equal, or nearly.
        let rules = (0..rng.usize(1..4)).map(|_| Rule {
            zones: match rng.u8(..5) {
                0 => vec![rng.usize(..zones.len())],
                _ => all.clone(),
            },
            asns: some_asns(&mut rng),
            action: [Action::Drop, Action::Drop, Action::Pass, Action::Audit][rng.usize(..4)],
            dns: rng.u8(..6) == 0,
        });
        let mut rules: Vec<Rule> = rules.collect();
        rules.dedup_by_key(|rule| rule.name());
        let mut db = AsnDb {
            origins: (1..=ASNS).map(|asn| vec![asn]).collect(),
            ..AsnDb::default()
        };
        let mut origins = [BTreeMap::from([(0, vec![])]), BTreeMap::from([(0, vec![])])];
        for at in 0..16 {
            let origin = rng.u32(..ASNS / 2);
            let start = (FIRST_V4 | at << 16) as u32;
            db.v4.push(OriginRange {
                start,
                end: start | 0xffff,
                origins: origin,
            });
            origins[0].insert(start.into(), vec![origin + 1]);
            let start = FIRST_V6 | at << 96;
            db.v6.push(OriginRange {
                start,
                end: start | u128::MAX >> 32,
                origins: rng.u32(..ASNS / 2),
            });
            origins[1].insert(start, vec![db.v6[db.v6.len() - 1].origins + 1]);
        }
        origins[0].insert(FIRST_V4 + (16 << 16), vec![]);
        origins[1].insert(FIRST_V6 + (16 << 96), vec![]);
        let policy = parsed(&text(&zones, &rules), &db);
        let partition = Partition::new(&policy, &db, &[]).unwrap();
        let table = FlatTable::build(&partition).unwrap();
        let mut directory = Directory::default();
        let environment = Environment::default();
        let compiled = compile(&policy, &db, &environment, &partition, &mut directory).unwrap();
        let planes = FlatPlanes::build(&compiled.fixed, &compiled.class_words, &table, Tier::Small);
        let mut memory = Memory::of(table, planes, ROOM);
        let (live, planes) = memory.live();
        let editor = Editor::new(&live, &planes, &compiled.fixed);
        let v4 = partition.v4.iter();
        let v4 = v4.map(|(start, class)| (u128::from(*start), *class));
        Self {
            classes: [v4.collect(), partition.v6.clone()],
            rng,
            zones,
            overlay: Vec::new(),
            rules,
            db,
            policy,
            partition,
            directory,
            compiled,
            memory,
            editor,
            origins,
            compared: [0; 2],
            wholes: 0,
        }
    }

    /// Another generation over the table that is there.
    fn whole(&mut self) {
        let environment = Environment::default();
        self.compiled = compile(
            &self.policy,
            &self.db,
            &environment,
            &self.partition,
            &mut self.directory,
        )
        .unwrap();
        let Rules {
            fixed, class_words, ..
        } = &self.compiled;
        let planes = FlatPlanes::build(fixed, class_words, &self.memory.live().0, Tier::Small);
        self.memory.replace_planes(planes, ROOM);
        self.editor.reuse();
        self.editor.new_planes(&self.memory.live().1, fixed);
        self.wholes += 1;
    }

    /// Blocks something in some zones, or takes such a block away.
    fn change_rules(&mut self) {
        if self.overlay.len() > 3 || self.rng.bool() && !self.overlay.is_empty() {
            self.overlay
                .swap_remove(self.rng.usize(..self.overlay.len()));
        } else {
            let zone = self.rng.usize(..self.zones.len());
            let asn = self.rng.u32(1..=ASNS);
            // Then the planes are built without it, and it comes back.
            if self.rng.bool() {
                self.withdraw(asn);
            }
            let rule = Rule {
                zones: vec![zone],
                asns: vec![asn],
                action: Action::Drop,
                dns: false,
            };
            if !self.overlay.contains(&rule) && !self.rules.contains(&rule) {
                self.overlay.push(rule);
            }
        }
        let rules = [&self.overlay[..], &self.rules].concat();
        self.policy = parsed(&text(&self.zones, &rules), &self.db);
        self.whole();
    }

    /// A prefix is announced by others, in place. Addresses that may have changed.
    fn change_route(&mut self) -> (bool, BTreeSet<u128>) {
        let v6 = self.rng.bool();
        let (bits, base) = if v6 { (128, FIRST_V6) } else { (32, FIRST_V4) };
        let length = match v6 {
            true => [28, 32, 40, 48, 56, 64, 128][self.rng.usize(..7)],
            false => self.rng.u32(12..=32),
        };
        let hosts = u128::MAX.checked_shr(128 - bits + length).unwrap_or(0);
        let below = if v6 { 100 } else { 20 };
        let first = (base | self.rng.u128(..) & ((1 << below) - 1)) & !hosts;
        let last = first | hosts;
        let mut origins: Vec<u32> = (0..self.rng.usize(..3))
            .map(|_| self.rng.u32(1..=ASNS))
            .collect();
        origins.dedup();
        (v6, self.announce(v6, first, last, origins))
    }

    /// An ASN announces nothing any more.
    fn withdraw(&mut self, asn: u32) {
        for v6 in [false, true] {
            let model = &self.origins[usize::from(v6)];
            let starts: Vec<u128> = model.keys().copied().collect();
            let ranges: Vec<(u128, u128)> = (starts.windows(2))
                .filter(|ends| model[&ends[0]].contains(&asn))
                .map(|ends| (ends[0], ends[1] - 1))
                .collect();
            for (first, last) in ranges {
                self.announce(v6, first, last, Vec::new());
            }
        }
    }

    fn announce(&mut self, v6: bool, first: u128, last: u128, origins: Vec<u32>) -> BTreeSet<u128> {
        let known = self.partition.classes.len();
        let pieces = part(&self.classes[usize::from(v6)], first, last);
        for (at, (start, class)) in pieces.iter().enumerate() {
            let class = self.partition.reclass(*class, &origins).unwrap();
            let next = pieces.get(at + 1).map_or(last + 1, |(next, _)| *next);
            set(
                &mut self.classes[usize::from(v6)],
                *start,
                Some(next),
                class,
            );
        }
        let model = &mut self.origins[usize::from(v6)];
        let at = |model: &BTreeMap<u128, Vec<u32>>, address| {
            model.range(..=address).next_back().unwrap().1.clone()
        };
        let behind = at(model, last + 1);
        let mut asked: BTreeSet<u128> = model.range(first..=last).map(|(at, _)| *at).collect();
        model.retain(|at, _| *at < first || *at > last);
        model.insert(first, origins);
        model.insert(last + 1, behind);
        asked.extend([first - 1, first, last, last + 1]);

        if self.partition.classes.len() > known {
            let Rules {
                class_words,
                grouping,
                ..
            } = &mut self.compiled;
            match grouping.classes(&self.partition, known, &self.directory) {
                Some(new) => {
                    class_words.extend(new.words);
                    self.directory = new.directory.unwrap_or(self.directory.clone());
                }
                None => self.whole(),
            }
        }
        self.amend(v6, first, last);
        asked
    }

    fn amend(&mut self, v6: bool, first: u128, last: u128) {
        let ground = Ground {
            fixed: &self.compiled.fixed,
            class_words: &self.compiled.class_words,
        };
        let classes = &self.classes[usize::from(v6)];
        let shift = if v6 { 96 } else { 16 };
        for unit in first >> shift..=last >> shift {
            let (from, to) = (unit << shift, unit << shift | ((1 << shift) - 1));
            let ranges = part(classes, from, to);
            if self.editor.is_short() {
                self.editor.reuse();
            }
            let (mut table, mut planes) = self.memory.live();
            let done = if v6 {
                let part = (unit as u32, &ranges[..]);
                self.editor.set_v6(&mut table, &mut planes, ground, part)
            } else {
                let ranges = ranges.iter().map(|(start, class)| (*start as u32, *class));
                let ranges: Vec<_> = ranges.collect();
                let part = (unit as u16, &ranges[..]);
                self.editor.set_v4(&mut table, &mut planes, ground, part)
            };
            done.unwrap();
        }
    }

    /// What the rules say of plain packets, first to last: the rule, or the default.
    fn meant(&self, zone: usize, origins: &[u32]) -> (Action, Option<String>) {
        let (mut audited, mut decided) = (None, (self.zones[zone], None));
        for rule in self.overlay.iter().chain(&self.rules) {
            let is_meant = origins.iter().any(|asn| rule.asns.contains(asn));
            if rule.dns || !rule.zones.contains(&zone) || !is_meant {
                continue;
            }
            if rule.action != Action::Audit {
                decided = (rule.action, Some(rule.name()));
                break;
            }
            audited.get_or_insert_with(|| (Action::Audit, Some(rule.name())));
        }
        match audited {
            Some(audited) if decided.0 == Action::Pass => audited,
            _ => decided,
        }
    }

    fn check(&mut self, v6: bool, asked: impl IntoIterator<Item = u128>) {
        for address in asked {
            for zone in 0..self.zones.len() {
                self.check_one(v6, address, zone);
            }
        }
    }

    fn check_one(&mut self, v6: bool, address: u128, zone: usize) {
        let model = &self.origins[usize::from(v6)];
        let origins = model.range(..=address).next_back().unwrap().1;
        let expected = self.meant(zone, origins);
        let (table, planes) = self.memory.live();
        let fast = &planes.zones[zone + 1];
        let plane = fast.plane & FAST_PLANE;
        let (class, code) = if v6 {
            let high = (address >> 64) as u64;
            (
                class_v6(&table, high, address as u64),
                leaf_v6(&planes, plane, high),
            )
        } else {
            let address = address as u32;
            (class_v4(&table, address), leaf_v4(&planes, plane, address))
        };
        let Rules {
            fixed, class_words, ..
        } = &self.compiled;
        let class_word = class_words[class as usize];
        let base = fixed.zones[zone].verdict_base;
        let word = fixed.verdicts[(base + (class_word & GROUP_MASK)) as usize];
        let what = || format!("zone {zone}, {address:#x} of {origins:?}: {expected:?}");
        if word & VERDICT_STEPS == 0 {
            let said = match self.directory.identity(word & VERDICT_INDEX) {
                Some(Identity::Rule(_, rule, action)) => (action, Some(rule)),
                Some(Identity::Zone(_, _, action)) => (action, None),
                other => panic!("{}, counted by {other:?}", what()),
            };
            assert_eq!(said, expected, "{}: class {class}", what());
        }
        self.compared[0] += 1;
        if !fast.is_open() || code == ASK {
            return;
        }
        self.compared[1] += 1;
        let kept = VERDICT_INDEX | 3 << VERDICT_ACTION_SHIFT | VERDICT_STEPS;
        let express = fast.words[code as usize];
        assert_eq!(express, word & kept, "{}: the plane says otherwise", what());
    }

    /// Both ends of everything.
    fn check_all(&mut self) {
        for v6 in [false, true] {
            let model = &self.origins[usize::from(v6)];
            let ends = model.keys().flat_map(|at| [at.saturating_sub(1), *at]);
            let ends: Vec<u128> = ends.filter(|at| *at > 0).collect();
            self.check(v6, ends);
        }
    }
}

#[test]
fn every_zone_is_judged_as_its_rules_say() {
    let mut compared = [0; 2];
    let mut wholes = 0;
    let given = std::env::var("KORDON_CASES").ok();
    let worlds = given.and_then(|n| n.parse().ok()).unwrap_or(60);
    let steps = 50;
    for seed in 0..worlds {
        let mut world = World::new(seed);
        world.check_all();
        for step in 0..steps {
            if world.rng.u8(..5) == 0 {
                world.change_rules();
                world.check_all();
            } else {
                let (v6, asked) = world.change_route();
                world.check(v6, asked);
            }
            if step % 20 == 19 {
                world.check_all();
            }
        }
        compared = [0, 1].map(|at| compared[at] + world.compared[at]);
        wholes += world.wholes;
    }
    println!("{compared:?} {wholes} of {}", worlds * steps);
    assert!(compared[1] > compared[0] / 3, "{compared:?}");
}
