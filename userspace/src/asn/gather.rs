//! One file while it is read: where every format's reader puts what it found.
//! It keeps rows, counts what is left out, words the warnings, and in the end says
//! whether the file as a whole can be a source.

use std::ops::Range;

use super::Options;
use super::country::Country;
use super::flatten;
use super::format::Format;
use super::import::Shared;
use super::line::{self, Addresses, Fact, Fault, Parsed, Record, RowError, What};
use super::model::{Row, Source, Vrp};
use super::range::{Address, CountryRow, exact_len};
use super::text::Shape;
use crate::diagnostic::Diagnostic;

/// Warnings that are listed for one file; more are counted.
const MAX_WARNINGS: usize = 20;
/// What the gate looks for in warnings.
pub(super) const DEFAULT_ROUTE: &str = "it is a default route";
/// What the gate looks for in warnings.
pub(super) const CUT: &str = "the last line has no line end";
/// What the gate looks for in warnings.
pub(super) const PART: &str = "only what is before that is used";
/// What the gate looks for in warnings.
pub(super) const UNREADABLE: &str = "rows cannot be read; the first";

/// Rows of one file. All views of a route collector together have fewer.
pub(super) const MAX_ROWS: usize = 8_000_000;

pub(super) const FORMATS: &str = "ASN sources are range CSV (start,end,asn,name), iptoasn TSV, \
     MaxMind CSV and MMDB, networks as JSON, pfx2as, riswhoisdump, `prefix asn`, MRT RIBs; others are country lists \
     (start,end,CC), delegated files, as2org, RPKI payloads; plain, gzip, zstd, bzip2 or xz";

/// A block whose country stands in another file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located {
    pub(super) addresses: Addresses,
    pub(super) location: u32,
    pub(super) source: u16,
    pub(super) line: u32,
}

/// Everything that is about addresses, of one file or of all.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) v4: Vec<Row<u32>>,
    pub(super) v6: Vec<Row<u128>>,
    pub(super) countries_v4: Vec<CountryRow<u32>>,
    pub(super) countries_v6: Vec<CountryRow<u128>>,
    pub(super) located: Vec<Located>,
    pub(super) vrps_v4: Vec<Vrp<u32>>,
    pub(super) vrps_v6: Vec<Vrp<u128>>,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.v4.len()
            + self.v6.len()
            + self.countries_v4.len()
            + self.countries_v6.len()
            + self.located.len()
            + self.vrps_v4.len()
            + self.vrps_v6.len()
    }

    pub(super) fn append(&mut self, other: &mut Self) {
        self.v4.append(&mut other.v4);
        self.v6.append(&mut other.v6);
        self.countries_v4.append(&mut other.countries_v4);
        self.countries_v6.append(&mut other.countries_v6);
        self.located.append(&mut other.located);
        self.vrps_v4.append(&mut other.vrps_v4);
        self.vrps_v6.append(&mut other.vrps_v6);
    }

    pub(super) fn country(
        &mut self,
        addresses: Addresses,
        country: Country,
        source: u16,
        line: u32,
    ) {
        match addresses {
            Addresses::V4(start, end) => self.countries_v4.push(CountryRow {
                start,
                end,
                country,
                source,
                line,
            }),
            Addresses::V6(start, end) => self.countries_v6.push(CountryRow {
                start,
                end,
                country,
                source,
                line,
            }),
        }
    }

    fn origin(&mut self, addresses: Addresses, asn: u32, source: u16, line: u32) {
        match addresses {
            Addresses::V4(start, end) => self.v4.push(Row {
                start,
                end,
                asn,
                source,
                line,
            }),
            Addresses::V6(start, end) => self.v6.push(Row {
                start,
                end,
                asn,
                source,
                line,
            }),
        }
    }
}

