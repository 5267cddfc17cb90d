//! Organisations by the names that people give them.

use strsim::jaro_winkler;

use super::model::{AsnDb, Org};
use crate::diagnostic::quoted;

/// Candidates that a message names.
const MAX_NAMED: usize = 5;

/// Why a name is not an organisation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrgError {
    /// No source says which ASN belongs to whom.
    #[error("no source says which organisations there are")]
    NoSource,
    /// Nobody is called so.
    #[error("there is no organisation {}", quoted(.name))]
    Unknown {
        /// The name.
        name: String,
        /// Ids and names that look like it, best first.
        similar: Vec<(String, String)>,
    },
    /// Several are called so.
    #[error("{} organisations are called {}", .found.len(), quoted(.name))]
    Ambiguous {
        /// The name.
        name: String,
        /// Ids, and how many ASNs each has.
        found: Vec<(String, usize)>,
    },
}

impl OrgError {
    /// What would cure it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::NoSource => {
                "add CAIDA's as2org to the sources, or name the ASNs with `asns`".to_owned()
            }
            Self::Unknown { similar, .. } if similar.is_empty() => {
                "search with `kordon lookup NAME`".to_owned()
            }
            Self::Unknown { similar, .. } => {
                let all: Vec<String> = similar
                    .iter()
                    .map(|(id, name)| format!("`{name}` (`{id}`)"))
                    .collect();
                format!("did you mean {}", all.join(", "))
            }
            Self::Ambiguous { found, .. } => {
                let mut all: Vec<String> = found
                    .iter()
                    .take(MAX_NAMED)
                    .map(|(id, asns)| format!("`{id}` ({asns} ASNs)"))
                    .collect();
                if found.len() > MAX_NAMED {
                    all.push("…".to_owned());
                }
                format!("name those that are meant by their ids: {}", all.join(", "))
            }
        }
    }
}

impl AsnDb {
    /// The organisation with this id, else the only one with this name; in any case.
    ///
    /// # Errors
    ///
    /// There is none, or several have the name.
    pub fn org(&self, name: &str) -> Result<&Org, OrgError> {
        if self.orgs.is_empty() {
            return Err(OrgError::NoSource);
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
            [] => Err(OrgError::Unknown {
                name: name.to_owned(),
                similar: self.similar(&wanted),
            }),
            _ => Err(OrgError::Ambiguous {
                name: name.to_owned(),
                found: found
                    .iter()
                    .map(|org| (org.id.clone(), org.asns.len()))
                    .collect(),
            }),
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
    fn similar(&self, wanted: &str) -> Vec<(String, String)> {
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
            .map(|org| (org.id.clone(), org.name.clone()))
            .collect()
    }
}

fn folded(text: &str) -> String {
    text.trim().to_lowercase()
}
