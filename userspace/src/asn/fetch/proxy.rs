//! Which proxy an address is asked through, as curl decides it, and the way through it.
//!
//! `http` goes through an HTTP proxy by a request for the whole address (RFC 9112,
//! section 3.2.2), because many proxies allow `CONNECT` to port 443 alone; everything else
//! goes through a tunnel, which the library makes.

use std::net::IpAddr;

use base64::Engine as _;
use ipnet::IpNet;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};
use ureq::{Proxy, ProxyProtocol};
use url::{Host, Url};

use crate::diagnostic::Problem;

/// How a proxy is written.
pub(super) const EXAMPLE: &str =
    "write it like `http://proxy.example:3128` or `socks5h://127.0.0.1:1080`";

/// Checks the address of a proxy, as it is in the configuration under `proxy`.
///
/// # Errors
///
/// When it cannot be one.
pub fn check(text: &str) -> Result<(), Problem> {
    parse("proxy", text).map(drop)
}

fn parse(place: &str, text: &str) -> Result<Proxy, Problem> {
    // What is written may hold a password.
    let unusable = || Problem::new(format!("`{place}` is no address of a proxy"), EXAMPLE);
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = Url::parse(&with_scheme).map_err(|_| unusable())?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !bare || url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
        return Err(unusable());
    }
    Proxy::new(with_scheme.trim_end_matches('/')).map_err(|_| unusable())
}

/// The proxies of one update.
#[derive(Debug)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    without: Without,
}

impl Proxies {
    /// Of what is configured, else of variables: `http_proxy`, `https_proxy`, else
    /// `all_proxy`; `no_proxy` holds for both. Small letters come before capitals; an empty
    /// one means no proxy.
    pub(super) fn of(
        configured: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Problem> {
        let find = |name: &str| {
            [name.to_owned(), name.to_ascii_uppercase()]
                .into_iter()
                .find_map(|name| Some((variable(&name)?, name)))
        };
        let proxy = |name: &str| match (configured, find(name).or_else(|| find("all_proxy"))) {
            (Some(text), _) => parse("proxy", text).map(Some),
            (None, Some((text, name))) if !text.trim().is_empty() => {
                parse(&name, text.trim()).map(Some)
            }
            _ => Ok(None),
        };
        Ok(Self {
            http: proxy("http_proxy")?,
            https: proxy("https_proxy")?,
            without: Without::of(&find("no_proxy").unwrap_or_default().0),
        })
    }

    /// The one to ask for an address through.
    pub(super) fn to(&self, url: &Url) -> Option<&Proxy> {
        let proxy = if url.scheme() == "https" {
            &self.https
        } else {
            &self.http
        };
        proxy.as_ref().filter(|_| !self.without.holds(url))
    }
}

/// Hosts that are asked without a proxy.
#[derive(Debug, Default)]
struct Without {
    all: bool,
    entries: Vec<(Whom, Option<u16>)>,
}

#[derive(Debug, PartialEq)]
enum Whom {
    /// It, and everything below it.
    Domain(String),
    Net(IpNet),
}

impl Without {
    /// Of a list by commas or blanks.
    fn of(text: &str) -> Self {
        let mut without = Self::default();
        let words = text.split(|c: char| c == ',' || c.is_whitespace());
        for word in words.filter(|word| !word.is_empty()) {
            without.all |= word == "*";
            let (word, port) = with_port(word);
            let net = word.parse().or_else(|_| {
                let bare = word.strip_prefix('[').and_then(|w| w.strip_suffix(']'));
                bare.unwrap_or(word).parse::<IpAddr>().map(IpNet::from)
            });
            let whom = match net {
                Ok(net) => Whom::Net(net),
                Err(_) => {
                    let name = word.strip_prefix('*').unwrap_or(word);
                    let name = name.trim_matches('.').to_ascii_lowercase();
                    if name.is_empty() {
                        continue;
                    }
                    Whom::Domain(name)
                }
            };
            without.entries.push((whom, port));
        }
        without
    }

    fn holds(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address).to_canonical()),
            Some(Host::Domain(_)) | None => None,
        };
        let name = url.host_str().unwrap_or("").trim_end_matches('.');
        let is = |whom: &Whom| match (whom, address) {
            (Whom::Net(net), Some(address)) => net.contains(&address),
            (Whom::Domain(domain), None) => name
                .strip_suffix(domain.as_str())
                .is_some_and(|before| before.is_empty() || before.ends_with('.')),
            _ => false,
        };
        let mut entries = self.entries.iter();
        self.all || entries.any(|(whom, only)| is(whom) && (only.is_none() || *only == port))
    }
}

/// `name:port`, `192.0.2.1:port`, `[2001:db8::1]:port`; other colons are of an address.
fn with_port(word: &str) -> (&str, Option<u16>) {
    match word.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (word, None),
        },
        _ => (word, None),
    }
}

/// Whether an address is asked for by a request to the proxy, without a tunnel.
pub(super) fn forwards(proxy: &Proxy, url: &Url) -> bool {
    url.scheme() == "http" && proxy.protocol() == ProxyProtocol::Http
}

