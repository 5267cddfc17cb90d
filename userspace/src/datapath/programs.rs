//! The compiled programs: two for each size tier, and the guard. An interface has a `kordon` of its
//! own, which knows its port; what that does not decide goes on to `slow`, which all have in common.

use aya::{Ebpf, maps::ProgramArray, programs::Xdp};

use super::{DatapathError, refused};
use crate::compile::table::Tier;

static SMALL: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-small"));
static INTERNET: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-internet"));
static LARGE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-large"));

/// The object file of the guard.
pub static GUARD: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-guard"));

/// The object file of a tier.
#[must_use]
pub fn object(tier: Tier) -> &'static [u8] {
    match tier {
        Tier::Small => SMALL,
        Tier::Internet => INTERNET,
        Tier::Large => LARGE,
    }
}

/// Bytes of the memory that a tier's programs have for the slow path: as their compiler laid it out.
pub(super) fn size_of_work(tier: Tier) -> Result<usize, DatapathError> {
    let object = aya_obj::Object::parse(object(tier))
        .map_err(|e| DatapathError::new("read the programs", e))?;
    let work = object.maps.get("WORK").map(|map| map.value_size() as usize);
    work.ok_or_else(|| DatapathError::new("read the programs", "there is no map `WORK`"))
}

/// Bytes of the ring of a program that logs nothing: the least there can be.
pub const NO_LOG: u32 = 4096;

/// The program of an interface.
pub const FAST: &str = "kordon";
/// What it calls.
pub const SLOW: &str = "slow";

/// A program of an object.
///
/// # Errors
/// When it is not in it.
pub fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, DatapathError> {
    let what = || format!("find the program `{name}`");
    let Some(program) = ebpf.program_mut(name) else {
        return Err(DatapathError::new(what(), "it is not in the object"));
    };
    program
        .try_into()
        .map_err(|e| DatapathError::new(what(), e))
}

/// Loads a program of an object whose constants are `mode` and `trace`.
///
/// # Errors
/// When the kernel refuses it.
pub(super) fn load(
    ebpf: &mut Ebpf,
    name: &'static str,
    constants: (Tier, u32, u32),
) -> Result<(), DatapathError> {
    let (tier, mode, trace) = constants;
    let which = (tier.as_str(), name, mode, trace);
    let program = program(ebpf, name)?;
    refused::loaded(&format!("load the program `{name}`"), which, || {
        program.load()
    })
}

/// Lets programs that share its maps call the slow path of an object, which is loaded. It stays
/// there as long as the map is pinned or open here.
///
/// # Errors
/// When the kernel refuses.
pub fn put_slow(ebpf: &mut Ebpf) -> Result<(), DatapathError> {
    let what = || format!("put the program `{SLOW}` in place");
    let program = program(ebpf, SLOW)?.fd();
    let program = program.and_then(|fd| Ok(fd.try_clone()?));
    let program = program.map_err(|e| DatapathError::new(what(), e))?;
    let map = ebpf.map_mut("SLOW").map(ProgramArray::<&mut _>::try_from);
    match map {
        Some(Ok(mut map)) => map
            .set(0, &program, 0)
            .map_err(|e| DatapathError::new(what(), e)),
        _ => Err(DatapathError::new(what(), "its map is not in the object")),
    }
}
