//! Messages of BMP (RFC 7854), cut from a stream. Lengths are checked before anything
//! is kept: a session needs no more memory than one message of the longest kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::asn::path::Reader;
pub use crate::asn::path::Width;

/// Longest message that is read: a Peer Up holds two OPENs, and each may have 64 KiB
/// (RFC 8654).
pub const MAX_MESSAGE: usize = 256 << 10;

/// Length of the header that all messages have.
pub const COMMON: usize = 6;

/// Text of an Initiation that is kept.
const MAX_NAME: usize = 64;

/// Why a session cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Another protocol, or another version of this one.
    #[error("its version is {0}, not 3: the other side does not speak BMP (RFC 7854)")]
    Version(u8),
    /// No message is shorter than its header, and none this long.
    #[error("a message is said to have {0} bytes, and may have 6 to {MAX_MESSAGE}")]
    Length(u32),
    /// What is in a message does not fit into it.
    #[error("a {kind} message is damaged: {what}")]
    Damaged {
        /// Which.
        kind: &'static str,
        /// How.
        what: &'static str,
    },
}

/// Address families whose routes are read: unicast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// AFI 1, SAFI 1.
    V4,
    /// AFI 2, SAFI 1.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// By number; `None`: routes of another kind.
    #[must_use]
    pub fn of(afi: u16, safi: u8) -> Option<Self> {
        match (afi, safi) {
            (1, 1) => Some(Self::V4),
            (2, 1) => Some(Self::V6),
            _ => None,
        }
    }
}

/// Which table of which peer of the router: what tells routes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Global, of a VRF, local, or the router's own table (3, RFC 9069).
    pub kind: u8,
    /// Of the VRF; 0 for the global instance.
    pub distinguisher: u64,
    /// The peer's address; unspecified for the router's own table.
    pub address: IpAddr,
}

/// Type of a peer that is the router's own table (RFC 9069).
pub const LOC_RIB: u8 = 3;

/// The header of messages about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerHeader {
    /// Whose.
    pub peer: Peer,
    /// After the router's filters; else as received.
    pub post_policy: bool,
    /// What the router sends, not what it has (RFC 8671).
    pub adj_rib_out: bool,
    /// Octets of an ASN in its paths.
    pub width: Width,
    /// Its AS.
    pub asn: u32,
}

/// Families in which a session has path identifiers (RFC 7911).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddPath {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A BGP message of a peer: routes.
    Routes {
        /// Whose.
        header: PeerHeader,
        /// The whole BGP message.
        bgp: &'a [u8],
    },
    /// A session of the router came up.
    PeerUp {
        /// With whom.
        header: PeerHeader,
        /// Which of its routes have path identifiers.
        add_path: AddPath,
    },
    /// A session of the router ended.
    PeerDown {
        /// With whom.
        header: PeerHeader,
    },
    /// The router says who it is.
    Initiation {
        /// Its name, if it gave one.
        name: Option<String>,
    },
    /// The router ends the session.
    Termination,
    /// A report on a peer: nothing in it counts but that it came.
    Statistics {
        /// On whom.
        header: PeerHeader,
    },
    /// Copies of messages, and what is not known: nothing in them counts.
    Other,
}

impl<'a> Message<'a> {
    /// The message that `bytes` begin with, and its length. `None`: it is not whole yet.
    ///
    /// # Errors
    /// When no message can begin like this.
    pub fn first(bytes: &'a [u8]) -> Result<Option<(usize, Self)>, Malformed> {
        let Some(&version) = bytes.first() else {
            return Ok(None);
        };
        if version != 3 {
            return Err(Malformed::Version(version));
        }
        let Some((header, _)) = bytes.split_first_chunk::<COMMON>() else {
            return Ok(None);
        };
        let declared = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let length = usize::try_from(declared)
            .ok()
            .filter(|length| (COMMON..=MAX_MESSAGE).contains(length))
            .ok_or(Malformed::Length(declared))?;
        let Some(body) = bytes.get(COMMON..length) else {
            return Ok(None);
        };
        let (kind, message) = match header[5] {
            0 => ("route monitoring", routes(body)),
            1 => {
                let header = peer_header(&mut Reader(body));
                let statistics = |header| Self::Statistics { header };
                ("statistics", Ok(header.map_or(Self::Other, statistics)))
            }
            2 => ("peer down", peer_down(body)),
            3 => ("peer up", peer_up(body)),
            4 => ("initiation", initiation(body)),
            5 => ("termination", Ok(Self::Termination)),
            // 6: mirrored; others are to be ignored (RFC 7854, 4.1).
            _ => ("other", Ok(Self::Other)),
        };
        let message = message.map_err(|what| Malformed::Damaged { kind, what })?;
        Ok(Some((length, message)))
    }
}

