//! One answer of a server, or a file: with what it is asked for, through which proxy, and
//! where it leads.
//!
//! Redirects are followed here: each step may need another proxy, none leads from `https`
//! to `http`, and what is for one server alone is not told to another.

use std::io::{self, Read};
use std::time::{Duration, SystemTime};

use jiff::{Timestamp, fmt::rfc2822};
use ureq::http::{Response, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{Connector as _, DefaultConnector};
use ureq::{Agent, Body};
use url::Url;

use super::proxy::{AtProxy, EXAMPLE, Proxies, WholeAddress, authorization, forwards};
use super::{FetchError, Fetching, Header, Remote, Validators, passing, shown};

/// Steps from one address to another.
const MAX_REDIRECTS: usize = 5;
const USER_AGENT: &str = concat!("kordon/", env!("CARGO_PKG_VERSION"), " (ASN data update)");

/// An answer with a file in it.
pub(super) struct Stream {
    pub(super) body: Box<dyn Read>,
    pub(super) length: Option<u64>,
    pub(super) known: Validators,
}

/// Asks for an address, of a source or of its checksum. `None`: it is what is known.
pub(super) fn open(
    url: &Url,
    of: &Remote,
    known: Option<&Validators>,
    options: &Fetching,
) -> Result<Option<Stream>, FetchError> {
    if url.scheme() == "file" {
        return open_path(url, known);
    }
    let proxies = Proxies::of(options.proxy.as_deref(), |name| std::env::var(name).ok())
        .map_err(|problem| FetchError::new(&shown(url), problem.message, EXAMPLE))?;
    let mut at = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        let name = shown(&at);
        let answer = ask(&at, of, known, &proxies, options)?;
        match next(&at, &answer)? {
            Some(next) => at = next,
            None => return stream(&name, answer, known),
        }
    }
    let reason = format!("more than {MAX_REDIRECTS} redirects");
    Err(FetchError::new(&shown(url), reason, "check the address"))
}

/// Where an answer leads.
fn next(at: &Url, answer: &Response<Body>) -> Result<Option<Url>, FetchError> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let name = shown(at);
    let location = field(answer, header::LOCATION).and_then(|text| at.join(&text).ok());
    let refused = |reason: String| Err(FetchError::new(&name, reason, "check the address"));
    match location {
        None => refused("a redirect leads nowhere".to_owned()),
        Some(next) if next.scheme() == "https" => Ok(Some(next)),
        Some(next) if next.scheme() == "http" && at.scheme() == "http" => Ok(Some(next)),
        Some(next) => {
            let (from, to) = (at.scheme(), shown(&next));
            refused(format!("a redirect leads from `{from}` to `{to}`"))
        }
    }
}

fn ask(
    url: &Url,
    of: &Remote,
    known: Option<&Validators>,
    proxies: &Proxies,
    options: &Fetching,
) -> Result<Response<Body>, FetchError> {
    let name = shown(url);
    let limit = Some(options.timeout);
    let proxy = proxies.to(url);
    let forwarding = proxy.filter(|proxy| forwards(proxy, url));
    let config = Agent::config_builder()
        .proxy(proxy.filter(|_| forwarding.is_none()).cloned())
        .tls_config(tls(&name, options)?)
        .user_agent(of.user_agent.as_deref().unwrap_or(USER_AGENT))
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_resolve(limit)
        .timeout_connect(limit)
        .timeout_send_request(limit)
        .timeout_recv_response(limit)
        .timeout_per_read(limit)
        .build();
    let agent: Agent = match forwarding {
        None => config.into(),
        Some(proxy) => {
            let connector = DefaultConnector::default().chain(WholeAddress);
            Agent::with_parts(config, connector, AtProxy(proxy.uri().clone()))
        }
    };
    let mut request = agent.get(url.as_str());
    if let Some(known) = known {
        if let Some(etag) = &known.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(date) = &known.last_modified {
            request = request.header(header::IF_MODIFIED_SINCE, date);
        }
    }
    if url.origin() == of.url.origin() {
        for Header { name, value } in &of.headers {
            request = request.header(name, value);
        }
    }
    if let Some(value) = forwarding.and_then(authorization) {
        request = request.header(header::PROXY_AUTHORIZATION, value);
    }
    request.call().map_err(|e| failed(&name, &e))
}

