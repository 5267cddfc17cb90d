//! What `kordon block`, `allow` and `unblock` change: a file of its own in
//! the state directory, evaluated before the administrator's rules, which are never
//! rewritten. Entries are kept newest first, so that the last word counts:
//! an `allow` of one address after a `block` of its network is an exception.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use ipnet::IpNet;
use jiff::Timestamp;
use kordon_ebpf::layout::Action;
use toml::de::DeTable;

use super::model::{Policy, Rule, Set, Target};
use super::rules::zone_id;
use super::text::{Report, Value};
use super::values::{self, AsnOrPrefix};
use crate::asn::Country;
use crate::diagnostic::{Diagnostic, Diagnostics, Problem, quoted};

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayAction {
    /// A `drop` rule.
    Block,
    /// A `pass` rule.
    Allow,
}

impl OverlayAction {
    /// The command, which is also the word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Allow => "allow",
        }
    }
}

/// What an entry is aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OverlayTarget {
    /// Everything that this ASN announces.
    Asn(u32),
    /// The address blocks that are delegated to a country.
    Country(Country),
    /// A network, host bits clear.
    Prefix(IpNet),
}

impl fmt::Display for OverlayTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asn(asn) => write!(f, "AS{asn}"),
            Self::Country(country) => write!(f, "{country}"),
            Self::Prefix(prefix) => write!(f, "{prefix}"),
        }
    }
}

impl FromStr for OverlayTarget {
    type Err = Problem;

    /// `AS64500`, `RU`, `203.0.113.0/24` or an address.
    fn from_str(text: &str) -> Result<Self, Problem> {
        if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Ok(Self::Country(values::country(text)?));
        }
        match values::asn_or_prefix(text) {
            Ok(AsnOrPrefix::Prefix(prefix)) => Ok(Self::Prefix(prefix)),
            Ok(AsnOrPrefix::Asns(asns)) if asns.start() == asns.end() => {
                Ok(Self::Asn(*asns.start()))
            }
            Ok(AsnOrPrefix::Asns(_)) => Err(Problem::new(
                format!("{} is more than one ASN", quoted(text)),
                "name one at a time, or a set in the policy",
            )),
            Err(problem) if text.bytes().any(|byte| byte.is_ascii_digit()) => Err(problem),
            Err(_) => Err(Problem::new(
                format!("{} is not a target", quoted(text)),
                "a target is an ASN (`AS64500`), a country (`RU`) or a prefix (`203.0.113.0/24`)",
            )),
        }
    }
}

/// One `block` or `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayEntry {
    /// Block or allow.
    pub action: OverlayAction,
    /// What.
    pub target: OverlayTarget,
    /// For which zone; `*` is every zone.
    pub zone: String,
    /// The entry does not exist from this moment on.
    pub until: Option<Timestamp>,
    /// The administrator's words.
    pub note: Option<String>,
    /// When the command was given.
    pub added: Timestamp,
}

impl OverlayEntry {
    /// The name of its rule: `block AS64500 cameras`.
    #[must_use]
    pub fn rule_name(&self) -> String {
        format!("{} {} {}", self.action.as_str(), self.target, self.zone)
    }
}

/// All entries, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Where it is kept, as diagnostics name it.
    pub file: String,
    /// Newest first: the first that matches decides.
    pub entries: Vec<OverlayEntry>,
}

