//! What files say that is not about addresses: names and countries of ASNs, organisations and
//! whose ASNs they are, countries by the numbers that other files name them by. It comes from
//! all files, in any order, and is put together when all of them are read.

use std::collections::HashMap;

use super::country::Country;
use super::line::{self, Fact};
use super::model::{AsnInfo, Org};

/// Organisations and ASNs that files may name; the registries have a tenth.
const MAX_FACTS: usize = 4_000_000;

/// What files say that is not about addresses; the first that says something counts.
#[derive(Default)]
pub(super) struct Facts {
    asns: HashMap<u32, AsnInfo>,
    orgs: HashMap<String, Org>,
    /// MaxMind's numbers of countries.
    pub(super) locations: HashMap<u32, Country>,
    /// Which organisation an ASN is of, and its own name.
    members: HashMap<u32, (String, String)>,
}

impl Facts {
    pub(super) fn name(&mut self, asn: u32, name: &[u8], country: Option<Country>) {
        let info = self.asns.entry(asn).or_default();
        if info.name.is_empty() {
            info.name = line::clean_name(name);
        }
        info.country = info.country.or(country);
    }

    /// Takes a fact in; the error is that there are too many.
    pub(super) fn fact(&mut self, fact: Fact<'_>) -> Result<(), &'static str> {
        match fact {
            Fact::Location(id, country) => {
                self.locations.entry(id).or_insert(country);
            }
            Fact::Registered(first, last, country) => {
                for asn in first..=last {
                    let info = self.asns.entry(asn).or_default();
                    info.country = info.country.or(Some(country));
                }
            }
            Fact::Named(asn, name, country) => self.name(asn, name, country),
            Fact::Org(id, name, country) => {
                let org = self.orgs.entry(id.into_owned()).or_default();
                if org.name.is_empty() {
                    org.name = line::clean_name(name.as_bytes());
                }
                org.country = org.country.or(country);
            }
            Fact::Member(asn, name, org) => {
                self.members
                    .entry(asn)
                    .or_insert_with(|| (org.into_owned(), line::clean_name(name.as_bytes())));
            }
            Fact::Nothing => {}
        }
        let held = self.asns.len() + self.orgs.len() + self.locations.len() + self.members.len();
        if held > MAX_FACTS {
            return Err("it names more ASNs and organisations than there are");
        }
        Ok(())
    }

    /// Puts ASNs into their organisations, and names into ASNs that have none.
    pub(super) fn resolve(self) -> (Vec<(u32, AsnInfo)>, Vec<Org>) {
        let Self {
            mut asns,
            mut orgs,
            members,
            ..
        } = self;
        for (asn, (id, own_name)) in members {
            let org = orgs.entry(id).or_default();
            org.asns.push(asn);
            let info = asns.entry(asn).or_default();
            if info.name.is_empty() {
                info.name = if org.name.is_empty() {
                    own_name
                } else {
                    org.name.clone()
                };
            }
            info.country = info.country.or(org.country);
        }
        let mut asns: Vec<_> = asns.into_iter().collect();
        asns.sort_unstable_by_key(|&(asn, _)| asn);
        let mut orgs: Vec<Org> = orgs
            .into_iter()
            .map(|(id, mut org)| {
                org.id = line::clean_name(id.as_bytes());
                org.asns.sort_unstable();
                org
            })
            .filter(|org| !org.asns.is_empty())
            .collect();
        orgs.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        orgs.dedup_by(|b, a| a.id == b.id);
        (asns, orgs)
    }
}
