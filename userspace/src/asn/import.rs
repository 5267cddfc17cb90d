//! Files to database. Reads leniently, because real sources have wrong rows, and
//! says what it left out; refuses what cannot be a source at all. A file's content
//! says what it is; its name and the list it was given in do not.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::country::Country;
use super::flatten::{self, Interner};
use super::format::Format;
use super::gather::{FORMATS, Gather, Located, Rows, whole_file};
use super::line::{self, Fact};
use super::model::{AsnDb, AsnInfo, Org};
use super::range::{Crowded, MAX_DEPTH};
use super::source::{Input, Lines, SourceError};
use super::{Options, mmdb, mrt, networks, vrps};
use crate::diagnostic::{Diagnostic, Diagnostics};

/// Organisations and ASNs that files may name; the registries have a tenth.
const MAX_FACTS: usize = 4_000_000;

/// Nothing was imported: what is wrong with which file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", in_words(.0))]
pub struct ImportError(
    /// At least one error; warnings of all files that were read.
    pub Diagnostics,
);

impl From<Diagnostic> for ImportError {
    fn from(error: Diagnostic) -> Self {
        Self(Diagnostics {
            errors: vec![error],
            warnings: Vec::new(),
        })
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

/// What files say that is not about addresses; the first that says something counts.
#[derive(Default)]
pub(super) struct Shared {
    asns: HashMap<u32, AsnInfo>,
    orgs: HashMap<String, Org>,
    locations: HashMap<u32, Country>,
    /// Which organisation an ASN is of, and its own name.
    members: HashMap<u32, (String, String)>,
}

impl Shared {
    pub(super) fn name(&mut self, asn: u32, name: &[u8], country: Option<Country>) {
        let info = self.asns.entry(asn).or_default();
        if info.name.is_empty() {
            info.name = line::clean_name(name);
        }
        info.country = info.country.or(country);
    }

    /// Takes a fact in; the error is that there are too many.
    pub(super) fn fact(&mut self, fact: Fact<'_>) -> Result<(), &'static str> {
        match fact {
            Fact::Location(id, country) => {
                self.locations.entry(id).or_insert(country);
            }
            Fact::Registered(first, last, country) => {
                for asn in first..=last {
                    let info = self.asns.entry(asn).or_default();
                    info.country = info.country.or(Some(country));
                }
            }
            Fact::Named(asn, name, country) => self.name(asn, name, country),
            Fact::Org(id, name, country) => {
                let org = self.orgs.entry(id.into_owned()).or_default();
                if org.name.is_empty() {
                    org.name = line::clean_name(name.as_bytes());
                }
                org.country = org.country.or(country);
            }
            Fact::Member(asn, name, org) => {
                self.members
                    .entry(asn)
                    .or_insert_with(|| (org.into_owned(), line::clean_name(name.as_bytes())));
            }
            Fact::Nothing => {}
        }
        let held = self.asns.len() + self.orgs.len() + self.locations.len() + self.members.len();
        if held > MAX_FACTS {
            return Err("it names more ASNs and organisations than there are");
        }
        Ok(())
    }

    /// Puts ASNs into their organisations, and names into ASNs that have none.
    fn resolve(self) -> (Vec<(u32, AsnInfo)>, Vec<Org>) {
        let Self {
            mut asns,
            mut orgs,
            members,
            ..
        } = self;
        for (asn, (id, own_name)) in members {
            let org = orgs.entry(id).or_default();
            org.asns.push(asn);
            let info = asns.entry(asn).or_default();
            if info.name.is_empty() {
                info.name = if org.name.is_empty() {
                    own_name
                } else {
                    org.name.clone()
                };
            }
            info.country = info.country.or(org.country);
        }
        let mut asns: Vec<_> = asns.into_iter().collect();
        asns.sort_unstable_by_key(|&(asn, _)| asn);
        let mut orgs: Vec<Org> = orgs
            .into_iter()
            .map(|(id, mut org)| {
                org.id = line::clean_name(id.as_bytes());
                org.asns.sort_unstable();
                org
            })
            .filter(|org| !org.asns.is_empty())
            .collect();
        orgs.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        orgs.dedup_by(|b, a| a.id == b.id);
        (asns, orgs)
    }
}

/// Everything read so far.
#[derive(Default)]
struct Build {
    db: AsnDb,
    rows: Rows,
    shared: Shared,
    found: Diagnostics,
}

impl Build {
    fn add(&mut self, path: &Path, options: &Options) -> Result<(), Diagnostic> {
        let file = path.display().to_string();
        let unreadable = |error: &SourceError, line: usize| Diagnostic {
            message: error.to_string(),
            help: Some(error.help().to_owned()),
            file: file.clone(),
            line,
            column: usize::from(line > 0),
            text: String::new(),
        };
        let Ok(source) = u16::try_from(self.db.sources.len()) else {
            let message = "there are more than 65536 sources";
            return Err(whole_file(&file, message, "join them"));
        };
        let input = Input::open(path).map_err(|error| unreadable(&error, 0))?;
        let mut gather = Gather::new(&file, source, options);
        let shared = &mut self.shared;
        if mrt::is_mrt(input.head()) {
            if let Err(error) = mrt::read(input.rib(), &mut gather, shared) {
                let is_cut = error.is_cut();
                let error = error.into_diagnostic(&file);
                if !is_cut || !gather.ends_early(&error) {
                    return Err(error);
                }
            }
        } else if vrps::is_document(input.head()) {
            vrps::read(input.document(), &mut gather, shared)
                .map_err(|error| error.into_diagnostic(&file))?;
        } else if networks::is_list(input.head()) {
            networks::read(input.document(), &mut gather, shared)
                .map_err(|error| error.into_diagnostic(&file))?;
        } else if is_binary(input.head()) {
            let bytes = input.whole().map_err(|error| unreadable(&error, 0))?;
            if !mmdb::is_mmdb(&bytes) {
                let message = "it is binary, and of no format that is known";
                return Err(whole_file(&file, message, FORMATS));
            }
            mmdb::read(&bytes, &mut gather, shared)
                .map_err(|error| error.into_diagnostic(&file))?;
        } else {
            text(input.lines(), &mut gather, shared, unreadable)?;
        }
        gather.judge()?;
        let (mut rows, source, mut warnings) = gather.finish();
        self.rows.append(&mut rows);
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
        let Rows {
            v4,
            v6,
            mut vrps_v4,
            mut vrps_v6,
            ..
        } = self.rows;
        vrps_v4.sort_by_key(|vrp| (vrp.start, vrp.len, vrp.asn, vrp.max));
        vrps_v4.dedup_by_key(|vrp| (vrp.start, vrp.len, vrp.asn, vrp.max));
        vrps_v6.sort_by_key(|vrp| (vrp.start, vrp.len, vrp.asn, vrp.max));
        vrps_v6.dedup_by_key(|vrp| (vrp.start, vrp.len, vrp.asn, vrp.max));
        let (asns, orgs) = self.shared.resolve();
        let db = AsnDb {
            rows_v4: v4,
            rows_v6: v6,
            vrps_v4,
            vrps_v6,
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
            && self.shared.locations.is_empty()
        {
            return Err(whole_file(
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
            if let Some(&country) = self.shared.locations.get(&location) {
                self.rows.country(addresses, country, source, line);
            }
        }
        Ok(())
    }

    fn flatten(&mut self) -> Result<(), Crowded> {
        let mut interner = Interner::default();
        let combine = self.db.combine;
        self.db.v4 = flatten::origins(&self.rows.v4, combine, &mut interner)?;
        self.db.v6 = flatten::origins(&self.rows.v6, combine, &mut interner)?;
        self.db.origins = interner.into_sets();
        self.db.countries_v4 = flatten::countries(&self.rows.countries_v4)?;
        self.db.countries_v6 = flatten::countries(&self.rows.countries_v6)?;
        Ok(())
    }

    fn crowded(&self, crowded: &Crowded) -> Diagnostic {
        let (source, line) = crowded.place;
        let file = self
            .db
            .sources
            .get(usize::from(source))
            .map_or("", |source| &source.file);
        let mut error = whole_file(
            file,
            &format!("more than {MAX_DEPTH} rows overlap, or too many in ever new ways"),
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

fn text(
    mut lines: Lines,
    gather: &mut Gather<'_>,
    shared: &mut Shared,
    unreadable: impl Fn(&SourceError, usize) -> Diagnostic,
) -> Result<(), Diagnostic> {
    loop {
        let number = lines.number + 1;
        match lines.next() {
            Ok(Some(line)) => {
                if line.cut && !line.bytes.is_empty() {
                    gather.cut = Some((number, line::printable(line.bytes)));
                }
                gather.line(number, line.bytes, line.too_long, shared)?;
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                let is_cut = matches!(error, SourceError::Truncated(_));
                let error = unreadable(&error, number);
                return if is_cut && gather.ends_early(&error) {
                    Ok(())
                } else {
                    Err(error)
                };
            }
        }
    }
}

/// The first line of a text has no zero bytes; the tree of a MaxMind DB file begins
/// with them.
fn is_binary(head: &[u8]) -> bool {
    head.iter()
        .take(1024)
        .take_while(|&&b| b != b'\n')
        .any(|&b| b == 0)
}