impl Overlay {
    /// Parses the file's text.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let mut report = Report::new(file, text.strip_prefix('\u{feff}').unwrap_or(text));
        let mut entries = Vec::new();
        if let Some(table) = report.toml() {
            report.known_keys(&table, &["entry"], "");
            if let Some(value) = table.get("entry") {
                let example = "`[[entry]]` above each entry";
                for value in report.list(value, "`entry`", example).unwrap_or_default() {
                    if let Some(table) = report.table(value, "an entry", example) {
                        entries.extend(read_entry(&mut report, table, value));
                    }
                }
            }
        }
        if report.found.ok() {
            Ok(Self {
                file: file.to_owned(),
                entries,
            })
        } else {
            Err(report.found)
        }
    }

    /// The file's text.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let string = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let mut out = String::from(
            "# Written by `kordon block`, `allow` and `unblock`; evaluated before the policy's rules.\n\
             # Newest first: the first that matches decides.\n",
        );
        for entry in &self.entries {
            let mut line = |key: &str, value: &dyn fmt::Display| {
                writeln!(out, "{key} = {value}").expect("writing to a string cannot fail");
            };
            line("\n[[entry]]\naction", &string(entry.action.as_str()));
            line("target", &string(&entry.target.to_string()));
            line("zone", &string(&entry.zone));
            line("added", &entry.added);
            if let Some(until) = &entry.until {
                line("until", until);
            }
            if let Some(note) = &entry.note {
                line("note", &string(note));
            }
        }
        out
    }

    /// Adds an entry as the newest; one for the same target and zone is replaced. Who
    /// says the same again without a note does not take back the first one, and where no
    /// exception has been made since, nothing changes.
    pub fn add(&mut self, mut entry: OverlayEntry) {
        if let Some(at) = self.position(entry.target, &entry.zone) {
            let (newer, before) = (&self.entries[..at], &self.entries[at]);
            if before.action == entry.action {
                entry.note = entry.note.or_else(|| before.note.clone());
                let is_same = (before.until, &before.note) == (entry.until, &entry.note);
                if is_same && newer.iter().all(|newer| newer.action == entry.action) {
                    return;
                }
            }
            self.entries.remove(at);
        }
        self.entries.insert(0, entry);
    }

    fn position(&self, target: OverlayTarget, zone: &str) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries.position(|entry| entry.target == target && entry.zone == zone)
    }

    /// Removes the entry for this target and zone, and says what it was.
    pub fn remove(&mut self, target: OverlayTarget, zone: &str) -> Option<OverlayEntry> {
        let at = self.position(target, zone)?;
        Some(self.entries.remove(at))
    }

    /// An entry of a network that has this one in it, or of the same for another zone: what
    /// may be meant where there is none for `target`.
    #[must_use]
    pub fn around(&self, target: OverlayTarget) -> Option<&OverlayEntry> {
        let has_it = |entry: &&OverlayEntry| match (entry.target, target) {
            (OverlayTarget::Prefix(whole), OverlayTarget::Prefix(part)) => whole.contains(&part),
            (other, target) => other == target,
        };
        self.entries.iter().find(has_it)
    }

    /// Forgets entries that have ended; says whether there were any.
    pub fn prune(&mut self, now: Timestamp) -> bool {
        let before = self.entries.len();
        self.entries
            .retain(|entry| entry.until.is_none_or(|until| until > now));
        self.entries.len() != before
    }

    /// Puts the entries' rules in front of the policy's. A zone that the policy
    /// does not have is an error: the block would be lost.
    pub(super) fn add_to(&self, policy: &mut Policy, now: Timestamp, found: &mut Diagnostics) {
        let names: Vec<&str> = policy.zones.iter().map(|z| z.name.as_str()).collect();
        let mut rules = Vec::new();
        let mut sets = Vec::new();
        for entry in &self.entries {
            if entry.until.is_some_and(|until| until <= now) {
                continue;
            }
            let from = if entry.zone == "*" {
                (0..names.len()).collect()
            } else {
                match zone_id(&entry.zone, &names) {
                    Ok(id) => vec![id],
                    Err(problem) => {
                        found.errors.push(Diagnostic::of_file(
                            &self.file,
                            format!("{}: {}", quoted(&entry.rule_name()), problem.message),
                            format!(
                                "{}; `kordon unblock {} --zone {}` removes the entry",
                                problem.help, entry.target, entry.zone
                            ),
                        ));
                        continue;
                    }
                }
            };
            if from.is_empty() {
                continue;
            }
            let mut set = Set {
                name: entry.rule_name(),
                ..Set::default()
            };
            match entry.target {
                OverlayTarget::Asn(asn) => {
                    set.asns.push(asn..=asn);
                    set.named_asns.push(asn..=asn);
                }
                OverlayTarget::Country(country) => set.countries.push(country),
                OverlayTarget::Prefix(prefix) => set.prefixes.push(prefix),
            }
            rules.push(Rule {
                name: entry.rule_name(),
                from,
                to: vec![Target::Set(policy.sets.len() + sets.len())],
                proto: None,
                ports: Vec::new(),
                action: match entry.action {
                    OverlayAction::Block => Action::Drop,
                    OverlayAction::Allow => Action::Pass,
                },
                note: entry.note.clone(),
                until: entry.until,
                overlay: true,
            });
            sets.push(set);
        }
        policy.sets.append(&mut sets);
        rules.append(&mut policy.rules);
        policy.rules = rules;
    }
}

fn read_entry(
    report: &mut Report<'_>,
    table: &DeTable<'_>,
    value: &Value<'_>,
) -> Option<OverlayEntry> {
    const KEYS: [&str; 6] = ["action", "target", "zone", "added", "until", "note"];
    let meant = report.known_keys(table, &KEYS, " in an entry");
    for key in ["action", "target", "zone", "added"] {
        if !table.contains_key(key) && !meant.contains(&key) {
            report.error(
                &value.span(),
                format!("an entry has no `{key}`"),
                "remove the entry and repeat the `kordon block` or `kordon allow`",
            );
        }
    }
    let actions = [
        ("block", OverlayAction::Block),
        ("allow", OverlayAction::Allow),
    ];
    let action = table
        .get("action")
        .and_then(|v| report.word(v, "`action` of an entry", &actions, &[]));
    let target = table.get("target").and_then(|v| {
        let text = report.string(v, "`target` of an entry", "`target = \"AS64500\"`")?;
        report.checked(&v.span(), text.parse())
    });
    let zone = table
        .get("zone")
        .and_then(|v| report.string(v, "`zone` of an entry", "`zone = \"cameras\"`"));
    let note = table
        .get("note")
        .and_then(|v| report.string(v, "`note` of an entry", "`note = \"ticket 4711\"`"));
    let added = table
        .get("added")
        .and_then(|v| report.instant(v, "`added` of an entry"));
    let until = table
        .get("until")
        .and_then(|v| report.instant(v, "`until` of an entry"));
    Some(OverlayEntry {
        action: action?,
        target: target?,
        zone: zone?.to_owned(),
        until,
        note: note.map(str::to_owned),
        added: added?,
    })
}
