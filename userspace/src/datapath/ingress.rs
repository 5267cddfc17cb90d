//! What is called before the guard at tc ingress of an interface. From Linux 6.6 programs may be put
//! there before others, and each may end what comes behind it: then the guard is not called, and
//! cannot notice that.

use std::{io, num::NonZeroUsize};

use super::{DatapathError, guard::Hook, interface::Interface, kernel::Datapath, system::bpf};

/// Of `enum bpf_cmd` in `linux/bpf.h`.
const BPF_PROG_QUERY: libc::c_int = 16;

/// The part that `BPF_PROG_QUERY` reads and writes.
#[repr(C)]
#[derive(Default)]
struct Query {
    interface: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// `BPF_TCX_INGRESS` of `enum bpf_attach_type`.
const TCX_INGRESS: u32 = 46;
/// Programs that may be at one place of an interface (`BPF_MPROG_MAX`).
const MOST_PROGRAMS: usize = 64;

/// Ids of the programs at tc ingress of an interface, in the order in which they are called, as far
/// as they are there by TCX: filters come behind them.
///
/// # Errors
/// `EINVAL` before Linux 6.6, which has no TCX.
fn at_ingress(interface: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MOST_PROGRAMS];
    let mut query = Query {
        interface,
        kind: TCX_INGRESS,
        programs: ids.as_mut_ptr() as u64,
        count: MOST_PROGRAMS as u32,
        ..Query::default()
    };
    // SAFETY: the attribute has the layout that the command reads and writes; the ids have the
    // length that it says, and live as long as the call.
    unsafe { bpf(BPF_PROG_QUERY, &raw mut query) }?;
    let count = (query.count as usize).min(MOST_PROGRAMS);
    Ok(ids[..count].to_vec())
}

impl Datapath {
    /// How many programs of others are called before the guard of a device, which is attached so.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn before_guard(
        &self,
        device: &str,
        found: &Interface,
        hook: Hook,
    ) -> Result<Option<NonZeroUsize>, DatapathError> {
        let what = || format!("see what is before the guard of `{device}`");
        let all = match at_ingress(found.index) {
            Ok(all) => all,
            // Filters of one priority are called one after the other, and none is before the first.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
            Err(e) => return Err(DatapathError::new(what(), e)),
        };
        let ours = self.guards.get(device).map(|(id, _)| *id);
        let count = match hook {
            Hook::Tcx => all.iter().position(|id| Some(*id) == ours),
            // Filters come behind all of them.
            Hook::Clsact => Some(all.len()),
        };
        count
            .map(NonZeroUsize::new)
            .ok_or_else(|| DatapathError::new(what(), "it is not there"))
    }
}
