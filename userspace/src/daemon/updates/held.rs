//! What the gate stopped, kept until somebody looks at it, and what it let pass with a
//! warning. What is kept is an update of the configured sources, whole, and nothing else: a
//! refused import leaves nothing behind.
//!
//! ```text
//! asndb.held.snapshot   the database that is held back
//! asndb.held.json       since when, of what, and why
//! asndb.warnings.json   what the last update that was taken warned of
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Updates, database::Database};
use crate::{
    asn::{
        self, AsnDb, Concern,
        fetch::{Validators, sha256},
        gate::Kind,
    },
    daemon::{
        refusal::Refusal,
        state::{Prepared, StateDir},
    },
    diagnostic::quoted,
};

/// A file that a database was made of, so that whoever takes it knows what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// A path, or an address as people may see it.
    file: String,
    /// Its SHA-256, hexadecimal.
    sha256: Option<String>,
    /// When it was changed last: as its server says (RFC 9110, section 8.8.2), else on disk.
    date: Option<String>,
}

impl Origin {
    pub(crate) fn of_path(path: &Path) -> Self {
        let changed = fs::metadata(path).and_then(|m| m.modified()).ok();
        let changed = changed.and_then(|at| Timestamp::try_from(at).ok());
        Self {
            file: path.display().to_string(),
            sha256: sha256(path).ok(),
            date: changed.map(|at| format!("{at:.0}")),
        }
    }

    /// Under another name.
    pub(crate) fn called(mut self, name: &str) -> Self {
        name.clone_into(&mut self.file);
        self
    }

    pub(crate) fn of_fetched(url: &str, known: Option<&Validators>) -> Self {
        // Of a path it is no date.
        let date = known.and_then(|known| known.last_modified.clone());
        Self {
            file: url.to_owned(),
            sha256: known.map(|known| known.sha256.clone()),
            date: date.filter(|_| !url.starts_with("file:")),
        }
    }

    fn in_words(&self) -> String {
        let hash = self
            .sha256
            .as_deref()
            .map_or("unknown", |hash| &hash[..hash.len().min(12)]);
        let date = self.date.as_deref().unwrap_or("an unknown date");
        format!("{} (sha256 {hash}, of {date})", self.file)
    }
}

/// An update that waits for somebody who looks at it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// What `--accept` may name: the beginning of the database's hash.
    #[serde(default)]
    pub(crate) id: String,
    /// Since when.
    pub(crate) since: Timestamp,
    /// `update`, `start` or `clock`.
    pub(crate) by: String,
    /// What it was made of.
    #[serde(default)]
    pub(crate) sources: Vec<Origin>,
    /// Why; never empty.
    pub(crate) concerns: Vec<Concern>,
}

impl Held {
    pub(crate) fn new(
        database: &Database,
        by: &str,
        sources: Vec<Origin>,
        concerns: Vec<Concern>,
    ) -> Self {
        Self {
            id: short(database.id()),
            since: Timestamp::now(),
            by: by.to_owned(),
            sources,
            concerns,
        }
    }

    /// Why.
    pub(crate) fn reasons(&self) -> String {
        let concerns: Vec<&str> = self.concerns.iter().map(|c| c.message.as_str()).collect();
        concerns.join("; ")
    }

    /// In the log, when it is taken.
    pub(crate) fn log(&self) {
        let sources: Vec<String> = self.sources.iter().map(Origin::in_words).collect();
        tracing::warn!("accepted: database {} of {}", self.id, sources.join(", "));
        for concern in &self.concerns {
            tracing::warn!("accepted: {}", concern.message);
        }
    }
}

fn short(id: &[u8; 32]) -> String {
    hex::encode(&id[..6])
}

/// What the last update that was taken warned of, until a good one or until somebody has
/// seen it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Warned {
    /// Since when.
    pub(crate) since: Timestamp,
    /// Of what; never empty.
    pub(crate) concerns: Vec<Concern>,
}

/// What an earlier daemon left of both.
///
/// What cannot be read is no reason to forget that there is something: that is said in its
/// place, and somebody takes note of it.
pub(crate) fn load(state: &StateDir) -> (Option<Held>, Option<Warned>) {
    let held = read(&state.held_reasons(), |lost| Held {
        id: String::new(),
        since: Timestamp::now(),
        by: "unknown".to_owned(),
        sources: Vec::new(),
        concerns: vec![lost],
    });
    let warned = read(&warnings(state), |lost| Warned {
        since: Timestamp::now(),
        concerns: vec![lost],
    });
    (held.filter(|_| state.held().exists()), warned)
}

