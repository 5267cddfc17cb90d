//! The lab's BPF programs in place: VLAN devices and counters.
//!
//! Programs are attached as tc filters by netlink, which belong to the device:
//! they go with their namespace, and stay where a lab is left up on purpose.

use std::collections::HashMap as Table;
use std::mem::ManuallyDrop;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, PerCpuValues};
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact};
use aya::programs::xdp::XdpLink;
use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::{Ebpf, include_bytes_aligned};
use ipnet::Ipv4Net;

use super::Namespace;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("KORDON_PROGRAMS"), "/lab"));

/// VIDs of a frame; inner 0 is a frame with one tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tags {
    /// 1 to 4094.
    pub outer: u16,
    /// 0 to 4094.
    pub inner: u16,
}

impl Tags {
    fn key(self) -> u32 {
        u32::from(self.outer) << 12 | u32::from(self.inner)
    }
}

/// Programs and maps of one namespace (interface indices mean nothing in another).
fn load() -> Result<Ebpf> {
    Ebpf::load(OBJECT).context("cannot load the lab's BPF programs")
}

/// Attaches a tc program to a device. To be called inside the device's namespace.
fn attach(bpf: &mut Ebpf, program: &str, device: &str, direction: TcAttachType) -> Result<()> {
    let what = || format!("cannot attach `{program}` to device `{device}`");
    let classifier: &mut SchedClassifier = bpf
        .program_mut(program)
        .with_context(what)?
        .try_into()
        .with_context(what)?;
    if classifier.fd().is_err() {
        classifier.load().with_context(what)?;
    }
    // Fails where a neighbour put one there before.
    let _ = qdisc_add_clsact(device);
    let options = TcAttachOptions::Netlink(NlOptions::default());
    let link = classifier
        .attach_with_options(device, direction, options)
        .with_context(what)?;
    // Never dropped: that would delete a filter by interface index in whatever
    // namespace the dropping thread is in.
    let _ = ManuallyDrop::new(classifier.take_link(link).with_context(what)?);
    Ok(())
}

/// Puts a program that keeps packets from all others at ingress of a device (TCX) before them, until
/// the value is dropped.
///
/// # Errors
///
/// If it cannot be loaded or attached.
pub fn overtake(namespace: &Namespace, device: &str) -> Result<Ebpf> {
    let mut bpf = load()?;
    let program = bpf.program_mut("arrivals").context("it is in the object")?;
    let program: &mut SchedClassifier = program.try_into()?;
    program.load()?;
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    namespace.run(|| Ok(program.attach_with_options(device, TcAttachType::Ingress, first)?))?;
    Ok(bpf)
}

/// Makes a host's device one that speaks only tagged: tags on at egress, off at ingress.
///
/// # Errors
///
/// If the programs cannot be loaded or attached.
pub fn tag_host(namespace: &Namespace, device: &str, tags: Tags) -> Result<()> {
    let index = namespace.ifindex(device)?;
    namespace.run(|| {
        let mut bpf = load()?;
        set(&mut bpf, "TAGS", index, tags.key())?;
        attach(&mut bpf, "host_out", device, TcAttachType::Egress)?;
        attach(&mut bpf, "host_in", device, TcAttachType::Ingress)
    })
}

/// Makes devices of a router the VLAN sub-interfaces of its trunk.
///
/// # Errors
///
/// If the programs cannot be loaded or attached.
pub fn sub_interfaces(namespace: &Namespace, trunk: &str, subs: &[(Tags, String)]) -> Result<()> {
    let trunk_index = namespace.ifindex(trunk)?;
    let indices: Vec<u32> = subs
        .iter()
        .map(|(_, device)| namespace.ifindex(device))
        .collect::<Result<_>>()?;
    namespace.run(|| {
        let mut bpf = load()?;
        let map = bpf.map_mut("TRUNK").context("no map `TRUNK`")?;
        Array::try_from(map)
            .and_then(|mut map| map.set(0, trunk_index, 0))
            .context("cannot write map `TRUNK`")?;
        for ((tags, device), index) in subs.iter().zip(indices) {
            set(&mut bpf, "TAGS", index, tags.key())?;
            set(&mut bpf, "SUBS", tags.key(), index)?;
            attach(&mut bpf, "mux", device, TcAttachType::Egress)?;
        }
        attach(&mut bpf, "demux", trunk, TcAttachType::Ingress)
    })
}

fn set(bpf: &mut Ebpf, map: &str, key: u32, value: u32) -> Result<()> {
    let what = || format!("cannot write map `{map}`");
    let mut map: HashMap<_, u32, u32> = bpf
        .map_mut(map)
        .with_context(what)?
        .try_into()
        .with_context(what)?;
    map.insert(key, value, 0).with_context(what)
}

/// Counts what arrives at servers, by destination, in the kernel: nothing is
/// missed at any rate, and nothing depends on a server's socket.
#[derive(Debug)]
pub struct Arrivals {
    bpf: Ebpf,
}

/// Packets and bytes that arrived for one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Packets; an aggregate counts by its segments.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

