//! Each transport, with real sockets.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Seek as _},
    mem::MaybeUninit,
    net::UdpSocket,
    os::unix::net::UnixDatagram,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{Got, Inbox, Log, Server, spawn, take_apart, to, wait};
use crate::forward::config::{Destination, Facility, Target};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

#[test]
fn udp() {
    let mut log = Log::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    log.write(20);
    log.write_as("flow", 9000);
    log.write_as("heartbeat", 0);
    let forwarder = spawn(&log, &to("udp", socket.local_addr().unwrap()));
    let mut all = Vec::new();
    let mut bytes = vec![0; 70_000];
    while all.len() < 22 {
        let length = socket.recv(&mut bytes).unwrap();
        all.push(Got::parse(&bytes[..length]));
    }
    for (got, line) in all.iter().zip(log.lines()).take(20) {
        assert_eq!(got.body, line);
        assert!(got.text.starts_with("<108>1 "), "{}", got.text);
    }
    assert_eq!(
        all[20].value["kordon"]["too_long"].as_u64(),
        Some(log.lines()[20].len() as u64)
    );
    assert_eq!(all[20].number(), Some(20));
    assert!(all[21].text.starts_with("<111>1 "), "{}", all[21].text);
    assert_eq!(forwarder.troubles(), [""; 0]);
}

#[test]
fn udp_that_nobody_takes() {
    let mut log = Log::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    drop(socket);
    log.write(30);
    let forwarder = spawn(&log, &to("udp", at));
    wait("a trouble", || !forwarder.troubles().is_empty());
    assert!(
        forwarder.troubles()[0].contains("refused"),
        "{:?}",
        forwarder.troubles()
    );
    let socket = UdpSocket::bind(at).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let inbox = Inbox::default();
    let mut bytes = vec![0; 70_000];
    while inbox.fresh().len() < 30 {
        let length = socket.recv(&mut bytes).unwrap();
        inbox.push(&bytes[..length]);
    }
    inbox.has_all(0, 30);
    wait("its end", || forwarder.troubles().is_empty());
}

