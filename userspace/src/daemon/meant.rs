//! Tests for entries that are hardly meant: an exception for a large part of the Internet, a block of what
//! the database does not have. The core refuses these unless `--yes` says that they are meant (`core::asks`),
//! and `status` shows them as long as they are live.

use ipnet::IpNet;

use super::updates::database::Database;
use crate::{
    diagnostic::quoted,
    policy::{Overlay, OverlayAction, OverlayEntry, OverlayTarget},
};

/// An exception for more than this is hardly meant: lengths of prefixes of IPv4 and IPv6.
const WIDE: (u8, u8) = (8, 16);

pub(super) fn is_wide(entry: &OverlayEntry) -> bool {
    let OverlayTarget::Prefix(prefix) = entry.target else {
        return false;
    };
    let longest = match prefix {
        IpNet::V4(_) => WIDE.0,
        IpNet::V6(_) => WIDE.1,
    };
    entry.action == OverlayAction::Allow && prefix.prefix_len() < longest
}

/// Whether an entry can match anything; `live`: live BGP may announce what was not imported,
/// at any time.
pub(super) fn is_known(target: OverlayTarget, database: &Database, live: bool) -> bool {
    let db = &database.db;
    match target {
        OverlayTarget::Prefix(_) => true,
        OverlayTarget::Asn(asn) => live || db.origins.iter().flatten().any(|known| *known == asn),
        OverlayTarget::Country(country) => {
            let mut v4 = db.countries_v4.iter().map(|range| range.country);
            let mut v6 = db.countries_v6.iter().map(|range| range.country);
            v4.any(|c| c == country) || v6.any(|c| c == country)
        }
    }
}

pub(super) fn wide_entries(overlay: &Overlay) -> impl Iterator<Item = String> {
    overlay.entries.iter().filter(|e| is_wide(e)).map(|entry| {
        let (target, zone) = (entry.target, &entry.zone);
        format!(
            "`kordon allow` lets all of {target} pass in zone {}; `kordon unblock {target} --zone \
             '{zone}'` ends that",
            quoted(zone)
        )
    })
}
