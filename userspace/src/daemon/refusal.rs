//! Why an operation was not done.
use crate::{
    control::protocol::Answer,
    diagnostic::{Diagnostic, Diagnostics},
};

/// It was not done, and nothing changed.
#[derive(Clone, Debug, Default, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) help: Option<String>,
    pub(super) diagnostics: Diagnostics,
}

impl Refusal {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: Some(help.into()),
            ..Self::default()
        }
    }

    /// Something below said no; its message has the cure, where there is one.
    pub(super) fn from_error(error: impl std::fmt::Display) -> Self {
        Self {
            message: error.to_string(),
            ..Self::default()
        }
    }

    /// Findings in files.
    pub(super) fn found(what: &str, diagnostics: Diagnostics) -> Self {
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

    pub(super) fn answer(self) -> Answer {
        Answer::Error {
            message: self.message,
            help: self.help,
            diagnostics: self.diagnostics,
        }
    }

    /// On one line, for the log.
    pub(super) fn in_words(&self) -> String {
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

/// A diagnostic on one line.
pub(super) fn in_words(diagnostic: &Diagnostic) -> String {
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
