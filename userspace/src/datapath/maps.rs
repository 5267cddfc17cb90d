//! The maps of one size tier: the two arrays of maps that programs read, and the
//! pinned maps in them. Inner maps are known by their id, so that a pin that is left
//! over is told from one that is live.

use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapType};
use kordon_ebpf::layout::{LAYOUT_VERSION, TABLE_SLOTS};

use super::{
    DatapathError, chain,
    loader::Loader,
    memory::{Mapped, generation_size, planes_size, table_size},
    pins::{Pins, entries},
    programs,
    system::{set_slot, slot},
};
use crate::compile::table::Tier;

/// What programs open, as it is pinned and as they call it.
const NAMES: [(&str, &str); 5] = [
    ("generations", "GENERATIONS"),
    ("tables", "TABLES"),
    ("planes", "PLANES"),
    ("slow", "SLOW"),
    ("work", "WORK"),
];

/// The maps of one tier.
pub(super) struct Maps {
    pub(super) tier: Tier,
    pub(super) folder: PathBuf,
    pub(super) generations: MapData,
    pub(super) tables: MapData,
    /// Derived from the live generation, or off.
    pub(super) planes: Mapped,
    /// The slow path, at 0.
    pub(super) slow: MapData,
    /// What programs leave there for it.
    pub(super) work: MapData,
    pub(super) generation: Option<Mapped>,
}

/// A map's id, by which it is told from others.
pub(super) fn id(map: &MapData) -> Result<u32, DatapathError> {
    let info = map.info();
    let info = info.map_err(|e| DatapathError::new("read map information", e))?;
    Ok(info.id())
}

/// Whether a map is among these.
pub(super) fn uses(used: &[u32], map: &MapData) -> bool {
    map.info().is_ok_and(|info| used.contains(&info.id()))
}

/// Waits until no program runs that was there before: an update of an array of maps
/// returns then, whatever it changes.
pub(super) fn wait(generations: &MapData, generation: &Mapped) -> Result<(), DatapathError> {
    set_slot(generations, 0, &generation.map)
        .map_err(|e| DatapathError::new("wait for programs to end", e))
}

