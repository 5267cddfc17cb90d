//! Jiffies and the wall clock. What a jiffy is only the kernel knows (`CONFIG_HZ`), so it is measured: by
//! how far its clock has gone since the controller started.

use std::{
    thread,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

/// Jiffies in a second, of kernels that there are.
const KNOWN: [f64; 4] = [100.0, 250.0, 300.0, 1000.0];
/// What is near enough to be one of these.
const NEAR: f64 = 0.05;
/// Jiffies that something may be later than the clock was read.
const AHEAD: u32 = 100_000;
/// How far the wall clock may be from where it should be before all times are told anew.
const STEP: Duration = Duration::from_secs(1);
/// How long it takes to tell them apart.
const LEAST: Duration = Duration::from_millis(300);

/// Since when, by both clocks.
pub(super) struct Clock {
    begun: Instant,
    first: u32,
    /// Both clocks at one moment, by which all times are told, so that they stay the same.
    anchor: Option<At>,
    /// Jiffies in a second, once that is known.
    hz: Option<f64>,
}

/// Both clocks at one moment, and how far one has gone since.
#[derive(Clone, Copy)]
pub(super) struct At {
    jiffies: u32,
    wall: Timestamp,
    /// Jiffies by now.
    now: u32,
    hz: f64,
}

impl Clock {
    pub(super) fn new(jiffies: u32) -> Self {
        Self {
            begun: Instant::now(),
            first: jiffies,
            anchor: None,
            hz: None,
        }
    }

    /// Waits until it can be said when something was.
    pub(super) fn wait(&self) {
        if self.hz.is_none() {
            thread::sleep(LEAST.saturating_sub(self.begun.elapsed()));
        }
    }

    /// Now, when the kernel says this many jiffies. What comes before [`Self::wait`] is over is not
    /// exact.
    pub(super) fn at(&mut self, jiffies: u32) -> At {
        let gone = f64::from(jiffies.wrapping_sub(self.first));
        let hz = self
            .hz
            .unwrap_or_else(|| rate(gone / self.begun.elapsed().as_secs_f64()));
        self.hz = Some(hz);
        let now = At {
            jiffies,
            wall: Timestamp::now(),
            now: jiffies,
            hz,
        };
        // Somebody may set the wall clock.
        let known = self.anchor.filter(|anchor| anchor.is_off_by(&now) < STEP);
        *self.anchor.insert(At {
            now: jiffies,
            ..known.unwrap_or(now)
        })
    }
}

impl At {
    /// When it was this many jiffies, as long ago as fits into 32 bits; to the millisecond.
    pub(super) fn when(&self, jiffies: u32) -> Timestamp {
        let ago = self.now.wrapping_sub(jiffies);
        // A packet that came after the clock was read.
        let ago = if ago > u32::MAX - AHEAD { 0 } else { ago };
        let gone = f64::from(self.now.wrapping_sub(self.jiffies)) - f64::from(ago);
        let millis = (gone / self.hz * 1000.0).round() as i64;
        let wall = Timestamp::from_millisecond(self.wall.as_millisecond());
        wall.and_then(|wall| wall.checked_add(SignedDuration::from_millis(millis)))
            .unwrap_or(self.wall)
    }

    /// How far the wall clock is, at a later moment, from where it should be.
    fn is_off_by(&self, later: &Self) -> Duration {
        let now = later.now;
        let should = Self { now, ..*self }.when(now);
        later.wall.duration_since(should).unsigned_abs()
    }
}

fn rate(measured: f64) -> f64 {
    let near = KNOWN
        .into_iter()
        .find(|known| (measured / known - 1.0).abs() < NEAR);
    near.unwrap_or(measured).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jiffies_are_moments() {
        let at = At {
            jiffies: 5,
            now: 255,
            wall: Timestamp::from_second(1_000_000).unwrap(),
            hz: 250.0,
        };
        assert_eq!(at.when(5), at.wall);
        // Through the wrap.
        assert_eq!(
            at.when(5u32.wrapping_sub(500)),
            Timestamp::from_second(999_998).unwrap()
        );
        assert_eq!(at.when(255), Timestamp::from_second(1_000_001).unwrap());
        assert_eq!(rate(249.0), 250.0);
        assert_eq!(rate(1003.0), 1000.0);
        assert_eq!(rate(640.0), 640.0);
    }
}
