//! Messages of the control socket: one JSON object per line, a request and its
//! answer. The version is in every request, so that an old CLI and a new daemon
//! part with a clear word.

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use crate::judge::ExplainQuery;

/// Version of these messages.
pub const PROTOCOL_VERSION: u32 = 2;
/// Longest request or answer, bytes.
pub const MAX_MESSAGE: usize = 64 << 20;
/// Longest request of those who may only ask, bytes.
pub const MAX_QUESTION: usize = 64 << 10;
/// Files that may come with a request.
pub const MAX_FILES: usize = 16;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Ask.
    Read,
    /// Also change what is enforced, or give the daemon work without measure.
    Change,
}

/// What the CLI sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`PROTOCOL_VERSION`].
    pub version: u32,
    /// What is asked.
    pub request: Request,
    /// Who began the session in which it was typed; only root is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<u32>,
}

/// One file of a policy, as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFile {
    /// Name relative to the policy's folder; the policy itself comes first.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Request {
    /// What is enforced, where, since when.
    Status,
    /// Make this policy live.
    Apply {
        /// Path as the user gave it, for messages.
        path: String,
        /// The policy and its list files.
        files: Vec<PolicyFile>,
        /// Roll back by itself after so many seconds unless confirmed.
        confirm_seconds: Option<u64>,
        /// Whatever would be asked about.
        #[serde(default)]
        yes: bool,
    },
    /// Keep what `Apply` with `confirm_seconds` made live.
    Confirm,
    /// Return to the policy before.
    Rollback,
    /// What was live, newest first.
    History,
    /// Add a rule to the overlay.
    Block(Change),
    /// Add a rule to the overlay.
    Allow(Change),
    /// Take a rule out of the overlay.
    Unblock(Change),
    /// Who sent what to whom.
    Flows(FlowsQuery),
    /// What of that is not in the log of evidence yet.
    Unwritten,
    /// The verdict on a packet, by the live policy.
    Explain(ExplainQuery),
    /// An address, `AS…`, a country or text, in the live database.
    Lookup {
        /// What to look for.
        query: String,
        /// Entries of each list, at most.
        limit: Option<usize>,
    },
    /// What the live database is made of.
    AsndbInfo,
    /// Replace the live database by what these files hold.
    AsndbImport {
        /// What the ASN sources that come with the request are called.
        asn: Vec<String>,
        /// Likewise, the country sources behind them.
        countries: Vec<String>,
        /// Whatever the gate says.
        #[serde(default)]
        accept: bool,
        /// Although signatures are asked for.
        #[serde(default)]
        unsigned: bool,
    },
    /// Fetch the configured sources and use what they hold.
    AsndbUpdate {
        /// Whatever the gate says; what is held back is taken without fetching.
        accept: bool,
        /// Only if what is held back is this.
        #[serde(default)]
        id: Option<String>,
    },
    /// Throw away what is held back.
    AsndbDiscard,
    /// Somebody has seen what the last update warned of.
    AsndbAcknowledge,
    /// What an update that is under way does.
    AsndbProgress,
    /// What these files, or else the update that is held back, would change.
    AsndbDiff {
        /// What the ASN sources that come with the request are called.
        asn: Vec<String>,
        /// Likewise, the country sources behind them.
        countries: Vec<String>,
    },
    /// Stop enforcing: take programs and maps off.
    Detach {
        /// Where whoever asks means that they are pinned; `None`: wherever.
        bpffs: Option<String>,
    },
}

impl Request {
    /// The right that it takes. There is no arm for all others on purpose: who adds a
    /// request says here whether it is a question.
    #[must_use]
    pub const fn needs(&self) -> Right {
        match self {
            Self::Status
            | Self::History
            | Self::Explain(_)
            | Self::Flows(_)
            | Self::Unwritten
            | Self::Lookup { .. }
            | Self::AsndbInfo
            | Self::AsndbProgress => Right::Read,
            // Of the update that is held back; other files are read first, and that is work.
            Self::AsndbDiff { asn, countries } if asn.is_empty() && countries.is_empty() => {
                Right::Read
            }
            Self::Apply { .. }
            | Self::Confirm
            | Self::Rollback
            | Self::Block(_)
            | Self::Allow(_)
            | Self::Unblock(_)
            | Self::AsndbImport { .. }
            | Self::AsndbUpdate { .. }
            | Self::AsndbDiscard
            | Self::AsndbAcknowledge
            | Self::AsndbDiff { .. }
            | Self::Detach { .. } => Right::Change,
        }
    }

    /// The command that asks, as it is typed.
    #[must_use]
    pub const fn command(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Apply { .. } => "apply",
            Self::Confirm => "confirm",
            Self::Rollback => "rollback",
            Self::History => "history",
            Self::Block(_) => "block",
            Self::Allow(_) => "allow",
            Self::Unblock(_) => "unblock",
            Self::Explain(_) => "explain",
            Self::Flows(_) | Self::Unwritten => "flows",
            Self::Lookup { .. } => "lookup",
            Self::AsndbInfo => "asndb info",
            Self::AsndbImport { .. } => "asndb import",
            Self::AsndbUpdate { .. } | Self::AsndbProgress => "asndb update",
            Self::AsndbDiscard => "asndb discard",
            Self::AsndbAcknowledge => "asndb acknowledge",
            Self::AsndbDiff { .. } => "asndb diff",
            Self::Detach { .. } => "detach",
        }
    }
}

/// Which flows are asked for; what is `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsQuery {
    /// Name of the zone.
    pub zone: Option<String>,
    /// MAC address or source address.
    pub camera: Option<String>,
    /// The network of the destination.
    pub asn: Option<u32>,
    /// Its country, ISO 3166.
    #[serde(default)]
    pub country: Option<String>,
    /// `pass`, `audit` or `drop`.
    pub action: Option<String>,
    /// Added up.
    pub sum: Option<SumBy>,
    /// How many, the largest.
    pub limit: Option<usize>,
}

/// By what flows are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SumBy {
    /// Who sent it.
    Camera,
    /// Where it went.
    Network,
}

/// One overlay entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `AS64500`, `RU`, `192.0.2.0/24`.
    pub target: String,
    /// The zone.
    pub zone: String,
    /// For how long, seconds.
    pub for_seconds: Option<u64>,
    /// The administrator's words.
    pub note: Option<String>,
    /// Whatever would be asked about.
    #[serde(default)]
    pub yes: bool,
}

impl Change {
    /// As it would be typed.
    #[must_use]
    pub fn command(&self, command: &str) -> String {
        let mut text = format!("{command} {} --zone {}", self.target, self.zone);
        if let Some(seconds) = self.for_seconds {
            text.push_str(&format!(" --for {seconds}s"));
        }
        if let Some(note) = &self.note {
            text.push_str(&format!(" --note {note:?}"));
        }
        if self.yes {
            text.push_str(" --yes");
        }
        text
    }
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What was asked for; its fields are those of the command's `--json`.
    Ok(serde_json::Value),
    /// It was not done, and nothing changed.
    Error(Refusal),
}
