//! A way around kordon, in words.

use std::fmt;

/// A configured interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policed {
    /// The number of its device; `None`: it is not there.
    pub index: Option<u32>,
    /// What policies call it.
    pub name: String,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The device on which frames get around kordon, or the first of them.
    pub device: String,
    /// What policies call the interface whose frames they are, where it is a policed one.
    pub interface: Option<String>,
    /// Whether frames get around it for certain, if they come.
    pub is_certain: bool,
    /// What was found.
    pub found: String,
    /// What would cure it.
    pub cure: String,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.found, self.cure)
    }
}

/// Polices a device, or says that it has nothing of a zone.
pub(super) fn cure(device: &str, zone: &str, policed: &[Policed]) -> String {
    let names: Vec<String> = policed.iter().map(|p| format!("{:?}", p.name)).collect();
    format!(
        "add an `[[interface]]` with `device = \"{device}\"` to kordon.toml and restart the daemon, or, if \
         what comes in there is not the zone's, say where the zone is: `interfaces = [{}]` in \
         `[zone.{zone}]` of the policy",
        names.join(", ")
    )
}

/// The first few names.
pub(super) fn list(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
