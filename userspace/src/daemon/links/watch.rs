//! Whether the XDP program of an interface is shown all that the interface receives, from
//! two counts: what it let through, and what the guard behind it saw.
//!
//! Frames can be lost between the two (a full backlog), and some are always on their way,
//! so that the guard's count may be behind. It can never be ahead, of all frames or of those
//! with a tag of some kind: what it has seen more of went past the program, or had its
//! tag hidden. So each reading gives a lower bound for how far the guard is behind, and a
//! later one that falls below it is the proof, however many were lost before.
//!
//! Where frames are lost between the two all the time, as many that go past the program in
//! the same second make the guard's count right again, and nobody can tell. That there is
//! such a [`Loss`] can be told.

use crate::datapath::guard::Seen;
use kordon_ebpf::seen::{KINDS, Kind};

/// How long before a reading it is looked what the program had passed by then. All of that
/// has reached the guard: it takes some microseconds, or as long as a processor may stop
/// that has frames in its queue.
pub(crate) const SETTLING: std::time::Duration = std::time::Duration::from_millis(63);

/// Readings after which it is looked whether frames were lost meanwhile.
pub(crate) const SPAN: u32 = 20;

/// So many times in a row they were, or were not, and that is no accident.
const SPANS: u32 = 3;

/// Readings with frames, and all of them right, after which what was wrong is cured. What
/// comes back takes twice as many as it was away: where few frames among many are hidden, not
/// each reading shows it.
const CLEAN: u32 = 2;

/// What is away for more readings than this begins anew.
const AWAY: u32 = 600;

/// All frames.
const ALL: usize = KINDS;

/// What the program does not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blind {
    /// Frames: it is not called for them.
    Uncalled,
    /// Tags of this kind.
    Hidden(Kind),
}

/// One count beside the other.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// The guard is at least so far behind.
    floor: Option<i64>,
    /// How many frames may have been on their way at the last reading.
    slack: i64,
    passed: u64,
    guard: u64,
}

impl Line {
    /// How many frames were missed since the last reading, and how many the guard saw.
    fn look(&mut self, earlier: u64, before: u64, guard: u64, after: u64) -> (u64, u64) {
        let behind = |passed: u64| passed.wrapping_sub(guard).cast_signed();
        // No more is on its way than was passed since.
        let slack = before.saturating_sub(earlier).cast_signed();
        self.slack = slack;
        let bound = behind(before) - slack;
        let missed = self.floor.map_or(0, |floor| floor - behind(after));
        // The first reading shows nothing.
        let saw = self.floor.map_or(0, |_| guard.saturating_sub(self.guard));
        self.floor = Some(match self.floor {
            Some(floor) if missed <= 0 => floor.max(bound),
            _ => bound,
        });
        (self.passed, self.guard) = (after, guard);
        (u64::try_from(missed).unwrap_or(0), saw)
    }
}

/// Frames that the program passed and that never reached the guard.
#[derive(Clone, Debug, Default)]
struct Loss {
    /// Readings of this span, and how far the guard was behind at least when it began.
    readings: u32,
    before: Option<i64>,
    /// Spans in a row with a loss, and without one.
    with: u32,
    without: u32,
    /// In the last span that had one, and in all that are in a row with it.
    lost: u64,
    sum: u64,
    /// As many may have been on their way, not lost, when bounds were taken.
    slack: u64,
    steady: bool,
}

impl Loss {
    /// After a reading of all frames.
    fn look(&mut self, line: &Line) {
        let floor = line.floor;
        self.slack = self.slack.max(line.slack.unsigned_abs());
        self.readings += 1;
        if self.readings < SPAN && self.before.is_some() {
            return;
        }
        let lost = self.before.zip(floor).map(|(before, now)| now - before);
        (self.readings, self.before) = (0, floor);
        match lost.map(u64::try_from) {
            Some(Ok(lost)) if lost > 0 => {
                (self.with, self.without, self.lost) = (self.with + 1, 0, lost);
                self.sum += lost;
            }
            _ => {
                (self.with, self.without) = (0, self.without + 1);
                (self.sum, self.slack) = (0, 0);
            }
        }
        self.steady = match self.steady {
            true => self.without < SPANS,
            false => self.with >= SPANS && self.sum > self.slack,
        };
    }
}

