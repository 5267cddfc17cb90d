//! Changes of the live table and of the live rules in place, and the grace periods
//! between them.

use std::{net::IpAddr, time::Instant};

use aya::maps::MapData;
use kordon_ebpf::layout::{
    Action, GROUP_MASK, Generation, VERDICT_ACTION_SHIFT, VERDICT_SPOOFED, VERDICT_STEPS,
};

use super::{
    DatapathError,
    kernel::Datapath,
    memory::{Mapped, Rewording},
    probe::Prober,
    publish::Published,
    system::set_slot,
};
use crate::compile::{
    amend::{AmendError, Editor, Ground, LiveTable, Patch, Wanted},
    directory::Directory,
    generation::{NewClasses, Rules},
    table::Full,
};

/// More parts of the planes than this are derived sooner as a whole.
const MANY_AREAS: usize = 1024;
/// Addresses that are asked for when rules change in place.
const ASKED: usize = 64;

/// What a live table is called after it was changed.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// `Generation::hash`.
    pub hash: [u8; 32],
    /// `Generation::table_key`.
    pub table_key: [u8; 32],
}

/// Proves what the rules in a prober say of some addresses.
pub type ProveAddresses<'a> = dyn FnMut(&mut Prober, &[IpAddr]) -> Result<(), String> + 'a;

/// Why the live table was not changed, or not whole: it is to be replaced.
#[derive(Debug, thiserror::Error)]
pub enum NotAmended {
    /// It cannot be.
    #[error(transparent)]
    Amend(#[from] AmendError),
    /// The kernel has something against it.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// There is nothing live that could be changed.
    #[error("there is no live table with verdict planes")]
    NotLive,
    /// More than class words would change.
    #[error("more than the verdicts of some destinations changes, or not all in one way")]
    OtherRules,
    /// What is in the kernel does not judge as it should.
    #[error("{0}")]
    Wrong(String),
}

impl Datapath {
    /// Maps the live table and looks for its free places, unless that was done; the first
    /// change does it otherwise.
    ///
    /// # Errors
    /// When there is no live table, or it cannot be mapped.
    pub fn warm_editor(&mut self) -> Result<(), NotAmended> {
        let live = self.live().filter(|live| live.planes);
        let (Some(live), Some(maps)) = (live, &mut self.maps) else {
            return Err(NotAmended::NotLive);
        };
        let Some(generation) = &maps.generation else {
            return Err(NotAmended::NotLive);
        };
        let fixed = generation.generation();
        if self.table.is_none() {
            let pinned: MapData = maps.table(fixed.table_slot)?;
            self.table = Some(Mapped::of(pinned)?);
        }
        let Some(table) = &mut self.table else {
            return Err(NotAmended::NotLive);
        };
        if self.editor.is_none() {
            let table = table.live_table(live.tier);
            let planes = maps.planes.live_planes(live.tier);
            self.editor = Some(Editor::new(&table, &planes, fixed));
        }
        Ok(())
    }

