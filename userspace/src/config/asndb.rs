//! `[asndb]` as far as updates go: where they come from, and what may become live
//! by itself.

use std::{collections::BTreeSet, time::Duration};

use toml::de::DeTable;
use url::Url;

use super::reader::Reader;
use crate::{
    asn::{
        Combine, Options,
        bundle::PublicKey,
        fetch::{Fetching, Header, Remote, proxy},
        gate,
    },
    diagnostic::quoted,
    policy::text::Value,
};

/// A source is asked for so often unless the file says otherwise.
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// How the database is kept up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updates {
    /// By how much a total may change before an update is held back, percent.
    pub max_change: u8,
    /// Sources that are fetched, behind those that are paths.
    pub remotes: Vec<Remote>,
    /// How they are fetched.
    pub fetching: Fetching,
    /// Whose bundles are trusted.
    pub keys: Vec<PublicKey>,
}

impl Default for Updates {
    fn default() -> Self {
        Self {
            max_change: gate::MAX_CHANGE,
            remotes: Vec::new(),
            fetching: Fetching::default(),
            keys: Vec::new(),
        }
    }
}

/// Headers that say how a request is sent, or what is asked for.
const OWN_HEADERS: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "proxy-authorization",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Whether a text can be the value of a header (RFC 9110, section 5.5, ASCII alone).
fn is_field(text: &str) -> bool {
    !text.is_empty()
        && text.trim() == text
        && text.bytes().all(|b| b == b'\t' || matches!(b, b' '..=b'~'))
}

impl Reader<'_, '_> {
    /// How sources become a database.
    pub(super) fn import(&mut self, table: &DeTable<'_>) -> Options {
        let mut options = Options::default();
        if let Some(value) = table.get("combine") {
            let words = [("union", Combine::Union), ("priority", Combine::Priority)];
            let found = self.report.word(value, "`combine`", &words, &[]);
            options.combine = found.unwrap_or_default();
        }
        if let Some(value) = table.get("vrps") {
            let words = [("annotate", false), ("add", true)];
            let found = self.report.word(value, "`vrps`", &words, &[]);
            options.add_vrps = found.unwrap_or_default();
        }
        if let Some(peers) = self.number(table, "min_peers", 1..=10_000, options.min_peers) {
            options.min_peers = peers;
        }
        options
    }

    pub(super) fn updates(&mut self, table: &DeTable<'_>) -> Updates {
        let mut updates = Updates::default();
        if let Some(value) = table.get("max_change") {
            let percent = value
                .get_ref()
                .as_str()
                .and_then(|text| text.trim_end().strip_suffix('%')?.trim_end().parse().ok())
                .filter(|percent| (1..=100).contains(percent));
            match percent {
                Some(percent) => updates.max_change = percent,
                None => self.report.error(
                    &value.span(),
                    "`max_change` must be a percentage from 1 to 100",
                    "write `max_change = \"10%\"`, or remove the key",
                ),
            }
        }
        if let Some(value) = table.get("source") {
            updates.remotes = self.remotes(value);
        }
        self.fetching(table, &mut updates.fetching);
        if let Some(value) = table.get("keys") {
            let example = "`keys = [\"ed25519:…\"]`";
            for (span, text) in self.report.strings(value, "`keys`", example) {
                match text.parse() {
                    Ok(key) => updates.keys.push(key),
                    Err(wrong) => self.report.error(
                        &span,
                        format!("{} is no key: {wrong}", quoted(text)),
                        "`kordon asndb keygen FILE` makes a pair and prints the public one",
                    ),
                }
            }
        }
        updates
    }

    fn fetching(&mut self, table: &DeTable<'_>, fetching: &mut Fetching) {
        if let Some(value) = table.get("proxy")
            && let Some(proxy) =
                self.report
                    .string(value, "`proxy`", "`proxy = \"http://proxy.example:3128\"`")
        {
            match proxy::check(proxy) {
                Ok(()) => fetching.proxy = Some(proxy.to_owned()),
                Err(problem) => self.report.problem(&value.span(), problem),
            }
        }
        if let Some(time) = self.time(table, "timeout", Duration::from_secs(600)) {
            fetching.timeout = time;
        }
        if let Some(time) = self.time(table, "max_time", Duration::from_secs(24 * 3600)) {
            fetching.max_time = time;
        }
        if let Some(retries) = self.number(table, "retries", 0..=20, 3) {
            fetching.retries = retries;
        }
        if let Some(mib) = self.number(table, "max_mib", 1..=1 << 20, 2048) {
            fetching.max_bytes = u64::from(mib) << 20;
        }
        fetching.ca = self.path(table, "ca");
    }

