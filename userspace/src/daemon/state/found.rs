//! Reads the state folder at a start: what is whole, what is damaged, and what the other copy still has.

use std::{fs, io, path::Path};

use serde_json::{Value, json};

use crate::{
    daemon::state::{Current, Record, StateDir, StateError, Whole, current_path, failed, sealed},
    diagnostic::quoted,
    policy::Overlay,
    regular,
};

const MISSING: &str = "it is missing";

/// A file that is not as it was written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", quoted(.path))]
pub(crate) struct Damage {
    path: String,
    why: String,
}

impl Damage {
    pub(super) fn new(path: &Path, why: impl Into<String>) -> Self {
        Self {
            path: path.display().to_string(),
            why: why.into(),
        }
    }
}

/// What is known of what was live.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) current: Current,
    /// `None`: there was none, or it is lost.
    pub(crate) record: Option<Record>,
    pub(crate) overlay: Overlay,
    /// Why the policy that was live is not known.
    pub(crate) policy_lost: Option<Damage>,
    /// Why what `block` and `allow` added is not known.
    pub(crate) overlay_lost: Option<Damage>,
    /// Files that cannot be read, of which there is another copy.
    pub(crate) repaired: Vec<Damage>,
}

/// All of a file that was sealed. `None`: there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Damage> {
    match regular::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Damage::new(path, format!("it cannot be read: {e}"))),
    }
}

/// The policy that was live last, as `status` shows it, for whoever looks on while no daemon
/// runs. `None`: none is known, or it cannot be read.
pub(crate) fn recorded(state_dir: &Path) -> Option<Value> {
    let bytes = read(&current_path(state_dir)).ok()??;
    let Whole {
        current, record, ..
    } = sealed::read_json(&bytes).ok()?;
    let pending = current.pending.as_ref();
    Some(json!({
        "path": record.bundle.file,
        "hash": record.hash,
        "applied_at": record.applied_at,
        "pending_confirm": pending.map(|pending| pending.until),
    }))
}

impl StateDir {
    /// What was live last.
    pub(crate) fn load(&self) -> Loaded {
        let path = self.current();
        let whole = read(&path).and_then(|bytes| {
            let read = |bytes: Vec<u8>| sealed::read_json::<Whole<'_>>(&bytes);
            let whole = bytes.map(read).transpose();
            whole.map_err(|why| Damage::new(&path, why))
        });
        let damage = match whole {
            Ok(Some(whole)) => match self.opened(whole) {
                Ok(loaded) => return loaded,
                Err(damage) => damage,
            },
            Ok(None) => Damage::new(&path, MISSING),
            Err(damage) => damage,
        };
        self.by_copies(damage)
    }

    /// By `current.json`, which is as it was written. What else there is are copies of it.
    fn opened(&self, whole: Whole<'_>) -> Result<Loaded, Damage> {
        let (current, record) = (whole.current.into_owned(), whole.record.into_owned());
        let path = self.overlay();
        let overlay = Overlay::parse(&path.display().to_string(), &whole.overlay)
            .map_err(|found| Damage::new(&self.current(), first_error(&found)))?;
        let mut repaired = Vec::new();
        match self.record(record.number) {
            Ok(copy) if copy == record => {}
            Ok(_) => repaired.push(Damage::new(
                &self.record_path(record.number),
                "it is not the policy that was live",
            )),
            Err(damage) => repaired.push(damage),
        }
        match read_overlay(&path) {
            Ok(Some(copy)) if copy.entries == overlay.entries => {}
            // Before the first command there is none.
            Ok(None) if overlay.entries.is_empty() => {}
            Ok(Some(_)) => {
                // The daemon ended between two renames, or somebody edited it.
                repaired.push(Damage::new(&path, "it is not what was live"));
            }
            Ok(None) => repaired.push(Damage::new(&path, MISSING)),
            Err(damage) => repaired.push(damage),
        }
        // What was written for an apply that never came to its end.
        for number in self.numbers() {
            if number > current.last {
                let _ = fs::remove_file(self.record_path(number));
            }
        }
        Ok(Loaded {
            current,
            record: Some(record),
            overlay,
            policy_lost: None,
            overlay_lost: None,
            repaired,
        })
    }

    /// Without `current.json`: which of the policies was live it does not say, and of the
    /// overlay there is one copy.
    fn by_copies(&self, damage: Damage) -> Loaded {
        if let Some(why) = self.misplaced() {
            return Loaded {
                current: Current {
                    routes: true,
                    ..Current::default()
                },
                policy_lost: Some(Damage::new(
                    &self.root,
                    format!("{why}, and what `block` and `allow` added is to be given again"),
                )),
                ..Loaded::default()
            };
        }
        let path = self.overlay();
        let numbers = self.numbers();
        let mut loaded = Loaded {
            current: Current {
                live: 0,
                last: numbers.first().copied().unwrap_or_default(),
                ..Current::default()
            },
            overlay: Overlay {
                file: path.display().to_string(),
                entries: Vec::new(),
            },
            ..Loaded::default()
        };
        let overlay = read_overlay(&path);
        if damage.is_missing() && numbers.is_empty() && matches!(overlay, Ok(None)) {
            // Nothing was ever applied here.
            return loaded;
        }
        // Whether there were routes it does not say, either.
        loaded.current.routes = true;
        match overlay {
            Ok(Some(overlay)) => loaded.overlay = overlay,
            // It is there from the first policy on.
            Ok(None) => loaded.overlay_lost = Some(Damage::new(&path, MISSING)),
            Err(damage) => loaded.overlay_lost = Some(damage),
        }
        loaded.policy_lost = Some(damage);
        loaded
    }

    /// Keeps an overlay that cannot be read for whoever mends it: the next `block` writes
    /// the file anew.
    pub(crate) fn set_overlay_aside(&self) -> Result<(), StateError> {
        set_aside(&self.overlay(), &self.overlay_aside())
    }

    /// As [`Self::set_overlay_aside`], where another policy took the place of the one that
    /// was live.
    pub(crate) fn set_policy_aside(&self) -> Result<(), StateError> {
        set_aside(&self.current(), &self.policy_aside())
    }
}

/// What is there already is from the first time.
fn set_aside(path: &Path, aside: &Path) -> Result<(), StateError> {
    if aside.exists() {
        return Ok(());
    }
    match fs::rename(path, aside) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::write(aside, "").map_err(failed("write", aside))
        }
        result => result.map_err(failed("write", aside)),
    }
}

impl Damage {
    fn is_missing(&self) -> bool {
        self.why == MISSING
    }
}

fn first_error(found: &crate::diagnostic::Diagnostics) -> String {
    let message = found.errors.first().map(|e| e.message.clone());
    message.unwrap_or_else(|| "it is of another version".to_owned())
}

fn read_overlay(path: &Path) -> Result<Option<Overlay>, Damage> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    let text = sealed::read_toml(&bytes).map_err(|why| Damage::new(path, why))?;
    Overlay::parse(&path.display().to_string(), text)
        .map(Some)
        .map_err(|found| Damage::new(path, first_error(&found)))
}
