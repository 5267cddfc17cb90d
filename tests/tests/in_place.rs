//! The table of the whole Internet, changed in place a hundred thousand times while it is
//! live: what the program in the kernel says of addresses then, through both planes, is
//! what a list of ranges says to which the same was done.
//!
//! Needs real data, in the folder that `KORDON_TEST_DATA` names; without it the small
//! extract of the repository is changed.

mod asked;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use kordon::{
    asn::{self, AsnDb},
    compile::{
        amend::{AmendError, Patch},
        generation::{Environment, PortSpec, compile},
        partition::Partition,
        table::{FlatTable, choose_tier_with_room},
    },
    datapath::{
        amend::{Names, NotAmended},
        kernel::Datapath,
        probe::Prober,
    },
    policy::{self, Bundle, Context, Overlay, Policy},
};
use kordon_ebpf::layout::Judged;
use kordon_tests::{data, lab::Bpffs};

const POLICY: &str = r#"
[zone.cameras]
vlans = [20]
sources = ["10.20.0.0/16", "fd00:20::/48"]
[zone.doors]
vlans = [30]
default = "drop"
[set.hostile]
asns = ["12389", "12695", "1-20000"]
prefixes = ["203.0.113.0/24", "2001:db8::/32"]
[[rule]]
name = "hostile"
from = "cameras"
to = "hostile"
action = "drop"
[[rule]]
name = "cloud"
from = "doors"
to = "hostile"
action = "pass"
"#;

/// From which address on which class.
type Model = BTreeMap<u128, u32>;

fn class_at(model: &Model, address: u128) -> u32 {
    model
        .range(..=address)
        .next_back()
        .map_or(0, |(_, class)| *class)
}

/// Makes a range of one class, the slow and obvious way.
fn set(model: &mut Model, first: u128, last: u128, max: u128, class: u32) {
    let behind = (last < max).then(|| (last + 1, class_at(model, last + 1)));
    let inside: Vec<u128> = model.range(first..=last).map(|(start, _)| *start).collect();
    inside.into_iter().for_each(|start| {
        model.remove(&start);
    });
    model.insert(first, class);
    model.extend(behind);
}

/// The ranges between two addresses.
fn between(model: &Model, first: u128, last: u128) -> Vec<(u128, u32)> {
    let mut ranges = vec![(first, class_at(model, first))];
    for (start, class) in model.range(first + 1..=last) {
        if ranges.last().is_some_and(|(_, last)| last != class) {
            ranges.push((*start, *class));
        }
    }
    ranges
}

