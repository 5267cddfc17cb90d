//! The sanity gate: whether a new database may replace the one in use by itself,
//! or has to wait for somebody who looks at it.
//!
//! Sources fail quietly: a list ends in the middle, a provider's block is missing
//! from one edition, a default route gets in. Each is a valid file. So an update is
//! compared with what it replaces, and held back where it is too different to be a
//! day's news. Nothing is compared with an empty database: what comes first is taken, as
//! far as its files are whole.

use serde::{Deserialize, Serialize};

use super::diff::{Change, Difference};
use super::gather::{CUT, DEFAULT_ROUTE, PART, UNREADABLE};
use super::model::{AsnDb, OriginRange};
use super::range::{Address, push_cidrs};
use crate::diagnostic::{Diagnostic, Diagnostics};

/// A total may change by this share unless the configuration says otherwise, percent.
pub const MAX_CHANGE: u8 = 10;
/// Of a small table some more prefixes are no reason to doubt it.
const SMALL_GROWTH: u64 = 100;
/// Concerns about single subjects that are spelled out.
const SHOWN: usize = 20;

/// Why an update is held back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concern {
    /// A word for metrics and scripts.
    pub kind: Kind,
    /// In words.
    pub message: String,
}

/// What kind of concern it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A total is smaller than it may become in one step.
    Shrunk,
    /// A total is larger than it may become in one step.
    Grown,
    /// Somebody whom the policy names has lost everything.
    Vanished,
    /// Somebody whom the policy names has lost more than half.
    Halved,
    /// A default route, or a range as wide as one.
    Wide,
    /// A file ends, or seems to end, in the middle.
    Truncated,
    /// Most rows of a file cannot be read.
    Unreadable,
    /// A file has another checksum than its publisher says.
    Checksum,
    /// It was made before what is in use.
    Older,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Shrunk,
        Self::Grown,
        Self::Vanished,
        Self::Halved,
        Self::Wide,
        Self::Truncated,
        Self::Unreadable,
        Self::Checksum,
        Self::Older,
    ];

    /// The label in metrics, and the word in `--json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shrunk => "shrunk",
            Self::Grown => "grown",
            Self::Vanished => "vanished",
            Self::Halved => "halved",
            Self::Wide => "wide",
            Self::Truncated => "truncated",
            Self::Unreadable => "unreadable",
            Self::Checksum => "checksum",
            Self::Older => "older",
        }
    }
}

/// Everything that speaks against replacing `before` by `after`; empty: nothing
/// does. `found` is what the import of `after` warned of, `difference` what
/// [`super::diff::compare`] says of both, `percent` by how much a total may change.
#[must_use]
pub fn judge(
    before: &AsnDb,
    after: &AsnDb,
    difference: &Difference,
    found: &Diagnostics,
    percent: u8,
) -> Vec<Concern> {
    let mut concerns = Vec::new();
    if before.v4.is_empty() && before.v6.is_empty() && before.countries_v4.is_empty() {
        damages(found, &mut concerns);
        return concerns;
    }
    // Sources are imported now; a snapshot or a bundle was at some time.
    if after.imported < before.imported {
        let hours = (before.imported - after.imported) / 3600;
        concerns.push(Concern {
            kind: Kind::Older,
            message: format!("it was made {hours} hours before the database in use"),
        });
    }
    totals(before, after, difference, percent, &mut concerns);
    let (mut named, mut more) = (Vec::new(), 0);
    for change in &difference.changes {
        match loss(change) {
            Some(concern) if named.len() < SHOWN => named.push(concern),
            Some(_) => more += 1,
            None => {}
        }
    }
    if more > 0 {
        named.push(Concern {
            kind: Kind::Vanished,
            message: format!("{more} more that the policy names have lost everything or half"),
        });
    }
    concerns.append(&mut named);
    damages(found, &mut concerns);
    for warning in &found.warnings {
        let kind = if warning.message.contains(DEFAULT_ROUTE) {
            Kind::Wide
        } else if warning.message.starts_with(CUT) {
            Kind::Truncated
        } else {
            continue;
        };
        concerns.push(of_warning(kind, warning));
    }
    wide(&before.v4, &after.v4, before, after, 24, &mut concerns);
    wide(&before.v6, &after.v6, before, after, 112, &mut concerns);
    concerns
}

/// Files of which only a part can be read: no beginning either.
fn damages(found: &Diagnostics, concerns: &mut Vec<Concern>) {
    for warning in &found.warnings {
        if warning.message.ends_with(PART) {
            concerns.push(of_warning(Kind::Truncated, warning));
        } else if warning.message.contains(UNREADABLE) {
            concerns.push(of_warning(Kind::Unreadable, warning));
        }
    }
}

