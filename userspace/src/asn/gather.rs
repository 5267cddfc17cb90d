//! One file while it is read: where every format's reader puts what it found.
//! It keeps rows, counts what is left out, words the warnings, and in the end says
//! whether the file as a whole can be a source.

use std::ops::Range;

use super::facts::Facts;
use super::format::Format;
use super::line::{self, Addresses, Fact, Fault, Parsed, Record, RowError, What};
use super::model::{Options, Source};
use super::range::{Address, exact_len};
use super::rows::{Located, Rows};
use super::source::SourceError;
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

/// One file while it is read.
pub(super) struct Gather<'a> {
    pub(super) file: &'a str,
    source: u16,
    pub(super) options: &'a Options,
    /// What all files say beside their rows.
    pub(super) facts: &'a mut Facts,
    shape: Shape,
    format: Option<Format>,
    /// Lines or records that should be rows.
    seen: u64,
    unreadable: u64,
    reversed: u64,
    defaults: u64,
    /// Prefixes that too few peers see.
    unseen: u64,
    /// Lines that say something of another kind.
    other: u64,
    first_fault: Option<Diagnostic>,
    warnings: Vec<Diagnostic>,
    pub(super) cut: Option<(usize, String)>,
    /// What is wrong with the file as a whole, where the rest is salvaged.
    damage: Vec<Diagnostic>,
    rows: Rows,
}

