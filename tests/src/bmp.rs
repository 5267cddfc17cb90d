//! A router's side of BMP (RFC 7854), written from the RFC and sharing nothing with
//! what reads it.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use nix::unistd::{Uid, setfsuid};

use crate::lab::Namespace;

/// Where the daemon listens in tests.
pub const PORT: u16 = 11019;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![3];
    out.extend((body.len() as u32 + 6).to_be_bytes());
    out.push(kind);
    out.extend(body);
    out
}

/// The header of messages about the peer 192.0.2.N in AS 64600+N, after the filters.
fn peer(n: u8) -> Vec<u8> {
    let mut out = vec![0, 0x40];
    out.extend([0; 20]);
    out.extend([192, 0, 2, n]);
    out.extend((64600 + u32::from(n)).to_be_bytes());
    out.extend([192, 0, 2, n]);
    out.extend([0; 8]);
    out
}

pub(crate) fn bgp(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff; 16];
    out.extend((body.len() as u16 + 19).to_be_bytes());
    out.push(kind);
    out.extend(body);
    out
}

/// A prefix as UPDATEs have it.
pub fn nlri(prefix: IpNet, out: &mut Vec<u8>) {
    let len = prefix.prefix_len();
    out.push(len);
    let octets = usize::from(len.div_ceil(8));
    match prefix.addr() {
        IpAddr::V4(address) => out.extend(&address.octets()[..octets]),
        IpAddr::V6(address) => out.extend(&address.octets()[..octets]),
    }
}

/// A path attribute, with a long length, and optional and transitive as its RFC has it.
pub fn attribute(kind: u8, value: &[u8], out: &mut Vec<u8>) {
    let flags = match kind {
        14 | 15 => 0x90,
        17 => 0xd0,
        _ => 0x50,
    };
    out.extend([flags, kind]);
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value);
}

/// An UPDATE of its three parts.
#[must_use]
pub fn update(gone: &[u8], attributes: &[u8], here: &[u8]) -> Vec<u8> {
    let mut body = (gone.len() as u16).to_be_bytes().to_vec();
    body.extend(gone);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(here);
    bgp(2, &body)
}

/// Peer N says something: route monitoring of an UPDATE.
#[must_use]
pub fn monitored(n: u8, update: &[u8]) -> Vec<u8> {
    let mut body = peer(n);
    body.extend(update);
    message(0, &body)
}

/// Who is there.
#[must_use]
pub fn initiation(name: &str) -> Vec<u8> {
    let mut body = vec![0, 2];
    body.extend((name.len() as u16).to_be_bytes());
    body.extend(name.as_bytes());
    message(4, &body)
}

/// Peer N came up.
#[must_use]
pub fn peer_up(n: u8) -> Vec<u8> {
    let mut body = peer(n);
    body.extend([0; 20]);
    let open = bgp(1, &[4, 0xfc, 0x58, 0, 180, 192, 0, 2, n, 0]);
    body.extend(&open);
    body.extend(&open);
    message(3, &body)
}

/// Peer N went down.
#[must_use]
pub fn peer_down(n: u8) -> Vec<u8> {
    let mut body = peer(n);
    body.push(4);
    message(2, &body)
}

/// A segment of an AS path (RFC 4271, RFC 5065): its kind, and who is in it.
pub type Segment<'a> = (u8, &'a [u32]);

/// AS_SET.
pub const SET: u8 = 1;
/// AS_SEQUENCE.
pub const SEQUENCE: u8 = 2;
/// AS_CONFED_SEQUENCE.
pub const CONFEDERATION: u8 = 3;

