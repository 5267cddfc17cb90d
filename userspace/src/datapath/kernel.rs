//! [`Datapath`]: handles to all that is live: pinned maps, the live generation, programs on interfaces.
//! Another daemon opens the same pins (see [`super::pins`]) and goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use aya::Ebpf;
use kordon_ebpf::layout::{MAX_PORTS, UNSETTLED};

use super::{
    Attached, DatapathError,
    clock::Clock,
    detach::remove,
    guard_paths::GuardPaths,
    ledger::{Ledger, LedgerMaps},
    loaded::{Counting, Slow, Told},
    maps::{Maps, wait},
    memory::Mapped,
    pins::Pins,
    preload::Preload,
    probe::Prober,
    shared::Shared,
};
use crate::compile::{amend::Editor, directory::Directory, table::Tier};

/// What is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveGeneration {
    /// Number, rising.
    pub number: u64,
    /// `Generation::hash`.
    pub hash: [u8; 32],
    /// `Generation::table_key`.
    pub table_key: [u8; 32],
    /// Size of the maps.
    pub tier: Tier,
    /// Whether its verdict planes are in use. An update that was cut short leaves
    /// them off; verdicts are the same, and take longer.
    pub planes: bool,
}

/// Everything of one instance in the kernel.
pub struct Datapath {
    pub(super) pins: Pins,
    damaged: Vec<String>,
    pub(super) counting: Counting,
    pub(super) directory_map: Mapped,
    pub(super) directory: Arc<Directory>,
    pub(super) maps: Option<Maps>,
    /// The live table, mapped.
    pub(super) table: Option<Mapped>,
    /// What changes it in place; `None`: not needed yet.
    pub(super) editor: Option<Editor>,
    pub(super) prober: Option<Prober>,
    /// Devices whose program is of this controller, by the link's program id.
    pub(super) attached: BTreeMap<String, u32>,
    /// The newest of these, for readers: while a change is under way, too.
    pub(super) newest: Arc<Mutex<BTreeMap<String, u32>>>,
    /// Interfaces that were a device until another one got its name.
    pub(super) left: BTreeMap<String, BTreeSet<u32>>,
    /// Devices whose guard is of this controller, by the program's id, and what it is behind.
    pub(super) guards: BTreeMap<String, (u32, Option<Attached>)>,
    /// Links and guards of this controller, by their pins.
    pub(super) held: BTreeMap<PathBuf, OwnedFd>,
    /// What programs are told that are loaded from now on.
    pub(super) told: Told,
    pub(super) preload: Option<Preload>,
    /// Called by the programs of interfaces; `None`: none is attached yet.
    pub(super) slow: Option<Slow>,
    /// What guards call; `None`: none is attached yet.
    pub(super) guard_paths: Option<GuardPaths>,
    /// Programs of interfaces that a change of tier has loaded, by port.
    pub(super) ahead: BTreeMap<u32, Ebpf>,
    /// Says when a change is over; `None`: not needed yet.
    clock: Option<Clock>,
    /// Programs were replaced, and nobody has waited for those of before.
    replaced: bool,
}

