//! Programs in the kernel: kordon's as it is attached to an interface, one that does
//! nothing, and minimal ones on the kernel's own trie and on a DIR-24-8 table.
//!
//! With [`super::build`], the only place that knows how kordon's maps are filled.

use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, Map, MapData, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kordon::compile::plane::FlatPlanes;
use kordon::datapath::memory::{Mapped, generation_size, table_size};
use kordon::datapath::programs::{self, program};
use kordon::datapath::system;
use kordon_ebpf::layout::{Action, FastZone, Generation, Planes, ProbeControl, mode};

use super::internet::{Input, Internet};

static BENCH: &[u8] = include_bytes_aligned!(concat!(env!("KORDON_PROGRAMS"), "/bench"));

/// Number of the generation that is live, and that its planes are of.
const NUMBER: u64 = 1;

/// Bytes of the ledger's ring: what churns leaves more in a round than a router's has room for.
const RING: u32 = 32 << 20;

/// All of them.
pub(super) struct Subjects {
    pub(super) kordon: Kordon,
    /// The same, with the ledger.
    pub(super) recorded: Option<Kordon>,
    /// Where kordon is compared with nothing else, there is none.
    pub(super) bench: Option<Bench>,
}

/// kordon's program, and the maps inside its maps.
pub(super) struct Kordon {
    pub(super) ebpf: Ebpf,
    pub(super) table: Mapped,
    pub(super) generation: Mapped,
    pub(super) planes: Mapped,
    /// [`FastZone::plane`] of every zone.
    zones: Vec<u32>,
    probe: Mapped,
    /// Of the ledger, where there is one.
    records: Option<RingBuf<MapData>>,
}

/// The programs that kordon's is measured against.
pub(super) struct Bench {
    pub(super) ebpf: Ebpf,
    /// Both levels of the table DIR-24-8.
    pub(super) dir: [Mapped; 2],
    probe: Mapped,
}

/// What kordon's program puts into the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    Nothing,
    Everything,
}

/// A program to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Nothing but the rewriting of destinations.
    Empty,
    /// kordon's.
    Kordon,
    /// kordon's with the ledger.
    Recorded,
    /// kordon's without a verdict plane behind its zones: every packet's class is
    /// looked up.
    ClassPlane,
    /// The kernel's trie.
    Lpm,
    /// DIR-24-8.
    Dir,
    /// A ledger in the kernel's own hash with eviction, and nothing else.
    Lru,
    /// The same with values for each CPU.
    LruPerCpu,
}

/// What a program is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work<'a> {
    /// The packet.
    pub(super) frame: &'a [u8],
    /// Family and offset of its destination.
    pub(super) control: ProbeControl,
    /// Destinations, one for each run; at most `PROBE_BATCH`.
    pub(super) inputs: &'a [Input],
    /// What the program must say to the last one.
    pub(super) verdict: u32,
}

impl Subjects {
    /// Loads the programs and fills their maps.
    pub(super) fn load(internet: &Internet) -> Result<Self> {
        Ok(Self {
            kordon: Kordon::load(internet, mode::BENCH, Recorded::Nothing)?,
            recorded: Some(Kordon::load(internet, mode::BENCH, Recorded::Everything)?),
            bench: Some(Bench::load(internet, Held::Everything)?),
        })
    }

    /// kordon's program alone.
    pub(super) fn alone(internet: &Internet) -> Result<Self> {
        Ok(Self {
            kordon: Kordon::load(internet, mode::BENCH, Recorded::Nothing)?,
            recorded: None,
            bench: None,
        })
    }

