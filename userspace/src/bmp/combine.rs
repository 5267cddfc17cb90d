//! The RIB over the imported database: at each address the longest prefix of the RIB,
//! ahead of all files. With `combine = "union"` the imported origins count beside it,
//! with `"priority"` only where the RIB has nothing.

use std::collections::HashMap;

use super::overlay::{Entry, Layer};
use super::sets::Sets;
use crate::asn::AsnDb;
use crate::asn::model::{Combine, OriginRange, OriginsId};
use crate::asn::range::{Address, host_mask};

/// The origins of an address, of those of the RIB and of those that were imported.
#[must_use]
pub fn origins(
    live: Option<(&[u32], bool)>,
    imported: Option<&[u32]>,
    combine: Combine,
) -> Vec<u32> {
    let Some((live, beside)) = live else {
        return imported.unwrap_or_default().to_vec();
    };
    let mut all = live.to_vec();
    if combine == Combine::Union || beside || live.is_empty() {
        let more = imported.unwrap_or_default().iter();
        all.extend(more.filter(|asn| !live.contains(asn)));
    }
    all
}

/// The database as it is with both layers over it.
pub(super) fn overlaid(db: &AsnDb, v4: &Layer<u32>, v6: &Layer<u128>, sets: &Sets) -> AsnDb {
    let mut merge = Merge {
        db,
        sets,
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

type Live = (u32, bool);

struct Merge<'a> {
    db: &'a AsnDb,
    sets: &'a Sets,
    origins: Vec<Vec<u32>>,
    known: HashMap<Vec<u32>, OriginsId>,
    memo: HashMap<(Live, Option<OriginsId>), Option<OriginsId>>,
}

impl Merge<'_> {
    fn id(&mut self, live: Option<Live>, imported: Option<OriginsId>) -> Option<OriginsId> {
        let Some(live) = live else { return imported };
        if let Some(&id) = self.memo.get(&(live, imported)) {
            return id;
        }
        let below = imported.and_then(|id| self.db.origins.get(id as usize));
        let set = origins(
            Some((self.sets.get(live.0), live.1)),
            below.map(Vec::as_slice),
            self.db.combine,
        );
        let id = (!set.is_empty()).then(|| {
            *self.known.entry(set).or_insert_with_key(|set| {
                self.origins.push(set.clone());
                // As many as there are ranges, at most.
                (self.origins.len() - 1) as OriginsId
            })
        });
        self.memo.insert((live, imported), id);
        id
    }

    fn family<A: Address>(
        &mut self,
        imported: &[OriginRange<A>],
        layer: &Layer<A>,
    ) -> Vec<OriginRange<A>> {
        let live = flatten(
            layer
                .entries
                .iter()
                .map(|(prefix, entry)| (*prefix, *entry)),
        );
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
    layer: &Layer<A>,
    sets: &Sets,
    (first, last): (A, A),
) -> Vec<(A, Vec<u32>)> {
    let around = layer.around(first);
    let inside = layer.entries.range((first, 0)..=(last, A::BITS));
    let live = flatten(
        around
            .into_iter()
            .chain(inside.map(|(prefix, e)| (*prefix, *e))),
    );
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
        let above = l.filter(|r| r.0 <= at).map(|r| (sets.get(r.2.0), r.2.1));
        out.push((at, origins(above, below.map(Vec::as_slice), db.combine)));
        match end.next() {
            Some(next) if end < last => at = next,
            _ => return out,
        }
    }
}

/// The longest prefix at each address, as ranges that do not overlap, of prefixes that
/// ascend.
fn flatten<A: Address>(entries: impl Iterator<Item = ((A, u8), Entry)>) -> Vec<(A, A, Live)> {
    let mut out: Vec<(A, A, Live)> = Vec::with_capacity(entries.size_hint().0);
    // Prefixes around the place where we are, the longest last.
    let mut open: Vec<(A, Live)> = Vec::new();
    let mut at = Some(A::narrow(0));
    let mut emit = |from: A, to: A, live: Live| {
        if from <= to {
            out.push((from, to, live));
        }
    };
    for ((start, len), Entry { set, beside, .. }) in entries {
        while let Some(&(end, live)) = open.last().filter(|(end, _)| *end < start) {
            if let Some(from) = at {
                emit(from, end, live);
            }
            at = end.next();
            open.pop();
        }
        if let (Some(&(_, live)), Some(from)) = (open.last(), at)
            && from < start
        {
            emit(from, start.before(), live);
        }
        at = Some(start);
        open.push((A::narrow(start.wide() | host_mask::<A>(len)), (set, beside)));
    }
    while let Some((end, live)) = open.pop() {
        let Some(from) = at else { break };
        emit(from, end, live);
        at = end.next();
    }
    out
}
