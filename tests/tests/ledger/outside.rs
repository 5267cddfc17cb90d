//! Servers outside that speak TLS, and one that holds checkpoints: a POST of each (`[evidence.post]`).

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use kordon_tests::router::Router;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

pub(super) type Stream = StreamOwned<ServerConnection, TcpStream>;

/// What a server is told that it may believe.
pub(super) const TOKEN: &str = "not for everybody";

/// Listens in the router's namespace until it is dropped, and gives each connection to a thread of its own.
pub(super) struct Listening {
    pub(super) port: u16,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    pub(super) fn start(
        router: &Router,
        config: &Arc<ServerConfig>,
        take: impl Fn(Stream, &AtomicBool) + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = router
            .wire
            .namespace
            .run(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let ends: Arc<AtomicBool> = Arc::default();
        let (until, config) = (Arc::clone(&ends), Arc::clone(config));
        let thread = thread::spawn(move || {
            thread::scope(|scope| {
                while !until.load(Ordering::Relaxed) {
                    if let Ok((stream, _)) = listener.accept()
                        && let Ok(tls) = ServerConnection::new(Arc::clone(&config))
                    {
                        let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
                        let (take, until) = (&take, &until);
                        scope.spawn(move || take(StreamOwned::new(tls, stream), until));
                    }
                    thread::sleep(Duration::from_millis(10));
                }
            });
        });
        Ok(Self {
            port,
            ends,
            thread: Some(thread),
        })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads on, unless it is over: `None`.
pub(super) fn more(stream: &mut Stream, into: &mut Vec<u8>, ends: &AtomicBool) -> Option<()> {
    let mut block = [0; 1 << 16];
    match stream.read(&mut block) {
        Ok(0) => return None,
        Ok(read) => into.extend(&block[..read]),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            if ends.load(Ordering::Relaxed) {
                return None;
            }
        }
        Err(_) => return None,
    }
    Some(())
}

/// What servers at 127.0.0.1 show, whose authority is in the router's `ca.pem`.
pub(super) fn certificate(router: &Router) -> Result<Arc<ServerConfig>> {
    let mut params = CertificateParams::new([])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(router.path("ca.pem"), authority.pem())?;
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(["127.0.0.1".to_owned()])?;
    let certificate = params.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(Arc::new(config))
}

/// Holds checkpoints.
pub(super) struct Holder {
    pub(super) listening: Listening,
    held: Arc<Mutex<Vec<String>>>,
}

impl Holder {
    pub(super) fn start(router: &Router, config: &Arc<ServerConfig>) -> Result<Self> {
        let held: Arc<Mutex<Vec<String>>> = Arc::default();
        let into = Arc::clone(&held);
        let listening = Listening::start(router, config, move |mut stream, ends| {
            let mut bytes = Vec::new();
            let body = loop {
                if let Some(body) = body(&bytes) {
                    break body;
                }
                if more(&mut stream, &mut bytes, ends).is_none() {
                    return;
                }
            };
            let is_known = String::from_utf8_lossy(&bytes).contains(TOKEN);
            let status = if is_known {
                "204 No Content"
            } else {
                "403 Forbidden"
            };
            if is_known {
                let mut held = into.lock().unwrap_or_else(PoisonError::into_inner);
                held.push(body);
            }
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.conn.send_close_notify();
            let _ = stream.flush();
        })?;
        Ok(Self { listening, held })
    }

    /// The first that came, and that of the longest log.
    pub(super) fn held(&self) -> Result<(String, String)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let sizes = held.iter().map(|text| {
            let size = text.lines().nth(1).context("a size")?;
            size.parse::<u64>()
                .with_context(|| format!("not a checkpoint: {text}"))
        });
        let sizes: Vec<u64> = sizes.collect::<Result<_>>()?;
        // Two may come at once.
        let newest = (0..held.len()).max_by_key(|place| sizes[*place]);
        let newest = newest.context("no checkpoint came")?;
        Ok((held[0].clone(), held[newest].clone()))
    }
}

/// The body of a POST, once it is whole.
fn body(request: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(request).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    // Whoever asks something else has no answer.
    head.strip_prefix("POST /log HTTP/1.1\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    let length: usize = length?.parse().ok()?;
    (body.len() >= length).then(|| body.to_owned())
}