fn number(name: &str, default: usize) -> usize {
    let given = std::env::var(name).ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn parsed(text: &str, db: &AsnDb) -> Result<Policy> {
    let (policy, found) = policy::parse(
        &Bundle::from_text("policy.toml", text),
        &Overlay::default(),
        &Context::now(Some(db)),
    );
    policy.ok_or_else(|| anyhow!("{found:?}"))
}

fn environment() -> Environment {
    Environment {
        ports: vec![PortSpec {
            logical: "trunk".into(),
            drop_unknown: false,
        }],
        ..Environment::default()
    }
}

struct Live {
    datapath: Datapath,
    db: AsnDb,
    policy: Policy,
    partition: Partition,
    models: [Model; 2],
    /// Tables that were written.
    tables: u8,
    _bpffs: Bpffs,
}

impl Live {
    fn new() -> Result<Self> {
        let files = |v: &str| {
            let whole = data::folder().join(format!("asn-ipv{v}.csv.zst"));
            if whole.is_file() {
                return whole;
            }
            println!("the small extract stands for {}", whole.display());
            let extract = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
            extract.join(format!("asn-ipv{v}.csv"))
        };
        let (db, _) = asn::import(&[files("4"), files("6")], &[])?;
        let policy = parsed(POLICY, &db)?;
        let bpffs = Bpffs::new()?;
        let partition = Partition::new(&policy, &db, &[])?;
        let v4 = partition.v4.iter();
        let v4 = v4.map(|(start, class)| (u128::from(*start), *class));
        let mut live = Self {
            datapath: Datapath::open(bpffs.path(), None)?,
            models: [v4.collect(), partition.v6.iter().copied().collect()],
            db,
            policy,
            partition,
            tables: 0,
            _bpffs: bpffs,
        };
        live.publish()?;
        Ok(live)
    }

    /// Writes a table of what the models have.
    fn publish(&mut self) -> Result<()> {
        let [v4, v6] = &self.models;
        let v4 = v4.iter().map(|(start, class)| (*start as u32, *class));
        self.partition.v4 = v4.collect();
        self.partition.v6 = v6.iter().map(|(start, class)| (*start, *class)).collect();
        self.partition.v4.dedup_by_key(|range| range.1);
        self.partition.v6.dedup_by_key(|range| range.1);
        let environment = environment();
        let flat = FlatTable::build(&self.partition)?;
        let tier = choose_tier_with_room(&flat.usage())?;
        let mut directory = self.datapath.directory().clone();
        let partition = &self.partition;
        let mut rules = compile(
            &self.policy,
            &self.db,
            &environment,
            partition,
            &mut directory,
        )?;
        self.tables += 1;
        (rules.fixed.hash, rules.fixed.table_key) = ([254; 32], [self.tables; 32]);
        self.datapath
            .publish(&mut rules, &flat, tier, &directory, &mut |_| Ok(()))?;
        self.datapath.warm_editor()?;
        Ok(())
    }

    /// Changes a prefix in the model and in the kernel; how long the kernel's took.
    fn change(&mut self, v6: bool, first: u128, last: u128, class: u32) -> Result<Duration> {
        let max = if v6 { u128::MAX } else { u32::MAX.into() };
        let model = &mut self.models[usize::from(v6)];
        set(model, first, last, max, class);
        let mut patch = Patch::default();
        let shift = if v6 { 96 } else { 16 };
        for part in first >> shift..=last >> shift {
            let ranges = between(model, part << shift, part << shift | ((1 << shift) - 1));
            if v6 {
                patch.v6.push((part as u32, ranges));
            } else {
                let ranges = ranges
                    .into_iter()
                    .map(|(start, class)| (start as u32, class));
                patch.v4.push((part as u16, ranges.collect()));
            }
        }
        let start = Instant::now();
        let names = Names {
            hash: [255; 32],
            table_key: [255; 32],
        };
        let classes = self.partition.classes.len();
        match self.datapath.amend(&patch, classes, names) {
            // As a daemon does it: another table, of the next size if need be.
            Err(NotAmended::Amend(AmendError::Full(_))) => {
                self.publish()?;
            }
            done => done?,
        }
        Ok(start.elapsed())
    }
}

fn change(live: &mut Live, rng: &mut fastrand::Rng, starts: &[Vec<u128>; 2]) -> Result<Duration> {
    let v6 = rng.u8(..) < 80;
    let bits = if v6 { 128 } else { 32 };
    let length = match (v6, rng.u8(..)) {
        (false, 0..150) => 24,
        (false, 150..230) => rng.u32(19..24),
        (false, 230..235) => rng.u32(14..19),
        (false, _) => rng.u32(25..=32),
        (true, 0..120) => 48,
        (true, 120..220) => rng.u32(32..64),
        (true, 220..225) => rng.u32(24..32),
        (true, _) => rng.u32(64..=128),
    };
    let hosts = if length == bits {
        0
    } else {
        u128::MAX >> (128 - bits + length)
    };
    let starts = &starts[usize::from(v6)];
    // Where something is, or beside it.
    let near = starts[rng.usize(..starts.len())] ^ (rng.u128(..) & 7) << (bits - length);
    let first = near & !hosts & (u128::MAX >> (128 - bits));
    let class = rng.u32(..live.partition.classes.len() as u32);
    live.change(v6, first, first | hosts, class)
}

/// Addresses of one family through the kernel and through the model.
fn compare(
    prober: &mut Prober,
    model: &Model,
    v6: bool,
    addresses: impl Iterator<Item = u128>,
) -> Result<usize, String> {
    let (frame, at) = asked::frame(v6);
    let mut compared = 0;
    let addresses: Vec<u128> = addresses.collect();
    for chunk in addresses.chunks(8192) {
        let inputs = asked::inputs(v6, chunk);
        let said = prober
            .batch(&frame, 0, if v6 { 6 } else { 4 }, at, &inputs)
            .map_err(|e| e.to_string())?;
        for (address, said) in chunk.iter().zip(&said) {
            // Martians have no class, and some stand for others.
            let itself = said.judged == Judged::Destination as u8
                && match v6 {
                    true => address >> 125 == 1,
                    false => !matches!(address >> 24, 0 | 127),
                };
            if !itself {
                continue;
            }
            let class = class_at(model, *address);
            if said.class != class {
                let address: IpAddr = match v6 {
                    true => Ipv6Addr::from(*address).into(),
                    false => Ipv4Addr::from(*address as u32).into(),
                };
                return Err(format!("{address}: class {}, {class} is right", said.class));
            }
            compared += 1;
        }
    }
    Ok(compared)
}

#[test]
fn a_hundred_thousand_changes_in_place() -> Result<()> {
    let changes = number("KORDON_CASES", 100_000);
    let addresses = number("KORDON_ADDRESSES", 1_000_000);
    let mut live = Live::new()?;
    let mut rng = fastrand::Rng::with_seed(number("KORDON_SEED", 11) as u64);
    let starts = [false, true]
        .map(|v6| -> Vec<u128> { live.models[usize::from(v6)].keys().copied().collect() });
    let mut took = Vec::with_capacity(changes);
    for number in 0..changes {
        let done = change(&mut live, &mut rng, &starts);
        took.push(done.map_err(|e| e.context(format!("change {number}")))?);
    }
    took.sort_unstable();
    // The small extract's table, which grows by more than its own size, is made anew more often.
    ensure!(live.tables < 10, "{} tables", live.tables);
    println!(
        "{changes} changes in place: median {:?}, 99 of 100 within {:?}, worst {:?}, all {:?}; {} tables",
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1],
        took.iter().sum::<Duration>(),
        live.tables,
    );

    // Both ends of every range that there is, and as many by chance.
    let models = std::mem::take(&mut live.models);
    let (mut compared, mut by_planes) = (0, 0);
    for v6 in [false, true] {
        let (model, bits) = (&models[usize::from(v6)], if v6 { 128 } else { 32 });
        let all = u128::MAX >> (128 - bits);
        let step = (4 * model.len()).div_ceil(addresses.max(1)).max(1);
        let ends = model
            .keys()
            .step_by(step)
            .flat_map(|start| [*start, start.wrapping_sub(1) & all]);
        let keys: Vec<u128> = model.keys().copied().collect();
        let by_chance = (0..addresses / 2).map(|n| match n % 2 {
            0 => rng.u128(..) & all,
            _ => keys[rng.usize(..keys.len())].wrapping_add(rng.u128(..) >> rng.u32(..128)) & all,
        });
        let addresses: Vec<u128> = ends.chain(by_chance).collect();
        live.datapath
            .ask_live(|prober| {
                let before = prober.by_planes();
                compared += compare(prober, model, v6, addresses.into_iter())?;
                by_planes += prober.by_planes() - before;
                Ok(())
            })
            .map_err(|e| anyhow!(e))?;
    }
    println!("{compared} addresses compared, {by_planes} of them decided by the verdict planes");
    ensure!(compared > addresses / 2, "{compared}");
    ensure!(by_planes > compared / 4, "{by_planes} of {compared}");
    Ok(())
}
