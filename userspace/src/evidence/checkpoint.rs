//! Checkpoints: what the log has signed, with which key, and all that it has signed so far.
//!
//! A checkpoint is a C2SP `tlog-checkpoint` in a C2SP `signed-note`: the origin, the number of records and the root of
//! their tree, signed with Ed25519. The crates `signed_note` and `tlog_tiles` read and write both. The key's name is
//! the origin, as C2SP asks for, so a checkpoint of one recorder is never taken for that of another.
//!
//! Files: `key` (mode 0600) and `key.pub` in the notation of signed-note, `checkpoint` with the newest, `checkpoints`
//! with all of them one after the other. The latter is why a checkpoint cannot be exchanged quietly for another one
//! that is signed as well.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
};

use rand_core::OsRng;
use signed_note::{
    Note, NoteError, Signer, StandardSigner, StandardVerifier, VerificationError, Verifier,
    Verifiers, generate_key, is_key_name_valid,
};
use tlog_tiles::{Checkpoint, Hash};

use super::{error::LogError, files};

/// The newest checkpoint.
pub(crate) const NEWEST: &str = "checkpoint";
/// All checkpoints.
pub(crate) const HISTORY: &str = "checkpoints";
/// The verifier key.
pub(crate) const PUBLIC: &str = "key.pub";
const PRIVATE: &str = "key";
/// Checkpoints that are kept in `checkpoints`.
const KEPT: usize = 10_000;
/// How many more there may be before it is rewritten, so that a rewriting is rare.
const SLACK: usize = 1_000;
/// What signature lines begin with.
const SIGNATURE: &str = "— ";

/// Why a text is no checkpoint of this log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no signed note with a checkpoint in it.
    #[error("is not a signed checkpoint")]
    Malformed,
    /// No signature is by this key.
    #[error("is not signed by `{0}`")]
    Unsigned(String),
    /// A signature claims to be by this key and is not.
    #[error("has a false signature of `{0}`")]
    Forged(String),
    /// It is of another log.
    #[error("is of the log `{0}`")]
    Origin(String),
}

/// A verifier key: what others need to believe the log.
pub struct Key {
    name: String,
    known: Known,
}

/// The one verifier of a [`Key`]. The crate's own list of verifiers cannot go to another thread, and a [`super::log::Log`] must.
struct Known(StandardVerifier);

impl Verifiers for Known {
    fn verifier(&self, name: &str, id: u32) -> Result<&dyn Verifier, VerificationError> {
        if (name, id) == (self.0.name(), self.0.key_id()) {
            Ok(&self.0)
        } else {
            Err(VerificationError::UnknownKey {
                name: name.to_owned(),
                id,
            })
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.name).finish()
    }
}

impl Key {
    /// Reads a key in the notation of signed-note, `name+hash+base64`, with or without an end of line.
    ///
    /// # Errors
    ///
    /// If it is not in this notation, its hash is wrong, or it is not Ed25519.
    pub fn parse(text: &str) -> Result<Self, signed_note::VerifierError> {
        let verifier = StandardVerifier::new(text.trim_end())?;
        Ok(Self {
            name: format!("{}+{:08x}", verifier.name(), verifier.key_id()),
            known: Known(verifier),
        })
    }

    /// The key's name and hash, `name+hash`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A checkpoint with its text. That it was parsed says nothing about its signature: see [`Signed::check`].
#[derive(Clone, Debug, PartialEq)]
pub struct Signed {
    /// Name of the log.
    pub origin: String,
    /// Records it covers: those with the indexes 0 to `size` - 1.
    pub size: u64,
    /// Root of the tree over them, RFC 6962, section 2.1.
    pub root: Hash,
    /// The signed note, for others to keep.
    pub text: String,
}

impl Signed {
    /// Reads a checkpoint.
    ///
    /// # Errors
    ///
    /// [`Fault::Malformed`].
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let note = Note::from_bytes(text.as_bytes()).map_err(|_| Fault::Malformed)?;
        let checkpoint = Checkpoint::from_bytes(note.text()).map_err(|_| Fault::Malformed)?;
        Ok(Self {
            origin: checkpoint.origin().to_owned(),
            size: checkpoint.size(),
            root: *checkpoint.hash(),
            text: text.to_owned(),
        })
    }

    /// Checks that the key has signed it, and that it is of the log that the key is for.
    ///
    /// # Errors
    ///
    /// Any [`Fault`].
    pub fn check(&self, key: &Key) -> Result<(), Fault> {
        let note = Note::from_bytes(self.text.as_bytes()).map_err(|_| Fault::Malformed)?;
        note.verify(&key.known).map_err(|error| match error {
            NoteError::InvalidSignature { .. } => Fault::Forged(key.name.clone()),
            NoteError::MalformedNote => Fault::Malformed,
            _ => Fault::Unsigned(key.name.clone()),
        })?;
        if key
            .name
            .rsplit_once('+')
            .is_some_and(|(name, _)| name == self.origin)
        {
            Ok(())
        } else {
            Err(Fault::Origin(self.origin.clone()))
        }
    }
}

/// The private key and its public half.
pub(crate) struct Keys {
    signer: StandardSigner,
    pub(crate) public: Key,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the private half.
        f.debug_tuple("Keys").field(&self.public).finish()
    }
}

