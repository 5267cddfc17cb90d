//! Frames that arrive on a device, past all that could have dropped them: a packet socket that
//! receives.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};

use super::raw;

/// See the module.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

impl Listener {
    /// On a device of the caller's own namespace.
    pub(crate) fn on(device: &str) -> Result<Self> {
        let index =
            if_nametoindex(device).with_context(|| format!("there is no device `{device}`"))?;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::EthAll,
        )
        .context("cannot open a packet socket")?;
        setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).context("cannot set its buffer")?;
        raw::bind(&socket, index).with_context(|| format!("cannot bind to device `{device}`"))?;
        Ok(Self(socket))
    }

    /// The next frame that came, as far as the buffer has room; `None`: there is none now. The
    /// kernel may have put a tag aside.
    pub(crate) fn next<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>> {
        loop {
            match recv(self.0.as_raw_fd(), buffer, MsgFlags::empty()) {
                Ok(length) => return Ok(Some(&buffer[..length])),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(e).context("cannot receive"),
            }
        }
    }
}
