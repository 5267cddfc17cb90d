//! The database as the rest of kordon reads it: flat, sorted, not overlapping.
//!
//! IPv4 and IPv6 share one type; an address is its integer value in host order.

use serde::Serialize;

use super::country::Country;

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
    /// Line or record in that source's file, from 1.
    pub line: u32,
}

/// A validated ROA payload: who may announce what (RFC 6811).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vrp<A> {
    /// First address of the prefix.
    pub start: A,
    /// Its length.
    pub len: u8,
    /// Longest announcement that is allowed, at least `len`.
    pub max: u8,
    /// Who may announce it; 0: nobody (RFC 6483).
    pub asn: u32,
    /// Index into [`AsnDb::sources`].
    pub source: u16,
    /// Line or record in that source's file, from 1.
    pub line: u32,
}

/// An organisation and its ASNs: siblings of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Org {
    /// The registry's handle, unique.
    pub id: String,
    /// As the source spells it; empty: not said.
    pub name: String,
    /// Where it is registered.
    pub country: Option<Country>,
    /// Its ASNs, lowest first.
    pub asns: Vec<u32>,
}

/// What holds where several sources speak of one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// The origins of all: for an enforcer a missed origin is worse than one too many.
    #[default]
    Union,
    /// Those of the first source that knows the address.
    Priority,
}

impl std::str::FromStr for Combine {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "union" => Ok(Self::Union),
            "priority" => Ok(Self::Priority),
            _ => Err("it is `union` or `priority`"),
        }
    }
}

/// How sources become a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What holds where several sources speak of one address.
    pub combine: Combine,
    /// Peers of a collector that have to see a prefix, where the source says how
    /// many do. A RIB asks for no more than half of its own peers.
    pub min_peers: u32,
    /// Whether RPKI payloads count as announcements.
    pub add_vrps: bool,
    /// Whether what can be read of a damaged file is taken. That it is damaged is then a
    /// warning, which [`super::gate::judge`] makes a concern of.
    pub salvage: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            combine: Combine::Union,
            min_peers: 10,
            add_vrps: false,
            salvage: false,
        }
    }
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
    /// One of the names in the documentation, such as `range-csv` or `mmdb`.
    pub format: String,
    /// Rows that were used.
    pub rows: u64,
    /// Rows that were left out (unreadable, default routes, duplicates, prefixes that
    /// too few peers see). Rows
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
    /// Names and registrations, sorted by ASN; of ASNs that announce nothing too.
    pub asns: Vec<(u32, AsnInfo)>,
    /// Organisations, sorted by id.
    pub orgs: Vec<Org>,
    /// RPKI payloads, sorted by (start, len, asn, max), each once.
    pub vrps_v4: Vec<Vrp<u32>>,
    /// RPKI payloads, likewise.
    pub vrps_v6: Vec<Vrp<u128>>,
    /// How the sources were combined.
    pub combine: Combine,
    /// Where it comes from.
    pub sources: Vec<Source>,
    /// When it was imported, seconds since 1970.
    pub imported: i64,
}
