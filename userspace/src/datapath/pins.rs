//! Where things are pinned. One folder holds one instance:
//!
//! ```text
//! counters            outlive every version
//! directory           whose counters they are
//! flows-<v>  budgets-<v>  records-<v>  lost-<v>  beyond-<v>  marks-<v>  books-<v>  networks<n>-<v>
//!                     the ledger; <v> is `LEDGER_VERSION`, <n> counts from 0
//! links/<port>-<dev>  keep programs attached
//! guards/<dev>        keep guards attached, from Linux 6.6
//! filters/<dev>       guards that are tc filters, before: their programs
//! alone/<port>-<dev>  which port an interface has that is policed by its guard alone
//! guard_paths         what guards judge by
//! v<layout>-internet/ a layout version (`LAYOUT_VERSION`) and a tier
//!   generations  tables        outer maps
//!   planes                     the live generation's verdict planes
//!   slow  work                 the slow path, and its memory
//!   generation-<n>  table-<n>  inner maps, by the generation that brought them
//! ```
//!
//! Inner maps are matched by their ids with what the outer ones hold, so that an
//! interrupted update leaves nothing but a pin that nobody uses.

use std::{
    fs::{self, FileType},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use kordon_ebpf::layout::LAYOUT_VERSION;

use super::DatapathError;
use crate::compile::table::Tier;

/// The folder of guards that have links.
pub const GUARDS: &str = "guards";
/// The folder of guards that are filters.
pub const FILTERS: &str = "filters";
/// The folder of interfaces that have a guard and no link: their ports.
pub(super) const ALONE: &str = "alone";
/// The array of what guards judge by.
pub const PATHS: &str = "guard_paths";

/// How the name of a folder ends that could not be adopted.
const DAMAGED: &str = "-damaged";
/// What stands for a tier in the name of such a folder, of what all versions share.
const SHARED: &str = "shared";

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
        let pins = Self::of(root);
        pins.make()?;
        Ok(pins)
    }

    /// As they are, whether anything is there or not.
    pub(super) fn of(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// Folders of tiers, of whatever layout version.
    pub(super) fn tiers(&self) -> Vec<PathBuf> {
        let mut tiers = entries(&self.root);
        tiers.retain(|path| is_tier(name_of(path)) && is(path, FileType::is_dir));
        tiers.sort();
        tiers
    }

    /// The folders, unless they are there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn make(&self) -> Result<(), DatapathError> {
        let root = &self.root;
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
        for folder in ["links", GUARDS, FILTERS, ALONE] {
            make(&root.join(folder)).map_err(|e| {
                DatapathError::new(what(), format!("`{folder}` cannot be made there: {e}"))
            })?;
        }
        Ok(())
    }

    /// A file that all versions share.
    #[must_use]
    pub fn shared(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the folder of a tier is, or would be.
    #[must_use]
    pub fn tier_path(&self, tier: Tier) -> PathBuf {
        self.root.join(tier_name(tier))
    }

    /// Whether a tier of this layout version has its maps.
    #[must_use]
    pub fn has(&self, tier: Tier) -> bool {
        self.tier_path(tier).join("generations").exists()
    }

    /// The folder of a tier, made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn tier(&self, tier: Tier) -> Result<PathBuf, DatapathError> {
        let path = self.tier_path(tier);
        make(&path).map_err(|e| DatapathError::new(format!("make {}", path.display()), e))?;
        Ok(path)
    }

    /// Moves what cannot be adopted out of the way of what takes its place. Programs on interfaces go on
    /// with it, but the array of the slow path is emptied with its last pin: what needs it is dropped then.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn set_tier_aside(&self, tier: Tier) -> io::Result<()> {
        let path = self.tier_path(tier);
        if !path.exists() {
            return Ok(());
        }
        let aside = self.root.join(format!("{}{DAMAGED}", tier_name(tier)));
        remove_folder(&aside)?;
        fs::rename(path, aside)
    }

    /// As [`Self::set_tier_aside`], for all that versions share, and what counts in it.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn set_all_aside(&self) -> io::Result<()> {
        let aside = self
            .root
            .join(format!("v{LAYOUT_VERSION}-{SHARED}{DAMAGED}"));
        remove_folder(&aside)?;
        make(&aside)?;
        for name in ["counters", "directory"] {
            match fs::rename(self.shared(name), aside.join(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        self.forget_paths();
        Tier::ALL
            .into_iter()
            .try_for_each(|tier| self.set_tier_aside(tier))
    }

    /// Lets go of what guards judge by: it is over maps that nobody will change any more. Guards
    /// that are there only count then.
    pub(super) fn forget_paths(&self) {
        let _ = fs::remove_file(self.shared(PATHS));
    }

    /// What all versions share and has such a name.
    pub(super) fn named(&self, is_its: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let mut found = entries(&self.root);
        found.retain(|path| is_its(name_of(path)));
        found
    }

    /// Whether an earlier controller left maps, of whatever version.
    #[must_use]
    pub fn has_tiers(&self) -> bool {
        entries(&self.root)
            .iter()
            .any(|path| is_tier(name_of(path)))
    }

    /// Folders of tiers other than this one, and of other layout versions.
    #[must_use]
    pub fn others(&self, tier: Tier) -> Vec<PathBuf> {
        let mut others = self.tiers();
        others.retain(|path| name_of(path) != tier_name(tier));
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

    /// What says which port a device without a link has.
    #[must_use]
    pub fn alone(&self, port: u32, device: &str) -> PathBuf {
        self.root
            .join(ALONE)
            .join(format!("{port}-{}", escape(device)))
    }

    /// All of these: port and device.
    #[must_use]
    pub fn alone_devices(&self) -> Vec<(u32, String)> {
        let pins = entries(&self.root.join(ALONE));
        pins.iter()
            .filter_map(|path| link_of(name_of(path)))
            .collect()
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
            .filter_map(|path| link_of(name_of(path)))
            .collect();
        devices.sort();
        devices
    }

    /// Port and device of a link, by its pin.
    #[must_use]
    pub fn device_of(&self, pin: &Path) -> Option<(u32, String)> {
        let is_link = pin.parent() == Some(&*self.links());
        is_link.then(|| link_of(name_of(pin))).flatten()
    }
}

/// Why a pin that ought to be kordon's cannot be used, and what helps where it is not.
#[must_use]
pub fn not_ours(pin: &Path, error: &io::Error) -> String {
    let name = pin.display();
    match error.raw_os_error() {
        // Something else is pinned there, or it is a folder.
        Some(libc::EINVAL | libc::EACCES | libc::EISDIR) => format!(
            "what is at `{name}` is not kordon's ({error}); whoever put it there moves it, or \
             `rm -r {name}`"
        ),
        _ => format!("`{name}`: {error}"),
    }
}

/// The last part of a path; nothing of kordon's has one that is not UTF-8.
pub(super) fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).unwrap_or("")
}

