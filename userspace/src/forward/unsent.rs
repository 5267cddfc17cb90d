//! Which records have arrived, as far as that can be known.
//!
//! Syslog has no acknowledgements. What is known of a connection is how many bytes the other side's
//! kernel has taken, and that is not all: a server that is killed leaves some of it unread. So a
//! record counts as arrived when it was taken and then for some time ([`Marks::new`]: `margin`)
//! nothing has gone wrong. After a fault everything later is sent again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::position::Anchor;

/// Marks closer than that are one, so there are never many.
const CLOSE: Duration = Duration::from_millis(100);
/// Where nobody knows what was taken, it has been by then: else the connection would be over.
const UNKNOWN: Duration = Duration::from_secs(60);

/// All records before `next`, and one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) next: u64,
    pub(super) last: Option<Anchor>,
}

#[derive(Debug)]
struct Mark {
    at: Instant,
    /// Bytes that had been written to the connection.
    written: u64,
    reached: Reached,
}

/// What was written and may have to be sent again.
#[derive(Debug)]
pub(super) struct Marks {
    margin: Duration,
    written: VecDeque<Mark>,
    taken: VecDeque<(Instant, Reached)>,
}

impl Marks {
    pub(super) fn new(margin: Duration) -> Self {
        let (written, taken) = Default::default();
        Self {
            margin,
            written,
            taken,
        }
    }

    /// `written` bytes have been written by now, and with them all before `reached`.
    pub(super) fn push(&mut self, now: Instant, written: u64, reached: Reached) {
        match self.written.back_mut() {
            Some(last) if now.duration_since(last.at) < CLOSE => {
                last.written = written;
                last.reached = reached;
            }
            _ => self.written.push_back(Mark {
                at: now,
                written,
                reached,
            }),
        }
    }

    /// The other side has taken so many bytes, or nobody knows. What has arrived by that, if more
    /// than before.
    pub(super) fn settle(&mut self, now: Instant, taken: Option<u64>) -> Option<Reached> {
        let is_taken = |mark: &mut Mark| match taken {
            Some(taken) => mark.written <= taken,
            None => now.duration_since(mark.at) >= UNKNOWN,
        };
        while let Some(mark) = self.written.pop_front_if(is_taken) {
            self.taken.push_back((now, mark.reached));
        }
        let mut arrived = None;
        let is_old = |at: Instant| now.duration_since(at) >= self.margin;
        while let Some((_, reached)) = self.taken.pop_front_if(|(at, _)| is_old(*at)) {
            arrived = Some(reached);
        }
        arrived
    }

    /// Everything was taken, whether or not it is long ago.
    pub(super) fn is_taken(&self) -> bool {
        self.written.is_empty()
    }

    /// What was taken, where nobody can wait any longer.
    pub(super) fn end(&mut self) -> Option<Reached> {
        self.taken.drain(..).next_back().map(|(_, reached)| reached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives() {
        let mut marks = Marks::new(Duration::from_secs(5));
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let reached = |next: u64| Reached { next, last: None };
        marks.push(at(0), 10, reached(1));
        marks.push(at(50), 20, reached(2));
        marks.push(at(200), 30, reached(3));
        assert_eq!(marks.settle(at(300), Some(15)), None);
        assert!(!marks.is_taken());
        // Both within a tenth of a second are one.
        assert_eq!(marks.settle(at(1000), Some(20)), None);
        assert_eq!(marks.settle(at(5999), Some(20)), None);
        assert_eq!(marks.settle(at(6000), Some(30)), Some(reached(2)));
        assert!(marks.is_taken());
        assert_eq!(marks.end(), Some(reached(3)));
        assert_eq!(marks.end(), None);
        marks.push(at(6500), 35, reached(4));
        assert_eq!(marks.settle(at(12_000), None), None);
        assert!(!marks.is_taken());
        assert_eq!(marks.settle(at(66_500), None), None);
        assert_eq!(marks.settle(at(71_500), None), Some(reached(4)));
        for _ in 0..100_000 {
            marks.push(at(7000), 40, reached(4));
        }
        assert_eq!(marks.written.len(), 1);
    }
}
