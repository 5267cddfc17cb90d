//! Whose socket is at the other end of a connection from this machine: asked of the kernel
//! (sock_diag(7), `inet_diag`) by both addresses and both ports.
//!
//! `/proc/net/tcp` says it as well, but has to be read whole, which takes long where there
//! are many connections, and misses some that are there while others come and go.
//!
//! A socket that nobody has open any more belongs to root, as the kernel tells it: an
//! answer counts only of an established connection with an inode. That the connection is
//! still the one that was accepted, and not another with the same ports, says our own end
//! of it, which is asked for last.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto,
    socket,
};

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` and `NLMSG_ERROR` of linux/netlink.h.
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct inet_diag_msg`.
const ANSWER: usize = 72;
/// `TCP_ESTABLISHED`.
const ESTABLISHED: u8 = 1;

/// What the kernel says of the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is on this machine, and this user's.
    User(u32),
    /// It is not on this machine, or closed, or another by now.
    NotHere,
    /// Our own end is not known either: it is gone, or the kernel has no `inet_diag`.
    Unknown,
}

/// Whose the other end of an accepted connection is. `inode` is that of our end.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn of(own: SocketAddr, other: SocketAddr, inode: u64) -> io::Result<Owner> {
    let kernel = Kernel::connect()?;
    let theirs = kernel.find(other, own)?;
    let Some(ours) = kernel.find(own, other)? else {
        return Ok(Owner::Unknown);
    };
    let same = ours.is_live() && u64::from(ours.inode) == inode;
    Ok(match theirs {
        Some(theirs) if theirs.is_live() && same => Owner::User(theirs.uid),
        _ => Owner::NotHere,
    })
}

/// A TCP socket, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    state: u8,
    uid: u32,
    inode: u32,
}

impl Found {
    fn is_live(self) -> bool {
        self.state == ESTABLISHED && self.inode != 0
    }
}

struct Kernel(OwnedFd);

impl Kernel {
    fn connect() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkSockDiag,
        )?;
        Ok(Self(fd))
    }

    /// The socket with these ends; the first is its own.
    fn find(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Found>> {
        let request = request(local, remote);
        sendto(
            self.0.as_raw_fd(),
            &request,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;
        let mut buffer = [0; 4096];
        // The kernel has answered when it has taken the question.
        let (read, from) =
            recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), &mut buffer).map_err(io::Error::from)?;
        if from.is_none_or(|from| from.pid() != 0) {
            return Err(io::Error::new(ErrorKind::InvalidData, "not the kernel's"));
        }
        answer(&buffer[..read.min(buffer.len())], local, remote)
    }
}

/// Both ends as one family: IPv4 in a socket for IPv6 is IPv4.
fn ends(local: SocketAddr, remote: SocketAddr) -> (IpAddr, IpAddr) {
    (local.ip().to_canonical(), remote.ip().to_canonical())
}

fn wide(address: IpAddr) -> [u8; 16] {
    let mut out = [0; 16];
    match address {
        IpAddr::V4(address) => out[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => out = address.octets(),
    }
    out
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` of linux/inet_diag.h.
fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let (from, to) = ends(local, remote);
    let family = match from {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    // The scope of a link-local address; the same at both ends.
    let link = match remote {
        SocketAddr::V6(remote) => remote.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let mut out = Vec::with_capacity(72);
    out.extend(72_u32.to_ne_bytes());
    out.extend(BY_FAMILY.to_ne_bytes());
    out.extend(REQUEST.to_ne_bytes());
    // Sequence and port.
    out.extend([0; 8]);
    out.extend([family as u8, SockProtocol::Tcp as u8, 0, 0]);
    // States: they are not asked for one socket.
    out.extend(u32::MAX.to_ne_bytes());
    out.extend(local.port().to_be_bytes());
    out.extend(remote.port().to_be_bytes());
    out.extend(wide(from));
    out.extend(wide(to));
    out.extend(link.to_ne_bytes());
    // No cookie.
    out.extend([0xff; 8]);
    out
}

fn answer(bytes: &[u8], local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Found>> {
    let strange = || io::Error::new(ErrorKind::InvalidData, "an answer that is none");
    let u16_at = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let u32_at = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let port_at = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    match u16_at(4).ok_or_else(strange)? {
        BY_FAMILY => {}
        ERROR => {
            let errno = u32_at(HEADER).ok_or_else(strange)?.cast_signed();
            let error = io::Error::from_raw_os_error(-errno);
            return if error.kind() == ErrorKind::NotFound {
                Ok(None)
            } else {
                Err(error)
            };
        }
        _ => return Err(strange()),
    }
    let read = || {
        let body = bytes.get(HEADER..HEADER + ANSWER)?;
        let at = |at: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = *body.get(at..)?.first_chunk()?;
            Some(if i32::from(body[0]) == AddressFamily::Inet as i32 {
                IpAddr::from([octets[0], octets[1], octets[2], octets[3]])
            } else {
                IpAddr::from(octets).to_canonical()
            })
        };
        let ports = (port_at(HEADER + 4)?, port_at(HEADER + 6)?);
        // A listening socket answers for what is not there.
        let asked =
            (ports, (at(8)?, at(24)?)) == ((local.port(), remote.port()), ends(local, remote));
        let found = Found {
            state: body[1],
            uid: u32_at(HEADER + 64)?,
            inode: u32_at(HEADER + 68)?,
        };
        Some(asked.then_some(found))
    };
    read().ok_or_else(strange)
}
