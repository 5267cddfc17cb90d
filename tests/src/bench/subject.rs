//! Programs in the kernel: kordon's as it is attached to an interface, one that
//! does nothing, and a minimal one on the kernel's own trie.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, Map, MapData};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use ipnet::IpNet;
use kordon::datapath::memory::{Mapped, generation_size, table_size};
use kordon::datapath::{programs, system};
use kordon_ebpf::layout::{Action, ProbeControl, mode};

use super::internet::{Input, Internet};

static BENCH: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench"));

/// All three.
pub(super) struct Subjects {
    pub(super) kordon: Kordon,
    pub(super) bench: Bench,
}

/// kordon's program, and the maps inside its maps.
pub(super) struct Kordon {
    pub(super) ebpf: Ebpf,
    pub(super) table: Mapped,
    pub(super) generation: Mapped,
    probe: Mapped,
}

/// The programs that kordon's is measured against.
pub(super) struct Bench {
    pub(super) ebpf: Ebpf,
    probe: Mapped,
}

/// A program to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Nothing but the rewriting of destinations.
    Empty,
    /// kordon's.
    Kordon,
    /// The kernel's trie.
    Lpm,
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
            kordon: Kordon::load(internet)?,
            bench: Bench::load(internet)?,
        })
    }

    /// Mean time of one packet, as the kernel says: whole nanoseconds, rounded down.
    pub(super) fn run(&mut self, subject: Subject, work: Work<'_>) -> Result<Duration> {
        let (ebpf, probe, name) = match subject {
            Subject::Kordon => (&mut self.kordon.ebpf, &mut self.kordon.probe, "kordon"),
            Subject::Empty => (&mut self.bench.ebpf, &mut self.bench.probe, "empty"),
            Subject::Lpm => (&mut self.bench.ebpf, &mut self.bench.probe, "lpm"),
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
    fn load(internet: &Internet) -> Result<Self> {
        let image = &internet.image;
        let mut ebpf = EbpfLoader::new()
            .override_global("MODE", &mode::BENCH, true)
            .override_global("PORT", &0u32, true)
            .load(programs::object(image.tier))
            .context("cannot load kordon's maps")?;
        let mut table = Mapped::create("table", table_size(image.tier))?;
        table.write_table(image.tier, &image.table);
        put(&ebpf, "TABLES", image.rules.fixed.table_slot, &table)?;
        let mut generation = Mapped::create("generation", generation_size(image.tier))?;
        generation.write_generation(&image.rules);
        put(&ebpf, "GENERATIONS", 0, &generation)?;
        let probe = probe_of(&mut ebpf)?;
        program(&mut ebpf, "kordon")?
            .load()
            .context("cannot load `kordon`")?;
        Ok(Self {
            ebpf,
            table,
            generation,
            probe,
        })
    }
}

impl Bench {
    fn load(internet: &Internet) -> Result<Self> {
        let mut ebpf = Ebpf::load(BENCH).context("cannot load the maps to measure against")?;
        let probe = probe_of(&mut ebpf)?;
        fill(&mut ebpf, internet)?;
        for name in ["empty", "lpm"] {
            program(&mut ebpf, name)?
                .load()
                .with_context(|| format!("cannot load `{name}`"))?;
        }
        Ok(Self { ebpf, probe })
    }
}

/// Puts the whole table into the kernel's tries.
fn fill(ebpf: &mut Ebpf, internet: &Internet) -> Result<()> {
    let mut verdicts: Array<_, u32> = map(ebpf, "VERDICTS")?.try_into()?;
    for (_, class, action) in &internet.prefixes {
        verdicts.set(*class, u32::from(*action == Action::Drop), 0)?;
    }
    let mut trie: LpmTrie<_, u32, u32> = map(ebpf, "TRIE4")?.try_into()?;
    for (net, class, _) in &internet.prefixes {
        if let IpNet::V4(net) = net {
            let key = u32::from_ne_bytes(net.addr().octets());
            trie.insert(&Key::new(u32::from(net.prefix_len()), key), class, 0)?;
        }
    }
    let mut trie: LpmTrie<_, [u8; 16], u32> = map(ebpf, "TRIE6")?.try_into()?;
    for (net, class, _) in &internet.prefixes {
        if let IpNet::V6(net) = net {
            let key = Key::new(u32::from(net.prefix_len()), net.addr().octets());
            trie.insert(&key, class, 0)?;
        }
    }
    Ok(())
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name)
        .with_context(|| format!("no map `{name}`"))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("no program `{name}`"))?;
    Ok(program.try_into()?)
}

fn probe_of(ebpf: &mut Ebpf) -> Result<Mapped> {
    match ebpf.take_map("PROBE") {
        Some(Map::Array(data)) => Ok(Mapped::of(data)?),
        _ => bail!("no map `PROBE`"),
    }
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
