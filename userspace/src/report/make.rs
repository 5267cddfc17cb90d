//! Makes a report of what the history tells, flow by flow, so that years of it take the memory of what is shown.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use jiff::Timestamp;

use super::model::{Actions, Book, Camera, Network, Report, Slot, Summary, Timeline, Traffic};
use crate::history::{
    flow::{Count, Difference, Flow, Sum},
    query::{self, Found},
};

/// Addresses of a camera that are shown.
const ADDRESSES: usize = 4;
/// Addresses of a camera that are told apart.
const MOST_ADDRESSES: usize = 1000;
/// Periods up to so many seconds are shown by the minute, and up to so many by the hour.
const BY_MINUTE: i64 = 3 * 3600;
const BY_HOUR: i64 = 95 * 86400;

/// What was seen, and when.
struct Seen {
    actions: Actions,
    first: Timestamp,
    last: Timestamp,
}

impl Seen {
    fn new(sum: &Sum) -> Self {
        Self {
            actions: Actions::default(),
            first: sum.first,
            last: sum.last,
        }
    }

    fn add(&mut self, action: &str, sum: &Sum) {
        self.actions.of(action).add(sum.count);
        self.first = self.first.min(sum.first);
        self.last = self.last.max(sum.last);
    }
}

impl Actions {
    fn of(&mut self, action: &str) -> &mut Count {
        match action {
            "drop" => &mut self.drop,
            "audit" => &mut self.audit,
            _ => &mut self.pass,
        }
    }
}

/// A camera, by zone; `None`: not told apart.
type Who = (String, Option<String>);
/// A network, by zone.
type Where = (String, Option<u32>);

#[derive(Default)]
struct Addresses {
    known: BTreeSet<IpAddr>,
    /// Networks that something was dropped to.
    dropped: HashSet<Option<u32>>,
    /// It tried to reach one that is blocked.
    tried: bool,
}

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Pair {
    zone: String,
    mac: Option<String>,
    src: Option<IpAddr>,
    asn: Option<u32>,
    action: String,
    reason: String,
    rule: Option<String>,
}

/// Collects, flow by flow.
#[derive(Default)]
pub struct Maker {
    /// By the minute.
    slots: BTreeMap<i64, Actions>,
    /// What is not added to the rest yet, by numbers of flows.
    numbered: HashMap<i64, (Flow, Sum)>,
    cameras: HashMap<Who, (Seen, Addresses)>,
    networks: HashMap<Where, (Seen, HashSet<Option<String>>)>,
    /// The newest name of each, and its country.
    names: HashMap<u32, (Timestamp, Option<String>, Option<String>)>,
    traffic: HashMap<Pair, Seen>,
    /// What the policy has dropped on its way to networks.
    tried: HashMap<Where, Count>,
    recorded: BTreeMap<(String, String), Count>,
    others: u64,
}

impl Maker {
    /// What was seen of a flow at a time.
    pub fn add(&mut self, seen: query::Seen<'_>) {
        let slot = seen.at.as_second().div_euclid(60);
        let slot = self.slots.entry(slot).or_default();
        slot.of(&seen.flow.action).add(seen.sum.count);
        match seen.number {
            // Most of it, in long periods: hour by hour the same flows.
            Some(number) => {
                (self.numbered.entry(number))
                    .and_modify(|(_, known)| known.add(seen.sum))
                    .or_insert_with(|| (seen.flow.clone(), *seen.sum));
            }
            None => self.add_to(seen.flow, seen.sum),
        }
    }

