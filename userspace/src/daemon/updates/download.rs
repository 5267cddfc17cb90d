//! Sources of one update: what each server sent, and what speaks against it.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{Timestamp, fmt::rfc2822};
use tempfile::NamedTempFile;

use crate::{
    asn::{
        Concern,
        fetch::{FetchError, Fetched, Mismatch, Progress, Remote, Validators, fetch},
        gate::Kind,
    },
    config::Config,
    daemon::{
        refusal::Refusal,
        state::StateError,
        updates::{held::Origin, slot::Slot},
    },
    diagnostic::Diagnostics,
};

/// What was asked for from one address.
pub(crate) struct Download {
    pub(crate) slot: Slot,
    /// `None`: what is there stays.
    pub(crate) file: Option<(NamedTempFile, Validators)>,
    /// The server calls it older than what is there.
    older: Option<Concern>,
    /// It is not what its publisher means.
    mismatch: Option<Mismatch>,
}

impl Download {
    /// Nothing is asked for.
    pub(crate) fn none(remote: &Remote, folder: &Path) -> Self {
        Self {
            slot: Slot::of(folder, remote),
            file: None,
            older: None,
            mismatch: None,
        }
    }

    /// What the file is, for people.
    pub(crate) fn origin(&self) -> Origin {
        let stored = self.slot.known();
        let known = self.file.as_ref().map(|(_, known)| known);
        Origin::of_fetched(self.slot.url(), known.or(stored.as_ref()))
    }

    /// Asks for one source, by the clock only if it is due; a failure is no reason to give
    /// up the others.
    pub(crate) fn of(
        remote: &Remote,
        folder: &Path,
        config: &Config,
        by_clock: bool,
        progress: &Progress,
    ) -> Result<(Self, Option<FetchError>), StateError> {
        let mut download = Self::none(remote, folder);
        let slot = &download.slot;
        if by_clock && slot.path().exists() && until_due(slot, remote) > Duration::ZERO {
            return Ok((download, None));
        }
        let known = slot.known();
        let fetching = &config.updates.fetching;
        match fetch(remote, known.as_ref(), folder, fetching, progress) {
            Ok(Fetched::New(file, now)) => {
                download.older = known.and_then(|before| older_edition(slot.url(), &before, &now));
                download.file = Some((file, now));
            }
            Ok(Fetched::Doubtful(file, now, mismatch)) => {
                download.file = Some((file, now));
                download.mismatch = Some(mismatch);
            }
            Ok(Fetched::Unchanged) => {
                if let Some(known) = known {
                    slot.confirm(known)?;
                }
            }
            Err(e) => {
                // Said once, with what comes of it.
                tracing::debug!("{e}");
                return Ok((download, Some(e)));
            }
        }
        Ok((download, None))
    }

    /// What speaks against the file, said once.
    pub(crate) fn doubts(&mut self) -> impl Iterator<Item = Concern> {
        let mismatch = self.mismatch.take().map(|mismatch| Concern {
            kind: Kind::Checksum,
            message: mismatch.to_string(),
        });
        self.older.take().into_iter().chain(mismatch)
    }
}

/// What files are called here, and by people: temporary names mean nothing to anybody.
pub(crate) struct Names(pub(crate) Vec<(PathBuf, String)>);

impl Names {
    /// Says people's names in a text that has others.
    pub(crate) fn rename(&self, text: &mut String) {
        for (path, name) in &self.0 {
            let path = path.display().to_string();
            if text.contains(&path) {
                *text = text.replace(&path, name);
            }
        }
    }

    pub(crate) fn renamed(&self, mut found: Diagnostics) -> Diagnostics {
        for diagnostic in found.errors.iter_mut().chain(&mut found.warnings) {
            self.rename(&mut diagnostic.file);
            self.rename(&mut diagnostic.message);
        }
        found
    }
}

/// Of files that were fetched: their addresses.
pub(crate) fn names(downloads: &[Download]) -> Names {
    // A file that is kept is called as its slot is, and something more.
    let paths = |d: &Download| {
        let new = d.file.as_ref().map(|(file, _)| file.path().to_owned());
        let url = d.slot.url().to_owned();
        let all = new.into_iter().chain([d.slot.path().to_owned()]);
        all.map(move |path| (path, url.clone())).collect::<Vec<_>>()
    };
    Names(downloads.iter().flat_map(paths).collect())
}

/// Why files did not come.
pub(crate) fn of_fetching(failures: &[FetchError], first: &FetchError) -> Refusal {
    let mut message = first.to_string();
    for more in failures.iter().skip(1) {
        let _ = write!(message, "; {more}");
    }
    Refusal::new(message, first.help())
}

/// What cannot be read, and whether it is not what it should be either.
pub(crate) fn unreadable(found: Diagnostics, downloads: &[Download]) -> Refusal {
    let mut refusal = Refusal::found("the update", names(downloads).renamed(found));
    for mismatch in downloads.iter().filter_map(|d| d.mismatch.as_ref()) {
        let _ = write!(refusal.message, "; {mismatch}");
        refusal.help = Some(Mismatch::HELP.to_owned());
    }
    refusal
}

/// How long until a source is to be asked for again.
pub(crate) fn until_due(slot: &Slot, remote: &Remote) -> Duration {
    let Some(checked) = slot.checked() else {
        return Duration::ZERO;
    };
    // The clock may have been set back.
    let since = Timestamp::now().duration_since(checked).unsigned_abs();
    remote.every.saturating_sub(since)
}

/// Another file than before, which the server says is from before it: one of several
/// servers under one name has not been updated, or a backup came back.
fn older_edition(url: &str, before: &Validators, now: &Validators) -> Option<Concern> {
    let date = |known: &Validators| rfc2822::parse(known.last_modified.as_deref()?).ok();
    let (before_at, now_at) = (date(before)?, date(now)?);
    (before.sha256 != now.sha256 && now_at < before_at).then(|| Concern {
        kind: Kind::Older,
        message: format!(
            "{url}: the server calls it of {}, and what is in use of {}",
            now_at.timestamp(),
            before_at.timestamp(),
        ),
    })
}
