//! What a candidate has made: maps, pins, programs of another tier; and the steps with them, in their order: `write`,
//! (the proof), `load_programs`, `place`, `swap`, `settle`; or `undo`.

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use aya::Ebpf;
use kordon_ebpf::layout::{TABLE_SLOTS, UNSETTLED};

use super::Published;
use crate::{
    compile::{
        generation::Rules,
        joined,
        plane::FlatPlanes,
        table::{FlatTable, Tier},
    },
    datapath::{
        DatapathError,
        faults::{Step, reach},
        kernel::Datapath,
        loaded::Slow,
        maps::Maps,
        memory::{Mapped, table_size},
        pins::remove_folder,
        probe::Prober,
        system::{clear_slot, set_slot},
    },
};

/// Whether programs load in the order in which other processors store. Then a program that
/// sees the planes' number has not read what was there before; elsewhere all that could have
/// done so are waited for. Tests wait everywhere.
const IN_ORDER: bool = cfg!(any(target_arch = "x86", target_arch = "x86_64")) && !cfg!(test);

/// What there is of a candidate.
pub(super) struct Made {
    /// Those that are live, or of another tier.
    pub(super) maps: Maps,
    /// The folder of another tier's was made for it.
    pub(super) folder: bool,
    pub(super) prober: Prober,
    pub(super) generation: Mapped,
    pub(super) number: u64,
    pub(super) table_slot: u32,
    /// The table of the live generation stays.
    pub(super) kept: bool,
    pub(super) table: Option<Mapped>,
    pub(super) planes: Option<FlatPlanes>,
    pub(super) pins: Vec<PathBuf>,
    /// Of another tier: the slow path, what guards judge by, and the programs of interfaces by port.
    pub(super) slow: Option<Slow>,
    pub(super) guard_paths: Option<Ebpf>,
    pub(super) programs: BTreeMap<u32, Ebpf>,
}

/// Says what went wrong where nothing depends on it.
fn warn(result: Result<(), DatapathError>) {
    if let Err(e) = result {
        tracing::warn!("{e}");
    }
}

/// What was taken, or maps that nobody needs.
fn give_back(datapath: &mut Datapath, maps: Maps, folder: bool) {
    let tier = maps.tier;
    if datapath.maps.is_none() {
        datapath.maps = Some(maps);
    } else if folder {
        drop(maps);
        remove(datapath, tier);
    }
}

pub(super) fn remove(datapath: &Datapath, tier: Tier) {
    let what = || format!("remove the maps of the {} tier", tier.as_str());
    let removed = datapath
        .pins
        .tier(tier)
        .and_then(|folder| remove_folder(&folder).map_err(|e| DatapathError::new(what(), e)));
    warn(removed.map(drop));
}

/// Planes that are off, and come back where it is dropped.
struct Off<'a> {
    planes: &'a Mapped,
    number: u64,
}

impl<'a> Off<'a> {
    fn new(planes: &'a Mapped) -> Self {
        let number = planes.planes_number();
        planes.set_planes_number(0);
        Self { planes, number }
    }
}

impl Drop for Off<'_> {
    fn drop(&mut self) {
        self.planes.set_planes_number(self.number);
    }
}

impl Made {
    /// Writes the table, unless the live one stays, and derives planes.
    pub(super) fn write(
        &mut self,
        datapath: &mut Datapath,
        rules: &Rules,
        table: Option<&FlatTable>,
    ) -> Result<(), DatapathError> {
        let tier = self.maps.tier;
        let Rules {
            fixed, class_words, ..
        } = rules;
        let (planes, set) = match table {
            Some(table) if !self.kept => {
                reach(Step::Table)?;
                let mut mapped = Mapped::create("kordon_table", table_size(tier))?;
                mapped.write_table(tier, table);
                self.pins
                    .push(self.maps.pin("table", self.number, &mapped)?);
                let map = &self.table.insert(mapped).map;
                // The prober waits for a grace period meanwhile.
                let (prober, slot) = (&mut self.prober, self.table_slot);
                std::thread::scope(|scope| {
                    let set = scope.spawn(|| prober.set_table(slot, map));
                    let planes = FlatPlanes::build(fixed, class_words, table, tier);
                    (planes, joined(set))
                })
            }
            _ => {
                let mapped = match &mut datapath.table {
                    Some(mapped) => mapped,
                    none => none.insert(Mapped::of(self.maps.table(self.table_slot)?)?),
                };
                let live = mapped.live_table(tier);
                let planes = FlatPlanes::build(fixed, class_words, &live, tier);
                (planes, self.prober.set_table(self.table_slot, &mapped.map))
            }
        };
        set?;
        self.prober.copy_generation(&self.generation)?;
        self.prober.set_planes(&planes);
        self.planes = Some(planes);
        Ok(())
    }

