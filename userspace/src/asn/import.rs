//! Files to database. Reads leniently, because real sources have wrong rows, and
//! says what it left out; refuses what cannot be what it was given as.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::flatten::{self, Interner};
use super::line::{self, Addresses, Fault, Format, RowError, What};
use super::model::{AsnDb, AsnInfo, Row, Source};
use super::range::{Address, CountryRow, Crowded, MAX_DEPTH, exact_len};
use super::source::{Lines, SourceError};
use crate::diagnostic::{Diagnostic, Diagnostics};

/// Warnings that are listed for one file; more are counted.
const MAX_WARNINGS: usize = 20;

/// Rows of one file. All views of a route collector together have fewer.
const MAX_ROWS: usize = 8_000_000;

const FORMATS: &str = "ASN sources are range CSV (start,end,asn,name) or iptoasn TSV, country \
     sources are start,end,CC; plain, gzip or zstd";

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

/// What a file was given as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Asn,
    Country,
}

/// Reads all sources, in the order of their priority, and compiles them. The
/// diagnostics are warnings: rows that were left out and files that look cut.
///
/// # Errors
///
/// Every file that cannot be read, is of the wrong kind, or has more unreadable
/// than readable rows; all of them at once.
pub fn import(
    asn_files: &[PathBuf],
    country_files: &[PathBuf],
) -> Result<(AsnDb, Diagnostics), ImportError> {
    let mut build = Build::default();
    let files = asn_files
        .iter()
        .map(|file| (file, Role::Asn))
        .chain(country_files.iter().map(|file| (file, Role::Country)));
    for (path, role) in files {
        if let Err(error) = build.add(path, role) {
            build.found.errors.push(error);
        }
    }
    build.finish()
}

/// Everything read so far.
#[derive(Default)]
struct Build {
    db: AsnDb,
    countries_v4: Vec<CountryRow<u32>>,
    countries_v6: Vec<CountryRow<u128>>,
    asns: HashMap<u32, AsnInfo>,
    found: Diagnostics,
}

impl Build {
    fn add(&mut self, path: &Path, role: Role) -> Result<(), Diagnostic> {
        let file = path.display().to_string();
        let unreadable = |error: &SourceError, line| Diagnostic {
            message: error.to_string(),
            help: Some(error.help().to_owned()),
            file: file.clone(),
            line,
            column: 0,
            text: String::new(),
        };
        let lines = Lines::open(path).map_err(|error| unreadable(&error, 0))?;
        self.add_lines(lines, &file, role, unreadable)
    }

    fn add_lines(
        &mut self,
        mut lines: Lines,
        file: &str,
        role: Role,
        unreadable: impl Fn(&SourceError, usize) -> Diagnostic,
    ) -> Result<(), Diagnostic> {
        let Ok(source) = u16::try_from(self.db.sources.len()) else {
            return Err(whole_file(
                file,
                "there are more than 65536 sources",
                "join them",
            ));
        };
        let mut reading = Reading::new(file, source, role);
        loop {
            let number = lines.number + 1;
            match lines.next() {
                Ok(Some(line)) => {
                    if line.cut && !line.bytes.is_empty() {
                        reading.cut = Some((number, line::printable(line.bytes)));
                    }
                    reading.line(number, line.bytes, line.too_long, &mut self.asns)?;
                }
                Ok(None) => break,
                Err(error) => return Err(unreadable(&error, number)),
            }
        }
        reading.judge()?;
        reading.deliver(self);
        Ok(())
    }

    fn finish(mut self) -> Result<(AsnDb, Diagnostics), ImportError> {
        if !self.found.errors.is_empty() {
            return Err(ImportError(self.found));
        }
        if let Err(crowded) = self.flatten() {
            let error = self.crowded(&crowded);
            self.found.errors.push(error);
            return Err(ImportError(self.found));
        }
        let mut asns: Vec<_> = self.asns.into_iter().collect();
        asns.sort_unstable_by_key(|&(asn, _)| asn);
        self.db.asns = asns;
        self.db.imported = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs().cast_signed());
        Ok((self.db, self.found))
    }

    fn flatten(&mut self) -> Result<(), Crowded> {
        let mut interner = Interner::default();
        self.db.v4 = flatten::origins(&self.db.rows_v4, &mut interner)?;
        self.db.v6 = flatten::origins(&self.db.rows_v6, &mut interner)?;
        self.db.origins = interner.into_sets();
        self.db.countries_v4 = flatten::countries(&self.countries_v4)?;
        self.db.countries_v6 = flatten::countries(&self.countries_v6)?;
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
        error.line = line as usize;
        error
    }
}

fn whole_file(file: &str, message: &str, help: &str) -> Diagnostic {
    Diagnostic {
        message: message.to_owned(),
        help: Some(help.to_owned()),
        file: file.to_owned(),
        line: 0,
        column: 0,
        text: String::new(),
    }
}

