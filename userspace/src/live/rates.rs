//! How fast flows grow, and what became of the last minute.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Action, Key, Row,
    counts::{Book, Entry},
};

/// Seconds that are kept of the past.
pub const SECONDS: usize = 60;
/// How long a flow that the daemon does not tell any more is shown.
const FADE: Duration = Duration::from_secs(10);

/// How fast something grows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Packets per second.
    pub packets: f64,
    /// Bytes per second.
    pub bytes: f64,
}

impl std::ops::AddAssign for Pace {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// A flow, and how fast it grows.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// Its key.
    pub key: &'a Key,
    /// As the daemon last told it.
    pub row: &'a Arc<Row>,
    /// Since the answer before.
    pub pace: Pace,
    /// The daemon does not tell it any more.
    pub is_gone: bool,
}

/// Rates of all flows, from successive answers.
#[derive(Debug, Default)]
pub struct Rates {
    /// Of each flow: since when it is missing.
    book: Book<Option<Instant>>,
    /// The last answer.
    at: Option<Instant>,
    /// Between the last two answers, in seconds; 0: there are no two.
    between: f64,
    totals: [Pace; 3],
    past: Past,
}

impl Rates {
    /// Takes an answer.
    pub fn post(&mut self, rows: Vec<Row>, at: Instant) {
        self.book.post(rows);
        let between = self
            .at
            .map(|before| (before, at.saturating_duration_since(before)));
        self.between = between.map_or(0.0, |(_, length)| length.as_secs_f64());
        let mut sums = [(0u64, 0u64); 3];
        for (_, entry, is_there) in self.book.entries_mut() {
            entry.kept = match is_there {
                true => None,
                false => entry.kept.or(Some(at)),
            };
            let sum = &mut sums[entry.row.action as usize];
            *sum = (
                sum.0.saturating_add(entry.packets),
                sum.1.saturating_add(entry.bytes),
            );
        }
        self.totals = sums.map(|(packets, bytes)| self.pace(packets, bytes));
        if let Some((before, _)) = between {
            self.past.add(sums[Action::Drop as usize].0, before, at);
        }
        self.at = Some(at);
    }

    fn pace(&self, packets: u64, bytes: u64) -> Pace {
        // What the first answer has may be of days.
        if self.between <= 0.0 {
            return Pace::default();
        }
        Pace {
            packets: packets as f64 / self.between,
            bytes: bytes as f64 / self.between,
        }
    }

    /// Flows that are there, or were a moment ago. In no order.
    pub fn flows(&self) -> impl Iterator<Item = Flow<'_>> {
        let shown = |entry: &Entry<Option<Instant>>| match (entry.kept, self.at) {
            (Some(since), Some(at)) => at.saturating_duration_since(since) < FADE,
            _ => true,
        };
        self.book
            .entries()
            .filter(move |(_, entry)| shown(entry))
            .map(|(key, entry)| Flow {
                key,
                row: &entry.row,
                pace: self.pace(entry.packets, entry.bytes),
                is_gone: entry.kept.is_some(),
            })
    }

    /// Of all flows, by [`Action`].
    pub fn totals(&self) -> [Pace; 3] {
        self.totals
    }

    /// Packets dropped in each of the last seconds that are over, the newest last. Fewer than
    /// [`SECONDS`] where less is known.
    pub fn drops(&self) -> Vec<u64> {
        self.past.whole()
    }

    /// Flows of the last answer that found no room.
    pub fn untold(&self) -> u64 {
        self.book.untold()
    }
}

/// Packets of each second since something was first known.
#[derive(Debug, Default)]
struct Past {
    began: Option<Instant>,
    /// Of the last seconds: the second's number is `first` and so on.
    seconds: std::collections::VecDeque<f64>,
    first: u64,
    /// Until when all is known, in seconds.
    until: f64,
}

impl Past {
    /// Spreads packets evenly over the time in which they came: an answer that came late is no peak.
    fn add(&mut self, packets: u64, from: Instant, to: Instant) {
        let began = *self.began.get_or_insert(from);
        let place = |at: Instant| at.saturating_duration_since(began).as_secs_f64();
        let (from, to) = (place(from), place(to));
        if to <= from {
            return;
        }
        self.until = to;
        // What is older than the ring is not walked through.
        let oldest = (to as u64).saturating_sub(SECONDS as u64);
        for second in (from as u64).max(oldest)..=(to as u64) {
            let (start, end) = ((second as f64).max(from), ((second + 1) as f64).min(to));
            let share = (end - start).max(0.0) / (to - from);
            self.put(second, packets as f64 * share);
        }
    }

