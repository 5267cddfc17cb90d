//! What files say of addresses, on its way into the database: rows that overlap as they like,
//! apart by family, each with the file and line that it is from.

use super::country::Country;
use super::flatten;
use super::line::Addresses;
use super::model::{Row, Vrp};
use super::range::{Address, CountryRow, exact_len};

/// A source, and the line or record in its file.
type Place = (u16, u32);

/// A block whose country stands in another file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located {
    pub(super) addresses: Addresses,
    pub(super) location: u32,
    pub(super) source: u16,
    pub(super) line: u32,
}

/// Rows about addresses of one family.
#[derive(Debug, Default)]
pub(super) struct Family<A> {
    pub(super) origins: Vec<Row<A>>,
    pub(super) countries: Vec<CountryRow<A>>,
    pub(super) vrps: Vec<Vrp<A>>,
}

impl<A: Address> Family<A> {
    fn len(&self) -> usize {
        self.origins.len() + self.countries.len() + self.vrps.len()
    }

    fn append(&mut self, mut other: Self) {
        self.origins.append(&mut other.origins);
        self.countries.append(&mut other.countries);
        self.vrps.append(&mut other.vrps);
    }

    fn dedup(&mut self) -> u64 {
        flatten::dedup(&mut self.origins, |row| row.asn)
            + flatten::dedup(&mut self.countries, |row| row.country)
    }

    fn origin(&mut self, start: A, end: A, asn: u32, (source, line): Place) {
        self.origins.push(Row {
            start,
            end,
            asn,
            source,
            line,
        });
    }

    fn country(&mut self, start: A, end: A, country: Country, (source, line): Place) {
        self.countries.push(CountryRow {
            start,
            end,
            country,
            source,
            line,
        });
    }

    fn vrp(&mut self, (start, end): (A, A), asn: u32, max: Option<u8>, place: Place) -> bool {
        let Some(len) = exact_len(start, end) else {
            return false;
        };
        let max = max.unwrap_or(len);
        let fits = (len..=A::BITS).contains(&max);
        if fits {
            self.vrps.push(Vrp {
                start,
                len,
                max,
                asn,
                source: place.0,
                line: place.1,
            });
        }
        fits
    }
}

/// Everything that is about addresses, of one file or of all.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) v4: Family<u32>,
    pub(super) v6: Family<u128>,
    pub(super) located: Vec<Located>,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len() + self.located.len()
    }

    /// How many of them authorise, and announce nothing.
    pub(super) fn vrps(&self) -> usize {
        self.v4.vrps.len() + self.v6.vrps.len()
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.v4.append(other.v4);
        self.v6.append(other.v6);
        self.located.append(&mut other.located);
    }

    /// Sorts what one source says and removes repetitions; says how many went.
    pub(super) fn dedup(&mut self) -> u64 {
        self.v4.dedup() + self.v6.dedup()
    }

    pub(super) fn country(&mut self, addresses: Addresses, country: Country, place: Place) {
        match addresses {
            Addresses::V4(start, end) => self.v4.country(start, end, country, place),
            Addresses::V6(start, end) => self.v6.country(start, end, country, place),
        }
    }

    pub(super) fn origin(&mut self, addresses: Addresses, asn: u32, place: Place) {
        match addresses {
            Addresses::V4(start, end) => self.v4.origin(start, end, asn, place),
            Addresses::V6(start, end) => self.v6.origin(start, end, asn, place),
        }
    }

    /// Who may announce a prefix, up to a length, else up to its own. Whether that can be.
    pub(super) fn vrp(
        &mut self,
        addresses: Addresses,
        asn: u32,
        max: Option<u8>,
        place: Place,
    ) -> bool {
        match addresses {
            Addresses::V4(start, end) => self.v4.vrp((start, end), asn, max, place),
            Addresses::V6(start, end) => self.v6.vrp((start, end), asn, max, place),
        }
    }
}
