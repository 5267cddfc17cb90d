//! xdp-filter, which knows single addresses, not prefixes.

use std::collections::HashSet;
use std::process::Command;

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, PerCpuHashMap, PerCpuValues};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::super::internet::Input;
use crate::lab::namespace::run;
use crate::lab::{Bpffs, Namespace};

/// Addresses that xdp-filter 1.3 has room for.
pub(in super::super) const XDP_FILTER_ROOM: usize = 8192;

/// `MAP_FLAG_DST` of xdp-filter: the address is one of destinations.
const FILTER_DESTINATION: u64 = 1 << 1;

/// Commands of xdp-filter in a namespace. Its maps are pinned in a BPF file system of our
/// own, and its program stays on the device when that goes.
pub(in super::super) struct XdpFilter {
    pins: Bpffs,
}

impl XdpFilter {
    /// None is on a device yet.
    pub(in super::super) fn new() -> Result<Self> {
        Ok(Self {
            pins: Bpffs::new()?,
        })
    }

    /// Runs commands, each by its words.
    pub(in super::super) fn run(
        &self,
        namespace: &Namespace,
        commands: impl IntoIterator<Item = Vec<String>> + Send,
    ) -> Result<()> {
        namespace.run(|| {
            // It pins where all do; this thread sees our pins there.
            unshare(CloneFlags::CLONE_NEWNS).context("cannot have mounts of one's own")?;
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
                .context("cannot keep mounts to oneself")?;
            let pins = Some(self.pins.path());
            mount(pins, "/sys/fs/bpf", none, MsFlags::MS_BIND, none)
                .context("cannot mount a BPF file system")?;
            for words in commands {
                run(Command::new("xdp-filter").args(words))
                    .context("cannot run xdp-filter (Debian package xdp-tools)")?;
            }
            Ok(())
        })
    }

    /// Words that put it on a device.
    pub(in super::super) fn load(device: &str) -> Vec<String> {
        let words = ["load", "--features", "ipv4", "--mode", "native", device];
        words.map(str::to_owned).to_vec()
    }

    /// Words that block an address.
    pub(in super::super) fn add(address: &Input) -> Vec<String> {
        let [a, b, c, d, ..] = address;
        let words = ["ip", "--mode", "dst", &format!("{a}.{b}.{c}.{d}")];
        words.map(str::to_owned).to_vec()
    }

    /// Words that take one out again.
    pub(in super::super) fn remove(address: &Input) -> Vec<String> {
        [Self::add(address), vec!["--remove".to_owned()]].concat()
    }
}

/// Puts xdp-filter on a device, with as many of these addresses as it has room for. Its
/// command takes one at a time; the rest go into its map as the first did.
pub(in super::super) fn xdp_filter(
    namespace: &Namespace,
    device: &str,
    addresses: &[Input],
) -> Result<usize> {
    let distinct: HashSet<[u8; 4]> = addresses
        .iter()
        .filter_map(|address| address.first_chunk().copied())
        .collect();
    let distinct: Vec<[u8; 4]> = distinct.into_iter().take(XDP_FILTER_ROOM).collect();
    let filter = XdpFilter::new()?;
    let first = addresses.iter().take(1).map(XdpFilter::add);
    let commands: Vec<_> = [XdpFilter::load(device)].into_iter().chain(first).collect();
    filter.run(namespace, commands)?;
    let map = MapData::from_pin(filter.pins.path().join("xdp-filter/filter_ipv4"))
        .context("cannot open the map of xdp-filter")?;
    let mut map: PerCpuHashMap<_, [u8; 4], u64> = Map::PerCpuHashMap(map).try_into()?;
    let processors = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    for address in &distinct {
        let value = PerCpuValues::try_from(vec![FILTER_DESTINATION; processors])?;
        map.insert(address, value, 0)
            .context("cannot add an address to xdp-filter")?;
    }
    Ok(distinct.len())
}
