//! Organisations by the names that people give them.

use strsim::jaro_winkler;

use super::model::{AsnDb, Org};
use crate::diagnostic::{Problem, quoted};

/// Candidates that a message names.
const MAX_NAMED: usize = 5;

impl AsnDb {
    /// The organisation with this id, else the only one with this name; in any case.
    ///
    /// # Errors
    ///
    /// There is none, or several have the name.
    pub fn org(&self, name: &str) -> Result<&Org, Problem> {
        if self.orgs.is_empty() {
            return Err(Problem::new(
                "no source says which organisations there are",
                "add CAIDA's as2org to the sources, or name the ASNs with `asns`",
            ));
        }
        let wanted = folded(name);
        if let Some(org) = self.orgs.iter().find(|org| folded(&org.id) == wanted) {
            return Ok(org);
        }
        let found: Vec<&Org> = self
            .orgs
            .iter()
            .filter(|org| folded(&org.name) == wanted && !wanted.is_empty())
            .collect();
        match found[..] {
            [only] => Ok(only),
            [] => {
                let similar = self.similar(&wanted);
                let help = if similar.is_empty() {
                    "search with `kordon lookup NAME`".to_owned()
                } else {
                    format!("did you mean {}", similar.join(", "))
                };
                let message = format!("there is no organisation {}", quoted(name));
                Err(Problem::new(message, help))
            }
            _ => {
                let one = |org: &&Org| format!("`{}` ({} ASNs)", org.id, org.asns.len());
                let mut all: Vec<String> = found.iter().take(MAX_NAMED).map(one).collect();
                if found.len() > MAX_NAMED {
                    all.push("…".to_owned());
                }
                Err(Problem::new(
                    format!("{} organisations are called {}", found.len(), quoted(name)),
                    format!("name those that are meant by their ids: {}", all.join(", ")),
                ))
            }
        }
    }

    /// The organisation of an ASN.
    #[must_use]
    pub fn org_of(&self, asn: u32) -> Option<&Org> {
        self.orgs
            .iter()
            .find(|org| org.asns.binary_search(&asn).is_ok())
    }

    /// Names that hold the text, those with most ASNs first; else those that are
    /// spelled nearly so.
    fn similar(&self, wanted: &str) -> Vec<String> {
        let mut holding: Vec<&Org> = self
            .orgs
            .iter()
            .filter(|org| !wanted.is_empty() && folded(&org.name).contains(wanted))
            .collect();
        holding.sort_by_key(|org| std::cmp::Reverse(org.asns.len()));
        if holding.is_empty() {
            let mut near: Vec<(f64, &Org)> = self
                .orgs
                .iter()
                .map(|org| {
                    let name = jaro_winkler(&folded(&org.name), wanted);
                    (name.max(jaro_winkler(&folded(&org.id), wanted)), org)
                })
                .filter(|(likeness, _)| *likeness > 0.85)
                .collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            holding = near.into_iter().map(|(_, org)| org).collect();
        }
        holding
            .into_iter()
            .take(MAX_NAMED)
            .map(|org| format!("`{}` (`{}`)", org.name, org.id))
            .collect()
    }
}

fn folded(text: &str) -> String {
    text.trim().to_lowercase()
}
