//! What is wrong with an input, where, and what to do about it. One form for
//! policies, configuration, list files and databases, so that `check --json`,
//! the terminal and the control socket say the same.

use serde::{Deserialize, Serialize};

/// One error or warning. Message and help follow the same style: lower case, no
/// full stop, the user's words in backticks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// What would cure it.
    pub help: Option<String>,
    /// Path as the user gave it.
    pub file: String,
    /// From 1; 0 where no place can be named (a file that cannot be read).
    pub line: usize,
    /// From 1, in characters; 0 where no place can be named.
    pub column: usize,
    /// The underlined part of the line.
    pub text: String,
}

/// Everything that was found in one go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// What makes the input unusable.
    pub errors: Vec<Diagnostic>,
    /// What is allowed and likely not meant.
    pub warnings: Vec<Diagnostic>,
}
