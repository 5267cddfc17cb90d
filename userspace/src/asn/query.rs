//! Questions to the database.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::country::Country;
use super::model::{AsnDb, AsnInfo, CountryRange, OriginRange, OriginsId, Row, Source};
use super::range::{Address, largest_around, merged, nets, prefix_count};

/// What is known of one address. Serialises to the fields of `kordon lookup --json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The largest prefix around the address inside the row that decided.
    pub prefix: Option<IpNet>,
    /// The first origin: by priority of the sources, then the lowest.
    pub asn: Option<u32>,
    /// All origins; empty: nobody announces it.
    pub origins: Vec<u32>,
    /// Name of `asn`.
    pub name: Option<String>,
    /// Of the address block, else of the registration of `asn`.
    #[serde(serialize_with = "as_code")]
    pub country: Option<Country>,
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn as_code<S: Serializer>(country: &Option<Country>, to: S) -> Result<S::Ok, S::Error> {
    match country {
        Some(country) => to.collect_str(country),
        None => to.serialize_none(),
    }
}

/// Summary of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Seconds since 1970.
    pub imported: i64,
    /// In the order of their priority, countries last.
    pub sources: Vec<Source>,
    /// IPv4.
    pub ipv4: FamilyInfo,
    /// IPv6.
    pub ipv6: FamilyInfo,
    /// ASNs that announce something.
    pub asns: u64,
    /// Combinations of several origins at one address.
    pub multi_origin_sets: u64,
}

/// Counts of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FamilyInfo {
    /// Rows of the sources.
    pub rows: u64,
    /// Ranges of equal origins, without overlaps.
    pub ranges: u64,
    /// Prefixes that the ranges split into.
    pub prefixes: u64,
    /// Ranges of equal country.
    pub country_blocks: u64,
}

impl AsnDb {
    /// Whether a source has address blocks of countries.
    #[must_use]
    pub fn has_country_blocks(&self) -> bool {
        !(self.countries_v4.is_empty() && self.countries_v6.is_empty())
    }

    /// Who announces an IPv4 address (as an integer).
    #[must_use]
    pub fn origins_at_v4(&self, addr: u32) -> Option<OriginsId> {
        origins_in(&self.v4, addr)
    }

    /// Who announces an IPv6 address (as an integer); embedded IPv4 is not looked at.
    #[must_use]
    pub fn origins_at_v6(&self, addr: u128) -> Option<OriginsId> {
        origins_in(&self.v6, addr)
    }

    /// Who announces an address; v4-mapped ones are IPv4. Empty: nobody.
    #[must_use]
    pub fn origins_at(&self, addr: IpAddr) -> &[u32] {
        let id = match addr.to_canonical() {
            IpAddr::V4(addr) => self.origins_at_v4(addr.into()),
            IpAddr::V6(addr) => self.origins_at_v6(addr.into()),
        };
        id.and_then(|id| self.origins.get(id as usize))
            .map_or(&[], Vec::as_slice)
    }

    /// Which country the block around an address is delegated to.
    #[must_use]
    pub fn block_country(&self, addr: IpAddr) -> Option<Country> {
        match addr.to_canonical() {
            IpAddr::V4(addr) => country_in(&self.countries_v4, addr.into()),
            IpAddr::V6(addr) => country_in(&self.countries_v6, addr.into()),
        }
    }

    /// Name and registration of an ASN that announces something.
    #[must_use]
    pub fn asn_info(&self, asn: u32) -> Option<&AsnInfo> {
        let found = self.asns.binary_search_by_key(&asn, |&(asn, _)| asn).ok()?;
        Some(&self.asns[found].1)
    }

    /// Everything about one address. Walks rows; for many addresses use
    /// [`Self::origins_at`].
    #[must_use]
    pub fn lookup(&self, addr: IpAddr) -> Answer {
        let addr = addr.to_canonical();
        let origins = self.origins_at(addr).to_vec();
        let asn = origins.first().copied();
        let info = asn.and_then(|asn| self.asn_info(asn));
        let prefix = match addr {
            IpAddr::V4(addr) => deciding(&self.rows_v4, addr.into()),
            IpAddr::V6(addr) => deciding(&self.rows_v6, addr.into()),
        };
        Answer {
            prefix,
            asn,
            origins,
            name: info
                .map(|info| info.name.clone())
                .filter(|name| !name.is_empty()),
            country: self
                .block_country(addr)
                .or_else(|| info.and_then(|info| info.country)),
        }
    }

    /// What an ASN announces, alone or with others, as the fewest prefixes; IPv4
    /// first, each family in order.
    #[must_use]
    pub fn prefixes_of(&self, asn: u32) -> Vec<IpNet> {
        let has: Vec<bool> = self.origins.iter().map(|set| set.contains(&asn)).collect();
        let wanted = |id: OriginsId| has.get(id as usize).copied().unwrap_or(false);
        let v4 = self.v4.iter().filter(|range| wanted(range.origins));
        let v6 = self.v6.iter().filter(|range| wanted(range.origins));
        let mut out = joined(v4.map(|range| (range.start, range.end)));
        out.extend(joined(v6.map(|range| (range.start, range.end))));
        out
    }

