//! What can go wrong with a log that is written. Apart from [`super::log`], because the keys and the tiles fail in the
//! same ways.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a log could not be opened, appended to or signed. The message names the file and what was tried.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The kernel refused something. After `ENOSPC` or `EFBIG` the same call may succeed later.
    #[error("cannot {what} `{}`: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process, or another [`super::log::Log`] of this one, has the folder open.
    #[error("`{}` is in use: another process holds its lock", .0.display())]
    Locked(PathBuf),
    /// The origin cannot be the name of a key (C2SP signed-note: not empty, no white space, no `+`), or is not the one
    /// that the log was made with.
    #[error("the origin `{origin}` {what}")]
    Origin {
        /// The origin asked for.
        origin: String,
        /// What is wrong with it.
        what: String,
    },
    /// The folder does not hold what its checkpoint says. Nothing has been changed: the folder is evidence. Whoever
    /// must go on moves it away and opens a new one.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file that does not fit.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The line cannot be a record.
    #[error("the record {0}")]
    Line(&'static str),
}

impl LogError {
    /// Makes the error of an I/O operation, to be handed to `map_err`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what: what.into(),
        }
    }
}
