//! For `status` and `doctor` without a daemon: what is still enforced, read from pins. Nothing is made,
//! locked or changed, so it is apart from what adopts them, which mends what it finds.

use std::{
    fs, io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use aya::{
    maps::{MapData, MapInfo},
    programs::loaded_programs,
};

use super::{
    Attached, DatapathError, foreign,
    guard_paths::are_in_place,
    interface,
    pins::{self, FILTERS, GUARDS, PATHS, Pins},
    system::{identity, link_target, open_pin, slot},
};

/// The pinned link of a device.
#[derive(Debug)]
pub struct Link {
    /// The device that it was made for.
    pub device: String,
    /// Where its program is; `None`: its interface is gone, or somebody took it off.
    ///
    /// # Errors
    /// Why that is not known.
    pub on: Result<Option<On>, String>,
}

/// A program on an interface.
#[derive(Debug)]
pub struct On {
    /// What the interface is called now.
    pub interface: String,
    /// How it is attached.
    pub mode: Attached,
    /// What it judges by; `None`: its maps are not pinned here any more.
    pub rules: Option<Rules>,
    /// Whether it is a program of kordon's at all: somebody may have replaced it.
    pub is_ours: bool,
}

/// Maps of one layout version and tier.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Their folder, `v5-internet`.
    pub folder: String,
    /// Whether this version of kordon would take them over.
    pub is_current: bool,
    /// Id of the array that programs open.
    generations: u32,
    /// Whether there is a live generation; without one everything passes.
    pub is_live: bool,
    /// Whether its slow path is there; without it, what the fast path does not decide is dropped.
    pub has_slow: bool,
    /// Its number; `None`: its pin is gone.
    pub generation: Option<u64>,
}

/// What is pinned for one instance.
#[derive(Debug, Default)]
pub struct Left {
    /// By port.
    pub links: Vec<Link>,
    /// Devices that a guard polices alone, and whether it is there and has what it judges by.
    pub alone: Vec<(String, bool)>,
    /// Folders of maps that no program of these links uses.
    pub unused: Vec<String>,
}

/// Looks at what is pinned under `root`.
///
/// # Errors
/// When it cannot be seen.
pub fn look(root: &Path) -> Result<Left, DatapathError> {
    let what = || format!("look at what is pinned at {}", root.display());
    if !readable(root).map_err(|e| DatapathError::new(what(), e))? {
        return Ok(Left::default());
    }
    let pins = Pins::of(root);
    let rules: Vec<Rules> = pins.tiers().iter().filter_map(|path| read(path)).collect();
    let mut links = Vec::new();
    for (port, device) in pins.devices() {
        let on = program_of(&pins.link(port, &device), &rules);
        links.push(Link { device, on });
    }
    let is_used = |folder: &Rules| {
        let on = links
            .iter()
            .filter_map(|link| link.on.as_ref().ok()?.as_ref());
        let mut used = on.filter_map(|on| on.rules.as_ref());
        used.any(|used| used.folder == folder.folder)
    };
    // Where a program is not known, what it uses is not.
    let alone = alone(&pins);
    let is_known = links.iter().all(|link| link.on.is_ok()) && alone.is_empty();
    let unused = rules.iter().filter(|folder| is_known && !is_used(folder));
    let unused = unused.map(|folder| folder.folder.clone()).collect();
    Ok(Left {
        links,
        alone,
        unused,
    })
}

fn alone(pins: &Pins) -> Vec<(String, bool)> {
    let paths = MapData::from_pin(pins.shared(PATHS));
    let judges = paths.is_ok_and(|paths| are_in_place(&paths));
    let devices = pins.alone_devices().into_iter();
    let guarded = devices.map(|(_, device)| {
        let link = link_target(&pins.guard(GUARDS, &device));
        let is_there =
            link.is_ok_and(|target| target.interface != 0) || pins.guard(FILTERS, &device).exists();
        (device, is_there && judges)
    });
    guarded.collect()
}