/// What something is itself, whatever it leads to.
pub(super) fn is(path: &Path, kind: impl FnOnce(&FileType) -> bool) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| kind(&found.file_type()))
}

/// Port and device of a link's pin.
pub(super) fn link_of(name: &str) -> Option<(u32, String)> {
    let (port, device) = name.split_once('-')?;
    Some((port.parse().ok()?, unescape(device)))
}

/// Whether kordon of some version would call the folder of a tier so.
pub(super) fn is_tier(name: &str) -> bool {
    let parts = name.strip_prefix('v').and_then(|n| n.split_once('-'));
    parts.is_some_and(|(version, tier)| {
        let aside = tier.strip_suffix(DAMAGED);
        let is = |known: &Tier| known.as_str() == aside.unwrap_or(tier);
        is_number(version) && (Tier::ALL.iter().any(is) || aside == Some(SHARED))
    })
}

/// Whether the folder of a tier is one that this version takes over.
pub(super) fn is_current(folder: &Path) -> bool {
    let mut tiers = Tier::ALL.into_iter();
    tiers.any(|tier| name_of(folder) == tier_name(tier))
}

/// Whether it would call a map in there so.
fn is_map(name: &str) -> bool {
    match name.split_once('-') {
        None => matches!(
            name,
            "generations" | "tables" | "planes" | "slow" | "work" | "counters" | "directory"
        ),
        Some((kind, number)) => {
            matches!(kind, "generation" | "table" | "planes") && is_number(number)
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
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

/// Removes the maps in the folder of a tier, and the folder if that was all. Returns what
/// is left.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    for entry in entries(folder) {
        if is_map(name_of(&entry)) && is(&entry, FileType::is_file) {
            fs::remove_file(entry)?;
        } else if !name_of(folder).ends_with(DAMAGED) || fs::remove_dir(&entry).is_err() {
            // A folder in the place of a pin goes with the pins that it made useless.
            left.push(entry);
        }
    }
    remove_empty(folder)?;
    Ok(left)
}

pub(super) fn remove_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// A BPF file system keeps names with dots for itself.
fn escape(device: &str) -> String {
    device.replace('%', "%25").replace('.', "%2e")
}

fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests;
