//! What the kernel has counted and no record has, found by comparing counters and records on the way through the log.
//!
//! A heartbeat has what was counted, and what of it was in the kernel's lines and not written yet, both of one moment. What else was
//! counted since the heartbeat before must be in the records between. What is not is missing, whoever is to blame: a ring
//! that was full, `record = "off"`, a disk that was full, or somebody who has removed records.

use std::collections::BTreeMap;

use super::{
    flow::{Count, Difference},
    record::{Beat, Counts, Start},
};

/// What counters say more than records, by zone and action.
pub type Differences = BTreeMap<(String, String), Difference>;

/// Where it is in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Whose counters were read last; empty: new ones, that begin with nothing; `None`: nobody knows what they had
    /// counted before.
    pub(super) counters: Option<String>,
    /// The boot of the daemon that wrote last.
    pub(super) boot: String,
    /// What of them was to be in the log by the last heartbeat.
    pub(super) told: Counts,
    /// What was in lines then, and was to come.
    pub(super) unwritten: Counts,
    /// What records have since.
    pub(super) written: Counts,
}

impl Books {
    /// A record of a flow.
    pub(super) fn write(&mut self, zone: &str, action: &str, count: Count) {
        let key = (zone.to_owned(), action.to_owned());
        self.written.entry(key).or_default().add(count);
    }

    /// A daemon starts. What is missing of counters that are gone.
    #[must_use]
    pub(super) fn start(&mut self, start: &Start) -> Differences {
        let is_other = |counters: &String| {
            !counters.is_empty() && start.counters.as_ref().is_some_and(|new| new != counters)
        };
        let is_new = match (&*self.boot, &self.counters) {
            // The first of all: what was counted before, if there is a boot to have counted it, is not known.
            ("", _) => start.is_first_of_boot,
            (before, counters) => before != start.boot || counters.as_ref().is_some_and(is_other),
        };
        start.boot.clone_into(&mut self.boot);
        match is_new {
            true => self.renew(),
            false => Differences::new(),
        }
    }

    /// What was in lines of counters that are gone, and has come in no record.
    fn renew(&mut self) -> Differences {
        let mut missing = Differences::new();
        for (key, unwritten) in std::mem::take(&mut self.unwritten) {
            let written = self.written.get(&key).copied().unwrap_or_default();
            let lost = Count {
                packets: unwritten.packets.saturating_sub(written.packets),
                bytes: unwritten.bytes.saturating_sub(written.bytes),
            };
            if lost.packets > 0 {
                missing.insert(key, Difference::between(lost, Count::default()));
            }
        }
        self.told.clear();
        self.written.clear();
        self.counters = Some(String::new());
        missing
    }

    /// What is missing since the heartbeat before; nothing of what agrees.
    #[must_use]
    pub fn beat(&mut self, beat: &Beat) -> Differences {
        let mut missing = match &self.counters {
            Some(counters) if !counters.is_empty() && *counters != beat.counters => self.renew(),
            _ => Differences::new(),
        };
        let is_known = self.counters.replace(beat.counters.clone()).is_some();
        if let Some(opening) = &beat.opening {
            self.told.clone_from(opening);
        }
        for (key, counted) in &beat.counted {
            let of = |counts: &Counts| counts.get(key).copied().unwrap_or_default();
            let unwritten = of(&beat.unwritten);
            let told = Count {
                packets: counted.packets.saturating_sub(unwritten.packets),
                bytes: counted.bytes.saturating_sub(unwritten.bytes),
            };
            let mut new = Difference::between(told, of(&self.told));
            new.add(Difference::between(Count::default(), of(&self.written)));
            if !new.is_zero() && (is_known || beat.opening.is_some()) {
                missing.entry(key.clone()).or_default().add(new);
            }
            self.told.insert(key.clone(), told);
            self.written.remove(key);
        }
        self.unwritten.clone_from(&beat.unwritten);
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(packets: u64) -> Counts {
        let count = Count {
            packets,
            bytes: 100 * packets,
        };
        [(("z".to_owned(), "drop".to_owned()), count)].into()
    }

    fn beat(counted: u64, unwritten: u64) -> Beat {
        Beat {
            counters: "1".to_owned(),
            counted: counts(counted),
            unwritten: counts(unwritten),
            opening: None,
        }
    }

    fn start(boot: &str, counters: &str) -> Start {
        Start {
            boot: boot.to_owned(),
            counters: Some(counters.to_owned()),
            is_first_of_boot: true,
        }
    }

    fn one(packets: u64) -> Count {
        Count {
            packets,
            bytes: 100 * packets,
        }
    }

    fn missing(found: &Differences) -> i64 {
        found.values().map(|of| of.packets).sum()
    }

    #[test]
    fn what_is_in_no_record_is_missing_once() {
        let mut books = Books::default();
        assert!(books.start(&start("boot", "1")).is_empty());
        assert!(books.beat(&beat(0, 0)).is_empty());
        books.write("z", "drop", one(3));
        assert!(books.beat(&beat(5, 2)).is_empty(), "two are in lines");
        books.write("z", "drop", one(2));
        // Seven more, of which four are in no record and not in lines.
        assert_eq!(missing(&books.beat(&beat(12, 3))), 4);
        books.write("z", "drop", one(3));
        // A daemon that was killed goes on with the same counters.
        assert!(books.start(&start("boot", "1")).is_empty());
        assert!(books.beat(&beat(12, 0)).is_empty());
    }

    #[test]
    fn another_boot_begins_anew() {
        let mut books = Books::default();
        assert!(books.start(&start("boot", "1")).is_empty());
        assert!(books.beat(&beat(7, 7)).is_empty());
        books.write("z", "drop", one(4));
        // What was in lines when it went down, and in no record, is lost.
        assert_eq!(missing(&books.start(&start("another", "2"))), 3);
        books.write("z", "drop", one(1));
        let anew = |counters: &str, counted| Beat {
            counters: counters.to_owned(),
            ..beat(counted, 0)
        };
        assert!(books.beat(&anew("2", 1)).is_empty());
        // Counters that are made anew within a boot: what was written of the others is theirs.
        books.write("z", "drop", one(9));
        assert!(books.start(&start("another", "3")).is_empty());
        books.write("z", "drop", one(2));
        assert!(books.beat(&anew("3", 2)).is_empty());
    }

    #[test]
    fn what_was_before_the_log_is_not_missing() {
        let mut books = Books::default();
        let goes_on = Start {
            is_first_of_boot: false,
            ..start("boot", "1")
        };
        assert!(books.start(&goes_on).is_empty());
        books.write("z", "drop", one(2));
        let mut first = beat(100, 5);
        first.opening = Some(counts(93));
        assert!(books.beat(&first).is_empty());
        // Nobody knows what was before, where the log does not begin with its first record.
        let mut books = Books::default();
        assert!(books.beat(&beat(1000, 0)).is_empty());
        assert_eq!(missing(&books.beat(&beat(1003, 0))), 3);
    }
}
