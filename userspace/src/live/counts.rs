//! What is new in cumulative counters.
//!
//! A counter that is smaller than before is that of a daemon that has started anew, and shows what it found in the kernel's lines:
//! nothing of it is known to be new. A flow
//! that is missing from an answer is remembered: an answer of a full daemon has only the largest flows,
//! and a small one may come back with what it had. If it comes back younger than it was, it began anew.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
};

use super::{Key, MAX_ROWS, Row};

/// How much later a flow must begin than it last was seen to be another one. Times of the kernel's
/// ticks are only about right.
const APART: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

/// A flow, and what is kept of it.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// As the daemon last told it.
    pub row: Arc<Row>,
    /// Packets since the answer before.
    pub packets: u64,
    /// Bytes since then.
    pub bytes: u64,
    /// It was not there before, or began anew after it had been missing.
    pub is_new: bool,
    /// What the caller keeps.
    pub kept: T,
    /// The last answer that had it.
    seen: u64,
    /// It is in the book since then.
    is_first: bool,
    /// Its counters in the answer before.
    before: (u64, u64),
}

/// All flows, by their keys.
#[derive(Debug)]
pub struct Book<T> {
    entries: HashMap<Key, Entry<T>>,
    room: usize,
    polls: u64,
    untold: u64,
}

impl<T: Default> Default for Book<T> {
    fn default() -> Self {
        Self::with_room(MAX_ROWS)
    }
}

impl<T: Default> Book<T> {
    /// A book of at most `room` flows.
    pub fn with_room(room: usize) -> Self {
        Self {
            entries: HashMap::new(),
            room,
            polls: 0,
            untold: 0,
        }
    }

    /// Takes an answer. After that each entry has what it grew by.
    pub fn post(&mut self, rows: Vec<Row>) {
        self.polls += 1;
        for row in rows {
            match self.entries.entry(row.key()) {
                hash_map::Entry::Occupied(mut known) => known.get_mut().go_on(row, self.polls),
                hash_map::Entry::Vacant(place) => {
                    place.insert(Entry::new(row, self.polls));
                }
            }
        }
        self.make_room();
        for entry in self.entries.values_mut() {
            entry.compare(self.polls);
        }
    }

    /// Forgets flows: first those that are missing longest, then those that are new.
    fn make_room(&mut self) {
        self.untold = 0;
        let excess = self.entries.len().saturating_sub(self.room);
        if excess == 0 {
            return;
        }
        let worth = |entry: &Entry<T>| match (entry.seen == self.polls, entry.is_first) {
            (false, _) => Some(entry.seen),
            (true, true) => Some(u64::MAX),
            (true, false) => None,
        };
        let all = self.entries.iter();
        let mut all: Vec<(u64, Key)> = all
            .filter_map(|(key, entry)| Some((worth(entry)?, key.clone())))
            .collect();
        all.sort_unstable();
        for (worth, key) in all.into_iter().take(excess) {
            self.entries.remove(&key);
            self.untold += u64::from(worth == u64::MAX);
        }
    }

    /// Answers that were taken.
    pub fn polls(&self) -> u64 {
        self.polls
    }

    /// Flows of the last answer that found no room.
    pub fn untold(&self) -> u64 {
        self.untold
    }

    /// All entries, also those that are missing from the last answer.
    pub fn entries(&self) -> hash_map::Iter<'_, Key, Entry<T>> {
        self.entries.iter()
    }

    /// The same, to change what is kept; and whether each was in the last answer.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = (&Key, &mut Entry<T>, bool)> {
        let polls = self.polls;
        self.entries.iter_mut().map(move |(key, entry)| {
            let is_there = entry.seen == polls;
            (key, entry, is_there)
        })
    }
}

impl<T: Default> Entry<T> {
    fn new(row: Row, poll: u64) -> Self {
        Self {
            packets: 0,
            bytes: 0,
            is_new: true,
            kept: T::default(),
            seen: poll,
            is_first: true,
            before: (0, 0),
            row: Arc::new(row),
        }
    }