/// What loads programs over the maps of a tier that are pinned in a folder, or will be.
pub(super) fn pinned(tier: Tier, folder: &Path) -> Loader {
    let loader = Loader::of(programs::object(tier));
    let pin =
        |loader: Loader, (pin, name): (&str, &'static str)| loader.pin(name, folder.join(pin));
    NAMES.into_iter().fold(loader, pin)
}

impl Maps {
    /// The maps of a tier that an earlier controller left; `None`: there are none.
    ///
    /// # Errors
    /// When they are not all there, or not what they are called. Programs on interfaces go on
    /// with what they hold, but whoever made the rest anew would change half of that.
    pub(super) fn adopt(pins: &Pins, tier: Tier) -> Result<Option<Self>, DatapathError> {
        let folder = pins.tier_path(tier);
        let found = entries(&folder);
        if found.is_empty() {
            return Ok(None);
        }
        let damaged = |what: String| {
            let name = folder.display();
            DatapathError::new(format!("adopt the maps in {name}"), what)
        };
        for (name, _) in NAMES {
            if !folder.join(name).is_file() {
                return Err(damaged(format!("`{name}` is missing")));
            }
        }
        let maps = Self::open(pins, tier)?;
        let in_slot = slot(&maps.generations, 0).map_err(|e| damaged(e.to_string()))?;
        let Some(table) = maps.live_table()? else {
            return match in_slot {
                None => Ok(Some(maps)),
                Some(_) => Err(damaged("no pin is the live generation".to_owned())),
            };
        };
        if table.size() < table_size(tier) {
            return Err(damaged("the live table is another map".to_owned()));
        }
        Ok(Some(maps))
    }

    /// Opens the maps of a tier, or makes them.
    pub(super) fn open(pins: &Pins, tier: Tier) -> Result<Self, DatapathError> {
        let folder = pins.tier(tier)?;
        let what = || format!("open the maps in {}", folder.display());
        if NAMES.iter().any(|(name, _)| !folder.join(name).exists()) {
            // Loading the object makes and pins them as the program wants them.
            pinned(tier, &folder)
                .load()
                .map_err(|e| DatapathError::new(what(), chain(&e)))?;
        }
        // Before anything is asked of it: the kernel answers as the map is, not as it is
        // called, and a per-CPU map answers with more than there is room for.
        let open = |name: &str, kind: MapType, entries: u32, size: usize| {
            let map = MapData::from_pin(folder.join(name))
                .map_err(|e| DatapathError::new(what(), chain(&e)))?;
            let info = map.info().map_err(|e| DatapathError::new(what(), e))?;
            let is_it = info.map_type().is_ok_and(|found| found == kind)
                && info.max_entries() == entries
                && info.value_size() as usize == size;
            match is_it {
                true => Ok(map),
                false => Err(DatapathError::new(
                    what(),
                    format!("`{name}` is another map"),
                )),
            }
        };
        let outer = MapType::ArrayOfMaps;
        let number = size_of::<u32>();
        let planes = open("planes", MapType::Array, 1, planes_size(tier))?;
        let work = programs::size_of_work(tier)?;
        let mut maps = Self {
            tier,
            generations: open("generations", outer, 1, number)?,
            tables: open("tables", outer, TABLE_SLOTS, number)?,
            planes: Mapped::of(planes)?,
            slow: open("slow", MapType::ProgramArray, 1, number)?,
            work: open("work", MapType::PerCpuArray, 1, work)?,
            generation: None,
            folder: folder.clone(),
        };
        maps.generation = maps
            .pinned(&maps.generations, 0, "generation")?
            .map(Mapped::of)
            .transpose()?
            .filter(|generation| {
                generation.size() >= generation_size(tier)
                    && generation.generation().version == LAYOUT_VERSION
            });
        Ok(maps)
    }

    pub(super) fn number(&self) -> u64 {
        self.generation
            .as_ref()
            .map_or(0, |g| g.generation().number)
    }

    /// The pinned map that is in a slot of an outer one.
    pub(super) fn pinned(
        &self,
        outer: &MapData,
        index: u32,
        prefix: &str,
    ) -> Result<Option<MapData>, DatapathError> {
        let id = slot(outer, index)
            .map_err(|e| DatapathError::new(format!("look into {}", self.folder.display()), e))?;
        let Some(id) = id else { return Ok(None) };
        for path in self.inner_pins(prefix) {
            let map = self.opened(&path)?;
            if map.info().is_ok_and(|info| info.id() == id) {
                return Ok(Some(map));
            }
        }
        Ok(None)
    }

    pub(super) fn table(&self, index: u32) -> Result<MapData, DatapathError> {
        self.pinned(&self.tables, index, "table")?.ok_or_else(|| {
            DatapathError::new(
                "find the live table",
                format!("no pin in {} is it", self.folder.display()),
            )
        })
    }

    /// That of the live generation; `None`: there is none.
    pub(super) fn live_table(&self) -> Result<Option<Mapped>, DatapathError> {
        let Some(generation) = &self.generation else {
            return Ok(None);
        };
        let table = self.table(generation.generation().table_slot)?;
        Mapped::of(table).map(Some)
    }

    pub(super) fn inner_pins(&self, prefix: &str) -> Vec<PathBuf> {
        let prefix = format!("{prefix}-");
        let mut pins = entries(&self.folder);
        pins.retain(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(&prefix))
        });
        pins
    }

    pub(super) fn opened(&self, path: &Path) -> Result<MapData, DatapathError> {
        MapData::from_pin(path)
            .map_err(|e| DatapathError::new(format!("open {}", path.display()), chain(&e)))
    }

    pub(super) fn pin(
        &self,
        prefix: &str,
        number: u64,
        map: &Mapped,
    ) -> Result<PathBuf, DatapathError> {
        let path = self.folder.join(format!("{prefix}-{number}"));
        // Left by an update that was cut short: nobody uses it.
        let _ = std::fs::remove_file(&path);
        map.map
            .pin(&path)
            .map_err(|e| DatapathError::new(format!("pin {}", path.display()), chain(&e)))?;
        Ok(path)
    }

    /// Unpins inner maps that are in no slot. Errors cost memory only.
    pub(super) fn remove_stale_pins(&self) {
        let mut used = vec![slot(&self.generations, 0)];
        used.extend((0..TABLE_SLOTS).map(|index| slot(&self.tables, index)));
        let Ok(used) = used.into_iter().collect::<Result<Vec<_>, _>>() else {
            return;
        };
        for prefix in ["generation", "table"] {
            for path in self.inner_pins(prefix) {
                let Ok(map) = self.opened(&path) else {
                    continue;
                };
                if map
                    .info()
                    .is_ok_and(|info| !used.contains(&Some(info.id())))
                {
                    let _ = std::fs::remove_file(&path);
                }
            }
        }
    }
}
