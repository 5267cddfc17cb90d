//! Which table is measured on: the real Internet's from files, or the one that is drawn
//! ([`super::synthetic`]) where there are none.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use kordon::asn;
use tempfile::TempDir;

use super::synthetic::Synthetic;
use crate::lab::namespace::folder;

/// The files of the real table in a folder of test data.
const REAL: [&str; 2] = ["asn-ipv4.csv.zst", "asn-ipv6.csv.zst"];

/// Files that hold a table. Those that were made go with the value.
#[derive(Debug)]
pub(super) struct Table {
    /// To be imported as ASN sources.
    pub(super) files: Vec<PathBuf>,
    /// What it is, for people.
    pub(super) what: String,
    /// Held for as long as its files are read.
    folder: Option<TempDir>,
}

impl Table {
    /// What is named, or a drawn one of about so many prefixes.
    pub(super) fn choose(named: &[PathBuf], prefixes: usize) -> Result<Self> {
        if named.is_empty() {
            return Self::drawn(prefixes);
        }
        let mut table = Self::real(named)?;
        table.complete(prefixes)?;
        Ok(table)
    }

    /// Draws a family that is not in the files: every case is to have its packets.
    fn complete(&mut self, prefixes: usize) -> Result<()> {
        let (db, _) = asn::import(&self.files, &[]).context("cannot import the table")?;
        let lacks = [db.v4.is_empty(), db.v6.is_empty()];
        if lacks == [false, false] {
            return Ok(());
        }
        let drawn = Self::drawn(prefixes)?;
        for (family, (file, lacks)) in ["IPv4", "IPv6"].iter().zip(drawn.files.iter().zip(lacks)) {
            if lacks {
                self.files.push(file.clone());
                write!(self.what, ", which has no {family}: that is generated")?;
            }
        }
        self.folder = drawn.folder;
        Ok(())
    }

    /// A drawn one of about so many prefixes.
    pub(super) fn drawn(prefixes: usize) -> Result<Self> {
        let folder = folder()?;
        Ok(Self {
            files: Synthetic::new(prefixes).write(folder.path())?,
            what: format!("generated table of about {prefixes} prefixes"),
            folder: Some(folder),
        })
    }

    fn real(named: &[PathBuf]) -> Result<Self> {
        let mut files = Vec::new();
        for path in named {
            if path.is_dir() {
                files.extend(infolder(path)?);
            } else {
                files.push(path.clone());
            }
        }
        let names: Vec<_> = files.iter().filter_map(|file| file.file_name()).collect();
        Ok(Self {
            what: format!("table of {names:?}"),
            files,
            folder: None,
        })
    }
}

/// Files of a folder whose names begin as those of ASN sources do.
fn infolder(folder: &Path) -> Result<Vec<PathBuf>> {
    let real: Vec<PathBuf> = REAL.iter().map(|name| folder.join(name)).collect();
    if real.iter().all(|file| file.is_file()) {
        return Ok(real);
    }
    let entries = folder
        .read_dir()
        .with_context(|| format!("cannot read the folder `{}`", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("asn-ipv")) {
            files.push(path);
        }
    }
    files.sort();
    ensure!(
        !files.is_empty(),
        "there is no `asn-ipv4…` or `asn-ipv6…` in the folder `{}`; name the files one by one",
        folder.display()
    );
    Ok(files)
}