    fn add_to(&mut self, flow: &Flow, sum: &Sum) {
        let action = &*flow.action;
        let book = (flow.zone.clone(), flow.action.clone());
        self.recorded.entry(book).or_default().add(sum.count);
        if flow.others {
            self.others += sum.count.packets;
        }
        let who = (flow.zone.clone(), flow.mac.clone());
        let new = || (Seen::new(sum), Addresses::default());
        let (seen, addresses) = self.cameras.entry(who).or_insert_with(new);
        seen.add(action, sum);
        if let Some(src) = flow.src
            && addresses.known.len() < MOST_ADDRESSES
        {
            addresses.known.insert(src);
        }
        // What belongs to no known network was dropped for another reason than a network.
        let is_tried =
            action == "drop" && flow.asn.is_some() && matches!(&*flow.reason, "rule" | "default");
        if action == "drop" {
            addresses.dropped.insert(flow.asn);
            addresses.tried |= is_tried;
        }
        let place = (flow.zone.clone(), flow.asn);
        let new = || (Seen::new(sum), HashSet::new());
        let (seen, cameras) = self.networks.entry(place).or_insert_with(new);
        seen.add(action, sum);
        if is_tried {
            (self.tried.entry((flow.zone.clone(), flow.asn)).or_default()).add(sum.count);
        }
        if !cameras.contains(&flow.mac) {
            cameras.insert(flow.mac.clone());
        }
        if let Some(asn) = flow.asn {
            let known = self.names.entry(asn).or_insert((sum.last, None, None));
            if known.0 <= sum.last && (known.1 != flow.name || known.2 != flow.country) {
                *known = (sum.last, flow.name.clone(), flow.country.clone());
            }
        }
        let pair = Pair {
            zone: flow.zone.clone(),
            mac: flow.mac.clone(),
            src: flow.src,
            asn: flow.asn,
            action: flow.action.clone(),
            reason: flow.reason.clone(),
            rule: flow.rule.clone(),
        };
        (self.traffic.entry(pair).or_insert_with(|| Seen::new(sum))).add(action, sum);
    }

    /// Puts all of it into a report, which has its period and its place already.
    pub fn finish(mut self, report: &mut Report, found: &Found) {
        for (flow, sum) in std::mem::take(&mut self.numbered).into_values() {
            self.add_to(&flow, &sum);
        }
        report.books = self.books(report.zone.as_deref(), found);
        report.summary = self.summary(&report.books);
        report.timeline = self.timeline(report.since, report.until);
        if self.others > 0 {
            report.unknown.push(format!(
                "{} packets are recorded without their destination, since their camera sent to more of them than are told apart: \
                 they may have been for any network.",
                self.others
            ));
        }
        let name = |asn: Option<u32>| asn.and_then(|asn| self.names.get(&asn));
        report.cameras = (self.cameras.into_iter())
            .map(|((zone, mac), (seen, addresses))| Camera {
                zone,
                mac,
                more_addresses: addresses.known.len().saturating_sub(ADDRESSES) as u64,
                addresses: addresses.known.into_iter().take(ADDRESSES).collect(),
                actions: seen.actions,
                networks_dropped: addresses.dropped.len() as u64,
                first: seen.first,
                last: seen.last,
            })
            .collect();
        let most = |actions: &Actions| {
            Reverse((
                actions.drop.packets,
                actions.audit.packets,
                actions.pass.packets,
            ))
        };
        (report.cameras)
            .sort_by_cached_key(|of| (most(&of.actions), of.zone.clone(), of.mac.clone()));
        report.networks = (self.networks.into_iter())
            .map(|((zone, asn), (seen, cameras))| Network {
                zone,
                asn,
                name: name(asn).and_then(|(_, name, _)| name.clone()),
                country: name(asn).and_then(|(.., country)| country.clone()),
                actions: seen.actions,
                cameras: cameras.len() as u64,
                first: seen.first,
                last: seen.last,
            })
            .collect();
        report
            .networks
            .sort_by_cached_key(|of| (most(&of.actions), of.zone.clone(), of.asn));
        let mut traffic: Vec<(Pair, Seen)> = self.traffic.into_iter().collect();
        let sum = |seen: &Seen| {
            let Actions { drop, audit, pass } = seen.actions;
            [drop, audit, pass]
                .into_iter()
                .fold(Count::default(), |mut all, of| {
                    all.add(of);
                    all
                })
        };
        traffic.sort_by(|(a, x), (b, y)| {
            (Reverse(sum(x).packets), a).cmp(&(Reverse(sum(y).packets), b))
        });
        report.traffic = (traffic.into_iter())
            .map(|(pair, seen)| Traffic {
                name: name(pair.asn).and_then(|(_, name, _)| name.clone()),
                country: name(pair.asn).and_then(|(.., country)| country.clone()),
                packets: sum(&seen).packets,
                bytes: sum(&seen).bytes,
                first: seen.first,
                last: seen.last,
                zone: pair.zone,
                mac: pair.mac,
                src: pair.src,
                asn: pair.asn,
                action: pair.action,
                reason: pair.reason,
                rule: pair.rule,
            })
            .collect();
    }