impl<'a> Gather<'a> {
    pub(super) fn new(
        file: &'a str,
        source: u16,
        options: &'a Options,
        facts: &'a mut Facts,
    ) -> Self {
        Self {
            file,
            source,
            options,
            facts,
            shape: Shape::Unknown,
            format: None,
            seen: 0,
            unreadable: 0,
            reversed: 0,
            defaults: 0,
            unseen: 0,
            other: 0,
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
    ) -> Result<(), Diagnostic> {
        if matches!(line.trim_ascii(), [] | [b'#' | b'%', ..]) {
            return Ok(());
        }
        self.seen += 1;
        if too_long {
            let fault = Fault::TooLong.at(0..line.len());
            self.fault(number, line, &fault);
            return Ok(());
        }
        let first = self.seen == 1;
        match self.shape.read(line, first) {
            Ok(Some(record)) => self.record(number, line, record),
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
        let fault = Fault::Damaged(number, what).at(0..0);
        self.fault(0, b"", &fault);
    }

    /// A record of a file without lines.
    pub(super) fn binary(
        &mut self,
        number: u64,
        addresses: Addresses,
        what: What<'_>,
        format: Format,
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
        self.record(number, b"", Record::Row(parsed))
    }

    fn record(&mut self, number: usize, line: &[u8], record: Record<'_>) -> Result<(), Diagnostic> {
        let row = match record {
            Record::Fact(format, fact) => {
                self.format.get_or_insert(format);
                self.other += u64::from(fact != Fact::Nothing);
                let taken = self.facts.fact(fact);
                return taken.map_err(|message| self.at_line(number, message));
            }
            Record::Row(row) => row,
        };
        if let Some(format) = row.format {
            let expected = *self.format.get_or_insert(format);
            if expected != format {
                let fault = Fault::OtherFormat(format, expected).at(row.third);
                self.fault(number, line, &fault);
                return Ok(());
            }
        }
        if self.rows.len() >= MAX_ROWS {
            let message = format!("it has more than {MAX_ROWS} rows");
            return Err(self.at_line(number, &message));
        }
        let line_number = u32::try_from(number).unwrap_or(u32::MAX);
        let addresses = row.addresses;
        let place = (self.source, line_number);
        match row.what {
            What::Origin { asn, country, name } if asn != 0 => {
                if self.is_default(number, line, &row) {
                    return Ok(());
                }
                self.facts.name(asn, name, country);
                self.rows.origin(addresses, asn, place);
            }
            What::Origins { ref asns, peers } => {
                if peers.is_some_and(|peers| peers < self.options.min_peers) {
                    self.unseen += 1;
                } else if asns.iter().any(|&asn| asn != 0) && !self.is_default(number, line, &row) {
                    for &asn in asns.iter().filter(|&&asn| asn != 0) {
                        self.rows.origin(addresses, asn, place);
                    }
                }
            }
            What::Network {
                asn,
                ref name,
                block,
            } => {
                if let Some(country) = block {
                    self.rows.country(addresses, country, place);
                }
                if let Some(asn) = asn.filter(|&asn| asn != 0)
                    && !self.is_default(number, line, &row)
                {
                    self.facts.name(asn, name, None);
                    self.rows.origin(addresses, asn, place);
                }
            }
            What::Country(Some(country)) => {
                self.rows.country(addresses, country, place);
            }
            What::Location(location) => self.rows.located.push(Located {
                addresses,
                location,
                source: place.0,
                line: place.1,
            }),
            What::Vrp { asn, max } => {
                if !self.rows.vrp(addresses, asn, max, place) {
                    let needs = "a longest length between that of its prefix and 32 or 128";
                    let fault = Fault::Shape(Format::VrpCsv, needs).at(0..line.len());
                    self.fault(number, line, &fault);
                } else if self.options.add_vrps && asn != 0 && !wide(addresses, (8, 16)) {
                    // Somebody may announce it: that is no announcement, unless it was chosen.
                    self.rows.origin(addresses, asn, place);
                }
            }
            What::Origin { .. } | What::Country(None) | What::Nothing => {}
        }
        Ok(())
    }

    fn at_line(&self, number: usize, message: &str) -> Diagnostic {
        let mut error = Diagnostic::of_file(
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
            return Err(Diagnostic::of_file(self.file, "it holds no rows", FORMATS));
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
            return Err(Diagnostic::of_file(
                self.file,
                format!("no prefix is seen by {min} peers"),
                "lower `min_peers`, or take a collector with more peers",
            ));
        }
        let what = if self.format.is_some_and(Format::is_countries) {
            "no row names a country"
        } else {
            "no row names a network that an ASN announces"
        };
        Err(Diagnostic::of_file(self.file, what, FORMATS))
    }

    /// Sorted rows, what is said of the source, and the warnings.
    pub(super) fn finish(mut self) -> (Rows, Source, Vec<Diagnostic>) {
        let mut warnings = std::mem::take(&mut self.warnings);
        let listed = warnings.len() as u64;
        let left_out = self.unreadable + self.defaults;
        if left_out > listed {
            warnings.push(Diagnostic::of_file(
                self.file,
                format!("{} more rows were left out", left_out - listed),
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
        let repeated = self.rows.dedup();
        let mut used = self.rows.len() as u64 + self.other;
        if self.options.add_vrps {
            // They are among the origins.
            used -= self.rows.vrps() as u64;
        }
        let source = Source {
            file: self.file.to_owned(),
            format: self.format.map_or("", Format::name).to_owned(),
            rows: used,
            skipped: left_out + repeated + self.unseen,
        };
        (self.rows, source, warnings)
    }

    fn has_any(&self) -> bool {
        self.rows.len() > 0 || self.other > 0
    }

    /// The file cannot be read on, as `error` says. Where it is only cut, and the rest is to be
    /// salvaged, what is before that is used all the same.
    pub(super) fn ended(&mut self, mut error: Diagnostic, is_cut: bool) -> Result<(), Diagnostic> {
        if !is_cut || !self.options.salvage || !self.has_any() {
            return Err(error);
        }
        error.message = format!("{}: {PART}", error.message);
        self.damage.push(error);
        Ok(())
    }

    /// What is wrong with the file as a stream, at a line if it has lines.
    pub(super) fn unreadable(&self, error: &SourceError, line: usize) -> Diagnostic {
        Diagnostic {
            line,
            column: usize::from(line > 0),
            ..Diagnostic::of_file(self.file, error.to_string(), error.help())
        }
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
