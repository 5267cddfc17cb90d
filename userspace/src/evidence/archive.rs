//! Where what was in force is kept beside the log: what files are called, and how one is read that somebody may have
//! changed.

use std::{io, path::Path};

use sha2::{Digest as _, Sha256};

/// Of the folder.
pub const FOLDER: &str = "archive";

/// Name of the file of a policy and what belongs to it, by the SHA-256 of its content, hexadecimal.
#[must_use]
pub fn edition(hash: &str) -> String {
    format!("edition-{hash}.json")
}

/// Name of the file of a database, by its name.
#[must_use]
pub fn database(name: &str) -> String {
    format!("asndb-{name}.snapshot")
}

/// Reads an edition of the log in `folder`: the bytes that have this hash.
///
/// # Errors
/// When it is not there, or is another one.
pub fn read_edition(folder: &Path, hash: &str) -> io::Result<Vec<u8>> {
    let path = folder.join(FOLDER).join(edition(hash));
    let bytes = crate::regular::read(&path)?;
    match hex::encode(Sha256::digest(&bytes)) == hash {
        true => Ok(bytes),
        false => Err(io::Error::other(
            "somebody has changed it: it does not have the hash that is in the log",
        )),
    }
}
