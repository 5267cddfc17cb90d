//! A way to a destination: opens it, and puts messages on it in the form that it wants.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::event::PollFlags;

use super::{
    config::{Destination, Server, Target},
    fault::Fault,
    journal::{self, Journal, is_too_long},
    pace::Pace,
    record::Message,
    stream::Stream,
    syslog::{Syslog, frame},
    tls,
    wait::{Stop, until_ready},
};

/// Longest datagram: servers cut off what is longer (rsyslog at 8 KiB).
const DATAGRAM: usize = 8192;

/// A way to a destination.
#[derive(Debug)]
pub(super) enum Wire {
    Udp(UdpSocket),
    /// With TLS or without.
    Stream(Box<Stream>),
    Journal(Journal),
}

impl Wire {
    pub(super) fn open(
        destination: &Destination,
        stop: &Arc<Stop>,
        pace: &Pace,
    ) -> Result<Self, Fault> {
        let (server, secrets) = match &destination.to {
            Target::Journald(path) => return Ok(Self::Journal(Journal::open(path)?)),
            Target::Tls(server) => (server, Some(tls::secrets(destination, &server.host)?)),
            Target::Udp(server) | Target::Tcp(server) => (server, None),
        };
        let is_udp = matches!(&destination.to, Target::Udp(_));
        let mut fault = Fault::Name("the name stands for nothing".into());
        for address in addresses(server, stop, pace.patience)? {
            let opened = match is_udp {
                true => udp(address).map(Self::Udp).map_err(Fault::Io),
                false => Stream::open(address, secrets.clone(), stop, pace.connect)
                    .map(|stream| Self::Stream(Box::new(stream.with_patience(pace.patience)))),
            };
            match opened {
                Ok(wire) => return Ok(wire),
                Err(e) if stop.is_told() => return Err(e),
                Err(e) => fault = e,
            }
        }
        Err(fault)
    }

    /// Sends all of them, or says that some of them may not have been.
    pub(super) fn send(
        &mut self,
        messages: &[Message],
        syslog: &mut Syslog,
        destination: &Destination,
        stop: &Stop,
        pace: &Pace,
    ) -> Result<(), Fault> {
        match self {
            Self::Stream(stream) => {
                let mut bytes = Vec::new();
                for message in messages {
                    frame(&mut bytes, &syslog.message(message, false));
                }
                stream.send(&bytes)
            }
            Self::Udp(socket) => {
                for message in messages {
                    let whole = syslog.message(message, false);
                    let is_sent = whole.len() <= DATAGRAM
                        && match send(socket, &whole, stop, pace) {
                            Ok(()) => true,
                            Err(Fault::Io(e)) if is_too_long(&e) => false,
                            Err(e) => return Err(e),
                        };
                    if !is_sent {
                        send(socket, &syslog.message(message, true), stop, pace)?;
                    }
                }
                Ok(())
            }
            Self::Journal(journal) => {
                for message in messages {
                    let fields = journal::fields(message, destination.facility);
                    again(stop, pace, journal.socket(), || journal.send(&fields))?;
                }
                Ok(())
            }
        }
    }

    /// Whether it still leads anywhere.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        match self {
            Self::Stream(stream) => stream.check(),
            // What the last datagrams met.
            Self::Udp(socket) => socket.take_error()?.map_or(Ok(()), |e| Err(e.into())),
            Self::Journal(_) => Ok(()),
        }
    }

    /// Bytes that were written, where that can be compared with [`Self::taken`].
    pub(super) fn written(&self) -> u64 {
        match self {
            Self::Stream(stream) => stream.written(),
            Self::Udp(_) | Self::Journal(_) => 0,
        }
    }

    /// Bytes of these that were taken; `None`: nobody knows.
    pub(super) fn taken(&self) -> Option<u64> {
        match self {
            Self::Stream(stream) => stream.taken(),
            Self::Udp(_) | Self::Journal(_) => Some(0),
        }
    }

    pub(super) fn end(&mut self) {
        if let Self::Stream(stream) = self {
            stream.end();
        }
    }
}

fn send(socket: &UdpSocket, bytes: &[u8], stop: &Stop, pace: &Pace) -> Result<(), Fault> {
    again(stop, pace, socket, || socket.send(bytes).map(|_| ()))
}

/// Does it as soon as the socket has room.
fn again(
    stop: &Stop,
    pace: &Pace,
    socket: impl std::os::fd::AsFd,
    mut send: impl FnMut() -> io::Result<()>,
) -> Result<(), Fault> {
    loop {
        match send() {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let waited = until_ready(&socket, PollFlags::OUT, pace.patience, || stop.is_over());
                waited.map_err(|e| match e.kind() {
                    io::ErrorKind::TimedOut => Fault::Silent,
                    io::ErrorKind::Interrupted => Fault::Over,
                    _ => e.into(),
                })?;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

fn udp(to: SocketAddr) -> io::Result<UdpSocket> {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from)?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Addresses of a server. Names are asked for in a thread of their own: that may take long, and
/// cannot be ended.
fn addresses(server: &Server, stop: &Stop, most: Duration) -> Result<Vec<SocketAddr>, Fault> {
    if let Ok(address) = server.host.parse() {
        return Ok(vec![SocketAddr::new(address, server.port)]);
    }
    let (tell, told) = mpsc::channel();
    let (host, port) = (server.host.clone(), server.port);
    thread::Builder::new()
        .name("kordon-name".into())
        .spawn(move || {
            let found = (host.as_str(), port).to_socket_addrs();
            // Nobody may wait for it any more.
            let _ = tell.send(found.map(Vec::from_iter));
        })?;
    let begun = Instant::now();
    loop {
        match told.recv_timeout(Duration::from_millis(50)) {
            Ok(found) => return found.map_err(|e| Fault::Name(e.to_string())),
            Err(_) if stop.is_told() => return Err(Fault::Over),
            Err(mpsc::RecvTimeoutError::Timeout) if begun.elapsed() < most => {}
            Err(_) => return Err(Fault::Name("nobody answers for its name".into())),
        }
    }
}
