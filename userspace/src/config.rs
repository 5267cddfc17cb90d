//! `kordon.toml`: what is local to one router. Read like a policy: all errors in
//! one go, each with file, line and cure.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::de::DeTable;

mod asndb;
mod bmp;
mod named;
#[cfg(test)]
mod tests;

pub use self::{
    asndb::Updates,
    bmp::{Bmp, USERS as BMP_USERS},
    named::meant,
};

use crate::{
    asn,
    datapath::attach::Mode,
    diagnostic::{Diagnostic, Diagnostics, quoted},
    policy::text::{Report, Value},
};

/// Where the metrics are served unless the file says otherwise.
pub const METRICS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9754);
/// Where the control socket is unless the file says otherwise.
pub const SOCKET: &str = "/run/kordon/kordon.sock";
/// ASNs of a zone that have metrics of their own unless the file says otherwise.
pub const MAX_ASNS: usize = 1000;
/// Where state is kept unless the file says otherwise.
pub const STATE_DIR: &str = "/var/lib/kordon";
/// Where things are pinned unless the file says otherwise.
pub const BPFFS: &str = "/sys/fs/bpf/kordon";
/// How long a zone may be silent unless the file says otherwise.
pub const SILENT_AFTER: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// The group that may use the control socket unless the file says otherwise.
pub const GROUP: &str = "kordon";
/// The group that may only ask unless the file says otherwise.
pub const READ_GROUP: &str = "kordon-read";

/// The whole file, defaults filled in, paths resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The policy's file.
    pub policy: PathBuf,
    /// Policed interfaces.
    pub interfaces: Vec<Interface>,
    /// Sources of origins, by priority.
    pub sources: Vec<PathBuf>,
    /// Sources of countries.
    pub countries: Vec<PathBuf>,
    /// How sources become a database.
    pub import: asn::Options,
    /// How the database is kept up to date.
    pub updates: Updates,
    /// From when on a database is called old.
    pub max_age: Option<Duration>,
    /// Live BGP; `None`: nothing listens.
    pub bmp: Option<Bmp>,
    /// Where metrics are served; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// ASNs of a zone that have metrics of their own, at most.
    pub max_asns: usize,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// Where things are pinned.
    pub bpffs: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// Members may use the control socket.
    pub group: String,
    /// Members may only ask, on the socket beside it.
    pub read_group: String,
    /// What is meant to happen where kordon cannot enforce.
    pub fail: Fail,
    /// How long a zone that had packets may have none before `status` says so; `None`: for ever.
    pub silent_after: Option<Duration>,
}

/// What is meant to happen where kordon cannot enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fail {
    /// Nothing passes.
    #[default]
    Closed,
    /// Everything passes.
    Open,
}

impl Fail {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
        }
    }
}

/// One policed interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// As the kernel calls it.
    pub device: String,
    /// As policies call it.
    pub name: String,
    /// How to attach.
    pub mode: Mode,
    /// Frames of VLANs without a zone are dropped.
    pub drop_unknown: bool,
    /// `rx-vlan-offload` may be switched off.
    pub manage_offload: bool,
    /// A tc program behind the XDP program notices what that does not see.
    pub guard: bool,
}

/// The word for a mode in the file.
#[must_use]
pub const fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "auto",
        Mode::Native => "native",
        Mode::Generic => "generic",
    }
}

/// Reads a configuration. One is returned exactly when there are no errors.
#[must_use]
pub fn load(path: &Path) -> (Option<Config>, Diagnostics) {
    let (config, found) = salvage(path);
    (config.filter(|_| found.ok()), found)
}

/// As [`load`], with what can be read in spite of errors; what has one is as if it was not
/// there. For those who only want to know where a daemon is.
#[must_use]
pub fn salvage(path: &Path) -> (Option<Config>, Diagnostics) {
    let file = path.display().to_string();
    match crate::regular::read_text(path) {
        Ok(text) => read(path, &text),
        Err(error) => {
            let help = match error.kind() {
                std::io::ErrorKind::NotFound => "write one, or name another with `--config`",
                std::io::ErrorKind::InvalidData => "save the file as UTF-8",
                std::io::ErrorKind::IsADirectory => "name the file inside the folder",
                std::io::ErrorKind::InvalidInput => "name a file with `--config`",
                _ => "check the path and the permissions of the file and of its folders",
            };
            let message = format!("configuration {} cannot be read: {error}", quoted(&file));
            (None, Diagnostic::of_file(&file, message, help).into())
        }
    }
}

