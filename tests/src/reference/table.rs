//! The database as rows in the order of their files, searched from first to
//! last for every question.

use std::{net::IpAddr, str::FromStr as _};

use kordon::asn::Country;

/// A row: a range of addresses and what a source says of it.
#[derive(Clone, Debug)]
struct Row {
    v6: bool,
    start: u128,
    end: u128,
    asn: u32,
    /// Registration of the ASN, or (in a country list) of the block.
    country: Option<Country>,
}

/// All sources, each a list of rows.
#[derive(Clone, Debug, Default)]
pub struct Table {
    asn_sources: Vec<Vec<Row>>,
    country_sources: Vec<Vec<Row>>,
}

/// What the table says of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// By priority of the sources, then ascending.
    pub origins: Vec<u32>,
    /// Where the block is delegated to.
    pub block: Option<Country>,
}

/// Family and integer value.
fn number(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (false, u128::from(u32::from(address))),
        IpAddr::V6(address) => (true, u128::from(address)),
    }
}

impl Row {
    /// `::ffff:a.b.c.d` rows are IPv4 rows.
    fn new(start: IpAddr, end: IpAddr, asn: u32, country: Option<Country>) -> Self {
        let (v6, start) = number(start.to_canonical());
        let (_, end) = number(end.to_canonical());
        Self {
            v6,
            start,
            end,
            asn,
            country,
        }
    }

    fn covers(&self, (v6, value): (bool, u128)) -> bool {
        self.v6 == v6 && self.start <= value && value <= self.end
    }

    fn same(&self, other: &Self) -> bool {
        self.start == other.start && self.end == other.end
    }

    /// `self` is the larger of two that share an address.
    fn strictly_contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end && !self.same(other)
    }

    /// Exactly one prefix, and shorter than /8 (IPv4) or /16 (IPv6).
    fn is_default_route(&self) -> bool {
        let (bits, shortest) = if self.v6 { (128, 16) } else { (32, 8) };
        (0..shortest).any(|length| {
            let size = 1u128.checked_shl(bits - length);
            match size {
                Some(size) => self.start.is_multiple_of(size) && self.end - self.start == size - 1,
                // 2^128: everything.
                None => self.start == 0 && self.end == u128::MAX,
            }
        })
    }
}

impl Table {
    /// Reads sources as the generators write them: well-formed range CSV or
    /// iptoasn TSV, and country lists with commas.
    ///
    /// # Panics
    /// On anything else.
    #[must_use]
    pub fn read(asn_sources: &[String], country_sources: &[String]) -> Self {
        let address = |text: &str| text.parse().expect("an address");
        let asn_row = |line: &str| {
            if line.contains('\t') {
                let cells: Vec<&str> = line.split('\t').collect();
                let country = Country::from_str(cells[3]).ok();
                let asn = cells[2].parse().expect("an ASN");
                Row::new(address(cells[0]), address(cells[1]), asn, country)
            } else {
                let cells: Vec<&str> = line.split(',').collect();
                let asn = cells[2].parse().expect("an ASN");
                Row::new(address(cells[0]), address(cells[1]), asn, None)
            }
        };
        let country_row = |line: &str| {
            let cells: Vec<&str> = line.split(',').collect();
            let country = Country::from_str(cells[2]).expect("a country");
            Row::new(address(cells[0]), address(cells[1]), 0, Some(country))
        };
        // Default routes are an affair of routes; delegated blocks may be large.
        let usable = |row: &Row| !row.is_default_route();
        Self {
            asn_sources: asn_sources
                .iter()
                .map(|text| text.lines().map(asn_row).filter(usable).collect())
                .collect(),
            country_sources: country_sources
                .iter()
                .map(|text| text.lines().map(country_row).collect())
                .collect(),
        }
    }

    /// Everything that is known of one address.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Answer {
        // `::ffff:a.b.c.d` is that IPv4 address.
        let value = number(address.to_canonical());
        let mut answer = Answer::default();
        for source in &self.asn_sources {
            // AS0 means "not announced": as if the row were not there.
            let covering: Vec<&Row> = source
                .iter()
                .filter(|row| row.asn != 0 && row.covers(value))
                .collect();
            let mut winners: Vec<u32> = covering
                .iter()
                .filter(|row| !covering.iter().any(|other| row.strictly_contains(other)))
                .map(|row| row.asn)
                .collect();
            winners.sort_unstable();
            for asn in winners {
                if !answer.origins.contains(&asn) {
                    answer.origins.push(asn);
                }
            }
        }
        for source in &self.country_sources {
            // The smallest row; `min_by_key` keeps the first of equals.
            let smallest = source
                .iter()
                .filter(|row| row.covers(value))
                .min_by_key(|row| row.end - row.start);
            if let Some(row) = smallest {
                answer.block = row.country;
                break;
            }
        }
        answer
    }

    /// Where an ASN is registered: the first source and row that says so.
    #[must_use]
    pub fn registration(&self, asn: u32) -> Option<Country> {
        self.asn_sources
            .iter()
            .flatten()
            .filter(|row| row.asn == asn)
            .find_map(|row| row.country)
    }

    /// First and last address of every row, for generators.
    #[must_use]
    pub fn boundaries(&self) -> Vec<IpAddr> {
        let address = |v6: bool, value: u128| {
            if v6 {
                IpAddr::V6(value.into())
            } else {
                IpAddr::V4(u32::try_from(value).expect("an IPv4 value").into())
            }
        };
        self.asn_sources
            .iter()
            .chain(&self.country_sources)
            .flatten()
            .flat_map(|row| [address(row.v6, row.start), address(row.v6, row.end)])
            .collect()
    }
}