/// What was seen of one interface so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    lines: [Line; KINDS + 1],
    found: Option<(Blind, u32)>,
    /// Readings since something was found last, unless it is too long ago to be the same.
    since: Option<u32>,
    /// How many right ones end what was found.
    clean: u32,
    loss: Loss,
    /// Frames that went past the program.
    pub(crate) uncalled: u64,
    /// Frames whose tag was hidden from it.
    pub(crate) hidden: u64,
    /// The last reading itself showed what was found, and not one before it.
    pub(crate) still: bool,
    /// The program has passed nothing between the last two readings.
    pub(crate) stands_still: bool,
}

impl Watch {
    /// Begins anew: the program was attached.
    pub(crate) fn reset(&mut self) {
        self.begin();
        self.found = None;
        self.since = None;
    }

    /// Begins anew, but what was found is still so until readings show otherwise.
    pub(crate) fn begin(&mut self) {
        self.lines = Default::default();
        self.loss.before = None;
    }

    /// Frames that were lost between the program and the guard in the last [`SPAN`] seconds,
    /// where that goes on.
    pub(crate) fn loses(&self) -> Option<u64> {
        self.loss.steady.then_some(self.loss.lost)
    }

    /// What the program does not see, by the last reading that could tell.
    pub(crate) fn found(&self) -> Option<Blind> {
        self.found.map(|(blind, _)| blind)
    }

