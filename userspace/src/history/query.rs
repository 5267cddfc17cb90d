//! What was seen in a period: whole hours from the database; of hours that are cut, and of what is not in the database yet,
//! the records of the log; and what is still in the kernel's lines from the daemon. Each packet is in exactly one of them.
//!
//! A packet counts at the time of the last packet of its record: that is exact to the `interval` of `[evidence]`.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    HOUR, SILENCE,
    books::Differences,
    fill::EVENTS,
    flow::{Flow, Row, Sum},
    hour_of, minute_of,
    record::{Beat, Parsed, Record, parse},
    store::{HistoryError, Store, flows, sums, timestamp},
};
use crate::evidence::read;

/// Periods up to so long are read from the log, record by record.
const SHORT: SignedDuration = SignedDuration::from_hours(3);

/// From `since` on, and before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first moment.
    pub since: Timestamp,
    /// The first one after it.
    pub until: Timestamp,
}

impl Period {
    /// Whether a moment is in it.
    #[must_use]
    pub fn has(&self, at: Timestamp) -> bool {
        self.since <= at && at < self.until
    }
}

/// What a daemon knows and has not written yet.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Records that the log had at this moment.
    pub records: u64,
    /// What is in the kernel's lines, and not in these records.
    pub rows: Vec<Row>,
    /// What was counted by then.
    pub beat: Beat,
    /// Why what it knows may not be written, now.
    pub troubles: Vec<String>,
}

impl Live {
    /// The daemon's answer.
    #[must_use]
    pub fn parse(answer: &serde_json::Value) -> Option<Self> {
        let rows = answer["rows"].as_str()?.lines();
        Some(Self {
            records: answer["records"].as_u64()?,
            rows: rows
                .map(|row| serde_json::from_str(row).ok())
                .collect::<Option<_>>()?,
            beat: Beat::parse(answer)?,
            troubles: serde_json::from_value(answer["troubles"].clone()).unwrap_or_default(),
        })
    }
}

/// A record that is no flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number in the log.
    pub sequence: u64,
    /// When it was written.
    pub at: Timestamp,
    /// `event.action`.
    pub action: String,
    /// The line.
    pub record: String,
}

/// What there is beside flows.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Counted in the period, and in no record.
    pub missing: Differences,
    /// Starts, stops, states, changes: all until the end of the period, oldest first.
    pub events: Vec<Event>,
    /// The first record ever; `None`: there is none.
    pub begins: Option<Timestamp>,
    /// When nothing was written for longer than heartbeats are apart, and when there was something again.
    pub silences: Vec<(Timestamp, Timestamp)>,
    /// When something was written last, or the daemon answered.
    pub heard: Option<Timestamp>,
    /// What was seen before then was removed.
    pub kept_from: Option<Timestamp>,
    /// All zones that were ever seen, or counted.
    pub zones: BTreeSet<String>,
    /// Records of the log.
    pub records: u64,
    /// The period was taken in whole hours at an end, since the log does not have those records any more.
    pub is_rounded: bool,
    /// What is in the kernel's lines is in it.
    pub is_live: bool,
    /// Packets that are in the kernel's lines, and in no record yet.
    pub in_lines: u64,
    /// Why they may not be written, now.
    pub troubles: Vec<String>,
}

/// What was seen of a flow at a time.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The beginning of the hour, or the last packet of the record.
    pub at: Timestamp,
    /// The same for the same flow, within one reading; `None`: nobody has given it one.
    pub number: Option<i64>,
    /// Whose.
    pub flow: &'a Flow,
    /// What.
    pub sum: &'a Sum,
}

