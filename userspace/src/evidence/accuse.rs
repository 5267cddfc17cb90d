//! What was done to records that do not give the root that was signed: the words for it, by file and line.
//!
//! Apart from the verifier, which has decided by then that something is wrong. Here the only question is what. The leaf
//! tiles are taken as the truth for that; at the end they are compared with the signed root as well, since who changes
//! a line may change its hash.

use std::{convert::Infallible, io};

use tlog_tiles::{Hash, record_hash};

use super::{
    checkpoint::NEWEST,
    diff::{Kind, Run, diff},
    files,
    finding::Finding,
    tree::{Edge, TILE},
    walk::{Span, Walk},
};

/// Says what was done to the records, since they do not give the root that was signed.
pub(crate) fn accuse(walk: &mut Walk<'_>, firsts: &[u64], root: Hash, findings: &mut Vec<Finding>) {
    let spans = walk.spans.clone();
    let mut told = false;
    for span in spans.iter().filter(|span| span.suspect) {
        let before = findings.len();
        describe(walk, &spans, span, findings);
        told |= findings.len() > before;
        // What the lines say of their places is the same again, but a first line tells that a file was renamed.
        walk.sequences
            .retain(|(first, finding)| *first != span.first || finding.line == Some(1));
    }
    findings.append(&mut walk.findings);
    findings.extend(walk.sequences.drain(..).map(|(_, finding)| finding));
    if firsts.is_empty() && walk.size() > 0 {
        findings.push(Finding::new(
            files::name(0),
            None,
            "is missing, as are all record files",
        ));
        return;
    }

    let mut tree = Edge::default();
    for index in 0..walk.size() {
        let Some(leaf) = walk.kept(index) else { break };
        tree.push(leaf);
        if tree.size().is_multiple_of(TILE) {
            let _: Result<(), Infallible> = tree.settle(|_, _, _| Ok(()));
        }
    }
    if tree.size() == walk.size() && tree.root() != root {
        let what = if told {
            "does not give the root that was signed: the lines named may not be all"
        } else {
            "gives the root of the records, not the one that was signed: either was replaced"
        };
        findings.push(Finding::new("tile/0", None, what));
    }
    if !told && findings.is_empty() {
        findings.push(Finding::new(
            NEWEST,
            None,
            "has another root than the records",
        ));
    }
}

/// Says what was done to one file.
fn describe(walk: &mut Walk<'_>, spans: &[Span], span: &Span, findings: &mut Vec<Finding>) {
    let name = files::name(span.first);
    let mut lines = Vec::new();
    let read = files::lines(&walk.path(span.first), |line, whole| -> io::Result<()> {
        if whole || span.end.is_some() {
            lines.push(record_hash(line));
        }
        Ok(())
    });
    if let Err(error) = read {
        findings.push(Finding::new(name, None, format!("cannot be read: {error}")));
        return;
    }
    let to = span.end.unwrap_or(walk.size()).min(walk.size());
    let expected: Vec<Hash> = (span.first..to)
        .map_while(|index| walk.kept(index))
        .collect();
    // Behind the signed records there may be others. They are no insertion.
    let open = span.end.is_none_or(|end| end > walk.size());
    for run in diff(&lines, &expected) {
        let at_end = run.line + run.count == lines.len();
        if open && at_end && run.kind == Kind::Inserted {
            continue;
        }
        findings.push(finding(&name, span, spans, run, lines.len()));
    }
    if let Some(end) = span.end.filter(|end| *end > walk.size()) {
        let has = span.first + lines.len() as u64;
        if has != end {
            let what = format!("ends at record {has}, the next file begins with {end}");
            findings.push(Finding::new(name, None, what));
        }
    }
}

fn finding(name: &str, span: &Span, spans: &[Span], run: Run, lines: usize) -> Finding {
    let line = run.line as u64 + 1;
    let (from, count) = (span.first + run.record as u64, run.count as u64);
    let records = match count {
        1 => format!("record {from}"),
        _ => format!("records {from} to {}", from + count - 1),
    };
    let many = if count == 1 {
        String::new()
    } else {
        format!(" (and the {} after it)", count - 1)
    };
    let what = match run.kind {
        Kind::Changed => format!("was changed{many}: it is not {records} as signed"),
        Kind::Inserted => format!("was inserted{many}: it is no record of this file"),
        Kind::Moved => format!("is out of order{many}: it is {records}"),
        Kind::Removed if run.line < lines => format!("{records} was removed before this line"),
        Kind::Removed if span.end.is_none() => {
            let what = format!("was cut at the end: {records} missing after line {lines}");
            return Finding::new(name, Some(lines as u64), what);
        }
        Kind::Removed => {
            // A file ends once it has a certain size. Without its last line, each of the others has not reached it.
            let others = spans
                .iter()
                .filter(|other| other.end.is_some() && other.first != span.first);
            let below = others
                .map(|other| other.bytes.saturating_sub(other.last))
                .max();
            let whose = files::name(from);
            return match below {
                Some(below) if span.bytes <= below => {
                    let what = format!("was cut at the end: {records} missing after line {lines}");
                    Finding::new(name, Some(lines as u64), what)
                }
                Some(_) => {
                    let what = format!("was removed or renamed: {records} missing");
                    Finding::new(whose, None, what)
                }
                None => {
                    let what = format!(
                        "was removed or renamed, or `{name}` cut after line {lines}: {records} missing"
                    );
                    Finding::new(whose, None, what)
                }
            };
        }
    };
    Finding::new(name, Some(line), what)
}
