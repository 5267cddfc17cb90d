//! Files to database. Reads leniently, because real sources have wrong rows, and
//! says what it left out; refuses what cannot be a source at all. A file's content
//! says what it is; its name and the list it was given in do not.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::facts::Facts;
use super::flatten::{self, Interner};
use super::format::Format;
use super::gather::Gather;
use super::model::{AsnDb, Options, Vrp};
use super::range::{Crowded, MAX_DEPTH};
use super::rows::{Located, Rows};
use super::source::{Input, Lines, SourceError};
use super::{json, line, mmdb, mrt};
use crate::diagnostic::{Diagnostic, Diagnostics};

/// Nothing was imported: what is wrong with which file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", in_words(.0))]
pub struct ImportError(
    /// At least one error; warnings of all files that were read.
    pub Diagnostics,
);

impl From<Diagnostic> for ImportError {
    fn from(error: Diagnostic) -> Self {
        Self(error.into())
    }
}

fn in_words(found: &Diagnostics) -> String {
    let one = |error: &Diagnostic| {
        let place = match error.line {
            0 => format!("`{}`", error.file),
            line => format!("`{}` line {line}", error.file),
        };
        let help = error.help.as_deref().unwrap_or("see the documentation");
        format!("cannot import {place}: {} ({help})", error.message)
    };
    let lines: Vec<String> = found.errors.iter().map(one).collect();
    lines.join("\n")
}

/// Reads all sources, in the order of their priority, and compiles them. The
/// diagnostics are warnings: rows that were left out and files that look cut.
/// Country files are sources as all others, and come last.
///
/// # Errors
///
/// Every file that cannot be read, is of no known format, or has more unreadable
/// than readable rows; all of them at once.
pub fn import_with(
    asn_files: &[PathBuf],
    country_files: &[PathBuf],
    options: &Options,
) -> Result<(AsnDb, Diagnostics), ImportError> {
    let mut build = Build {
        db: AsnDb {
            combine: options.combine,
            ..AsnDb::default()
        },
        ..Build::default()
    };
    for path in asn_files.iter().chain(country_files) {
        if let Err(error) = build.add(path, options) {
            build.found.errors.push(error);
        }
    }
    build.finish()
}

/// Everything read so far.
#[derive(Default)]
struct Build {
    db: AsnDb,
    rows: Rows,
    facts: Facts,
    found: Diagnostics,
}

impl Build {
    fn add(&mut self, path: &Path, options: &Options) -> Result<(), Diagnostic> {
        let file = path.display().to_string();
        let Ok(source) = u16::try_from(self.db.sources.len()) else {
            let message = "there are more than 65536 sources";
            return Err(Diagnostic::of_file(&file, message, "join them"));
        };
        let input = Input::open(path)
            .map_err(|error| Diagnostic::of_file(&file, error.to_string(), error.help()))?;
        let mut gather = Gather::new(&file, source, options, &mut self.facts);
        let head = input.head();
        if mrt::is_mrt(head) {
            mrt::read(input.rib(), &mut gather)?;
        } else if json::is_payloads(head) {
            json::payloads(input.document(), &mut gather)?;
        } else if json::is_networks(head) {
            json::networks(input.document(), &mut gather)?;
        } else if is_binary(head) {
            mmdb::read(input, &mut gather)?;
        } else {
            text(input.lines(), &mut gather)?;
        }
        gather.judge()?;
        let (rows, source, mut warnings) = gather.finish();
        self.rows.append(rows);
        self.db.sources.push(source);
        self.found.warnings.append(&mut warnings);
        Ok(())
    }

    fn finish(mut self) -> Result<(AsnDb, Diagnostics), ImportError> {
        if !self.found.errors.is_empty() {
            return Err(ImportError(self.found));
        }
        if let Err(error) = self.locate() {
            self.found.errors.push(error);
            return Err(ImportError(self.found));
        }
        if let Err(crowded) = self.flatten() {
            let error = self.crowded(&crowded);
            self.found.errors.push(error);
            return Err(ImportError(self.found));
        }
        let Rows { v4, v6, .. } = self.rows;
        let (asns, orgs) = self.facts.resolve();
        let db = AsnDb {
            rows_v4: v4.origins,
            rows_v6: v6.origins,
            vrps_v4: in_order(v4.vrps),
            vrps_v6: in_order(v6.vrps),
            asns,
            orgs,
            imported: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs().cast_signed()),
            ..self.db
        };
        Ok((db, self.found))
    }

    /// Blocks that name a location get its country.
    fn locate(&mut self) -> Result<(), Diagnostic> {
        let located = std::mem::take(&mut self.rows.located);
        if let Some(first) = located.first()
            && self.facts.locations.is_empty()
        {
            return Err(Diagnostic::of_file(
                &self.db.sources[usize::from(first.source)].file,
                "its blocks name locations, and no source says which countries these are",
                "give `GeoLite2-Country-Locations-en.csv` beside it",
            ));
        }
        for Located {
            addresses,
            location,
            source,
            line,
        } in located
        {
            if let Some(&country) = self.facts.locations.get(&location) {
                self.rows.country(addresses, country, (source, line));
            }
        }
        Ok(())
    }

    fn flatten(&mut self) -> Result<(), Crowded> {
        let mut interner = Interner::default();
        let combine = self.db.combine;
        self.db.v4 = flatten::origins(&self.rows.v4.origins, combine, &mut interner)?;
        self.db.v6 = flatten::origins(&self.rows.v6.origins, combine, &mut interner)?;
        self.db.origins = interner.into_sets();
        self.db.countries_v4 = flatten::countries(&self.rows.v4.countries)?;
        self.db.countries_v6 = flatten::countries(&self.rows.v6.countries)?;
        Ok(())
    }

    fn crowded(&self, crowded: &Crowded) -> Diagnostic {
        let (source, line) = crowded.place;
        let file = self
            .db
            .sources
            .get(usize::from(source))
            .map_or("", |source| &source.file);
        let mut error = Diagnostic::of_file(
            file,
            format!("more than {MAX_DEPTH} rows overlap, or too many in ever new ways"),
            "this is no table of routes: one row per announced range is expected",
        );
        let format = self.db.sources.get(usize::from(source));
        let format = format.and_then(|source| Format::of(&source.format));
        if !format.is_some_and(Format::has_records) {
            error.line = line as usize;
            error.column = 1;
        }
        error
    }
}

fn text(mut lines: Lines, gather: &mut Gather<'_>) -> Result<(), Diagnostic> {
    loop {
        let number = lines.number + 1;
        match lines.next() {
            Ok(Some(line)) => {
                if line.cut && !line.bytes.is_empty() {
                    gather.cut = Some((number, line::printable(line.bytes)));
                }
                gather.line(number, line.bytes, line.too_long)?;
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                let is_cut = matches!(error, SourceError::Truncated(_));
                return gather.ended(gather.unreadable(&error, number), is_cut);
            }
        }
    }
}

/// RPKI payloads, sorted, each once.
fn in_order<A: Ord + Copy>(mut vrps: Vec<Vrp<A>>) -> Vec<Vrp<A>> {
    let key = |vrp: &Vrp<A>| (vrp.start, vrp.len, vrp.asn, vrp.max);
    vrps.sort_by_key(key);
    vrps.dedup_by_key(|vrp| key(vrp));
    vrps
}

/// The first line of a text has no zero bytes; the tree of a MaxMind DB file begins
/// with them.
fn is_binary(head: &[u8]) -> bool {
    head.iter()
        .take(1024)
        .take_while(|&&b| b != b'\n')
        .any(|&b| b == 0)
}