    fn remotes(&mut self, value: &Value<'_>) -> Vec<Remote> {
        const EXAMPLE: &str = "`[[asndb.source]]` above each source";
        let mut known = BTreeSet::new();
        let mut remotes = Vec::new();
        for value in self
            .report
            .list(value, "`source`", EXAMPLE)
            .unwrap_or_default()
        {
            let Some(table) = self.report.table(value, "a source", EXAMPLE) else {
                continue;
            };
            let keys = ["url", "checksum_url", "every", "user_agent", "headers"];
            let meant = self.report.known_keys(table, &keys, " of a source");
            if !table.contains_key("url") && !meant.contains(&"url") {
                self.report.error(
                    &value.span(),
                    "a source has no `url`",
                    "write where it is, for example `url = \"https://example.org/asn.csv.gz\"`",
                );
            }
            let url = self.url(table, "url");
            let checksum = self.url(table, "checksum_url");
            let every = self.time(table, "every", Duration::from_secs(366 * 24 * 3600));
            let user_agent = self.user_agent(table);
            let headers = self.headers(table);
            let Some(url) = url else { continue };
            if !known.insert(url.clone()) {
                self.report.error(
                    &value.span(),
                    "two sources have the same `url`",
                    "remove one of them",
                );
            }
            remotes.push(Remote {
                url,
                checksum,
                every: every.unwrap_or(EVERY),
                user_agent,
                headers,
            });
        }
        remotes
    }

    fn user_agent(&mut self, table: &DeTable<'_>) -> Option<String> {
        let value = table.get("user_agent")?;
        let example = "`user_agent = \"example.org camera filter\"`";
        let text = self
            .report
            .string(value, "`user_agent` of a source", example)?;
        if is_field(text) {
            return Some(text.to_owned());
        }
        self.report.error(
            &value.span(),
            "`user_agent` of a source cannot be sent",
            "write letters, digits and signs in one line",
        );
        None
    }

    /// Values may be secrets: they are in no message.
    fn headers(&mut self, table: &DeTable<'_>) -> Vec<Header> {
        const EXAMPLE: &str = "`headers = { Authorization = \"Bearer …\" }`";
        let mut headers = Vec::new();
        let Some(value) = table.get("headers") else {
            return headers;
        };
        let Some(table) = self.report.table(value, "`headers` of a source", EXAMPLE) else {
            return headers;
        };
        for (key, value) in table {
            let name: &str = key.get_ref();
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let small = name.to_ascii_lowercase();
            if name.is_empty() || !name.bytes().all(token) {
                self.report.error(
                    &key.span(),
                    format!("{} cannot be the name of a header", quoted(name)),
                    "write letters, digits and `-`",
                );
            } else if OWN_HEADERS.contains(&small.as_str()) {
                self.report.error(
                    &key.span(),
                    format!("header {} is kordon's own", quoted(name)),
                    "remove it",
                );
            }
            let what = format!("header {}", quoted(name));
            let Some(text) = self.report.string(value, &what, EXAMPLE) else {
                continue;
            };
            if !is_field(text) {
                self.report.error(
                    &value.span(),
                    format!("the value of {what} cannot be sent"),
                    "write letters, digits and signs in one line",
                );
            }
            headers.push(Header {
                name: name.to_owned(),
                value: text.to_owned(),
            });
        }
        headers
    }

