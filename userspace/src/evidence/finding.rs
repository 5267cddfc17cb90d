//! What a verifier finds: where, and in words.

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where: a path below the log's folder, or `outside N` for the checkpoint with that place in the list (from 0).
    pub file: String,
    /// The line in it, from 1.
    pub line: Option<u64>,
    /// What is wrong, to be read after file and line.
    pub what: String,
}

impl Finding {
    pub(crate) fn new(file: impl Into<String>, line: Option<u64>, what: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line,
            what: what.into(),
        }
    }
}