    /// Loads programs for what is attached, if they are to be others than those that are there.
    pub(super) fn load_programs(&mut self, datapath: &mut Datapath) -> Result<(), DatapathError> {
        if datapath.live().is_none() {
            return Ok(());
        }
        let source = self.maps.source(&datapath.pins, datapath.told);
        if datapath.guard_paths.is_some() {
            self.guard_paths = Some(source.guard_paths()?);
        }
        for (port, device) in datapath.pins.devices() {
            if datapath.find(&device)?.is_none() {
                continue;
            }
            reach(Step::Programs)?;
            if self.slow.is_none() {
                let slow = Slow::new(source, None, &self.maps, &datapath.counting)?;
                self.slow = Some(slow);
            }
            self.programs.insert(port, source.fast(port)?);
        }
        Ok(())
    }

    /// Puts the table where the generation looks for it, and nothing that is live does.
    pub(super) fn place(&self) -> Result<(), DatapathError> {
        let Some(table) = &self.table else {
            return Ok(());
        };
        reach(Step::Place)?;
        set_slot(&self.maps.tables, self.table_slot, &table.map)
            .map_err(|e| DatapathError::new("put the table in place", e))
    }

    /// The commit. Until the new planes are written all packets go through the class plane:
    /// it waits for those that saw the old ones.
    pub(super) fn swap(&self) -> Result<(), DatapathError> {
        let mut off = Off::new(&self.maps.planes);
        reach(Step::Swap)?;
        set_slot(&self.maps.generations, 0, &self.generation.map)
            .map_err(|e| DatapathError::new("swap generations", e))?;
        off.number = 0;
        Ok(())
    }

    /// It is live. Planes come back, what was before is freed, interfaces follow.
    pub(super) fn settle(mut self, datapath: &mut Datapath, start: Instant) -> Published {
        let tier = self.maps.tier;
        let mut has_planes = false;
        if let Some(planes) = &self.planes {
            self.maps.planes.write_planes(tier, planes);
            // Until all programs are those of these maps.
            self.maps.planes.set_settled(UNSETTLED);
            match self.wait() {
                Ok(()) => {
                    self.maps.planes.set_planes_number(self.number);
                    has_planes = true;
                }
                Err(e) => tracing::warn!("the verdict planes stay off for now: {e}"),
            }
        }
        let swap = start.elapsed();
        let table_written = self.table.is_some();
        if let Some(table) = self.table.take() {
            datapath.table = Some(table);
            datapath.editor = None;
            let old = (self.table_slot + 1) % TABLE_SLOTS;
            let (prober, tables) = (&mut self.prober, &self.maps.tables);
            // Each waits for a grace period.
            std::thread::scope(|scope| {
                scope.spawn(|| warn(prober.clear_table(old)));
                warn(reach(Step::Free).and_then(|()| {
                    clear_slot(tables, old).map_err(|e| DatapathError::new("free the old table", e))
                }));
            });
        }
        match &mut datapath.editor {
            Some(editor) if has_planes => {
                // The swap waited for all programs.
                editor.reuse();
                let planes = self.maps.planes.live_planes(tier);
                editor.new_planes(&planes, self.generation.generation());
            }
            editor => *editor = None,
        }
        self.maps.generation = Some(self.generation);
        self.maps.remove_stale_pins();
        datapath.prober = Some(self.prober);
        let behind = match datapath.maps.take() {
            None => {
                datapath.maps = Some(self.maps);
                Vec::new()
            }
            Some(_) => datapath.change_tier(self.maps, self.slow, self.guard_paths, self.programs),
        };
        datapath.settle();
        Published {
            number: self.number,
            table_written,
            swap,
            behind,
        }
    }

    /// A program that sees the planes' number must not have read what was there before.
    fn wait(&self) -> Result<(), DatapathError> {
        if IN_ORDER {
            return Ok(());
        }
        reach(Step::Wait)?;
        set_slot(&self.maps.generations, 0, &self.generation.map)
            .map_err(|e| DatapathError::new("wait for all programs", e))
    }

    /// It did not become live, and leaves no trace.
    pub(super) fn undo(mut self, datapath: &mut Datapath) {
        for pin in &self.pins {
            let _ = std::fs::remove_file(pin);
        }
        if self.table.is_some() {
            let cleared = clear_slot(&self.maps.tables, self.table_slot);
            warn(cleared.map_err(|e| DatapathError::new("free a table", e)));
            warn(self.prober.clear_table(self.table_slot));
        }
        // Otherwise that of the live tier is still there.
        if datapath.maps.is_none() {
            datapath.prober = Some(self.prober);
        }
        give_back(datapath, self.maps, self.folder);
    }
}