impl Arrivals {
    /// A counter that watches nothing yet.
    ///
    /// # Errors
    ///
    /// If the programs cannot be loaded.
    pub fn new() -> Result<Self> {
        Ok(Self { bpf: load()? })
    }

    /// Counts at this device too.
    ///
    /// # Errors
    ///
    /// If the program cannot be attached.
    pub fn watch(&mut self, namespace: &Namespace, device: &str) -> Result<()> {
        namespace.run(|| attach(&mut self.bpf, "arrivals", device, TcAttachType::Ingress))
    }

    /// What arrived for an address since the counter was made.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn to(&self, address: IpAddr) -> Result<Arrived> {
        let mut key = [0; 16];
        match address {
            IpAddr::V4(address) => key[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => key = address.octets(),
        }
        Ok(self.all()?.get(&key).copied().unwrap_or_default())
    }

    /// As [`Arrivals::to`], once nothing more has come for 30 ms.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn settled(&self, address: IpAddr) -> Result<Arrived> {
        let mut last = self.to(address)?;
        loop {
            thread::sleep(Duration::from_millis(30));
            let now = self.to(address)?;
            if now == last {
                return Ok(now);
            }
            last = now;
        }
    }

    /// What arrived for all addresses of an IPv4 prefix.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn within(&self, net: Ipv4Net) -> Result<Arrived> {
        let all = self.all()?.into_iter();
        let inside = all.filter(|(key, _)| {
            let [a, b, c, d, rest @ ..] = key;
            rest.iter().all(|byte| *byte == 0) && net.contains(&Ipv4Addr::new(*a, *b, *c, *d))
        });
        Ok(
            inside.fold(Arrived::default(), |sum, (_, arrived)| Arrived {
                packets: sum.packets + arrived.packets,
                bytes: sum.bytes + arrived.bytes,
            }),
        )
    }

    fn all(&self) -> Result<Table<[u8; 16], Arrived>> {
        let what = "cannot read map `ARRIVED`";
        let map: PerCpuHashMap<_, [u8; 16], [u64; 2]> = self
            .bpf
            .map("ARRIVED")
            .context(what)?
            .try_into()
            .context(what)?;
        map.iter()
            .map(|entry| {
                let (key, values) = entry.context(what)?;
                let arrived = values
                    .iter()
                    .fold(Arrived::default(), |sum, value| Arrived {
                        packets: sum.packets + value[0],
                        bytes: sum.bytes + value[1],
                    });
                Ok((key, arrived))
            })
            .collect()
    }
}

/// The program of a [`Witness`], loaded.
fn witness(bpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program: &mut Xdp = bpf
        .program_mut("witness")
        .context("no program `witness`")?
        .try_into()?;
    program.load().context("cannot load `witness`")?;
    Ok(program)
}

/// An XDP program in kordon's place that says which tags it sees. Taken off on drop.
#[derive(Debug)]
pub struct Witness {
    bpf: Ebpf,
}

impl Witness {
    /// Attaches to a device, in native mode.
    ///
    /// # Errors
    ///
    /// If something is attached there already or the device has no native XDP.
    pub fn attach(namespace: &Namespace, device: &str) -> Result<Self> {
        let bpf = namespace.run(|| {
            let mut bpf = load()?;
            witness(&mut bpf)?
                .attach(device, XdpMode::Driver)
                .with_context(|| format!("cannot attach `witness` to device `{device}`"))?;
            Ok(bpf)
        })?;
        Ok(Self { bpf })
    }

    /// As [`Witness::attach`], in the caller's own namespace, in whatever mode is to be had.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn here(device: &str) -> Result<Self> {
        let mut bpf = load()?;
        witness(&mut bpf)?
            .attach(device, XdpMode::default())
            .with_context(|| format!("cannot attach `witness` to device `{device}`"))?;
        Ok(Self { bpf })
    }

    /// Takes the place of the program of a pinned link, for good.
    ///
    /// # Errors
    ///
    /// If there is no such link, or the kernel refuses.
    pub fn replace(pin: &Path) -> Result<()> {
        let mut bpf = load()?;
        let program = witness(&mut bpf)?;
        let link = FdLink::from(PinnedLink::from_pin(pin)?);
        let id = program.attach_to_link(XdpLink::try_from(link)?)?;
        // The pin keeps it.
        drop(program.take_link(id)?);
        Ok(())
    }

    /// Frames whose first tag, inline, had this VID.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn tagged(&self, vid: u16) -> Result<u64> {
        self.slot(u32::from(vid & 0xfff))
    }

    /// Frames that showed no tag.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn untagged(&self) -> Result<u64> {
        self.slot(4096)
    }

    fn slot(&self, slot: u32) -> Result<u64> {
        let what = "cannot read map `SEEN`";
        let map: PerCpuArray<_, u64> = self
            .bpf
            .map("SEEN")
            .context(what)?
            .try_into()
            .context(what)?;
        let values: PerCpuValues<u64> = map.get(&slot, 0).context(what)?;
        Ok(values.iter().sum())
    }
}