impl Datapath {
    /// Adopts what is pinned under `bpffs`, or makes the folder and what all
    /// versions share. `lines`: of the ledger for each CPU, where there is none: one of
    /// [`FLOW_LINES`](kordon_ebpf::layout::FLOW_LINES), or as many as is usual.
    ///
    /// # Errors
    /// When `bpffs` is not on a BPF file system, or what is there cannot be used.
    pub fn open(bpffs: &Path, lines: Option<u32>) -> Result<Self, DatapathError> {
        let pins = Pins::open(bpffs)?;
        let mut damaged = Vec::new();
        let known = pins.shared("directory").exists();
        let Shared {
            counters,
            directory_map,
            directory,
        } = Shared::open(&pins, &mut damaged)?;
        // Its lines and books go by counters of which the directory knows whose they are.
        if !known || !damaged.is_empty() {
            LedgerMaps::forget(&pins, |_| true);
        }
        let ledger = LedgerMaps::open(&pins, lines, &mut damaged)?;
        let mut maps: Option<Maps> = None;
        for tier in Tier::ALL {
            let found = match Maps::adopt(&pins, tier) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(e) => {
                    pins.set_tier_aside(tier)
                        .map_err(|e| DatapathError::new("move damaged pins away", e))?;
                    damaged.push(e.to_string());
                    continue;
                }
            };
            // After an update that was cut short there are two; the newer one
            // was proven and is complete.
            if found.number() >= maps.as_ref().map_or(0, Maps::number) {
                maps = Some(found);
            }
        }
        let table = match &maps {
            Some(maps) => maps.live_table()?,
            None => {
                pins.forget_paths();
                None
            }
        };
        let told = Told {
            log: false,
            lines: ledger.lines,
        };
        Ok(Self {
            pins,
            damaged,
            counting: Counting {
                counters: Arc::new(counters),
                ledger,
            },
            directory_map,
            directory: Arc::new(directory),
            maps,
            table,
            editor: None,
            prober: None,
            attached: BTreeMap::new(),
            newest: Arc::default(),
            left: BTreeMap::new(),
            guards: BTreeMap::new(),
            held: BTreeMap::new(),
            told,
            preload: None,
            slow: None,
            guard_paths: None,
            ahead: BTreeMap::new(),
            clock: None,
            replaced: false,
        })
    }

    /// What could not be adopted, and is made anew by the next publish.
    #[must_use]
    pub fn damaged(&self) -> &[String] {
        &self.damaged
    }

    /// Lines of the ledger for each CPU.
    #[must_use]
    pub fn lines(&self) -> u32 {
        self.told.lines
    }

    /// Lets programs that are loaded from now on log every verdict.
    pub fn trace(&mut self) {
        self.told.log = true;
    }

    /// Ids of this controller's programs that judge packets.
    #[must_use]
    pub fn programs(&self) -> Vec<u32> {
        let slow = self.slow.as_ref().map(Slow::id);
        self.attached.values().copied().chain(slow).collect()
    }

    /// What packets are judged by changes from here on: until [`Self::settle`] the lines of the ledger do not say
    /// what becomes of them.
    pub(super) fn unsettle(&self) {
        if let Some(maps) = &self.maps {
            maps.planes.set_settled(UNSETTLED);
        }
    }

    /// As [`Self::unsettle`]: which program judges them does.
    pub(super) fn replaces(&mut self) {
        self.unsettle();
        self.replaced = true;
    }

    /// The change is over. From here on lines say it again of what is judged later than now: a whole jiffy
    /// later, because a processor may load a word somewhat before the one that stands before it. Whoever is
    /// told of the change is told so after it.
    pub(super) fn settle(&mut self) {
        let Some(maps) = &self.maps else { return };
        // The kernel does not wait for a program that it replaces, and that may have other maps.
        let waited = match &maps.generation {
            Some(generation) if self.replaced => wait(&maps.generations, generation),
            _ => Ok(()),
        };
        let now = waited.and_then(|()| match &mut self.clock {
            Some(clock) => clock.now(),
            none => Clock::load().and_then(|clock| none.insert(clock).now()),
        });
        match now {
            Ok(now) => {
                self.replaced = false;
                maps.planes.set_settled(now + 1);
            }
            // Without it packets are judged as if they were the first of their flows.
            Err(e) => tracing::warn!("verdicts are not taken from the ledger: {e}"),
        }
    }

    /// Programs are where they are to be, as far as they can: see [`Self::settle`].
    pub fn settle_attached(&mut self) {
        if self.replaced {
            self.settle();
        }
    }

    /// This program is on the device now.
    pub(super) fn note_attached(&mut self, device: &str, id: u32) {
        self.attached.insert(device.to_owned(), id);
        let newest = self.newest.lock();
        let mut newest = newest.unwrap_or_else(PoisonError::into_inner);
        newest.insert(device.to_owned(), id);
    }

    /// The live generation; `None` before the first.
    #[must_use]
    pub fn live(&self) -> Option<LiveGeneration> {
        let maps = self.maps.as_ref()?;
        let generation = maps.generation.as_ref()?.generation();
        Some(LiveGeneration {
            number: generation.number,
            hash: generation.hash,
            table_key: generation.table_key,
            tier: maps.tier,
            planes: maps.planes.planes_number() == generation.number,
        })
    }

    /// Whether some program judges packets by what an earlier controller put here, as far as
    /// is known.
    #[must_use]
    pub fn enforces(&self) -> bool {
        let is_on = |device: &String| {
            // It may have another name by now.
            self.find(device)
                .is_ok_and(|found| found.is_some_and(|i| i.xdp.is_some()))
        };
        self.live().is_some() || self.pinned_devices().iter().any(is_on)
    }

    /// The counter directory as it is pinned; extend a clone and give it to `publish`.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The same, for whoever keeps it.
    #[must_use]
    pub fn shared_directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// Port numbers for these devices, in order: a pinned link keeps the one it
    /// has, because its program carries it; the others get free ones.
    ///
    /// # Errors
    /// When there are more devices than ports.
    pub fn ports(&self, devices: &[String]) -> Result<Vec<u32>, DatapathError> {
        let links = self.links();
        let links = links.into_iter().chain(self.pins.alone_devices());
        let pinned: BTreeMap<String, u32> = links.map(|(port, device)| (device, port)).collect();
        let mut free = (0..MAX_PORTS as u32).filter(|port| !pinned.values().any(|p| p == port));
        devices
            .iter()
            .map(|device| {
                pinned
                    .get(device)
                    .copied()
                    .or_else(|| free.next())
                    .ok_or_else(|| {
                        DatapathError::new(
                            format!("give `{device}` a port"),
                            format!("at most {MAX_PORTS} interfaces can be policed"),
                        )
                    })
            })
            .collect()
    }

    /// Starts loading what a start is going to need, in threads beside: the slow path, the programs of
    /// `ports`, and where nothing is live yet what `publish` proves with. `guess` is the tier then; a wrong
    /// one costs nothing but time.
    ///
    /// # Errors
    /// When the maps cannot be made.
    pub fn preload(&mut self, guess: Tier, ports: &[u32]) -> Result<(), DatapathError> {
        let live = self.maps.as_ref().filter(|maps| maps.generation.is_some());
        let fresh;
        let (maps, prober) = match live {
            Some(maps) => (maps, false),
            None => {
                fresh = Maps::open(&self.pins, guess)?;
                (&fresh, true)
            }
        };
        let source = maps.source(&self.pins, self.told);
        self.preload = Some(Preload::start(source, prober, ports));
        Ok(())
    }

    /// Forgets what was preloaded and not needed.
    pub fn end_preload(&mut self) {
        self.preload = None;
    }

    /// Loads what `publish` proves with, which takes the verifier a while; after an
    /// adoption the first change should not wait for it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn warm_up(&mut self) -> Result<(), DatapathError> {
        if let Some(maps) = &self.maps
            && self.prober.is_none()
        {
            self.prober = Some(Prober::load(maps.tier)?);
        }
        Ok(())
    }

    /// What reads the ledger. One at a time takes records out of it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn ledger(&self) -> Result<Ledger, DatapathError> {
        Ledger::open(&self.pins)
    }

    /// Takes programs and maps off, with all pins of kordon's under `bpffs`. Returns what
    /// else is there, and stays.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn detach(bpffs: &Path) -> Result<Vec<PathBuf>, DatapathError> {
        remove(bpffs)
            .map_err(|e| DatapathError::new(format!("remove the pins in {}", bpffs.display()), e))
    }
}
