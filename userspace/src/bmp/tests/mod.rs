//! A writer of messages, from the RFCs, and what both halves of the tests need.

mod feed;
mod hostile;
mod model;
mod reading;
mod said;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::feed::{Feed, Settings};
use super::message::Message;
use super::overlay::Stakes;
use super::rib::Moment;
use crate::asn::AsnDb;

/// A BMP message.
pub(super) fn bmp(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![3];
    out.extend((body.len() as u32 + 6).to_be_bytes());
    out.push(kind);
    out.extend(body);
    out
}

/// The header of messages about the peer 192.0.2.N in AS 64500+N.
pub(super) fn peer(n: u8, flags: u8) -> Vec<u8> {
    let mut out = vec![0, flags];
    out.extend([0; 8]);
    out.extend([0; 12]);
    out.extend([192, 0, 2, n]);
    out.extend((64500 + u32::from(n)).to_be_bytes());
    out.extend([10, 0, 0, n]);
    out.extend([0; 8]);
    out
}

/// A BGP message.
pub(super) fn bgp(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff; 16];
    out.extend((body.len() as u16 + 19).to_be_bytes());
    out.push(kind);
    out.extend(body);
    out
}

/// A path attribute, with a long length and the flags of its kind.
pub(super) fn attribute(kind: u8, value: &[u8]) -> Vec<u8> {
    let flags = match kind {
        14 | 15 => 0x90,
        17 => 0xd0,
        _ => 0x50,
    };
    let mut out = vec![flags, kind];
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value);
    out
}

/// An AS_SEQUENCE.
pub(super) fn sequence(asns: &[u32]) -> Vec<u8> {
    let mut out = vec![2, asns.len() as u8];
    out.extend(asns.iter().flat_map(|asn| asn.to_be_bytes()));
    out
}

pub(super) fn nlri(prefix: IpNet) -> Vec<u8> {
    let len = prefix.prefix_len();
    let octets: Vec<u8> = match prefix.addr() {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let mut out = vec![len];
    out.extend(&octets[..usize::from(len.div_ceil(8))]);
    out
}

/// An UPDATE for one prefix; no path: it is withdrawn.
pub(crate) fn update(prefix: &str, path: Option<&[u32]>) -> Vec<u8> {
    let prefix: IpNet = prefix.parse().unwrap();
    let v6 = matches!(prefix, IpNet::V6(_));
    let (mut gone, mut attributes, mut here) = (Vec::new(), Vec::new(), Vec::new());
    match path {
        None if v6 => {
            let mut value = vec![0, 2, 1];
            value.extend(nlri(prefix));
            attributes.extend(attribute(15, &value));
        }
        None => gone.extend(nlri(prefix)),
        Some(path) => {
            attributes.extend(attribute(1, &[0]));
            let path = if path.is_empty() {
                Vec::new()
            } else {
                sequence(path)
            };
            attributes.extend(attribute(2, &path));
            if v6 {
                let mut value = vec![0, 2, 1, 16];
                value.extend([0; 17]);
                value.extend(nlri(prefix));
                attributes.extend(attribute(14, &value));
            } else {
                here.extend(nlri(prefix));
            }
        }
    }
    raw_update(&gone, &attributes, &here)
}

pub(super) fn raw_update(gone: &[u8], attributes: &[u8], here: &[u8]) -> Vec<u8> {
    let mut body = (gone.len() as u16).to_be_bytes().to_vec();
    body.extend(gone);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(here);
    bgp(2, &body)
}

/// What the router accepted of a peer.
pub(crate) fn routes(n: u8, update: &[u8]) -> Vec<u8> {
    routes_of(n, POST, update)
}

/// After the router's filters.
pub(super) const POST: u8 = 0x40;

/// What the router says of a peer, with these flags.
pub(super) fn routes_of(n: u8, flags: u8, update: &[u8]) -> Vec<u8> {
    let mut body = peer(n, flags);
    body.extend(update);
    bmp(0, &body)
}

/// An OPEN with these capabilities.
pub(super) fn open(capabilities: &[u8]) -> Vec<u8> {
    let mut body = vec![4, 0xfb, 0xf4, 0, 180, 10, 0, 0, 1];
    if capabilities.is_empty() {
        body.push(0);
    } else {
        body.extend([capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
        body.extend(capabilities);
    }
    bgp(1, &body)
}

pub(crate) fn peer_up(n: u8, sent: &[u8], received: &[u8]) -> Vec<u8> {
    let mut body = peer(n, 0);
    body.extend([0; 20]);
    body.extend(open(sent));
    body.extend(open(received));
    bmp(3, &body)
}

pub(super) fn peer_down(n: u8) -> Vec<u8> {
    let mut body = peer(n, 0);
    body.push(4);
    bmp(2, &body)
}

pub(super) const END_V4: [u8; 4] = [0; 4];

/// End-of-RIB of both families.
pub(crate) fn ends(n: u8) -> Vec<u8> {
    ends_of(n, POST)
}

pub(super) fn ends_of(n: u8, flags: u8) -> Vec<u8> {
    let mut out = routes_of(n, flags, &bgp(2, &END_V4));
    let v6 = raw_update(&[], &attribute(15, &[0, 2, 1]), &[]);
    out.extend(routes_of(n, flags, &v6));
    out
}

pub(super) fn at(second: u32) -> Moment {
    Moment {
        wall: 1_000_000 + second,
        steady: second,
    }
}

/// A feed and the one session into it.
pub(super) struct Lab {
    pub(super) feed: Feed,
    pub(super) session: u64,
    pub(super) now: u32,
    pub(super) imported: std::sync::Arc<AsnDb>,
}

pub(crate) const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Lab {
    pub(super) fn new(stakes: Stakes, imported: AsnDb) -> Self {
        let imported = std::sync::Arc::new(imported);
        let settings = Settings {
            hold: 600,
            stale_after: 3600,
            forget_after: 100_000,
        };
        let mut feed = Feed::new(settings, stakes, imported.clone());
        let session = feed.open(ROUTER, at(0));
        Self {
            feed,
            session,
            now: 0,
            imported,
        }
    }

    /// Bytes of whole messages.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let mut left = bytes;
        while let Some((length, message)) = Message::first(left).unwrap() {
            self.feed
                .message(self.session, &message, at(self.now))
                .unwrap();
            left = &left[length..];
        }
        assert!(left.is_empty());
    }

    /// A peer comes up, says that it has nothing, and is believed.
    pub(super) fn begin(&mut self, n: u8) {
        self.send(&peer_up(n, &[], &[]));
        // The table is there when its first route is.
        self.send(&ends(n));
        self.decide();
    }

    /// Takes time forward.
    pub(super) fn wait(&mut self, seconds: u32) {
        self.now += seconds;
    }

    /// What changes now: prefix and origins.
    pub(super) fn decide(&mut self) -> Vec<(String, Option<Vec<u32>>)> {
        let changes = self.feed.decide(at(self.now));
        let mut out: Vec<_> = changes
            .into_iter()
            .map(|change| (change.prefix.to_string(), change.origins))
            .collect();
        out.sort();
        out
    }

    /// Who announces an address, of all that is in effect.
    pub(super) fn origins(&self, address: &str) -> Vec<u32> {
        let db = self.feed.overlaid(&self.imported);
        db.origins_at(address.parse().unwrap()).to_vec()
    }
}
