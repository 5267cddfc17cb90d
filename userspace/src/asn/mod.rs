//! The ASN database: which networks announce an address, and where an address
//! block is delegated to.
//!
//! Stages, each narrower than the last: [`mod@import`] turns files into rows
//! (`source` gives bytes whatever the compression; `text` with `line`, `columns` and `networks`
//! reads lines, `mmdb`, `mrt` and, by way of `document`, `json` read the rest;
//! `gather` takes what they find into `rows` and `facts`, and judges each file as a whole), `flatten`
//! turns rows that overlap as they like into sorted ranges that do not, and [`snapshot`] keeps the
//! result on disk so that a start needs no sources. For example, the two rows
//!
//! ```text
//! 203.0.113.0,203.0.113.255,64500,Example
//! 203.0.113.128,203.0.113.255,64501,Customer
//! ```
//!
//! become two ranges: the first half is of AS64500, the second of AS64501, because the more
//! specific row wins, as it does in routing.
//!
//! [`query`], [`evidence`] and [`orgs`] answer from it; [`diff`] compares two, and
//! [`gate`] says whether one may replace the other by itself. [`fetch`] brings sources from the network,
//! [`bundle`] carries a database to where there is none.
//!
//! Architecture invariant: nothing here knows of policies, nor of BPF.

pub mod bundle;
mod columns;
mod country;
pub mod diff;
mod document;
pub mod evidence;
mod facts;
pub mod fetch;
mod flatten;
mod format;
pub mod gate;
mod gather;
pub mod import;
mod json;
mod line;
mod mmdb;
pub mod model;
mod mrt;
mod networks;
pub mod orgs;
pub(crate) mod path;
pub mod query;
pub(crate) mod range;
mod rows;
pub mod snapshot;
mod source;
#[cfg(test)]
mod tests;
mod text;

use std::path::PathBuf;

pub use country::Country;
pub use diff::{Difference, Watched, compare};
pub use evidence::{Evidence, Rpki};
pub use gate::{Concern, judge, left_out};
pub use import::{ImportError, import_with};
pub use model::{AsnDb, AsnInfo, Combine, Options};
pub use query::{Answer, FamilyInfo, Info};
pub use range::cidrs;
pub use snapshot::{is_snapshot, load, previous_path, save};

use crate::diagnostic::{Diagnostic, Diagnostics};

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
    let file = snapshot.display().to_string();
    let refused = |message: String, help: &str| Diagnostic::of_file(&file, message, help).into();
    if asn_files.len() + country_files.len() > 1 {
        return Err(refused(
            "a snapshot cannot be combined with other databases".to_owned(),
            "give the snapshot alone, or import all sources together",
        ));
    }
    match load(snapshot) {
        Ok(db) => Ok((db, Diagnostics::default())),
        Err(problem) => Err(refused(problem.message, &problem.help)),
    }
}
