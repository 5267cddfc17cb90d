//! A generation made live: prepared, proven, committed.
//!
//! [`Datapath::prepare`] does all that can fail, beside what is live. A [`Candidate`] owns what
//! it has made (maps, pins, programs of another tier) and what it proves with; dropped, it takes
//! the one away and gives the other back. [`Candidate::commit`] is one pointer: it fails as a
//! whole, or all is live, and whatever fails after it costs memory or time and nothing else.

mod made;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use aya::Ebpf;
use kordon_ebpf::layout::TABLE_SLOTS;

use self::made::{Made, remove};
use super::{
    DatapathError,
    faults::{Step, reach},
    kernel::Datapath,
    loaded::Slow,
    maps::Maps,
    memory::{Mapped, generation_size},
    probe::Prober,
};
use crate::compile::{
    directory::Directory,
    generation::Rules,
    table::{FlatTable, Tier},
};

/// Proves what is in a prober.
pub type Prove<'a> = dyn FnMut(&mut Prober) -> Result<(), String> + 'a;

/// A generation that was made live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub number: u64,
    /// Whether a table was written, or the live one kept.
    pub table_written: bool,
    /// How long the pointer swap took.
    pub swap: Duration,
    /// Interfaces that did not follow to the maps of another tier, and why: they are judged by
    /// the generation before. [`Datapath::attach`] brings them along.
    pub behind: Vec<(String, String)>,
}

impl Datapath {
    /// Writes a generation (and its table, unless the live one has the same key) beside the
    /// live one, and lets `prove` look at it in the kernel. Sets the number and the table's
    /// slot in `rules`; hash and key are the caller's.
    ///
    /// # Errors
    /// When the kernel refuses, or `prove` does; what was live stays live.
    pub fn prepare(
        &mut self,
        rules: &mut Rules,
        table: &FlatTable,
        tier: Tier,
        directory: &Directory,
        prove: &mut Prove<'_>,
    ) -> Result<Candidate<'_>, DatapathError> {
        let mut candidate = Candidate::new(self, rules, tier)?;
        candidate.fill(rules, Some(table), directory, prove)?;
        Ok(candidate)
    }

    /// As [`Self::prepare`], over the table that is live, as it is.
    ///
    /// # Errors
    /// When there is none with the key of `rules`; and as `prepare`.
    pub fn prepare_rules(
        &mut self,
        rules: &mut Rules,
        directory: &Directory,
        prove: &mut Prove<'_>,
    ) -> Result<Candidate<'_>, DatapathError> {
        let tier = match self.live() {
            Some(live) if live.table_key == rules.fixed.table_key => live.tier,
            _ => {
                return Err(DatapathError::new(
                    "write the new rules",
                    "their table is not live",
                ));
            }
        };
        let mut candidate = Candidate::new(self, rules, tier)?;
        candidate.fill(rules, None, directory, prove)?;
        Ok(candidate)
    }

    /// [`Self::prepare`] and [`Candidate::commit`].
    ///
    /// # Errors
    /// As these; what was live stays live.
    pub fn publish(
        &mut self,
        rules: &mut Rules,
        table: &FlatTable,
        tier: Tier,
        directory: &Directory,
        prove: &mut Prove<'_>,
    ) -> Result<Published, DatapathError> {
        self.prepare(rules, table, tier, directory, prove)?.commit()
    }

    /// Moves all programs to the maps of another tier, one atomic link update each. Those
    /// that stay behind, and why.
    fn change_tier(
        &mut self,
        maps: Maps,
        slow: Option<Slow>,
        guard_paths: Option<Ebpf>,
        programs: BTreeMap<u32, Ebpf>,
    ) -> Vec<(String, String)> {
        let mut behind = Vec::new();
        // What guards have would go on with the rules of before.
        if let Some(paths) = &mut self.guard_paths
            && let Err(e) = paths.change(maps.tier, guard_paths)
        {
            tracing::error!("{e}");
        }
        (self.slow, self.ahead) = (slow, programs);
        self.maps = Some(maps);
        self.attached.clear();
        for (port, device) in self.pins.devices() {
            let followed = reach(Step::Follow).and_then(|()| match self.find(&device)? {
                Some(found) => self.adopt(&device, port, &found).map(drop),
                // A device that went away is attached anew when it comes back.
                None => Ok(()),
            });
            if let Err(e) = followed {
                tracing::error!("`{device}` is still judged by the rules of before: {e}");
                behind.push((device, e.to_string()));
            }
        }
        self.ahead.clear();
        self.retire();
        behind
    }
}

