//! Why an operation was not done: what the daemon answers then, and what a command prints.

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Diagnostics, Problem};

/// It was not done, and nothing changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why.
    pub message: String,
    /// What would cure it.
    pub help: Option<String>,
    /// Findings in files, where files are the reason.
    pub diagnostics: Diagnostics,
}

impl Refusal {
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: Some(help.into()),
            ..Self::default()
        }
    }

    /// Something below said no; its message has the cure, where there is one.
    pub(crate) fn from_error(error: impl std::fmt::Display) -> Self {
        Self {
            message: error.to_string(),
            ..Self::default()
        }
    }

    /// Findings in files.
    pub(crate) fn found(what: &str, diagnostics: Diagnostics) -> Self {
        let count = diagnostics.errors.len();
        Self {
            message: match count {
                1 => format!("{what} has an error"),
                _ => format!("{what} has {count} errors"),
            },
            help: None,
            diagnostics,
        }
    }

    /// On one line, for the log.
    pub(crate) fn in_words(&self) -> String {
        let mut words = self.message.clone();
        for error in &self.diagnostics.errors {
            words.push_str("; ");
            words.push_str(&in_words(error));
        }
        if let Some(help) = &self.help {
            words.push_str(": ");
            words.push_str(help);
        }
        words
    }
}

impl From<Diagnostic> for Refusal {
    fn from(error: Diagnostic) -> Self {
        Self::found("the request", error.into())
    }
}

impl From<Problem> for Refusal {
    fn from(Problem { message, help }: Problem) -> Self {
        Self::new(message, help)
    }
}

/// A diagnostic on one line.
pub(crate) fn in_words(diagnostic: &Diagnostic) -> String {
    let Diagnostic {
        file,
        line,
        message,
        ..
    } = diagnostic;
    match line {
        0 => message.clone(),
        line => format!("{file} line {line}: {message}"),
    }
}
