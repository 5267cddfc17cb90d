//! A generation made live: written beside the live one, proven, and put in its place by
//! one pointer.

use std::time::{Duration, Instant};

use kordon_ebpf::layout::TABLE_SLOTS;

use super::{
    DatapathError, interface,
    kernel::Datapath,
    maps::Maps,
    memory::{Mapped, generation_size, table_size},
    probe::Prober,
    system::{clear_slot, set_slot},
};
use crate::compile::{
    directory::Directory,
    generation::Rules,
    joined,
    plane::FlatPlanes,
    table::{FlatTable, Tier},
};

/// A generation that was made live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub number: u64,
    /// Whether a table was written, or the live one kept.
    pub table_written: bool,
    /// How long the pointer swap took.
    pub swap: Duration,
}
/// Says what went wrong where nothing depends on it.
fn warn(result: Result<(), DatapathError>) {
    if let Err(e) = result {
        tracing::warn!("{e}");
    }
}
impl Datapath {
    /// Writes a generation (and its table, unless the live one has the same key)
    /// beside the live one, lets `prove` look at it in the kernel, then swaps.
    /// Sets the number and the table's slot in `rules`; hash and key are the caller's.
    ///
    /// # Errors
    /// When the kernel refuses, or `prove` does; what was live stays live.
    pub fn publish(
        &mut self,
        rules: &mut Rules,
        table: &FlatTable,
        tier: Tier,
        directory: &Directory,
        prove: &mut dyn FnMut(&mut Prober) -> Result<(), String>,
    ) -> Result<Published, DatapathError> {
        self.publish_over(rules, Some(table), tier, directory, prove)
    }

    /// As [`Self::publish`], over the table that is live, as it is.
    ///
    /// # Errors
    /// When there is none with the key of `rules`; and as `publish`.
    pub fn publish_rules(
        &mut self,
        rules: &mut Rules,
        directory: &Directory,
        prove: &mut dyn FnMut(&mut Prober) -> Result<(), String>,
    ) -> Result<Published, DatapathError> {
        let tier = match self.live() {
            Some(live) if live.table_key == rules.fixed.table_key => live.tier,
            _ => {
                return Err(DatapathError::new(
                    "write the new rules",
                    "their table is not live",
                ));
            }
        };
        self.publish_over(rules, None, tier, directory, prove)
    }

    fn publish_over(
        &mut self,
        rules: &mut Rules,
        table: Option<&FlatTable>,
        tier: Tier,
        directory: &Directory,
        prove: &mut dyn FnMut(&mut Prober) -> Result<(), String>,
    ) -> Result<Published, DatapathError> {
        let number = self.maps.as_ref().map_or(0, Maps::number) + 1;
        let mut fresh = None;
        let maps = match &mut self.maps {
            Some(maps) if maps.tier == tier => maps,
            _ => fresh.insert(Maps::open(&self.pins, tier)?),
        };
        let mut prober = match self.prober.take() {
            Some(prober) if prober.tier() == tier => prober,
            _ => match self.preload.as_mut().and_then(|p| p.prober(tier)) {
                Some(prober) => prober,
                None => Prober::load(tier)?,
            },
        };

        let (table_slot, kept) = match maps.generation.as_ref().map(Mapped::generation) {
            Some(live) if live.table_key == rules.fixed.table_key => (live.table_slot, true),
            Some(live) => ((live.table_slot + 1) % TABLE_SLOTS, false),
            None => (0, false),
        };
        rules.fixed.table_slot = table_slot;
        rules.fixed.number = number;
        let mut written = Vec::new();
        let mut generation = Mapped::create("kordon_rules", generation_size(tier))?;
        generation.write_generation(rules);
        let mut new_table = None;
        let (planes, set) = match table {
            Some(table) if !kept => {
                let mut mapped = Mapped::create("kordon_table", table_size(tier))?;
                mapped.write_table(tier, table);
                written.push(maps.pin("table", number, &mapped)?);
                let table_map = &new_table.insert(mapped).map;
                // The prober waits for a grace period meanwhile.
                let (planes, set) = std::thread::scope(|scope| {
                    let set = scope.spawn(|| prober.set_table(table_slot, table_map));
                    let planes = FlatPlanes::build(&rules.fixed, &rules.class_words, table, tier);
                    (planes, joined(set))
                });
                (planes, set)
            }
            _ => {
                let mapped = match &mut self.table {
                    Some(mapped) => mapped,
                    none => none.insert(Mapped::of(maps.table(table_slot)?)?),
                };
                let live = mapped.live_table(tier);
                let planes = FlatPlanes::build(&rules.fixed, &rules.class_words, &live, tier);
                (planes, prober.set_table(table_slot, &mapped.map))
            }
        };
        let planes_before = maps.planes.planes_number();
        let result = (|| {
            set?;
            prober.copy_generation(&generation)?;
            prober.set_planes(&planes);
            prove(&mut prober).map_err(|e| DatapathError::new("prove the new rules", e))?;
            self.directory_map.append(directory)?;
            self.directory = directory.clone();
            written.push(maps.pin("generation", number, &generation)?);
            if let Some(table) = &new_table {
                set_slot(&maps.tables, table_slot, &table.map)
                    .map_err(|e| DatapathError::new("put the table in place", e))?;
            }
            let start = Instant::now();
            // Until the new ones are written all packets go through the class plane.
            // The swap waits for those that saw the old ones.
            maps.planes.set_planes_number(0);
            if let Err(e) = set_slot(&maps.generations, 0, &generation.map) {
                maps.planes.set_planes_number(planes_before);
                return Err(DatapathError::new("swap generations", e));
            }
            maps.planes.write_planes(tier, &planes);
            // A program that sees the number must not have read what was there before:
            // only some processors load in order.
            if !cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
                set_slot(&maps.generations, 0, &generation.map)
                    .map_err(|e| DatapathError::new("wait for all programs", e))?;
            }
            maps.planes.set_planes_number(number);
            maps.generation = Some(generation);
            Ok(start.elapsed())
        })();
        let swap = match result {
            Ok(swap) => swap,
            Err(e) => {
                // The prober is dropped with the candidate in it.
                for pin in written {
                    let _ = std::fs::remove_file(pin);
                }
                return Err(e);
            }
        };
        // What follows only frees memory; the new generation is live.
        if !kept {
            self.table = new_table;
            self.editor = None;
            let old = (table_slot + 1) % TABLE_SLOTS;
            // Each waits for a grace period.
            std::thread::scope(|scope| {
                scope.spawn(|| warn(prober.clear_table(old)));
                let freed = clear_slot(&maps.tables, old);
                warn(freed.map_err(|e| DatapathError::new("free the old table", e)));
            });
        }
        if let Some(editor) = &mut self.editor {
            // The swap waited for all programs.
            editor.settle();
            editor.new_planes(&maps.planes.live_planes(tier), &rules.fixed);
        }
        maps.remove_stale_pins();
        self.prober = Some(prober);
        if let Some(fresh) = fresh {
            self.change_tier(fresh)?;
        }
        Ok(Published {
            number,
            table_written: !kept,
            swap,
        })
    }

    /// Moves all programs to the maps of another tier, one atomic link update each.
    fn change_tier(&mut self, maps: Maps) -> Result<(), DatapathError> {
        self.maps = Some(maps);
        self.attached.clear();
        for (port, device) in self.pins.devices() {
            // A device that went away is attached anew when it comes back.
            if let Some(found) = interface::query(&device)? {
                self.adopt(&device, port, &found)?;
            }
        }
        self.retire();
        Ok(())
    }
}
