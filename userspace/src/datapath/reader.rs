//! What can be read of the datapath while it is changed: the counters, and whether programs
//! are where they were put. Whoever only asks does not wait for a change, and every answer
//! comes from the kernel, at that moment.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use aya::maps::MapData;
use kordon_ebpf::layout::Counter;

use super::{Attached, DatapathError, interface, kernel::Datapath, system::counters};
use crate::compile::directory::{Directory, Identity};

/// See the module.
#[derive(Clone, Debug)]
pub struct Reader {
    counters: Arc<MapData>,
    directory: Arc<Directory>,
    /// Devices, the program on each, and the number of the interface that it was put on.
    attached: BTreeMap<String, (u32, Option<u32>)>,
    newest: Arc<Mutex<BTreeMap<String, u32>>>,
}

/// How often, and after which pause, an interface is looked at again that has another program:
/// a change of the tables' size puts new ones there, one after the other.
const AGAIN: (u32, Duration) = (3, Duration::from_millis(5));

impl Datapath {
    /// A reader of what is live now. Counters that are given later, and programs that are
    /// attached later, are those of later readers.
    #[must_use]
    pub fn reader(&self) -> Reader {
        let attached = self.attached.iter();
        let linked = self.all_linked();
        Reader {
            counters: Arc::clone(&self.counting.counters),
            directory: Arc::clone(&self.directory),
            attached: attached
                .map(|(device, id)| (device.clone(), (*id, linked.get(device).copied())))
                .collect(),
            newest: Arc::clone(&self.newest),
        }
    }
}

impl Reader {
    /// All counters that have counted something, all CPUs added.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counts(&self) -> Result<Vec<(Identity, Counter)>, DatapathError> {
        let counted = self.counters()?.into_iter().zip(0..);
        Ok(counted
            .filter(|(counter, _)| counter.packets > 0)
            .filter_map(|(counter, slot)| Some((self.directory.identity(slot)?, counter)))
            .collect())
    }

    /// All counters that have been given, by slot.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn counters(&self) -> Result<Vec<Counter>, DatapathError> {
        counters(&self.counters, self.directory.used() as usize)
            .map_err(|e| DatapathError::new("read the counters", e))
    }

    /// What tells these counters from others of this boot.
    #[must_use]
    pub fn counters_id(&self) -> Option<u32> {
        self.counters.info().ok().map(|info| info.id())
    }

    /// Whose a counter is.
    #[must_use]
    pub fn identity(&self, slot: u32) -> Option<Identity> {
        self.directory.identity(slot)
    }

    /// How many counters have been given.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.directory.used()
    }

    /// Whether the controller's program is on the device, and how; asks the kernel.
    #[must_use]
    pub fn attached(&self, device: &str) -> Option<Attached> {
        let (ours, index) = *self.attached.get(device)?;
        let (times, pause) = AGAIN;
        for _ in 0..times {
            let found = match interface::query(device).ok()? {
                Some(found) => found,
                // It is called something else now.
                None => interface::query_index(index?).ok()??,
            };
            let (how, id) = found.xdp?;
            let newest = self.newest.lock();
            let newest = newest
                .unwrap_or_else(PoisonError::into_inner)
                .get(device)
                .copied();
            if id == ours || newest == Some(id) {
                return Some(how);
            }
            thread::sleep(pause);
        }
        None
    }
}