/// Parses the text of the file at `path`. A configuration is returned exactly
/// when there are no errors.
#[must_use]
pub fn parse(path: &Path, text: &str) -> (Option<Config>, Diagnostics) {
    let (config, found) = read(path, text);
    (config.filter(|_| found.ok()), found)
}

fn read(path: &Path, text: &str) -> (Option<Config>, Diagnostics) {
    let file = path.display().to_string();
    let mut report = Report::new(&file, text.strip_prefix('\u{feff}').unwrap_or(text));
    let folder = path.parent().unwrap_or(Path::new(""));
    let config = report.toml().map(|table| {
        Reader {
            report: &mut report,
            folder,
        }
        .config(&table)
    });
    let mut found = report.found;
    if let Some(config) = &config
        && config.interfaces.is_empty()
        && found.ok()
    {
        found.warnings.push(Diagnostic::of_file(
            &file,
            "no interface is configured: nothing is enforced",
            "add one with `[[interface]]`",
        ));
    }
    found.sort(&file);
    (config, found)
}

struct Reader<'r, 't> {
    report: &'r mut Report<'t>,
    folder: &'r Path,
}

impl Reader<'_, '_> {
    fn config(&mut self, table: &DeTable<'_>) -> Config {
        const KEYS: [&str; 10] = [
            "policy",
            "interface",
            "asndb",
            "bmp",
            "metrics",
            "state_dir",
            "bpffs",
            "control",
            "fail",
            "silent_after",
        ];
        self.report.known_keys(table, &KEYS, "");
        let mut config = Config {
            policy: self.folder.join("policy.toml"),
            interfaces: Vec::new(),
            sources: Vec::new(),
            countries: Vec::new(),
            import: asn::Options::default(),
            updates: Updates::default(),
            max_age: None,
            bmp: None,
            metrics: Some(METRICS),
            max_asns: MAX_ASNS,
            state_dir: STATE_DIR.into(),
            bpffs: BPFFS.into(),
            socket: SOCKET.into(),
            group: GROUP.into(),
            read_group: READ_GROUP.into(),
            fail: Fail::default(),
            silent_after: Some(SILENT_AFTER),
        };
        for (key, target) in [
            ("policy", &mut config.policy),
            ("state_dir", &mut config.state_dir),
            ("bpffs", &mut config.bpffs),
        ] {
            if let Some(path) = self.path(table, key) {
                *target = path;
            }
        }
        if let Some(value) = table.get("fail") {
            let words = [("closed", Fail::Closed), ("open", Fail::Open)];
            config.fail = self
                .report
                .word(value, "`fail`", &words, &[])
                .unwrap_or_default();
        }
        if let Some(value) = table.get("silent_after") {
            config.silent_after = if value.get_ref().as_str() == Some("off") {
                None
            } else {
                self.time(table, "silent_after", DAY.saturating_mul(365))
            };
        }
        if let Some(value) = table.get("interface") {
            config.interfaces = self.interfaces(value);
        }
        let keys = [
            "sources",
            "countries",
            "combine",
            "min_peers",
            "vrps",
            "max_age_days",
            "max_change",
            "source",
            "proxy",
            "timeout",
            "max_time",
            "retries",
            "max_mib",
            "ca",
            "keys",
        ];
        if let Some(table) = self.section(table, "asndb", &keys) {
            config.sources = self.paths(table, "sources");
            config.countries = self.paths(table, "countries");
            config.import = self.import(table);
            config.updates = self.updates(table);
            config.max_age = self.days(table, "max_age_days");
        }
        config.bmp = self.bmp(table);
        if let Some(table) = self.section(table, "metrics", &["listen", "max_asns"]) {
            config.metrics = self.listen(table);
            if let Some(value) = table.get("max_asns") {
                config.max_asns = self.max_asns(value);
            }
        }
        if let Some(table) = self.section(table, "control", &["socket", "group", "read_group"]) {
            if let Some(path) = self.path(table, "socket") {
                config.socket = path;
            }
            for (key, default, target) in [
                ("group", GROUP, &mut config.group),
                ("read_group", READ_GROUP, &mut config.read_group),
            ] {
                let (what, example) = (format!("`{key}`"), format!("`{key} = \"{default}\"`"));
                if let Some(value) = table.get(key)
                    && let Some(group) = self.report.string(value, &what, &example)
                {
                    group.clone_into(target);
                }
            }
        }
        config
    }

