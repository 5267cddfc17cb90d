//! Maps that outlive generations and tiers: counters, and the directory that says
//! whose they are.

use std::path::Path;

use aya::maps::MapData;
use aya_obj::generated::bpf_map_type;

use super::{DatapathError, chain, memory::Mapped, pins::Pins};
use crate::compile::directory::{Directory, MAX_LOG};

/// First word of the pinned directory: says what it is, and in which format.
const DIRECTORY_MAGIC: u64 = u64::from_le_bytes(*b"kordon01");
/// Magic and length.
pub(super) const DIRECTORY_HEAD: usize = 16;

/// Opens a map that all versions share, or makes and pins it.
pub(super) fn open(
    pins: &Pins,
    name: &str,
    kind: bpf_map_type,
    value_size: usize,
    entries: u32,
    flags: u32,
) -> Result<MapData, DatapathError> {
    let path = pins.shared(name);
    let what = || format!("open {}", path.display());
    if path.exists() {
        let map = MapData::from_pin(&path).map_err(|e| DatapathError::new(what(), chain(&e)))?;
        let info = map.info().map_err(|e| DatapathError::new(what(), e))?;
        if info.value_size() as usize != value_size || info.max_entries() != entries {
            return Err(DatapathError::new(
                what(),
                format!(
                    "it has {} values of {} bytes, this version wants {entries} of {value_size}; \
                     `kordon detach` and a start make it anew, with counters from zero",
                    info.max_entries(),
                    info.value_size(),
                ),
            ));
        }
        return Ok(map);
    }
    let map = aya_obj::Map::new_from_params(kind as u32, 4, value_size as u32, entries, flags);
    let map =
        MapData::create(map, name, None).map_err(|e| DatapathError::new(what(), chain(&e)))?;
    map.pin(&path)
        .map_err(|e| DatapathError::new(what(), chain(&e)))?;
    MapData::from_pin(&path).map_err(|e| DatapathError::new(what(), chain(&e)))
}

fn word(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}

/// Whose each counter is.
///
/// # Errors
/// When the map holds something else.
pub(super) fn read_directory(map: &mut Mapped, bpffs: &Path) -> Result<Directory, DatapathError> {
    let bytes = map.bytes_mut();
    if word(bytes) == 0 {
        bytes[..8].copy_from_slice(&DIRECTORY_MAGIC.to_le_bytes());
    }
    let length = word(&bytes[8..]) as usize;
    let what = || format!("read {}", bpffs.join("directory").display());
    let cure = "`kordon detach` and a start make it anew, with counters from zero";
    if word(bytes) != DIRECTORY_MAGIC || length > MAX_LOG {
        return Err(DatapathError::new(
            what(),
            format!("it is not a counter directory of this version; {cure}"),
        ));
    }
    Directory::read(&bytes[DIRECTORY_HEAD..][..length])
        .map_err(|e| DatapathError::new(what(), format!("{e}; {cure}")))
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
