//! Files that are replaced whole: written and synced under another name first, so that what is
//! left to do is a rename, which needs no room; and put back where what follows fails.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use tempfile::{NamedTempFile, TempPath};

use crate::{
    daemon::refusal::Refusal,
    datapath::faults::{self, Step},
    diagnostic::quoted,
    regular,
};

/// The state cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// Another daemon uses it.
    #[error("another daemon uses {}; stop it, or give this one its own {what}", quoted(.path))]
    Taken {
        /// What is shared.
        path: String,
        /// The option that tells them apart.
        what: &'static str,
    },
    /// The system said no.
    #[error("cannot {operation} {}: {source}", quoted(.path))]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Files are what they were in part only.
    #[error("{error}; and {restore}")]
    Torn {
        /// What failed.
        error: Box<StateError>,
        /// What was tried to make up for it.
        restore: Box<StateError>,
    },
}

impl StateError {
    /// What somebody else tried, and says of it.
    pub(crate) fn other(
        operation: &'static str,
        path: &Path,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        failed(operation, path)(io::Error::other(source))
    }
}

pub(super) fn failed<'p>(
    operation: &'static str,
    path: &'p Path,
) -> impl FnOnce(io::Error) -> StateError + 'p {
    move |source| StateError::Io {
        operation,
        path: path.display().to_string(),
        source,
    }
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        Self::new(
            error.to_string(),
            "nothing changed; see to the room and the rights of the state directory",
        )
    }
}

/// A file that is written and synced, and lacks nothing but its name.
#[derive(Debug)]
pub(crate) struct Prepared {
    file: NamedTempFile,
    path: PathBuf,
}

impl Prepared {
    pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<Self, StateError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let write = || {
            let mut file = NamedTempFile::with_prefix_in(".new-", folder).or_else(|e| {
                // The disk may have come back without it.
                if e.kind() != io::ErrorKind::NotFound || make_folder(folder).is_err() {
                    return Err(e);
                }
                NamedTempFile::with_prefix_in(".new-", folder)
            })?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        Ok(Self {
            file: write()
                .map_err(regular::nameless)
                .map_err(failed("write", path))?,
            path: path.to_owned(),
        })
    }

    /// A file that was written and synced by somebody else.
    pub(crate) fn of(file: NamedTempFile, path: &Path) -> Self {
        Self {
            file,
            path: path.to_owned(),
        }
    }

    pub(crate) fn commit(self) -> Result<(), StateError> {
        let Self { file, path } = self;
        let folder = path.parent().unwrap_or(Path::new("."));
        give_way(&path)?;
        file.persist(&path)
            .map_err(|e| e.error)
            .and_then(|_| File::open(folder)?.sync_all())
            .map_err(failed("replace", &path))
    }
}

/// A file takes the place of everything but a folder, which somebody else has put there.
fn give_way(path: &Path) -> Result<(), StateError> {
    if !path.is_dir() {
        return Ok(());
    }
    let mut aside = path.to_owned().into_os_string();
    aside.push(".damaged");
    fs::rename(path, aside).map_err(failed("replace", path))
}

/// What files were before they are replaced, by links; forgotten when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Before(Vec<(PathBuf, Option<TempPath>)>);

impl Before {
    /// Of some files, which may not be there yet.
    pub(crate) fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Result<Self, StateError> {
        let link = |path: &Path| {
            give_way(path)?;
            let folder = path.parent().unwrap_or(Path::new("."));
            let link = tempfile::Builder::new()
                .prefix(".new-")
                .make_in(folder, |link| {
                    // Some file systems have no links.
                    fs::hard_link(path, link).or_else(|_| fs::copy(path, link).map(drop))
                });
            match link {
                Ok(link) => Ok((path.to_owned(), Some(link.into_temp_path()))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok((path.to_owned(), None)),
                Err(e) => Err(failed("keep", path)(regular::nameless(e))),
            }
        };
        let all = paths.into_iter().map(link).collect::<Result<_, _>>()?;
        Ok(Self(all))
    }

    /// Puts back what was there.
    pub(crate) fn restore(mut self) -> Result<(), StateError> {
        self.put_back()
    }

    /// Puts back what was there after something failed: that, and whether this failed, too.
    pub(crate) fn undo(self, error: StateError) -> StateError {
        match self.restore() {
            Ok(()) => error,
            Err(restore) => StateError::Torn {
                error: Box::new(error),
                restore: Box::new(restore),
            },
        }
    }

    fn put_back(&mut self) -> Result<(), StateError> {
        let back = |(path, before): (PathBuf, Option<TempPath>)| {
            let folder = path.parent().unwrap_or(Path::new("."));
            faults::reach(Step::Restore)
                .map_err(io::Error::other)
                .and_then(|()| match before {
                    Some(before) => {
                        let link = before.to_path_buf();
                        let back = before.persist(&path).map_err(|e| e.error);
                        // Where it was not replaced both are one file, and renaming does nothing.
                        let _ = fs::remove_file(link);
                        back
                    }
                    None => match fs::remove_file(&path) {
                        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                        _ => Ok(()),
                    },
                })
                .and_then(|()| File::open(folder)?.sync_all())
                .map_err(failed("put back", &path))
        };
        // As many as can be.
        let all: Vec<_> = std::mem::take(&mut self.0).into_iter().map(back).collect();
        all.into_iter().collect()
    }
}

impl Drop for Before {
    /// What panics has not become live, and is not to be found by the next start.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Err(e) = self.put_back()
        {
            tracing::error!("a start would make a part of a change live that failed: {e}");
        }
    }
}

/// Gives files their names: all of them, or none.
pub(crate) fn commit(files: Vec<Prepared>) -> Result<Before, StateError> {
    let before = Before::of(files.iter().map(|file| &*file.path))?;
    for file in files {
        let path = file.path.clone();
        let named = faults::reach(Step::Keep)
            .map_err(|e| failed("replace", &path)(io::Error::other(e)))
            .and_then(|()| file.commit());
        if let Err(e) = named {
            return Err(before.undo(e));
        }
    }
    Ok(before)
}

/// Makes a folder that only root may look into.
pub(super) fn make_folder(path: &Path) -> Result<(), StateError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o750);
    builder.create(path).map_err(failed("make", path))
}
