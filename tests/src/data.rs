//! Where the whole Internet's table is, which is not part of the repository.

use std::path::{Path, PathBuf};

/// The folder that `KORDON_TEST_DATA` names, by default `../shared/data` beside the
/// repository. It need not be there.
#[must_use]
pub fn folder() -> PathBuf {
    std::env::var_os("KORDON_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    )
}