    fn url(&mut self, table: &DeTable<'_>, key: &str) -> Option<Url> {
        let value = table.get(key)?;
        let what = format!("`{key}` of a source");
        let example = format!("`{key} = \"https://example.org/asn.csv.gz\"`");
        let text = self.report.string(value, &what, &example)?;
        let url = Url::parse(text).ok().filter(|url| match url.scheme() {
            "http" | "https" => url.has_host(),
            "file" => url.to_file_path().is_ok(),
            _ => false,
        });
        if url.is_none() {
            self.report.error(
                &value.span(),
                format!("{} is no address that can be fetched", quoted(text)),
                "it begins with `https://`, `http://` or `file:///`",
            );
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    #[test]
    fn all_of_it() {
        let key = format!("ed25519:{}", "0".repeat(64));
        let text = format!(
            "[[interface]]\ndevice = \"e\"\n[asndb]\nmax_change = \"25%\"\nproxy = \"http://p:3128\"\n\
             timeout = \"5s\"\nretries = 0\nmax_mib = 100\nca = \"ca.pem\"\nkeys = [\"{key}\"]\n\
             [[asndb.source]]\nurl = \"https://a.example/x.csv\"\n\
             checksum_url = \"https://a.example/x.sha256\"\nevery = \"7d\"\n\
             user_agent = \"us\"\nheaders = {{ Authorization = \"Bearer secret\" }}\n\
             [[asndb.source]]\nurl = \"file:///x.csv\"\n"
        );
        let (config, found) = parse(Path::new("/etc/kordon.toml"), &text);
        let updates = config.unwrap_or_else(|| panic!("{found:?}")).updates;
        assert_eq!(updates.max_change, 25);
        assert_eq!(updates.keys[0].to_string(), key);
        let fetching = &updates.fetching;
        assert_eq!(fetching.timeout, Duration::from_secs(5));
        assert_eq!((fetching.retries, fetching.max_bytes), (0, 100 << 20));
        assert_eq!(fetching.ca.as_deref(), Some(Path::new("/etc/ca.pem")));
        let remotes = &updates.remotes;
        assert_eq!(remotes[0].every, Duration::from_secs(7 * 86_400));
        assert_eq!(remotes[1].every, EVERY);
        assert_eq!(remotes[0].user_agent.as_deref(), Some("us"));
        assert_eq!(remotes[0].headers[0].value, "Bearer secret");
        assert!(!format!("{remotes:?}").contains("secret"));
        assert!(remotes[0].checksum.is_some() && remotes[1].checksum.is_none());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("max_change = 10", "must be a percentage"),
            ("max_change = \"0%\"", "must be a percentage"),
            ("timeout = \"0s\"", "`timeout` must be a time"),
            ("retries = 21", "`retries` must be a number from 0 to 20"),
            ("keys = [\"x\"]", "`x` is no key"),
            ("proxy = \"ftp://x\"", "no address of a proxy"),
            ("[[asndb.source]]", "a source has no `url`"),
            (
                "[[asndb.source]]\nurl = \"ftp://x/y\"",
                "no address that can be fetched",
            ),
            (
                "[[asndb.source]]\nurl = \"a.csv\"",
                "no address that can be fetched",
            ),
            (
                "[[asndb.source]]\nurl = \"http://x/y\"\nevery = 3",
                "`every` must be a time",
            ),
            ("proxy = \"http://x:0\"", "no address of a proxy"),
            ("max_time = \"2d\"", "`max_time` must be a time"),
            (
                "[[asndb.source]]\nurl = \"http://x/y\"\nheaders = { Host = \"x\" }",
                "header `Host` is kordon's own",
            ),
            (
                "[[asndb.source]]\nurl = \"http://x/y\"\nheaders = { \"a b\" = \"x\" }",
                "`a b` cannot be the name of a header",
            ),
            (
                "[[asndb.source]]\nurl = \"http://x/y\"\nheaders = { a = \"x\\ny\" }",
                "the value of header `a` cannot be sent",
            ),
            (
                "[[asndb.source]]\nurl = \"http://x/y\"\nuser_agent = \"\"",
                "`user_agent` of a source cannot be sent",
            ),
            (
                "[[asndb.source]]\nurll = \"http://x/y\"",
                "unknown key `urll` of a source",
            ),
        ] {
            let text = format!("[[interface]]\ndevice = \"e\"\n[asndb]\n{text}\n");
            let (_, found) = parse(Path::new("/k.toml"), &text);
            let all: Vec<&str> = found.errors.iter().map(|e| e.message.as_str()).collect();
            assert_eq!(all.len(), 1, "{text}: {all:?}");
            assert!(
                all.iter().any(|m| m.contains(message)),
                "{message}: {all:?}"
            );
        }
    }
}
