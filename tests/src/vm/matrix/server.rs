//! Where cameras' frames go: a server behind the router, which counts what arrives.
//!
//! The router routes what it receives on to [`UPLINK`], a cable whose other end is the server's.
//! A bridge has a port of its own instead, another such cable. Frames are counted at the other
//! end, past all that could have dropped them. A frame's UDP port says which cell it was sent to.

use std::{collections::BTreeMap, fs, net::Ipv4Addr};

use anyhow::Result;

use super::super::{
    daemon::{ALLOWED, BLOCKED},
    link,
};
use crate::{generate::build, lab::listener::Listener};

/// Where the router sends what it routes.
const UPLINK: (&str, &str) = ("uplink", "server");
/// Nobody's address: the server's own stack takes nothing, the socket all.
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
const CAMERA: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 5);
/// The VLAN of cameras.
pub(super) const VID: u16 = 20;

/// How many blocked and allowed frames arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrived {
    pub(super) blocked: u64,
    pub(super) allowed: u64,
}

/// The server's ends of all cables, and whose frames count there; `None`: all others'.
pub(super) struct Server {
    ends: Vec<(Listener, Option<u16>)>,
}

impl Server {
    /// Makes this machine a router that has one.
    pub(super) fn new() -> Result<Self> {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        // What devices say by themselves would only be noise.
        for of in ["all", "default"] {
            let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{of}/disable_ipv6"), "1");
        }
        link::pair(UPLINK.0, UPLINK.1)?;
        for to in [BLOCKED, ALLOWED] {
            link::route(to, UPLINK.0, NOBODY)?;
        }
        Ok(Self {
            ends: vec![(Listener::on(UPLINK.1)?, None)],
        })
    }

    /// Counts at another cable's end, too.
    pub(super) fn add(&mut self, device: &str, port: u16) -> Result<()> {
        self.ends.push((Listener::on(device)?, Some(port)));
        Ok(())
    }

    /// What came since the last time, by the ports.
    pub(super) fn take(&self) -> Result<BTreeMap<u16, Arrived>> {
        let own: Vec<u16> = self.ends.iter().filter_map(|(_, port)| *port).collect();
        let mut all: BTreeMap<u16, Arrived> = BTreeMap::new();
        let mut buffer = [0; 2048];
        for (end, of) in &self.ends {
            while let Some(frame) = end.next(&mut buffer)? {
                let Some((to, port)) = read(frame) else {
                    continue;
                };
                if of.map_or(own.contains(&port), |of| of != port) {
                    continue;
                }
                let arrived = all.entry(port).or_default();
                arrived.blocked += u64::from(to == BLOCKED);
                arrived.allowed += u64::from(to == ALLOWED);
            }
        }
        Ok(all)
    }
}

/// Destination and port of a camera's frame, with its tag or without.
fn read(frame: &[u8]) -> Option<(Ipv4Addr, u16)> {
    let at = match frame.get(12..14)? {
        [0x81, 0] => 18,
        [8, 0] => 14,
        _ => return None,
    };
    let (packet, _) = frame.get(at..)?.split_first_chunk::<24>()?;
    let from = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
    let to = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
    let port = u16::from_be_bytes([packet[22], packet[23]]);
    (from == CAMERA && packet[9] == 17).then_some((to, port))
}

/// A camera's frame to a hardware address.
pub(super) fn frame(mac: [u8; 6], to: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut frame = build::ip_frame(&[(0x8100, VID)], &packet(to, port));
    frame[..6].copy_from_slice(&mac);
    frame
}

/// A camera's packet; a router wants its checksum to be right.
pub(super) fn packet(to: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut packet = build::ipv4(CAMERA, to, 17, &build::udp(9, port, &[0x6b; 32]));
    let words = packet[..20].chunks_exact(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    packet
}

#[cfg(test)]
mod tests {
    use super::{BLOCKED, frame, read};

    #[test]
    fn a_frame_is_known_by_its_port() {
        let mut tagged = frame([2, 0, 0, 0, 0, 7], BLOCKED, 9007);
        assert_eq!(read(&tagged), Some((BLOCKED, 9007)));
        tagged.drain(12..16);
        assert_eq!(read(&tagged), Some((BLOCKED, 9007)));
        let sum: u32 = tagged[14..34]
            .chunks(2)
            .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(read(&tagged[..30]), None);
    }
}