fn field(answer: &Response<Body>, name: header::HeaderName) -> Option<String> {
    let value = answer.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

fn stream(
    name: &str,
    answer: Response<Body>,
    known: Option<&Validators>,
) -> Result<Option<Stream>, FetchError> {
    let status = answer.status();
    if status == StatusCode::NOT_MODIFIED && known.is_some() {
        return Ok(None);
    }
    if status != StatusCode::OK {
        let reason = format!("the server says {status}");
        let busy = status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT;
        if busy || status.is_server_error() {
            let wait = field(&answer, header::RETRY_AFTER);
            let wait = wait.and_then(|text| retry_after(&text, Timestamp::now()));
            return Err(match wait {
                Some(wait) => {
                    let reason = format!("{reason}, and asks to be asked again in {wait:?}");
                    passing(name, reason).after(wait)
                }
                None => passing(name, reason),
            });
        }
        let help = "check the address, and the key in it if there is one";
        return Err(FetchError::new(name, reason, help));
    }
    let length = field(&answer, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let known = Validators {
        etag: field(&answer, header::ETAG),
        last_modified: field(&answer, header::LAST_MODIFIED),
        sha256: String::new(),
    };
    let body = answer
        .into_body()
        .into_with_config()
        .limit(u64::MAX)
        .reader();
    Ok(Some(Stream {
        body: Box::new(body),
        length,
        known,
    }))
}

/// RFC 9110, section 10.2.3: seconds, or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let until = rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(until.duration_since(now)).ok()
}

fn open_path(url: &Url, known: Option<&Validators>) -> Result<Option<Stream>, FetchError> {
    let name = shown(url);
    let path = url.to_file_path().map_err(|()| {
        let help = "write it like `file:///var/lib/lists/asn.csv`";
        FetchError::new(&name, "it is no path of this machine", help)
    })?;
    let said =
        |e: io::Error| FetchError::new(&name, e.to_string(), "check the path and its permissions");
    let file = crate::regular::open(&path).map_err(said)?;
    let metadata = file.metadata().map_err(said)?;
    let changed = metadata.modified().ok();
    let changed = changed.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    let changed = changed.map(|at| {
        format!(
            "{}.{:09} {}",
            at.as_secs(),
            at.subsec_nanos(),
            metadata.len()
        )
    });
    if changed.is_some() && known.is_some_and(|known| known.last_modified == changed) {
        return Ok(None);
    }
    Ok(Some(Stream {
        body: Box::new(file),
        length: Some(metadata.len()),
        known: Validators {
            last_modified: changed,
            ..Validators::default()
        },
    }))
}

fn tls(url: &str, options: &Fetching) -> Result<TlsConfig, FetchError> {
    let mut tls = TlsConfig::builder();
    if let Some(path) = &options.ca {
        let help = "`ca` in `[asndb]` names a file with certificates in PEM";
        let name = path.display();
        let bytes = std::fs::read(path)
            .map_err(|e| FetchError::new(url, format!("cannot read `{name}`: {e}"), help))?;
        let certificates: Vec<Certificate<'static>> = parse_pem(&bytes)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if certificates.is_empty() {
            return Err(FetchError::new(
                url,
                format!("`{name}` holds no certificate"),
                help,
            ));
        }
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
    }
    Ok(tls.build())
}

fn failed(url: &str, error: &ureq::Error) -> FetchError {
    use ureq::Error as E;
    // The TLS library says what it thinks of a certificate by way of an error of the
    // stream.
    let distrusted = |e: &io::Error| {
        e.get_ref()
            .is_some_and(|e| e.to_string().contains("certificate"))
    };
    match error {
        E::Io(e) if distrusted(e) => not_trusted(url, error),
        E::Rustls(_) | E::Tls(_) | E::Pem(_) => not_trusted(url, error),
        E::BadUri(_) | E::Http(_) | E::InvalidProxyUrl => {
            FetchError::new(url, error.to_string(), "check the address")
        }
        _ => passing(url, error.to_string()),
    }
}

fn not_trusted(url: &str, error: &ureq::Error) -> FetchError {
    FetchError::new(
        url,
        format!("the server is not trusted: {error}"),
        "check the router's clock; `ca` in `[asndb]` names certificates of your own",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_say_when_to_come_back() {
        let now: Timestamp = "2026-11-28T18:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sat, 28 Nov 2026 18:01:30 GMT", Some(90)),
            ("Sat, 28 Nov 2026 17:00:00 GMT", None),
            ("-5", None),
            ("99999999999999999999999", None),
            ("soon", None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(text, now), expected, "{text}");
        }
    }
}
