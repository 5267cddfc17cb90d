//! Who has a folder. A daemon locks its state and its pins, so that a second one that is given the
//! same by mistake does not start. A lock stays with the file that it was taken of: where somebody
//! removes the folder and there is another, it is taken again.

use std::{
    fs::{File, Metadata, TryLockError},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::Context as _;
use nix::sys::stat;

use super::files::{StateError, failed};
use crate::datapath::pins::Pins;

/// Takes a lock that goes with the process.
pub(super) fn lock(file: File, path: &Path, what: &'static str) -> Result<File, StateError> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StateError::Taken {
            path: path.display().to_string(),
            what,
        }),
        Err(TryLockError::Error(source)) => Err(failed("lock", path)(source)),
    }
}

/// Whether a lock is still of the file at a path.
pub(super) fn is_of(held: &File, path: &Path) -> bool {
    let number = |metadata: Metadata| (metadata.dev(), metadata.ino());
    match (held.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => number(ours) == number(there),
        _ => false,
    }
}

/// Keeps a second daemon off the pins. A BPF file system has no files to lock, but
/// its folders can be.
pub(crate) fn lock_pins(bpffs: &Path) -> anyhow::Result<File> {
    Pins::open(bpffs)?;
    let folder = File::open(bpffs).with_context(|| format!("cannot open {}", bpffs.display()))?;
    Ok(lock(folder, bpffs, "`--bpffs`")?)
}

/// The process that keeps others off the pins. Asked without a lock of its own, which would
/// keep a daemon from starting just then.
pub(crate) fn holder(bpffs: &Path) -> Option<u32> {
    let folder = std::fs::metadata(bpffs).ok()?;
    // proc_locks(5), as `FLOCK ADVISORY WRITE 3161 fe:00:5613327 0 EOF`.
    let (major, minor) = (stat::major(folder.dev()), stat::minor(folder.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", folder.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let at = fields.iter().position(|field| *field == place)?;
        fields.get(at.checked_sub(1)?)?.parse().ok()
    })
}

/// The same again where there is another folder by now.
pub(crate) fn lock_pins_again(pins: &mut File, bpffs: &Path) {
    if !is_of(pins, bpffs) {
        match lock_pins(bpffs) {
            Ok(locked) => *pins = locked,
            // With the next tick it is tried again.
            Err(e) => tracing::debug!("cannot lock {}: {e:#}", bpffs.display()),
        }
    }
}