    /// What was counted is what was recorded and what was not.
    fn books(&self, zone: Option<&str>, found: &Found) -> BTreeMap<String, BTreeMap<String, Book>> {
        let mut books: BTreeMap<String, BTreeMap<String, Book>> = BTreeMap::new();
        let keys = self.recorded.keys().chain(found.missing.keys());
        for of in keys.map(|(zone, _)| zone) {
            if zone.is_none_or(|zone| zone == of) && !books.contains_key(of) {
                let actions = ["pass", "audit", "drop"];
                let actions = actions.map(|action| (action.to_owned(), Book::default()));
                books.insert(of.clone(), actions.into());
            }
        }
        for (zone, actions) in &mut books {
            for (action, book) in actions {
                let key = (zone.clone(), action.clone());
                let recorded = self.recorded.get(&key).copied().unwrap_or_default();
                let unrecorded = found.missing.get(&key).copied().unwrap_or_default();
                *book = Book::of(recorded, unrecorded);
            }
        }
        books
    }

    fn summary(&self, books: &BTreeMap<String, BTreeMap<String, Book>>) -> Summary {
        let mut summary = Summary::default();
        let cameras = (self.cameras.iter()).filter(|((_, mac), _)| mac.is_some());
        for (_, (seen, addresses)) in cameras {
            summary.cameras += 1;
            summary.refused += u64::from(seen.actions.drop.packets > 0);
            summary.tried += u64::from(addresses.tried);
        }
        let mut blocked = HashSet::new();
        for (place, dropped) in &self.tried {
            blocked.insert(place.1);
            summary.dropped.add(*dropped);
            if let Some((seen, _)) = self.networks.get(place) {
                // What was only watched has passed as well.
                summary.through.add(seen.actions.pass);
                summary.through.add(seen.actions.audit);
            }
        }
        summary.blocked_networks = blocked.len() as u64;
        for slot in self.slots.values() {
            summary.actions.drop.add(slot.drop);
            summary.actions.audit.add(slot.audit);
            summary.actions.pass.add(slot.pass);
        }
        for book in books.values().flat_map(BTreeMap::values) {
            summary.unrecorded.add(book.unrecorded);
        }
        summary
    }

    /// From the first to the last slot of the period, also where nothing came.
    fn timeline(&self, since: Timestamp, until: Timestamp) -> Timeline {
        let seconds = until.duration_since(since).as_secs();
        let step = if seconds <= BY_MINUTE {
            60
        } else if seconds <= BY_HOUR {
            3600
        } else {
            86400
        };
        let mut slots: BTreeMap<i64, Actions> = BTreeMap::new();
        for (minute, of) in &self.slots {
            let slot = slots.entry((minute * 60).div_euclid(step)).or_default();
            slot.drop.add(of.drop);
            slot.audit.add(of.audit);
            slot.pass.add(of.pass);
        }
        let slot = |at: Timestamp| at.as_second().div_euclid(step);
        let mut timeline = Timeline {
            step: step.unsigned_abs(),
            slots: Vec::new(),
        };
        let (Some((first, _)), Some((last, _))) = (slots.first_key_value(), slots.last_key_value())
        else {
            return timeline;
        };
        // An hour of which the period has a part begins before it, and what came while it was read is behind it.
        let first = slot(since).min((*first).max(slot(since) - 60));
        for number in first..=slot(until).max((*last).min(slot(until) + 60)) {
            timeline.slots.push(Slot {
                at: Timestamp::from_second(number * step).unwrap_or_default(),
                actions: slots.get(&number).copied().unwrap_or_default(),
            });
        }
        timeline
    }
}

impl Book {
    fn of(recorded: Count, unrecorded: Difference) -> Self {
        let counted = Count {
            packets: recorded.packets.saturating_add_signed(unrecorded.packets),
            bytes: recorded.bytes.saturating_add_signed(unrecorded.bytes),
        };
        Self {
            counted,
            recorded,
            // What was counted is no less than nothing.
            unrecorded: Difference::between(counted, recorded),
        }
    }
}
