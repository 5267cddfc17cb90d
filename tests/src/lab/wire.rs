//! The smallest network: a namespace with a pair of interfaces. What is sent on
//! `out` arrives on `in`, which is the one to police; nothing is lost in between,
//! however fast.

use std::net::IpAddr;

use anyhow::Result;

use super::{Namespace, frame, namespace::owned_prefix, raw::RawSender};

/// A pair of interfaces in a namespace of its own.
#[derive(Debug)]
pub struct Wire {
    /// Where both are.
    pub namespace: Namespace,
    /// Onto `out`.
    pub sender: RawSender,
}

impl Wire {
    /// Makes them.
    ///
    /// # Errors
    /// If the name is taken or the process may not.
    pub fn new(name: &str) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-{name}", owned_prefix()?))?;
        // Without an address of its own nothing is sent on `out` but what a test sends:
        // neighbour discovery would be frames of no zone, at any moment.
        namespace.ip("link set lo up\nlink add in type veth peer name out\n\
                      link set out addrgenmode none\nlink set in up\nlink set out up")?;
        namespace.inline_tags("out")?;
        let sender = RawSender::open(&namespace, "out")?;
        Ok(Self { namespace, sender })
    }

    /// A UDP packet with a tag, as a camera would send it.
    #[must_use]
    pub fn packet(vlan: u16, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        frame::Ethernet::new([2; 6], [4; 6])
            .tag(0x8100, vlan)
            .packet(&frame::udp(source, destination, (4000, 4000), b"x"))
    }

    /// Sends one as often as asked. A full queue is waited for.
    ///
    /// # Errors
    /// If the device is down.
    pub fn send(&self, frame: &[u8], times: usize) -> Result<()> {
        for _ in 0..times {
            self.sender.send(frame)?;
        }
        Ok(())
    }
}
