//! What of the RIB is in effect. A change that tightens is at once; one that loosens
//! waits: a blocked network that gets its prefix announced by another one must not be
//! free of the block at that moment.
//!
//! While a change waits, the origins that are in effect are those of before which the
//! policy drops, and of the new ones all but those that the policy lets pass. It ends
//! when the new origins have stood for the hold time, or when the RPKI says that they
//! may announce the prefix (RFC 6811); a change back ends it as well.

use std::collections::BTreeSet;

use ipnet::IpNet;
use prefix_trie::PrefixMap;

use super::rib::Moment;
use super::sets::{SetId, Sets};
pub use super::stakes::Stakes;
use crate::asn::range::{Address, host_mask};
use crate::asn::{AsnDb, Rpki, model::Combine};

/// What a decision depends on beside the routes.
pub(super) struct Ground<'a> {
    pub(super) stakes: &'a Stakes,
    pub(super) imported: &'a AsnDb,
    /// By table: whether the router accepted what is in it.
    pub(super) accepted: &'a [bool],
    /// Seconds.
    pub(super) hold: u32,
    pub(super) now: Moment,
}

impl Ground<'_> {
    /// Where the RIB has priority it takes the place of imported origins, whoever they are.
    fn names_imported(&self) -> bool {
        self.imported.combine == Combine::Priority
    }
}

/// A prefix of the RIB that has other origins now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub prefix: IpNet,
    /// Its origins, sorted; empty: nobody, whatever a shorter prefix says. `None`: it is
    /// as if the RIB did not have it.
    pub origins: Option<Vec<u32>>,
    /// The imported origins count beside these, even where sources have priority.
    pub beside: bool,
    /// A rule names who had or has it: verdicts may change, not only whose packets are
    /// said to be.
    pub urgent: bool,
}

/// A prefix that is in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) set: SetId,
    /// Seconds since 1970.
    pub(super) since: u32,
    pub(super) beside: bool,
}

/// A prefix whose change waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// What it will be; `None`: gone.
    pub(super) wanted: Option<SetId>,
    /// On the steady clock.
    pub(super) until: u32,
    /// Seconds since 1970.
    pub(super) since: u32,
}

/// What is in effect in one family.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer<A: Address> {
    pub(super) entries: PrefixMap<(A, u8), Entry>,
    pub(super) waiting: PrefixMap<(A, u8), Waiting>,
    due: BTreeSet<(u32, A, u8)>,
}

/// What a prefix comes to.
struct Decision<A> {
    prefix: (A, u8),
    now: Option<Vec<u32>>,
    beside: bool,
    /// What it waits for; the inner `None`: to go.
    waits: Option<Option<Vec<u32>>>,
    urgent: bool,
}

impl<A: Address> Layer<A> {
    /// The longest prefix over another one.
    fn parent(&self, prefix: (A, u8)) -> Option<&Entry> {
        let over = self.entries.cover(&prefix);
        let shorter = over.take_while(|((_, len), _)| *len < prefix.1);
        shorter.last().map(|(_, entry)| entry)
    }

    /// Prefixes that hold an address between these, both included; the shorter ones first.
    pub(super) fn between(&self, first: A, last: A) -> impl Iterator<Item = ((A, u8), Entry)> {
        let at = (first, A::BITS);
        let behind = self.entries.iter_from(&at, false);
        let behind = behind.take_while(move |((start, _), _)| *start <= last);
        let all = self.entries.cover(&at).chain(behind);
        all.map(|(prefix, entry)| (prefix, *entry))
    }

    /// The longest prefix around an address that is in effect.
    pub(super) fn at(&self, address: A) -> Option<((A, u8), &Entry)> {
        self.entries.get_lpm(&(address, A::BITS))
    }

    /// The longest prefix around an address whose change waits.
    pub(super) fn waiting_at(&self, address: A) -> Option<((A, u8), &Waiting)> {
        self.waiting.get_lpm(&(address, A::BITS))
    }

    /// Prefixes whose wait is over.
    pub(super) fn due(&self, now: Moment) -> Vec<(A, u8)> {
        let due = self.due.iter().take_while(|due| due.0 <= now.steady);
        due.map(|&(_, start, len)| (start, len)).collect()
    }

    /// All that is in effect.
    pub(super) fn prefixes(&self) -> Vec<(A, u8)> {
        self.entries.keys().collect()
    }

