//! CSV whose header names its columns: MaxMind, IPinfo, RPKI validators, lists of
//! AS names. The names differ from publisher to publisher; what they mean does not.

use std::ops::Range;

use super::format::Format;
use super::line::{
    self, Addresses, Fact, Fault, Parsed, Record, RowError, What, as_number, country, printable,
};

/// What a column means, by the names that it goes by, lower case.
const NAMES: &[(Column, &[&str])] = &[
    (
        Column::Network,
        &["network", "prefix", "cidr", "ip_prefix", "ip prefix"],
    ),
    (
        Column::Start,
        &[
            "start",
            "start_ip",
            "ip_start",
            "range_start",
            "ip_range_start",
            "ip_from",
        ],
    ),
    (
        Column::End,
        &[
            "end",
            "end_ip",
            "ip_end",
            "range_end",
            "ip_range_end",
            "ip_to",
        ],
    ),
    (
        Column::Asn,
        &["asn", "autonomous_system_number", "as_number"],
    ),
    (
        Column::Name,
        &[
            "autonomous_system_organization",
            "as_name",
            "as_organization",
            "organization",
            "org",
            "name",
        ],
    ),
    (
        Column::Country,
        &["country_code", "country_iso_code", "cc", "country"],
    ),
    (Column::Geoname, &["geoname_id"]),
    (Column::Registered, &["registered_country_geoname_id"]),
    (
        Column::MaxLength,
        &["max length", "max_length", "maxlength"],
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Network,
    Start,
    End,
    Asn,
    Name,
    Country,
    Geoname,
    Registered,
    MaxLength,
}

/// Which column stands where.
#[derive(Debug)]
pub(super) struct Columns {
    separator: u8,
    /// By meaning; the first name of a list that is there.
    places: [Option<usize>; 9],
    format: Format,
}

impl Columns {
    /// Of a header. `None`: it names nothing that is needed, or only what is known by
    /// its place anyway.
    pub(super) fn of(header: &[u8]) -> Option<Self> {
        let separator = *header.iter().find(|&&b| b == b',' || b == b'\t')?;
        let names: Vec<String> = Fields::new(header, separator)
            .map(|at| {
                String::from_utf8_lossy(&header[at])
                    .trim()
                    .trim_matches('"')
                    .to_ascii_lowercase()
            })
            .collect();
        let mut places = [None; 9];
        for (column, known) in NAMES {
            places[*column as usize] = known
                .iter()
                .find_map(|name| names.iter().position(|n| n == name));
        }
        let has = |column: Column| places[column as usize].is_some();
        let network = has(Column::Network);
        let range = has(Column::Start) && has(Column::End);
        let format = if network && has(Column::Asn) && has(Column::MaxLength) {
            Format::VrpCsv
        } else if network && has(Column::Geoname) {
            Format::MaxMindCountry
        } else if has(Column::Geoname) && has(Column::Country) {
            Format::MaxMindLocations
        } else if network && names.iter().any(|n| n == "autonomous_system_number") {
            Format::MaxMindAsn
        } else if network && (has(Column::Asn) || has(Column::Country))
            || range && has(Column::Asn) && has(Column::Country)
        {
            Format::NetworkCsv
        } else if has(Column::Asn) && !network && !range && has(Column::Name) {
            Format::AsnNames
        } else {
            return None;
        };
        Some(Self {
            separator,
            places,
            format,
        })
    }

    pub(super) fn parse<'a>(&self, line: &'a [u8]) -> Result<Record<'a>, RowError> {
        let mut found: [Option<Range<usize>>; 9] = Default::default();
        for (index, at) in Fields::new(line, self.separator).enumerate() {
            for (place, found) in self.places.iter().zip(&mut found) {
                if *place == Some(index) {
                    *found = Some(at.clone());
                }
            }
        }
        Row {
            line,
            found,
            format: self.format,
        }
        .record()
    }
}

struct Row<'a> {
    line: &'a [u8],
    found: [Option<Range<usize>>; 9],
    format: Format,
}

impl<'a> Row<'a> {
    /// Where a column stands, without quotes and blanks.
    fn at(&self, column: Column) -> Option<Range<usize>> {
        let at = self.found[column as usize].clone()?;
        let text = &self.line[at.clone()];
        let trimmed = text.trim_ascii();
        let start = at.start + text.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let bare = trimmed
            .strip_prefix(b"\"")
            .and_then(|t| t.strip_suffix(b"\""));
        Some(match bare {
            Some(bare) => start + 1..start + 1 + bare.len(),
            None => start..start + trimmed.len(),
        })
    }

