//! What an interface is and what is attached to it, asked of the kernel: rtnetlink
//! for the XDP program, the ethtool ioctl for what the hardware does with tags.
//!
//! Both are single questions with single answers, asked before an attach and on
//! every look at the state, so they block instead of going through the daemon's
//! event loop.

use std::{io, os::fd::AsRawFd as _};

use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::{Attached, DatapathError};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// The XDP program on it: how, and the program's id.
    pub xdp: Option<(Attached, u32)>,
}

/// Asks for an interface by name. `None`: there is none.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn query(device: &str) -> Result<Option<Interface>, DatapathError> {
    ask(device).map_err(|e| DatapathError::new(format!("ask for interface `{device}`"), e))
}

fn ask(device: &str) -> io::Result<Option<Interface>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(device.to_owned()));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut request = NetlinkMessage::new(
        header,
        NetlinkPayload::from(RouteNetlinkMessage::GetLink(message)),
    );
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(Some(Interface {
            index: link.header.index,
            xdp: xdp_of(&link.attributes),
        })),
        NetlinkPayload::Error(error) => {
            let error = error.to_io();
            if error.raw_os_error() == Some(libc::ENODEV) {
                Ok(None)
            } else {
                Err(error)
            }
        }
        other => Err(io::Error::other(format!("unexpected answer {other:?}"))),
    }
}

fn xdp_of(attributes: &[LinkAttribute]) -> Option<(Attached, u32)> {
    let xdp = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    })?;
    let attached = xdp.iter().find_map(|x| match x {
        LinkXdp::Attached(attached) => Some(*attached),
        _ => None,
    })?;
    let how = match attached {
        XdpAttached::None => return None,
        XdpAttached::SocketBuffer => Attached::Generic,
        _ => Attached::Native,
    };
    let program = xdp.iter().find_map(|x| match x {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    });
    // Several programs at once have an id for each mode; none of them is ours alone.
    Some((how, program.unwrap_or(0)))
}

/// Sees to it that VLAN tags are in the frames that XDP is shown.
///
/// # Errors
/// When the hardware takes tags out (`rx-vlan-offload`), and `manage` does not
/// allow to switch that off or the driver refuses.
pub fn keep_tags(device: &str, manage: bool) -> Result<(), DatapathError> {
    let what = || format!("see the VLAN tags on `{device}`");
    let ethtool = Ethtool::new(device).map_err(|e| DatapathError::new(what(), e))?;
    let flags = match ethtool.value(libc_ethtool::GFLAGS, 0) {
        Ok(flags) => flags,
        // A device without ethtool has no hardware that could strip tags.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(()),
        Err(e) => return Err(DatapathError::new(what(), e)),
    };
    if flags & libc_ethtool::FLAG_RXVLAN == 0 {
        return Ok(());
    }
    // A veth has the flag but no hardware: what hides a tag there is its peer's
    // `tx-vlan-offload`, and this flag changes nothing.
    if ethtool.driver().is_ok_and(|driver| driver == "veth") {
        return Ok(());
    }
    if !manage {
        return Err(DatapathError::new(
            what(),
            format!(
                "rx-vlan-offload is on: the hardware takes the tags away before XDP; \
                 set `manage_offload = true` for this interface, or run \
                 `ethtool -K {device} rxvlan off`"
            ),
        ));
    }
    ethtool
        .value(libc_ethtool::SFLAGS, flags & !libc_ethtool::FLAG_RXVLAN)
        .and_then(|_| ethtool.value(libc_ethtool::GFLAGS, 0))
        .map_err(|e| DatapathError::new(format!("switch rx-vlan-offload off on `{device}`"), e))
        .and_then(|flags| {
            if flags & libc_ethtool::FLAG_RXVLAN == 0 {
                tracing::info!(device, "switched rx-vlan-offload off");
                return Ok(());
            }
            Err(DatapathError::new(
                format!("switch rx-vlan-offload off on `{device}`"),
                "the driver keeps it on; use another interface, or a VLAN sub-interface",
            ))
        })
}

/// Of `linux/ethtool.h`.
mod libc_ethtool {
    pub(super) const GDRVINFO: u32 = 0x03;
    pub(super) const GFLAGS: u32 = 0x25;
    pub(super) const SFLAGS: u32 = 0x26;
    pub(super) const FLAG_RXVLAN: u32 = 1 << 8;
}

struct Ethtool {
    socket: std::net::UdpSocket,
    name: [libc::c_char; libc::IFNAMSIZ],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

impl Ethtool {
    fn new(device: &str) -> io::Result<Self> {
        let mut name = [0; libc::IFNAMSIZ];
        if device.len() >= name.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "interface names have 15 characters at most",
            ));
        }
        for (to, from) in name.iter_mut().zip(device.bytes()) {
            // Signed or not, by processor.
            *to = libc::c_char::from_ne_bytes([from]);
        }
        Ok(Self {
            socket: std::net::UdpSocket::bind(("127.0.0.1", 0))
                .or_else(|_| std::net::UdpSocket::bind(("::1", 0)))
                .or_else(|_| std::net::UdpSocket::bind(("0.0.0.0", 0)))?,
            name,
        })
    }

    fn call<T>(&self, argument: &mut T) -> io::Result<()> {
        let mut request = libc::ifreq {
            ifr_name: self.name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: std::ptr::from_mut(argument).cast(),
            },
        };
        // SAFETY: the request points to an argument of the size that its command
        // has, and both live longer than the call.
        let result = unsafe {
            libc::ioctl(
                self.socket.as_raw_fd(),
                // C libraries do not agree on its type; its value fits all of them.
                libc::SIOCETHTOOL as _,
                std::ptr::from_mut(&mut request),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn value(&self, command: u32, data: u32) -> io::Result<u32> {
        let mut value = Value { command, data };
        self.call(&mut value)?;
        Ok(value.data)
    }

    fn driver(&self) -> io::Result<String> {
        let mut info = DriverInfo {
            command: libc_ethtool::GDRVINFO,
            driver: [0; 32],
            rest: [0; 160],
        };
        self.call(&mut info)?;
        let _ = info.rest;
        let name: Vec<u8> = info.driver.into_iter().take_while(|b| *b != 0).collect();
        Ok(String::from_utf8_lossy(&name).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there_and_bare() {
        let interface = query("lo").unwrap().unwrap();
        assert_eq!(
            interface,
            Interface {
                index: 1,
                xdp: None
            }
        );
        keep_tags("lo", false).unwrap();
    }

    #[test]
    fn what_is_not_there_is_none() {
        assert_eq!(query("kordon-none").unwrap(), None);
        let error = keep_tags("kordon-none", false).unwrap_err().to_string();
        assert!(error.contains("kordon-none"), "{error}");
        assert!(keep_tags("a-name-that-is-too-long", false).is_err());
    }
}
