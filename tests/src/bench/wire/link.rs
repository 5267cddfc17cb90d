//! A cable between two namespaces: frames are given to the near end by
//! `BPF_F_TEST_XDP_LIVE_FRAMES`, and taken from the far end by one kernel thread, whose
//! time on the processor is what a packet costs.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aya::Ebpf;
use aya::programs::tc::SchedClassifierLink;
use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode};

use super::super::internet::Input;
use super::super::packet::{CAMERAS, Family, frame};
use super::super::processors::{Processors, bind};
use crate::lab::Namespace;
use crate::lab::counters::Counters;
use crate::lab::flood::{BATCH, Flood, WIRE};
use crate::lab::namespace::owned_prefix;
use crate::lab::raw::RawSender;

/// What sends, onto all links.
pub(in super::super) struct Sender {
    namespace: Namespace,
    source: Flood,
    links: usize,
}

/// One cable. Namespace, device and what is attached go with it.
pub(in super::super) struct Link {
    /// The far end's.
    pub(in super::super) namespace: Namespace,
    /// The far end.
    pub(in super::super) device: String,
    /// The near end, in the sender's namespace.
    interface: u32,
    /// The thread that takes packets.
    thread: i32,
    /// Takes tags off before the stack; `None` while it is not attached.
    untag: Option<SchedClassifierLink>,
    ebpf: Ebpf,
    /// Counters of the devices in the far end's namespace.
    counters: Counters,
    /// Onto the near end, packet by packet.
    pub(super) single: RawSender,
}

/// Of a link, ever rising.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Count {
    /// Packets that were taken.
    pub(in super::super) packets: u64,
    /// What the thread ran.
    pub(in super::super) ran: Duration,
}

/// Frames to be sent, one destination after the other.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Flow<'a> {
    /// IPv4, in network order.
    pub(in super::super) destinations: &'a [Input],
    /// With the tag of the zone, or without one.
    pub(in super::super) tagged: bool,
}

impl Sender {
    /// Makes the namespace that all links begin in.
    pub(in super::super) fn new() -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-bench", owned_prefix()?))?;
        namespace.sysctl(&[("ipv6/conf/all/disable_ipv6", "1")])?;
        Ok(Self {
            namespace,
            source: Flood::new()?,
            links: 0,
        })
    }

    /// One more link, whose packets are taken on the last processor.
    pub(in super::super) fn link(&mut self, processors: Processors) -> Result<Link> {
        let number = self.links;
        self.links += 1;
        let namespace = Namespace::create(&format!("{}-bench-{number}", owned_prefix()?))?;
        namespace.sysctl(&[("ipv6/conf/all/disable_ipv6", "1")])?;
        // The thread is found by the device's name, of which 10 characters are left. A
        // dot in it is what BPF file systems do not take. The 256th before is long gone.
        let device = format!("k{:x}n{:x}", std::process::id(), number % 256);
        let near = format!("near{number}");
        self.namespace.ip(&format!(
            "link add {near} type veth peer name {device} netns {}\nlink set {near} up",
            namespace.name()
        ))?;
        namespace.ip(&format!(
            "link set {device} address 02:00:00:00:00:02\nlink set {device} up"
        ))?;
        // A veth takes packets in its own turn (NAPI) where it may aggregate them or
        // has an XDP program: the same for all who are compared.
        namespace.output(Command::new("ethtool").args(["-K", &device, "gro", "on"]))?;
        // Else what comes from a socket is not taken in that turn.
        let off = ["tso", "off", "txvlan", "off"];
        self.namespace
            .output(Command::new("ethtool").args(["-K", &near]).args(off))?;
        // `ip netns exec` has a /sys of that namespace.
        let threaded = format!("echo 1 > /sys/class/net/{device}/threaded");
        crate::lab::namespace::run(Command::new("ip").args([
            "netns",
            "exec",
            namespace.name(),
            "sh",
            "-c",
            &threaded,
        ]))
        .context("cannot let a thread take the packets of a veth")?;
        let counters = Counters::open(&namespace)?;
        let thread = thread_of(&device)?;
        bind(thread, processors.last)?;
        Ok(Link {
            interface: self.namespace.ifindex(&near)?,
            single: RawSender::open(&self.namespace, &near)?,
            counters,
            namespace,
            device,
            thread,
            untag: None,
            ebpf: Ebpf::load(WIRE).context("cannot load the VLAN device's program")?,
        })
    }

    /// Runs `work` where the sender's interfaces are, on the first processor.
    fn inside<T: Send>(
        &mut self,
        processors: Processors,
        work: impl FnOnce(&mut Flood) -> Result<T> + Send,
    ) -> Result<T> {
        let source = &mut self.source;
        self.namespace.run(|| {
            bind(0, processors.first)?;
            work(source)
        })
    }

    /// Sends as fast as it can for a while, and says what a packet cost the receiver.
    pub(in super::super) fn flood(
        &mut self,
        link: &Link,
        flow: Flow<'_>,
        time: Duration,
        processors: Processors,
    ) -> Result<f64> {
        let frame = frame(Family::V4, flow.tagged.then_some(CAMERAS));
        let header = if flow.tagged { 18 } else { 14 };
        let destinations = flow
            .destinations
            .iter()
            .map(|to| [to[0], to[1], to[2], to[3]]);
        self.source
            .aim(link.interface, frame, header, destinations)?;
        self.inside(processors, |source| {
            // Caches, and the thread awake.
            source.send(16 * BATCH)?;
            link.settle()?;
            let before = link.count()?;
            let end = Instant::now() + time;
            while Instant::now() < end {
                source.send(64 * BATCH)?;
            }
            link.settle()?;
            let after = link.count()?;
            let packets = after.packets - before.packets;
            ensure!(packets > 0, "nothing arrived on `{}`", link.device);
            Ok((after.ran - before.ran).as_nanos() as f64 / packets as f64)
        })
    }
}