    /// All that waits.
    pub(super) fn all_waiting(&self) -> Vec<(A, u8)> {
        self.waiting.keys().collect()
    }

    /// What the RIB wants for prefixes that have changed, each once. Each is judged by what
    /// was in effect before any of them: together they are one moment.
    pub(super) fn change(
        &mut self,
        wanted: impl Iterator<Item = ((A, u8), Option<Vec<u32>>)>,
        ground: &Ground<'_>,
        sets: &mut Sets,
        changes: &mut Vec<Change>,
    ) {
        let decisions: Vec<Decision<A>> = wanted
            .map(|(prefix, wanted)| self.decide(prefix, wanted, ground, sets))
            .collect();
        for decision in decisions {
            self.carry_out(decision, ground, sets, changes);
        }
    }

    fn decide(
        &self,
        prefix: (A, u8),
        wanted: Option<Vec<u32>>,
        ground: &Ground<'_>,
        sets: &Sets,
    ) -> Decision<A> {
        let (start, len) = prefix;
        let stakes = ground.stakes;
        let own = self.entries.get(&prefix);
        let parent = self.parent(prefix);
        let before = own.or(parent);
        let old: &[u32] = before.map_or(&[], |entry| sets.get(entry.set));
        let above: &[u32] = parent.map_or(&[], |entry| sets.get(entry.set));
        let new = wanted.as_deref().unwrap_or(above);
        let urgent = stakes.touch(old) || stakes.touch(new) || ground.names_imported();
        let at_once = |wanted| Decision {
            prefix,
            now: wanted,
            beside: false,
            waits: None,
            urgent,
        };
        if (own.is_none() && wanted.is_none()) || self.has_stood(prefix, &wanted, ground, sets) {
            return at_once(wanted);
        }
        let authorised = |asns: &[u32]| {
            let net = start.net(len);
            let valid = |&asn: &u32| ground.imported.rpki(net, asn) == Some(Rpki::Valid);
            !asns.is_empty() && asns.iter().all(valid)
        };
        let is_dropped = old.iter().any(|&asn| stakes.drops(asn));
        // Becoming nobody's, or somebody's, can loosen as well.
        let unrouted = |loosens: bool| loosens && !is_covered(ground.imported, start, len);
        let all_stay = new.is_empty() && !old.is_empty() && unrouted(stakes.passes_unrouted);
        let all_late = old.is_empty() && !new.is_empty() && unrouted(stakes.drops_unrouted);
        let stays = |asn: u32| !new.contains(&asn) && (all_stay || stakes.drops(asn));
        let is_late = |asn: u32| {
            let named = stakes.passes(asn) && (is_dropped || !stakes.drops(asn));
            !old.contains(&asn) && (named || (all_late && !stakes.drops(asn)))
        };
        let shadows = match before {
            None => true,
            Some(entry) => entry.beside,
        };
        let beside = ground.imported.combine == Combine::Priority
            && shadows
            && wanted.is_some()
            && imports_dropped(ground.imported, stakes, start, len, new);
        let waits =
            beside || old.iter().any(|&asn| stays(asn)) || new.iter().any(|&asn| is_late(asn));
        if !waits || wanted.as_deref().is_some_and(authorised) {
            return at_once(wanted);
        }
        let mut now: Vec<u32> = old.iter().copied().filter(|&asn| stays(asn)).collect();
        now.extend(new.iter().copied().filter(|&asn| !is_late(asn)));
        now.sort_unstable();
        now.dedup();
        Decision {
            prefix,
            // Nobody over nothing is nothing.
            now: Some(now).filter(|now| !now.is_empty() || before.is_some()),
            beside,
            waits: Some(wanted),
            urgent,
        }
    }

    /// Whether a prefix has waited long enough for just this.
    fn has_stood(
        &self,
        prefix: (A, u8),
        wanted: &Option<Vec<u32>>,
        ground: &Ground<'_>,
        sets: &Sets,
    ) -> bool {
        let Some(waiting) = self.waiting.get(&prefix) else {
            return false;
        };
        waiting.until <= ground.now.steady
            && waiting.wanted.map(|set| sets.get(set)) == wanted.as_deref()
    }

