//! A second instance of the program, attached to nothing: packets are given to
//! it by `BPF_PROG_TEST_RUN`, and it says which counter it would have raised. It
//! has maps of its own, so that nothing live is touched; what is to be proven is
//! put into them.

use aya::{
    Ebpf,
    maps::{Map, MapData},
    programs::{TestRun as _, TestRunOptions},
};
use kordon_ebpf::{
    layout::{
        Action, FastOutput, NO_CLASS, PROBE_BATCH, ProbeControl, ProbeOutput, TABLE_SLOTS, mode,
        trace,
    },
    verdict::NO_SLOT,
};

use super::{
    DatapathError,
    loader::Loader,
    maps::id,
    memory::{Mapped, generation_size, table_size},
    programs::{self, FAST, SLOW, program, put_slow},
    system::{clear_slot, set_slot},
};
use crate::compile::{
    generation::Rules,
    plane::FlatPlanes,
    table::{FlatTable, Tier},
};

/// The instance.
pub struct Prober {
    ebpf: Ebpf,
    probe: Mapped,
    planes: Mapped,
    tier: Tier,
    /// Map ids by slot. A map keeps its id while it is here.
    tables: [Option<u32>; TABLE_SLOTS as usize],
    /// A generation of its own: what is to be judged by is copied into it, because the
    /// kernel waits for a grace period after each change of maps.
    generation: Option<Mapped>,
    by_planes: usize,
}