    fn put(&mut self, second: u64, packets: f64) {
        if self.seconds.is_empty() {
            self.first = second;
        }
        if second > self.first + (self.seconds.len() + SECONDS) as u64 {
            // Nothing of what was before is left.
            self.seconds.clear();
            self.first = second;
        }
        while second >= self.first + self.seconds.len() as u64 {
            self.seconds.push_back(0.0);
        }
        // One more than is shown: the second that is not over.
        while self.seconds.len() > SECONDS + 1 {
            self.seconds.pop_front();
            self.first += 1;
        }
        let place = second
            .checked_sub(self.first)
            .and_then(|place| usize::try_from(place).ok());
        if let Some(sum) = place.and_then(|place| self.seconds.get_mut(place)) {
            *sum += packets;
        }
    }

    fn whole(&self) -> Vec<u64> {
        let over = (self.until as u64).saturating_sub(self.first) as usize;
        let whole = self.seconds.iter().take(over);
        let all: Vec<u64> = whole.map(|packets| packets.round() as u64).collect();
        all[all.len().saturating_sub(SECONDS)..].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::testing::counted;

    fn second(start: Instant, number: f64) -> Instant {
        start + Duration::from_secs_f64(number)
    }

    #[test]
    fn rates_are_of_the_last_two_answers() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        rates.post(vec![counted(1, 1000, 5000)], start);
        assert_eq!(rates.totals()[Action::Drop as usize], Pace::default());
        rates.post(vec![counted(1, 1010, 6000)], second(start, 2.0));
        let pace = Pace {
            packets: 5.0,
            bytes: 500.0,
        };
        assert_eq!(rates.totals()[Action::Drop as usize], pace);
        assert_eq!(rates.totals()[Action::Pass as usize], Pace::default());
        assert_eq!(rates.flows().next().expect("a flow").pace, pace);
        // The daemon began anew: what it has now may be old.
        rates.post(vec![counted(1, 4, 40)], second(start, 4.0));
        assert_eq!(rates.totals()[Action::Drop as usize], Pace::default());
    }

    #[test]
    fn what_is_gone_fades() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        rates.post(vec![counted(1, 10, 10)], start);
        rates.post(vec![], second(start, 1.0));
        assert!(
            rates
                .flows()
                .all(|flow| flow.is_gone && flow.pace == Pace::default())
        );
        assert_eq!(rates.flows().count(), 1);
        rates.post(vec![], second(start, 11.5));
        assert_eq!(rates.flows().count(), 0);
        rates.post(vec![counted(1, 12, 12)], second(start, 12.5));
        let back = rates.flows().next().expect("back");
        assert!(!back.is_gone);
        assert_eq!(back.pace.packets, 2.0);
    }

    #[test]
    fn the_last_minute() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        rates.post(vec![counted(1, 0, 0)], start);
        assert!(rates.drops().is_empty());
        rates.post(vec![counted(1, 10, 0)], second(start, 1.0));
        // An answer that came late is spread over the time before it.
        rates.post(vec![counted(1, 50, 0)], second(start, 5.0));
        assert_eq!(rates.drops(), [10; 5]);
        rates.post(vec![counted(1, 55, 0)], second(start, 5.5));
        assert_eq!(
            rates.drops(),
            [10; 5],
            "a second that is not over is not shown"
        );
        for number in 6..200 {
            rates.post(
                vec![counted(1, 100 * number, 0)],
                second(start, number as f64),
            );
            assert!(rates.past.seconds.len() <= SECONDS + 1);
        }
        assert_eq!(rates.drops(), [100; SECONDS]);
        // Ten hours without an answer.
        rates.post(
            vec![counted(1, 20_000 + 36_000, 0)],
            second(start, 36_199.0),
        );
        assert_eq!(rates.drops(), [1; SECONDS]);
    }

    #[test]
    fn a_clock_that_stands_still() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        rates.post(vec![counted(1, 1, 1)], start);
        rates.post(vec![counted(1, 9, 9)], start);
        assert_eq!(rates.totals(), [Pace::default(); 3]);
        assert!(rates.drops().is_empty());
    }
}
