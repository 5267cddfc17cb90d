//! A BGP speaker with one session to a router (RFC 4271, RFC 6793), for what a bgpd is
//! too slow to be told: ten thousand UPDATEs a second.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;

use crate::{
    bmp::{SEQUENCE, announcement, bgp, withdrawal},
    lab::Namespace,
};

const OPEN: u8 = 1;
const KEEPALIVE: u8 = 4;
/// Seconds: longer than a test lasts, so that nobody has to keep the session alive.
const HOLD_TIME: u16 = 600;

/// Of an established session.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    address: Ipv4Addr,
}

impl Peer {
    /// Opens a session from an address of a namespace to a router in another AS.
    ///
    /// # Errors
    /// If the router does not want it.
    pub fn connect(
        namespace: &Namespace,
        address: Ipv4Addr,
        asn: u16,
        to: Ipv4Addr,
    ) -> Result<Self> {
        let mut stream = namespace.run(|| {
            TcpStream::connect((to, 179)).with_context(|| format!("cannot connect to {to}"))
        })?;
        let timeout = Some(Duration::from_secs(30));
        stream
            .set_read_timeout(timeout)
            .and_then(|()| stream.set_write_timeout(timeout))
            .context("cannot set a timeout")?;
        let mut open = vec![4];
        open.extend(asn.to_be_bytes());
        open.extend(HOLD_TIME.to_be_bytes());
        open.extend(address.octets());
        // One parameter: capabilities, IPv4 unicast and ASNs of four octets.
        open.extend([14, 2, 12, 1, 4, 0, 1, 0, 1, 65, 4]);
        open.extend(u32::from(asn).to_be_bytes());
        let mut send = |bytes: &[u8]| stream.write_all(bytes).context("the session broke");
        send(&bgp(OPEN, &open))?;
        send(&bgp(KEEPALIVE, &[]))?;
        for expected in [OPEN, KEEPALIVE] {
            let kind = next(&mut stream)?;
            ensure!(kind == expected, "a message of type {kind}");
        }
        // What the router says is of no interest, but somebody has to listen.
        let mut heard = stream.try_clone().context("cannot copy a socket")?;
        heard
            .set_read_timeout(None)
            .context("cannot set a timeout")?;
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while heard.read(&mut buffer).is_ok_and(|read| read > 0) {}
        });
        Ok(Self { stream, address })
    }

    /// A message that announces a prefix with an AS path of one sequence.
    #[must_use]
    pub fn announce(&self, prefix: IpNet, path: &[u32]) -> Vec<u8> {
        announcement(prefix, self.address.octets(), &[(SEQUENCE, path)])
    }

    /// A message that withdraws a prefix.
    #[must_use]
    pub fn withdraw(&self, prefix: IpNet) -> Vec<u8> {
        withdrawal(prefix)
    }

    /// Sends messages; returns when the router has room for them.
    ///
    /// # Errors
    /// If the router has closed the session.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .write_all(bytes)
            .context("the router has closed the BGP session")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The listening thread holds the socket too.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Reads one message; returns its type.
fn next(stream: &mut TcpStream) -> Result<u8> {
    let mut header = [0; 19];
    stream
        .read_exact(&mut header)
        .context("no answer to an OPEN")?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let mut body = vec![0; length.saturating_sub(header.len())];
    stream.read_exact(&mut body).context("a message is cut")?;
    Ok(header[18])
}