    /// Mean time of one packet, as the kernel says: whole nanoseconds, rounded down.
    pub(super) fn run(&mut self, subject: Subject, work: Work<'_>) -> Result<Duration> {
        let name = match subject {
            Subject::Kordon | Subject::ClassPlane | Subject::Recorded => "kordon",
            Subject::Empty => "empty",
            Subject::Lpm => "lpm",
            Subject::Dir => "dir_24_8",
            Subject::Lru => "lru",
            Subject::LruPerCpu => "lru_percpu",
        };
        let (ebpf, probe) = match (subject, &mut self.bench) {
            (Subject::Recorded, _) => {
                let kordon = self.recorded.as_mut().context("the ledger is not loaded")?;
                kordon.empty();
                (&mut kordon.ebpf, &mut kordon.probe)
            }
            (Subject::Kordon | Subject::ClassPlane, _) => {
                let kordon = &mut self.kordon;
                kordon.use_planes(subject == Subject::Kordon);
                (&mut kordon.ebpf, &mut kordon.probe)
            }
            (_, Some(bench)) => (&mut bench.ebpf, &mut bench.probe),
            (_, None) => bail!("`{name}` is not loaded"),
        };
        let memory = probe.probe();
        memory.inputs[..work.inputs.len()].copy_from_slice(work.inputs);
        memory.control = work.control;
        let result = program(ebpf, name)?
            .test_run(TestRunOptions {
                data_in: Some(work.frame),
                repeat: u32::try_from(work.inputs.len())?,
                ..TestRunOptions::default()
            })
            .with_context(|| format!("cannot run `{name}` on a frame"))?;
        if result.return_value != work.verdict {
            bail!(
                "`{name}` says {} where {} is right: what it takes means nothing",
                result.return_value,
                work.verdict
            );
        }
        Ok(result.duration)
    }
}

impl Kordon {
    /// Loads the program of port 0, for test runs (`mode::BENCH`) or to be attached.
    pub(super) fn load(internet: &Internet, mode: u32, recorded: Recorded) -> Result<Self> {
        let image = &internet.image;
        let mut loader = EbpfLoader::new();
        loader
            .override_global("MODE", &mode, true)
            .override_global("PORT", &0u32, true);
        if recorded == Recorded::Everything {
            loader
                .override_global("LINES", &internet.lines, true)
                .map_max_entries("FLOWS", all_lines(internet)?)
                .map_max_entries("RECORDS", RING);
        }
        let mut ebpf = loader
            .load(programs::object(image.tier))
            .context("cannot load kordon's maps")?;
        let mut table = Mapped::create("table", table_size(image.tier))?;
        table.write_table(image.tier, &image.table);
        put(&ebpf, "TABLES", image.rules.fixed.table_slot, &table)?;
        let mut generation = Mapped::create("generation", generation_size(image.tier))?;
        generation.write_generation(&image.rules);
        let at = std::mem::offset_of!(Generation<0>, number);
        generation.bytes_mut()[at..][..8].copy_from_slice(&NUMBER.to_ne_bytes());
        put(&ebpf, "GENERATIONS", 0, &generation)?;
        let mut planes = mapped(&mut ebpf, "PLANES")?;
        let rules = &image.rules;
        let flat = FlatPlanes::build(&rules.fixed, &rules.class_words, &image.table, image.tier);
        planes.write_planes(image.tier, &flat);
        planes.set_planes_number(NUMBER);
        let probe = mapped(&mut ebpf, "PROBE")?;
        for name in [programs::SLOW, programs::FAST] {
            program(&mut ebpf, name)?
                .load()
                .with_context(|| format!("cannot load `{name}`"))?;
        }
        programs::put_slow(&ebpf)?;
        Ok(Self {
            table,
            generation,
            planes,
            zones: flat.zones.iter().map(|fast| fast.plane).collect(),
            probe,
            records: match recorded {
                Recorded::Nothing => None,
                Recorded::Everything => Some(ring(&mut ebpf)?),
            },
            ebpf,
        })
    }

    /// Takes all records out of the ring.
    pub(super) fn empty(&mut self) {
        if let Some(records) = &mut self.records {
            while records.next().is_some() {}
        }
    }

