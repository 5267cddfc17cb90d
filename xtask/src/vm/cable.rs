//! The cables of a machine, which end in this process: on one a camera sends, from before the
//! kernel starts; the other leads to the Internet, where what arrives is counted. Datagrams of
//! a local socket are the frames, so that nothing can leave this machine.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::command::Failed;

/// Hardware addresses of the machine's cards, as its disk knows them.
pub(super) const LAN: [u8; 6] = [0x52, 0x54, 0, 0, 1, 1];
pub(super) const WAN: [u8; 6] = [0x52, 0x54, 0, 0, 1, 2];
/// Of the next router, which answers nothing.
pub(super) const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 9];
const CAMERA: [u8; 6] = [2, 0, 0, 0, 0, 5];
/// Where the camera may not send to, and where it may, as in `tests/src/vm/daemon.rs`.
const BLOCKED: [u8; 4] = [198, 51, 100, 9];
const ALLOWED: [u8; 4] = [203, 0, 113, 9];
const SOURCE: [u8; 4] = [10, 20, 0, 5];
const VLAN: u8 = 20;
/// Between two frames.
const PAUSE: Duration = Duration::from_millis(2);

/// What was sent and what arrived so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// To the blocked network.
    pub(super) blocked: (u64, u64),
    /// To the other one.
    pub(super) allowed: (u64, u64),
    /// From the beginning to the first frame that arrived.
    pub(super) first: Option<Duration>,
}

#[derive(Default)]
struct Counts {
    ends: AtomicBool,
    sent: [AtomicU64; 2],
    arrived: [AtomicU64; 2],
    first: Mutex<Option<Duration>>,
}

/// See the module. Ends with the value.
pub(super) struct Cables {
    folder: PathBuf,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

impl Cables {
    /// Plugs them in; the camera begins to send.
    pub(super) fn plug() -> Result<Self, Failed> {
        // Names of local sockets are short.
        let folder = std::env::temp_dir().join(format!("kordon-vm-{}", std::process::id()));
        let open = || -> io::Result<_> {
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir(&folder)?;
            let lan = UnixDatagram::bind(folder.join("lan.here"))?;
            let wan = UnixDatagram::bind(folder.join("wan.here"))?;
            lan.set_nonblocking(true)?;
            wan.set_read_timeout(Some(Duration::from_millis(100)))?;
            Ok((lan, wan))
        };
        let (lan, wan) = open()
            .map_err(|error| Failed::new(format!("cannot make `{}`: {error}", folder.display())))?;
        let counts = Arc::new(Counts::default());
        let start = Instant::now();
        let (there, of) = (folder.join("lan.there"), Arc::clone(&counts));
        let camera = thread::spawn(move || send(&lan, &there, &of));
        let of = Arc::clone(&counts);
        let internet = thread::spawn(move || receive(&wan, start, &of));
        Ok(Self {
            folder,
            counts,
            threads: vec![camera, internet],
        })
    }

    /// What QEMU has to be told.
    pub(super) fn options(&self) -> Vec<String> {
        let cards = [("lan", LAN), ("wan", WAN)].map(|(name, address)| {
            let place = self.folder.display();
            let mac = in_words(address);
            [
                "-netdev".to_owned(),
                format!(
                    "dgram,id={name},local.type=unix,local.path={place}/{name}.there,\
                     remote.type=unix,remote.path={place}/{name}.here"
                ),
                "-device".to_owned(),
                format!("virtio-net-pci,netdev={name},mac={mac},romfile="),
            ]
        });
        cards.concat()
    }

    pub(super) fn seen(&self) -> Seen {
        let both = |index: usize| {
            let of = |counts: &[AtomicU64; 2]| counts[index].load(Ordering::Relaxed);
            (of(&self.counts.sent), of(&self.counts.arrived))
        };
        let first = self.counts.first.lock();
        Seen {
            blocked: both(0),
            allowed: both(1),
            first: *first.unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl Drop for Cables {
    fn drop(&mut self) {
        self.counts.ends.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// As programs write a hardware address.
pub(super) fn in_words(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

fn send(lan: &UnixDatagram, there: &Path, counts: &Counts) {
    let frames = [BLOCKED, ALLOWED].map(frame);
    let mut ignored = [0; 2048];
    while !counts.ends.load(Ordering::Relaxed) {
        for (frame, sent) in frames.iter().zip(&counts.sent) {
            // Before the machine is there nobody listens; a full cable loses frames.
            if lan.send_to(frame, there).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
            // What the machine sends here must not fill the cable.
            while lan.recv(&mut ignored).is_ok() {}
            thread::sleep(PAUSE);
        }
    }
}

fn receive(wan: &UnixDatagram, start: Instant, counts: &Counts) {
    let mut bytes = [0; 2048];
    while !counts.ends.load(Ordering::Relaxed) {
        let Ok(length) = wan.recv(&mut bytes) else {
            continue;
        };
        let frame = &bytes[..length];
        let to = [BLOCKED, ALLOWED].iter().position(|to| is_to(frame, *to));
        if let Some(to) = to {
            counts.arrived[to].fetch_add(1, Ordering::Relaxed);
            let mut first = counts.first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| start.elapsed());
        }
    }
}

/// Whether it is an untagged IPv4 packet to an address.
fn is_to(frame: &[u8], to: [u8; 4]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(30..34) == Some(&to[..])
}

/// A UDP packet of the camera, with its tag.
fn frame(to: [u8; 4]) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend(SOURCE);
    ip.extend(to);
    let sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    // From port 9 to port 9, four bytes, no checksum.
    ip.extend([0, 9, 0, 9, 0, 12, 0, 0, 1, 2, 3, 4]);
    let mut frame = [LAN, CAMERA].concat();
    frame.extend([0x81, 0, 0, VLAN, 8, 0]);
    frame.extend(ip);
    frame.resize(64, 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::{BLOCKED, frame, is_to};

    #[test]
    fn a_frame_is_one_with_a_tag_and_arrives_without() {
        let mut bytes = frame(BLOCKED);
        assert!(!is_to(&bytes, BLOCKED));
        let header: u32 = bytes[18..38]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        assert_eq!((header & 0xffff) + (header >> 16), 0xffff);
        bytes.drain(12..16);
        assert!(is_to(&bytes, BLOCKED));
    }
}
