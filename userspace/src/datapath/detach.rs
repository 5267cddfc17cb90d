//! All of an instance taken out of the kernel: programs first, then the maps that they judge by.

use std::{
    fs::{self, FileType},
    io,
    path::{Path, PathBuf},
};

use super::{
    filter, ledger,
    pins::{
        ALONE, FILTERS, GUARDS, PATHS, entries, is, is_tier, link_of, name_of, remove_empty,
        remove_folder,
    },
    system::detach_link,
};

/// Takes programs off and removes what kordon pinned here: first the links, so that no
/// program is left without maps. Returns what is left, because kordon does not make
/// such things; what links lead to is not looked at.
///
/// # Errors
/// When something of kordon's cannot be removed.
pub(super) fn remove(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    let is_port: fn(&str) -> bool = |name| link_of(name).is_some();
    let is_device: fn(&str) -> bool = |name| !name.is_empty();
    type TakeOff = fn(&Path) -> io::Result<()>;
    for (folder, is_ours, take_off) in [
        ("links", is_port, detach_link as TakeOff),
        (GUARDS, is_device, detach_link),
        (FILTERS, is_device, filter::remove),
        (ALONE, is_port, |_| Ok(())),
    ] {
        let folder = root.join(folder);
        if !is(&folder, FileType::is_dir) {
            continue;
        }
        for pin in entries(&folder) {
            if !is(&pin, FileType::is_file) || !is_ours(name_of(&pin)) {
                left.push(pin);
                continue;
            }
            match take_off(&pin) {
                Ok(()) => fs::remove_file(pin)?,
                // Something else is pinned there.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => left.push(pin),
                Err(e) => return Err(e),
            }
        }
        remove_empty(&folder)?;
    }
    for entry in entries(root) {
        let (file, folder) = (is(&entry, FileType::is_file), is(&entry, FileType::is_dir));
        match name_of(&entry) {
            "counters" | "directory" | PATHS if file => fs::remove_file(entry)?,
            name if file && ledger::is_pin(name) => fs::remove_file(entry)?,
            name if folder && is_tier(name) => left.extend(remove_folder(&entry)?),
            // What is left in there was said.
            "links" | GUARDS | FILTERS | ALONE if folder => {}
            // The kernel's own.
            "maps.debug" | "progs.debug" => {}
            _ => left.push(entry),
        }
    }
    // It may be a mount point, which stays.
    let _ = fs::remove_dir(root);
    left.sort();
    Ok(left)
}

#[cfg(test)]
mod tests;