/// Tells of what was seen of each flow that `wanted` wants. `ask` asks the daemon.
///
/// # Errors
/// When the database cannot be read.
pub fn read(
    store: &Store,
    folder: &Path,
    period: Period,
    ask: impl FnOnce() -> Option<Live>,
    wanted: &dyn Fn(&Flow) -> bool,
    each: &mut dyn FnMut(Seen<'_>),
) -> Result<Found, HistoryError> {
    // One moment of the database, and a later one of the daemon: what the log has between is read from there.
    let transaction = store.snapshot()?;
    let next = store.next()?;
    let live = ask();
    let mut found = Found {
        is_live: live.is_some(),
        ..Found::default()
    };
    let mut reading = Reading {
        store,
        folder,
        period,
        next,
        wanted,
        each,
    };
    reading.beside(&mut found)?;
    reading.hours(&mut found)?;
    reading.tail(&mut found, live)?;
    drop(transaction);
    Ok(found)
}

/// What was said that is no flow, before then: all of it, oldest first.
///
/// # Errors
/// When the database cannot be read.
pub fn events(store: &Store, folder: &Path, until: Timestamp) -> Result<Vec<Event>, HistoryError> {
    let mut events = kept_events(store, until)?;
    for (sequence, line) in read::records(folder, store.next()?) {
        let event = parse(&line).and_then(|parsed| event(sequence, &line, &parsed));
        events.extend(event.filter(|event| event.at < until));
    }
    Ok(events)
}

/// Those that the database has.
fn kept_events(store: &Store, until: Timestamp) -> Result<Vec<Event>, HistoryError> {
    store.run(|c| {
        let select =
            "SELECT sequence, at, action, record FROM events WHERE at < ?1 ORDER BY sequence";
        let mut select = c.prepare_cached(select)?;
        let rows = select.query_map([until.as_microsecond()], read_event)?;
        rows.collect()
    })
}

/// The first start at or after a moment: it says since when nobody had written.
fn next_start(store: &Store, from: Timestamp) -> Result<Option<Event>, HistoryError> {
    store.run(|c| {
        let select = "SELECT sequence, at, action, record FROM events WHERE action = 'start' AND at >= ?1 \
                      ORDER BY sequence LIMIT 1";
        let mut select = c.prepare_cached(select)?;
        let mut rows = select.query_map([from.as_microsecond()], read_event)?;
        rows.next().transpose()
    })
}

fn read_event(row: &rusqlite::Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        sequence: row.get(0)?,
        at: timestamp(row.get(1)?),
        action: row.get(2)?,
        record: row.get(3)?,
    })
}

/// A line of the log, if it is one.
fn event(sequence: u64, line: &str, parsed: &Parsed) -> Option<Event> {
    let is_one = EVENTS.contains(&&*parsed.action);
    is_one.then(|| Event {
        sequence,
        at: parsed.at,
        action: parsed.action.clone(),
        record: line.to_owned(),
    })
}

struct Reading<'a> {
    store: &'a Store,
    folder: &'a Path,
    period: Period,
    /// Records that the database has.
    next: u64,
    wanted: &'a dyn Fn(&Flow) -> bool,
    each: &'a mut dyn FnMut(Seen<'_>),
}