    fn go_on(&mut self, row: Row, poll: u64) {
        if self.seen == poll {
            return self.add(row);
        }
        let was_missing = self.seen + 1 != poll;
        self.is_new = was_missing && is_younger(&row, &self.row);
        self.before = match self.is_new {
            true => (0, 0),
            false => (self.row.packets, self.row.bytes),
        };
        self.is_first = false;
        self.seen = poll;
        self.row = Arc::new(row);
    }

    /// Two rows of an answer that have one key differ in what this version does not know: they are one.
    fn add(&mut self, row: Row) {
        let sum = Arc::make_mut(&mut self.row);
        sum.packets = sum.packets.saturating_add(row.packets);
        sum.bytes = sum.bytes.saturating_add(row.bytes);
        if row.first < sum.first {
            sum.first = row.first;
        }
        if row.last > sum.last {
            sum.last = row.last;
        }
    }

    /// Finds what it grew by, once all of an answer is known.
    fn compare(&mut self, poll: u64) {
        if self.seen != poll {
            (self.packets, self.bytes, self.is_new) = (0, 0, false);
            return;
        }
        let (now, before) = ((self.row.packets, self.row.bytes), self.before);
        (self.packets, self.bytes) = match now.0 < before.0 || now.1 < before.1 {
            true => (0, 0),
            false => (now.0 - before.0, now.1 - before.1),
        };
    }
}

/// Whether a flow began after what is known of it had ended.
fn is_younger(row: &Row, before: &Row) -> bool {
    let time = |text: &str| text.parse::<jiff::Timestamp>().ok();
    match (time(&row.first), time(&before.last)) {
        (Some(first), Some(last)) => first.duration_since(last) > APART,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::testing::{counted, row};

    fn grown(book: &Book<()>, number: u32) -> Option<(u64, u64, bool)> {
        let key = row(number).key();
        let (_, entry) = book.entries().find(|(other, _)| **other == key)?;
        Some((entry.packets, entry.bytes, entry.is_new))
    }

    #[test]
    fn smaller_counters_have_nothing_new() {
        let mut book = Book::default();
        book.post(vec![counted(1, 10, 1000)]);
        assert_eq!(grown(&book, 1), Some((10, 1000, true)));
        book.post(vec![counted(1, 12, 1500)]);
        assert_eq!(grown(&book, 1), Some((2, 500, false)));
        book.post(vec![counted(1, 3, 2000)]);
        assert_eq!(grown(&book, 1), Some((0, 0, false)));
        book.post(vec![counted(1, 5, 2100)]);
        assert_eq!(grown(&book, 1), Some((2, 100, false)));
    }

    #[test]
    fn what_was_missing_is_remembered() {
        let mut book = Book::default();
        book.post(vec![counted(1, 10, 1000)]);
        book.post(vec![]);
        assert_eq!(grown(&book, 1), Some((0, 0, false)));
        book.post(vec![counted(1, 11, 1100)]);
        assert_eq!(grown(&book, 1), Some((1, 100, false)));
        book.post(vec![]);
        // A flow that began later is another one, although its counters are larger.
        let mut later = counted(1, 20, 2000);
        later.first = "2026-11-29T18:00:00.000Z".to_owned();
        later.last = later.first.clone();
        book.post(vec![later]);
        assert_eq!(grown(&book, 1), Some((20, 2000, true)));
    }

    #[test]
    fn room_is_bounded() {
        let mut book = Book::with_room(3);
        book.post(vec![counted(1, 1, 1), counted(2, 1, 1)]);
        book.post(vec![counted(2, 1, 1), counted(3, 1, 1)]);
        assert!(grown(&book, 1).is_some());
        book.post(vec![counted(3, 1, 1), counted(4, 1, 1)]);
        assert!(grown(&book, 1).is_none(), "missing longest");
        assert!(grown(&book, 2).is_some());
        book.post((1..=5).map(|number| counted(number, 1, 1)).collect());
        assert_eq!(book.entries().count(), 3);
        assert_eq!(book.untold(), 2);
    }

    #[test]
    fn rows_with_one_key_are_one() {
        let mut book: Book<()> = Book::default();
        book.post(vec![counted(1, 1, 10), counted(1, 2, 20)]);
        assert_eq!(grown(&book, 1), Some((3, 30, true)));
    }
}
