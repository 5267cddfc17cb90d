//! Where things are pinned. One folder holds one instance:
//!
//! ```text
//! counters            outlive every version
//! directory           whose counters they are
//! links/<port>-<dev>  keep programs attached
//! guards/<dev>        keep guards attached, from Linux 6.6
//! filters/<dev>       guards that are tc filters, before: their programs
//! v2-internet/        a layout version and a tier
//!   generations  tables        outer maps
//!   planes                     the live generation's verdict planes
//!   generation-<n>  table-<n>  inner maps, by the generation that brought them
//! ```
//!
//! Inner maps are matched by their ids with what the outer ones hold, so that an
//! interrupted update leaves nothing but a pin that nobody uses.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use kordon_ebpf::layout::LAYOUT_VERSION;

use super::{DatapathError, guard::remove_filter, system::detach_link};
use crate::compile::table::Tier;

/// The folder of guards that have links.
pub const GUARDS: &str = "guards";
/// The folder of guards that are filters.
pub const FILTERS: &str = "filters";

/// The folder of an instance.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Makes the folder if need be.
    ///
    /// # Errors
    /// When it is not on a BPF file system.
    pub fn open(root: &Path) -> Result<Self, DatapathError> {
        let what = || format!("use {} for pins", root.display());
        const CURE: &str = "`mount -t bpf bpf /sys/fs/bpf` makes one";
        make(root).map_err(|e| {
            let why = format!("{e}; it needs a BPF file system, and {CURE}");
            DatapathError::new(what(), why)
        })?;
        let kind = nix::sys::statfs::statfs(root).map_err(|e| DatapathError::new(what(), e))?;
        if kind.filesystem_type() != nix::sys::statfs::BPF_FS_MAGIC {
            return Err(DatapathError::new(
                what(),
                format!("it is not on a BPF file system; {CURE}"),
            ));
        }
        let pins = Self { root: root.into() };
        for folder in ["links", GUARDS, FILTERS] {
            make(&root.join(folder)).map_err(|e| DatapathError::new(what(), e))?;
        }
        Ok(pins)
    }

    /// A file that all versions share.
    #[must_use]
    pub fn shared(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder of a tier, made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn tier(&self, tier: Tier) -> Result<PathBuf, DatapathError> {
        let path = self.root.join(tier_name(tier));
        make(&path).map_err(|e| DatapathError::new(format!("make {}", path.display()), e))?;
        Ok(path)
    }

    /// Tiers of this layout version that have a folder.
    #[must_use]
    pub fn tiers(&self) -> Vec<Tier> {
        Tier::ALL
            .into_iter()
            .filter(|tier| {
                self.root
                    .join(tier_name(*tier))
                    .join("generations")
                    .exists()
            })
            .collect()
    }

    /// Folders of tiers other than this one, and of other layout versions.
    #[must_use]
    pub fn others(&self, tier: Tier) -> Vec<PathBuf> {
        let is_other = |name: &str| name.starts_with('v') && name != tier_name(tier);
        let mut others = entries(&self.root);
        others.retain(|path| {
            path.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(is_other)
        });
        others
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Where the link of a device is pinned.
    #[must_use]
    pub fn link(&self, port: u32, device: &str) -> PathBuf {
        self.links().join(format!("{port}-{}", escape(device)))
    }

    /// Where the guard of a device is pinned: its link, its program where it is a filter.
    #[must_use]
    pub fn guard(&self, folder: &str, device: &str) -> PathBuf {
        self.root.join(folder).join(escape(device))
    }

    /// Devices that have a guard, or had one.
    #[must_use]
    pub fn guarded(&self) -> Vec<String> {
        let guards = [GUARDS, FILTERS].map(|folder| entries(&self.root.join(folder)));
        let mut devices: Vec<_> = guards
            .iter()
            .flatten()
            .filter_map(|path| Some(unescape(path.file_name()?.to_str()?)))
            .collect();
        devices.sort();
        devices
    }

    /// All pinned links: port and device.
    #[must_use]
    pub fn devices(&self) -> Vec<(u32, String)> {
        let mut devices: Vec<_> = entries(&self.links())
            .iter()
            .filter_map(|path| {
                let (port, device) = path.file_name()?.to_str()?.split_once('-')?;
                Some((port.parse().ok()?, unescape(device)))
            })
            .collect();
        devices.sort();
        devices
    }

    /// Takes programs off and removes all pins: first the links, so that no program
    /// is left without maps.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(root: &Path) -> io::Result<()> {
        if !root.exists() {
            return Ok(());
        }
        for link in entries(&root.join("links")) {
            detach_link(&link)?;
        }
        remove_folder(&root.join("links"))?;
        for link in entries(&root.join(GUARDS)) {
            detach_link(&link)?;
        }
        for program in entries(&root.join(FILTERS)) {
            remove_filter(&program)?;
        }
        for folder in [GUARDS, FILTERS] {
            remove_folder(&root.join(folder))?;
        }
        for entry in entries(root) {
            let name = entry.file_name().and_then(|name| name.to_str());
            match name {
                Some("counters" | "directory") => fs::remove_file(entry)?,
                Some(name) if name.starts_with('v') => remove_folder(&entry)?,
                // The kernel's own (`maps.debug`), or somebody else's.
                _ => {}
            }
        }
        // It may be a mount point, which stays.
        let _ = fs::remove_dir(root);
        Ok(())
    }
}

fn tier_name(tier: Tier) -> String {
    format!("v{LAYOUT_VERSION}-{}", tier.as_str())
}

fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Paths in a folder; none where there is no folder.
#[must_use]
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

/// Removes a folder of pins, which has no folders in it.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in entries(folder) {
        fs::remove_file(entry)?;
    }
    fs::remove_dir(folder)
}

/// A BPF file system keeps names with dots for itself.
fn escape(device: &str) -> String {
    device.replace('%', "%25").replace('.', "%2e")
}

fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_survive() {
        for device in ["eth0", "eth1.20", "a%2eb", "x%.-y"] {
            assert_eq!(unescape(&escape(device)), device);
            assert!(!escape(device).contains('.'));
        }
    }

    #[test]
    fn another_file_system_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Pins::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("mount -t bpf"), "{error}");
    }
}
