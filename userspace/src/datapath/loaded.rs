//! Programs over the maps that are live, or about to be: an interface's own, and the slow path
//! that all interfaces have in common.

use std::{os::fd::AsFd as _, path::Path, sync::Arc};

use aya::{
    Ebpf,
    maps::{Map, MapData},
    programs::ProgramError,
};
use kordon_ebpf::layout::{mode, trace};

use super::{
    DatapathError,
    faults::{Step, reach},
    ledger::{self, LedgerMaps},
    maps::{Maps, id, pinned, uses},
    pins::{PATHS, Pins},
    programs::{self, FAST, GUARD_FAST, GUARD_SLOW, SLOW, program, put_slow},
    system::{maps_of, slot},
};
use crate::compile::table::Tier;

/// What programs are told when they are loaded.
#[derive(Clone, Copy)]
pub(super) struct Told {
    /// To log each verdict.
    pub(super) log: bool,
    /// Lines of the ledger for each CPU.
    pub(super) lines: u32,
}

/// Where the maps of programs are pinned, and what these are told.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) pins: &'a Pins,
    pub(super) folder: &'a Path,
    pub(super) tier: Tier,
    pub(super) told: Told,
}

impl Maps {
    /// Where programs over them are loaded from.
    pub(super) fn source<'a>(&'a self, pins: &'a Pins, told: Told) -> Source<'a> {
        Source {
            pins,
            folder: &self.folder,
            tier: self.tier,
            told,
        }
    }
}

impl Source<'_> {
    /// Loads the program of a port.
    pub(super) fn fast(self, port: u32) -> Result<Ebpf, DatapathError> {
        self.load(&[FAST], Some(port))
    }

    /// Loads the slow path.
    pub(super) fn slow(self) -> Result<Ebpf, DatapathError> {
        self.load(&[SLOW], None)
    }

    /// Loads what the guards call.
    pub(super) fn guard_paths(self) -> Result<Ebpf, DatapathError> {
        self.load(&[GUARD_SLOW, GUARD_FAST], None)
    }

    /// What loads something from here, on whatever thread.
    pub(super) fn later<T: Send + 'static>(
        self,
        load: impl FnOnce(Source<'_>) -> T + Send + 'static,
    ) -> impl FnOnce() -> T + Send + 'static {
        let Self { tier, told, .. } = self;
        let (pins, folder) = (self.pins.clone(), self.folder.to_owned());
        move || {
            load(Source {
                pins: &pins,
                folder: &folder,
                tier,
                told,
            })
        }
    }

    fn load(self, names: &[&'static str], port: Option<u32>) -> Result<Ebpf, DatapathError> {
        let trace = if self.told.log { trace::ON } else { trace::OFF };
        let mut loader = pinned(self.tier, self.folder)
            .constant("MODE", mode::LIVE)
            .constant("TRACE", trace)
            .constant("LINES", self.told.lines)
            .constant("BUDGET", ledger::BUDGET)
            .pin("COUNTERS", self.pins.shared("counters"));
        for (name, map) in ledger::NAMES {
            loader = loader.pin(map, self.pins.shared(&ledger::pin(name)));
        }
        if names.contains(&GUARD_FAST) {
            loader = loader.pin("PATHS", self.pins.shared(PATHS));
        }
        if !self.told.log {
            loader = loader.entries("AYA_LOGS", programs::NO_LOG);
        }
        if let Some(port) = port {
            loader = loader.constant("PORT", port);
        }
        programs::load(loader, self.tier, names, (mode::LIVE, trace))
    }
}

/// Whether a program that was loaded just now is over these maps: loading makes those anew
/// whose pins it does not find.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn is_over(
    ebpf: &Ebpf,
    name: &str,
    maps: &Maps,
    counting: &Counting,
) -> Result<bool, DatapathError> {
    let what = || "ask for the maps of a program";
    let program = ebpf.program(name).ok_or(ProgramError::NotLoaded);
    let program = program.and_then(|program| program.fd());
    let program = program.map_err(|e| DatapathError::new(what(), e))?;
    let used = maps_of(program.as_fd()).map_err(|e| DatapathError::new(what(), e))?;
    let (planes, slow) = (&maps.planes.map, &maps.slow);
    let read: &[&MapData] = match name {
        FAST => &[planes, &maps.generations, &maps.tables, &maps.work, slow],
        GUARD_FAST => &[planes],
        _ => &[&maps.generations, &maps.tables, &maps.work],
    };
    let Counting { counters, ledger } = counting;
    let counters: [&MapData; 1] = [counters];
    let mut all = read.iter().copied().chain(counters).chain(ledger.written());
    Ok(all.all(|map| uses(&used, map)))
}

/// What programs count in.
pub(super) struct Counting {
    pub(super) counters: Arc<MapData>,
    pub(super) ledger: LedgerMaps,
}

/// What to say where it is not.
pub(super) fn unpinned() -> DatapathError {
    // The next look pins the live ones again.
    let why = "somebody removed pins of its maps meanwhile";
    DatapathError::new("load the program", why).costly()
}

/// The slow path, where programs of interfaces call it.
pub(super) struct Slow {
    ebpf: Ebpf,
    /// Ids of the program, and of the array that it is in.
    program: u32,
    array: u32,
}

impl Slow {
    /// Puts it in place.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn new(
        source: Source<'_>,
        preloaded: Option<Ebpf>,
        maps: &Maps,
        counting: &Counting,
    ) -> Result<Self, DatapathError> {
        let mut ebpf = match preloaded {
            Some(ebpf) => ebpf,
            None => source.slow()?,
        };
        let array = id(&maps.slow)?;
        let is_in_place = match ebpf.map("SLOW") {
            Some(Map::ProgramArray(own)) => id(own)? == array,
            _ => false,
        };
        if !is_in_place || !is_over(&ebpf, SLOW, maps, counting)? {
            return Err(unpinned());
        }
        reach(Step::Slow)?;
        put_slow(&ebpf)?;
        let program = program(&mut ebpf, SLOW)?.info();
        let program = program.map_err(|e| DatapathError::new("ask for the slow path", e))?;
        Ok(Self {
            program: program.id(),
            array,
            ebpf,
        })
    }

    /// Id of the program.
    pub(super) fn id(&self) -> u32 {
        self.program
    }

    /// Whether it is the one of these maps.
    pub(super) fn is_of(&self, maps: &Maps) -> bool {
        id(&maps.slow).is_ok_and(|array| array == self.array)
    }

    /// Puts it in place again where somebody took it away: without it, whatever the fast path
    /// does not decide is dropped. Whether that was so.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn put_again(&mut self, maps: &Maps) -> Result<bool, DatapathError> {
        let there = slot(&maps.slow, 0);
        if !self.is_of(maps) || there.is_ok_and(|there| there == Some(self.program)) {
            return Ok(false);
        }
        put_slow(&self.ebpf).map(|()| true)
    }
}
