//! Brings the history up to the log. What it makes of the same records is the same, in however many steps they come.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::{
    SILENCE,
    books::{Books, Differences},
    flow::{Flow, Sum},
    hour_of, minute_of,
    record::{Parsed, Record, parse},
    store::{HistoryError, Store, keep_books, micros, number_of, set},
};
use crate::evidence::read;

/// Records of one transaction.
const BATCH: usize = 20_000;
/// Flows whose numbers are known without asking.
const KNOWN: usize = 100_000;
/// What a report wants to see again, beside sums.
pub(super) const EVENTS: [&str; 6] = ["start", "stop", "state", "change", "clock", "forget"];

/// What is to be added.
#[derive(Default)]
struct Batch {
    /// By hour and number of the flow.
    sums: HashMap<(i64, i64), Sum>,
    /// First and last record that has to do with an hour.
    hours: BTreeMap<i64, (u64, u64)>,
}

/// Goes on from the log.
pub struct Filler {
    books: Books,
    /// When the last record was written.
    heard: Option<Timestamp>,
    known: HashMap<Flow, i64>,
}

impl Filler {
    /// To go on where the database is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(store: &Store) -> Result<Self, HistoryError> {
        Ok(Self {
            books: store.books()?,
            heard: store.heard()?,
            known: HashMap::new(),
        })
    }

    /// Takes the records before number `until`, or some of them: whether there are more.
    ///
    /// # Errors
    /// When the database says no: then it is as it was before, and this is to be made anew.
    pub fn fill(&mut self, store: &Store, folder: &Path, until: u64) -> Result<bool, HistoryError> {
        let next = store.next()?;
        let lines = read::records(folder, next).take_while(|(number, _)| *number < until);
        let mut lines = lines.take(BATCH).peekable();
        if lines.peek().is_none() {
            return Ok(false);
        }
        let reached = store.run(|connection| {
            let transaction = rusqlite::Transaction::new_unchecked(
                connection,
                rusqlite::TransactionBehavior::Immediate,
            )?;
            let mut batch = Batch::default();
            let mut reached = next;
            for (number, line) in lines {
                if let Some(parsed) = parse(&line) {
                    self.hear(&transaction, parsed.at)?;
                    self.take(&transaction, &mut batch, number, &line, parsed)?;
                }
                reached = number + 1;
            }
            batch.write(&transaction)?;
            keep_books(&transaction, &self.books)?;
            if let Some(heard) = self.heard {
                set(&transaction, "heard", micros(heard))?;
            }
            set(&transaction, "next", reached)?;
            transaction.commit()?;
            Ok(reached)
        })?;
        Ok(reached < until)
    }

    /// A record came. Where none came for longer than heartbeats are apart, nobody wrote.
    fn hear(&mut self, connection: &Connection, at: Timestamp) -> rusqlite::Result<()> {
        match self.heard.replace(at) {
            None => set(connection, "begins", micros(at))?,
            Some(before) if at.duration_since(before) > SILENCE => {
                let put = "INSERT OR REPLACE INTO silences VALUES (?1, ?2)";
                let mut put = connection.prepare_cached(put)?;
                put.execute([micros(at), micros(before)])?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn take(
        &mut self,
        connection: &Connection,
        batch: &mut Batch,
        sequence: u64,
        line: &str,
        parsed: Parsed,
    ) -> rusqlite::Result<()> {
        let at = parsed.at;
        match parsed.record {
            Record::Flow(of) => {
                let (flow, sum) = *of;
                self.books.write(&flow.zone, &flow.action, sum.count);
                let hour = hour_of(sum.last);
                let number = match self.known.get(&flow) {
                    Some(number) => *number,
                    None => {
                        let number = number_of(connection, &flow)?;
                        if self.known.len() >= KNOWN {
                            self.known.clear();
                        }
                        self.known.insert(flow, number);
                        number
                    }
                };
                (batch.sums.entry((hour, number)))
                    .and_modify(|known| known.add(&sum))
                    .or_insert(sum);
                batch.touch(hour, sequence);
            }
            Record::Beat(beat) => keep_missing(connection, at, self.books.beat(&beat))?,
            Record::Start(start) => keep_missing(connection, at, self.books.start(&start))?,
            Record::Other => {}
        }
        if EVENTS.contains(&&*parsed.action) {
            let put = "INSERT OR REPLACE INTO events VALUES (?1, ?2, ?3, ?4)";
            let mut put = connection.prepare_cached(put)?;
            put.execute(params![sequence, micros(at), parsed.action, line])?;
        }
        Ok(())
    }
}

/// What was counted and is in no record, to the minute in which that was found.
fn keep_missing(
    connection: &Connection,
    at: Timestamp,
    missing: Differences,
) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO missing VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET \
         packets = packets + excluded.packets, bytes = bytes + excluded.bytes",
    )?;
    let at = micros(minute_of(at));
    for ((zone, action), of) in missing {
        put.execute(params![at, zone, action, of.packets, of.bytes])?;
    }
    Ok(())
}

impl Batch {
    fn touch(&mut self, hour: i64, sequence: u64) {
        let (_, last) = self.hours.entry(hour).or_insert((sequence, sequence));
        *last = sequence;
    }

    fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        let mut sums: Vec<_> = self.sums.into_iter().collect();
        // In the order of the table.
        sums.sort_unstable_by_key(|(key, _)| *key);
        let mut put = connection.prepare_cached(
            "INSERT INTO sums VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET \
             packets = packets + excluded.packets, bytes = bytes + excluded.bytes, \
             first = min(first, excluded.first), last = max(last, excluded.last)",
        )?;
        for ((hour, flow), sum) in sums {
            let (packets, bytes) = (sum.count.packets, sum.count.bytes);
            let (first, last) = (micros(sum.first), micros(sum.last));
            put.execute(params![hour, flow, packets, bytes, first, last])?;
        }
        let mut put = connection.prepare_cached(
            "INSERT INTO hours VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET last = excluded.last",
        )?;
        for (hour, (first, last)) in self.hours {
            put.execute(params![hour, first, last])?;
        }
        Ok(())
    }
}
