//! A checkpoint to a server outside, by HTTPS (RFC 9110): whoever holds one can tell when the log is changed before it.
//!
//! It is the body of a POST (`text/plain`, a C2SP signed note). The server has it when it answers with 2xx; what it does
//! with it is its own business, as long as nobody who is root here can change it there.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};
use url::Url;

use super::{fault::Fault, tls};

/// For a connection, a request and its answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Where checkpoints go.
#[derive(Clone, PartialEq, Eq)]
pub struct Post {
    url: Url,
    /// Whom to believe instead of the system's, PEM.
    pub ca: Option<PathBuf>,
    /// A file with what the server is told as `Authorization: Bearer`, read anew each time.
    pub token_file: Option<PathBuf>,
}

impl Post {
    /// # Errors
    /// In words.
    pub fn new(url: &str) -> Result<Self, String> {
        let bad = || format!("`{url}` is no address that begins with `https://`");
        let url = Url::parse(url).map_err(|_| bad())?;
        if url.scheme() != "https" || !url.has_host() {
            return Err(bad());
        }
        Ok(Self {
            url,
            ca: None,
            token_file: None,
        })
    }

    /// # Errors
    /// In words, with nothing secret in them.
    pub fn send(&self, checkpoint: &str) -> Result<(), String> {
        self.attempt(checkpoint).map_err(|e| format!("{self}: {e}"))
    }

    fn attempt(&self, checkpoint: &str) -> Result<(), Fault> {
        let ca = self.ca.as_deref().unwrap_or(Path::new(tls::SYSTEM));
        let trusted = tls::certificates(ca)?;
        let trusted: Vec<_> = (trusted.iter())
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect();
        let trusted = RootCerts::new_with_certs(&trusted);
        let agent: Agent = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(trusted).build())
            .user_agent(concat!("kordon/", env!("CARGO_PKG_VERSION")))
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(LIMIT))
            .build()
            .into();
        let mut request = agent
            .post(self.url.as_str())
            .content_type("text/plain; charset=utf-8");
        if let Some(path) = &self.token_file {
            let token = tls::read(path)?;
            let token = String::from_utf8_lossy(&token);
            request = request.header("Authorization", format!("Bearer {}", token.trim()));
        }
        let answer = request.send(checkpoint).map_err(|e| match e {
            ureq::Error::Io(e) => e
                .downcast::<rustls::Error>()
                .map_or_else(Fault::from, Fault::from),
            ureq::Error::Rustls(e) => Fault::from(e),
            ureq::Error::Timeout(_) => Fault::Silent,
            other => Fault::Refused(other.to_string()),
        })?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => Err(Fault::Refused(format!(
                "the server answers {status}, and no redirect is followed"
            ))),
            status => Err(Fault::Refused(format!("the server answers {status}"))),
        }
    }
}

/// Without what may be secret: addresses like these have keys in all of their parts.
impl fmt::Display for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => write!(f, "https://{host}:{port}"),
            None => write!(f, "https://{host}"),
        }
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for bad in ["http://a.example/x", "a.example", "https://", "file:///x"] {
            assert!(Post::new(bad).is_err(), "{bad}");
        }
        let post = Post::new("https://u:secret@a.example:8443/x?key=secret").unwrap();
        assert_eq!(post.to_string(), "https://a.example:8443");
        assert_eq!(format!("{post:?}"), post.to_string());
    }
}
