//! What devices of a namespace received, by their own counts: packets that a program dropped are
//! among them, and packets that found no room in a queue are told apart.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};

use super::Namespace;

/// Counters of the devices in one namespace.
#[derive(Debug)]
pub struct Counters(File);

/// Of one device, ever rising while it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Packets that were taken, whatever became of them.
    pub packets: u64,
    /// Packets that found no room.
    pub lost: u64,
}

impl Counters {
    /// Those of a namespace, from wherever they are read.
    ///
    /// # Errors
    /// If they cannot be opened.
    pub fn open(namespace: &Namespace) -> Result<Self> {
        // What is open stays that namespace's.
        let open = || File::open("/proc/thread-self/net/dev").context("cannot open /proc/net/dev");
        namespace.run(open).map(Self)
    }

    /// What a device received.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn of(&self, device: &str) -> Result<Received> {
        let mut text = [0; 4096];
        let length = self.0.read_at(&mut text, 0);
        let length = length.context("cannot read /proc/net/dev")?;
        let text = String::from_utf8_lossy(&text[..length]);
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'));
        // Bytes, packets, errors, drops.
        let mut fields = line.into_iter().flat_map(str::split_whitespace).skip(1);
        let mut next = |skipped| fields.nth(skipped)?.parse().ok();
        let received = next(0).zip(next(1));
        let (packets, lost) =
            received.with_context(|| format!("/proc/net/dev has no packets of `{device}`"))?;
        Ok(Received { packets, lost })
    }
}
