//! What is live: pinned maps, the live generation, programs on interfaces.

use std::{path::Path, time::Duration};

use kordon_ebpf::layout::Counter;

use super::{DatapathError, probe::Prober};
use crate::compile::{
    directory::Directory,
    generation::Rules,
    table::{FlatTable, Tier},
};

/// How a program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

/// How an interface is to be attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Native where the driver can, else generic.
    #[default]
    Auto,
    /// Native or not at all.
    Native,
    /// Generic.
    Generic,
}

/// What is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveGeneration {
    /// Number, rising.
    pub number: u64,
    /// `Generation::hash`.
    pub hash: [u8; 32],
    /// `Generation::table_key`.
    pub table_key: [u8; 32],
    /// Size of the maps.
    pub tier: Tier,
}

/// A generation that was made live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub number: u64,
    /// Whether a table was written, or the live one kept.
    pub table_written: bool,
    /// How long the pointer swap took.
    pub swap: Duration,
}

/// Everything of one instance in the kernel.
pub struct Datapath {}

impl Datapath {
    /// Adopts what is pinned under `bpffs`, or makes the folder and what all
    /// tiers share. What was pinned by another layout version is named in the error.
    ///
    /// # Errors
    /// When `bpffs` is not a BPF file system, or what is there cannot be used.
    pub fn open(_bpffs: &Path) -> Result<Self, DatapathError> {
        Err(DatapathError::new("open", "not yet"))
    }
    /// The live generation; `None` before the first.
    #[must_use]
    pub fn live(&self) -> Option<LiveGeneration> {
        None
    }
    /// The counter directory as it is pinned; extend a clone and give it to `publish`.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        unreachable!()
    }
    /// Writes a generation (and its table, unless the live one has the same key)
    /// beside the live one, lets `prove` look at it in the kernel, then swaps.
    ///
    /// # Errors
    /// When the kernel refuses, or `prove` does; what was live stays live.
    pub fn publish(
        &mut self,
        _rules: &mut Rules,
        _table: &FlatTable,
        _tier: Tier,
        _directory: &Directory,
        _prove: &mut dyn FnMut(&mut Prober) -> Result<(), String>,
    ) -> Result<Published, DatapathError> {
        Err(DatapathError::new("publish", "not yet"))
    }
    /// Attaches the program to a device by a pinned link, or adopts the link that
    /// is pinned for it. Idempotent. A device needs a live generation first.
    ///
    /// # Errors
    /// When another program is there, tags are hidden, or the mode is not to be had.
    pub fn attach(
        &mut self,
        _device: &str,
        _port: u32,
        _mode: Mode,
        _manage_offload: bool,
    ) -> Result<Attached, DatapathError> {
        Err(DatapathError::new("attach", "not yet"))
    }
    /// Takes the program off a device that is no longer configured.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn release(&mut self, _device: &str) -> Result<(), DatapathError> {
        Ok(())
    }
    /// Devices with a pinned link of this instance, whether they still exist or not.
    #[must_use]
    pub fn pinned_devices(&self) -> Vec<String> {
        Vec::new()
    }
    /// Whether the program still is on the device, and how; asks the kernel.
    #[must_use]
    pub fn attached(&self, _device: &str) -> Option<Attached> {
        None
    }
    /// Every counter below `directory().used()`, all CPUs added, by slot.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Vec<Counter>, DatapathError> {
        Ok(Vec::new())
    }
    /// Takes programs and maps off, with all pins under `bpffs`.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn detach(_bpffs: &Path) -> Result<(), DatapathError> {
        Ok(())
    }
}