#[test]
fn tcp() {
    let mut log = Log::new();
    let inbox = Inbox::default();
    let server = Server::tcp("127.0.0.1:0", &inbox);
    log.write(300);
    log.write_as("flow", 100_000);
    let forwarder = spawn(&log, &to("tcp", server.at));
    inbox.has_all(0, 301);
    log.write(5);
    log.rotate();
    log.write(5);
    inbox.has_all(0, 311);
    let bodies: Vec<_> = inbox.all().into_iter().map(|got| got.body).collect();
    assert_eq!(bodies, log.lines());
    assert_eq!(forwarder.troubles(), [""; 0]);
    let begun = Instant::now();
    drop(forwarder);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn tcp_by_name_and_ipv6() {
    let mut log = Log::new();
    log.write(3);
    let inbox = Inbox::default();
    let server = Server::tcp("127.0.0.1:0", &inbox);
    let target = Target::parse(&format!("tcp://localhost:{}", server.at.port())).unwrap();
    let _forwarder = spawn(&log, &Destination::new(target));
    inbox.has_all(0, 3);
    let inbox = Inbox::default();
    let server = Server::tcp("[::1]:0", &inbox);
    let _forwarder = spawn(&log, &to("tcp", server.at));
    inbox.has_all(0, 3);
}

pub(super) struct Authority(pub(super) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}

pub(super) fn server_config(
    authority: &Authority,
    name: &str,
    client: Option<&Authority>,
) -> Arc<rustls::ServerConfig> {
    let (certificate, key) = authority.issue(name);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match client {
        None => config.with_no_client_auth(),
        Some(client) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(client.0.der().clone()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![certificate.der().clone()];
    Arc::new(config.with_single_cert(chain, key).unwrap())
}

fn tls_server(
    authority: &Authority,
    name: &str,
    client: Option<&Authority>,
    inbox: &Inbox,
) -> Server {
    let config = server_config(authority, name, client);
    Server::new("127.0.0.1:0", inbox, move |stream, inbox, is_over| {
        let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        take_apart(rustls::StreamOwned::new(tls, stream), inbox, is_over);
    })
}

#[test]
fn tls() {
    let mut log = Log::new();
    let authority = Authority::new("one");
    let ca = log.path().join("ca.pem");
    fs::write(&ca, authority.0.pem()).unwrap();
    let inbox = Inbox::default();
    let server = tls_server(&authority, "127.0.0.1", None, &inbox);
    log.write(300);
    log.write_as("flow", 100_000);
    let mut destination = to("tls", server.at);
    destination.ca = Some(ca);
    let forwarder = spawn(&log, &destination);
    inbox.has_all(0, 301);
    log.write(5);
    inbox.has_all(0, 306);
    let bodies: Vec<_> = inbox.all().into_iter().map(|got| got.body).collect();
    assert_eq!(bodies, log.lines());
    assert_eq!(forwarder.troubles(), [""; 0]);
}

#[test]
fn tls_that_is_not_believed() {
    let mut log = Log::new();
    log.write(3);
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let ca = log.path().join("ca.pem");
    fs::write(&ca, one.0.pem()).unwrap();
    // It says that it is the first one.
    let double = Authority::new("one");
    let inbox = Inbox::default();
    let nothing = log.path().join("nothing.pem");
    fs::write(&nothing, "").unwrap();
    for (authority, name, ca, why) in [
        (&other, "127.0.0.1", Some(&ca), "signed by nobody in `ca`"),
        (&double, "127.0.0.1", Some(&ca), "signed by nobody in `ca`"),
        (&one, "127.0.0.2", Some(&ca), "for another name"),
        (
            &one,
            "127.0.0.1",
            Some(&nothing),
            "there is no certificate in it",
        ),
        (&one, "127.0.0.1", None, "ca"),
    ] {
        let server = tls_server(authority, name, None, &inbox);
        let mut destination = to("tls", server.at);
        destination.ca = ca.cloned();
        let forwarder = spawn(&log, &destination);
        wait("a trouble", || !forwarder.troubles().is_empty());
        let troubles = forwarder.troubles();
        assert!(troubles[0].contains(why), "{troubles:?}");
    }
    let server = Server::new("127.0.0.1:0", &inbox, |mut stream, _, _| {
        let _ = std::io::Write::write_all(&mut stream, b"220 hello\r\n");
        thread::sleep(Duration::from_millis(100));
    });
    let mut destination = to("tls", server.at);
    destination.ca = Some(ca);
    let forwarder = spawn(&log, &destination);
    wait("a trouble", || !forwarder.troubles().is_empty());
    assert!(
        forwarder.troubles()[0].contains("does not speak TLS"),
        "{:?}",
        forwarder.troubles()
    );
    assert_eq!(inbox.len(), 0);
}

#[test]
fn tls_that_wants_to_know_who_it_is() {
    let mut log = Log::new();
    log.write(50);
    let (servers, clients) = (Authority::new("one"), Authority::new("other"));
    let path = |name: &str| log.path().join(name);
    fs::write(path("ca.pem"), servers.0.pem()).unwrap();
    let inbox = Inbox::default();
    let server = tls_server(&servers, "127.0.0.1", Some(&clients), &inbox);
    let mut destination = to("tls", server.at);
    destination.ca = Some(path("ca.pem"));
    let forwarder = spawn(&log, &destination);
    wait("a trouble", || !forwarder.troubles().is_empty());
    assert!(
        forwarder.troubles()[0].contains("records are not forwarded"),
        "{:?}",
        forwarder.troubles()
    );
    drop(forwarder);
    assert_eq!(inbox.len(), 0);
    let (certificate, key) = clients.issue("kordon");
    fs::write(path("cert.pem"), certificate.pem()).unwrap();
    fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    destination.client = Some((path("cert.pem"), path("key.pem")));
    let _forwarder = spawn(&log, &destination);
    inbox.has_all(0, 50);
}

/// The journal's own protocol, taken apart.
fn journal_fields(mut bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| b"=\n".contains(byte)).unwrap();
        let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let (value, rest) = if bytes[end] == b'=' {
            let rest = &bytes[end + 1..];
            rest.split_at(rest.iter().position(|byte| *byte == b'\n').unwrap())
        } else {
            let length = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().unwrap());
            bytes[end + 9..].split_at(usize::try_from(length).unwrap())
        };
        fields.insert(name, value.to_vec());
        bytes = rest.strip_prefix(b"\n").unwrap();
    }
    fields
}

fn receive(socket: &UnixDatagram) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut io = [std::io::IoSliceMut::new(&mut bytes)];
    let flags = rustix::net::RecvFlags::empty();
    let length = rustix::net::recvmsg(socket, &mut io, &mut control, flags)
        .unwrap()
        .bytes;
    for message in control.drain() {
        if let rustix::net::RecvAncillaryMessage::ScmRights(files) = message {
            assert_eq!(length, 0);
            let mut file = fs::File::from(files.into_iter().next().unwrap());
            let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
            assert!(seals.contains(rustix::fs::SealFlags::WRITE | rustix::fs::SealFlags::SEAL));
            let mut all = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut all).unwrap();
            return all;
        }
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn journald() {
    let mut log = Log::new();
    let path = log.path().join("socket");
    let mut destination = Destination::new(Target::Journald(path.clone()));
    destination.facility = Facility::parse("local3").unwrap();
    log.write(20);
    log.write_as("flow", 500_000);
    log.write_as("heartbeat", 0);
    let forwarder = spawn(&log, &destination);
    wait("a trouble", || !forwarder.troubles().is_empty());
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    for (number, line) in log.lines().iter().enumerate() {
        let fields = journal_fields(&receive(&socket));
        let text = |name: &str| String::from_utf8_lossy(&fields[name]).into_owned();
        assert_eq!(text("KORDON_SEQUENCE"), number.to_string());
        assert_eq!(&text("KORDON_RECORD"), line);
        assert_eq!(text("SYSLOG_IDENTIFIER"), "kordon");
        assert_eq!(text("SYSLOG_FACILITY"), "19");
        assert_eq!(text("PRIORITY"), if number == 21 { "7" } else { "4" });
        assert!(!text("MESSAGE").is_empty());
    }
    wait("its end", || forwarder.troubles().is_empty());
}
