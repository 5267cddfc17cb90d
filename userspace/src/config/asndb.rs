//! `[asndb]` as far as updates go: where they come from, and what may become live
//! by itself.

use toml::de::DeTable;

use super::Reader;
use crate::asn::gate;

/// How the database is kept up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updates {
    /// By how much a total may change before an update is held back, percent.
    pub max_change: u8,
}

impl Default for Updates {
    fn default() -> Self {
        Self {
            max_change: gate::MAX_CHANGE,
        }
    }
}

impl Reader<'_, '_> {
    pub(super) fn updates(&mut self, table: &DeTable<'_>) -> Updates {
        let mut updates = Updates::default();
        if let Some(value) = table.get("max_change") {
            let percent = value
                .get_ref()
                .as_str()
                .and_then(|text| text.trim_end().strip_suffix('%')?.trim_end().parse().ok())
                .filter(|percent| (1..=100).contains(percent));
            match percent {
                Some(percent) => updates.max_change = percent,
                None => self.report.error(
                    &value.span(),
                    "`max_change` must be a percentage from 1 to 100",
                    "write `max_change = \"10%\"`, or remove the key",
                ),
            }
        }
        updates
    }
}
