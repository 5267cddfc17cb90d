//! Makes programs and maps of object files. aya's loader reads all types of the running kernel when it is made (some
//! hundred thousand: 35 ms), for relocations that no program of kordon has. So a loader is used again, for all that differs
//! in nothing but values: whatever is said of one object is said anew each time, and nothing stays of the time before.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::{Ebpf, EbpfError, EbpfLoader};

/// The names of what is said of an object, and where that lies in memory.
type Kind = (usize, Vec<&'static str>);

/// Loaders that nobody uses at this moment.
static IDLE: Mutex<BTreeMap<Kind, Vec<EbpfLoader<'static>>>> = Mutex::new(BTreeMap::new());

/// Held by whoever makes one: it has all these types in memory for a moment.
static MAKING: Mutex<()> = Mutex::new(());

/// Each number that was the value of a constant: loaders borrow them. Ports, counter slots and settings: some hundred.
static NUMBERS: Mutex<BTreeMap<u32, &'static u32>> = Mutex::new(BTreeMap::new());

/// An object file, and what is said of it.
pub(super) struct Loader {
    object: &'static [u8],
    constants: Vec<(&'static str, u32)>,
    pins: Vec<(&'static str, PathBuf)>,
    entries: Vec<(&'static str, u32)>,
}

impl Loader {
    /// Of which nothing is said yet.
    pub(super) fn of(object: &'static [u8]) -> Self {
        Self {
            object,
            constants: Vec::new(),
            pins: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// The value of a constant, which has to be in the object.
    pub(super) fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.constants.push((name, value));
        self
    }

    /// Where a map is pinned, or will be.
    pub(super) fn pin(mut self, map: &'static str, path: PathBuf) -> Self {
        self.pins.push((map, path));
        self
    }

    /// How many entries a map has.
    pub(super) fn entries(mut self, map: &'static str, entries: u32) -> Self {
        self.entries.push((map, entries));
        self
    }

    /// Makes the maps, or opens them. Programs are loaded one by one after that.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn load(self) -> Result<Ebpf, EbpfError> {
        let (constants, pins) = (self.constants.iter(), self.pins.iter());
        let names = constants
            .map(|(name, _)| *name)
            .chain(pins.map(|(name, _)| *name))
            .chain(self.entries.iter().map(|(name, _)| *name));
        let kind = (self.object.as_ptr() as usize, names.collect());
        let idle = locked(&IDLE).get_mut(&kind).and_then(Vec::pop);
        let mut loader = idle.unwrap_or_else(|| {
            let _one = locked(&MAKING);
            let mut loader = EbpfLoader::new();
            loader.btf(None);
            loader
        });
        for (name, value) in self.constants {
            loader.override_global(name, number(value), true);
        }
        for (map, path) in self.pins {
            loader.map_pin_path(map, path);
        }
        for (map, entries) in self.entries {
            loader.map_max_entries(map, entries);
        }
        let loaded = loader.load(self.object);
        locked(&IDLE).entry(kind).or_default().push(loader);
        loaded
    }
}

fn number(value: u32) -> &'static u32 {
    let mut numbers = locked(&NUMBERS);
    numbers
        .entry(value)
        .or_insert_with(|| Box::leak(Box::new(value)))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::programs::{CLOCK_OBJECT, GUARD, object};
    use crate::compile::table::Tier;

    /// Else they had to be relocated by the types of the running kernel.
    #[test]
    fn no_program_reads_what_the_kernel_lays_out() {
        let objects = Tier::ALL.map(object).into_iter();
        for object in objects.chain([GUARD, CLOCK_OBJECT]) {
            // `struct btf_ext_header`, which has 32 bytes where `struct btf_header` has 24.
            let start = object
                .windows(8)
                .position(|bytes| bytes == [0x9f, 0xeb, 1, 0, 32, 0, 0, 0])
                .expect("the object has .BTF.ext");
            let relocations = &object[start + 28..start + 32];
            assert_eq!(relocations, [0; 4], "CO-RE relocations");
        }
    }
}
