//! A connection, with TLS or without, that never blocks for long, and that knows how much the other
//! side has taken.
//!
//! How much is still on its way (`SIOCOUTQ`) is read from `/proc/thread-self/net/tcp`, by the
//! socket's inode: the system call for it needs `unsafe`, and once a second is seldom enough for a
//! table.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::PollFlags,
    fs::fstat,
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt},
};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

use super::{
    fault::Fault,
    wait::{Stop, is_ready, until_ready},
};

/// What TLS is given at once: it keeps no more than 64 KiB.
const CHUNK: usize = 16 << 10;
/// What is read and thrown away at once.
const ANSWER: usize = 4096;

/// With what TLS begins.
pub(super) type Secrets = (Arc<ClientConfig>, ServerName<'static>);

/// A connection.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    inode: u64,
    is_ipv6: bool,
    /// Bytes that the kernel has got from us.
    written: u64,
    stop: Arc<Stop>,
    /// How long the other side may do nothing.
    patience: Duration,
}

impl Stream {
    pub(super) fn open(
        to: SocketAddr,
        secrets: Option<Secrets>,
        stop: &Arc<Stop>,
        patience: Duration,
    ) -> Result<Self, Fault> {
        let socket = connected(to, stop, patience)?;
        let mut stream = Self {
            inode: fstat(&socket).map_err(io::Error::from)?.st_ino,
            is_ipv6: to.is_ipv6(),
            socket,
            tls: None,
            written: 0,
            stop: Arc::clone(stop),
            patience,
        };
        if let Some((config, name)) = secrets {
            let tls = ClientConnection::new(config, name)?;
            stream.tls = Some(Box::new(tls));
            stream.shake_hands()?;
        }
        Ok(stream)
    }

    /// From now on the other side may do nothing for so long.
    pub(super) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn shake_hands(&mut self) -> Result<(), Fault> {
        let begun = Instant::now();
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            // A server that sends a little now and then would take for ever.
            if begun.elapsed() >= self.patience {
                return Err(Fault::Silent);
            }
            self.flush()?;
            if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
                self.wait(PollFlags::IN)?;
                self.check()?;
            }
        }
        self.flush()
    }

    fn wait(&self, flags: PollFlags) -> Result<(), Fault> {
        let waited = until_ready(&self.socket, flags, self.patience, || self.stop.is_over());
        waited.map_err(|e| match e.kind() {
            io::ErrorKind::TimedOut => Fault::Silent,
            io::ErrorKind::Interrupted => Fault::Over,
            _ => e.into(),
        })
    }

    /// Gives all of it to the kernel.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.tls.is_none() {
            return self.write(bytes);
        }
        for chunk in bytes.chunks(CHUNK) {
            if let Some(tls) = &mut self.tls {
                tls.writer().write_all(chunk)?;
            }
            self.flush()?;
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match (&self.socket).write(bytes) {
                Ok(0) => return Err(Fault::Closed),
                Ok(written) => {
                    self.written += written as u64;
                    bytes = bytes.get(written..).unwrap_or_default();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::OUT)?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Gives the kernel what TLS has made.
    fn flush(&mut self) -> Result<(), Fault> {
        while let Some(tls) = self.tls.as_mut().filter(|tls| tls.wants_write()) {
            match tls.write_tls(&mut &self.socket) {
                Ok(written) => self.written += written as u64,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::OUT)?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Takes what the other side says, which is nothing but that it ends, or why.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        while is_ready(&self.socket, PollFlags::IN, Duration::ZERO)? {
            let Some(tls) = &mut self.tls else {
                match (&self.socket).read(&mut [0; ANSWER]) {
                    Ok(0) => return Err(Fault::Closed),
                    Ok(_) => continue,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => return Err(e.into()),
                }
            };
            match tls.read_tls(&mut &self.socket) {
                Ok(0) => return Err(Fault::Closed),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e.into()),
            }
            let state = match tls.process_new_packets() {
                Ok(state) => state,
                Err(e) => {
                    // The other side is told why, if it listens.
                    let _ = tls.write_tls(&mut &self.socket);
                    return Err(e.into());
                }
            };
            if state.plaintext_bytes_to_read() > 0 {
                let mut answer = vec![0; state.plaintext_bytes_to_read()];
                tls.reader().read_exact(&mut answer)?;
            }
            if state.peer_has_closed() {
                return Err(Fault::Closed);
            }
            if !tls.is_handshaking() {
                self.flush()?;
            } else if tls.wants_write() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that the other side's kernel has taken; `None`: nobody knows.
    pub(super) fn taken(&self) -> Option<u64> {
        let table = if self.is_ipv6 { "tcp6" } else { "tcp" };
        let table = fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        self.written.checked_sub(queued(&table, self.inode)?)
    }

    /// Says that no more comes.
    pub(super) fn end(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.flush();
        }
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }
}

/// What a socket has not brought to the other side, by the kernel's table.
fn queued(table: &str, inode: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(4);
        let queues = fields.next()?;
        let is_it = fields.nth(4)?.parse() == Ok(inode);
        let (sent, _) = queues.split_once(':').filter(|_| is_it)?;
        u64::from_str_radix(sent, 16).ok()
    })
}

/// Connects without waiting for longer than anybody wants.
fn connected(to: SocketAddr, stop: &Stop, patience: Duration) -> Result<TcpStream, Fault> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let of = io::Error::from;
    let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(of)?;
    match connect(&socket, &to) {
        Ok(()) => {}
        Err(rustix::io::Errno::INPROGRESS) => {
            until_ready(&socket, PollFlags::OUT, patience, || stop.is_told())?;
            sockopt::socket_error(&socket).map_err(of)?.map_err(of)?;
        }
        Err(e) => return Err(of(e).into()),
    }
    // One that has lost its power says nothing any more.
    let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&socket, millis).map_err(of)?;
    sockopt::set_socket_keepalive(&socket, true).map_err(of)?;
    sockopt::set_tcp_keepidle(&socket, Duration::from_secs(30)).map_err(of)?;
    sockopt::set_tcp_keepintvl(&socket, Duration::from_secs(10)).map_err(of)?;
    Ok(TcpStream::from(socket))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_is_on_its_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stop = Arc::new(Stop::default());
        let to = listener.local_addr().unwrap();
        let mut stream = Stream::open(to, None, &stop, Duration::from_millis(300)).unwrap();
        stream.send(b"hello").unwrap();
        let begun = Instant::now();
        while stream.taken() != Some(5) {
            assert!(begun.elapsed() < Duration::from_secs(5));
        }
        // Nobody reads, so at some time nothing more can be written.
        let (_peer, _) = listener.accept().unwrap();
        let much = vec![0; 64 << 20];
        assert!(matches!(stream.send(&much), Err(Fault::Silent)));
        let taken = stream.taken().unwrap();
        assert!(taken > 5 && taken < stream.written(), "{taken}");
        stop.tell();
        let begun = Instant::now();
        assert!(stream.send(&much).is_err());
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(
            queued("head\n 0: a b 01 0000000F:00 00:0 0 0 0 77 1", 77),
            Some(15)
        );
    }
}
