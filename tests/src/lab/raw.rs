//! Frames onto a device exactly as they are: packet socket, past the queueing
//! discipline (`PACKET_QDISC_BYPASS`), so that no egress program tags them again.

use std::mem::size_of;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};

use super::Namespace;

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
        let index =
            if_nametoindex(device).with_context(|| format!("there is no device `{device}`"))?;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .context("cannot open a packet socket")?;
        bind(&socket, index).with_context(|| format!("cannot bind to device `{device}`"))?;
        Ok(Self {
            socket,
            device: device.to_owned(),
        })
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

/// Binds a packet socket to a device. It receives what it was made to receive.
pub(crate) fn bind(socket: &OwnedFd, index: u32) -> nix::Result<()> {
    let on: libc::c_int = 1;
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
            (&raw const on).cast(),
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
