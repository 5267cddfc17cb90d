//! `[bmp]`: where the router's BGP daemon tells what it has, who may, how long what
//! loosens waits, and how long silence is borne.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;
use toml::de::DeTable;

use super::reader::Reader;
use crate::{diagnostic::quoted, policy};

/// Where sessions are accepted unless the file says otherwise.
pub(super) const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 11019);
/// Users whose connections from this machine are let in unless the file says otherwise:
/// root, and those that BGP daemons run as in distributions.
pub const USERS: [&str; 10] = [
    "root",
    "frr",
    "quagga",
    "bird",
    "gobgp",
    "gobgpd",
    "openbgpd",
    "_openbgpd",
    "_bgpd",
    "exabgp",
];
/// Longest time that can be given.
const MOST: Duration = Duration::from_secs(366 * 24 * 3600);

/// The BMP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bmp {
    /// Where sessions are accepted.
    pub listen: SocketAddr,
    /// From which other machines; addresses of this one do not count.
    pub peers: Vec<IpNet>,
    /// From this machine: whose sockets. `None`: those of [`USERS`] that exist.
    pub users: Option<Vec<String>>,
    /// A session in which nothing was heard for so long ends.
    pub idle: Duration,
    /// A peer that the router has had no session with for so long is forgotten.
    pub forget_after: Duration,
    /// A peer of which nothing was heard for so long is stale.
    pub stale_after: Duration,
    /// How long a change that loosens waits.
    pub hold: Duration,
}

impl Bmp {
    /// Whether a session may come from an address of another machine.
    #[must_use]
    pub fn allows(&self, address: std::net::IpAddr) -> bool {
        let address = address.to_canonical();
        self.peers.iter().any(|peers| peers.contains(&address))
    }
}

impl Reader<'_, '_> {
    /// `None`: there is no such section.
    pub(super) fn bmp(&mut self, table: &DeTable<'_>) -> Option<Bmp> {
        let keys = [
            "listen",
            "peers",
            "users",
            "idle_timeout",
            "stale_after",
            "forget_after",
            "hold_time",
        ];
        let section = table.get("bmp")?;
        let (table, meant) = self.section_and_meant(table, "bmp", &keys)?;
        let listen = self.listen(table, LISTEN, "remove `[bmp]`");
        let peers = self.bmp_peers(table);
        if let Some(listen) = listen
            && !listen.ip().to_canonical().is_loopback()
            && !table.contains_key("peers")
            && !meant.contains(&"peers")
        {
            self.report.error(
                &table.get("listen").unwrap_or(section).span(),
                format!("`{listen}` can be reached from elsewhere, and no `peers` are named"),
                "add `peers = [\"192.0.2.1\"]`, the routers that may connect, or listen on 127.0.0.1",
            );
        }
        let users = self.bmp_users(table);
        let idle = self.time(table, "idle_timeout", MOST);
        let stale_after = self.time(table, "stale_after", MOST);
        let forget_after = self.time(table, "forget_after", MOST);
        let hold = self.time(table, "hold_time", MOST);
        Some(Bmp {
            listen: listen?,
            peers,
            users,
            idle: idle.unwrap_or(Duration::from_secs(3600)),
            forget_after: forget_after.unwrap_or(Duration::from_secs(7 * 24 * 3600)),
            stale_after: stale_after.unwrap_or(Duration::from_secs(600)),
            hold: hold.unwrap_or(Duration::from_secs(3600)),
        })
    }

    fn bmp_peers(&mut self, table: &DeTable<'_>) -> Vec<IpNet> {
        let Some(value) = table.get("peers") else {
            return Vec::new();
        };
        let example = "`peers = [\"192.0.2.1\", \"2001:db8::/64\"]`";
        let mut peers = Vec::new();
        let texts = self.report.strings(value, "`peers`", example);
        let help =
            "name the routers that may connect, or remove the key: then it is this machine alone";
        self.report
            .refuse_empty(value, "`peers` names nobody", help);
        for (span, text) in texts {
            // A router is named by its address, often with the length of its network.
            match policy::network(text) {
                Some(net) => peers.push(net.trunc()),
                None => self.report.error(
                    &span,
                    format!("{} is neither an address nor a prefix", quoted(text)),
                    format!("write {example}"),
                ),
            }
        }
        peers
    }