    /// Who announces which parts of a prefix, in order; what nobody announces is left out.
    /// No more than the first `most` of them, and how many there are.
    #[must_use]
    pub fn within(&self, net: IpNet, most: usize) -> (Vec<(IpNet, &[u32])>, u64) {
        match net {
            IpNet::V4(net) => {
                let ends = (net.network().to_bits(), net.broadcast().to_bits());
                self.parts(&self.v4, ends, most)
            }
            IpNet::V6(net) => {
                let ends = (net.network().to_bits(), net.broadcast().to_bits());
                self.parts(&self.v6, ends, most)
            }
        }
    }

    fn parts<'a, A: Address>(
        &'a self,
        ranges: &[OriginRange<A>],
        (first, last): (A, A),
        most: usize,
    ) -> (Vec<(IpNet, &'a [u32])>, u64) {
        let (mut out, mut count) = (Vec::new(), 0);
        let from = ranges.partition_point(|range| range.end < first);
        let inside = ranges[from..]
            .iter()
            .take_while(|range| range.start <= last);
        for range in inside {
            let (start, end) = (range.start.max(first), range.end.min(last));
            count += prefix_count(start, end);
            if out.len() == most {
                continue;
            }
            let mut nets = nets([(start, end)]);
            let origins = self.origins.get(range.origins as usize);
            let origins = origins.map_or(&[][..], Vec::as_slice);
            nets.truncate(most - out.len());
            out.extend(nets.into_iter().map(|net| (net, origins)));
        }
        (out, count)
    }

    /// What is delegated to a country, as the fewest prefixes; IPv4 first.
    #[must_use]
    pub fn prefixes_in(&self, country: Country) -> Vec<IpNet> {
        let v4 = self.countries_v4.iter().filter(|r| r.country == country);
        let v6 = self.countries_v6.iter().filter(|r| r.country == country);
        let mut out = joined(v4.map(|range| (range.start, range.end)));
        out.extend(joined(v6.map(|range| (range.start, range.end))));
        out
    }

    /// ASNs that are registered in a country, lowest first.
    #[must_use]
    pub fn asns_in(&self, country: Country) -> Vec<u32> {
        self.asns
            .iter()
            .filter(|(_, info)| info.country == Some(country))
            .map(|&(asn, _)| asn)
            .collect()
    }

    /// ASNs whose name holds a text, in any case, lowest first.
    #[must_use]
    pub fn search(&self, text: &str) -> Vec<(u32, &AsnInfo)> {
        let text = text.to_lowercase();
        self.asns
            .iter()
            .filter(|(_, info)| info.name.to_lowercase().contains(&text))
            .map(|(asn, info)| (*asn, info))
            .collect()
    }

    /// Summary.
    #[must_use]
    pub fn info(&self) -> Info {
        let mut announcing: Vec<u32> = self.origins.iter().flatten().copied().collect();
        announcing.sort_unstable();
        announcing.dedup();
        Info {
            imported: self.imported,
            sources: self.sources.clone(),
            ipv4: family(&self.v4, self.rows_v4.len(), self.countries_v4.len()),
            ipv6: family(&self.v6, self.rows_v6.len(), self.countries_v6.len()),
            asns: announcing.len() as u64,
            multi_origin_sets: self.origins.iter().filter(|set| set.len() > 1).count() as u64,
        }
    }
}

fn origins_in<A: Address>(ranges: &[OriginRange<A>], addr: A) -> Option<OriginsId> {
    let after = ranges.partition_point(|range| range.start <= addr);
    let range = ranges.get(after.checked_sub(1)?)?;
    (addr <= range.end).then_some(range.origins)
}

fn country_in<A: Address>(ranges: &[CountryRange<A>], addr: A) -> Option<Country> {
    let after = ranges.partition_point(|range| range.start <= addr);
    let range = ranges.get(after.checked_sub(1)?)?;
    (addr <= range.end).then_some(range.country)
}

/// The largest prefix around an address inside the row that decides there.
fn deciding<A: Address>(rows: &[Row<A>], addr: A) -> Option<IpNet> {
    let mut sources = rows.chunk_by(|a, b| a.source == b.source);
    let row = sources.find_map(|rows| most_specific(rows, addr))?;
    Some(largest_around(addr, row.start, row.end))
}

/// The smallest row over an address, of one source; among equals the lowest ASN,
/// then the first.
fn most_specific<A: Address>(rows: &[Row<A>], addr: A) -> Option<&Row<A>> {
    let size = |row: &Row<A>| row.end.wide() - row.start.wide();
    let mut best: Option<&Row<A>> = None;
    let after = rows.partition_point(|row| row.start <= addr);
    for row in rows[..after].iter().rev() {
        if let Some(best) = best
            && addr.wide() - row.start.wide() > size(best)
        {
            // It, and all before it, would have to be larger to reach `addr`.
            break;
        }
        if row.end >= addr && best.is_none_or(|best| (size(row), row.asn) <= (size(best), best.asn))
        {
            best = Some(row);
        }
    }
    best
}

fn family<A: Address>(ranges: &[OriginRange<A>], rows: usize, country_blocks: usize) -> FamilyInfo {
    FamilyInfo {
        rows: rows as u64,
        ranges: ranges.len() as u64,
        prefixes: ranges
            .iter()
            .map(|range| prefix_count(range.start, range.end))
            .sum(),
        country_blocks: country_blocks as u64,
    }
}

/// Joins neighbours, then splits into prefixes.
fn joined<A: Address>(ranges: impl Iterator<Item = (A, A)>) -> Vec<IpNet> {
    nets(merged(ranges.collect()))
}
