//! What guards judge by: a fast and a slow path over the live maps, in an array that the guards of
//! all interfaces call. The array outlives controllers and sizes of maps; what is in it is
//! exchanged at any moment, and no guard need be touched for that.
//!
//! The verifier takes as long with these programs as with all others together, and where XDP
//! enforces nothing waits for them: they are loaded beside everything else, and until they are in
//! place those of the controller before go on, or guards only count.

use std::{
    os::fd::AsFd as _,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use aya_obj::generated::bpf_map_type;

use super::{
    Attached, DatapathError,
    loaded::{Counting, Source, is_over},
    maps::{Maps, id},
    pins::{PATHS, Pins},
    programs::{GUARD_FAST, GUARD_SLOW},
    shared,
    system::{clear_slot, set_program, slot},
};
use crate::compile::table::Tier;

/// An interface that a guard is for.
#[derive(Clone, Copy, Debug)]
pub struct Guarded<'a> {
    /// What policies call it.
    pub name: &'a str,
    /// Its port.
    pub port: u32,
    /// What is before the guard; `None`: nothing, it decides, and counts, all.
    pub behind: Option<Attached>,
}

impl Guarded<'_> {
    pub(super) fn is_alone(&self) -> bool {
        self.behind.is_none()
    }

    pub(super) fn is_judged(&self) -> bool {
        is_judged(self.behind)
    }
}

/// Whether frames can be judged behind this. Behind generic XDP some kernels (6.18 among them)
/// leave tc without their Ethernet header: copies of packets lose the header's length
/// (`skb_pp_cow_data`), and what is read there is something else.
#[must_use]
pub fn is_judged(behind: Option<Attached>) -> bool {
    behind != Some(Attached::Generic)
}

/// Whether both paths are in the array.
pub(super) fn are_in_place(array: &MapData) -> bool {
    let is_there = |place| slot(array, place).is_ok_and(|there| there.is_some());
    PLACES.iter().all(|(place, _)| is_there(*place))
}

/// Their places in the array.
const PLACES: [(u32, &str); 2] = [(0, GUARD_FAST), (1, GUARD_SLOW)];

/// How far they are.
enum Paths {
    /// A thread loads them.
    Loading(JoinHandle<Result<Ebpf, DatapathError>>),
    /// They are in their places.
    There(Ebpf),
}

/// Why they could not be loaded. What was in the way may be gone later (pins that somebody removed, memory), so
/// it is tried again, more and more seldom, for an attempt may cost a processor a second.
struct Failed {
    why: String,
    at: Instant,
    /// How long until the next attempt.
    wait: Duration,
}

impl Failed {
    const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

    fn new(why: String, before: Option<&Self>) -> Self {
        let (least, most) = Self::WAIT;
        Self {
            why,
            at: Instant::now(),
            wait: before.map_or(least, |before| most.min(2 * before.wait)),
        }
    }

    fn is_due(&self) -> bool {
        self.at.elapsed() >= self.wait
    }
}

/// The array, and what is in it.
pub(super) struct GuardPaths {
    array: MapData,
    /// Of the maps of a tier; `None`: not begun.
    paths: Option<(Tier, Paths)>,
    /// Why the last attempt failed, until one succeeds.
    failed: Option<Failed>,
}

