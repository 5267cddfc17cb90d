//! Where records go, and what may be said of that in `kordon.toml`.
//!
//! Everything is checked here, in words, so that whoever reads the file has only to say where it
//! stood.

use std::path::PathBuf;

use url::{Host, Url};

/// Where journald takes messages.
const JOURNALD: &str = "/run/systemd/journal/socket";
/// What [`Facility::parse`] knows, by number, as RFC 5424 has them (table 1).
const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "log_audit",
    "log_alert",
    "clock",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];
/// All that `event.action` can be.
pub const ACTIONS: [&str; 10] = [
    "flow",
    "heartbeat",
    "state",
    "change",
    "start",
    "stop",
    "attach",
    "detach",
    "forget",
    "clock",
];

/// One destination, so one `[[evidence.forward]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// `to`.
    pub to: Target,
    /// `facility`, of syslog and of journald.
    pub facility: Facility,
    /// `only`: which `event.action` go there; `None`: all.
    pub only: Option<Vec<String>>,
    /// `start`: with what a destination begins that has got nothing yet.
    pub start: Start,
    /// `ca`: who may sign the certificate of a `tls://` server; `None`: whom the system believes.
    pub ca: Option<PathBuf>,
    /// `cert` and `key`: who kordon is to a `tls://` server that asks.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl Destination {
    /// With everything as it is unless the file says otherwise.
    #[must_use]
    pub fn new(to: Target) -> Self {
        Self {
            to,
            facility: Facility::default(),
            only: None,
            start: Start::default(),
            ca: None,
            client: None,
        }
    }

    /// What is wrong with it as a whole, in words.
    ///
    /// # Errors
    /// The first thing that is.
    pub fn check(&self) -> Result<(), String> {
        let is_tls = matches!(&self.to, Target::Tls(_));
        if !is_tls && (self.ca.is_some() || self.client.is_some()) {
            return Err("`ca`, `cert` and `key` are of `tls://` only".into());
        }
        let Some(only) = &self.only else {
            return Ok(());
        };
        if only.is_empty() {
            return Err("`only` names nothing, so nothing would be forwarded".into());
        }
        match only.iter().find(|action| !ACTIONS.contains(&&***action)) {
            Some(unknown) => Err(format!(
                "`only` names `{unknown}`, which no record is; there are {}",
                ACTIONS.join(", ")
            )),
            None => Ok(()),
        }
    }

    /// Whether records of this `event.action` go there.
    pub(super) fn wants(&self, action: &str) -> bool {
        let only = self.only.as_ref();
        only.is_none_or(|only| only.iter().any(|wanted| wanted == action))
    }
}

/// What takes the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Syslog, a datagram each (RFC 5426).
    Udp(Server),
    /// Syslog, octet counting (RFC 6587).
    Tcp(Server),
    /// Syslog over TLS (RFC 5425).
    Tls(Server),
    /// journald, by its socket.
    Journald(PathBuf),
}

/// Where a syslog server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Target {
    /// Reads `to`.
    ///
    /// # Errors
    /// In words.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORMS: &str =
            "write `udp://HOST:PORT`, `tcp://HOST:PORT`, `tls://HOST:PORT` or `journald`";
        if text == "journald" {
            return Ok(Self::Journald(JOURNALD.into()));
        }
        let url =
            Url::parse(text).map_err(|e| format!("`{text}` is no destination: {e}; {FORMS}"))?;
        let (make, usual): (fn(Server) -> Self, u16) = match url.scheme() {
            "udp" => (Self::Udp, 514),
            "tcp" => (Self::Tcp, 514),
            "tls" => (Self::Tls, 6514),
            other => return Err(format!("`{other}` is no way to send records; {FORMS}")),
        };
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(format!("`{text}` names no host; {FORMS}")),
        };
        let rest = [url.query(), url.fragment(), url.password()];
        let has_more = rest.iter().any(Option::is_some) || !url.username().is_empty();
        if has_more || !matches!(url.path(), "" | "/") {
            return Err(format!("`{text}` has more than a host and a port; {FORMS}"));
        }
        match url.port().unwrap_or(usual) {
            0 => Err(format!("`{text}`: there is no port 0")),
            port => Ok(make(Server { host, port })),
        }
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> String {
        let of = |scheme: &str, server: &Server| {
            let Server { host, port } = server;
            match host.contains(':') {
                true => format!("{scheme}://[{host}]:{port}"),
                false => format!("{scheme}://{host}:{port}"),
            }
        };
        match self {
            Self::Udp(server) => of("udp", server),
            Self::Tcp(server) => of("tcp", server),
            Self::Tls(server) => of("tls", server),
            Self::Journald(_) => "journald".into(),
        }
    }

    /// Name of the file with its position: as long as the destination is the same one, it is the
    /// same one.
    pub(super) fn file(&self) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        let name = self.name().replace("://", "-");
        let plain = name.chars().map(|c| if is_plain(c) { c } else { '_' });
        format!("forward-{}", plain.collect::<String>())
    }
}

