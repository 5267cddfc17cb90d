//! A BPF file system of one's own: pins of one instance of kordon, apart from
//! the machine's /sys/fs/bpf and from other tests.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::namespace::{OWNED, owned_prefix};

/// A mounted BPF file system. Unmounted on drop: what was pinned there only goes.
#[derive(Debug)]
pub struct Bpffs {
    path: PathBuf,
    owned: bool,
}

impl Bpffs {
    /// Mounts one on a new directory that carries this process's name.
    ///
    /// # Errors
    ///
    /// If it cannot be mounted (it needs root).
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::at(&env::temp_dir().join(format!("{}-{number}-bpffs", owned_prefix()?)))
    }

    /// Mounts one on `path`, which is made if need be.
    ///
    /// # Errors
    ///
    /// As [`Bpffs::new`].
    pub fn at(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        mount(
            Some("bpf"),
            path,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("cannot mount a BPF file system on {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            owned: true,
        })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it mounted when the value is dropped.
    pub fn keep(&mut self) {
        self.owned = false;
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        if self.owned {
            unmount(&self.path);
        }
    }
}

/// Unmounts and removes the directory. What fails here is found by the next `cleanup`.
pub fn unmount(path: &Path) {
    // Detached at once: a process that still has a pin open does not hold it back.
    if let Err(error) = umount2(path, MntFlags::MNT_DETACH) {
        eprintln!("cannot unmount {}: {error}", path.display());
    }
    if let Err(error) = fs::remove_dir(path) {
        eprintln!("cannot remove {}: {error}", path.display());
    }
}

/// Mounted directories of [`Bpffs::new`] whose name `goes` says yes to.
pub(crate) fn leftovers(goes: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mounts =
        fs::read_to_string("/proc/self/mounts").context("cannot read the list of mounts")?;
    let paths = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (path, kind) = (fields.nth(1)?, fields.next()?);
            let name = Path::new(path).file_name()?.to_str()?;
            (kind == "bpf" && name.starts_with(OWNED) && goes(name)).then(|| PathBuf::from(path))
        })
        .collect();
    Ok(paths)
}