impl Keys {
    /// Reads the keys, or makes them. `fresh` says that nothing was ever signed in the folder: only then may they be
    /// made.
    pub(crate) fn open(folder: &Path, origin: &str, fresh: bool) -> Result<Self, LogError> {
        let wrong = |what: String| LogError::Origin {
            origin: origin.to_owned(),
            what,
        };
        if !is_key_name_valid(origin) {
            return Err(wrong(
                "must have neither white space nor `+`, and not be empty".into(),
            ));
        }
        let (private, public) = (folder.join(PRIVATE), folder.join(PUBLIC));
        if fresh && !private.exists() {
            let (secret, open) = generate_key(&mut OsRng, origin);
            // The private one last: as long as it is missing, both are made again.
            files::replace(folder, PUBLIC, format!("{open}\n").as_bytes(), 0o644)
                .map_err(LogError::io("write", &public))?;
            files::replace(folder, PRIVATE, format!("{secret}\n").as_bytes(), 0o600)
                .map_err(LogError::io("write", &private))?;
        }
        let read = |path: &Path| fs::read_to_string(path).map_err(LogError::io("read", path));
        let signer = StandardSigner::new(read(&private)?.trim_end())
            .map_err(|error| LogError::damaged(&private, error.to_string()))?;
        let key = Key::parse(&read(&public)?)
            .map_err(|error| LogError::damaged(&public, error.to_string()))?;
        if format!("{}+{:08x}", signer.name(), signer.key_id()) != key.name() {
            return Err(LogError::damaged(&public, "is not the other half of `key`"));
        }
        if signer.name() != origin {
            return Err(wrong(format!(
                "is not the log's, which is `{}`",
                signer.name()
            )));
        }
        Ok(Self {
            signer,
            public: key,
        })
    }

    /// Signs a tree.
    pub(crate) fn sign(&self, size: u64, root: Hash) -> Result<Signed, Fault> {
        let origin = self.signer.name().to_owned();
        let body = Checkpoint::new(&origin, size, root, "").map_err(|_| Fault::Malformed)?;
        let mut note = Note::new(&body.to_bytes(), &[]).map_err(|_| Fault::Malformed)?;
        note.add_sigs(&[&self.signer])
            .map_err(|_| Fault::Malformed)?;
        Signed::parse(&String::from_utf8_lossy(&note.to_bytes()))
    }
}

/// What is in `checkpoints`.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The checkpoints, oldest first, each with the line it begins at (from 1).
    pub(crate) notes: Vec<(u64, String)>,
    /// Bytes that they have. What follows was cut off by a crash.
    pub(crate) bytes: usize,
}

/// Reads `checkpoints`; `None` if there is none.
pub(crate) fn history(folder: &Path) -> io::Result<Option<History>> {
    let Some(text) = files::read_text(&folder.join(HISTORY))? else {
        return Ok(None);
    };
    let mut found = History::default();
    let (mut note, mut begun) = (String::new(), 1);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        note.push_str(line);
        if line.starts_with(SIGNATURE) && line.ends_with('\n') {
            found.bytes += note.len();
            found.notes.push((begun, std::mem::take(&mut note)));
            begun = number + 1;
        }
    }
    Ok(Some(found))
}

/// Appends to `checkpoints`, and returns how many it has now; `count` is how many it had. The oldest go when there are
/// too many.
pub(crate) fn remember(folder: &Path, signed: &Signed, count: usize) -> io::Result<usize> {
    if count >= KEPT + SLACK {
        let History { notes, .. } = history(folder)?.unwrap_or_default();
        let kept = notes
            .get(notes.len().saturating_sub(KEPT - 1)..)
            .unwrap_or_default();
        let mut text: String = kept.iter().map(|(_, note)| note.as_str()).collect();
        text.push_str(&signed.text);
        files::replace(folder, HISTORY, text.as_bytes(), 0o644)?;
        return Ok(kept.len() + 1);
    }
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join(HISTORY))?;
    let before = file.metadata()?.len();
    file.write_all(signed.text.as_bytes())
        .and_then(|()| file.sync_all())
        .inspect_err(|_| {
            // Half a checkpoint would spoil the next one. If this fails too, opening the log cuts it off.
            let _ = file.set_len(before);
        })?;
    Ok(count + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::open(folder.path(), "recorder.example", true).unwrap();
        let full = KEPT + SLACK;
        let old = keys.sign(1, Hash([1; 32])).unwrap();
        fs::write(folder.path().join(HISTORY), old.text.repeat(full)).unwrap();
        let new = keys.sign(2, Hash([2; 32])).unwrap();
        assert_eq!(remember(folder.path(), &new, full).unwrap(), KEPT);
        let found = history(folder.path()).unwrap().unwrap();
        assert_eq!(found.notes.len(), KEPT);
        assert_eq!(found.notes.last().unwrap().1, new.text);
        // Half a checkpoint at the end is known as such.
        let path = folder.path().join(HISTORY);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}recorder.example\n3\n")).unwrap();
        assert_eq!(history(folder.path()).unwrap().unwrap().bytes, text.len());
    }
}