fn of_warning(kind: Kind, warning: &Diagnostic) -> Concern {
    let place = match warning.line {
        0 => warning.file.clone(),
        line => format!("{} line {line}", warning.file),
    };
    Concern {
        kind,
        message: format!("{place}: {}", warning.message),
    }
}

fn totals(
    before: &AsnDb,
    after: &AsnDb,
    difference: &Difference,
    percent: u8,
    concerns: &mut Vec<Concern>,
) {
    let space = |db: &AsnDb| {
        let sizes = db.v4.iter().map(|r| u64::from(r.end - r.start) + 1);
        sizes.sum()
    };
    let blocks = |db: &AsnDb| (db.countries_v4.len() + db.countries_v6.len()) as u64;
    let addresses = (space(before), space(after));
    let blocks = (blocks(before), blocks(after));
    for (what, (old, new), small) in [
        ("IPv4 prefixes", difference.ipv4, SMALL_GROWTH),
        ("IPv6 prefixes", difference.ipv6, SMALL_GROWTH),
        ("announced IPv4 addresses", addresses, SMALL_GROWTH << 8),
        ("country blocks", blocks, SMALL_GROWTH),
    ] {
        let allowed = u128::from(old) * u128::from(percent);
        let change = u128::from(old.abs_diff(new)) * 100;
        if old == 0 || change <= allowed {
            continue;
        }
        let (kind, word) = if new < old {
            (Kind::Shrunk, "shrinks")
        } else if new - old > small {
            (Kind::Grown, "grows")
        } else {
            continue;
        };
        concerns.push(Concern {
            kind,
            message: format!(
                "the number of {what} {word} from {old} to {new}, by more than {percent} %"
            ),
        });
    }
}

fn loss(change: &Change) -> Option<Concern> {
    let name = change.name.as_ref();
    let who = match name {
        Some(name) => format!("{} ({name})", change.subject),
        None => change.subject.to_string(),
    };
    if change.before == 0 {
        return None;
    }
    if change.after == 0 {
        return Some(Concern {
            kind: Kind::Vanished,
            message: format!(
                "{who}, which the policy names, loses all of its {} prefixes",
                change.before
            ),
        });
    }
    if change.lost_share > 0.5 || change.damaged * 2 > change.before {
        return Some(Concern {
            kind: Kind::Halved,
            message: format!(
                "{who}, which the policy names, loses {} of its {} prefixes in whole or in part \
                 ({:.0} % of its addresses)",
                change.damaged,
                change.before,
                change.lost_share * 100.0
            ),
        });
    }
    None
}