    fn carry_out(
        &mut self,
        decision: Decision<A>,
        ground: &Ground<'_>,
        sets: &mut Sets,
        changes: &mut Vec<Change>,
    ) {
        let (start, len) = decision.prefix;
        self.wait(decision.prefix, decision.waits, ground, sets);
        let before = self.entries.get(&decision.prefix).copied();
        let Some(now) = decision.now else {
            if let Some(before) = before {
                self.entries.remove(&decision.prefix);
                sets.release(before.set);
                changes.push(Change {
                    prefix: start.net(len),
                    origins: None,
                    beside: false,
                    urgent: decision.urgent,
                });
            }
            return;
        };
        let set = sets.hold(&now);
        if before.is_some_and(|b| (b.set, b.beside) == (set, decision.beside)) {
            sets.release(set);
            return;
        }
        let entry = Entry {
            set,
            since: ground.now.wall,
            beside: decision.beside,
        };
        self.insert(decision.prefix, entry, sets);
        changes.push(Change {
            prefix: start.net(len),
            origins: Some(now),
            beside: decision.beside,
            urgent: decision.urgent,
        });
    }

    /// Puts a prefix into effect; the entry brings a hold of its set.
    pub(super) fn insert(&mut self, prefix: (A, u8), entry: Entry, sets: &mut Sets) {
        if let Some(before) = self.entries.insert(prefix, entry) {
            sets.release(before.set);
        }
    }

    /// Begins a wait, lets it go on, or ends it.
    fn wait(
        &mut self,
        prefix: (A, u8),
        wanted: Option<Option<Vec<u32>>>,
        ground: &Ground<'_>,
        sets: &mut Sets,
    ) {
        let wanted = wanted.map(|wanted| wanted.map(|set| sets.hold(&set)));
        let before = self.waiting.get(&prefix).copied();
        if let (Some(before), Some(wanted)) = (before, wanted)
            && before.wanted == wanted
        {
            if let Some(set) = wanted {
                sets.release(set);
            }
            return;
        }
        if let Some(before) = before {
            self.waiting.remove(&prefix);
            self.due.remove(&(before.until, prefix.0, prefix.1));
            if let Some(set) = before.wanted {
                sets.release(set);
            }
        }
        if let Some(wanted) = wanted {
            let until = ground.now.steady.saturating_add(ground.hold);
            let waiting = Waiting {
                wanted,
                until,
                since: ground.now.wall,
            };
            self.waiting.insert(prefix, waiting);
            self.due.insert((until, prefix.0, prefix.1));
        }
    }
}

/// Ranges of the database that touch a prefix, each as far as it is inside, with their
/// origins.
fn imported<A: Address>(
    db: &AsnDb,
    start: A,
    len: u8,
) -> impl Iterator<Item = (u128, u128, &[u32])> {
    let first = start.wide();
    let last = first | host_mask::<A>(len);
    let v4 = A::BITS == 32;
    // One of the two is empty: the family is known when this is compiled.
    let of_v4 = if v4 {
        let from = db.v4.partition_point(|r| u128::from(r.end) < first);
        &db.v4[from..]
    } else {
        &[]
    };
    let of_v6 = if v4 {
        &[]
    } else {
        let from = db.v6.partition_point(|r| r.end < first);
        &db.v6[from..]
    };
    let v4 = of_v4
        .iter()
        .map(|r| (r.start.into(), r.end.into(), r.origins));
    let v6 = of_v6.iter().map(|r| (r.start, r.end, r.origins));
    v4.chain(v6)
        .take_while(move |&(start, ..)| start <= last)
        .map(move |(start, end, id): (u128, u128, u32)| {
            let set = db.origins.get(id as usize).map_or(&[][..], Vec::as_slice);
            (start.max(first), end.min(last), set)
        })
}

/// Whether somebody announces every address of a prefix, as far as was imported.
fn is_covered<A: Address>(db: &AsnDb, start: A, len: u8) -> bool {
    let last = start.wide() | host_mask::<A>(len);
    let mut next = Some(start.wide());
    for (start, end, _) in imported(db, start, len) {
        if next != Some(start) {
            return false;
        }
        next = end.checked_add(1);
    }
    next.is_none_or(|next| next > last)
}

/// Whether an imported origin inside a prefix is dropped, and is not one of the new.
fn imports_dropped<A: Address>(
    db: &AsnDb,
    stakes: &Stakes,
    start: A,
    len: u8,
    new: &[u32],
) -> bool {
    imported(db, start, len).any(|(.., set)| {
        set.iter()
            .any(|&asn| stakes.drops(asn) && !new.contains(&asn))
    })
}
