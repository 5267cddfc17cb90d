//! The program of an interface as it is attached, with a ledger, over maps of its own and run by hand: what
//! it says of packets of flows that it knows.

use std::mem::offset_of;

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, RingBuf},
    programs::{TestRun as _, TestRunOptions},
};
use kordon::{
    compile::{
        generation::Rules,
        plane::FlatPlanes,
        table::{FlatTable, Tier},
    },
    datapath::{
        memory::{Mapped, generation_size, table_size},
        programs::{self, program},
        system,
    },
};
use kordon_ebpf::layout::{FLOW_LINES, FlowLine, Record, UNSETTLED};

/// The program and its maps.
pub struct Live {
    ebpf: Ebpf,
    tier: Tier,
    table: Mapped,
    generation: Mapped,
    planes: Mapped,
    flows: Mapped,
    records: RingBuf<MapData>,
}

impl Live {
    /// Loads it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn load(tier: Tier) -> Result<Self> {
        let cpus = aya::util::nr_cpus().map_err(|(_, e)| e)?;
        let lines = *FLOW_LINES.start();
        let mut ebpf = EbpfLoader::new()
            .override_global("PORT", &0u32, true)
            .override_global("LINES", &lines, true)
            .map_max_entries("FLOWS", lines * u32::try_from(cpus)?)
            .load(programs::object(tier))?;
        for name in [programs::SLOW, programs::FAST] {
            programs::load_one(&mut ebpf, name).with_context(|| format!("cannot load `{name}`"))?;
        }
        programs::put_slow(&ebpf)?;
        let mut mapped = |name: &str| match ebpf.take_map(name) {
            Some(Map::Array(data)) => Ok(data),
            _ => bail!("no map `{name}`"),
        };
        let (planes, flows) = (mapped("PLANES")?, mapped("FLOWS")?);
        let records = ebpf.take_map("RECORDS").context("no map `RECORDS`")?;
        Ok(Self {
            tier,
            table: Mapped::create("table", table_size(tier))?,
            generation: Mapped::create("generation", generation_size(tier))?,
            planes: Mapped::of(planes)?,
            flows: Mapped::entries(flows)?,
            records: RingBuf::try_from(records)?,
            ebpf,
        })
    }

    /// Which tier's program it is.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Lets it judge by an image. No flow is known then.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn install(&mut self, rules: &Rules, table: &FlatTable) -> Result<()> {
        let mut rules = rules.clone();
        rules.fixed.number = 1;
        self.planes.set_planes_number(0);
        self.table.write_table(self.tier, table);
        self.generation.write_generation(&rules);
        put(&self.ebpf, "TABLES", rules.fixed.table_slot, &self.table)?;
        put(&self.ebpf, "GENERATIONS", 0, &self.generation)?;
        self.flows.bytes_mut().fill(0);
        self.set_planes(&rules, table);
        Ok(())
    }

    /// Lets its fast path judge by the planes of other rules. What is known stays so.
    pub fn set_planes(&mut self, rules: &Rules, table: &FlatTable) {
        let planes = FlatPlanes::build(&rules.fixed, &rules.class_words, table, self.tier);
        self.planes.write_planes(self.tier, &planes);
        self.planes.set_planes_number(1);
    }

    /// Says when the last change was over; `None`: it is not.
    pub fn set_settled(&self, jiffies: Option<u64>) {
        self.planes.set_settled(jiffies.unwrap_or(UNSETTLED));
    }

    /// What becomes of a frame of 14 bytes at least, as `enum xdp_action` of `linux/bpf.h` has it.
    ///
    /// # Errors
    /// When the kernel cannot run it.
    pub fn run(&mut self, frame: &[u8]) -> Result<u32> {
        let ran = program(&mut self.ebpf, programs::FAST)?.test_run(TestRunOptions {
            data_in: Some(frame),
            repeat: 1,
            ..TestRunOptions::default()
        });
        Ok(ran?.return_value)
    }

    /// Packets in lines, and in what has left them since this was asked.
    #[must_use]
    pub fn recorded(&mut self) -> u64 {
        let lines = self.flows.size() / size_of::<FlowLine>();
        let lines = (0..lines).filter_map(|index| self.flows.line(index));
        let mut sum: u64 = lines.map(|line| u64::from(line.packets)).sum();
        while let Some(record) = self.records.next() {
            let at = offset_of!(Record, held) + offset_of!(FlowLine, packets);
            let packets = record[at..].first_chunk().copied();
            sum += u64::from(u32::from_ne_bytes(packets.unwrap_or_default()));
        }
        sum
    }
}

fn put(ebpf: &Ebpf, outer: &str, slot: u32, inner: &Mapped) -> Result<()> {
    let Some(Map::ArrayOfMaps(data)) = ebpf.map(outer) else {
        bail!("no map `{outer}`");
    };
    system::set_slot(data, slot, &inner.map)
        .with_context(|| format!("cannot put a map into `{outer}`"))
}