/// One file while it is read.
struct Reading<'a> {
    file: &'a str,
    source: u16,
    role: Role,
    format: Option<Format>,
    /// Lines that should be rows.
    seen: u64,
    unreadable: u64,
    reversed: u64,
    defaults: u64,
    first_fault: Option<Diagnostic>,
    warnings: Vec<Diagnostic>,
    cut: Option<(usize, String)>,
    v4: Vec<Row<u32>>,
    v6: Vec<Row<u128>>,
    countries_v4: Vec<CountryRow<u32>>,
    countries_v6: Vec<CountryRow<u128>>,
}

impl<'a> Reading<'a> {
    fn new(file: &'a str, source: u16, role: Role) -> Self {
        Self {
            file,
            source,
            role,
            format: None,
            seen: 0,
            unreadable: 0,
            reversed: 0,
            defaults: 0,
            first_fault: None,
            warnings: Vec::new(),
            cut: None,
            v4: Vec::new(),
            v6: Vec::new(),
            countries_v4: Vec::new(),
            countries_v6: Vec::new(),
        }
    }

    /// Takes one line in. An error is about the file as a whole.
    fn line(
        &mut self,
        number: usize,
        line: &[u8],
        too_long: bool,
        asns: &mut HashMap<u32, AsnInfo>,
    ) -> Result<(), Diagnostic> {
        if matches!(line.trim_ascii(), [] | [b'#', ..]) {
            return Ok(());
        }
        self.seen += 1;
        if too_long {
            let fault = RowError {
                fault: Fault::TooLong,
                at: 0..line.len(),
            };
            self.fault(number, line, &fault);
            return Ok(());
        }
        let row = match line::parse(line) {
            Ok(row) => row,
            Err(_) if self.seen == 1 && line::is_header(line) => {
                self.seen = 0;
                return Ok(());
            }
            Err(fault) => {
                self.fault(number, line, &fault);
                return Ok(());
            }
        };
        if let Some(format) = row.format {
            let expected = *self.format.get_or_insert(format);
            if expected != format {
                let fault = RowError {
                    fault: Fault::OtherFormat(format, expected),
                    at: row.third,
                };
                self.fault(number, line, &fault);
                return Ok(());
            }
            if let Err((message, help)) = self.check_role(format) {
                return Err(self.diagnostic(number, line, &row.third, message, help));
            }
        }
        let held =
            self.v4.len() + self.v6.len() + self.countries_v4.len() + self.countries_v6.len();
        if held == MAX_ROWS {
            let mut error = whole_file(
                self.file,
                &format!("it has more than {MAX_ROWS} rows"),
                "one row per announced range is expected, not one per address or per path",
            );
            error.line = number;
            return Err(error);
        }
        let place = u32::try_from(number).unwrap_or(u32::MAX);
        match row.what {
            What::Origin { asn, country, name } if asn != 0 => {
                if self.is_default(row.addresses) {
                    self.default_route(number, line, &row);
                    return Ok(());
                }
                let info = asns.entry(asn).or_default();
                if info.name.is_empty() {
                    info.name = line::clean_name(name);
                }
                info.country = info.country.or(country);
                let source = self.source;
                match row.addresses {
                    Addresses::V4(start, end) => self.v4.push(Row {
                        start,
                        end,
                        asn,
                        source,
                        line: place,
                    }),
                    Addresses::V6(start, end) => self.v6.push(Row {
                        start,
                        end,
                        asn,
                        source,
                        line: place,
                    }),
                }
            }
            What::Country(Some(country)) => {
                let source = self.source;
                match row.addresses {
                    Addresses::V4(start, end) => self.countries_v4.push(CountryRow {
                        start,
                        end,
                        country,
                        source,
                        line: place,
                    }),
                    Addresses::V6(start, end) => self.countries_v6.push(CountryRow {
                        start,
                        end,
                        country,
                        source,
                        line: place,
                    }),
                }
            }
            What::Origin { .. } | What::Country(None) | What::Nothing => {}
        }
        Ok(())
    }

    fn check_role(&self, format: Format) -> Result<(), (String, &'static str)> {
        match (self.role, format) {
            (Role::Asn, Format::CountryCsv) => Err((
                format!("it is {}, not an ASN source", format.described()),
                "give it with `--country-db`",
            )),
            (Role::Country, Format::RangeCsv) => Err((
                format!("it is {}, not a country source", format.described()),
                "give it with `--asn-db`",
            )),
            // Its country is where the ASN is registered, not where the block is.
            (Role::Country, Format::IpToAsn) => Err((
                format!("it is {}, not a country source", format.described()),
                "give it with `--asn-db`: its countries are those of the ASNs",
            )),
            _ => Ok(()),
        }
    }

    /// A row so wide that it can only be a default route.
    fn is_default(&self, addresses: Addresses) -> bool {
        let shorter = |len: Option<u8>, limit| len.is_some_and(|len| len < limit);
        match addresses {
            Addresses::V4(start, end) => shorter(exact_len(start, end), 8),
            Addresses::V6(start, end) => shorter(exact_len(start, end), 16),
        }
    }