impl Prober {
    /// Loads a tier's program for probing.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn load(tier: Tier) -> Result<Self, DatapathError> {
        let loader = Loader::of(programs::object(tier))
            .constant("MODE", mode::PROBE)
            // Counters are not looked at; what is beyond the map is not counted.
            .entries("COUNTERS", 1)
            .entries("LOST", 1)
            .entries("AYA_LOGS", programs::NO_LOG);
        let mut ebpf = programs::load(loader, tier, &[SLOW, FAST], (mode::PROBE, trace::OFF))?;
        put_slow(&ebpf)?;
        let mut mapped = |name: &str| match ebpf.take_map(name) {
            Some(Map::Array(data)) => Mapped::of(data),
            _ => Err(DatapathError::new(
                format!("find the map `{name}`"),
                "it is not in the program",
            )),
        };
        let (probe, planes) = (mapped("PROBE")?, mapped("PLANES")?);
        Ok(Self {
            ebpf,
            probe,
            planes,
            tier,
            tables: [None; TABLE_SLOTS as usize],
            generation: None,
            by_planes: 0,
        })
    }

    /// Which tier's program this is.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Takes a generation over as it lies in another map of this tier.
    ///
    /// # Errors
    /// When the kernel has no room for it.
    pub fn copy_generation(&mut self, from: &Mapped) -> Result<(), DatapathError> {
        self.own_generation()?
            .bytes_mut()
            .copy_from_slice(from.bytes());
        Ok(())
    }

    /// What packets are judged by, to be written.
    ///
    /// # Errors
    /// When the kernel has no room for it.
    pub fn own_generation(&mut self) -> Result<&mut Mapped, DatapathError> {
        let own = match self.generation.take() {
            Some(own) => own,
            None => {
                let own = Mapped::create("generation", generation_size(self.tier))?;
                set_inner(&mut self.ebpf, "GENERATIONS", 0, &own.map)?;
                own
            }
        };
        Ok(self.generation.insert(own))
    }

    /// Takes planes over as they lie in another map of this tier.
    pub fn copy_planes(&mut self, from: &Mapped) {
        self.planes.set_planes_number(0);
        self.planes.bytes_mut()[8..].copy_from_slice(&from.bytes()[8..]);
        self.planes.set_planes_number(from.planes_number());
    }

    /// How many packets the verdict planes have decided.
    #[must_use]
    pub fn by_planes(&self) -> usize {
        self.by_planes
    }

    /// Puts a table into a slot, unless it is there: the kernel waits for a grace
    /// period after each change.
    ///
    /// # Errors
    /// When the map is refused.
    pub fn set_table(&mut self, slot: u32, map: &MapData) -> Result<(), DatapathError> {
        let id = id(map)?;
        let here = self.tables.get_mut(slot as usize);
        if here.as_deref() == Some(&Some(id)) {
            return Ok(());
        }
        set_inner(&mut self.ebpf, "TABLES", slot, map)?;
        if let Some(here) = here {
            *here = Some(id);
        }
        Ok(())
    }

    /// Forgets the table in a slot, so that its memory can go.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn clear_table(&mut self, slot: u32) -> Result<(), DatapathError> {
        let what = "empty a slot of `TABLES`";
        if let Some(here) = self.tables.get_mut(slot as usize) {
            *here = None;
        }
        match self.ebpf.map("TABLES") {
            Some(Map::ArrayOfMaps(map)) => {
                clear_slot(map, slot).map_err(|e| DatapathError::new(what, e))
            }
            _ => Err(DatapathError::new(what, "it is not in the program")),
        }
    }

    /// Writes planes. They are judged by beside the generation, and a difference is
    /// an error of each run.
    pub fn set_planes(&mut self, planes: &FlatPlanes) {
        self.planes.set_planes_number(0);
        self.planes.write_planes(self.tier, planes);
        // Any number but 0: which one, only an instance on an interface cares for.
        self.planes.set_planes_number(planes.number.max(1));
    }

    /// Writes an image into maps of its own and puts them in place.
    ///
    /// # Errors
    /// When the kernel has no room for them.
    pub fn install(&mut self, rules: &Rules, table: &FlatTable) -> Result<(), DatapathError> {
        let mut map = Mapped::create("table", table_size(self.tier))?;
        map.write_table(self.tier, table);
        self.set_table(rules.fixed.table_slot, &map.map)?;
        self.own_generation()?.write_generation(rules);
        let planes = FlatPlanes::build(&rules.fixed, &rules.class_words, table, self.tier);
        self.set_planes(&planes);
        Ok(())
    }

    /// Judges one frame as if it had arrived on a port. Frames have 14 bytes at least.
    ///
    /// # Errors
    /// When the kernel cannot run it.
    pub fn run(&mut self, frame: &[u8], port: u32) -> Result<ProbeOutput, DatapathError> {
        self.probe.probe().control = ProbeControl {
            port,
            ..ProbeControl::default()
        };
        self.test_run(frame)?;
        self.ran(1)?;
        Ok(self.probe.probe().outputs[0])
    }

    /// Without a generation the program ends early; the outputs are then those of
    /// another run.
    fn ran(&mut self, wanted: usize) -> Result<(), DatapathError> {
        let probe = self.probe.probe();
        let next = probe.control.next as usize;
        if next != wanted {
            return Err(DatapathError::new(
                "run probes",
                format!("{next} of {wanted} ran"),
            ));
        }
        for (index, (output, fast)) in probe.outputs.iter().zip(&probe.fast).enumerate() {
            if index >= wanted {
                break;
            }
            let by_class = fast.said == 0 || fast.class != NO_CLASS;
            self.by_planes += usize::from(!by_class && fast.said != 1);
            if !agree(output, fast) {
                return Err(DatapathError::new(
                    "compare both paths",
                    format!(
                        "the slow path says {output:?}, the fast one {fast:?} (input {index}, {:?})",
                        probe.inputs[index]
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Judges the same frame with each of the destinations, which are in network
    /// order at offset `destination` (below 256); IPv4 ones use four bytes.
    ///
    /// Each is a run of its own, of less than a microsecond: where a run repeats,
    /// the kernel waits for two grace periods around it, some tens of milliseconds.
    ///
    /// # Errors
    /// When the kernel cannot run it.
    pub fn batch(
        &mut self,
        frame: &[u8],
        port: u32,
        family: u32,
        destination: u32,
        addresses: &[[u8; 16]],
    ) -> Result<Vec<ProbeOutput>, DatapathError> {
        let mut outputs = Vec::with_capacity(addresses.len());
        for chunk in addresses.chunks(PROBE_BATCH) {
            let probe = self.probe.probe();
            probe.inputs[..chunk.len()].copy_from_slice(chunk);
            probe.control = ProbeControl {
                port,
                family,
                destination,
                next: 0,
            };
            for _ in chunk {
                self.test_run(frame)?;
            }
            self.ran(chunk.len())?;
            outputs.extend_from_slice(&self.probe.probe().outputs[..chunk.len()]);
        }
        Ok(outputs)
    }

    fn test_run(&mut self, frame: &[u8]) -> Result<(), DatapathError> {
        program(&mut self.ebpf, FAST)?
            .test_run(TestRunOptions {
                data_in: Some(frame),
                repeat: 1,
                ..TestRunOptions::default()
            })
            .map_err(|e| DatapathError::new("run the program on a frame", e))?;
        Ok(())
    }
}

/// Whether the fast path says nothing else.
fn agree(output: &ProbeOutput, fast: &FastOutput) -> bool {
    // Who does not look up the class does not know it.
    let (action, slot, class) = match fast.said {
        0 => return true,
        1 => (Action::Pass as u32, NO_SLOT, output.class),
        2 => (Action::Pass as u32, fast.slot, output.class),
        said if fast.class == NO_CLASS => (said - 3, fast.slot, output.class),
        said => (said - 3, fast.slot, fast.class),
    };
    output.slot == slot
        && u32::from(output.action) == action
        && output.class == class
        && output.noted == 0
}

fn set_inner(ebpf: &mut Ebpf, outer: &str, slot: u32, map: &MapData) -> Result<(), DatapathError> {
    match ebpf.map_mut(outer) {
        Some(Map::ArrayOfMaps(data)) => set_slot(data, slot, map)
            .map_err(|e| DatapathError::new(format!("put a map into `{outer}`"), e)),
        _ => Err(DatapathError::new(
            format!("put a map into `{outer}`"),
            "it is not in the program",
        )),
    }
}