/// What the proxy has to be told to let us in.
pub(super) fn authorization(proxy: &Proxy) -> Option<String> {
    let (user, password) = (proxy.username(), proxy.password());
    (user.is_some() || password.is_some()).then(|| {
        let both = format!("{}:{}", user.unwrap_or(""), password.unwrap_or(""));
        let both = base64::engine::general_purpose::STANDARD.encode(both);
        format!("Basic {both}")
    })
}

/// Instead of the server, the proxy is looked up.
#[derive(Debug)]
pub(super) struct AtProxy(pub(super) Uri);

impl Resolver for AtProxy {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        DefaultResolver::default().resolve(&self.0, config, timeout)
    }
}

/// Connections whose requests name the whole address.
#[derive(Debug)]
pub(super) struct WholeAddress;

impl<In: Transport> Connector<In> for WholeAddress {
    type Out = Whole<In>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let host = details.uri.host().unwrap_or_default();
        let port = details.uri.port_u16();
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Ok(chained.map(|inner| Whole {
            inner,
            server: Some(format!("http://{host}{port}")),
        }))
    }
}

/// One such connection.
#[derive(Debug)]
pub(super) struct Whole<In> {
    inner: In,
    /// What the path of the first request lacks, until that is sent.
    server: Option<String>,
}

impl<In: Transport> Transport for Whole<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        const METHOD: &[u8] = b"GET ";
        let mut amount = amount;
        if let Some(server) = self.server.take() {
            let output = self.inner.buffers().output();
            let (from, more) = (METHOD.len(), server.len());
            if !output.starts_with(METHOD) || amount + more > output.len() {
                return Err(ureq::Error::BadUri("it is too long for a proxy".to_owned()));
            }
            output.copy_within(from..amount, from + more);
            output[from..from + more].copy_from_slice(server.as_bytes());
            amount += more;
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.inner.await_input(timeout)
    }

    // It is asked once.
    fn is_open(&mut self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(configured: Option<&str>, variables: &[(&str, &str)]) -> Result<Proxies, Problem> {
        Proxies::of(configured, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn hosts(proxies: &Proxies) -> (Option<&str>, Option<&str>) {
        let host = |url: &str| Some(proxies.to(&url.parse().unwrap())?.host());
        (host("http://a.example/"), host("https://a.example/"))
    }

    #[test]
    fn variables_as_curl_reads_them() {
        for (variables, expected) in [
            (&[][..], (None, None)),
            (&[("http_proxy", "one:3128")], (Some("one"), None)),
            (&[("HTTPS_PROXY", "http://two:1")], (None, Some("two"))),
            (
                &[("ALL_PROXY", "socks5h://all:1")],
                (Some("all"), Some("all")),
            ),
            (
                &[("all_proxy", "all:1"), ("https_proxy", "two:1")],
                (Some("all"), Some("two")),
            ),
            (
                &[("http_proxy", "small:1"), ("HTTP_PROXY", "capital:1")],
                (Some("small"), None),
            ),
            // Empty is none, whatever is for all.
            (
                &[("http_proxy", " "), ("ALL_PROXY", "all:1")],
                (None, Some("all")),
            ),
        ] {
            assert_eq!(
                hosts(&of(None, variables).unwrap()),
                expected,
                "{variables:?}"
            );
        }
        let proxies = of(Some("http://mine:1"), &[("HTTP_PROXY", "nonsense://")]).unwrap();
        assert_eq!(hosts(&proxies), (Some("mine"), Some("mine")));
    }

    #[test]
    fn what_is_unusable_is_refused() {
        for text in [
            "ftp://x",
            "http://",
            "http://x:99999",
            "http://x:abc",
            "http://x:0",
            "http://x/path",
            "a b",
        ] {
            assert!(check(text).is_err(), "{text}");
            let said = of(None, &[("HTTPS_PROXY", text)]).unwrap_err().to_string();
            assert_eq!(said, "`HTTPS_PROXY` is no address of a proxy");
        }
        for text in [
            "x",
            "x:3128",
            "http://me:p%40ss@x:1/",
            "socks5h://[::1]:1080",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn some_are_asked_without() {
        let list = " .internal.example , *.corp.example example.org:8080\t192.0.2.0/24,\
                    2001:db8::/32, 198.51.100.7 [2001:db9::1]:8443 ,";
        for (url, without) in [
            ("http://internal.example/", true),
            ("http://a.Internal.example./", true),
            ("http://notinternal.example/", false),
            ("https://a.b.corp.example/", true),
            ("http://example.org/", false),
            ("http://example.org:8080/", true),
            ("http://www.example.org:8080/", true),
            ("http://192.0.2.77/", true),
            ("http://192.0.3.1/", false),
            ("http://[::ffff:192.0.2.1]/", true),
            ("http://[2001:db8:1::1]:99/", true),
            ("http://198.51.100.7:1/", true),
            ("https://[2001:db9::1]:8443/", true),
            ("https://[2001:db9::1]/", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(Without::of(list).holds(&url), without, "{url}");
            assert!(Without::of("a.example, *").holds(&url));
            assert!(!Without::of("").holds(&url));
        }
    }
}
