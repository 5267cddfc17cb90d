//! Frames onto a device by the million: `BPF_F_TEST_XDP_LIVE_FRAMES` makes them in the kernel, and
//! a program gives each the next destination and redirects it (Linux 5.18).

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::Map;
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions};
use aya::{Ebpf, include_bytes_aligned};
use kordon::datapath::memory::Mapped;
use kordon::datapath::programs::program;

use super::frame::checksum;

/// The sender, and a program that takes tags off.
pub(crate) static WIRE: &[u8] = include_bytes_aligned!(concat!(env!("KORDON_PROGRAMS"), "/wire"));

/// Destinations that a sender has at a time, as in its program.
pub const DESTINATIONS: usize = 1 << 17;

/// The head of the sender's map: number of the next packet, interface, offset of the IP
/// header, number of destinations; and what is before the IP header. Each destination follows with
/// its checksum.
const HEAD: usize = 16 + 24;

/// Frames of one batch. A veth has room for four.
pub const BATCH: usize = 64;

/// What sends one kind of frame to its destinations in turn.
pub struct Flood {
    ebpf: Ebpf,
    feed: Mapped,
    frame: Vec<u8>,
}

impl Flood {
    /// One that has nothing to send yet.
    ///
    /// # Errors
    /// If its program cannot be loaded.
    pub fn new() -> Result<Self> {
        let mut ebpf = Ebpf::load(WIRE).context("cannot load the sender's maps")?;
        let feed = match ebpf.take_map("FEED") {
            Some(Map::Array(data)) => Mapped::of(data)?,
            _ => bail!("no map `FEED`"),
        };
        program(&mut ebpf, "send")?
            .load()
            .context("cannot load the sender")?;
        Ok(Self {
            ebpf,
            feed,
            frame: Vec::new(),
        })
    }

    /// From now on an IPv4 frame, out of an interface, to these destinations; `header`: where its
    /// IP header is.
    ///
    /// # Errors
    /// If there are none or too many.
    ///
    /// # Panics
    /// If the frame ends before its IP header does.
    pub fn aim(
        &mut self,
        interface: u32,
        frame: Vec<u8>,
        header: usize,
        destinations: impl ExactSizeIterator<Item = [u8; 4]>,
    ) -> Result<()> {
        let count = destinations.len();
        ensure!(
            (1..=DESTINATIONS).contains(&count),
            "{count} destinations for a sender"
        );
        let mut ip = [0; 20];
        ip.copy_from_slice(&frame[header..][..20]);
        let bytes = self.feed.bytes_mut();
        let head = [0, interface, u32::try_from(header)?, u32::try_from(count)?];
        for (word, value) in head.into_iter().enumerate() {
            bytes[4 * word..][..4].copy_from_slice(&value.to_ne_bytes());
        }
        ensure!(
            matches!(header, 14 | 18),
            "{header} bytes before the header"
        );
        bytes[16..][..header].copy_from_slice(&frame[..header]);
        for (slot, destination) in bytes[HEAD..].chunks_exact_mut(8).zip(destinations) {
            ip[10..12].fill(0);
            ip[16..].copy_from_slice(&destination);
            slot[..4].copy_from_slice(&destination);
            slot[4..6].copy_from_slice(&checksum(&ip).to_be_bytes());
        }
        self.frame = frame;
        Ok(())
    }

    /// Sends frames, in the calling thread's namespace, which must be the interface's. A queue that
    /// is full loses what comes.
    ///
    /// The kernel sends the same pages again and again, as they come back: a stack takes the tag
    /// out of a frame in place, so that the program writes it each time. Each call takes some
    /// milliseconds, however few frames.
    ///
    /// # Errors
    /// If the kernel has no live frames.
    pub fn send(&mut self, count: usize) -> Result<()> {
        program(&mut self.ebpf, "send")?
            .test_run(TestRunOptions {
                data_in: Some(&self.frame),
                repeat: u32::try_from(count)?,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH as u32),
                ..TestRunOptions::default()
            })
            .context("cannot send live frames (Linux 5.18 has them)")?;
        Ok(())
    }
}