    /// Reads the live table.
    ///
    /// # Errors
    /// As [`Self::warm_editor`].
    pub fn read_table<T>(
        &mut self,
        read: impl FnOnce(&LiveTable<'_>) -> T,
    ) -> Result<T, NotAmended> {
        self.warm_editor()?;
        match (self.live(), &mut self.table) {
            (Some(live), Some(table)) => Ok(read(&table.live_table(live.tier))),
            _ => Err(NotAmended::NotLive),
        }
    }

    /// Looks at the live generation and at whose counters are whose.
    pub fn with_generation<T>(
        &self,
        look: impl FnOnce(&Generation<0>, &Directory) -> Option<T>,
    ) -> Option<T> {
        let generation = self.maps.as_ref()?.generation.as_ref()?;
        look(generation.generation(), &self.directory)
    }

    /// Lets `ask` give packets to the program over what is live, both ways. Where no
    /// instance is loaded for that, nothing is asked.
    ///
    /// # Errors
    /// What `ask` says, or that the kernel refuses.
    pub fn ask_live(
        &mut self,
        ask: impl FnOnce(&mut Prober) -> Result<(), String>,
    ) -> Result<(), String> {
        let (Some(prober), Some(maps), Some(table)) = (&mut self.prober, &self.maps, &self.table)
        else {
            return Ok(());
        };
        let Some(generation) = &maps.generation else {
            return Ok(());
        };
        if prober.tier() != maps.tier {
            return Ok(());
        }
        let slot = generation.generation().table_slot;
        prober
            .set_table(slot, &table.map)
            .map_err(|e| e.to_string())?;
        prober
            .copy_generation(generation)
            .map_err(|e| e.to_string())?;
        prober.copy_planes(&maps.planes);
        ask(prober)
    }

    /// Makes other rules live in place, where they differ from the live ones in the verdicts
    /// of some classes alone, and get stricter in each zone, or milder: one ASN more that is
    /// blocked. Each is one word, so that a packet is judged by the old rules or the new ones. `rules` are compiled like the live ones
    /// ([`compile_like`](crate::compile::generation::compile_like)). `prove` sees the new ones beside the live
    /// ones first, in the kernel, with some addresses that change; and again what is live
    /// then.
    ///
    /// # Errors
    /// When more differs, or too much. Where what is live then is not as it should be, it has
    /// no name, and is to be replaced.
    pub fn publish_in_place(
        &mut self,
        rules: &mut Rules,
        directory: &Directory,
        prove: &mut ProveAddresses<'_>,
    ) -> Result<Published, NotAmended> {
        // What has no name is not what the caller takes it for.
        let live = self
            .live()
            .filter(|live| live.planes && live.hash != [0; 32]);
        let generation = self.maps.as_ref().and_then(|maps| maps.generation.as_ref());
        let (Some(live), Some(generation)) = (live, generation) else {
            return Err(NotAmended::NotLive);
        };
        rules.fixed.table_slot = generation.generation().table_slot;
        let new = generation.rewording(rules).ok_or(NotAmended::OtherRules)?;
        let words = generation.class_words(rules.class_words.len());
        if !is_one_way(rules, words, &new) {
            return Err(NotAmended::OtherRules);
        }
        self.warm_editor()?;
        let (Some(maps), Some(table), Some(editor), Some(prober)) = (
            &mut self.maps,
            &mut self.table,
            &mut self.editor,
            &mut self.prober,
        ) else {
            return Err(NotAmended::NotLive);
        };
        let Some(generation) = maps
            .generation
            .as_mut()
            .filter(|_| prober.tier() == live.tier)
        else {
            return Err(NotAmended::NotLive);
        };
        prober.set_table(rules.fixed.table_slot, &table.map)?;
        let table = table.live_table(live.tier);
        let changes = Wanted::of(new.words.iter().map(|(class, _)| *class));
        let areas = table.areas_of(&changes);
        if areas.len() > MANY_AREAS {
            return Err(NotAmended::OtherRules);
        }
        let asked = table.addresses_of(&areas, &changes, ASKED);
        prober.copy_generation(generation)?;
        prober.own_generation()?.reword(&new);
        prober.forget_planes();
        prove(prober, &asked).map_err(NotAmended::Wrong)?;

        // Whose a counter is, is known before it counts.
        self.directory_map.append(directory)?;
        self.directory = directory.clone();
        let start = Instant::now();
        if editor.is_short() {
            wait(&maps.generations, generation)?;
            editor.settle();
        }
        generation.rename_generation([0; 32], live.table_key);
        for (index, slot) in &new.pages {
            maps.planes.set_planes_asn_page(*index, *slot);
        }
        let mut planes = maps.planes.live_planes(live.tier);
        editor.ask(&planes, &areas);
        generation.reword(&new);
        let ground = Ground {
            fixed: generation.generation(),
            class_words: generation.class_words(rules.class_words.len()),
        };
        editor.derive(&table, &mut planes, ground, &areas);
        // In between, planes say nothing of drops and the class plane does.
        let number = live.number + 1;
        generation.renumber_generation(number);
        maps.planes.set_planes_number(number);
        let swap = start.elapsed();
        prober.copy_generation(generation)?;
        prober.copy_planes(&maps.planes);
        prove(prober, &asked).map_err(NotAmended::Wrong)?;
        generation.rename_generation(rules.fixed.hash, live.table_key);
        Ok(Published {
            number,
            table_written: false,
            swap,
        })
    }

    /// Whether rules are the live ones, but for their names.
    #[must_use]
    pub fn is_live(&self, rules: &Rules) -> bool {
        let generation = self.maps.as_ref().and_then(|maps| maps.generation.as_ref());
        let Some(generation) = generation else {
            return false;
        };
        let mut rules = rules.clone();
        rules.fixed.table_slot = generation.generation().table_slot;
        rules.fixed.table_key = generation.generation().table_key;
        rules.kept_groups = Some(u32::MAX);
        generation.rewording(&rules) == Some(Rewording::default())
    }

    /// Gives the live generation more classes, of which its table has none yet.
    ///
    /// # Errors
    /// When it has no room for them, or their counters cannot be kept.
    pub fn add_classes(&mut self, classes: &NewClasses) -> Result<(), NotAmended> {
        let live = self.live();
        let (Some(live), Some(maps)) = (live, &mut self.maps) else {
            return Err(NotAmended::NotLive);
        };
        let Some(generation) = &mut maps.generation else {
            return Err(NotAmended::NotLive);
        };
        if classes.first + classes.words.len() > live.tier.capacity().classes {
            return Err(AmendError::Full(Full("classes")).into());
        }
        // Whose a counter is, is known before it counts.
        if let Some(directory) = &classes.directory {
            self.directory_map.append(directory)?;
            self.directory = directory.clone();
        }
        for (index, slot) in &classes.pages {
            generation.set_asn_page(*index, *slot);
            maps.planes.set_planes_asn_page(*index, *slot);
        }
        for (class, word) in (classes.first..).zip(&classes.words) {
            generation.set_class_word(class, *word);
        }
        Ok(())
    }

    /// Makes the live table what a patch says, place by place, and calls it by other
    /// names: meanwhile it has none that any controller would take for another's.
    ///
    /// # Errors
    /// What was changed until then stays; the rest is as it was. A new table is to be
    /// published.
    pub fn amend(&mut self, patch: &Patch, classes: usize, names: Names) -> Result<(), NotAmended> {
        self.warm_editor()?;
        let live = self.live();
        let (Some(live), Some(maps), Some(table), Some(editor)) =
            (live, &mut self.maps, &mut self.table, &mut self.editor)
        else {
            return Err(NotAmended::NotLive);
        };
        let Some(generation) = &mut maps.generation else {
            return Err(NotAmended::NotLive);
        };
        generation.rename_generation([0; 32], [0; 32]);
        let mut table = table.live_table(live.tier);
        let mut planes = maps.planes.live_planes(live.tier);
        let ground = Ground {
            fixed: generation.generation(),
            class_words: generation.class_words(classes),
        };
        let settle = |editor: &mut Editor| {
            if editor.is_short() {
                wait(&maps.generations, generation)?;
                editor.settle();
            }
            Ok::<_, DatapathError>(())
        };
        for (top, ranges) in &patch.v4 {
            settle(editor)?;
            editor.set_v4(&mut table, &mut planes, ground, (*top, ranges))?;
        }
        for (slot, ranges) in &patch.v6 {
            settle(editor)?;
            editor.set_v6(&mut table, &mut planes, ground, (*slot, ranges))?;
        }
        generation.rename_generation(names.hash, names.table_key);
        Ok(())
    }
}

/// Whether no zone gets stricter for some destinations and milder for others. A packet of
/// which the source is looked up, too, might otherwise get the old verdict of one address and
/// the new one of the other, and pass where neither rules let it.
fn is_one_way(rules: &Rules, words: &[u32], new: &Rewording) -> bool {
    let zones = rules.fixed.zones.iter().filter(|zone| zone.settings != 0);
    zones.into_iter().all(|zone| {
        let word = |class_word: u32| {
            let index = zone.verdict_base + (class_word & GROUP_MASK);
            rules.fixed.verdicts[index as usize]
        };
        let pairs = (new.words.iter()).map(|(class, new)| (word(words[*class]), word(*new)));
        let is_stricter = |old: u32, new: u32| {
            mildest(new) >= strictest(old) && new & VERDICT_SPOOFED >= old & VERDICT_SPOOFED
        };
        let pairs = pairs.filter(|(old, new)| old != new);
        pairs.clone().all(|(old, new)| is_stricter(old, new))
            || pairs.clone().all(|(old, new)| is_stricter(new, old))
    })
}

/// The strictest that a verdict word says of any packet.
fn strictest(word: u32) -> Action {
    match word & VERDICT_STEPS {
        0 => Action::from_bits(word >> VERDICT_ACTION_SHIFT & 3),
        _ => Action::Drop,
    }
}

/// The mildest.
fn mildest(word: u32) -> Action {
    match word & VERDICT_STEPS {
        0 => Action::from_bits(word >> VERDICT_ACTION_SHIFT & 3),
        _ => Action::Pass,
    }
}

/// Waits until no program runs that was there before: an update of an array of maps
/// returns then, whatever it changes.
fn wait(generations: &MapData, generation: &Mapped) -> Result<(), DatapathError> {
    set_slot(generations, 0, &generation.map)
        .map_err(|e| DatapathError::new("wait for programs to end", e))
}