pub(super) fn whole_file(file: &str, message: &str, help: &str) -> Diagnostic {
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
pub(super) struct Gather<'a> {
    pub(super) file: &'a str,
    source: u16,
    pub(super) options: &'a Options,
    shape: Shape,
    format: Option<Format>,
    /// Lines or records that should be rows.
    seen: u64,
    unreadable: u64,
    reversed: u64,
    defaults: u64,
    /// Prefixes that too few peers see.
    unseen: u64,
    facts: u64,
    first_fault: Option<Diagnostic>,
    warnings: Vec<Diagnostic>,
    pub(super) cut: Option<(usize, String)>,
    /// What is wrong with the file as a whole, where the rest is salvaged.
    damage: Vec<Diagnostic>,
    rows: Rows,
}

impl<'a> Gather<'a> {
    pub(super) fn new(file: &'a str, source: u16, options: &'a Options) -> Self {
        Self {
            file,
            source,
            options,
            shape: Shape::Unknown,
            format: None,
            seen: 0,
            unreadable: 0,
            reversed: 0,
            defaults: 0,
            unseen: 0,
            facts: 0,
            first_fault: None,
            warnings: Vec::new(),
            cut: None,
            damage: Vec::new(),
            rows: Rows::default(),
        }
    }

    /// Takes one line in. An error is about the file as a whole.
    pub(super) fn line(
        &mut self,
        number: usize,
        line: &[u8],
        too_long: bool,
        shared: &mut Shared,
    ) -> Result<(), Diagnostic> {
        if matches!(line.trim_ascii(), [] | [b'#' | b'%', ..]) {
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
        let first = self.seen == 1;
        match self.shape.read(line, first) {
            Ok(Some(record)) => self.record(number, line, record, shared),
            Ok(None) => {
                self.seen = 0;
                Ok(())
            }
            Err(fault) => {
                self.fault(number, line, &fault);
                Ok(())
            }
        }
    }

    /// A record of a file without lines that cannot be read.
    pub(super) fn damaged(&mut self, number: u64, what: &'static str) {
        self.seen += 1;
        let fault = RowError {
            fault: Fault::Damaged(number, what),
            at: 0..0,
        };
        self.fault(0, b"", &fault);
    }

    /// A record of a file without lines.
    pub(super) fn binary(
        &mut self,
        number: u64,
        addresses: Addresses,
        what: What<'_>,
        format: Format,
        shared: &mut Shared,
    ) -> Result<(), Diagnostic> {
        self.seen += 1;
        let parsed = Parsed {
            addresses,
            what,
            format: Some(format),
            range: 0..0,
            third: 0..0,
        };
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        self.record(number, b"", Record::Row(parsed), shared)
    }

    fn record(
        &mut self,
        number: usize,
        line: &[u8],
        record: Record<'_>,
        shared: &mut Shared,
    ) -> Result<(), Diagnostic> {
        let row = match record {
            Record::Fact(format, fact) => {
                self.format.get_or_insert(format);
                self.facts += u64::from(fact != Fact::Nothing);
                return shared
                    .fact(fact)
                    .map_err(|message| self.at_line(number, message));
            }
            Record::Row(row) => row,
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
        }
        if self.rows.len() >= MAX_ROWS {
            let message = format!("it has more than {MAX_ROWS} rows");
            return Err(self.at_line(number, &message));
        }
        let place = u32::try_from(number).unwrap_or(u32::MAX);
        let addresses = row.addresses;
        let source = self.source;
        match row.what {
            What::Origin { asn, country, name } if asn != 0 => {
                if self.is_default(number, line, &row) {
                    return Ok(());
                }
                shared.name(asn, name, country);
                self.rows.origin(addresses, asn, source, place);
            }
            What::Origins { ref asns, peers } => {
                if peers.is_some_and(|peers| peers < self.options.min_peers) {
                    self.unseen += 1;
                } else if asns.iter().any(|&asn| asn != 0) && !self.is_default(number, line, &row) {
                    for &asn in asns.iter().filter(|&&asn| asn != 0) {
                        self.rows.origin(addresses, asn, source, place);
                    }
                }
            }
            What::Network {
                asn,
                ref name,
                block,
            } => {
                if let Some(country) = block {
                    self.rows.country(addresses, country, source, place);
                }
                if let Some(asn) = asn.filter(|&asn| asn != 0)
                    && !self.is_default(number, line, &row)
                {
                    shared.name(asn, name, None);
                    self.rows.origin(addresses, asn, source, place);
                }
            }
            What::Country(Some(country)) => {
                self.rows.country(addresses, country, source, place);
            }
            What::Location(location) => self.rows.located.push(Located {
                addresses,
                location,
                source,
                line: place,
            }),
            What::Vrp { asn, max } => self.vrp(number, line, addresses, asn, max),
            What::Origin { .. } | What::Country(None) | What::Nothing => {}
        }
        Ok(())
    }

    fn vrp(&mut self, number: usize, line: &[u8], addresses: Addresses, asn: u32, max: Option<u8>) {
        let place = u32::try_from(number).unwrap_or(u32::MAX);
        let source = self.source;
        let fits = match addresses {
            Addresses::V4(start, end) => exact_len(start, end)
                .map(|len| (len, max.unwrap_or(len)))
                .filter(|&(len, max)| (len..=32).contains(&max))
                .map(|(len, max)| {
                    self.rows.vrps_v4.push(Vrp {
                        start,
                        len,
                        max,
                        asn,
                        source,
                        line: place,
                    });
                }),
            Addresses::V6(start, end) => exact_len(start, end)
                .map(|len| (len, max.unwrap_or(len)))
                .filter(|&(len, max)| (len..=128).contains(&max))
                .map(|(len, max)| {
                    self.rows.vrps_v6.push(Vrp {
                        start,
                        len,
                        max,
                        asn,
                        source,
                        line: place,
                    });
                }),
        };
        if fits.is_none() {
            let fault = RowError {
                fault: Fault::Shape(
                    Format::VrpCsv,
                    "a longest length between that of its prefix and 32 or 128",
                ),
                at: 0..line.len(),
            };
            self.fault(number, line, &fault);
            return;
        }
        // Somebody may announce it: that is no announcement, unless it was chosen.
        if self.options.add_vrps && asn != 0 && !wide(addresses, (8, 16)) {
            self.rows.origin(addresses, asn, source, place);
        }
    }

    fn at_line(&self, number: usize, message: &str) -> Diagnostic {
        let mut error = whole_file(
            self.file,
            message,
            "one row per announced range is expected, not one per address or per path",
        );
        // Records are no lines.
        if !self.format.is_some_and(Format::has_records) {
            error.line = number;
            error.column = usize::from(number > 0);
        }
        error
    }

    /// Whether a row is so wide that it can only be a default route; says so.
    fn is_default(&mut self, number: usize, line: &[u8], row: &Parsed<'_>) -> bool {
        let limits = row.format.map_or((8, 16), Format::shortest);
        if !wide(row.addresses, limits) {
            return false;
        }
        self.defaults += 1;
        let (prefix, limit) = match row.addresses {
            Addresses::V4(start, end) => {
                (exact_len(start, end).map(|len| start.net(len)), limits.0)
            }
            Addresses::V6(start, end) => {
                (exact_len(start, end).map(|len| start.net(len)), limits.1)
            }
        };
        // Said even where the list of warnings is full: the gate has to see the first.
        if let Some(prefix) = prefix
            && (self.defaults == 1 || self.warnings.len() < MAX_WARNINGS)
        {
            let warning = self.diagnostic(
                number,
                line,
                &row.range,
                format!("`{prefix}` is ignored: shorter than /{limit}, {DEFAULT_ROUTE}"),
                "name its parts if it is really announced",
            );
            self.warnings.push(warning);
        }
        true
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
        warning.help = Some(
            error
                .fault
                .help()
                .unwrap_or("its row is left out")
                .to_owned(),
        );
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
        // A file without lines has no text to show.
        let (number, column) = if line.is_empty() {
            (0, 0)
        } else {
            let before = String::from_utf8_lossy(&line[..at.start]);
            (number, before.chars().count() + 1)
        };
        Diagnostic {
            message,
            help: Some(help.to_owned()),
            file: self.file.to_owned(),
            line: number,
            column,
            text: line::printable(&line[at.clone()]),
        }
    }

    /// Whether the file as a whole can be a source.
    pub(super) fn judge(&mut self) -> Result<(), Diagnostic> {
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
                error.message = format!("{bad} of {all} {UNREADABLE}: {}", error.message);
                error.help = Some(FORMATS.to_owned());
                if self.options.salvage && self.has_any() {
                    self.damage.push(error);
                    return Ok(());
                }
            }
            return Err(error);
        }
        if self.has_any() {
            return Ok(());
        }
        if self.unseen > 0 {
            let min = self.options.min_peers;
            return Err(whole_file(
                self.file,
                &format!("no prefix is seen by {min} peers"),
                "lower `min_peers`, or take a collector with more peers",
            ));
        }
        let what = if self.format.is_some_and(Format::is_countries) {
            "no row names a country"
        } else {
            "no row names a network that an ASN announces"
        };
        Err(whole_file(self.file, what, FORMATS))
    }

    /// Sorted rows, what is said of the source, and the warnings.
    pub(super) fn finish(mut self) -> (Rows, Source, Vec<Diagnostic>) {
        let mut warnings = std::mem::take(&mut self.warnings);
        let listed = warnings.len() as u64;
        let left_out = self.unreadable + self.defaults;
        if left_out > listed {
            warnings.push(whole_file(
                self.file,
                &format!("{} more rows were left out", left_out - listed),
                "the first ones are listed",
            ));
        }
        if let Some((line, text)) = self.cut.take() {
            warnings.push(Diagnostic {
                message: format!("{CUT}: the file may have been cut short"),
                help: Some("fetch it again if it should go on".to_owned()),
                file: self.file.to_owned(),
                line,
                column: 1,
                text,
            });
        }
        warnings.append(&mut self.damage);
        let rows = &mut self.rows;
        let repeated = flatten::dedup(&mut rows.v4, |row| row.asn)
            + flatten::dedup(&mut rows.v6, |row| row.asn)
            + flatten::dedup(&mut rows.countries_v4, |row| row.country)
            + flatten::dedup(&mut rows.countries_v6, |row| row.country);
        let used = rows.v4.len()
            + rows.v6.len()
            + rows.countries_v4.len()
            + rows.countries_v6.len()
            + rows.located.len()
            + if self.options.add_vrps {
                0
            } else {
                rows.vrps_v4.len() + rows.vrps_v6.len()
            };
        let source = Source {
            file: self.file.to_owned(),
            format: self.format.map_or("", Format::name).to_owned(),
            rows: used as u64 + self.facts,
            skipped: left_out + repeated + self.unseen,
        };
        (self.rows, source, warnings)
    }

    fn has_any(&self) -> bool {
        self.rows.len() > 0 || self.facts > 0
    }

    /// The file ends before its end, as `error` says. Says whether what is before that is
    /// used all the same.
    pub(super) fn ends_early(&mut self, error: &Diagnostic) -> bool {
        let used = self.options.salvage && self.has_any();
        if used {
            let mut warning = error.clone();
            warning.message = format!("{}: {PART}", error.message);
            self.damage.push(warning);
        }
        used
    }

    /// Prefixes that too few peers see.
    pub(super) fn unseen(&mut self) {
        self.seen += 1;
        self.unseen += 1;
    }
}

/// Whether a range is exactly one prefix, shorter than the limit of its family.
fn wide(addresses: Addresses, (v4, v6): (u8, u8)) -> bool {
    match addresses {
        Addresses::V4(start, end) => exact_len(start, end).is_some_and(|len| len < v4),
        Addresses::V6(start, end) => exact_len(start, end).is_some_and(|len| len < v6),
    }
}