    /// A reading. `earlier`: what the program had passed [`SETTLING`] before.
    pub(crate) fn look(&mut self, earlier: &[u64; KINDS], seen: &Seen) {
        let (mut missed, mut saw) = ([0; KINDS + 1], [0; KINDS + 1]);
        let sum = |counts: &[u64; KINDS]| counts.iter().sum::<u64>();
        let passed = self.lines[ALL].passed;
        for (index, line) in self.lines.iter_mut().enumerate() {
            let count = |counts: &[u64; KINDS]| counts.get(index).copied();
            let of = |counts| count(counts).unwrap_or_else(|| sum(counts));
            (missed[index], saw[index]) = line.look(
                of(earlier),
                of(&seen.before),
                of(&seen.guard),
                of(&seen.after),
            );
        }
        self.loss.look(&self.lines[ALL]);
        self.still = false;
        self.stands_still = passed == self.lines[ALL].passed;
        let tagged = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Untagged);
        let hidden = tagged.max_by_key(|kind| missed[*kind as usize]);
        self.since = self
            .since
            .map(|since| since + 1)
            .filter(|since| *since < AWAY);
        if missed[ALL] > 0 {
            self.uncalled += missed[ALL];
            self.find(Blind::Uncalled);
        } else if let Some(kind) = hidden
            && missed[kind as usize] > 0
        {
            self.hidden += missed[kind as usize];
            self.find(Blind::Hidden(kind));
        } else if let Some((blind, clean)) = &mut self.found {
            let line = match blind {
                Blind::Uncalled => ALL,
                Blind::Hidden(kind) => *kind as usize,
            };
            // What does not arrive shows nothing.
            if saw[line] > 0 {
                *clean += 1;
            }
            if *clean >= self.clean {
                self.found = None;
            }
        }
    }

    fn find(&mut self, blind: Blind) {
        if self.found.is_none() {
            self.clean = self.since.map_or(CLEAN, |since| CLEAN.max(since * 2));
        }
        self.found = Some((blind, 0));
        (self.since, self.still) = (Some(0), true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interface: what its program and the guard have counted.
    #[derive(Default)]
    struct Port {
        watch: Watch,
        passed: [u64; KINDS],
        guard: [u64; KINDS],
    }

    impl Port {
        /// A second: frames that both see, and that only the guard does.
        fn second(&mut self, both: [u64; KINDS], guard: [u64; KINDS]) -> Option<Blind> {
            for kind in 0..KINDS {
                self.passed[kind] += both[kind];
                self.guard[kind] += both[kind] + guard[kind];
            }
            self.look(self.passed)
        }

        fn look(&mut self, earlier: [u64; KINDS]) -> Option<Blind> {
            let seen = Seen {
                before: self.passed,
                guard: self.guard,
                after: self.passed,
            };
            self.watch.look(&earlier, &seen);
            self.watch.found()
        }
    }

    #[test]
    fn one_hidden_tag_is_enough() {
        let mut port = Port::default();
        // What was before the first reading is not known.
        assert_eq!(port.second([0; KINDS], [0, 7, 0, 0, 0]), None);
        assert_eq!(port.second([5, 20, 0, 0, 0], [0; KINDS]), None);
        assert_eq!(port.second([5, 0, 0, 0, 0], [0; KINDS]), None);
        // XDP saw it without its tag.
        port.passed[0] += 1;
        let found = port.second([0; KINDS], [0, 1, 0, 0, 0]);
        assert_eq!(found, Some(Blind::Hidden(Kind::Customer)));
        assert_eq!((port.watch.hidden, port.watch.uncalled), (1, 0));
        // Silence cures nothing, nor does one good second.
        for _ in 0..5 {
            assert!(port.second([9, 0, 0, 0, 0], [0; KINDS]).is_some());
        }
        assert!(port.second([0, 3, 0, 0, 0], [0; KINDS]).is_some());
        assert_eq!(port.second([0, 3, 0, 0, 0], [0; KINDS]), None);
    }

    #[test]
    fn an_outer_tag_that_is_hidden_is_another_kind_of_frame() {
        let mut port = Port::default();
        port.second([0, 0, 0, 50, 0], [0; KINDS]);
        port.second([0; KINDS], [0; KINDS]);
        // XDP sees the inner tag alone.
        port.passed[Kind::Customer as usize] += 3;
        let found = port.second([0; KINDS], [0, 0, 0, 3, 0]);
        assert_eq!(found, Some(Blind::Hidden(Kind::Stacked)));
    }

    #[test]
    fn a_program_that_is_not_called() {
        let mut port = Port::default();
        port.second([1, 1, 0, 0, 0], [0; KINDS]);
        port.second([0; KINDS], [0; KINDS]);
        let found = port.second([0; KINDS], [0, 40, 0, 0, 0]);
        assert_eq!(found, Some(Blind::Uncalled));
        assert!(port.watch.stands_still);
        assert_eq!(port.watch.uncalled, 40);
        assert!(port.second([0, 9, 0, 0, 0], [0; KINDS]).is_some());
        assert!(!port.watch.stands_still);
        assert_eq!(port.second([0, 9, 0, 0, 0], [0; KINDS]), None);
    }

    #[test]
    fn frames_that_are_lost_or_on_their_way_are_no_finding() {
        let mut port = Port::default();
        port.second([0; KINDS], [0; KINDS]);
        // Lost in a backlog.
        port.passed[1] += 5000;
        assert_eq!(port.second([0, 100, 0, 0, 0], [0; KINDS]), None);
        // On their way while it was read, and arrived later: at 16,000 a second up to 1,000.
        for late in [3, 900, 0, 1000, 10] {
            port.passed[1] += 15_000;
            let earlier = port.passed;
            port.passed[1] += 1000;
            port.guard[1] += 16_000 - late;
            assert_eq!(port.look(earlier), None);
            port.guard[1] += late;
        }
        assert_eq!(port.second([0; KINDS], [0; KINDS]), None);
        // A burst.
        let earlier = port.passed;
        port.passed[1] += 100;
        assert_eq!(port.look(earlier), None);
        port.guard[1] += 100;
        assert_eq!(port.second([0; KINDS], [0; KINDS]), None);
        assert_eq!(port.second([0; KINDS], [0; KINDS]), None);
        // All that is hidden then is noticed all the same.
        port.passed[0] += 1;
        let found = port.second([0; KINDS], [0, 1, 0, 0, 0]);
        assert_eq!(found, Some(Blind::Hidden(Kind::Customer)));
    }

    #[test]
    fn a_loss_that_goes_on_is_told_because_it_hides_as_many() {
        let mut port = Port::default();
        let frames = [0, 500, 0, 0, 0];
        let mut second = |lost: u64, missed: u64| {
            port.passed[1] += frames[1];
            let mut earlier = port.passed;
            earlier[1] -= frames[1] / 16;
            port.guard[1] += frames[1] - lost + missed;
            assert_eq!(port.look(earlier), None);
            port.watch.loses()
        };
        // Frames on their way are none, however many there are, nor is one burst that is lost.
        let mut other = Port::default();
        for at in 0..400 {
            let (frames, late) = (20_000 - at * 47, at * 7919 % 120);
            other.passed[1] += frames;
            let mut earlier = other.passed;
            earlier[1] -= frames / 16;
            other.guard[1] = other.passed[1] - late;
            assert_eq!(
                (other.look(earlier), other.watch.loses()),
                (None, None),
                "{at}"
            );
        }
        for at in 0..200 {
            let lost = if at == 30 { 400 } else { 0 };
            assert_eq!(second(lost, 0), None, "{at}");
        }
        let mut told = None;
        for at in 0..200 {
            told = told.or(second(9, 0).map(|lost| (at, lost)));
        }
        let (at, lost) = told.unwrap();
        println!("told after {at} s: {lost} in {SPAN} s");
        assert!(at < 5 * SPAN && (100..=200).contains(&lost), "{at} {lost}");
        // As many go past the program, which nobody can tell from a loss that has ended.
        for _ in 0..SPAN {
            assert!(second(9, 9).is_some());
        }
        let after = (0..200).find(|_| second(0, 0).is_none());
        assert!(after.is_some_and(|after| after < 4 * SPAN), "{after:?}");
    }

    #[test]
    fn what_was_missed_while_it_was_cured_says_nothing() {
        let mut port = Port::default();
        port.second([0; KINDS], [0; KINDS]);
        assert!(port.second([0; KINDS], [0, 40, 0, 0, 0]).is_some());
        port.watch.begin();
        // Nor is that reading one that shows all to be right.
        assert!(port.second([0; KINDS], [0, 40, 0, 0, 0]).is_some());
        assert_eq!((port.watch.uncalled, port.watch.still), (40, false));
        assert!(port.second([0, 3, 0, 0, 0], [0; KINDS]).is_some());
        assert_eq!(port.second([0, 3, 0, 0, 0], [0; KINDS]), None);
    }

    /// Few that are hidden, among some with the same tag that are seen.
    fn mixed(port: &mut Port, hidden: u64, seen: u64) -> Option<Blind> {
        port.passed[0] += hidden;
        port.passed[1] += seen;
        port.guard[1] += hidden + seen;
        let mut earlier = port.passed;
        earlier[1] -= seen.div_ceil(16);
        earlier[0] -= hidden.min(1);
        port.look(earlier)
    }

    #[test]
    fn some_among_many_that_are_seen() {
        for (hidden, seen) in [(40, 1000), (5, 20), (20, 5), (2, 20), (20, 20)] {
            let mut port = Port::default();
            mixed(&mut port, 0, seen);
            let found: Vec<bool> = (0..40)
                .map(|_| mixed(&mut port, hidden, seen).is_some())
                .collect();
            // Within three seconds, and then all the time.
            assert_eq!(found[3..], [true; 37], "{hidden} {seen}: {found:?}");
            let missed = port.watch.hidden;
            assert!((1..=hidden * 40).contains(&missed), "{missed}");
        }
    }

    #[test]
    fn what_comes_back_stays_for_longer() {
        let mut port = Port::default();
        mixed(&mut port, 0, 100);
        // One a second, which every seventh reading shows.
        let found: Vec<bool> = (0..120)
            .map(|_| mixed(&mut port, 1, 100).is_some())
            .collect();
        let first = found.iter().position(|found| *found).unwrap();
        assert!(first < 10, "{found:?}");
        assert_eq!(found[30..], [true; 90], "{found:?}");
        // Cured: it takes as long as it was uncertain, not for ever.
        let cured = (0..60).position(|_| mixed(&mut port, 0, 100).is_none());
        assert!(cured.is_some(), "{:?}", port.watch);
    }
}
