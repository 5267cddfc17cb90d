//! Frames onto a device exactly as they are: packet socket, past the queueing
//! discipline (`PACKET_QDISC_BYPASS`), so that no egress program tags them again; or through
//! it, so that one does.

use std::mem::size_of;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};

use super::Namespace;

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    /// Past the queueing discipline.
    Past,
    /// Through it.
    Through,
}

/// A packet socket on one device that only sends.
#[derive(Debug)]
pub struct RawSender {
    socket: OwnedFd,
    device: String,
}

impl RawSender {
    /// A sender on a device of the namespace.
    ///
    /// # Errors
    ///
    /// If the device does not exist or the process may not (it needs `CAP_NET_RAW`).
    pub fn open(namespace: &Namespace, device: &str) -> Result<Self> {
        namespace.run(|| Self::here(device))
    }

    /// As [`RawSender::open`], on a device of the caller's own namespace.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn here(device: &str) -> Result<Self> {
        Self::bound(device, Queue::Past)
    }

    /// As [`RawSender::open`], through the queueing discipline: what programs at the device's
    /// egress do to frames is done to these.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn through_egress(namespace: &Namespace, device: &str) -> Result<Self> {
        namespace.run(|| Self::bound(device, Queue::Through))
    }

    fn bound(device: &str, queue: Queue) -> Result<Self> {
        let index =
            if_nametoindex(device).with_context(|| format!("there is no device `{device}`"))?;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .context("cannot open a packet socket")?;
        bind_to(&socket, index, queue)
            .with_context(|| format!("cannot bind to device `{device}`"))?;
        Ok(Self {
            socket,
            device: device.to_owned(),
        })
    }

    /// Sends one frame if the device takes it now; says whether it did. It does not while it, or
    /// the other end, is down, and once it is gone.
    #[must_use]
    pub fn offer(&self, frame: &[u8]) -> bool {
        send(self.socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT).is_ok()
    }

    /// Sends one frame, from the destination address to the last byte of payload.
    /// A full queue is waited for.
    ///
    /// # Errors
    ///
    /// If the device does not take it (it is down, the frame is above its MTU).
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => std::thread::yield_now(),
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!(
                            "cannot send {} bytes on device `{}`",
                            frame.len(),
                            self.device
                        )
                    });
                }
            }
        }
    }
}

/// Binds a packet socket to a device. It receives what it was made to receive, and sends past the
/// queueing discipline.
pub(crate) fn bind(socket: &OwnedFd, index: u32) -> nix::Result<()> {
    bind_to(socket, index, Queue::Past)
}

fn bind_to(socket: &OwnedFd, index: u32, queue: Queue) -> nix::Result<()> {
    let past = libc::c_int::from(queue == Queue::Past);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        // What the socket was made with stays: nothing, of one that only sends.
        sll_protocol: 0,
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: nix knows neither the option nor a packet address. Both pointers
    // are to live values whose sizes are given; the kernel only reads them.
    unsafe {
        Errno::result(libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            (&raw const past).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        ))?;
        Errno::result(libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        ))?;
    }
    Ok(())
}