    /// The guard of port 0 over the same maps: behind the XDP program, or `alone`.
    pub(super) fn guard(&mut self, alone: bool) -> Result<Ebpf> {
        let mut guard = EbpfLoader::new()
            .override_global("PORT", &0u32, true)
            .override_global("SLOT", &1u32, true)
            .override_global("ALONE", &u32::from(alone), true)
            .override_global("JUDGES", &1u32, true)
            .load(programs::GUARD)
            .context("cannot load the guard's maps")?;
        programs::load_one(&mut guard, "guard").context("cannot load the guard")?;
        for (place, name) in [(0, programs::GUARD_FAST), (1, programs::GUARD_SLOW)] {
            programs::load_one(&mut self.ebpf, name)
                .with_context(|| format!("cannot load `{name}`"))?;
            let path = self.ebpf.program(name).context("it is in the object")?;
            for ebpf in [&guard, &self.ebpf] {
                let Some(Map::ProgramArray(paths)) = ebpf.map("PATHS") else {
                    bail!("no map `PATHS`");
                };
                system::set_program(paths, place, path.fd()?.as_fd())
                    .with_context(|| format!("cannot put `{name}` in place"))?;
            }
        }
        Ok(guard)
    }

    /// Whether zones lead to a verdict plane, or to one that is not there.
    pub(super) fn use_planes(&mut self, on: bool) {
        let first = std::mem::offset_of!(Planes<0, 0, 0, 0>, zones);
        for (id, plane) in self.zones.iter().enumerate() {
            let plane = if on { *plane } else { *plane | 0xffff };
            let at = first + id * size_of::<FastZone>() + std::mem::offset_of!(FastZone, plane);
            self.planes.bytes_mut()[at..][..4].copy_from_slice(&plane.to_ne_bytes());
        }
    }
}

/// What is put into the tables that kordon's is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// The whole table, as kordon's has it.
    Everything,
    /// What is blocked and nothing else, as a firewall's set would.
    Blocked,
}

impl Bench {
    /// Loads the programs and fills their tables. With everything they are for test
    /// runs, else to be attached.
    pub(super) fn load(internet: &Internet, held: Held) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .override_global("REWRITE", &u32::from(held == Held::Everything), true)
            .map_max_entries("LRU", all_lines(internet)?)
            .map_max_entries("LRU_PERCPU", all_lines(internet)?)
            .load(BENCH)
            .context("cannot load the maps to measure against")?;
        let probe = probe_of(&mut ebpf)?;
        let mut verdicts: Array<_, u32> = map(&mut ebpf, "VERDICTS")?.try_into()?;
        let nets = internet.prefixes.iter();
        let nets = nets.filter(|(.., action)| held == Held::Everything || *action == Action::Drop);
        for (_, class, action) in nets.clone() {
            verdicts.set(*class, u32::from(*action == Action::Drop), 0)?;
        }
        put_into_tries(
            &mut ebpf,
            nets.clone().map(|(net, class, _)| (*net, *class)),
        )?;
        let blocked = nets.filter(|(.., action)| *action == Action::Drop);
        let mut dir = [mapped(&mut ebpf, "DIR24")?, mapped(&mut ebpf, "DIR8")?];
        put_into_dir(&mut dir, blocked.map(|(net, ..)| *net))?;
        for name in [
            "empty",
            "lpm",
            "dir_24_8",
            "lru",
            "lru_percpu",
            "xdp_drop",
            "xdp_read",
            "xdp_pass",
        ] {
            program(&mut ebpf, name)?
                .load()
                .with_context(|| format!("cannot load `{name}`"))?;
        }
        Ok(Self { ebpf, dir, probe })
    }
}

/// Puts prefixes with their classes into the kernel's tries.
pub(super) fn put_into_tries(
    ebpf: &mut Ebpf,
    nets: impl Iterator<Item = (IpNet, u32)> + Clone,
) -> Result<()> {
    let mut trie: LpmTrie<_, u32, u32> = map(ebpf, "TRIE4")?.try_into()?;
    for (net, class) in nets.clone() {
        if let IpNet::V4(net) = net {
            trie.insert(&key4(net), class, 0)?;
        }
    }
    let mut trie: LpmTrie<_, [u8; 16], u32> = map(ebpf, "TRIE6")?.try_into()?;
    for (net, class) in nets {
        if let IpNet::V6(net) = net {
            trie.insert(&key6(net), class, 0)?;
        }
    }
    Ok(())
}

