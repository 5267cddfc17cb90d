//! The ASN database: which networks announce an address, and where an address
//! block is delegated to.
//!
//! Stages, each narrower than the last: [`mod@import`] turns files into rows
//! (`source` gives bytes whatever the compression; `text` with `line` and `columns`
//! reads lines, `mmdb`, `mrt` and, by way of `document`, `vrps` and `networks` read the rest;
//! `gather` takes what they find), `flatten` turns rows that overlap as they like into sorted ranges that do
//! not, and [`snapshot`] keeps the result on disk so that a start needs no sources.
//! [`query`], [`evidence`] and [`orgs`] answer from it; [`diff`] compares two, and
//! [`gate`] says whether one may replace the other by itself. [`fetch`] brings sources from the network,
//! [`bundle`] carries a database to where there is none.
//!
//! Architecture invariant: nothing here knows of policies beyond the country
//! code type, nor of BPF.

pub mod bundle;
mod columns;
mod country;
pub mod diff;
mod document;
pub mod evidence;
pub mod fetch;
mod flatten;
mod format;
pub mod gate;
mod gather;
pub mod import;
mod line;
mod mmdb;
pub mod model;
mod mrt;
mod networks;
pub mod orgs;
pub(crate) mod path;
pub mod query;
pub(crate) mod range;
pub mod snapshot;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod vrps;

use std::path::PathBuf;

pub use country::Country;
pub use diff::{Difference, Watched, compare};
pub use evidence::{Evidence, Rpki};
pub use gate::{Concern, judge, left_out};
pub use import::{ImportError, import_with};
pub use model::{AsnDb, Combine};
pub use orgs::OrgError;
pub use query::{Answer, DecidedBy, FamilyInfo, Info};
pub use range::cidrs;
pub use snapshot::{SnapshotError, is_snapshot, load, previous_path, save};

use crate::diagnostic::{Diagnostic, Diagnostics};

/// How sources become a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What holds where several sources speak of one address.
    pub combine: Combine,
    /// Peers of a collector that have to see a prefix, where the source says how
    /// many do. A RIB asks for no more than half of its own peers.
    pub min_peers: u32,
    /// Whether RPKI payloads count as announcements.
    pub add_vrps: bool,
    /// Whether what can be read of a damaged file is taken. That it is damaged is then a
    /// warning, which [`gate::judge`] makes a concern of.
    pub salvage: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            combine: Combine::Union,
            min_peers: 10,
            add_vrps: false,
            salvage: false,
        }
    }
}

/// As [`import_with`], with the default options.
///
/// # Errors
///
/// As [`import_with`].
pub fn import(
    asn_files: &[PathBuf],
    country_files: &[PathBuf],
) -> Result<(AsnDb, Diagnostics), ImportError> {
    import_with(asn_files, country_files, &Options::default())
}

/// As [`open_with`], with the default options.
///
/// # Errors
///
/// As [`open_with`].
pub fn open(
    asn_files: &[PathBuf],
    country_files: &[PathBuf],
) -> Result<(AsnDb, Diagnostics), ImportError> {
    open_with(asn_files, country_files, &Options::default())
}

/// Whatever the administrator has at hand: one snapshot, or any number of
/// sources, which are imported on the spot.
///
/// # Errors
///
/// As [`import_with`] and [`load`]; a snapshot beside other files is refused, because
/// it has its sources folded in already.
pub fn open_with(
    asn_files: &[PathBuf],
    country_files: &[PathBuf],
    options: &Options,
) -> Result<(AsnDb, Diagnostics), ImportError> {
    let Some(snapshot) = asn_files.iter().find(|file| is_snapshot(file)) else {
        return import_with(asn_files, country_files, options);
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