    fn section<'t, 'i>(
        &mut self,
        table: &'t DeTable<'i>,
        name: &str,
        keys: &[&str],
    ) -> Option<&'t DeTable<'i>> {
        Some(self.section_and_meant(table, name, keys)?.0)
    }

    /// With keys that were likely meant by those that are not known.
    fn section_and_meant<'t, 'i, 'k>(
        &mut self,
        table: &'t DeTable<'i>,
        name: &str,
        keys: &[&'k str],
    ) -> Option<(&'t DeTable<'i>, Vec<&'k str>)> {
        let value = table.get(name)?;
        let table = self.report.table(
            value,
            &format!("`{name}`"),
            &format!("`[{name}]` above its keys"),
        )?;
        let owner = format!(" in `[{name}]`");
        let meant = self.report.known_keys(table, keys, &owner);
        Some((table, meant))
    }

    fn path(&mut self, table: &DeTable<'_>, key: &str) -> Option<PathBuf> {
        let value = table.get(key)?;
        let what = format!("`{key}`");
        let text = self
            .report
            .string(value, &what, &format!("`{key} = \"/a/path\"`"))?;
        if text.is_empty() {
            self.report.error(
                &value.span(),
                format!("{what} is empty"),
                "name a path, or remove the key",
            );
            return None;
        }
        Some(self.folder.join(text))
    }

    fn paths(&mut self, table: &DeTable<'_>, key: &str) -> Vec<PathBuf> {
        let Some(value) = table.get(key) else {
            return Vec::new();
        };
        let example = format!("`{key} = [\"file.csv\"]`");
        self.report
            .strings(value, &format!("`{key}`"), &example)
            .into_iter()
            .map(|(_, name)| self.folder.join(name))
            .collect()
    }

    fn import(&mut self, table: &DeTable<'_>) -> asn::Options {
        let mut options = asn::Options::default();
        if let Some(value) = table.get("combine") {
            let words = [
                ("union", asn::Combine::Union),
                ("priority", asn::Combine::Priority),
            ];
            let found = self.report.word(value, "`combine`", &words, &[]);
            options.combine = found.unwrap_or_default();
        }
        if let Some(value) = table.get("vrps") {
            let words = [("annotate", false), ("add", true)];
            let found = self.report.word(value, "`vrps`", &words, &[]);
            options.add_vrps = found.unwrap_or_default();
        }
        if let Some(value) = table.get("min_peers") {
            let peers = value
                .get_ref()
                .as_integer()
                .and_then(|peers| u32::from_str_radix(peers.as_str(), peers.radix()).ok())
                .filter(|peers| (1..=10_000).contains(peers));
            match peers {
                Some(peers) => options.min_peers = peers,
                None => self.report.error(
                    &value.span(),
                    "`min_peers` must be a number of peers, from 1",
                    "write `min_peers = 10`, or remove the key",
                ),
            }
        }
        options
    }

    fn days(&mut self, table: &DeTable<'_>, key: &str) -> Option<Duration> {
        let value = table.get(key)?;
        let days = value
            .get_ref()
            .as_integer()
            .and_then(|days| u64::from_str_radix(days.as_str(), days.radix()).ok())
            .filter(|days| (1..=36_500).contains(days));
        if days.is_none() {
            self.report.error(
                &value.span(),
                format!("`{key}` must be a number of days, from 1"),
                format!("write `{key} = 14`, or remove the key"),
            );
        }
        days.map(|days| Duration::from_secs(days * 24 * 3600))
    }

    fn max_asns(&mut self, value: &Value<'_>) -> usize {
        let number = value.get_ref().as_integer();
        let number = number
            .and_then(|number| usize::from_str_radix(number.as_str(), number.radix()).ok())
            .filter(|number| (1..=100_000).contains(number));
        if number.is_none() {
            self.report.error(
                &value.span(),
                "`max_asns` must be a number of ASNs, from 1 to 100000",
                format!("write `max_asns = {MAX_ASNS}`, or remove the key"),
            );
        }
        number.unwrap_or(MAX_ASNS)
    }

    fn listen(&mut self, table: &DeTable<'_>) -> Option<SocketAddr> {
        const EXAMPLE: &str = "`listen = \"127.0.0.1:9754\"`";
        let Some(value) = table.get("listen") else {
            return Some(METRICS);
        };
        let text = self.report.string(value, "`listen`", EXAMPLE)?;
        if text == "off" {
            return None;
        }
        let address = text.parse().ok();
        if address.is_none() {
            self.report.error(
                &value.span(),
                format!("{} is not an address with a port", quoted(text)),
                format!("write {EXAMPLE}, or `listen = \"off\"`"),
            );
        }
        address
    }