impl Reading<'_> {
    /// What the database has, of whole hours; of those that are cut, the log.
    fn hours(&mut self, found: &mut Found) -> Result<(), HistoryError> {
        let Period { since, until } = self.period;
        let mut whole = hour_of(since)..hour_of(until);
        // Hours of which the period does not have all; of short periods all, each record at its own time.
        let mut cut = Vec::new();
        let begins = found.begins.unwrap_or(since).max(since);
        if until.min(Timestamp::now()).duration_since(begins) <= SHORT {
            cut.extend(hour_of(begins)..=hour_of(until.min(Timestamp::now())));
            whole = 0..0;
        } else {
            if !is_full(since) {
                cut.push(whole.start);
                whole.start += 1;
            }
            if !is_full(until) {
                cut.push(whole.end);
            }
        }
        let mut ranges = vec![whole];
        let oldest = read::firsts(self.folder).first().copied();
        for hour in cut {
            let range = self.store.run(|c| {
                let mut select =
                    c.prepare_cached("SELECT first, last FROM hours WHERE hour = ?1")?;
                let mut rows = select.query([hour])?;
                let row = rows.next()?;
                row.map(|row| Ok::<(u64, u64), rusqlite::Error>((row.get(0)?, row.get(1)?)))
                    .transpose()
            })?;
            match range {
                None => {}
                Some((first, last)) if oldest.is_some_and(|oldest| oldest <= first) => {
                    self.cut(hour, first, last);
                }
                Some(_) => {
                    found.is_rounded = true;
                    ranges.push(hour..hour + 1);
                }
            }
        }
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            let mut known: HashMap<i64, Flow> = HashMap::new();
            let (wanted, each) = (self.wanted, &mut *self.each);
            self.store.run(|c| {
                flows(c, &range, |number, flow| {
                    if wanted(&flow) {
                        known.insert(number, flow);
                    }
                })?;
                sums(c, range, |hour, number, sum| {
                    if let Some(flow) = known.get(&number) {
                        each(Seen {
                            at: timestamp(hour * HOUR),
                            number: Some(number),
                            flow,
                            sum: &sum,
                        });
                    }
                })
            })?;
        }
        Ok(())
    }

    /// What the log has of an hour, in these records.
    fn cut(&mut self, hour: i64, first: u64, last: u64) {
        let last = last.min(self.next.saturating_sub(1));
        for (_, line) in read::records(self.folder, first).take_while(|(number, _)| *number <= last)
        {
            let Some(parsed) = parse(&line) else { continue };
            if let Record::Flow(of) = parsed.record
                && hour_of(of.1.last) == hour
            {
                self.flow(&of.0, &of.1);
            }
        }
    }

    fn flow(&mut self, flow: &Flow, sum: &Sum) {
        if self.period.has(sum.last) && (self.wanted)(flow) {
            (self.each)(Seen {
                at: sum.last,
                number: None,
                flow,
                sum,
            });
        }
    }

    /// What the database has beside flows.
    fn beside(&self, found: &mut Found) -> Result<(), HistoryError> {
        let Period { since, until } = self.period;
        found.events = kept_events(self.store, until)?;
        found.events.extend(next_start(self.store, until)?);
        self.store.run(|c| {
            let mut select = c.prepare(
                "SELECT zone, action, sum(packets), sum(bytes) FROM missing WHERE at >= ?1 AND at < ?2 GROUP BY zone, action",
            )?;
            let from = minute_of(since).as_microsecond();
            let mut rows = select.query([from, until.as_microsecond()])?;
            while let Some(row) = rows.next()? {
                let missing = found.missing.entry((row.get(0)?, row.get(1)?)).or_default();
                missing.packets += row.get::<_, i64>(2)?;
                missing.bytes += row.get::<_, i64>(3)?;
            }
            let mut select = c.prepare(
                "SELECT since, until FROM silences WHERE until > ?1 AND since < ?2 ORDER BY until",
            )?;
            let mut rows = select.query([since.as_microsecond(), until.as_microsecond()])?;
            while let Some(row) = rows.next()? {
                (found.silences).push((timestamp(row.get(0)?), timestamp(row.get(1)?)));
            }
            let zones = "SELECT zone FROM flows UNION SELECT zone FROM books UNION SELECT zone FROM missing";
            let mut zones = c.prepare(zones)?;
            for zone in zones.query_map([], |row| row.get(0))? {
                found.zones.insert(zone?);
            }
            found.begins = super::store::get(c, "begins")?.map(timestamp);
            found.heard = super::store::get(c, "heard")?.map(timestamp);
            found.kept_from =
                super::store::get(c, "kept_from")?.map(|hour: i64| timestamp(hour * HOUR));
            Ok(())
        })
    }

    /// What the database does not have yet, and what no record has yet.
    fn tail(&mut self, found: &mut Found, live: Option<Live>) -> Result<(), HistoryError> {
        let mut books = self.store.books()?;
        let period = self.period;
        let until = live.as_ref().map_or(u64::MAX, |live| live.records);
        let add = |found: &mut Found, at: Timestamp, missing: Differences| {
            if minute_of(period.since) <= at && at < period.until {
                for (key, of) in missing {
                    found.missing.entry(key).or_default().add(of);
                }
            }
        };
        found.records = self.next;
        for (number, line) in read::records(self.folder, self.next) {
            if number >= until {
                break;
            }
            found.records = number + 1;
            let is_behind = found
                .events
                .last()
                .is_some_and(|last| last.at >= period.until);
            let Some(parsed) = parse(&line) else {
                continue;
            };
            let event = event(number, &line, &parsed)
                .filter(|event| event.at < period.until || event.action == "start" && !is_behind);
            found.events.extend(event);
            let Parsed { at, record, .. } = parsed;
            found.hear(at, period);
            match record {
                Record::Flow(of) => {
                    books.write(&of.0.zone, &of.0.action, of.1.count);
                    if !found.zones.contains(&of.0.zone) {
                        found.zones.insert(of.0.zone.clone());
                    }
                    self.flow(&of.0, &of.1);
                }
                Record::Beat(beat) => {
                    found
                        .zones
                        .extend(beat.counted.keys().map(|(zone, _)| zone.clone()));
                    add(found, at, books.beat(&beat));
                }
                Record::Start(start) => add(found, at, books.start(&start)),
                Record::Other => {}
            }
        }
        if let Some(live) = live {
            let now = Timestamp::now();
            found.hear(now, period);
            found
                .zones
                .extend(live.beat.counted.keys().map(|(zone, _)| zone.clone()));
            add(found, now, books.beat(&live.beat));
            found.troubles = live.troubles;
            for row in live.rows {
                let sum = row.sum();
                found.in_lines += sum.count.packets;
                self.flow(&row.flow, &sum);
            }
        }
        Ok(())
    }
}

impl Found {
    /// Somebody wrote then.
    fn hear(&mut self, at: Timestamp, period: Period) {
        self.begins.get_or_insert(at);
        if let Some(before) = self.heard.replace(at)
            && at.duration_since(before) > SILENCE
            && before < period.until
            && at > period.since
        {
            self.silences.push((before, at));
        }
    }
}

fn is_full(at: Timestamp) -> bool {
    at.as_microsecond().rem_euclid(HOUR) == 0
}
