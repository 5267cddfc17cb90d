//! The RIB over the imported database: at each address the longest prefix of the RIB,
//! ahead of all files. With `combine = "union"` the imported origins count beside it,
//! with `"priority"` only where the RIB has nothing.
//!
//! What peers said before the router's filters comes over that, where it is at least as
//! long: of its origins those count, too, which can only tighten. What the router
//! refused lets nothing through.

use std::collections::HashMap;

use super::layers::Layers;
use super::overlay::{Entry, Layer, Stakes};
use super::sets::{SetId, Sets};
use crate::asn::AsnDb;
use crate::asn::model::{Combine, OriginRange, OriginsId};
use crate::asn::range::{Address, host_mask};

/// What the RIB has at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Over {
    /// The longest prefix that the router accepted, and whether imported origins count
    /// beside it.
    accepted: Option<(SetId, bool)>,
    /// The longest that a peer said, if it is as long.
    said: Option<SetId>,
}

/// What sets mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meaning<'a> {
    pub(super) sets: &'a Sets,
    pub(super) stakes: &'a Stakes,
}

impl Meaning<'_> {
    /// The origins of an address.
    fn origins(self, over: Over, imported: Option<&[u32]>, combine: Combine) -> Vec<u32> {
        let imported = imported.unwrap_or_default();
        let mut all = match over.accepted {
            Some((set, beside)) => {
                let mut all = self.sets.get(set).to_vec();
                if combine == Combine::Union || beside || all.is_empty() {
                    let live = self.sets.get(set);
                    all.extend(imported.iter().filter(|asn| !live.contains(asn)));
                }
                all
            }
            None => imported.to_vec(),
        };
        // Space that is nobody's is not let out of a rule on `unrouted`.
        if let Some(said) = over.said
            && !(all.is_empty() && self.stakes.drops_unrouted)
        {
            for &asn in self.sets.get(said) {
                if self.stakes.tightens(asn) && !all.contains(&asn) {
                    all.push(asn);
                }
            }
        }
        all
    }
}

/// What was in effect of a feed at some moment.
#[derive(Clone, Debug)]
pub struct InEffect {
    pub(super) stakes: Stakes,
    pub(super) v4: Layers<u32>,
    pub(super) v6: Layers<u128>,
    pub(super) sets: Sets,
}

impl InEffect {
    /// The imported database with all of it over it.
    #[must_use]
    pub fn overlaid(&self, imported: &AsnDb) -> AsnDb {
        let meaning = Meaning {
            sets: &self.sets,
            stakes: &self.stakes,
        };
        overlaid(imported, &self.v4, &self.v6, meaning)
    }

    /// Whether that is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// The database as it is with all layers over it.
pub(super) fn overlaid(
    db: &AsnDb,
    v4: &Layers<u32>,
    v6: &Layers<u128>,
    meaning: Meaning<'_>,
) -> AsnDb {
    let mut merge = Merge {
        db,
        meaning,
        origins: db.origins.clone(),
        known: db.origins.iter().cloned().zip(0..).collect(),
        memo: HashMap::new(),
    };
    let v4 = merge.family(&db.v4, v4);
    let v6 = merge.family(&db.v6, v6);
    AsnDb {
        v4,
        v6,
        origins: merge.origins,
        countries_v4: db.countries_v4.clone(),
        countries_v6: db.countries_v6.clone(),
        rows_v4: db.rows_v4.clone(),
        rows_v6: db.rows_v6.clone(),
        asns: db.asns.clone(),
        orgs: db.orgs.clone(),
        vrps_v4: db.vrps_v4.clone(),
        vrps_v6: db.vrps_v6.clone(),
        combine: db.combine,
        sources: db.sources.clone(),
        imported: db.imported,
    }
}

struct Merge<'a> {
    db: &'a AsnDb,
    meaning: Meaning<'a>,
    origins: Vec<Vec<u32>>,
    known: HashMap<Vec<u32>, OriginsId>,
    memo: HashMap<(Over, Option<OriginsId>), Option<OriginsId>>,
}

impl Merge<'_> {
    fn id(&mut self, over: Option<Over>, imported: Option<OriginsId>) -> Option<OriginsId> {
        let Some(over) = over else { return imported };
        if let Some(&id) = self.memo.get(&(over, imported)) {
            return id;
        }
        let below = imported.and_then(|id| self.db.origins.get(id as usize));
        let below = below.map(Vec::as_slice);
        let set = self.meaning.origins(over, below, self.db.combine);
        let id = (!set.is_empty()).then(|| {
            *self.known.entry(set).or_insert_with_key(|set| {
                self.origins.push(set.clone());
                // As many as there are ranges, at most.
                (self.origins.len() - 1) as OriginsId
            })
        });
        self.memo.insert((over, imported), id);
        id
    }

    fn family<A: Address>(
        &mut self,
        imported: &[OriginRange<A>],
        layers: &Layers<A>,
    ) -> Vec<OriginRange<A>> {
        let live = flatten(both(layers, |layer| {
            layer.entries.iter().map(|(prefix, entry)| (prefix, *entry))
        }));
        let mut out: Vec<OriginRange<A>> = Vec::with_capacity(imported.len() + live.len());
        let (mut live, mut below) = (live.iter().peekable(), imported.iter().peekable());
        let mut at = A::narrow(0);
        loop {
            while live.next_if(|range| range.1 < at).is_some() {}
            while below.next_if(|range| range.end < at).is_some() {}
            let (l, b) = (live.peek(), below.peek());
            // Where either begins or ends next.
            let starts = l.map(|r| r.0).into_iter().chain(b.map(|r| r.start));
            let starts = starts.filter(|&start| start > at);
            let Some(first) = starts
                .clone()
                .min()
                .or(l.map(|r| r.0))
                .or(b.map(|r| r.start))
            else {
                return out;
            };
            let l = l.filter(|r| r.0 <= at);
            let b = b.filter(|r| r.start <= at);
            if l.is_none() && b.is_none() {
                at = first;
                continue;
            }
            let ends = l.map(|r| r.1).into_iter().chain(b.map(|r| r.end));
            let stops = starts.map(Address::before);
            // Never empty: one of the two covers `at`.
            let Some(end) = ends.chain(stops).min() else {
                return out;
            };
            if let Some(origins) = self.id(l.map(|r| r.2), b.map(|r| r.origins)) {
                match out.last_mut() {
                    Some(last) if last.origins == origins && last.end.next() == Some(at) => {
                        last.end = end;
                    }
                    _ => out.push(OriginRange {
                        start: at,
                        end,
                        origins,
                    }),
                }
            }
            match end.next() {
                Some(next) => at = next,
                None => return out,
            }
        }
    }
}