    fn interfaces(&mut self, value: &Value<'_>) -> Vec<Interface> {
        const EXAMPLE: &str = "`[[interface]]` above each interface";
        let (mut devices, mut names) = (BTreeSet::new(), BTreeSet::new());
        let mut interfaces = Vec::new();
        for value in self
            .report
            .list(value, "`interface`", EXAMPLE)
            .unwrap_or_default()
        {
            let Some(table) = self.report.table(value, "an interface", EXAMPLE) else {
                continue;
            };
            let Some(interface) = self.interface(table, value) else {
                continue;
            };
            for (key, name, known) in [
                ("device", &interface.device, &mut devices),
                ("name", &interface.name, &mut names),
            ] {
                if !known.insert(name.clone()) {
                    let span = table.get(key).unwrap_or(value).span();
                    self.report.error(
                        &span,
                        format!("two interfaces have the {key} {}", quoted(name)),
                        "remove one of them, or give it another",
                    );
                }
            }
            interfaces.push(interface);
        }
        interfaces
    }

    fn interface(&mut self, table: &DeTable<'_>, value: &Value<'_>) -> Option<Interface> {
        const KEYS: [&str; 6] = [
            "device",
            "name",
            "mode",
            "unknown_vlans",
            "manage_offload",
            "guard",
        ];
        let report = &mut *self.report;
        let meant = report.known_keys(table, &KEYS, " of an interface");
        let text = |report: &mut Report<'_>, key: &str| {
            let value = table.get(key)?;
            let example = format!("`{key} = \"eth1\"`");
            report
                .string(value, &format!("`{key}` of an interface"), &example)
                .map(str::to_owned)
        };
        let device = text(report, "device");
        let name = text(report, "name");
        if let Some(value) = table.get("device")
            && let Some(device) = &device
            && (device.is_empty()
                || device.len() > 15
                || matches!(device.as_str(), "." | "..")
                || device.contains(|c: char| {
                    matches!(c, '/' | ':') || c.is_whitespace() || c.is_control()
                }))
        {
            report.error(
                &value.span(),
                format!("{} cannot be the name of a device", quoted(device)),
                "`ip link` shows the names: 1 to 15 bytes, without `/`, `:` and spaces",
            );
        }
        if let Some(value) = table.get("name")
            && name.as_deref() == Some("")
        {
            report.error(
                &value.span(),
                "`name` of an interface is empty",
                "give it the name that policies use, or remove the key",
            );
        }
        let mode = table.get("mode").and_then(|value| {
            if value.get_ref().as_str() == Some("tc") {
                report.error(
                    &value.span(),
                    "mode `tc` is not available yet",
                    "use `\"generic\"`; with `rx-vlan-offload`, set `manage_offload = true`",
                );
                return None;
            }
            let words = [
                ("auto", Mode::Auto),
                ("native", Mode::Native),
                ("generic", Mode::Generic),
            ];
            let synonyms = [("driver", "native"), ("drv", "native"), ("skb", "generic")];
            report.word(value, "`mode` of an interface", &words, &synonyms)
        });
        let drop_unknown = table.get("unknown_vlans").and_then(|value| {
            let words = [("pass", false), ("drop", true)];
            report.word(value, "`unknown_vlans` of an interface", &words, &[])
        });
        let manage_offload = table.get("manage_offload").and_then(|value| {
            let what = "`manage_offload` of an interface";
            report.boolean(value, what, "`manage_offload = true`")
        });
        let guard = table
            .get("guard")
            .and_then(|value| report.boolean(value, "`guard` of an interface", "`guard = false`"));
        if !table.contains_key("device") && !meant.contains(&"device") {
            report.error(
                &value.span(),
                "an interface has no `device`",
                "name it as `ip link` does, for example `device = \"eth1\"`",
            );
        }
        let device = device?;
        Some(Interface {
            name: name.unwrap_or_else(|| device.clone()),
            device,
            mode: mode.unwrap_or_default(),
            drop_unknown: drop_unknown.unwrap_or_default(),
            manage_offload: manage_offload.unwrap_or_default(),
            guard: guard.unwrap_or(true),
        })
    }
}
