//! What is live: pinned maps, the live generation, programs on interfaces.
//!
//! Everything that must outlive the controller is pinned (see [`super::pins`]);
//! this type is a view of it that any later controller can take again.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use aya::{
    maps::MapData,
    programs::{
        XdpMode,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
};
use aya_obj::generated::bpf_map_type;
use kordon_ebpf::layout::{COUNTER_PAGE, COUNTER_PAGES, Counter, MAX_PORTS, TABLE_SLOTS};

use super::{
    Attached, DatapathError, chain,
    interface::{self, Interface},
    maps::Maps,
    memory::{Mapped, generation_size, table_size},
    pins::{Pins, remove_folder},
    preload::{Preload, live_program},
    probe::{Prober, program},
    shared::{self, DIRECTORY_HEAD, read_directory},
    system::{clear_slot, counters, detach_link, set_slot},
};
use crate::compile::{
    amend::Editor,
    directory::{Directory, MAX_LOG},
    generation::Rules,
    joined,
    plane::FlatPlanes,
    table::{FlatTable, Tier},
};

/// How an interface is to be attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Native where the driver can, else generic.
    #[default]
    Auto,
    /// Native or not at all.
    Native,
    /// Generic.
    Generic,
}

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

/// Everything of one instance in the kernel.
pub struct Datapath {
    pins: Pins,
    counters: MapData,
    pub(super) directory_map: Mapped,
    pub(super) directory: Directory,
    pub(super) maps: Option<Maps>,
    /// The live table, mapped; `None`: not needed yet.
    pub(super) table: Option<Mapped>,
    /// What changes it in place; `None`: not needed yet.
    pub(super) editor: Option<Editor>,
    pub(super) prober: Option<Prober>,
    /// Devices whose program is of this controller, by the link's program id.
    attached: BTreeMap<String, u32>,
    /// Programs that are loaded from now on log every verdict.
    trace: bool,
    preload: Option<Preload>,
}

/// Says what went wrong where nothing depends on it.
fn warn(result: Result<(), DatapathError>) {
    if let Err(e) = result {
        tracing::warn!("{e}");
    }
}

impl Datapath {
    /// Adopts what is pinned under `bpffs`, or makes the folder and what all
    /// versions share.
    ///
    /// # Errors
    /// When `bpffs` is not on a BPF file system, or what is there cannot be used.
    pub fn open(bpffs: &Path) -> Result<Self, DatapathError> {
        let pins = Pins::open(bpffs)?;
        let counters = shared::open(
            &pins,
            "counters",
            bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY,
            size_of::<[Counter; COUNTER_PAGE as usize]>(),
            COUNTER_PAGES,
            0,
        )?;
        let directory_map = shared::open(
            &pins,
            "directory",
            bpf_map_type::BPF_MAP_TYPE_ARRAY,
            DIRECTORY_HEAD + MAX_LOG,
            1,
            super::memory::MMAPABLE,
        )?;
        let mut directory_map = Mapped::of(directory_map)?;
        let directory = read_directory(&mut directory_map, bpffs)?;
        let mut maps: Option<Maps> = None;
        for tier in pins.tiers() {
            let found = Maps::open(&pins, tier)?;
            // After an update that was cut short there are two; the newer one
            // was proven and is complete.
            if found.number() >= maps.as_ref().map_or(0, Maps::number) {
                maps = Some(found);
            }
        }
        Ok(Self {
            pins,
            counters,
            directory_map,
            directory,
            maps,
            table: None,
            editor: None,
            prober: None,
            attached: BTreeMap::new(),
            trace: false,
            preload: None,
        })
    }

    /// Lets programs that are loaded from now on log every verdict.
    pub fn trace(&mut self) {
        self.trace = true;
    }

