//! Changes of the live table in place, and the grace periods between them.

use std::sync::Arc;

use aya::maps::MapData;

use super::{
    DatapathError,
    faults::{Step, reach},
    kernel::Datapath,
    maps::wait,
    memory::Mapped,
    probe::Prober,
};
use crate::compile::{
    amend::{AmendError, Editor, Ground, LiveTable, Patch},
    generation::NewClasses,
    table::Full,
};

/// What a generation is called, and its table.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// `Generation::hash`.
    pub hash: [u8; 32],
    /// `Generation::table_key`.
    pub table_key: [u8; 32],
}

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

    /// Lets `ask` give packets to the program over what is live, both ways.
    ///
    /// # Errors
    /// What `ask` says, that the kernel refuses, or that there is nothing to ask with: what is
    /// not proven is not right.
    pub fn ask_live(
        &mut self,
        ask: impl FnOnce(&mut Prober) -> Result<(), String>,
    ) -> Result<(), String> {
        let generation = self.maps.as_ref().and_then(|maps| {
            let generation = maps.generation.as_ref()?;
            Some((maps, generation))
        });
        let (Some((maps, generation)), Some(prober), Some(table)) =
            (generation, &mut self.prober, &self.table)
        else {
            return Err("there is nothing to prove it with".to_owned());
        };
        if prober.tier() != maps.tier {
            return Err("there is nothing of its tier to prove it with".to_owned());
        }
        let slot = generation.generation().table_slot;
        reach(Step::Ask)
            .and_then(|()| prober.set_table(slot, &table.map))
            .and_then(|()| prober.copy_generation(generation))
            .map_err(|e| e.to_string())?;
        prober.copy_planes(&maps.planes);
        ask(prober)
    }

    /// What is live is not what it should be: it loses its name, so that the next publish
    /// replaces all of it, and until then the class plane decides alone.
    pub fn distrust(&mut self) {
        self.editor = None;
        if let Some(maps) = &mut self.maps {
            maps.planes.set_planes_number(0);
            if let Some(generation) = &mut maps.generation {
                generation.rename_generation([0; 32], [0; 32]);
            }
        }
    }

    /// Gives the live generation more classes, of which its table has none yet.
    ///
    /// # Errors
    /// When it has no room for them, or their ordinals cannot be kept.
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
        reach(Step::Classes)?;
        // Whose an ordinal is, is known before a class has it.
        if let Some(directory) = &classes.directory {
            self.directory_map.append(directory)?;
            self.directory = Arc::new(directory.clone());
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
        self.unsettle();
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
        let make_room = |editor: &mut Editor| {
            if editor.is_short() {
                wait(&maps.generations, generation)?;
                editor.reuse();
            }
            Ok::<_, DatapathError>(())
        };
        for (top, ranges) in &patch.v4 {
            reach(Step::Amend)?;
            make_room(editor)?;
            editor.set_v4(&mut table, &mut planes, ground, (*top, ranges))?;
        }
        for (slot, ranges) in &patch.v6 {
            reach(Step::Amend)?;
            make_room(editor)?;
            editor.set_v6(&mut table, &mut planes, ground, (*slot, ranges))?;
        }
        generation.rename_generation(names.hash, names.table_key);
        self.settle();
        Ok(())
    }
}