/// A generation that is prepared and proven, and not live.
pub struct Candidate<'a> {
    datapath: &'a mut Datapath,
    /// Until it is live.
    made: Option<Made>,
}

impl<'a> Candidate<'a> {
    /// Takes what it needs out of the datapath.
    fn new(
        datapath: &'a mut Datapath,
        rules: &mut Rules,
        tier: Tier,
    ) -> Result<Self, DatapathError> {
        // Whether that worked is said elsewhere; what fails for it here says so.
        let _ = datapath.pin_again();
        let number = datapath.maps.as_ref().map_or(0, Maps::number) + 1;
        let mut generation = Mapped::create("kordon_rules", generation_size(tier))?;
        // A wrong guess must not go on beside what is needed.
        datapath.preload.take_if(|preload| !preload.is_for(tier));
        // Before anything else is taken, since loading it takes long and can fail.
        let prober = match datapath.prober.take() {
            Some(prober) if prober.tier() == tier => prober,
            other => {
                datapath.prober = other;
                let preloaded = datapath.preload.as_mut().and_then(|p| p.prober(tier));
                match preloaded {
                    Some(prober) => prober,
                    None => {
                        reach(Step::Prober)?;
                        Prober::load(tier)?
                    }
                }
            }
        };
        let is_live = datapath.maps.as_ref().is_some_and(|maps| maps.tier == tier);
        let folder = !is_live && datapath.maps.is_some() && !datapath.pins.has(tier);
        let (maps, kept) = match datapath.maps.take() {
            Some(maps) if is_live => {
                let live = maps.generation.as_ref().map(Mapped::generation);
                let kept = live.is_some_and(|live| live.table_key == rules.fixed.table_key);
                (maps, kept)
            }
            live => {
                datapath.maps = live;
                let opened = reach(Step::Maps).and_then(|()| Maps::open(&datapath.pins, tier));
                if opened.is_err() && folder {
                    remove(datapath, tier);
                }
                (opened?, false)
            }
        };
        let live = maps.generation.as_ref().map(Mapped::generation);
        let table_slot = match live {
            Some(live) if kept => live.table_slot,
            Some(live) => (live.table_slot + 1) % TABLE_SLOTS,
            None => 0,
        };
        rules.fixed.table_slot = table_slot;
        rules.fixed.number = number;
        generation.write_generation(rules);
        Ok(Self {
            datapath,
            made: Some(Made {
                maps,
                folder,
                prober,
                generation,
                number,
                table_slot,
                kept,
                table: None,
                planes: None,
                pins: Vec::new(),
                slow: None,
                guard_paths: None,
                programs: BTreeMap::new(),
            }),
        })
    }

    /// Writes it, proves it, and does all else that may fail.
    fn fill(
        &mut self,
        rules: &Rules,
        table: Option<&FlatTable>,
        directory: &Directory,
        prove: &mut Prove<'_>,
    ) -> Result<(), DatapathError> {
        let Some(made) = &mut self.made else {
            return Err(gone());
        };
        made.write(self.datapath, rules, table)?;
        prove(&mut made.prober).map_err(|e| DatapathError::new("prove the new rules", e))?;
        made.load_programs(self.datapath)?;
        reach(Step::Directory)?;
        self.datapath.directory_map.append(directory)?;
        self.datapath.directory = Arc::new(directory.clone());
        reach(Step::Pin)?;
        let pin = made.maps.pin("generation", made.number, &made.generation)?;
        made.pins.push(pin);
        made.place()
    }

    /// Makes it live.
    ///
    /// # Errors
    /// When the kernel refuses; what was live stays live.
    pub fn commit(mut self) -> Result<Published, DatapathError> {
        let Some(made) = &mut self.made else {
            return Err(gone());
        };
        let start = Instant::now();
        made.swap()?;
        match self.made.take() {
            Some(made) => Ok(made.settle(self.datapath, start)),
            None => Err(gone()),
        }
    }
}

impl Drop for Candidate<'_> {
    fn drop(&mut self) {
        if let Some(made) = self.made.take() {
            made.undo(self.datapath);
        }
    }
}

fn gone() -> DatapathError {
    DatapathError::new("use a generation", "it was made live before")
}

#[cfg(test)]
pub(crate) mod tests;