fn key4(net: Ipv4Net) -> Key<u32> {
    let address = u32::from_ne_bytes(net.addr().octets());
    Key::new(u32::from(net.prefix_len()), address)
}

fn key6(net: Ipv6Net) -> Key<[u8; 16]> {
    Key::new(u32::from(net.prefix_len()), net.addr().octets())
}

/// Counter slot of what is dropped, and the mark of a block, as the program has them.
const DROPPED: u32 = 1;
const LONGER: u32 = 1 << 31;

/// Writes the IPv4 ones among disjoint prefixes into the table DIR-24-8.
fn put_into_dir(dir: &mut [Mapped; 2], nets: impl Iterator<Item = IpNet>) -> Result<()> {
    let [first, second] = dir;
    let word = |index: usize| 4 * index..4 * index + 4;
    let mut blocks = 0;
    for net in nets {
        let IpNet::V4(net) = net else { continue };
        let (start, end) = (u32::from(net.network()), u32::from(net.broadcast()));
        if net.prefix_len() <= 24 {
            for index in start >> 8..=end >> 8 {
                first.bytes_mut()[word(index as usize)].copy_from_slice(&DROPPED.to_ne_bytes());
            }
            continue;
        }
        let slot = word((start >> 8) as usize);
        let mut block = u32::from_ne_bytes(first.bytes()[slot.clone()].try_into()?);
        if block & LONGER == 0 {
            // What is not named is not dropped: prefixes are disjoint.
            block = LONGER | blocks;
            blocks += 1;
            first.bytes_mut()[slot].copy_from_slice(&block.to_ne_bytes());
        }
        for address in start..=end {
            let index = ((block & !LONGER) << 8 | address & 0xff) as usize;
            let slot = second.bytes_mut().get_mut(word(index));
            let slot = slot.context("DIR-24-8 has too few blocks for prefixes longer than /24")?;
            slot.copy_from_slice(&DROPPED.to_ne_bytes());
        }
    }
    Ok(())
}

/// Flows that a ledger has room for, on all processors.
fn all_lines(internet: &Internet) -> Result<u32> {
    let cpus = aya::util::nr_cpus().map_err(|(_, e)| e)?;
    Ok(internet.lines * u32::try_from(cpus)?)
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name)
        .with_context(|| format!("no map `{name}`"))
}

fn probe_of(ebpf: &mut Ebpf) -> Result<Mapped> {
    mapped(ebpf, "PROBE")
}

/// A map of one value, taken out of its object.
fn mapped(ebpf: &mut Ebpf, name: &str) -> Result<Mapped> {
    match ebpf.take_map(name) {
        Some(Map::Array(data)) => Ok(Mapped::of(data)?),
        _ => bail!("no map `{name}`"),
    }
}

fn ring(ebpf: &mut Ebpf) -> Result<RingBuf<MapData>> {
    let records = ebpf.take_map("RECORDS").context("no map `RECORDS`")?;
    Ok(RingBuf::try_from(records)?)
}

fn put(ebpf: &Ebpf, outer: &str, slot: u32, inner: &Mapped) -> Result<()> {
    let Some(Map::ArrayOfMaps(data)) = ebpf.map(outer) else {
        bail!("no map `{outer}`");
    };
    system::set_slot(data, slot, &inner.map)
        .with_context(|| format!("cannot put a map into `{outer}`"))
}

/// What is behind a map of these kinds.
pub(super) fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::ArrayOfMaps(data) | Map::LpmTrie(data) | Map::PerCpuArray(data) => {
            Some(data)
        }
        _ => None,
    }
}