/// `None`: there is no such file. `lost` stands for one that cannot be read.
fn read<T: serde::de::DeserializeOwned>(path: &Path, lost: impl FnOnce(Concern) -> T) -> Option<T> {
    let read = match crate::regular::read(path) {
        Err(e) if crate::regular::is_absent(&e) => return None,
        Err(e) => Err(e.to_string()),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| e.to_string()),
    };
    let read = read.map_err(|why| {
        let path = quoted(&path.display().to_string());
        let message = format!("what was to be said of it is lost: {path} cannot be read: {why}");
        tracing::error!("{message}");
        lost(Concern {
            kind: Kind::Unknown,
            message,
        })
    });
    Some(read.unwrap_or_else(|lost| lost))
}

fn warnings(state: &StateDir) -> PathBuf {
    state.held().with_file_name("asndb.warnings.json")
}

impl Updates {
    /// Keeps an update in place of the one before.
    pub(crate) fn hold(&mut self, state: &StateDir, db: &AsnDb, held: Held) -> Result<(), Refusal> {
        self.stopped += 1;
        // Its files are another set: what was kept of the one before belongs to nothing.
        self.end_hold(false);
        let reasons = serde_json::to_vec(&held).map_err(Refusal::from_error)?;
        // It is held back even where it cannot be kept.
        self.held = Some(held);
        let path = state.held();
        asn::save(db, &path).map_err(Refusal::from_error)?;
        let _ = fs::remove_file(asn::previous_path(&path));
        Prepared::write(&state.held_reasons(), &reasons)?.commit()?;
        Ok(())
    }

    /// What is held back, read from disk; `id`, where it is given, is the beginning of its.
    pub(crate) fn held_back(
        &self,
        state: &StateDir,
        id: Option<&str>,
    ) -> Result<(Held, Database), Refusal> {
        let held = self.held.clone().ok_or_else(nothing_held)?;
        if let Some(id) = id
            && !(id.len() >= 4 && held.id.starts_with(&id.to_ascii_lowercase()))
        {
            return Err(Refusal::new(
                format!("what is held back is {}, not `{id}`", held.id),
                "look at it first: `kordon asndb diff`",
            ));
        }
        let help = "run the update again";
        let db = asn::load(&state.held()).map_err(|e| Refusal::new(e.to_string(), help))?;
        let database = Database::new(db);
        if !held.id.is_empty() && short(database.id()) != held.id {
            let message = "the database that is kept is not the one that was held back";
            return Err(Refusal::new(message, help));
        }
        Ok((held, database))
    }

    /// What becomes of the files of an update that was held back.
    pub(crate) fn end_hold(&self, accepted: bool) {
        for slot in &*self.slots {
            slot.end_hold(accepted);
        }
    }

    /// A database went live: what was held back is older than it.
    pub(crate) fn taken(&mut self, state: &StateDir) {
        self.taken += 1;
        self.failure = None;
        self.forget(state);
    }

    fn forget(&mut self, state: &StateDir) -> Option<Held> {
        let held = self.held.take()?;
        self.end_hold(false);
        // Reasons without a database are none.
        for path in [state.held_reasons(), state.held()] {
            let _ = fs::remove_file(path);
        }
        Some(held)
    }

    /// What is to be seen of the update that is live now.
    pub(crate) fn warn(&mut self, state: &StateDir, concerns: Vec<Concern>) {
        let path = warnings(state);
        self.warned = None;
        if concerns.is_empty() {
            let _ = fs::remove_file(path);
            return;
        }
        for concern in &concerns {
            tracing::warn!("the ASN database was updated, but {}", concern.message);
        }
        let warned = Warned {
            since: Timestamp::now(),
            concerns,
        };
        let text = serde_json::to_vec(&warned).unwrap_or_default();
        if let Err(e) = Prepared::write(&path, &text).and_then(Prepared::commit) {
            tracing::warn!("the warning is not kept over a restart: {e}");
        }
        self.warned = Some(warned);
    }

    /// Throws away what is held back.
    pub(crate) fn discard(&mut self, state: &StateDir) -> Result<Value, Refusal> {
        let held = self.forget(state).ok_or_else(nothing_held)?;
        tracing::warn!("database {} that was held back is discarded", held.id);
        Ok(json!({ "discarded": held }))
    }

    /// Somebody has seen what the last update warned of.
    pub(crate) fn acknowledge(&mut self, state: &StateDir) -> Result<Value, Refusal> {
        let warned = self.warned.take();
        let warned = warned.ok_or_else(|| {
            let help = "`kordon status` shows what an update warns of";
            Refusal::new("the last update warned of nothing", help)
        })?;
        self.warn(state, Vec::new());
        tracing::info!("the warnings of the last update are acknowledged");
        Ok(json!({ "acknowledged": warned }))
    }
}

fn nothing_held() -> Refusal {
    Refusal::new(
        "no update is held back",
        "`kordon asndb update` reads the sources again",
    )
}
