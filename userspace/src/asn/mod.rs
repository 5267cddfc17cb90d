//! The ASN database: which networks announce an address, and where an address
//! block is delegated to.
//!
//! Stages, each narrower than the last: [`mod@import`] turns files into rows
//! (`source` gives lines whatever the compression, `line` reads one), `flatten`
//! turns rows that overlap as they like into sorted ranges that do not, and
//! [`snapshot`] keeps the result on disk so that a start needs no sources.
//! [`query`] answers from it.
//!
//! Architecture invariant: nothing here knows of policies beyond the country
//! code type, nor of BPF.

mod flatten;
pub mod import;
mod line;
pub mod model;
pub mod query;
mod range;
pub mod snapshot;
mod source;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use import::{ImportError, import};
pub use model::AsnDb;
pub use query::{Answer, DecidedBy, FamilyInfo, Info};
pub use range::cidrs;
pub use snapshot::{SnapshotError, is_snapshot, load, previous_path, save};

use crate::diagnostic::{Diagnostic, Diagnostics};

/// Whatever the administrator has at hand: one snapshot, or any number of
/// sources, which are imported on the spot.
///
/// # Errors
///
/// As [`import()`] and [`load`]; a snapshot beside other files is refused, because
/// it has its sources folded in already.
pub fn open(
    asn_files: &[PathBuf],
    country_files: &[PathBuf],
) -> Result<(AsnDb, Diagnostics), ImportError> {
    let Some(snapshot) = asn_files.iter().find(|file| is_snapshot(file)) else {
        return import(asn_files, country_files);
    };
    let refused = |message: String, help: &str| {
        ImportError::from(Diagnostic {
            message,
            help: Some(help.to_owned()),
            file: snapshot.display().to_string(),
            line: 0,
            column: 0,
            text: String::new(),
        })
    };
    if asn_files.len() + country_files.len() > 1 {
        return Err(refused(
            "a snapshot cannot be combined with other databases".to_owned(),
            "give the snapshot alone, or import all sources together",
        ));
    }
    match load(snapshot) {
        Ok(db) => Ok((db, Diagnostics::default())),
        Err(error) => Err(refused(error.to_string(), error.help())),
    }
}
