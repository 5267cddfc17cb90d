//! Free places of one part of a table that is live.
//!
//! What is taken out of the table is not free at once: a program may have read the way
//! there just before. It waits until the caller has seen a grace period.

use std::collections::BTreeMap;

/// Runs of free places.
#[derive(Clone, Debug, Default)]
pub(super) struct Free {
    /// By length: where they begin.
    runs: BTreeMap<u32, Vec<u32>>,
    waiting: Vec<(u32, u32)>,
    /// Places in `runs`, and in `waiting`.
    counts: [u32; 2],
    /// All places of the part.
    size: u32,
}

impl Free {
    /// What is not used of a part; `used` tells of each place.
    pub(super) fn of(used: &[bool]) -> Self {
        let mut free = Self {
            size: used.len() as u32,
            ..Self::default()
        };
        let mut at = 0;
        for run in used.chunk_by(|a, b| a == b) {
            if !run[0] {
                free.add(at, run.len() as u32);
            }
            at += run.len() as u32;
        }
        free
    }

    fn add(&mut self, at: u32, length: u32) {
        if length > 0 {
            self.runs.entry(length).or_default().push(at);
            self.counts[0] += length;
        }
    }

    /// Takes a run, out of the shortest that is long enough.
    pub(super) fn take(&mut self, length: u32) -> Option<u32> {
        self.find(length).or_else(|| {
            self.join();
            self.find(length)
        })
    }

    /// Makes one run of those that touch.
    fn join(&mut self) {
        let runs = std::mem::take(&mut self.runs);
        self.counts[0] = 0;
        let mut all: Vec<(u32, u32)> = runs
            .into_iter()
            .flat_map(|(length, starts)| starts.into_iter().map(move |at| (at, length)))
            .collect();
        all.sort_unstable();
        all.dedup_by(|next, last| {
            let touches = last.0 + last.1 == next.0;
            last.1 += if touches { next.1 } else { 0 };
            touches
        });
        all.into_iter()
            .for_each(|(at, length)| self.add(at, length));
    }

    fn find(&mut self, length: u32) -> Option<u32> {
        let found = *self.runs.range(length..).next()?.0;
        let runs = self.runs.get_mut(&found)?;
        let at = runs.pop()?;
        if runs.is_empty() {
            self.runs.remove(&found);
        }
        self.counts[0] -= found;
        self.add(at + length, found - length);
        Some(at)
    }

    /// Gives back what was taken and never linked.
    pub(super) fn undo(&mut self, at: u32, length: u32) {
        self.add(at, length);
    }

    /// Gives back what programs may still read.
    pub(super) fn give(&mut self, at: u32, length: u32) {
        self.waiting.push((at, length));
        self.counts[1] += length;
    }

    /// Whether it is time for a grace period: more waits than is free, and enough to be
    /// worth it.
    pub(super) fn is_short(&self) -> bool {
        self.counts[1] > self.counts[0].max(self.size / 32)
    }

    /// A grace period has passed since the last of them was given.
    pub(super) fn reuse(&mut self) {
        self.counts[1] = 0;
        for (at, length) in std::mem::take(&mut self.waiting) {
            self.add(at, length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_given_twice() {
        let mut used = vec![false; 1000];
        used[10..20].fill(true);
        used[999] = true;
        let mut free = Free::of(&used);
        let mut taken: Vec<(u32, u32)> = Vec::new();
        let mut rng = fastrand::Rng::with_seed(1);
        for round in 0..20_000 {
            if !taken.is_empty() && rng.u8(..) < 120 {
                let (at, length) = taken.swap_remove(rng.usize(..taken.len()));
                used[at as usize..][..length as usize].fill(false);
                free.give(at, length);
            } else {
                let length = rng.u32(1..20);
                if let Some(at) = free.take(length) {
                    let places = &mut used[at as usize..][..length as usize];
                    assert!(places.iter().all(|used| !*used), "round {round}: {at}");
                    places.fill(true);
                    taken.push((at, length));
                }
            }
            if round % 50 == 0 {
                free.reuse();
            }
        }
        assert!(!taken.is_empty());
    }

    #[test]
    fn what_waits_is_not_given() {
        let mut free = Free::of(&[false; 4]);
        assert_eq!(free.take(4), Some(0));
        assert_eq!(free.take(1), None);
        free.give(0, 4);
        assert!(free.is_short());
        assert_eq!(free.take(1), None);
        free.reuse();
        assert_eq!(free.take(4), Some(0));
    }

    #[test]
    fn pieces_become_whole_again() {
        let mut free = Free::of(&[false; 64]);
        let taken: Vec<u32> = (0..64).map(|_| free.take(1).unwrap()).collect();
        taken.into_iter().for_each(|at| free.give(at, 1));
        free.reuse();
        assert_eq!(free.take(64), Some(0));
    }
}