/// What part of the system messages are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

impl Default for Facility {
    /// `log_audit`, which is what the log is.
    fn default() -> Self {
        Self(13)
    }
}

impl Facility {
    /// Reads `facility`.
    ///
    /// # Errors
    /// In words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found = (0..).zip(FACILITIES).find(|(_, name)| *name == text);
        found.map(|(number, _)| Self(number)).ok_or_else(|| {
            format!(
                "`{text}` is no facility; there are {}",
                FACILITIES.join(", ")
            )
        })
    }

    pub(super) fn number(self) -> u8 {
        self.0
    }
}

/// With what a destination begins that has got nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With all that the log has.
    #[default]
    Oldest,
    /// With what comes from now on.
    Newest,
}

impl Start {
    /// Reads `start`.
    ///
    /// # Errors
    /// In words.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "oldest" => Ok(Self::Oldest),
            "newest" => Ok(Self::Newest),
            _ => Err(format!("`start` is `oldest` or `newest`, not `{text}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (text, name, file) in [
            (
                "udp://192.0.2.1",
                "udp://192.0.2.1:514",
                "forward-udp-192.0.2.1_514",
            ),
            ("tcp://log:6000/", "tcp://log:6000", "forward-tcp-log_6000"),
            (
                "tls://[2001:db8::1]",
                "tls://[2001:db8::1]:6514",
                "forward-tls-_2001_db8__1__6514",
            ),
            ("journald", "journald", "forward-journald"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(
                (target.name().as_str(), target.file().as_str()),
                (name, file)
            );
        }
        for (text, why) in [
            ("log.example", "is no destination"),
            ("http://log.example", "is no way"),
            ("udp:///x", "names no host"),
            ("udp://", "names no host"),
            ("udp://log/x", "more than a host"),
            ("udp://log?x", "more than a host"),
            ("udp://me@log", "more than a host"),
            ("udp://log:0", "no port 0"),
            ("udp://log:70000", "is no destination"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_rest_of_it() {
        assert_eq!(Facility::parse("log_audit"), Ok(Facility::default()));
        assert_eq!(Facility::parse("local7").unwrap().number(), 23);
        assert!(Facility::parse("local8").unwrap_err().contains("local7"));
        assert_eq!(Start::parse("oldest"), Ok(Start::Oldest));
        assert!(Start::parse("now").is_err());
        let mut destination = Destination::new(Target::parse("udp://log").unwrap());
        assert_eq!(destination.check(), Ok(()));
        destination.only = Some(vec!["flow".into()]);
        assert!(destination.wants("flow") && !destination.wants("state"));
        for (only, why) in [(vec![], "nothing"), (vec!["flows".to_owned()], "`flows`")] {
            destination.only = Some(only);
            assert!(destination.check().unwrap_err().contains(why));
        }
        destination.only = None;
        destination.ca = Some("/ca.pem".into());
        assert!(destination.check().unwrap_err().contains("`tls://` only"));
    }
}