/// Ranges of more than `2^bits` addresses that the old database does not have with
/// the same origins: a default route that is no single prefix.
fn wide<A: Address>(
    old: &[OriginRange<A>],
    new: &[OriginRange<A>],
    before: &AsnDb,
    after: &AsnDb,
    bits: u32,
    concerns: &mut Vec<Concern>,
) {
    for range in new {
        if range.end.wide() - range.start.wide() < 1 << bits {
            continue;
        }
        let origins = &after.origins[range.origins as usize];
        let at = old.partition_point(|known| known.end < range.start);
        let known = old.get(at).is_some_and(|known| {
            known.start <= range.start
                && known.end >= range.end
                && before.origins.get(known.origins as usize) == Some(origins)
        });
        if known {
            continue;
        }
        let mut nets = Vec::new();
        push_cidrs(range.start, range.end, &mut nets);
        let widest = nets.iter().min_by_key(|net| net.prefix_len());
        let widest = widest.map_or_else(String::new, ToString::to_string);
        let asns: Vec<String> = origins.iter().map(|asn| format!("AS{asn}")).collect();
        concerns.push(Concern {
            kind: Kind::Wide,
            message: format!(
                "{} gets a range as wide as a default route, {widest} and more",
                asns.join(", ")
            ),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asn::diff::{Watched, compare};
    use crate::asn::tests::import_texts;

    /// The kinds of concern that replacing one text by another raises, AS64500 named.
    fn kinds(before: &str, after: &str) -> Vec<Kind> {
        let (before, _) = import_texts(&[before], &[]).unwrap();
        let (after, found) = import_texts(&[after], &[]).unwrap();
        let watched = Watched {
            asns: vec![64500..=64500],
            ..Watched::default()
        };
        let difference = compare(&before, &after, &watched);
        let concerns = judge(&before, &after, &difference, &found, MAX_CHANGE);
        for concern in &concerns {
            assert!(!concern.message.is_empty());
        }
        concerns.into_iter().map(|c| c.kind).collect()
    }

    /// `n` blocks of a /24 with a gap behind each, of 40 others in turn.
    fn table(n: u32) -> String {
        (0..n)
            .map(|i| {
                let at = std::net::Ipv4Addr::from(0x0b00_0000 + i * 512);
                let end = std::net::Ipv4Addr::from(0x0b00_0000 + i * 512 + 255);
                format!("{at},{end},{},Other\n", 64501 + i % 40)
            })
            .collect()
    }

    fn named(n: u32) -> String {
        (0..n)
            .map(|i| format!("198.51.{0}.0,198.51.{0}.255,64500,Bad\n", i * 2))
            .collect()
    }

    #[test]
    fn totals_within_a_tenth_are_news() {
        let base = table(1000) + &named(10);
        assert_eq!(kinds(&base, &base), []);
        assert_eq!(kinds(&base, &(table(905) + &named(10))), []);
        assert_eq!(kinds(&base, &(table(1090) + &named(10))), []);
        // Prefixes and addresses.
        assert_eq!(
            kinds(&base, &(table(890) + &named(10))),
            [Kind::Shrunk, Kind::Shrunk]
        );
        assert_eq!(
            kinds(&base, &(table(1120) + &named(10))),
            [Kind::Grown, Kind::Grown]
        );
        // A handful more in a small table is no reason.
        assert_eq!(kinds(&named(2), &named(5)), []);
    }

    #[test]
    fn who_is_named_may_not_vanish() {
        let with = |n: u32| table(1000) + &named(n);
        assert_eq!(kinds(&with(10), &with(5)), []);
        assert_eq!(kinds(&with(10), &with(4)), [Kind::Halved]);
        assert_eq!(kinds(&with(10), &with(0)), [Kind::Vanished]);
        // One large block among small ones.
        let large = "198.18.0.0,198.19.255.255,64500,Bad\n";
        let before = with(10) + large;
        assert!(kinds(&before, &with(10)).contains(&Kind::Halved));
        // The same addresses in other words.
        let halves = "11.0.0.0,11.0.0.127,64500,x\n11.0.0.128,11.0.0.255,64500,x\n";
        let whole = "11.0.0.0,11.0.0.255,64500,x\n";
        assert_eq!(kinds(halves, whole), []);
    }

    #[test]
    fn default_routes_are_seen_in_any_form() {
        let base = table(1000);
        for row in [
            "0.0.0.0,255.255.255.255,64777,All\n",
            "::,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,64777,All\n",
            "12.0.0.0,15.255.255.255,64777,Wide\n",
        ] {
            let found = kinds(&base, &(base.clone() + row));
            assert!(found.contains(&Kind::Wide), "{row}: {found:?}");
        }
        // In pieces that are no prefix.
        let row = "12.0.0.0,99.0.0.1,64777,Wide\n";
        let found = kinds(&base, &(base.clone() + row));
        assert!(found.contains(&Kind::Wide), "{found:?}");
        // What has been there all the time is no news.
        let known = base.clone() + row;
        assert_eq!(kinds(&known, &known), []);
    }

    /// What is damaged is salvaged for the gate, and refused without it; there is no
    /// beginning with it either.
    #[test]
    fn damaged_files_are_held_back() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(table(3000).as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let mostly = table(30) + &"what is this\n".repeat(31);
        for (bytes, kind) in [
            (&gzip[..gzip.len() - 9], Kind::Truncated),
            (mostly.as_bytes(), Kind::Unreadable),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let files = [path.clone()];
            let strict = crate::asn::Options::default();
            let refused = crate::asn::import_with(&files, &[], &strict).unwrap_err();
            let salvage = crate::asn::Options {
                salvage: true,
                ..strict
            };
            let (db, found) = crate::asn::import_with(&files, &[], &salvage).unwrap();
            assert!(db.v4.len() >= 30);
            let none = AsnDb::default();
            let difference = compare(&none, &db, &Watched::default());
            let concerns = judge(&none, &db, &difference, &found, MAX_CHANGE);
            assert_eq!(concerns.len(), 1, "{concerns:?}");
            assert_eq!(concerns[0].kind, kind);
            let why = &refused.0.errors[0].message;
            assert!(concerns[0].message.contains(why), "{concerns:?} {why}");
        }
        // Of nothing, nothing can be salvaged.
        let salvage = crate::asn::Options {
            salvage: true,
            ..crate::asn::Options::default()
        };
        for text in ["", "<html>\n", "what is this\n", "\x1f\u{8b}\u{8}"] {
            std::fs::write(&path, text).unwrap();
            let files = [path.clone()];
            assert!(crate::asn::import_with(&files, &[], &salvage).is_err());
        }
    }

    #[test]
    fn an_end_in_the_middle_is_seen() {
        let base = table(1000);
        let cut = &base[..base.len() - 3];
        assert_eq!(kinds(&base, cut), [Kind::Truncated]);
        // What comes first is taken.
        let (first, found) = import_texts(&[cut], &[]).unwrap();
        let none = AsnDb::default();
        let difference = compare(&none, &first, &Watched::default());
        assert_eq!(judge(&none, &first, &difference, &found, MAX_CHANGE), []);
    }
}
