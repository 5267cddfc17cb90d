//! Peers for tests: a server that answers, and clients that say whether it did.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Namespace;

/// A TCP server on all addresses of a namespace, both families: sends back what
/// it gets, and to an HTTP GET a greeting. Stops when dropped.
#[derive(Debug)]
pub struct EchoServer {
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Listens on `port`; returns when connections are taken.
    ///
    /// # Errors
    ///
    /// If the port is in use.
    pub fn start(namespace: &Namespace, port: u16, greeting: &str) -> Result<Self> {
        let listener = namespace.run(|| {
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
                .with_context(|| format!("cannot listen on port {port}"))
        })?;
        let accepting = listener.try_clone().context("cannot copy a socket")?;
        let greeting = greeting.to_owned();
        let thread = thread::spawn(move || serve(&accepting, &greeting));
        Ok(Self {
            listener,
            thread: Some(thread),
        })
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        // Wakes the thread from `accept`.
        let _ =
            nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves connections until the listener is shut down.
pub fn serve(listener: &TcpListener, greeting: &str) {
    while let Ok((stream, _)) = listener.accept() {
        let greeting = greeting.to_owned();
        // Connections end when the peer closes; none outlives the test by more than that.
        thread::spawn(move || answer(stream, &greeting));
    }
}

fn answer(mut stream: TcpStream, greeting: &str) {
    let mut buffer = [0; 4096];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 {
            return;
        }
        let request = &buffer[..length];
        let written = if request.starts_with(b"GET ") {
            let head = format!(
                "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n",
                greeting.len() + 1
            );
            let _ = stream.write_all(format!("{head}{greeting}\n").as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
            continue;
        } else {
            stream.write_all(request)
        };
        if written.is_err() {
            return;
        }
    }
}

/// How an attempt to talk to a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The server sent back what was sent.
    Answered,
    /// Nothing came back in time.
    Silent,
}

/// Connects from the namespace, sends a line and waits for it to come back.
///
/// # Errors
///
/// If the connection is refused or breaks, which no lab does by itself.
pub fn tcp_echo(namespace: &Namespace, to: SocketAddr, timeout: Duration) -> Result<Reach> {
    namespace.run(|| {
        let mut stream = match TcpStream::connect_timeout(&to, timeout) {
            Err(error) if is_silence(&error) => return Ok(Reach::Silent),
            stream => stream.with_context(|| format!("cannot connect to {to}"))?,
        };
        stream
            .set_read_timeout(Some(timeout))
            .context("cannot set a timeout")?;
        let sent = b"kordon lab";
        stream
            .write_all(sent)
            .with_context(|| format!("cannot write to {to}"))?;
        let mut received = [0; 10];
        match stream.read_exact(&mut received) {
            Err(error) if is_silence(&error) => return Ok(Reach::Silent),
            read => read.with_context(|| format!("cannot read from {to}"))?,
        }
        ensure!(&received == sent, "{to} sent back something else");
        Ok(Reach::Answered)
    })
}

/// Sends UDP datagrams from the namespace and waits for no answer. Paced so that
/// none is lost on the way: a veth with XDP queues 256 frames.
///
/// # Errors
///
/// If one cannot be sent.
pub fn udp_send(namespace: &Namespace, to: SocketAddr, data: &[u8], times: usize) -> Result<()> {
    namespace.run(|| {
        let socket = udp_socket(to.ip())?;
        for number in 1..=times {
            socket
                .send_to(data, to)
                .with_context(|| format!("cannot send to {to}"))?;
            if number % 32 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    })
}

/// A UDP socket of that family, for `namespace.run`.
///
/// # Errors
///
/// If the system has no port left.
pub fn udp_socket(family: IpAddr) -> Result<UdpSocket> {
    let any: SocketAddr = match family {
        IpAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(any).context("cannot open a UDP socket")
}

fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}
