//! How a command fails: in words on standard error, as an object on standard
//! output with `--json`, and by its exit code.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::output::colour;
use crate::{
    asn::ImportError,
    control::{client::ClientError, refusal::Refusal},
    diagnostic::{Diagnostics, Problem, printable_lines},
    policy::Bundle,
};

/// It was refused, is wrong, or failed.
pub(super) const FAILED: u8 = 1;
/// The command line cannot be used.
pub(super) const WRONG_USAGE: u8 = 2;
/// No daemon could be asked.
pub(super) const NO_DAEMON: u8 = 3;
/// Of `doctor`: something to look at, and nothing worse.
const LOOK: u8 = 4;

/// Why a command was not done.
#[derive(Debug, Default)]
pub(super) struct Failure {
    code: u8,
    /// Empty: everything was said already.
    message: String,
    help: Option<String>,
    found: Diagnostics,
    /// `found` for people.
    rendered: String,
    /// Standard output has an answer.
    answered: bool,
}

impl Failure {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code: FAILED,
            message: message.into(),
            help: Some(help.into()),
            ..Self::default()
        }
    }

    /// Something below failed; its message has the cure, where there is one. What a
    /// message says of its cause already is not said again.
    pub(super) fn from_error(error: &anyhow::Error) -> Self {
        let mut message = String::new();
        for cause in error.chain() {
            let cause = cause.to_string();
            if !message.contains(&cause) {
                if !message.is_empty() {
                    message.push_str(": ");
                }
                message.push_str(&cause);
            }
        }
        Self {
            code: FAILED,
            message,
            ..Self::default()
        }
    }

    pub(super) fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code: WRONG_USAGE,
            ..Self::new(message, help)
        }
    }

    /// With what would cure it.
    pub(super) fn with_help(mut self, help: &str) -> Self {
        self.help = Some(help.to_owned());
        self
    }

    /// What was asked for was printed; with `--json` that is the one object.
    pub(super) fn answered(mut self) -> Self {
        self.answered = true;
        self
    }

    /// A result that was printed, and is not a good one.
    pub(super) fn said() -> Self {
        Self {
            code: FAILED,
            ..Self::default()
        }
    }

    /// As [`Self::said`], where it was not known what only a daemon could say.
    pub(super) fn unseen() -> Self {
        Self {
            code: NO_DAEMON,
            ..Self::default()
        }
    }

    /// As [`Self::said`], where only somebody can tell whether it is a good one.
    pub(super) fn look() -> Self {
        Self {
            code: LOOK,
            ..Self::default()
        }
    }

    /// Findings in a policy, or in files that are not at hand.
    pub(super) fn found(found: Diagnostics, bundle: Option<&Bundle>) -> Self {
        let source = |file: &str| bundle.and_then(|bundle| bundle.source(file));
        Self {
            code: FAILED,
            rendered: found.render(source, colour()),
            found,
            ..Self::default()
        }
    }

    /// What a configuration has wrong, so that nobody knows which daemon is meant.
    pub(super) fn unasked(found: Diagnostics, message: &str, help: &str) -> Self {
        Self {
            code: NO_DAEMON,
            message: message.to_owned(),
            help: Some(help.to_owned()),
            ..Self::found(found, None)
        }
    }

    pub(super) fn code(&self) -> u8 {
        self.code
    }

    /// Whether the reason is that nobody listens.
    pub(super) fn no_daemon(&self) -> bool {
        self.code == NO_DAEMON
    }

    /// Findings, with the text that they are about.
    pub(super) fn with_source(mut self, bundle: &Bundle) -> Self {
        self.rendered = self.found.render(|file| bundle.source(file), colour());
        self
    }

    pub(super) fn print(&self) {
        let _ = io::stderr().write_all(self.text().as_bytes());
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let mut text = self.rendered.clone();
        if !self.message.is_empty() {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("error: {}\n", printable_lines(&self.message)));
            if let Some(help) = &self.help {
                text.push_str(&format!("help: {}\n", printable_lines(help)));
            }
        }
        text
    }

    pub(super) fn print_json(&self, out: &mut dyn Write) {
        if self.answered || self.message.is_empty() && self.found == Diagnostics::default() {
            return;
        }
        let _ = writeln!(out, "{}", self.json());
    }

    /// What `--json` says of it.
    pub(super) fn json(&self) -> Value {
        let mut value = self.found.json();
        value["ok"] = false.into();
        if !self.message.is_empty() {
            value["message"] = json!(self.message);
            value["help"] = json!(self.help);
        }
        value
    }
}

impl From<io::Error> for Failure {
    /// Of writing the output; who reads no more wants no more.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::default();
        }
        Self::new(
            format!("cannot write the output: {error}"),
            "check where it goes; what was asked for is done all the same, as `kordon status` shows",
        )
    }
}

impl From<Diagnostics> for Failure {
    fn from(found: Diagnostics) -> Self {
        Self::found(found, None)
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        error.0.into()
    }
}

impl From<Problem> for Failure {
    fn from(error: Problem) -> Self {
        Self::new(error.message, error.help)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: FAILED,
            message: refusal.message,
            help: refusal.help,
            ..refusal.diagnostics.into()
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        let code = match error {
            ClientError::NoDaemon { .. }
            | ClientError::Denied { .. }
            | ClientError::Broken { .. } => NO_DAEMON,
            ClientError::OtherVersion(_) => FAILED,
            ClientError::Refused(refusal) => return refusal.into(),
        };
        Self {
            code,
            message,
            ..Self::default()
        }
    }
}

/// What is not wrong enough to stop, on standard error.
pub(super) fn warn(found: &Diagnostics) {
    let warnings = Diagnostics {
        errors: Vec::new(),
        warnings: found.warnings.clone(),
    };
    let text = warnings.render(|_| None, colour());
    let _ = io::stderr().write_all(text.as_bytes());
}
