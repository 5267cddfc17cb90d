//! Keeps pins and links open, and pins again what somebody removed: a link with
//! an open descriptor keeps its program, and a map its counts, whatever becomes of their pins.
//! Only what a later controller is to find depends on these.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::maps::MapData;

use super::{
    DatapathError,
    kernel::Datapath,
    maps::Maps,
    pins::PATHS,
    system::{Target, identity, link_target, open_pin, pin_object, target_of},
};

impl Datapath {
    /// Sees to it that all that is live is pinned where a later controller looks for it.
    /// What is in the way there goes. Returns the pins that were not there.
    ///
    /// # Errors
    /// Of the first that cannot be pinned, after all others.
    pub fn pin_again(&mut self) -> Result<Vec<PathBuf>, DatapathError> {
        // Nothing brings back a link whose interface is gone, or that somebody took off.
        self.held
            .retain(|_, held| target_of(held.as_fd()).map_or(true, |target| target.interface != 0));
        let mut failed = self.pins.make().err();
        if let Some(maps) = &self.maps {
            failed = failed.or(self.pins.tier(maps.tier).err());
        }
        self.counting.ledger.look(&self.pins);
        let mut made = Vec::new();
        for (pin, object) in self.live_objects() {
            if is_pinned(&pin, object) {
                continue;
            }
            match pin_in_place(&pin, object) {
                Ok(()) => made.push(pin),
                Err(e) => {
                    let what = format!("pin {} again", pin.display());
                    failed = failed.or(Some(DatapathError::new(what, e)));
                }
            }
        }
        if let (Some(slow), Some(maps)) = (&mut self.slow, &self.maps) {
            match slow.put_again(maps) {
                Ok(true) => tracing::error!(
                    "somebody took the slow path out of {}: what the fast path does not decide was \
                     dropped, and not counted, since the last look; it is back",
                    maps.folder.join("slow").display()
                ),
                Ok(false) => {}
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        failed.map_or(Ok(made), Err)
    }

    /// What is live, and where it is pinned.
    fn live_objects(&self) -> Vec<(PathBuf, BorrowedFd<'_>)> {
        let mut objects = vec![
            (self.pins.shared("counters"), fd(&self.counting.counters)),
            (self.pins.shared("directory"), fd(&self.directory_map.map)),
        ];
        let ledger = self.counting.ledger.pinned();
        objects.extend(ledger.map(|(name, map)| (self.pins.shared(&name), fd(map))));
        if let Some(maps) = &self.maps {
            let table = self.table.as_ref().map(|table| &table.map);
            objects.extend(maps.live_objects(table));
        }
        if let Some(paths) = &self.guard_paths {
            objects.push((self.pins.shared(PATHS), fd(paths.array())));
        }
        let held = self.held.iter();
        objects.extend(held.map(|(pin, held)| (pin.clone(), held.as_fd())));
        objects
    }

    /// Keeps open what is pinned.
    pub(super) fn hold(&mut self, pin: PathBuf) -> io::Result<()> {
        let object = open_pin(&pin)?;
        self.held.insert(pin, object);
        Ok(())
    }

    /// Holds and pins it. It is held although it cannot be pinned, and pinned as soon as it
    /// can be.
    pub(super) fn hold_and_pin(&mut self, pin: PathBuf, object: OwnedFd) {
        if let Err(e) = self
            .pins
            .make()
            .map_err(io::Error::other)
            .and_then(|()| pin_in_place(&pin, object.as_fd()))
        {
            tracing::debug!("cannot pin {}: {e}", pin.display());
        }
        self.held.insert(pin, object);
    }

    /// Another name for a pin and what is held with it. Nothing that has the name is replaced.
    pub(super) fn rename_pin(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if from == to {
            return Ok(());
        }
        if to.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(from, to)?;
        if let Some(object) = self.held.remove(from) {
            self.held.insert(to.into(), object);
        }
        Ok(())
    }

    /// Links that are pinned, or held and about to be: port and device.
    pub(super) fn links(&self) -> Vec<(u32, String)> {
        let mut links = self.pins.devices();
        links.extend(self.held.keys().filter_map(|pin| self.pins.device_of(pin)));
        links.sort();
        links.dedup();
        links
    }

    /// Whether something is pinned, or held and about to be.
    pub(super) fn is_there(&self, pin: &Path) -> bool {
        self.held.contains_key(pin) || pin.exists()
    }

    /// Where a link is, whatever became of its pin.
    pub(super) fn target(&self, pin: &Path) -> io::Result<Target> {
        match self.held.get(pin) {
            Some(held) => target_of(held.as_fd()),
            None => link_target(pin),
        }
    }

    /// Removes a pin, and what is held with it.
    pub(super) fn unpin(&mut self, pin: &Path) -> io::Result<()> {
        self.held.remove(pin);
        use io::ErrorKind::{NotADirectory, NotFound};
        match fs::remove_file(pin) {
            // Something else may lie where the folder was.
            Err(e) if !matches!(e.kind(), NotFound | NotADirectory) => Err(e),
            _ => Ok(()),
        }
    }
}

impl Maps {
    fn live_objects<'a>(&'a self, table: Option<&'a MapData>) -> Vec<(PathBuf, BorrowedFd<'a>)> {
        let at = |name: &str| self.folder.join(name);
        let mut objects = vec![
            (at("generations"), fd(&self.generations)),
            (at("tables"), fd(&self.tables)),
            (at("planes"), fd(&self.planes.map)),
            (at("slow"), fd(&self.slow)),
            (at("work"), fd(&self.work)),
        ];
        let Some(generation) = &self.generation else {
            return objects;
        };
        let number = generation.generation().number;
        objects.push((at(&format!("generation-{number}")), fd(&generation.map)));
        if let Some(table) = table {
            // It is called after the generation that brought it, which nobody knows any more.
            let mut pins = self.inner_pins("table").into_iter();
            let pin = pins.find(|pin| is_pinned(pin, fd(table)));
            let pin = pin.unwrap_or_else(|| at(&format!("table-{number}")));
            objects.push((pin, fd(table)));
        }
        objects
    }
}

fn fd(map: &MapData) -> BorrowedFd<'_> {
    map.fd().as_fd()
}

/// Whether it is this that is pinned there.
fn is_pinned(pin: &Path, object: BorrowedFd<'_>) -> bool {
    let there = open_pin(pin).and_then(|there| identity(there.as_raw_fd()));
    let ours = identity(object.as_raw_fd());
    matches!((there, ours), (Ok(there), Ok(ours)) if there == ours)
}

fn pin_in_place(pin: &Path, object: BorrowedFd<'_>) -> io::Result<()> {
    if let Err(e) = fs::remove_file(pin).or_else(|_| fs::remove_dir(pin))
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(e);
    }
    pin_object(pin, object)
}
