//! Guards as filters of the `clsact` qdisc, before Linux 6.6. A filter has no pin that would keep it and say whose it is:
//! it has a priority and a handle of its own, it stays until it is removed, and what is pinned is its program.

use std::{io, mem::ManuallyDrop, path::Path};

use aya::programs::{
    Link as _, ProgramInfo, TcAttachType, loaded_programs,
    tc::{SchedClassifierLink, TcHandle},
};

use super::interface;

/// Before those of almost everybody.
pub(super) const PRIORITY: u16 = 1;
/// `kord`.
pub const HANDLE: u32 = 0x6b6f_7264;

/// A filter outlives whoever attached it, unless its link is dropped.
pub(super) fn keep(link: SchedClassifierLink) {
    let _ = ManuallyDrop::new(link);
}

pub(super) fn link(device: &str) -> io::Result<SchedClassifierLink> {
    let handle = TcHandle::from(HANDLE);
    SchedClassifierLink::attached(device, TcAttachType::Ingress, PRIORITY, handle, None)
}

/// What the guard's program is called.
const NAME: &str = "guard";

/// The id of a pinned guard; `EINVAL` where something else is pinned.
pub(super) fn program_id(pin: &Path) -> io::Result<u32> {
    match ProgramInfo::from_pin(pin) {
        Ok(program) if program.name_as_str() == Some(NAME) => Ok(program.id()),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    }
}

/// Whether a program is a guard, of whatever controller.
pub(super) fn is_guard(program: u32) -> bool {
    let mut loaded = loaded_programs().flatten();
    loaded.any(|loaded| loaded.id() == program && loaded.name_as_str() == Some(NAME))
}

/// Removes the filter that runs a pinned program, whatever its interface is called now.
/// `EINVAL` where something else is pinned.
pub(super) fn remove(pin: &Path) -> io::Result<()> {
    remove_of(program_id(pin)?)
}

pub(super) fn remove_of(program: u32) -> io::Result<()> {
    let found = interface::with_filter(PRIORITY, HANDLE, program);
    for found in found.map_err(io::Error::other)? {
        link(&found.name)?.detach().map_err(io::Error::other)?;
    }
    Ok(())
}
