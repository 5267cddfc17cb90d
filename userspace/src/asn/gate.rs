//! The sanity gate: whether a new database may replace the one in use by itself,
//! or has to wait for somebody who looks at it.
//!
//! Sources fail quietly: a list ends in the middle, a provider's block is missing
//! from one edition, a default route gets in. Each is a valid file. So an update is
//! compared with what it replaces, and held back where it is too different to be a
//! day's news. Nothing is compared with an empty database: what comes first is taken, as
//! far as its files are whole.

use serde::{Deserialize, Serialize};

use super::diff::{Change, Difference, Loss};
use super::gather::{CUT, DEFAULT_ROUTE, PART, UNREADABLE};
use super::model::{AsnDb, OriginRange};
use super::range::{Address, nets};
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
    /// Somebody whom the policy names has lost half of a family or more.
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
    /// What was in use, or what was to be said, is lost.
    Unknown,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Shrunk,
        Self::Grown,
        Self::Vanished,
        Self::Halved,
        Self::Wide,
        Self::Truncated,
        Self::Unreadable,
        Self::Checksum,
        Self::Older,
        Self::Unknown,
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
            Self::Unknown => "unknown",
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

/// What is no reason to hold an update back, and still has to be seen by somebody: who is
/// named and has two prefixes loses one of them on many a day.
#[must_use]
pub fn warnings(difference: &Difference) -> Vec<Concern> {
    let half = |change: &&Change| change.before > 0 && loss(change).is_none();
    let changes = difference.changes.iter().filter(half);
    let mut warnings: Vec<Concern> = changes.filter_map(|c| worst(c, half_or_more)).collect();
    let more = warnings.len().saturating_sub(SHOWN);
    warnings.truncate(SHOWN);
    if more > 0 {
        warnings.push(Concern {
            kind: Kind::Halved,
            message: format!("{more} more that the policy names have lost half"),
        });
    }
    warnings
}

/// A kind of knowledge that `before` has and `after` has nothing of, in words: then a source
/// was left out, and to take it all the same is no cure.
#[must_use]
pub fn left_out(before: &AsnDb, after: &AsnDb) -> Option<&'static str> {
    if !before.origins.is_empty() && after.origins.is_empty() {
        Some("none of its sources says who announces an address, which the database in use knows")
    } else if before.has_country_blocks() && !after.has_country_blocks() {
        Some("none of its sources has address blocks of countries, which the database in use has")
    } else {
        None
    }
}

/// The cure for what an import leaves out.
pub const NAME_ALL: &str = "an import replaces all that is in use: name every file in one command, \
                            `kordon asndb import FILE… --country-db FILE`";

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
    let space_v4 = |db: &AsnDb| {
        let sizes = db.v4.iter().map(|r| u64::from(r.end - r.start) + 1);
        sizes.sum()
    };
    // In networks of /48, which is what a site gets.
    let space_v6 = |db: &AsnDb| {
        let sizes = db.v6.iter().map(|r| ((r.end - r.start) >> 80) as u64 + 1);
        sizes.sum()
    };
    let of = |what: fn(&AsnDb) -> u64| (what(before), what(after));
    for (what, (old, new), small) in [
        ("IPv4 prefixes", difference.ipv4, SMALL_GROWTH),
        ("IPv6 prefixes", difference.ipv6, SMALL_GROWTH),
        ("announced IPv4 addresses", of(space_v4), SMALL_GROWTH << 8),
        (
            "announced IPv6 /48 networks",
            of(space_v6),
            SMALL_GROWTH << 16,
        ),
        (
            "IPv4 country blocks",
            of(|db| db.countries_v4.len() as u64),
            SMALL_GROWTH,
        ),
        (
            "IPv6 country blocks",
            of(|db| db.countries_v6.len() as u64),
            SMALL_GROWTH,
        ),
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

fn who(change: &Change) -> String {
    match &change.name {
        Some(name) => format!("{} ({name}), which the policy names,", change.subject),
        None => format!("{}, which the policy names,", change.subject),
    }
}

fn loss(change: &Change) -> Option<Concern> {
    if change.before > 0 && change.after == 0 {
        return Some(Concern {
            kind: Kind::Vanished,
            message: format!(
                "{} loses all of its {} prefixes",
                who(change),
                change.before
            ),
        });
    }
    worst(change, |loss| {
        loss.lost_share > 0.5 || loss.damaged * 2 > loss.before
    })
}

fn half_or_more(loss: &Loss) -> bool {
    loss.lost_share >= 0.5 || loss.damaged * 2 >= loss.before
}

/// The family that lost most, if that is too much.
fn worst(change: &Change, too_much: impl Fn(&Loss) -> bool) -> Option<Concern> {
    let families = [("IPv4", &change.ipv4), ("IPv6", &change.ipv6)];
    let (family, loss) = families
        .into_iter()
        .filter(|(_, loss)| loss.before > 0 && loss.damaged > 0 && too_much(loss))
        .max_by(|a, b| a.1.lost_share.total_cmp(&b.1.lost_share))?;
    Some(Concern {
        kind: Kind::Halved,
        message: format!(
            "{} loses {} of its {} {family} prefixes in whole or in part ({:.0} % of its \
             {family} addresses)",
            who(change),
            loss.damaged,
            loss.before,
            loss.lost_share * 100.0
        ),
    })
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
        let nets = nets([(range.start, range.end)]);
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
