//! Rows to ranges: what holds at each address when rows and sources disagree.
//!
//! Within one source the most specific row wins, as in routing: a row that
//! strictly contains another row over the same address does not count there.
//! Equal rows, and rows that overlap in part, all count (several origins). Between
//! sources nothing wins, unless that was chosen: the answers are joined, in the
//! order of the sources, because for an enforcer a missed origin is worse than one
//! too many.

use std::collections::HashMap;

use super::model::{Combine, CountryRange, OriginRange, OriginsId, Row};
use super::range::{Address, CountryRow, Crowded, Span, sweep};

/// Numbers in all origin sets together; real tables need some hundred thousand.
const MAX_ORIGINS: usize = 1 << 24;

/// Origin sets, each once.
#[derive(Default)]
pub(super) struct Interner {
    sets: Vec<Vec<u32>>,
    ids: HashMap<Vec<u32>, OriginsId>,
    total: usize,
}

impl Interner {
    fn id(&mut self, origins: &[u32]) -> Option<OriginsId> {
        if let Some(&id) = self.ids.get(origins) {
            return Some(id);
        }
        self.total += origins.len();
        if self.total > MAX_ORIGINS {
            return None;
        }
        let id = OriginsId::try_from(self.sets.len()).ok()?;
        self.sets.push(origins.to_vec());
        self.ids.insert(origins.to_vec(), id);
        Some(id)
    }

    pub(super) fn into_sets(self) -> Vec<Vec<u32>> {
        self.sets
    }
}

/// Announced space, sorted, without overlaps, neighbours of equal origins joined.
pub(super) fn origins<A: Address>(
    rows: &[Row<A>],
    combine: Combine,
    interner: &mut Interner,
) -> Result<Vec<OriginRange<A>>, Crowded> {
    let mut found: Vec<(u16, u32)> = Vec::new();
    let mut set: Vec<u32> = Vec::new();
    let ranges = sweep(rows, |active| {
        set.clear();
        if let [only] = active {
            set.push(only.asn);
        } else {
            found.clear();
            winners(active, |row| found.push((row.source, row.asn)));
            found.sort_unstable();
            for &(source, asn) in &found {
                if combine == Combine::Priority && source != found[0].0 {
                    break;
                }
                if !set.contains(&asn) {
                    set.push(asn);
                }
            }
        }
        interner.id(&set)
    })?;
    Ok(ranges
        .into_iter()
        .map(|(start, end, origins)| OriginRange {
            start,
            end,
            origins,
        })
        .collect())
}

/// Calls `each` with the rows that count, of all that cover an address.
pub(super) fn winners<'r, A: Address>(
    covering: &mut [&'r Row<A>],
    mut each: impl FnMut(&'r Row<A>),
) {
    // Shortest end first, latest start first: whatever a row strictly contains
    // comes before it, so it wins only if it starts after all winners so far.
    covering.sort_unstable_by(|a, b| {
        (a.source, a.end)
            .cmp(&(b.source, b.end))
            .then(b.start.cmp(&a.start))
    });
    let mut last: Option<&Row<A>> = None;
    for &row in covering.iter() {
        let wins = last.is_none_or(|last| {
            last.source != row.source
                || row.start > last.start
                || (row.start, row.end) == (last.start, last.end)
        });
        if wins {
            each(row);
            last = Some(row);
        }
    }
}

/// Delegated space. A block has one country: the first source that covers an
/// address decides, there the smallest row, among equals the one that comes first.
pub(super) fn countries<A: Address>(
    rows: &[CountryRow<A>],
) -> Result<Vec<CountryRange<A>>, Crowded> {
    let ranges = sweep(rows, |active| {
        active
            .iter()
            .min_by_key(|row| (row.source, row.end.wide() - row.start.wide(), row.line))
            .map(|row| row.country)
    })?;
    Ok(ranges
        .into_iter()
        .map(|(start, end, country)| CountryRange {
            start,
            end,
            country,
        })
        .collect())
}

/// Sorts rows of one source by (start, end, ...) and removes repetitions; says
/// how many went.
pub(super) fn dedup<A: Address, R: Span<A>, K: Ord>(
    rows: &mut Vec<R>,
    what: impl Fn(&R) -> K,
) -> u64 {
    let before = rows.len();
    rows.sort_by(|a, b| {
        (a.start(), a.end(), what(a), a.place()).cmp(&(b.start(), b.end(), what(b), b.place()))
    });
    rows.dedup_by(|b, a| (a.start(), a.end(), what(a)) == (b.start(), b.end(), what(b)));
    (before - rows.len()) as u64
}