/// Who announces what between two addresses, both included: where each range begins, and
/// its origins; none: nobody. Neighbours may have the same.
pub(super) fn between<A: Address>(
    imported: &[OriginRange<A>],
    db: &AsnDb,
    layers: &Layers<A>,
    meaning: Meaning<'_>,
    (first, last): (A, A),
) -> Vec<(A, Vec<u32>)> {
    let live = flatten(both(layers, |layer| layer.between(first, last)));
    let from = imported.partition_point(|range| range.end < first);
    let mut below = imported[from..]
        .iter()
        .take_while(|r| r.start <= last)
        .peekable();
    let mut live = live.iter().peekable();
    let mut out = Vec::new();
    let mut at = first;
    loop {
        while live.next_if(|range| range.1 < at).is_some() {}
        while below.next_if(|range| range.end < at).is_some() {}
        let (l, b) = (live.peek(), below.peek());
        // Where something ends, or something else begins.
        let next = [
            l.map(|r| if r.0 <= at { r.1 } else { r.0.before() }),
            b.map(|r| {
                if r.start <= at {
                    r.end
                } else {
                    r.start.before()
                }
            }),
        ];
        let end = next
            .into_iter()
            .flatten()
            .min()
            .map_or(last, |end| end.min(last));
        let b = b.filter(|r| r.start <= at);
        let below = b.and_then(|r| db.origins.get(r.origins as usize));
        let over = l.filter(|r| r.0 <= at).map(|r| r.2).unwrap_or_default();
        let below = below.map(Vec::as_slice);
        out.push((at, meaning.origins(over, below, db.combine)));
        match end.next() {
            Some(next) if end < last => at = next,
            _ => return out,
        }
    }
}

/// Prefixes of both layers with what they bring, ascending; of the same prefix what the
/// router accepted first.
fn both<'a, A: Address, E: Iterator<Item = ((A, u8), Entry)>>(
    layers: &'a Layers<A>,
    of: impl Fn(&'a Layer<A>) -> E,
) -> Vec<((A, u8), Over)> {
    let accepted = of(&layers.accepted).map(|(prefix, entry)| {
        let accepted = Some((entry.set, entry.beside));
        let said = None;
        (prefix, Over { accepted, said })
    });
    let said = of(&layers.said).map(|(prefix, entry)| {
        let said = Some(entry.set);
        let accepted = None;
        (prefix, Over { accepted, said })
    });
    let mut all: Vec<_> = accepted.chain(said).collect();
    // Two runs that ascend: stable, and merged in one pass.
    all.sort_by_key(|(prefix, _)| *prefix);
    all
}

/// What the RIB has at each address, as ranges that do not overlap, of prefixes that
/// ascend.
fn flatten<A: Address>(entries: Vec<((A, u8), Over)>) -> Vec<(A, A, Over)> {
    let mut out: Vec<(A, A, Over)> = Vec::with_capacity(entries.len());
    // Prefixes around the place where we are, the longest last.
    let mut open: Vec<(A, Over)> = Vec::new();
    let mut at = Some(A::narrow(0));
    let mut emit = |from: A, to: A, over: Over| {
        if from <= to {
            out.push((from, to, over));
        }
    };
    for ((start, len), mut over) in entries {
        while let Some(&(end, over)) = open.last().filter(|(end, _)| *end < start) {
            if let Some(from) = at {
                emit(from, end, over);
            }
            at = end.next();
            open.pop();
        }
        if let (Some(&(_, over)), Some(from)) = (open.last(), at)
            && from < start
        {
            emit(from, start.before(), over);
        }
        at = Some(start);
        // What is said comes over what is accepted; what is accepted for a longer prefix
        // stands alone.
        if over.accepted.is_none() {
            over.accepted = open.last().and_then(|(_, around)| around.accepted);
        }
        open.push((A::narrow(start.wide() | host_mask::<A>(len)), over));
    }
    while let Some((end, over)) = open.pop() {
        let Some(from) = at else { break };
        emit(from, end, over);
        at = end.next();
    }
    out
}
