//! What a daemon has of memory, files and BPF objects. What it had and has no longer must be gone
//! from the kernel: of that only the kernel's own lists tell, which are of the whole machine, so
//! objects are remembered by their numbers.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::{
    maps::{MapInfo, loaded_maps},
    programs::{
        links::{FdLink, LinkInfo, PinnedLink},
        loaded_links, loaded_programs,
    },
};

/// At one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Resident memory, in KiB.
    pub resident: u64,
    /// Open files.
    pub files: usize,
    /// What is pinned, below its place in the BPF file system, whatever its number.
    pub pins: BTreeSet<PathBuf>,
}

impl Health {
    /// Of the daemon with this process number and these pins.
    ///
    /// # Errors
    /// If it is gone.
    pub fn of(pid: u32, bpffs: &Path) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .with_context(|| format!("no process {pid}"))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        let pins = pinned(bpffs)?.into_iter();
        let unnumbered = |pin: PathBuf| {
            let name = pin.to_string_lossy();
            name.trim_end_matches(|c: char| c.is_ascii_digit()).into()
        };
        Ok(Self {
            resident: resident.context("no VmRSS")?.parse()?,
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            pins: pins.map(unnumbered).collect(),
        })
    }
}

/// Pins below a folder.
fn pinned(bpffs: &Path) -> Result<Vec<PathBuf>> {
    let (mut pins, mut folders) = (Vec::new(), vec![bpffs.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_none_or(|of_kernel| of_kernel != "debug")
            {
                pins.push(path.strip_prefix(bpffs)?.to_owned());
            }
        }
    }
    Ok(pins)
}

/// What a BPF object is, and its number.
type Object = (&'static str, u32);

/// All objects that daemons were seen with.
#[derive(Debug, Default)]
pub struct Objects(BTreeSet<Object>);

impl Objects {
    /// Remembers what a daemon holds and has pinned now. What goes meanwhile is passed over.
    ///
    /// # Errors
    /// If the daemon is gone.
    pub fn remember(&mut self, pid: u32, bpffs: &Path) -> Result<()> {
        for pin in pinned(bpffs)? {
            let path = bpffs.join(&pin);
            if pin.starts_with("links") || pin.starts_with("guards") {
                let link = PinnedLink::from_pin(path).ok();
                let link = link.and_then(|link| FdLink::from(link).info().ok());
                let objects = |l: LinkInfo| [("link", l.id()), ("prog", l.program_id())];
                self.0.extend(link.into_iter().flat_map(objects));
            } else if let Ok(map) = MapInfo::from_pin(path) {
                self.0.insert(("map", map.id()));
            }
        }
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            for kind in ["map", "prog", "link"] {
                let number = text.lines().find_map(|line| {
                    let (name, number) = line.split_once("_id:")?;
                    (name == kind).then(|| number.trim().parse().ok())?
                });
                self.0.extend(number.map(|number| (kind, number)));
            }
        }
        Ok(())
    }

    /// How many of them there are still: maps, programs, links.
    #[must_use]
    pub fn alive(&self) -> [usize; 3] {
        // What vanishes while a list is read is not in it.
        let maps = loaded_maps().flatten().map(|map| ("map", map.id()));
        let programs = loaded_programs().flatten();
        let programs = programs.map(|program| ("prog", program.id()));
        let links = loaded_links().flatten().map(|link| ("link", link.id()));
        [self.among(maps), self.among(programs), self.among(links)]
    }

    /// How many there were.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.0.len()
    }

    fn among(&self, objects: impl Iterator<Item = Object>) -> usize {
        objects.filter(|object| self.0.contains(object)).count()
    }
}
