//! `kordon.toml`: what is local to one router. Read like a policy: all errors in
//! one go, each with file, line and cure.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use kordon_ebpf::layout::{FLOW_LINES, FLOW_LINES_USUAL};
use toml::de::DeTable;

mod asndb;
mod bmp;
mod evidence;
mod forward;
mod interfaces;
mod named;
mod reader;
#[cfg(test)]
mod tests;

pub use self::{
    asndb::Updates,
    bmp::{Bmp, USERS as BMP_USERS},
    evidence::Evidence,
    interfaces::{Interface, mode_word},
    named::meant,
};

use self::reader::Reader;
use crate::{
    asn,
    diagnostic::{Diagnostic, Diagnostics, did_you_mean, quoted},
    policy::text::{Report, Value},
};

/// Where the metrics are served unless the file says otherwise.
pub const METRICS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9754);
/// Where the control socket is unless the file says otherwise.
pub const SOCKET: &str = "/run/kordon/kordon.sock";
/// ASNs of a zone that have metrics of their own unless the file says otherwise.
pub const MAX_ASNS: usize = 1000;
/// Cameras of a zone that have metrics of their own unless the file says otherwise.
pub const MAX_CAMERAS: usize = 500;
/// Where state is kept unless the file says otherwise.
pub const STATE_DIR: &str = "/var/lib/kordon";
/// Where the log of evidence is in that unless the file says otherwise.
pub const EVIDENCE: &str = "evidence";
/// Bytes on the disk of the log of evidence that are left to what is enforced, which is often kept on the same one: with less
/// than these free, flows are not written.
pub const RESERVE: u64 = 128 << 20;
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
    /// Cameras of a zone that have metrics of their own, at most.
    pub max_cameras: usize,
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
    /// Lines of the ledger for each CPU; `None`: as many as is usual.
    pub lines: Option<u32>,
    /// The log of evidence; `None`: there is none.
    pub evidence: Option<Evidence>,
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

/// Reads a configuration. One is returned exactly when there are no errors.
#[must_use]
pub fn load(path: &Path) -> (Option<Config>, Diagnostics) {
    let (config, found) = salvage(path);
    (config.filter(|_| found.ok()), found)
}

/// As [`load`], with what can be read in spite of errors; what has one is as if it was not
/// there. For those who only want to know where a daemon is: nothing is returned where that is
/// not clear, or another daemon could be asked.
#[must_use]
pub fn salvage(path: &Path) -> (Option<Config>, Diagnostics) {
    let file = path.display().to_string();
    match crate::regular::read_text(path) {
        Ok(text) => {
            let (config, found) = read(path, &text);
            let is_clear = !found.errors.iter().any(|e| is_about_a_place(&text, e));
            (config.filter(|_| is_clear), found)
        }
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

/// Whether an error may be of what says where a daemon has its things: whether it stands in
/// `[control]`, or at a key of these, or like these.
fn is_about_a_place(text: &str, error: &Diagnostic) -> bool {
    const PLACES: [&str; 4] = ["control", "socket", "bpffs", "state_dir"];
    let before: Vec<&str> = text.lines().take(error.line).map(str::trim).collect();
    let section = before.iter().rev().find(|line| line.starts_with('['));
    [section, before.last()].into_iter().flatten().any(|line| {
        let ends = |c: char| c.is_whitespace() || "=].".contains(c);
        let name = line.trim_start_matches(['\u{feff}', '[', ' ']);
        let name = name
            .split(ends)
            .next()
            .unwrap_or_default()
            .trim_matches('"');
        PLACES.contains(&name) || did_you_mean(name, PLACES).is_some()
    })
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

impl Reader<'_, '_> {
    fn config(&mut self, table: &DeTable<'_>) -> Config {
        const KEYS: [&str; 12] = [
            "policy",
            "interface",
            "asndb",
            "bmp",
            "metrics",
            "ledger",
            "evidence",
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
            max_cameras: MAX_CAMERAS,
            state_dir: STATE_DIR.into(),
            bpffs: BPFFS.into(),
            socket: SOCKET.into(),
            group: GROUP.into(),
            read_group: READ_GROUP.into(),
            lines: None,
            evidence: None,
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
            let days = self.number(table, "max_age_days", 1..=36_500, 14);
            config.max_age = days.map(|days| DAY * days);
        }
        config.bmp = self.bmp(table);
        if let Some(table) = self.section(table, "metrics", &["listen", "max_asns", "max_cameras"])
        {
            let is_off = |value: &Value<'_>| value.get_ref().as_str() == Some("off");
            config.metrics = match table.get("listen") {
                Some(value) if is_off(value) => None,
                _ => self.listen(table, METRICS, "`listen = \"off\"`"),
            };
            for (key, usual, target) in [
                ("max_asns", MAX_ASNS, &mut config.max_asns),
                ("max_cameras", MAX_CAMERAS, &mut config.max_cameras),
            ] {
                if let Some(most) = self.number(table, key, 1..=100_000, usual as u32) {
                    *target = most as usize;
                }
            }
        }
        if let Some(table) = self.section(table, "ledger", &["lines"]) {
            config.lines = self.power(table, "lines", FLOW_LINES, FLOW_LINES_USUAL);
        }
        config.evidence = self.evidence(table);
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
}