impl Link {
    /// Attaches an XDP program in native mode; it comes off with its object.
    pub(in super::super) fn attach(&self, xdp: &mut Xdp) -> Result<()> {
        self.namespace.run(|| {
            xdp.attach(&self.device, XdpMode::Driver)
                .with_context(|| format!("cannot attach to `{}`", self.device))?;
            Ok(())
        })
    }

    /// Attaches a tc program, before what takes tags off.
    pub(in super::super) fn attach_tc(&mut self, tc: &mut SchedClassifier) -> Result<()> {
        self.untag(false)?;
        self.namespace.run(|| {
            tc.attach(&self.device, TcAttachType::Ingress)
                .with_context(|| format!("cannot attach to ingress of `{}`", self.device))?;
            Ok(())
        })
    }

    /// Whether tags are taken off before the stack, as by a VLAN sub-interface.
    pub(in super::super) fn untag(&mut self, wanted: bool) -> Result<()> {
        if !wanted {
            self.untag = None;
        }
        if !wanted || self.untag.is_some() {
            return Ok(());
        }
        let what = "cannot attach `untag`";
        let device = self.device.as_str();
        let ebpf = &mut self.ebpf;
        let link = self.namespace.run(|| {
            let untag = ebpf.program_mut("untag").context(what)?;
            let untag: &mut SchedClassifier = untag.try_into()?;
            if untag.fd().is_err() {
                untag.load().context(what)?;
            }
            let link = untag.attach(device, TcAttachType::Ingress).context(what)?;
            untag.take_link(link).context(what)
        })?;
        self.untag = Some(link);
        Ok(())
    }

    /// What it did so far.
    pub(in super::super) fn count(&self) -> Result<Count> {
        let path = format!("/proc/{}/schedstat", self.thread);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let ran = text.split(' ').next().and_then(|ran| ran.parse().ok());
        Ok(Count {
            packets: self.packets()?,
            ran: Duration::from_nanos(ran.with_context(|| format!("{path} is not understood"))?),
        })
    }

    pub(super) fn packets(&self) -> Result<u64> {
        Ok(self.counters.of(&self.device)?.packets)
    }

    /// Waits until nothing more comes.
    pub(in super::super) fn settle(&self) -> Result<()> {
        let mut last = self.packets()?;
        loop {
            thread::sleep(Duration::from_millis(2));
            let now = self.packets()?;
            if now == last {
                return Ok(());
            }
            last = now;
        }
    }
}

/// The kernel thread that takes packets of a device.
fn thread_of(device: &str) -> Result<i32> {
    let prefix = format!("napi/{device}");
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        for entry in fs::read_dir("/proc").context("cannot read /proc")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Ok(thread) = name.parse() else { continue };
            // It may end meanwhile.
            let comm = fs::read_to_string(format!("/proc/{name}/comm")).unwrap_or_default();
            if let Some(rest) = comm.trim().strip_prefix(&prefix)
                && (rest.is_empty() || rest.starts_with('-'))
            {
                return Ok(thread);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    bail!("no kernel thread takes the packets of `{device}` (Linux 5.12 has them)")
}
