//! What was done to a file of lines whose hashes are known: which line was changed, removed, inserted or moved.
//!
//! Apart from the verifier because it is a question about two lists of hashes and nothing else. That something is wrong
//! is known before, from the root; this only finds the words for it. Of the lines that are known, the longest run that
//! is still in order stays where it is (patience sorting), so one moved line is one finding and not a thousand.

use std::collections::{HashMap, VecDeque};

use tlog_tiles::Hash;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The line is where a record was, and is another.
    Changed,
    /// The line is no record of this file.
    Inserted,
    /// The record is not in the file. The line is the one it would be before.
    Removed,
    /// The line is a record of this file, at the wrong place.
    Moved,
}

/// The same thing that happened to lines, or records, that follow each other. All count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
    /// Place in the list of what was expected. Means nothing for [`Kind::Inserted`].
    pub(crate) record: usize,
    pub(crate) count: usize,
}

/// Compares the lines that are there with those that should be.
pub(crate) fn diff(lines: &[Hash], expected: &[Hash]) -> Vec<Run> {
    let mut places: HashMap<[u8; 32], VecDeque<usize>> = HashMap::new();
    for (place, hash) in expected.iter().enumerate() {
        places.entry(hash.0).or_default().push_back(place);
    }
    let found: Vec<Option<usize>> = lines
        .iter()
        .map(|hash| places.get_mut(&hash.0).and_then(VecDeque::pop_front))
        .collect();
    let mut there = vec![false; expected.len()];
    for place in found.iter().flatten() {
        if let Some(there) = there.get_mut(*place) {
            *there = true;
        }
    }

    let mut anchors = in_order(&found);
    anchors.push((lines.len(), expected.len()));
    let mut runs = Vec::new();
    let (mut line, mut place) = (0, 0);
    for (to_line, to_place) in anchors {
        let mut missing = (place..to_place).filter(|place| there.get(*place) == Some(&false));
        for line in line..to_line {
            let (kind, record) = match found.get(line).copied().flatten() {
                Some(record) => (Kind::Moved, record),
                None => match missing.next() {
                    Some(record) => (Kind::Changed, record),
                    None => (Kind::Inserted, line),
                },
            };
            add(&mut runs, kind, line, record);
        }
        for record in missing {
            add(&mut runs, Kind::Removed, to_line, record);
        }
        (line, place) = (to_line + 1, to_place + 1);
    }
    runs
}

/// Makes a run longer, or begins one.
fn add(runs: &mut Vec<Run>, kind: Kind, line: usize, record: usize) {
    if let Some(last) = runs.last_mut() {
        let next = last.line + if kind == Kind::Removed { 0 } else { last.count };
        if last.kind == kind && next == line && last.record + last.count == record {
            last.count += 1;
            return;
        }
    }
    runs.push(Run {
        kind,
        line,
        record,
        count: 1,
    });
}

/// The longest choice of lines whose places rise: line and place of each.
fn in_order(found: &[Option<usize>]) -> Vec<(usize, usize)> {
    // For each length, the choice of that length with the lowest last place; and for each step the one before it.
    let mut ends: Vec<usize> = Vec::new();
    let mut steps: Vec<(usize, usize, Option<usize>)> = Vec::new();
    for (line, place) in found.iter().enumerate() {
        let Some(place) = *place else { continue };
        let length = ends.partition_point(|end| steps.get(*end).is_some_and(|step| step.1 < place));
        let before = length
            .checked_sub(1)
            .and_then(|length| ends.get(length))
            .copied();
        match ends.get_mut(length) {
            Some(end) => *end = steps.len(),
            None => ends.push(steps.len()),
        }
        steps.push((line, place, before));
    }
    let mut chosen = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some((line, place, before)) = at.and_then(|step| steps.get(step)) {
        chosen.push((*line, *place));
        at = *before;
    }
    chosen.reverse();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[u8], expected: &[u8]) -> Vec<(Kind, usize, usize, usize)> {
        let hashes =
            |bytes: &[u8]| -> Vec<_> { bytes.iter().map(|byte| Hash([*byte; 32])).collect() };
        diff(&hashes(lines), &hashes(expected))
            .into_iter()
            .map(|run| (run.kind, run.line, run.record, run.count))
            .collect()
    }

    #[test]
    fn each_change_is_named() {
        let list = b"abcdefgh";
        assert_eq!(told(list, list), []);
        assert_eq!(told(b"abXdefgh", list), [(Kind::Changed, 2, 2, 1)]);
        assert_eq!(told(b"abXYefgh", list), [(Kind::Changed, 2, 2, 2)]);
        assert_eq!(told(b"abdefgh", list), [(Kind::Removed, 2, 2, 1)]);
        assert_eq!(told(b"abfgh", list), [(Kind::Removed, 2, 2, 3)]);
        assert_eq!(told(b"abXcdefgh", list), [(Kind::Inserted, 2, 2, 1)]);
        assert_eq!(told(b"abbcdefgh", list), [(Kind::Inserted, 2, 2, 1)]);
        assert_eq!(told(b"abcdef", list), [(Kind::Removed, 6, 6, 2)]);
        assert_eq!(told(b"", list), [(Kind::Removed, 0, 0, 8)]);
        assert_eq!(told(list, b""), [(Kind::Inserted, 0, 0, 8)]);
        assert_eq!(told(b"bacdefgh", list).len(), 1);
        assert_eq!(told(b"acdefgbh", list), [(Kind::Moved, 6, 1, 1)]);
    }
}
