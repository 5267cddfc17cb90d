//! A camera on a link that is not always there: it sends to a blocked address all the time, both
//! frames that have their tag inside and frames to which its device adds one, and goes on sending
//! once the link is back.

use std::{
    net::Ipv4Addr,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::lab::{
    Namespace, Wire, frame,
    programs::{Tags, tag_host},
    raw::RawSender,
};

/// Of AS64500, which the policy drops: where all goes that is sent meanwhile.
const MEANWHILE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 5);
/// Between two pairs of frames.
const PAUSE: Duration = Duration::from_micros(200);

/// What the device at the camera's end took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames with the tag inside.
    pub inline: u64,
    /// Frames to which the device adds it.
    pub added: u64,
}

impl Sent {
    /// Both.
    #[must_use]
    pub fn all(self) -> u64 {
        self.inline + self.added
    }
}

/// The two ways onto one device.
struct Ways {
    inline: RawSender,
    added: RawSender,
    sent: Sent,
}

impl Ways {
    fn open(namespace: &Namespace) -> Result<Self> {
        let tags = Tags {
            outer: 20,
            inner: 0,
        };
        tag_host(namespace, "out", tags)?;
        Ok(Self {
            inline: RawSender::open(namespace, "out")?,
            added: RawSender::through_egress(namespace, "out")?,
            sent: Sent::default(),
        })
    }

    fn pair(&self, to: Ipv4Addr) -> Sent {
        let packet = frame::udp(SOURCE.into(), to.into(), (4000, 4000), b"x");
        let untagged = frame::Ethernet::new([2; 6], [4; 6]).packet(&packet);
        Sent {
            inline: u64::from(
                self.inline
                    .offer(&Wire::packet(20, SOURCE.into(), to.into())),
            ),
            added: u64::from(self.added.offer(&untagged)),
        }
    }
}

/// See the module.
pub struct Camera<'a> {
    namespace: &'a Namespace,
    ways: Mutex<Ways>,
}

impl<'a> Camera<'a> {
    /// On `out` of a wire.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn new(namespace: &'a Namespace) -> Result<Self> {
        let ways = Mutex::new(Ways::open(namespace)?);
        Ok(Self { namespace, ways })
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// There is another device now of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn reopen(&self) -> Result<()> {
        let mut ways = self.ways();
        let sent = ways.sent;
        *ways = Ways::open(self.namespace)?;
        ways.sent = sent;
        Ok(())
    }

    /// Sends pairs of frames to an address; says how many were taken.
    #[must_use]
    pub fn send(&self, to: Ipv4Addr, pairs: usize) -> Sent {
        self.still().send(to, pairs)
    }

    /// Nothing is sent but by the caller while it has this.
    #[must_use]
    pub fn still(&self) -> Still<'_> {
        Still(self.ways())
    }

    /// Sends to the blocked address while something is done. Returns how much was sent, too.
    ///
    /// # Panics
    /// If what is done does.
    pub fn meanwhile<T>(&self, work: impl FnOnce() -> T) -> (T, Sent) {
        let end = AtomicBool::new(false);
        let done = thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    let mut ways = self.ways();
                    let sent = ways.pair(MEANWHILE);
                    ways.sent.inline += sent.inline;
                    ways.sent.added += sent.added;
                    drop(ways);
                    thread::sleep(PAUSE);
                }
            });
            // Also where it panics.
            let _end = End(&end);
            work()
        });
        (done, self.ways().sent)
    }
}

/// See [`Camera::still`].
pub struct Still<'a>(MutexGuard<'a, Ways>);

impl Still<'_> {
    /// As [`Camera::send`].
    #[must_use]
    pub fn send(&self, to: Ipv4Addr, pairs: usize) -> Sent {
        (0..pairs).fold(Sent::default(), |sum, _| {
            let sent = self.0.pair(to);
            Sent {
                inline: sum.inline + sent.inline,
                added: sum.added + sent.added,
            }
        })
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
