//! What a source is: every format that is read, its name in `asndb info`, and
//! what follows from the format alone.

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// start,end,asn,name
    RangeCsv,
    /// start, end, asn, country, name, by tabs.
    IpToAsn,
    /// start,end,CC
    CountryCsv,
    /// prefix,CC
    CountryPrefixes,
    /// `GeoLite2-ASN-Blocks-*.csv`.
    MaxMindAsn,
    /// `GeoLite2-Country-Blocks-*.csv`.
    MaxMindCountry,
    /// `GeoLite2-Country-Locations-*.csv`.
    MaxMindLocations,
    /// Networks or ranges under named columns, such as IPinfo Lite.
    NetworkCsv,
    /// The same as JSON lines.
    NetworkJsonl,
    /// The same as one JSON list.
    NetworkJson,
    /// Names of ASNs under named columns.
    AsnNames,
    /// CAIDA's RouteViews prefix-to-AS mappings.
    Pfx2As,
    /// RIPE's `riswhoisdump`.
    RisWhois,
    /// prefix asn
    PrefixAsn,
    /// `table.jsonl` of bgp.tools.
    TableJson,
    /// `delegated-*-extended` of the registries.
    Delegated,
    /// CAIDA's AS organisations, as text or as JSON lines.
    As2Org,
    /// Validated ROA payloads as CSV (Routinator, rpki-client).
    VrpCsv,
    /// Validated ROA payloads as JSON.
    VrpJson,
    /// A MaxMind DB file, whoever made it.
    Mmdb,
    /// A RIB of a BGP speaker: MRT `TABLE_DUMP_V2` (RFC 6396).
    Mrt,
}

impl Format {
    pub(super) const ALL: [Self; 21] = [
        Self::RangeCsv,
        Self::IpToAsn,
        Self::CountryCsv,
        Self::CountryPrefixes,
        Self::MaxMindAsn,
        Self::MaxMindCountry,
        Self::MaxMindLocations,
        Self::NetworkCsv,
        Self::NetworkJsonl,
        Self::NetworkJson,
        Self::AsnNames,
        Self::Pfx2As,
        Self::RisWhois,
        Self::PrefixAsn,
        Self::TableJson,
        Self::Delegated,
        Self::As2Org,
        Self::VrpCsv,
        Self::VrpJson,
        Self::Mmdb,
        Self::Mrt,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RangeCsv => "range-csv",
            Self::IpToAsn => "iptoasn",
            Self::CountryCsv => "country-csv",
            Self::CountryPrefixes => "country-prefixes",
            Self::MaxMindAsn => "maxmind-asn-csv",
            Self::MaxMindCountry => "maxmind-country-csv",
            Self::MaxMindLocations => "maxmind-locations-csv",
            Self::NetworkCsv => "network-csv",
            Self::NetworkJsonl => "network-jsonl",
            Self::NetworkJson => "network-json",
            Self::AsnNames => "asn-names",
            Self::Pfx2As => "pfx2as",
            Self::RisWhois => "riswhois",
            Self::PrefixAsn => "prefix-asn",
            Self::TableJson => "table-jsonl",
            Self::Delegated => "delegated",
            Self::As2Org => "as2org",
            Self::VrpCsv => "vrp-csv",
            Self::VrpJson => "vrp-json",
            Self::Mmdb => "mmdb",
            Self::Mrt => "mrt",
        }
    }

    pub(super) fn described(self) -> &'static str {
        match self {
            Self::RangeCsv => "range CSV (start,end,asn,name)",
            Self::IpToAsn => "iptoasn TSV (start, end, asn, country, name)",
            Self::CountryCsv => "a country list (start,end,CC)",
            Self::CountryPrefixes => "a country list (prefix,CC)",
            Self::MaxMindAsn => "MaxMind ASN blocks",
            Self::MaxMindCountry => "MaxMind country blocks",
            Self::MaxMindLocations => "MaxMind locations",
            Self::NetworkCsv => "networks under named columns",
            Self::NetworkJsonl => "networks as JSON lines",
            Self::NetworkJson => "networks as a JSON list",
            Self::AsnNames => "a list of AS names",
            Self::Pfx2As => "pfx2as (address, length, origins)",
            Self::RisWhois => "riswhoisdump (origin, prefix, peers)",
            Self::PrefixAsn => "a list of prefixes (prefix, asn)",
            Self::TableJson => "a table of bgp.tools as JSON lines",
            Self::Delegated => "a delegated file of a registry",
            Self::As2Org => "AS organisations of CAIDA",
            Self::VrpCsv => "RPKI payloads as CSV",
            Self::VrpJson => "RPKI payloads as JSON",
            Self::Mmdb => "a MaxMind DB file",
            Self::Mrt => "an MRT RIB",
        }
    }

    /// By its name, as a snapshot keeps it.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether each row is one announced prefix. Others give ranges in which equal
    /// neighbours have been joined, so that the length of what was announced is lost.
    pub(super) fn is_routes(self) -> bool {
        matches!(
            self,
            Self::Pfx2As | Self::RisWhois | Self::PrefixAsn | Self::TableJson | Self::Mrt
        )
    }

    /// Rows that are exactly one prefix shorter than this (IPv4, IPv6) are default
    /// routes. Databases that join equal neighbours have honest networks of /7.
    pub(super) fn shortest(self) -> (u8, u8) {
        match self {
            Self::MaxMindAsn
            | Self::NetworkCsv
            | Self::NetworkJsonl
            | Self::NetworkJson
            | Self::Mmdb => (4, 8),
            _ => (8, 16),
        }
    }

    /// Whether `Row::line` counts records, where others count lines.
    pub(super) fn has_records(self) -> bool {
        matches!(
            self,
            Self::Mmdb | Self::Mrt | Self::VrpJson | Self::NetworkJson
        )
    }

    /// Whether it only says which country blocks belong to.
    pub(super) fn is_countries(self) -> bool {
        matches!(
            self,
            Self::CountryCsv
                | Self::CountryPrefixes
                | Self::MaxMindCountry
                | Self::MaxMindLocations
                | Self::Delegated
        )
    }
}