    fn default_route(&mut self, number: usize, line: &[u8], row: &line::Parsed<'_>) {
        self.defaults += 1;
        let (prefix, limit) = match row.addresses {
            Addresses::V4(start, end) => (exact_len(start, end).map(|len| start.net(len)), 8),
            Addresses::V6(start, end) => (exact_len(start, end).map(|len| start.net(len)), 16),
        };
        let (Some(prefix), true) = (prefix, self.warnings.len() < MAX_WARNINGS) else {
            return;
        };
        let at = row.range.clone();
        let warning = self.diagnostic(
            number,
            line,
            &at,
            format!("`{prefix}` is ignored: shorter than /{limit}, it is a default route"),
            "name its parts if it is really announced",
        );
        self.warnings.push(warning);
    }

    fn fault(&mut self, number: usize, line: &[u8], error: &RowError) {
        self.unreadable += 1;
        if matches!(error.fault, Fault::Reversed(..)) {
            self.reversed += 1;
        }
        if self.warnings.len() >= MAX_WARNINGS && self.first_fault.is_some() {
            return;
        }
        let mut warning = self.diagnostic(number, line, &error.at, error.fault.to_string(), "");
        warning.help = error.fault.help().map(str::to_owned);
        if self.first_fault.is_none() {
            self.first_fault = Some(warning.clone());
        }
        if self.warnings.len() < MAX_WARNINGS {
            warning.message = format!("row left out: {}", warning.message);
            self.warnings.push(warning);
        }
    }

    fn diagnostic(
        &self,
        number: usize,
        line: &[u8],
        at: &Range<usize>,
        message: String,
        help: &str,
    ) -> Diagnostic {
        Diagnostic {
            message,
            help: Some(help.to_owned()),
            file: self.file.to_owned(),
            line: number,
            column: String::from_utf8_lossy(&line[..at.start]).chars().count() + 1,
            text: line::printable(&line[at.clone()]),
        }
    }

    /// Whether the file as a whole can be what it was given as.
    fn judge(&mut self) -> Result<(), Diagnostic> {
        if self.seen == 0 {
            return Err(whole_file(self.file, "it holds no rows", FORMATS));
        }
        if let Some(mut error) = self.first_fault.take()
            && self.unreadable * 2 > self.seen
        {
            let (bad, all) = (self.unreadable, self.seen);
            if error.text.starts_with('<') {
                error.message = "it is a web page (HTML or XML), not a table".to_owned();
                error.help = Some("check the address it was fetched from".to_owned());
            } else if self.reversed == all {
                error.message = format!(
                    "all rows end before they start; the first: {}",
                    error.message
                );
            } else {
                error.message = format!(
                    "{bad} of {all} rows cannot be read; the first: {}",
                    error.message
                );
                error.help = Some(FORMATS.to_owned());
            }
            return Err(error);
        }
        if self.v4.is_empty()
            && self.v6.is_empty()
            && self.countries_v4.is_empty()
            && self.countries_v6.is_empty()
        {
            let what = match self.role {
                Role::Asn => "no row names a network that an ASN announces",
                Role::Country => "no row names a country",
            };
            return Err(whole_file(self.file, what, FORMATS));
        }
        Ok(())
    }

    fn deliver(mut self, build: &mut Build) {
        let listed = self.warnings.len() as u64;
        build.found.warnings.append(&mut self.warnings);
        let left_out = self.unreadable + self.defaults;
        if left_out > listed {
            build.found.warnings.push(whole_file(
                self.file,
                &format!("{} more rows were left out", left_out - listed),
                "the first ones are listed",
            ));
        }
        if let Some((line, text)) = self.cut {
            build.found.warnings.push(Diagnostic {
                message: "the last line has no line end: the file may have been cut short"
                    .to_owned(),
                help: Some("fetch it again if it should go on".to_owned()),
                file: self.file.to_owned(),
                line,
                column: 1,
                text,
            });
        }
        let repeated = flatten::dedup(&mut self.v4, |row| row.asn)
            + flatten::dedup(&mut self.v6, |row| row.asn)
            + flatten::dedup(&mut self.countries_v4, |row| row.country)
            + flatten::dedup(&mut self.countries_v6, |row| row.country);
        let rows =
            self.v4.len() + self.v6.len() + self.countries_v4.len() + self.countries_v6.len();
        build.db.sources.push(Source {
            file: self.file.to_owned(),
            format: self.format.map_or("", Format::name).to_owned(),
            rows: rows as u64,
            skipped: left_out + repeated,
        });
        build.db.rows_v4.append(&mut self.v4);
        build.db.rows_v6.append(&mut self.v6);
        build.countries_v4.append(&mut self.countries_v4);
        build.countries_v6.append(&mut self.countries_v6);
    }
}