/// An UPDATE that announces a prefix.
pub(crate) fn announcement(prefix: IpNet, next_hop: [u8; 4], path: &[Segment<'_>]) -> Vec<u8> {
    let mut segments = Vec::new();
    for (kind, asns) in path {
        segments.extend([*kind, asns.len() as u8]);
        segments.extend(asns.iter().flat_map(|asn| asn.to_be_bytes()));
    }
    let (mut attributes, mut here) = (Vec::new(), Vec::new());
    attribute(1, &[0], &mut attributes);
    attribute(2, &segments, &mut attributes);
    match prefix {
        IpNet::V4(_) => {
            attribute(3, &next_hop, &mut attributes);
            nlri(prefix, &mut here);
        }
        IpNet::V6(_) => {
            let mut value = vec![0, 2, 1, 16];
            value.extend([0; 17]);
            nlri(prefix, &mut value);
            attribute(14, &value, &mut attributes);
        }
    }
    update(&[], &attributes, &here)
}

/// Peer N announces a prefix with an AS path of one sequence.
#[must_use]
pub fn announce(n: u8, prefix: IpNet, path: &[u32]) -> Vec<u8> {
    announce_path(n, prefix, &[(SEQUENCE, path)])
}

/// Peer N announces a prefix with any AS path.
#[must_use]
pub fn announce_path(n: u8, prefix: IpNet, path: &[Segment<'_>]) -> Vec<u8> {
    monitored(n, &announcement(prefix, [192, 0, 2, n], path))
}

/// Peer N withdraws a prefix.
#[must_use]
pub fn withdraw(n: u8, prefix: IpNet) -> Vec<u8> {
    monitored(n, &withdrawal(prefix))
}

/// An UPDATE that withdraws a prefix.
pub(crate) fn withdrawal(prefix: IpNet) -> Vec<u8> {
    let (mut gone, mut attributes) = (Vec::new(), Vec::new());
    match prefix {
        IpNet::V4(_) => nlri(prefix, &mut gone),
        IpNet::V6(_) => {
            let mut value = vec![0, 2, 1];
            nlri(prefix, &mut value);
            attribute(15, &value, &mut attributes);
        }
    }
    update(&gone, &attributes, &[])
}

/// Peer N has sent all it has, in both families.
#[must_use]
pub fn ends(n: u8) -> Vec<u8> {
    let mut v6 = Vec::new();
    attribute(15, &[0, 2, 1], &mut v6);
    let mut out = Vec::new();
    for update in [update(&[], &[], &[]), update(&[], &v6, &[])] {
        out.extend(monitored(n, &update));
    }
    out
}

/// The same messages, of what their peers said before the router's filters.
///
/// # Panics
/// If they are not whole.
#[must_use]
pub fn before_filters(mut messages: Vec<u8>) -> Vec<u8> {
    let mut left = &mut messages[..];
    while let Some((header, _)) = left.split_first_chunk::<6>() {
        let size = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let (message, rest) = left.split_at_mut(size);
        message[7] &= !0x40;
        left = rest;
    }
    messages
}

/// A session to the daemon in a namespace.
#[derive(Debug)]
pub struct Speaker(TcpStream);

impl Speaker {
    /// Connects, and says who it is.
    ///
    /// # Errors
    /// If nobody listens.
    pub fn connect(namespace: &Namespace) -> Result<Self> {
        Self::connect_as(namespace, 0)
    }

    /// As [`Self::connect`], with a socket of some user.
    ///
    /// # Errors
    /// If nobody listens.
    pub fn connect_as(namespace: &Namespace, user: u32) -> Result<Self> {
        let stream = namespace.run(|| {
            // Of this thread alone; whose the socket is, is decided when it is made.
            let before = setfsuid(Uid::from_raw(user));
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT));
            setfsuid(before);
            stream.context("cannot connect to the BMP listener")
        })?;
        Self::over(stream)
    }

    /// As [`Self::connect`], in the caller's own namespace.
    ///
    /// # Errors
    /// If nobody listens.
    pub fn here() -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT));
        Self::over(stream.context("cannot connect to the BMP listener")?)
    }

    fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true).context("cannot set an option")?;
        let timeout = Some(Duration::from_secs(20));
        stream
            .set_write_timeout(timeout)
            .context("cannot set a timeout")?;
        let mut speaker = Self(stream);
        // One that is turned away may know it by now.
        let _ = speaker.send(&initiation("speaker"));
        Ok(speaker)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the other side has closed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).context("cannot send by BMP")
    }

    /// Whether the other side closes within some seconds.
    ///
    /// # Errors
    /// If the connection breaks in another way.
    pub fn is_closed(&mut self) -> Result<bool> {
        use std::io::Read as _;
        let timeout = Some(Duration::from_secs(5));
        self.0
            .set_read_timeout(timeout)
            .context("cannot set a timeout")?;
        match self.0.read(&mut [0; 1]) {
            Ok(read) => Ok(read == 0),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e).context("the BMP session broke"),
        }
    }
}
