//! The BPF object files in this binary, and the names in them: four programs for each size tier, the guard, the clock.
//! An interface has a `kordon` of its own, which knows its port; what that does not decide goes on to `slow`, which all
//! have in common. Behind it is a `guard` of its own, with `guard_fast` and `guard_slow` likewise.

use std::os::fd::AsFd as _;

use aya::{
    Ebpf,
    maps::Map,
    programs::{Program, ProgramError, Xdp},
};

use super::{DatapathError, chain, loader::Loader, refused, system::set_program};
use crate::compile::table::Tier;

static SMALL: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-small"));
static INTERNET: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-internet"));
static LARGE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-large"));

/// The object file of the guard.
pub static GUARD: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-guard"));

/// The object file of the ledger's clock.
pub(super) static CLOCK_OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kordon-clock"));
/// Its program.
pub(super) const CLOCK: &str = "clock";

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
/// What the guards call, and what that calls.
pub const GUARD_FAST: &str = "guard_fast";
/// See [`GUARD_FAST`].
pub const GUARD_SLOW: &str = "guard_slow";

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

/// Loads a program of an object.
///
/// # Errors
/// When it is not in it, or the kernel refuses it.
pub fn load_one(ebpf: &mut Ebpf, name: &str) -> Result<(), ProgramError> {
    match ebpf.program_mut(name) {
        Some(Program::Xdp(program)) => program.load(),
        Some(Program::SchedClassifier(program)) => program.load(),
        _ => Err(ProgramError::NotLoaded),
    }
}

/// Loads programs of a tier's object, with the constants `mode` and `trace` that `loader` has; what is known
/// to be refused costs no maps.
///
/// # Errors
/// When the kernel refuses one.
pub(super) fn load(
    loader: Loader,
    tier: Tier,
    names: &[&'static str],
    (mode, trace): (u32, u32),
) -> Result<Ebpf, DatapathError> {
    let what = |name: &str| format!("load the program `{name}`");
    let which = |name| (tier.as_str(), name, mode, trace);
    for name in names {
        refused::check(&what(name), which(*name))?;
    }
    let mut ebpf = loader
        .load()
        .map_err(|e| DatapathError::new("load the maps", chain(&e)))?;
    for name in names {
        refused::loaded(&what(name), which(*name), || load_one(&mut ebpf, name))?;
    }
    Ok(ebpf)
}

/// Lets programs that share its maps call the slow path of an object, which is loaded. It stays
/// there as long as the map is pinned or open here.
///
/// # Errors
/// When the kernel refuses.
pub fn put_slow(ebpf: &Ebpf) -> Result<(), DatapathError> {
    let what = || format!("put the program `{SLOW}` in place");
    let program = ebpf.program(SLOW).ok_or(ProgramError::NotLoaded);
    let program = program.and_then(|program| program.fd());
    let program = program.map_err(|e| DatapathError::new(what(), e))?;
    match ebpf.map("SLOW") {
        Some(Map::ProgramArray(map)) => {
            set_program(map, 0, program.as_fd()).map_err(|e| DatapathError::new(what(), e))
        }
        _ => Err(DatapathError::new(what(), "its map is not in the object")),
    }
}
