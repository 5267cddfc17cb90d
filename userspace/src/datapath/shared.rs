//! Maps that outlive generations and tiers (pinned once, kept by every version): counters, and the
//! directory that says whose they are.

use std::path::Path;

use aya::maps::MapData;
use aya_obj::generated::bpf_map_type;
use kordon_ebpf::layout::{COUNTER_PAGE, COUNTER_PAGES, COUNTER_SLOTS_BEFORE, Counter};

use super::{
    DatapathError, chain,
    memory::{MMAPABLE, Mapped},
    pins::Pins,
};
use crate::compile::directory::{Directory, MAX_LOG};

/// First word of the pinned directory: says what it is, and in which format.
const DIRECTORY_MAGIC: u64 = u64::from_le_bytes(*b"kordon01");
/// Magic and length.
pub(super) const DIRECTORY_HEAD: usize = 16;

/// The counters, and whose they are.
pub(super) struct Shared {
    pub(super) counters: MapData,
    pub(super) directory_map: Mapped,
    pub(super) directory: Directory,
}

impl Shared {
    /// What an earlier controller left, or new ones. Where it cannot be used, it is set
    /// aside with all that counts in it, and `damaged` says so: nobody could tell whose
    /// its counters are.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(super) fn open(pins: &Pins, damaged: &mut Vec<String>) -> Result<Self, DatapathError> {
        let there = |name: &str| pins.shared(name).exists();
        let why = match (there("counters"), there("directory")) {
            (true, true) => match Self::of(pins) {
                Ok(shared) => return Ok(shared),
                Err(e) => e.to_string(),
            },
            (false, false) if !pins.has_tiers() => return Self::of(pins),
            (false, _) => "the pin `counters` is missing".to_owned(),
            (_, false) => "the pin `directory` is missing".to_owned(),
        };
        pins.set_all_aside()
            .map_err(|e| DatapathError::new("move damaged pins away", e))?;
        damaged.push(format!("{why}; counters begin from zero"));
        Self::of(pins)
    }

    fn of(pins: &Pins) -> Result<Self, DatapathError> {
        let before = COUNTER_SLOTS_BEFORE / COUNTER_PAGE;
        let pages = match entries(pins, "counters") {
            Some(pages) if pages == before => before,
            _ => COUNTER_PAGES,
        };
        let counters = open(
            pins,
            "counters",
            bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY,
            (4, size_of::<[Counter; COUNTER_PAGE as usize]>()),
            pages,
            0,
        )?;
        let directory = open(
            pins,
            "directory",
            bpf_map_type::BPF_MAP_TYPE_ARRAY,
            (4, DIRECTORY_HEAD + MAX_LOG),
            1,
            MMAPABLE,
        )?;
        let mut directory_map = Mapped::of(directory)?;
        let path = pins.shared("directory");
        let directory = read_directory(&mut directory_map, &path, pages * COUNTER_PAGE)?;
        Ok(Self {
            counters,
            directory_map,
            directory,
        })
    }
}

/// Entries of a map that is pinned.
pub(super) fn entries(pins: &Pins, name: &str) -> Option<u32> {
    let map = MapData::from_pin(pins.shared(name)).ok()?;
    Some(map.info().ok()?.max_entries())
}

/// Opens a map that all versions share, or makes and pins it. A ring has neither keys nor values.
pub(super) fn open(
    pins: &Pins,
    name: &str,
    kind: bpf_map_type,
    (key_size, value_size): (u32, usize),
    entries: u32,
    flags: u32,
) -> Result<MapData, DatapathError> {
    let path = pins.shared(name);
    let what = || format!("open {}", path.display());
    if path.exists() {
        let map = MapData::from_pin(&path).map_err(|e| DatapathError::new(what(), chain(&e)))?;
        let info = map.info().map_err(|e| DatapathError::new(what(), e))?;
        let is_kind = info
            .map_type()
            .is_ok_and(|found| found as u32 == kind as u32);
        if !is_kind || info.value_size() as usize != value_size || info.max_entries() != entries {
            return Err(DatapathError::new(
                what(),
                format!(
                    "it has {} values of {} bytes, this version wants {entries} of {value_size}",
                    info.max_entries(),
                    info.value_size(),
                ),
            ));
        }
        return Ok(map);
    }
    let map =
        aya_obj::Map::new_from_params(kind as u32, key_size, value_size as u32, entries, flags);
    let map = MapData::create(map, &name.replace('-', "_"), None)
        .map_err(|e| DatapathError::new(what(), chain(&e)))?;
    map.pin(&path)
        .map_err(|e| DatapathError::new(what(), chain(&e)))?;
    MapData::from_pin(&path).map_err(|e| DatapathError::new(what(), chain(&e)))
}

fn word(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}

/// Whose each counter is, of so many.
///
/// # Errors
/// When the map holds something else.
fn read_directory(map: &mut Mapped, path: &Path, slots: u32) -> Result<Directory, DatapathError> {
    let bytes = map.bytes_mut();
    if word(bytes) == 0 {
        bytes[..8].copy_from_slice(&DIRECTORY_MAGIC.to_le_bytes());
    }
    let length = word(&bytes[8..]) as usize;
    let what = || format!("read {}", path.display());
    if word(bytes) != DIRECTORY_MAGIC || length > MAX_LOG {
        return Err(DatapathError::new(
            what(),
            "it is not a counter directory of this version",
        ));
    }
    Directory::read(&bytes[DIRECTORY_HEAD..][..length], slots)
        .map_err(|e| DatapathError::new(what(), e))
}

impl Mapped {
    /// Adds what a directory has more than the pinned one. The length comes last:
    /// until it is written, nothing was added.
    pub(super) fn append(&mut self, directory: &Directory) -> Result<(), DatapathError> {
        let log = directory.log();
        let bytes = self.bytes_mut();
        let old = word(&bytes[8..]) as usize;
        let is_extension = log.len() >= old
            && log.len() <= MAX_LOG
            && bytes[DIRECTORY_HEAD..][..old] == log[..old];
        if !is_extension {
            return Err(DatapathError::new(
                "extend the counter directory",
                "another controller has changed it",
            ));
        }
        bytes[DIRECTORY_HEAD + old..][..log.len() - old].copy_from_slice(&log[old..]);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        bytes[8..16].copy_from_slice(&(log.len() as u64).to_le_bytes());
        Ok(())
    }
}
