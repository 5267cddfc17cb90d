//! The database as the rest of kordon reads it: flat, sorted, not overlapping.
//!
//! IPv4 and IPv6 share one type; an address is its integer value in host order.

use serde::Serialize;

use crate::policy::model::Country;

/// Index into [`AsnDb::origins`].
pub type OriginsId = u32;

/// A range of addresses with the same origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginRange<A> {
    /// First address.
    pub start: A,
    /// Last address, inclusive.
    pub end: A,
    /// Which ASNs announce it.
    pub origins: OriginsId,
}

/// A range of addresses that is delegated to one country.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountryRange<A> {
    /// First address.
    pub start: A,
    /// Last address, inclusive.
    pub end: A,
    /// The country.
    pub country: Country,
}

/// A row of a source as it was read, for explaining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<A> {
    /// First address.
    pub start: A,
    /// Last address, inclusive.
    pub end: A,
    /// Its origin.
    pub asn: u32,
    /// Index into [`AsnDb::sources`].
    pub source: u16,
    /// Line in that source's file, from 1.
    pub line: u32,
}

/// What is known of one ASN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsnInfo {
    /// Organisation, as the source spells it; empty: not said.
    pub name: String,
    /// Where it is registered, when the source says so.
    pub country: Option<Country>,
}

/// One input file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Path as given.
    pub file: String,
    /// `range-csv`, `iptoasn` or `country-csv`.
    pub format: String,
    /// Rows that were used.
    pub rows: u64,
    /// Rows that were left out (unreadable, default routes, duplicates). Rows
    /// that say "nobody announces this" are understood: neither used nor skipped.
    pub skipped: u64,
}

/// Everything that was imported. Ranges are sorted and do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsnDb {
    /// Announced IPv4 space.
    pub v4: Vec<OriginRange<u32>>,
    /// Announced IPv6 space.
    pub v6: Vec<OriginRange<u128>>,
    /// Origin sets, each once; the first of a set is the one that is shown alone.
    pub origins: Vec<Vec<u32>>,
    /// IPv4 blocks by country.
    pub countries_v4: Vec<CountryRange<u32>>,
    /// IPv6 blocks by country.
    pub countries_v6: Vec<CountryRange<u128>>,
    /// Rows, sorted by (source, start, end).
    pub rows_v4: Vec<Row<u32>>,
    /// Rows, sorted by (source, start, end).
    pub rows_v6: Vec<Row<u128>>,
    /// Names and registrations, sorted by ASN.
    pub asns: Vec<(u32, AsnInfo)>,
    /// Where it comes from.
    pub sources: Vec<Source>,
    /// When it was imported, seconds since 1970.
    pub imported: i64,
}