    /// Ids of this controller's programs on interfaces.
    #[must_use]
    pub fn programs(&self) -> Vec<u32> {
        self.attached.values().copied().collect()
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

    /// The counter directory as it is pinned; extend a clone and give it to `publish`.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Port numbers for these devices, in order: a pinned link keeps the one it
    /// has, because its program carries it; the others get free ones.
    ///
    /// # Errors
    /// When there are more devices than ports.
    pub fn ports(&self, devices: &[String]) -> Result<Vec<u32>, DatapathError> {
        let pinned: BTreeMap<String, u32> = self
            .pins
            .devices()
            .into_iter()
            .map(|(port, device)| (device, port))
            .collect();
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

    /// Starts loading what a start is going to need, in threads beside: programs for
    /// these ports, and where nothing is live yet what `publish` proves with. `guess`
    /// is the tier then; a wrong one costs nothing but time.
    ///
    /// # Errors
    /// When the maps cannot be made.
    pub fn preload(&mut self, guess: Tier, ports: &[u32]) -> Result<(), DatapathError> {
        let live = self.maps.as_ref().filter(|maps| maps.generation.is_some());
        let (tier, folder, fresh) = match live {
            Some(maps) => (maps.tier, maps.folder.clone(), false),
            None => (guess, Maps::open(&self.pins, guess)?.folder, true),
        };
        let preload = Preload::start(&self.pins, &folder, tier, ports, self.trace, fresh);
        self.preload = Some(preload);
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

    /// Attaches the program to a device by a pinned link, or takes over the link
    /// that is pinned for it. Idempotent. Needs a live generation.
    ///
    /// # Errors
    /// When another program is there, tags are hidden, or the mode is not to be had.
    pub fn attach(
        &mut self,
        device: &str,
        port: u32,
        mode: Mode,
        manage_offload: bool,
    ) -> Result<Attached, DatapathError> {
        let what = || format!("attach to `{device}`");
        let Some(found) = interface::query(device)? else {
            return Err(DatapathError::new(what(), "there is no such interface"));
        };
        interface::keep_tags(device, manage_offload)?;
        if let Some((how, id)) = found.xdp
            && self.attached.get(device) == Some(&id)
        {
            return Ok(how);
        }
        let adopted = self.adopt(device, port, &found)?;
        if adopted {
            self.retire();
        } else {
            self.attach_new(device, port, mode, &found)?;
        }
        let now = interface::query(device)?.and_then(|interface| interface.xdp);
        let Some((how, id)) = now else {
            return Err(DatapathError::new(
                what(),
                "the interface went away meanwhile",
            ));
        };
        if mode == Mode::Native && how != Attached::Native
            || mode == Mode::Generic && how != Attached::Generic
        {
            if !adopted {
                self.release(device)?;
            }
            return Err(DatapathError::new(
                what(),
                format!(
                    "it is attached in {} mode, another was asked for; `kordon detach` and a start change it, with a gap",
                    how.as_str()
                ),
            ));
        }
        self.attached.insert(device.into(), id);
        Ok(how)
    }

    /// Takes over the link that is pinned for a device: its program is replaced
    /// by one of this controller, atomically. `false`: there is none that is on it.
    fn adopt(&mut self, device: &str, port: u32, found: &Interface) -> Result<bool, DatapathError> {
        let what = || format!("take over the link of `{device}`");
        let pin = self.pins.link(port, device);
        if !pin.exists() {
            return Ok(false);
        }
        let link = PinnedLink::from_pin(&pin).map_err(|e| DatapathError::new(what(), e))?;
        let link = FdLink::from(link);
        let on_it = link
            .info()
            .map_err(|e| DatapathError::new(what(), e))?
            .program_id();
        if found.xdp.map(|(_, id)| id) != Some(on_it) {
            // The link of a device that went away; its name came back.
            drop(link);
            std::fs::remove_file(&pin).map_err(|e| DatapathError::new(what(), e))?;
            self.attached.remove(device);
            return Ok(false);
        }
        let mut ebpf = self.load(port)?;
        let program = program(&mut ebpf)?;
        let link = XdpLink::try_from(link).map_err(|e| DatapathError::new(what(), e))?;
        let id = program
            .attach_to_link(link)
            .map_err(|e| DatapathError::new(what(), e))?;
        // The pin keeps the link; ours must not end it.
        drop(program.take_link(id));
        let id = program
            .info()
            .map_err(|e| DatapathError::new(what(), e))?
            .id();
        self.attached.insert(device.into(), id);
        Ok(true)
    }

    fn attach_new(
        &mut self,
        device: &str,
        port: u32,
        mode: Mode,
        found: &Interface,
    ) -> Result<(), DatapathError> {
        let what = || format!("attach to `{device}`");
        if let Some((how, id)) = found.xdp {
            let name = aya::programs::loaded_programs()
                .flatten()
                .find(|program| program.id() == id)
                .and_then(|program| Some(program.name_as_str()?.to_owned()))
                .unwrap_or_default();
            return Err(DatapathError::new(
                what(),
                format!(
                    "another XDP program is there in {} mode (`{name}`, id {id}) and is left alone; \
                     `ip link set dev {device} xdp off` or whoever attached it takes it off",
                    how.as_str()
                ),
            ));
        }
        let mut ebpf = self.load(port)?;
        let program = program(&mut ebpf)?;
        let modes: &[XdpMode] = match mode {
            Mode::Auto => &[XdpMode::Driver, XdpMode::Skb],
            Mode::Native => &[XdpMode::Driver],
            Mode::Generic => &[XdpMode::Skb],
        };
        let mut result = Err(DatapathError::new(what(), "no mode was tried"));
        for mode in modes {
            match program.attach_to_if_index(found.index, *mode) {
                Ok(id) => {
                    result = Ok(id);
                    break;
                }
                Err(e) => {
                    let first = modes.len() > 1 && *mode == modes[0];
                    if first {
                        tracing::info!(device, "no native mode, trying generic: {}", chain(&e));
                    }
                    result = Err(DatapathError::new(
                        format!(
                            "attach to `{device}` in {} mode",
                            if *mode == XdpMode::Skb {
                                "generic"
                            } else {
                                "native"
                            }
                        ),
                        chain(&e),
                    ));
                }
            }
        }
        let link = program
            .take_link(result?)
            .map_err(|e| DatapathError::new(what(), e))?;
        let link: FdLink = link.try_into().map_err(|_| {
            DatapathError::new(
                what(),
                "the kernel gives no link that could be pinned (Linux 5.9 does)",
            )
        })?;
        link.pin(self.pins.link(port, device))
            .map_err(|e| DatapathError::new(format!("pin the link of `{device}`"), e))?;
        Ok(())
    }

    /// The live tier's program, for one port.
    fn load(&mut self, port: u32) -> Result<aya::Ebpf, DatapathError> {
        let Some(maps) = self.maps.as_ref().filter(|maps| maps.generation.is_some()) else {
            return Err(DatapathError::new(
                "load the program",
                "there are no rules in the kernel yet",
            ));
        };
        let preloaded = self
            .preload
            .as_mut()
            .and_then(|p| p.program(maps.tier, port));
        if let Some(ebpf) = preloaded {
            return Ok(ebpf);
        }
        live_program(&self.pins, &maps.folder, maps.tier, port, self.trace)
    }

    /// Removes maps of other tiers and layout versions, once no program uses them.
    fn retire(&self) {
        let Some(maps) = &self.maps else { return };
        let all_ours = self
            .pins
            .devices()
            .iter()
            .all(|(_, device)| self.attached.contains_key(device));
        if all_ours {
            for folder in self.pins.others(maps.tier) {
                match remove_folder(&folder) {
                    Ok(()) => {
                        tracing::info!("removed {}, which nothing uses any more", folder.display());
                    }
                    Err(e) => tracing::warn!("cannot remove {}: {e}", folder.display()),
                }
            }
        }
    }

    /// Takes the program off a device that is no longer configured.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn release(&mut self, device: &str) -> Result<(), DatapathError> {
        for (port, name) in self.pins.devices() {
            if name == device {
                let pin = self.pins.link(port, device);
                detach_link(&pin)
                    .and_then(|()| std::fs::remove_file(&pin))
                    .map_err(|e| DatapathError::new(format!("remove {}", pin.display()), e))?;
            }
        }
        self.attached.remove(device);
        Ok(())
    }

    /// Devices with a pinned link of this instance, whether they still exist or not.
    #[must_use]
    pub fn pinned_devices(&self) -> Vec<String> {
        self.pins
            .devices()
            .into_iter()
            .map(|(_, device)| device)
            .collect()
    }

    /// Whether this controller's program is on the device, and how; asks the kernel.
    #[must_use]
    pub fn attached(&self, device: &str) -> Option<Attached> {
        let (how, id) = interface::query(device).ok()??.xdp?;
        (self.attached.get(device) == Some(&id)).then_some(how)
    }

    /// Every counter below `directory().used()`, all CPUs added, by slot.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Vec<Counter>, DatapathError> {
        counters(&self.counters, self.directory.used() as usize)
            .map_err(|e| DatapathError::new("read the counters", e))
    }

    /// Takes programs and maps off, with all pins under `bpffs`.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn detach(bpffs: &Path) -> Result<(), DatapathError> {
        Pins::remove(bpffs)
            .map_err(|e| DatapathError::new(format!("remove the pins in {}", bpffs.display()), e))
    }
}