/// Which program of somebody else is on a device, in words, with the cure.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn foreign(device: &str) -> Result<Option<String>, DatapathError> {
    let found = interface::query(device)?;
    let program = found.and_then(|found| found.xdp);
    Ok(program.map(|(how, id)| foreign::describe(device, how, id)))
}

/// Whether there is such a folder, all of which can be seen. That nothing is pinned is only
/// known where a BPF file system is looked at: `ip netns exec` hides the router's.
fn readable(root: &Path) -> io::Result<bool> {
    let is_there = root.try_exists()?;
    let there = root.ancestors().find(|path| path.exists());
    let there = there.unwrap_or(Path::new("/"));
    if nix::sys::statfs::statfs(there)?.filesystem_type() != nix::sys::statfs::BPF_FS_MAGIC {
        return Err(io::Error::other(
            "no BPF file system is there (`ip netns exec` hides that of the router: \
             `nsenter --net=/run/netns/NAME` does not)",
        ));
    }
    if is_there {
        fs::read_dir(root)?;
        match fs::read_dir(root.join("links")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(is_there)
}

/// Where the program of a pinned link is.
fn program_of(pin: &Path, rules: &[Rules]) -> Result<Option<On>, String> {
    let target = link_target(pin).map_err(|e| pins::not_ours(pin, &e))?;
    if target.interface == 0 {
        return Ok(None);
    }
    let found = interface::query_index(target.interface).map_err(|e| e.to_string())?;
    // Numbers are by network namespace. Programs in several modes have no id there.
    let on_it = |(_, id): &(Attached, u32)| *id == target.program || *id == 0;
    let Some((found, (mode, _))) = found.and_then(|i| Some((i.clone(), i.xdp.filter(on_it)?)))
    else {
        return Err(format!(
            "its program is on interface {} of another network namespace",
            target.interface
        ));
    };
    let mut loaded = loaded_programs().flatten();
    let program = loaded.find(|loaded| loaded.id() == target.program);
    let used = program.and_then(|program| program.map_ids().ok()?);
    let used = used.unwrap_or_default();
    let rules = rules.iter().find(|rules| used.contains(&rules.generations));
    let is_ours = rules.is_some() || used.iter().any(|id| is_named(*id, "GENERATIONS"));
    Ok(Some(On {
        interface: found.name,
        mode,
        rules: rules.cloned(),
        is_ours,
    }))
}

/// Whether a map has this name.
fn is_named(id: u32, name: &str) -> bool {
    let found = MapInfo::from_id(id);
    found.is_ok_and(|map| map.name_as_str() == Some(name))
}

/// The maps of a folder; `None`: they are not there.
fn read(folder: &Path) -> Option<Rules> {
    let id = |pin: &Path| Some(identity(open_pin(pin).ok()?.as_raw_fd()).ok()?.1);
    let outer = folder.join("generations");
    let live = slot(&MapData::from_pin(&outer).ok()?, 0).ok()?;
    let number = |pin: &PathBuf| {
        pin.file_name()?
            .to_str()?
            .strip_prefix("generation-")?
            .parse()
            .ok()
    };
    let inner = pins::entries(folder);
    let mut inner = inner.iter().filter_map(|pin| Some((number(pin)?, pin)));
    Some(Rules {
        folder: folder.file_name()?.to_str()?.to_owned(),
        is_current: pins::is_current(folder),
        generations: id(&outer)?,
        is_live: live.is_some(),
        // Layouts before the sixth had none of its own.
        has_slow: match MapData::from_pin(folder.join("slow")) {
            Ok(array) => slot(&array, 0).ok()?.is_some(),
            Err(_) => !pins::is_current(folder),
        },
        generation: live.and_then(|live| Some(inner.find(|(_, pin)| id(pin) == Some(live))?.0)),
    })
}
