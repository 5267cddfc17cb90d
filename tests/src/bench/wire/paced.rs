//! Packets onto a cable one by one, at a pace at which none is lost on the way: samples, and
//! what comes all the time while something changes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::super::internet::Input;
use super::super::packet::{CAMERAS, Family, frame};
use super::super::processors::{Processors, bind};
use super::link::{Flow, Link};
use crate::lab::frame::checksum;

/// Destinations of each fate that are tried before anything is timed.
pub(in super::super) const SAMPLE: usize = 1024;

/// Who sends: each of two kinds of packets its own, so that they can be told apart.
pub(in super::super) const SOURCES: [[u8; 4]; 2] = [[10, 20, 0, 5], [10, 20, 0, 6]];

/// Packets of each kind that are under way at once; a veth has room for 256.
const BURST: usize = 32;

/// Between two bursts: some hundred thousand packets a second, and processors that have
/// time for what happens meanwhile.
const PAUSE: Duration = Duration::from_micros(50);

/// How long packets come before and after what happens.
const AROUND: Duration = Duration::from_millis(20);

/// What was not taken by then is lost, however busy the machine.
const LOST: Duration = Duration::from_secs(10);

/// Longer than anything takes that packets are sent during.
const PATIENCE: Duration = Duration::from_secs(120);

/// Packets that one camera sends to one destination after the other.
struct Camera<'a> {
    frame: Vec<u8>,
    /// Where its IPv4 header begins.
    header: usize,
    destinations: &'a [Input],
    next: usize,
}

impl<'a> Camera<'a> {
    fn new(source: [u8; 4], flow: Flow<'a>) -> Self {
        let mut frame = frame(Family::V4, flow.tagged.then_some(CAMERAS));
        let header = if flow.tagged { 18 } else { 14 };
        frame[header + 12..][..4].copy_from_slice(&source);
        Self {
            frame,
            header,
            destinations: flow.destinations,
            next: 0,
        }
    }

    fn send(&mut self, link: &Link, count: usize) -> Result<()> {
        for _ in 0..count {
            let to = self
                .destinations
                .get(self.next)
                .context("no destinations")?;
            self.next = (self.next + 1) % self.destinations.len();
            let header = &mut self.frame[self.header..][..20];
            header[16..].copy_from_slice(&to[..4]);
            header[10..12].fill(0);
            let sum = checksum(header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            link.single.send(&self.frame)?;
        }
        Ok(())
    }
}

impl Link {
    /// Waits until so many packets have been taken.
    fn taken(&self, packets: u64) -> Result<()> {
        let end = Instant::now() + LOST;
        while self.packets()? < packets {
            ensure!(
                Instant::now() < end,
                "packets are lost on the way to `{}`",
                self.device
            );
            thread::yield_now();
        }
        Ok(())
    }

    /// Sends each destination once.
    pub(in super::super) fn each(&self, flow: Flow<'_>) -> Result<()> {
        let mut camera = Camera::new(SOURCES[0], flow);
        let mut sent = self.packets()?;
        for part in flow.destinations.chunks(BURST) {
            camera.send(self, part.len())?;
            sent += part.len() as u64;
            self.taken(sent)?;
        }
        Ok(())
    }

    /// Sends packets of two kinds in turn, as many of one as of the other, from before
    /// `act` begins until after it has ended. Returns how many of each, too.
    pub(in super::super) fn during<T>(
        &self,
        kinds: [&[Input]; 2],
        processors: Processors,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<(T, u64)> {
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let done = thread::scope(|scope| {
            let sending = scope.spawn(|| {
                bind(0, processors.first)?;
                self.keep_sending(kinds, &stop, &sent)
            });
            thread::sleep(AROUND);
            let done = act();
            thread::sleep(AROUND);
            stop.store(true, Ordering::Relaxed);
            let sending = sending.join();
            sending.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            done
        })?;
        Ok((done, sent.into_inner()))
    }

    fn keep_sending(
        &self,
        kinds: [&[Input]; 2],
        stop: &AtomicBool,
        sent: &AtomicU64,
    ) -> Result<()> {
        let [first, second] = SOURCES;
        let [to_first, to_second] = kinds.map(|destinations| Flow {
            destinations,
            tagged: true,
        });
        let mut cameras = [Camera::new(first, to_first), Camera::new(second, to_second)];
        let (begin, before) = (Instant::now(), self.packets()?);
        let mut of_each = 0;
        while !stop.load(Ordering::Relaxed) {
            ensure!(begin.elapsed() < PATIENCE, "not over after {PATIENCE:?}");
            for camera in &mut cameras {
                camera.send(self, BURST)?;
            }
            of_each += BURST as u64;
            sent.store(of_each, Ordering::Relaxed);
            self.taken(before + 2 * of_each)?;
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}