    fn bmp_users(&mut self, table: &DeTable<'_>) -> Option<Vec<String>> {
        let value = table.get("users")?;
        let example = "`users = [\"root\", \"frr\"]`";
        let texts = self.report.strings(value, "`users`", example);
        let help = format!(
            "write {example}, or remove the key: then it is root and the users of BGP daemons"
        );
        self.report
            .refuse_empty(value, "`users` names nobody", &help);
        for (span, text) in &texts {
            if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                self.report.error(
                    span,
                    format!(
                        "{} is neither the name nor the number of a user",
                        quoted(text)
                    ),
                    format!("write {example}"),
                );
            }
        }
        Some(texts.into_iter().map(|(_, text)| text.to_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn read(text: &str) -> (Option<crate::config::Config>, Vec<String>) {
        let text = format!("[[interface]]\ndevice = \"e\"\n{text}\n");
        let (config, found) = parse(Path::new("/k.toml"), &text);
        let errors = found.errors.into_iter().map(|e| e.message).collect();
        (config, errors)
    }

    #[test]
    fn all_of_it() {
        assert_eq!(read("").0.unwrap().bmp, None);
        let bmp = read("[bmp]").0.unwrap().bmp.unwrap();
        assert_eq!(bmp.listen, LISTEN);
        assert_eq!(bmp.hold, Duration::from_secs(3600));
        assert_eq!(bmp.idle, Duration::from_secs(3600));
        assert_eq!(bmp.users, None);
        for address in ["127.0.0.9", "::1", "192.0.2.1"] {
            assert!(!bmp.allows(address.parse().unwrap()), "{address}");
        }
        let text = "[bmp]\nlisten = \"[::]:5000\"\npeers = [\"192.0.2.1\", \"2001:db8::1/64\"]\n\
                    stale_after = \"2h\"\nhold_time = \"1s\"\nidle_timeout = \"5m\"\n\
                    forget_after = \"1d\"\nusers = [\"frr\", \"1001\"]\n";
        let bmp = read(text).0.unwrap().bmp.unwrap();
        assert_eq!(bmp.listen, "[::]:5000".parse().unwrap());
        assert_eq!(bmp.stale_after, Duration::from_secs(7200));
        assert_eq!(bmp.hold, Duration::from_secs(1));
        assert_eq!(bmp.idle, Duration::from_secs(300));
        assert_eq!(bmp.forget_after, Duration::from_secs(24 * 3600));
        assert_eq!(bmp.users, Some(vec!["frr".to_owned(), "1001".to_owned()]));
        assert!(bmp.allows("2001:db8::9".parse().unwrap()));
        assert!(bmp.allows("::ffff:192.0.2.1".parse().unwrap()));
        assert!(!bmp.allows("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("listen = \"11019\"", "not an address with a port"),
            ("listen = \"0.0.0.0:11019\"", "no `peers` are named"),
            ("listen = \"[::]:11019\"", "no `peers` are named"),
            ("listen = \"192.0.2.1:11019\"", "no `peers` are named"),
            ("peers = []", "names nobody"),
            ("users = []", "names nobody"),
            (
                "users = [\"a b\"]",
                "neither the name nor the number of a user",
            ),
            ("users = 0", "`users` must be a list"),
            ("peers = [\"router\"]", "neither an address nor a prefix"),
            ("peers = [1]", "an entry of `peers` must be a string"),
            (
                "peers = [\"192.0.2.01\"]",
                "neither an address nor a prefix",
            ),
            (
                "peers = [\"192.0.2.0/024\"]",
                "neither an address nor a prefix",
            ),
            (
                "listen = \"[::]:5\"\npeer = [\"192.0.2.1\"]",
                "unknown key `peer`",
            ),
            ("peers = \"127.0.0.1\"", "`peers` must be a list"),
            ("hold_time = 5", "`hold_time` must be a time"),
            ("stale_after = \"0s\"", "`stale_after` must be a time"),
            ("hold = \"5s\"", "unknown key `hold`"),
        ] {
            let (config, errors) = read(&format!("[bmp]\n{text}"));
            assert!(config.is_none(), "{text}");
            assert!(errors[0].contains(message), "{errors:?}");
            assert_eq!(errors.len(), 1, "{text}: {errors:?}");
        }
    }
}