fn peer_header(left: &mut Reader<'_>) -> Result<PeerHeader, &'static str> {
    let [kind, flags] = left.array()?;
    let distinguisher = u64::from_be_bytes(left.array()?);
    let address: [u8; 16] = left.array()?;
    let asn = left.u32()?;
    // BGP identifier and time.
    left.take(12)?;
    let own_table = kind == LOC_RIB;
    // The flags of the router's own table mean other things (RFC 9069, 4.2).
    let flag = |bit: u8| !own_table && flags & bit != 0;
    let address = if flag(0x80) {
        IpAddr::V6(Ipv6Addr::from(address))
    } else {
        IpAddr::V4(Ipv4Addr::new(
            address[12],
            address[13],
            address[14],
            address[15],
        ))
    };
    Ok(PeerHeader {
        peer: Peer {
            kind,
            distinguisher,
            address,
        },
        post_policy: flag(0x40),
        adj_rib_out: flag(0x10),
        width: if flag(0x20) { Width::Two } else { Width::Four },
        asn,
    })
}

fn routes(body: &[u8]) -> Result<Message<'_>, &'static str> {
    let mut left = Reader(body);
    let header = peer_header(&mut left)?;
    Ok(Message::Routes {
        header,
        bgp: left.0,
    })
}

fn peer_down(body: &[u8]) -> Result<Message<'_>, &'static str> {
    let mut left = Reader(body);
    let header = peer_header(&mut left)?;
    // The reason; what follows it depends on it, and does not matter here.
    left.u8()?;
    Ok(Message::PeerDown { header })
}

fn peer_up(body: &[u8]) -> Result<Message<'_>, &'static str> {
    let mut left = Reader(body);
    let header = peer_header(&mut left)?;
    // Local address and both ports.
    left.take(20)?;
    let sent = open(&mut left)?;
    let received = open(&mut left)?;
    let both = |sent: u8, received: u8| sent & 1 != 0 && received & 2 != 0;
    Ok(Message::PeerUp {
        header,
        add_path: AddPath {
            v4: both(sent[0], received[0]),
            v6: both(sent[1], received[1]),
        },
    })
}

/// What an OPEN says of path identifiers in IPv4 and IPv6: 1 it takes them, 2 it sends
/// them.
fn open(left: &mut Reader<'_>) -> Result<[u8; 2], &'static str> {
    let mut left = Reader(bgp(left, 1)?);
    // Version, AS, hold time, identifier.
    left.take(9)?;
    let mut size = usize::from(left.u8()?);
    let mut extended = false;
    if size == 255 && left.0.first() == Some(&255) {
        // RFC 9072.
        left.u8()?;
        size = left.u16()?.into();
        extended = true;
    }
    let mut parameters = Reader(left.take(size)?);
    let mut found = [0; 2];
    while !parameters.0.is_empty() {
        let kind = parameters.u8()?;
        let size = if extended {
            parameters.u16()?.into()
        } else {
            usize::from(parameters.u8()?)
        };
        let mut capabilities = Reader(parameters.take(size)?);
        while kind == 2 && !capabilities.0.is_empty() {
            let [code, size] = capabilities.array()?;
            let value = capabilities.take(size.into())?;
            // ADD-PATH.
            if code != 69 {
                continue;
            }
            for family in value.chunks_exact(4) {
                match Family::of(u16::from_be_bytes([family[0], family[1]]), family[2]) {
                    Some(Family::V4) => found[0] = family[3],
                    Some(Family::V6) => found[1] = family[3],
                    None => {}
                }
            }
        }
    }
    Ok(found)
}

/// What follows the header of a BGP message (RFC 4271) that must be of a type.
pub(super) fn bgp<'a>(left: &mut Reader<'a>, wanted: u8) -> Result<&'a [u8], &'static str> {
    if left.array()? != [0xff_u8; 16] {
        return Err("its BGP message has no marker");
    }
    let length = usize::from(left.u16()?);
    let kind = left.u8()?;
    if kind != wanted {
        return Err("its BGP message is of another type");
    }
    let length = length
        .checked_sub(19)
        .ok_or("its BGP message is shorter than its header")?;
    left.take(length)
}

fn initiation(body: &[u8]) -> Result<Message<'_>, &'static str> {
    let mut left = Reader(body);
    let mut name = None;
    while !left.0.is_empty() {
        let kind = left.u16()?;
        let size = left.u16()?;
        let value = left.take(size.into())?;
        if kind == 2 {
            let text = String::from_utf8_lossy(value);
            let shown = text.chars().filter(|c| !c.is_control());
            name = Some(shown.take(MAX_NAME).collect()).filter(|name: &String| !name.is_empty());
        }
    }
    Ok(Message::Initiation { name })
}
