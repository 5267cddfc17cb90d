//! Keeps the policies and databases that were in force, by their hashes, beside the log: so a verdict of then can be
//! found again, as long as there is room.

use std::{
    cmp::Reverse,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

use super::troubles::{Part, Troubles};
use crate::{
    asn,
    compile::generation::Environment,
    daemon::{
        state::{Prepared, Record},
        status::View,
    },
    evidence::archive::{FOLDER, database, edition},
    judge::Edition,
    policy::Overlay,
};

/// What is in force, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// SHA-256 of the edition's file, hexadecimal.
    pub(super) edition: String,
    pub(super) database: Option<String>,
}

/// What was live when it was looked at last, and its name: as long as it is the same, so is that.
struct Live {
    record: Arc<Record>,
    overlay: Arc<Overlay>,
    environment: Arc<Environment>,
    name: String,
}

/// See the module.
pub(super) struct Archive {
    folder: PathBuf,
    /// Bytes that are kept.
    most: u64,
    live: Option<Live>,
    kept: Option<Named>,
}

impl Archive {
    pub(super) fn new(log: &Path, mebibytes: u32) -> Self {
        Self {
            folder: log.join(FOLDER),
            most: u64::from(mebibytes) << 20,
            live: None,
            kept: None,
        }
    }

    /// Keeps what is in force; `None`: nothing is. `is_full`: there is no room for it now.
    pub(super) fn keep(
        &mut self,
        view: &View,
        is_full: bool,
        troubles: &Troubles,
    ) -> Option<Named> {
        let live = view.live.as_ref()?;
        let record = view.kept.record.as_ref()?;
        let overlay = &view.kept.overlay;
        let is_same = self.live.as_ref().is_some_and(|before| {
            Arc::ptr_eq(&before.record, record)
                && Arc::ptr_eq(&before.overlay, overlay)
                && Arc::ptr_eq(&before.environment, &live.environment)
        });
        let mut text = Vec::new();
        if !is_same || self.kept.is_none() {
            let edition = Edition::new(&record.bundle, overlay, &live.environment);
            text = serde_json::to_vec(&edition).unwrap_or_default();
            let name = hex::encode(Sha256::digest(&text));
            self.live = Some(Live {
                record: Arc::clone(record),
                overlay: Arc::clone(overlay),
                environment: Arc::clone(&live.environment),
                name,
            });
        }
        let named = Named {
            edition: self.live.as_ref()?.name.clone(),
            database: view.updates.database.name(),
        };
        if self.kept.as_ref() == Some(&named) || is_full {
            return Some(named);
        }
        match self.write(&named, &text, view) {
            Ok(()) => {
                troubles.is_over(Part::Archiving);
                self.kept = Some(named.clone());
            }
            Err(why) => {
                // All of it is made anew the next time.
                self.live = None;
                let words = format!(
                    "what is in force is not archived beside the log of evidence, for `kordon explain --at`: {why}; it is tried again"
                );
                troubles.is(Part::Archiving, words);
            }
        }
        Some(named)
    }

    fn write(&self, named: &Named, text: &[u8], view: &View) -> Result<(), String> {
        fs::create_dir_all(&self.folder).map_err(|e| e.to_string())?;
        let path = self.folder.join(edition(&named.edition));
        if !text.is_empty() && !path.exists() {
            let written = Prepared::write(&path, text).and_then(Prepared::commit);
            written.map_err(|e| e.to_string())?;
        }
        if let Some(name) = &named.database {
            let path = self.folder.join(database(name));
            if !path.exists() {
                asn::save(&view.updates.database.db, &path).map_err(|e| e.to_string())?;
            }
        }
        self.prune(named).map_err(|e| e.to_string())
    }

    /// Removes the oldest files beyond what is to be kept, and none of what is in force.
    fn prune(&self, named: &Named) -> io::Result<()> {
        let in_force = [
            Some(edition(&named.edition)),
            named.database.as_deref().map(database),
        ];
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let data = entry.metadata()?;
            let age = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let is_needed = in_force.contains(&Some(name));
            files.push((is_needed, age, data.len(), entry.path()));
        }
        // The newest first, and what is in force before all.
        files.sort_by_key(|(is_needed, age, ..)| Reverse((*is_needed, *age)));
        let mut sum = 0;
        for (is_needed, _, length, path) in files {
            sum += length;
            if sum > self.most && !is_needed {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}
