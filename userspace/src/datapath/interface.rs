//! What an interface is and what is attached to it, asked of the kernel by rtnetlink.
//!
//! Single questions with single answers, asked before an attach and on every look at the
//! state, so they block instead of going through the daemon's event loop.

use std::io;

use rtnetlink::{
    packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage, LinkXdp, XdpAttached},
        tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::{Attached, DatapathError};

/// What an interface is made of, as far as it matters for tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A network card, or anything else.
    #[default]
    Other,
    /// One end of a pair.
    Veth,
    /// A bridge.
    Bridge,
    /// Several ports as one.
    Bond,
    /// The same by another driver.
    Team,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The number of the interface below, or of the other end of a veth.
    pub below: Option<u32>,
    /// The XDP program on it: how, and the program's id.
    pub xdp: Option<(Attached, u32)>,
}

/// Asks for an interface by name. `None`: there is none.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn query(device: &str) -> Result<Option<Interface>, DatapathError> {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(device.to_owned()));
    one(message).map_err(|e| DatapathError::new(format!("ask for interface `{device}`"), e))
}

/// As [`query`], by number.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn query_index(index: u32) -> Result<Option<Interface>, DatapathError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    one(message).map_err(|e| DatapathError::new(format!("ask for interface {index}"), e))
}

fn one(message: LinkMessage) -> io::Result<Option<Interface>> {
    let mut found = ask(RouteNetlinkMessage::GetLink(message), 0)?;
    Ok(match found.pop() {
        Some(RouteNetlinkMessage::NewLink(link)) => Some(read(&link)),
        _ => None,
    })
}

/// All interfaces.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn all() -> Result<Vec<Interface>, DatapathError> {
    Ok(links()?.iter().map(read).collect())
}

/// Names of the ports of a bridge, bond or team.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn ports(master: u32) -> Result<Vec<String>, DatapathError> {
    let is_port = |link: &&LinkMessage| {
        let mut attributes = link.attributes.iter();
        attributes.any(|a| matches!(a, LinkAttribute::Controller(m) if *m == master))
    };
    let links = links()?;
    Ok(links.iter().filter(is_port).map(|l| read(l).name).collect())
}

fn links() -> Result<Vec<LinkMessage>, DatapathError> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let links = ask(request, NLM_F_DUMP).map_err(|e| DatapathError::new("list interfaces", e))?;
    let links = links.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    });
    Ok(links.collect())
}

/// The id of the program of a tc filter at ingress of an interface. `None`: there is no such
/// filter, or it has none.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn filter(index: u32, priority: u16, handle: u32) -> Result<Option<u32>, DatapathError> {
    let mut message = TcMessage::default();
    let [a, b] = (libc::ETH_P_ALL as u16).to_ne_bytes();
    message.header = TcHeader {
        index: index.cast_signed(),
        handle: TcHandle::from(handle),
        parent: TcHandle {
            major: TcHandle::CLSACT.major,
            minor: TcHandle::MIN_INGRESS,
        },
        info: u32::from(priority) << 16 | u32::from(u16::from_be_bytes([a, b])),
        ..TcHeader::default()
    };
    let found = match ask(RouteNetlinkMessage::GetTrafficFilter(message), 0) {
        // No qdisc, so no filter.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
        found => found.map_err(|e| {
            DatapathError::new(format!("ask for tc filters of interface {index}"), e)
        })?,
    };
    Ok(found.into_iter().find_map(|message| {
        let RouteNetlinkMessage::NewTrafficFilter(filter) = message else {
            return None;
        };
        filter.attributes.iter().find_map(|attribute| {
            let TcAttribute::Options(options) = attribute else {
                return None;
            };
            options.iter().find_map(|option| match option {
                TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
                _ => None,
            })
        })
    }))
}

/// The interfaces with a tc filter at ingress that runs this program.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn with_filter(
    priority: u16,
    handle: u32,
    program: u32,
) -> Result<Vec<Interface>, DatapathError> {
    let mut with = Vec::new();
    for found in all()? {
        if filter(found.index, priority, handle)? == Some(program) {
            with.push(found);
        }
    }
    Ok(with)
}

/// What the kernel answers; nothing where what was asked for is not there.
fn ask(request: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(request));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut found = Vec::new();
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = &answer[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
            // Messages are padded to four bytes.
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::InnerMessage(message) => found.push(message),
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => {
                    let error = error.to_io();
                    return match error.raw_os_error() {
                        Some(libc::ENODEV | libc::ENOENT) => Ok(found),
                        _ => Err(error),
                    };
                }
                other => return Err(io::Error::other(format!("unexpected answer {other:?}"))),
            }
        }
        if flags & NLM_F_DUMP == 0 {
            return Ok(found);
        }
    }
}

fn read(link: &LinkMessage) -> Interface {
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        kind: Kind::default(),
        below: None,
        xdp: xdp_of(&link.attributes),
    };
    let mut is_elsewhere = false;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Link(index) => interface.below = Some(*index),
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                interface.kind = infos.iter().find_map(kind_of).unwrap_or_default();
            }
            _ => {}
        }
    }
    if is_elsewhere {
        // A number of another namespace.
        interface.below = None;
    }
    interface
}

fn kind_of(info: &LinkInfo) -> Option<Kind> {
    match info {
        LinkInfo::Kind(InfoKind::Veth) => Some(Kind::Veth),
        LinkInfo::Kind(InfoKind::Bridge) => Some(Kind::Bridge),
        LinkInfo::Kind(InfoKind::Bond) => Some(Kind::Bond),
        LinkInfo::Kind(InfoKind::Team) => Some(Kind::Team),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_there_and_bare() {
        let interface = query("lo").unwrap().unwrap();
        let bare = Interface {
            index: 1,
            name: "lo".into(),
            kind: Kind::Other,
            below: None,
            xdp: None,
        };
        assert_eq!(interface, bare);
        assert_eq!(query_index(1).unwrap().unwrap(), bare);
        assert!(all().unwrap().contains(&bare));
        assert_eq!(ports(1).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_there_is_none() {
        assert_eq!(query("kordon-none").unwrap(), None);
        assert_eq!(query_index(u32::MAX >> 1).unwrap(), None);
        assert_eq!(filter(1, 1, 1).unwrap(), None);
    }
}