    fn text(&self, column: Column) -> &'a [u8] {
        let line = self.line;
        self.at(column).map_or(&[], |at| &line[at])
    }

    /// As it stands, quotes included.
    fn raw(&self, column: Column) -> &'a [u8] {
        let line = self.line;
        self.found[column as usize]
            .clone()
            .map_or(&[], |at| &line[at])
    }

    fn wants(&self, what: &'static str) -> RowError {
        Fault::Shape(self.format, what).at(0..self.line.len())
    }

    fn record(&self) -> Result<Record<'a>, RowError> {
        match self.format {
            Format::MaxMindLocations => {
                let Some(id) = as_number(self.text(Column::Geoname)) else {
                    return Err(self.wants("a number as its location"));
                };
                let fact = match country(self.text(Column::Country)).flatten() {
                    Some(code) => Fact::Location(id, code),
                    None => Fact::Nothing,
                };
                Ok(Record::Fact(self.format, fact))
            }
            Format::AsnNames => {
                let Some(asn) = as_number(self.text(Column::Asn)) else {
                    return Err(self.wants("an AS number"));
                };
                let code = country(self.text(Column::Country)).flatten();
                let fact = Fact::Named(asn, self.raw(Column::Name), code);
                Ok(Record::Fact(self.format, fact))
            }
            _ => self.row(),
        }
    }

    fn row(&self) -> Result<Record<'a>, RowError> {
        let (addresses, range) = self.addresses()?;
        let third = self.at(Column::Asn).unwrap_or_else(|| range.clone());
        let text = self.text(Column::Asn);
        // Blocks that nobody announces have an empty column, or a word for it.
        let asn = match as_number(text) {
            Some(asn) => Some(asn),
            None if text.is_empty() || text.eq_ignore_ascii_case(b"none") || text == b"-" => None,
            None => {
                return Err(Fault::Third(printable(text)).at(third));
            }
        };
        let what = match self.format {
            Format::VrpCsv => {
                let text = self.text(Column::MaxLength);
                let max = std::str::from_utf8(text).ok().and_then(|m| m.parse().ok());
                match asn {
                    Some(asn) if max.is_some() || text.is_empty() => What::Vrp { asn, max },
                    _ => return Err(self.wants("an AS number and a longest length, if any")),
                }
            }
            Format::MaxMindCountry => {
                let id = as_number(self.text(Column::Geoname))
                    .or_else(|| as_number(self.text(Column::Registered)));
                id.map_or(What::Nothing, What::Location)
            }
            _ => What::Network {
                asn,
                name: self.raw(Column::Name).into(),
                block: country(self.text(Column::Country)).flatten(),
            },
        };
        Ok(Record::Row(Parsed {
            addresses,
            what,
            format: Some(self.format),
            range,
            third,
        }))
    }

    fn addresses(&self) -> Result<(Addresses, Range<usize>), RowError> {
        if let Some(at) = self.at(Column::Network) {
            let text = &self.line[at.clone()];
            return match line::network(text) {
                Some(addresses) => Ok((addresses, at)),
                None => Err(Fault::NoPrefix(printable(text)).at(at)),
            };
        }
        let (Some(start), Some(end)) = (self.at(Column::Start), self.at(Column::End)) else {
            return Err(self.wants("a network, or start and end"));
        };
        let range = start.start.min(end.start)..end.end.max(start.end);
        let addresses = line::range_of(self.line, &start, &end)?;
        Ok((addresses, range))
    }
}

/// Fields with their quotes. A quote that is never closed takes the rest of the line.
struct Fields<'a> {
    line: &'a [u8],
    separator: u8,
    at: Option<usize>,
}

impl<'a> Fields<'a> {
    fn new(line: &'a [u8], separator: u8) -> Self {
        Self {
            line,
            separator,
            at: Some(0),
        }
    }
}

impl Iterator for Fields<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.at?;
        let mut quoted = false;
        let mut at = start;
        while let Some(&byte) = self.line.get(at) {
            if byte == b'"' {
                quoted = !quoted;
            } else if byte == self.separator && !quoted {
                self.at = Some(at + 1);
                return Some(start..at);
            }
            at += 1;
        }
        self.at = None;
        Some(start..at)
    }
}