impl GuardPaths {
    /// The pinned array, or a new one.
    ///
    /// # Errors
    /// When it cannot be made, or something else is pinned there.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let kind = bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY;
        let places = PLACES.len() as u32;
        let array = shared::open(pins, PATHS, kind, (4, 4), places, 0)?;
        Ok(Self {
            array,
            paths: None,
            failed: None,
        })
    }

    /// The array.
    pub(super) fn array(&self) -> &MapData {
        &self.array
    }

    /// Puts those over other maps in place; without them, takes out whatever is there: it
    /// judges by rules that are not live any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn change(&mut self, tier: Tier, paths: Option<Ebpf>) -> Result<(), DatapathError> {
        (self.paths, self.failed) = (None, None);
        if let Some(paths) = paths {
            self.put(&paths)?;
            self.paths = Some((tier, Paths::There(paths)));
            return Ok(());
        }
        PLACES
            .iter()
            .try_for_each(|(place, _)| clear_slot(&self.array, *place))
            .map_err(|e| DatapathError::new("take away what guards judge by", e))
    }

    /// Puts both programs in their places, unless they are there. Whether they were not.
    fn put(&self, paths: &Ebpf) -> Result<bool, DatapathError> {
        let what = || "put in place what guards judge by";
        let mut changed = false;
        // What is called first comes last.
        for (place, name) in PLACES.into_iter().rev() {
            let program = paths
                .program(name)
                .ok_or_else(|| DatapathError::new(what(), "it is not in the object"))?;
            let info = program.info().map_err(|e| DatapathError::new(what(), e))?;
            if slot(&self.array, place).is_ok_and(|there| there == Some(info.id())) {
                continue;
            }
            let program = program.fd().map_err(|e| DatapathError::new(what(), e))?;
            set_program(&self.array, place, program.as_fd())
                .map_err(|e| DatapathError::new(what(), e))?;
            changed = true;
        }
        Ok(changed)
    }

    /// What a thread has loaded, in place if it is over these maps.
    fn loaded(
        &mut self,
        loaded: thread::Result<Result<Ebpf, DatapathError>>,
        maps: &Maps,
        counting: &Counting,
    ) -> Result<Option<Paths>, DatapathError> {
        let loaded = loaded.map_or_else(
            // One that panicked has been reported.
            |_| Err("loading them panicked".to_owned()),
            |loaded| loaded.map_err(|e| e.to_string()),
        );
        let paths = match loaded {
            Ok(paths) => paths,
            Err(why) => {
                let before = self.failed.as_ref();
                if before.is_none_or(|before| before.why != why) {
                    tracing::error!("guards only count: {why}");
                }
                self.failed = Some(Failed::new(why, before));
                return Ok(None);
            }
        };
        let is_in_array = match paths.map("PATHS") {
            Some(Map::ProgramArray(array)) => id(array)? == id(&self.array)?,
            _ => false,
        };
        for (_, name) in PLACES {
            // Somebody removed pins meanwhile, which are made again.
            if !is_in_array || !is_over(&paths, name, maps, counting)? {
                return Ok(None);
            }
        }
        self.put(&paths)?;
        self.failed = None;
        Ok(Some(Paths::There(paths)))
    }

    /// Sees to it that guards judge by what is live, as soon as that is to be had. Idempotent.
    /// `maps`: the live ones, from which `source` loads; `wait`: until guards judge by them, or it is known
    /// why they could not.
    ///
    /// # Errors
    /// When the kernel refuses what it may take at the next attempt.
    pub(super) fn tend(
        &mut self,
        source: Source<'_>,
        maps: &Maps,
        counting: &Counting,
        wait: bool,
    ) -> Result<(), DatapathError> {
        let paths = match self.paths.take().filter(|(of, _)| *of == maps.tier) {
            Some((_, Paths::There(paths))) => {
                if self.put(&paths)? {
                    tracing::warn!("somebody took away what guards judge by: it is back");
                }
                Some(Paths::There(paths))
            }
            None if self.failed.as_ref().is_some_and(|failed| !failed.is_due()) => None,
            known => {
                let thread = match known {
                    Some((_, Paths::Loading(thread))) => thread,
                    _ => thread::spawn(source.later(|source| source.guard_paths())),
                };
                match wait || thread.is_finished() {
                    true => self.loaded(thread.join(), maps, counting)?,
                    false => Some(Paths::Loading(thread)),
                }
            }
        };
        self.paths = paths.map(|paths| (maps.tier, paths));
        Ok(())
    }

    /// Why guards only count, if loading what they judge by failed.
    pub(super) fn failed(&self) -> Option<&str> {
        Some(&self.failed.as_ref()?.why)
    }
}
